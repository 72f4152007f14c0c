package connectserver

import (
	"context"

	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

func (s queues) GetQueueHistory(ctx context.Context, req *pb.GetQueueHistoryRequest) (*pb.GetQueueHistoryResponse, error) {
	var r wire.Reader
	q := r.HistoryQuery(req)
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	h, err := svc.QueueHistory(ctx, req.GetQueue(), q)
	return wire.QueueHistory(h), err
}
