package connectserver

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

type queues struct{ *Server }

// queueWrite is a request with the settings of a queue.
type queueWrite interface {
	GetNamespace() string
	GetMeta() *pb.QueueMeta
}

func (s queues) CreateQueue(ctx context.Context, req *pb.CreateQueueRequest) (*pb.CreateQueueResponse, error) {
	q, err := s.writeQueue(ctx, req, queue.Service.CreateQueue)
	return &pb.CreateQueueResponse{Queue: q}, err
}

func (s queues) RegisterQueue(ctx context.Context, req *pb.RegisterQueueRequest) (*pb.RegisterQueueResponse, error) {
	q, err := s.writeQueue(ctx, req, queue.Service.RegisterQueue)
	return &pb.RegisterQueueResponse{Queue: q}, err
}

func (s queues) UpdateQueue(ctx context.Context, req *pb.UpdateQueueRequest) (*pb.UpdateQueueResponse, error) {
	q, err := s.writeQueue(ctx, req,
		func(svc queue.Service, ctx context.Context, m queue.QueueMeta) (*queue.Queue, error) {
			return svc.UpdateQueue(ctx, req.GetQueue(), m)
		})
	return &pb.UpdateQueueResponse{Queue: q}, err
}

func (s queues) writeQueue(
	ctx context.Context, req queueWrite,
	do func(queue.Service, context.Context, queue.QueueMeta) (*queue.Queue, error),
) (*pb.Queue, error) {
	var r wire.Reader
	m := r.QueueMeta(req.GetMeta())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	q, err := do(svc, ctx, m)
	return wire.Queue(q), err
}

func (s queues) GetQueue(ctx context.Context, req *pb.GetQueueRequest) (*pb.GetQueueResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	q, err := svc.GetQueue(ctx, req.GetQueue())
	return &pb.GetQueueResponse{Queue: wire.Queue(q)}, err
}

func (s queues) ListQueues(ctx context.Context, req *pb.ListQueuesRequest) (*pb.ListQueuesResponse, error) {
	var r wire.Reader
	page := r.Page(req.GetPage())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	p, err := svc.ListQueues(ctx, page)
	err = boundRows(ctx, s.Server, p.Queues, err)
	return &pb.ListQueuesResponse{Queues: wire.Each(p.Queues, wire.Queue), Count: p.Count, Next: p.Next}, err
}

func (s queues) DeleteQueue(ctx context.Context, req *pb.DeleteQueueRequest) (*pb.DeleteQueueResponse, error) {
	var r wire.Reader
	r.RequireKnown("request", req)
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	q, err := svc.DeleteQueue(ctx, req.GetQueue(), queue.IfVersion(req.GetIfVersion()), queue.IfEmpty(req.GetIfEmpty()))
	return &pb.DeleteQueueResponse{Queue: wire.Queue(q)}, err
}

func (s queues) CleanQueue(ctx context.Context, req *pb.CleanQueueRequest) (*pb.CleanQueueResponse, error) {
	var r wire.Reader
	r.RequireKnown("request", req)
	within := r.Duration("within", req.GetWithin())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	if within == 0 {
		within = queue.BulkStep
	}
	n, err := svc.CleanQueueWithin(ctx, req.GetQueue(), within, queue.IfVersion(req.GetIfVersion()))
	return &pb.CleanQueueResponse{Deleted: n.Count, More: n.More}, err
}

func (s queues) GetQueueStats(ctx context.Context, req *pb.GetQueueStatsRequest) (*pb.GetQueueStatsResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	stats, err := svc.QueueStats(ctx, req.GetQueue())
	return &pb.GetQueueStatsResponse{Stats: wire.QueueStats(stats)}, err
}

func (s queues) ScaleQueues(ctx context.Context, req *pb.ScaleQueuesRequest) (*pb.ScaleQueuesResponse, error) {
	var r wire.Reader
	within := queue.DefaultScaleWithin
	if req.GetWithin() != nil {
		within = r.Duration("within", req.GetWithin())
	}
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	scale, err := queue.ReadScale(ctx, svc, within, append([]string{req.GetQueue()}, req.GetMoreQueues()...)...)
	return &pb.ScaleQueuesResponse{Slots: scale.Slots, Ready: scale.Ready, Retained: scale.Retained, Active: scale.Slots > 0}, err
}

func (s queues) ListQueueStats(ctx context.Context, req *pb.ListQueueStatsRequest) (*pb.ListQueueStatsResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	stats, err := svc.ListQueueStatuses(ctx)
	err = boundRows(ctx, s.Server, stats, err)
	return &pb.ListQueueStatsResponse{Stats: wire.Each(stats, wire.QueueStats)}, err
}
