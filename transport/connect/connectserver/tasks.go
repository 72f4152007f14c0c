package connectserver

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

type tasks struct{ *Server }

func (s tasks) CreateTask(ctx context.Context, req *pb.CreateTaskRequest) (*pb.CreateTaskResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	n := r.NewTask(req.GetTask())
	if r.Err() != nil {
		return nil, r.Err()
	}
	t, err := svc.CreateTask(ctx, n.Queue, n.TaskMeta)
	if err != nil {
		return nil, err
	}
	created := []*queue.Task{t}
	s.boundCreated(ctx, created)
	return &pb.CreateTaskResponse{Task: wire.Task(created[0])}, nil
}

func (s tasks) CreateTasks(ctx context.Context, req *pb.CreateTasksRequest) (*pb.CreateTasksResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	ns := r.NewTasks(req.GetTasks())
	if r.Err() != nil {
		return nil, r.Err()
	}
	ts, err := svc.CreateTasks(ctx, ns)
	if err != nil {
		return nil, err
	}
	s.boundCreated(ctx, ts)
	return &pb.CreateTasksResponse{Tasks: wire.Tasks(ts)}, nil
}

// boundCreated takes the bytes of a large answer of a create from the budget.
func (s tasks) boundCreated(ctx context.Context, created []*queue.Task) {
	if give := s.large.TakeCreated(ctx, created); give != nil {
		deliveryOf(ctx).runAfterAnswer(give)
	}
}

func (s tasks) GetTask(ctx context.Context, req *pb.GetTaskRequest) (*pb.GetTaskResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	t, err := svc.GetTask(ctx, req.GetId())
	if err != nil {
		return nil, err
	}

	// A large task waits for its part of the budget for answers.
	give, err := s.large.TakeRead(ctx, t.Bytes())
	if err != nil {
		return nil, err
	}
	deliveryOf(ctx).runAfterAnswer(give)
	return &pb.GetTaskResponse{Task: wire.Task(t)}, nil
}

func (s tasks) ListTasks(ctx context.Context, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}

	var r wire.Reader
	q := queue.TaskQuery{Page: r.Page(req.GetPage()), OldestFirst: req.GetOldestFirst()}
	if f := r.TaskFilter(req.GetFilter()); f != nil {
		q.TaskFilter = *f
	}

	if r.Err() != nil {
		return nil, r.Err()
	}

	p, err := svc.ListTasks(ctx, q)
	if err != nil {
		return nil, err
	}

	give, err := s.large.TakeRead(ctx, queue.TaskBytes(p.Tasks))
	if err != nil {
		return nil, err
	}

	deliveryOf(ctx).runAfterAnswer(give)
	return &pb.ListTasksResponse{Tasks: wire.Tasks(p.Tasks), Count: p.Count, AtLeast: p.AtLeast, Next: p.Next}, nil
}

func (s tasks) AwaitTask(ctx context.Context, req *pb.AwaitTaskRequest) (*pb.AwaitTaskResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}

	var r wire.Reader
	wait := r.Duration("wait", req.GetWait())
	if r.Err() != nil {
		return nil, r.Err()
	}

	if wait > 0 {
		lifelineOf(ctx).extendDeadline(wait + s.callTimeout)
	}

	t, err := svc.AwaitTask(ctx, req.GetId(), wait)
	if err != nil {
		return nil, err
	}

	give, err := s.large.TakeRead(ctx, t.Bytes())
	if err != nil {
		return nil, err
	}

	deliveryOf(ctx).runAfterAnswer(give)
	return &pb.AwaitTaskResponse{Task: wire.Task(t)}, nil
}

func (s tasks) CancelTasks(ctx context.Context, req *pb.CancelTasksRequest) (*pb.CancelTasksResponse, error) {
	b, err := s.operateOnTasks(ctx, req.GetNamespace(), req.GetSelection(), queue.Service.CancelTasks)
	return &pb.CancelTasksResponse{Bulk: b}, err
}

func (s tasks) RetryTasks(ctx context.Context, req *pb.RetryTasksRequest) (*pb.RetryTasksResponse, error) {
	b, err := s.operateOnTasks(ctx, req.GetNamespace(), req.GetSelection(), queue.Service.RetryTasks)
	return &pb.RetryTasksResponse{Bulk: b}, err
}

func (s tasks) DeleteTasks(ctx context.Context, req *pb.DeleteTasksRequest) (*pb.DeleteTasksResponse, error) {
	b, err := s.operateOnTasks(ctx, req.GetNamespace(), req.GetSelection(), queue.Service.DeleteTasks)
	return &pb.DeleteTasksResponse{Bulk: b}, err
}

func (s tasks) operateOnTasks(
	ctx context.Context, namespace string, sel *pb.Selection,
	do func(queue.Service, context.Context, queue.Selection) (queue.Bulk, error),
) (*pb.Bulk, error) {
	svc, err := s.serviceInNamespace(namespace)
	if err != nil {
		return nil, err
	}

	var r wire.Reader
	selection := r.Selection(sel)
	if r.Err() != nil {
		return nil, r.Err()
	}

	// One step stays well below the timeout of a call.
	if selection.Within == 0 {
		selection.Within = queue.BulkStep
	}

	b, err := do(svc, ctx, selection)
	if err != nil {
		return nil, err
	}

	return wire.Bulk(b), nil
}
