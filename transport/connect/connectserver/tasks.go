package connectserver

import (
	"cmp"
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

type tasks struct{ *Server }

// bulkRequest is the request of a bulk operation.
type bulkRequest interface {
	proto.Message
	GetNamespace() string
	GetSelection() *pb.Selection
}

func (s tasks) CreateTask(ctx context.Context, req *pb.CreateTaskRequest) (*pb.CreateTaskResponse, error) {
	var r wire.Reader
	n := r.NewTask(req.GetTask())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
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
	var r wire.Reader
	ns := r.NewTasks(req.GetTasks())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
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
	if err := s.boundRead(ctx, t.Bytes()); err != nil {
		return nil, err
	}
	return &pb.GetTaskResponse{Task: wire.Task(t)}, nil
}

// boundRead waits until the budget for large answers has bytes for the answer of a read.
func (s *Server) boundRead(ctx context.Context, bytes int) error {
	give, err := s.large.TakeRead(ctx, bytes)
	if err == nil {
		deliveryOf(ctx).runAfterAnswer(give)
	}
	return err
}

// boundRows waits like boundRead for the answer of a list, unless err has ended it already.
func boundRows[T interface{ Bytes() int }](ctx context.Context, s *Server, rows []T, err error) error {
	if err != nil {
		return err
	}
	return s.boundRead(ctx, queue.BytesOf(rows))
}

func (s tasks) ListTasks(ctx context.Context, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	var r wire.Reader
	q := queue.TaskQuery{Page: r.Page(req.GetPage()), OldestFirst: req.GetOldestFirst(), Brief: req.GetBrief()}
	if f := r.TaskFilter(req.GetFilter()); f != nil {
		q.TaskFilter = *f
	}
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}

	p, err := svc.ListTasks(ctx, q)
	if err != nil {
		return nil, err
	}
	if err := s.boundRead(ctx, queue.TaskBytes(p.Tasks)); err != nil {
		return nil, err
	}
	return &pb.ListTasksResponse{Tasks: wire.Tasks(p.Tasks), Count: p.Count, AtLeast: p.AtLeast, Examined: p.Examined, Next: p.Next}, nil
}

func (s tasks) AwaitTask(ctx context.Context, req *pb.AwaitTaskRequest) (*pb.AwaitTaskResponse, error) {
	var r wire.Reader
	wait := r.Duration("wait", req.GetWait())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}

	if wait > 0 {
		lifelineOf(ctx).extendDeadline(wait + s.callTimeout)
	}

	t, err := svc.AwaitTask(ctx, req.GetId(), wait)
	if err != nil {
		return nil, err
	}
	if err := s.boundRead(ctx, t.Bytes()); err != nil {
		return nil, err
	}
	return &pb.AwaitTaskResponse{Task: wire.Task(t)}, nil
}

func (s tasks) CancelTasks(ctx context.Context, req *pb.CancelTasksRequest) (*pb.CancelTasksResponse, error) {
	b, err := s.operateOnTasks(ctx, req, queue.Service.CancelTasks)
	return &pb.CancelTasksResponse{Bulk: b}, err
}

func (s tasks) RetryTasks(ctx context.Context, req *pb.RetryTasksRequest) (*pb.RetryTasksResponse, error) {
	b, err := s.operateOnTasks(ctx, req, queue.Service.RetryTasks)
	return &pb.RetryTasksResponse{Bulk: b}, err
}

func (s tasks) DeleteTasks(ctx context.Context, req *pb.DeleteTasksRequest) (*pb.DeleteTasksResponse, error) {
	b, err := s.operateOnTasks(ctx, req, queue.Service.DeleteTasks)
	return &pb.DeleteTasksResponse{Bulk: b}, err
}

func (s tasks) operateOnTasks(
	ctx context.Context, req bulkRequest,
	do func(queue.Service, context.Context, queue.Selection) (queue.Bulk, error),
) (*pb.Bulk, error) {
	var r wire.Reader
	r.RequireKnown("request", req)
	selection := r.Selection(req.GetSelection())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}

	// One step stays well below the timeout of a call.
	selection.Within = cmp.Or(selection.Within, queue.BulkStep)
	b, err := do(svc, ctx, selection)
	return wire.Bulk(b), err
}
