package connectserver

import (
	"context"

	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

func (s queues) ListFailures(ctx context.Context, req *pb.ListFailuresRequest) (*pb.ListFailuresResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	f, err := svc.ListFailures(ctx, req.GetQueue())
	if err != nil {
		return nil, err
	}
	if err := s.boundRead(ctx, f.Bytes()); err != nil {
		return nil, err
	}
	return wire.Failures(f), nil
}
