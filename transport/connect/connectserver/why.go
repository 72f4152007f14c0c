package connectserver

import (
	"context"

	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

func (s tasks) ExplainTask(ctx context.Context, req *pb.ExplainTaskRequest) (*pb.ExplainTaskResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	e, err := svc.ExplainTask(ctx, req.GetId())
	return &pb.ExplainTaskResponse{Explanation: wire.Explanation(e)}, err
}

func (s queues) ExplainQueue(ctx context.Context, req *pb.ExplainQueueRequest) (*pb.ExplainQueueResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	e, err := svc.ExplainQueue(ctx, req.GetQueue())
	return &pb.ExplainQueueResponse{Explanation: wire.Explanation(e)}, err
}
