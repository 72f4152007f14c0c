package connectserver

import (
	"context"

	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

func (s queues) ListFailures(ctx context.Context, req *pb.ListFailuresRequest) (*pb.ListFailuresResponse, error) {
	var r wire.Reader
	q := r.FailureQuery(req)
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	f, err := svc.ListFailures(ctx, req.GetQueue(), q)
	if err != nil {
		return nil, err
	}
	if err := s.boundRead(ctx, f.Bytes()); err != nil {
		return nil, err
	}
	return wire.Failures(f), nil
}
