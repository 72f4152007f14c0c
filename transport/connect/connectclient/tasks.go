package connectclient

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// CreateTask implements queue.Producer. A key makes it safe to repeat after a broken connection, unless its rule is another than to
// return the task of the key.
func (c *Client) CreateTask(ctx context.Context, queueName string, meta queue.TaskMeta) (*queue.Task, error) {
	res, err := sendRepeated(ctx, c, queue.OpCreateTask, repeat(meta.IsRepeatable()), c.tasks.CreateTask, &pb.CreateTaskRequest{
		Namespace: c.namespace, Task: wire.NewTask(queue.NewTask{Queue: queueName, TaskMeta: meta}),
	})
	return readAnswer(res.GetTask(), err, (*wire.Reader).Task)
}

// CreateTasks implements queue.Producer. Keys in all tasks make it safe to repeat after a broken connection.
func (c *Client) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	again := repeatable
	for i := range tasks {
		again = again && repeat(tasks[i].IsRepeatable())
	}
	res, err := sendRepeated(ctx, c, queue.OpCreateTasks, again, c.tasks.CreateTasks, &pb.CreateTasksRequest{
		Namespace: c.namespace, Tasks: wire.Each(tasks, wire.NewTask),
	})
	return readAnswer(res.GetTasks(), err, (*wire.Reader).Tasks)
}

// GetTask implements queue.Tasks.
func (c *Client) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	res, err := sendCall(ctx, c, queue.OpGetTask, c.tasks.GetTask, &pb.GetTaskRequest{Namespace: c.namespace, Id: id})
	return readAnswer(res.GetTask(), err, (*wire.Reader).Task)
}

// ListTasks implements queue.Tasks.
func (c *Client) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	res, err := sendCall(ctx, c, queue.OpListTasks, c.tasks.ListTasks, &pb.ListTasksRequest{
		Namespace: c.namespace, Filter: wire.TaskFilter(&q.TaskFilter), Page: wire.Page(q.Page), OldestFirst: q.OldestFirst, Brief: q.Brief,
	})
	return readAnswer(res, err, func(r *wire.Reader, res *pb.ListTasksResponse) queue.TaskPage {
		return queue.TaskPage{Tasks: r.Tasks(res.GetTasks()), Count: res.GetCount(), AtLeast: res.GetAtLeast(), Examined: res.GetExamined(), Next: res.GetNext()}
	})
}

// AwaitTask implements queue.Tasks.
func (c *Client) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	res, err := sendWaiting(ctx, c, queue.OpAwaitTask, repeatable, wait, c.tasks.AwaitTask, &pb.AwaitTaskRequest{
		Namespace: c.namespace, Id: id, Wait: wire.Duration(wait),
	})
	return readAnswer(res.GetTask(), err, (*wire.Reader).Task)
}

// CancelTasks implements queue.Tasks.
func (c *Client) CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return operateOnTasks(ctx, c, queue.OpCancelTasks, s, c.tasks.CancelTasks, func(s *pb.Selection) *pb.CancelTasksRequest {
		return &pb.CancelTasksRequest{Namespace: c.namespace, Selection: s}
	})
}

// RetryTasks implements queue.Tasks.
func (c *Client) RetryTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return operateOnTasks(ctx, c, queue.OpRetryTasks, s, c.tasks.RetryTasks, func(s *pb.Selection) *pb.RetryTasksRequest {
		return &pb.RetryTasksRequest{Namespace: c.namespace, Selection: s}
	})
}

// DeleteTasks implements queue.Tasks.
func (c *Client) DeleteTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return operateOnTasks(ctx, c, queue.OpDeleteTasks, s, c.tasks.DeleteTasks, func(s *pb.Selection) *pb.DeleteTasksRequest {
		return &pb.DeleteTasksRequest{Namespace: c.namespace, Selection: s}
	})
}

// operateOnTasks runs a bulk operation in calls that stay below the timeout of one call.
func operateOnTasks[Req proto.Message, Res interface {
	proto.Message
	GetBulk() *pb.Bulk
}](
	ctx context.Context, c *Client, op queue.Op, s queue.Selection,
	send func(context.Context, Req) (Res, error), request func(*pb.Selection) Req,
) (queue.Bulk, error) {
	return queue.InSteps(ctx, s, c.operationStep(), func(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
		res, err := sendRepeated(ctx, c, op, repeat(s.DryRun), send, request(wire.Selection(s)))
		return wire.ReadBulk(res.GetBulk()), err
	})
}

// readAnswer reads the answer of a call, or returns err, the error of the call. A fault in the answer is an internal error.
func readAnswer[M, T any](answer M, err error, read func(*wire.Reader, M) T) (_ T, _ error) {
	var none T
	if err != nil {
		return none, err
	}
	var r wire.Reader
	v := read(&r, answer)
	if err := r.Err(); err != nil {
		return none, &queue.Error{Kind: queue.KindInternal, Msg: "the server's answer cannot be read", Err: err}
	}
	return v, nil
}

// readEach is readAnswer for a list of which read reads one item.
func readEach[M, T any](answers []M, err error, read func(*wire.Reader, M) T) ([]T, error) {
	return readAnswer(answers, err, func(r *wire.Reader, answers []M) []T {
		return wire.Each(answers, func(m M) T { return read(r, m) })
	})
}
