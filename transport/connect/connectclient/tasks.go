package connectclient

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// CreateTask implements queue.Producer. A key makes it safe to repeat after a broken connection.
func (c *Client) CreateTask(ctx context.Context, queueName string, meta queue.TaskMeta) (*queue.Task, error) {
	res, err := sendRepeated(ctx, c, queue.OpCreateTask, repeat(meta.Key != ""), c.tasks.CreateTask, &pb.CreateTaskRequest{
		Namespace: c.namespace, Task: wire.NewTask(queue.NewTask{Queue: queueName, TaskMeta: meta}),
	})
	return readTaskAnswer(res.GetTask(), err)
}

// CreateTasks implements queue.Producer. Keys in all tasks make it safe to repeat after a broken connection.
func (c *Client) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	again := repeatable
	for _, t := range tasks {
		again = again && t.Key != ""
	}
	res, err := sendRepeated(ctx, c, queue.OpCreateTasks, again, c.tasks.CreateTasks, &pb.CreateTasksRequest{
		Namespace: c.namespace, Tasks: wire.NewTasks(tasks),
	})
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	return checkedAnswer(&r, r.Tasks(res.GetTasks()))
}

// GetTask implements queue.Tasks.
func (c *Client) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	res, err := sendCall(ctx, c, queue.OpGetTask, c.tasks.GetTask, &pb.GetTaskRequest{Namespace: c.namespace, Id: id})
	return readTaskAnswer(res.GetTask(), err)
}

// ListTasks implements queue.Tasks.
func (c *Client) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	res, err := sendCall(ctx, c, queue.OpListTasks, c.tasks.ListTasks, &pb.ListTasksRequest{
		Namespace: c.namespace, Filter: wire.TaskFilter(&q.TaskFilter), Page: wire.Page(q.Page), OldestFirst: q.OldestFirst,
	})
	if err != nil {
		return queue.TaskPage{}, err
	}
	var r wire.Reader
	return checkedAnswer(&r, queue.TaskPage{Tasks: r.Tasks(res.GetTasks()), Count: res.GetCount(), AtLeast: res.GetAtLeast(), Next: res.GetNext()})
}

// AwaitTask implements queue.Tasks.
func (c *Client) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	res, err := sendWaiting(ctx, c, queue.OpAwaitTask, repeatable, wait, c.tasks.AwaitTask, &pb.AwaitTaskRequest{
		Namespace: c.namespace, Id: id, Wait: wire.Duration(wait),
	})
	return readTaskAnswer(res.GetTask(), err)
}

// CancelTasks implements queue.Tasks.
func (c *Client) CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return queue.InSteps(ctx, s, c.operationStep(), func(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
		res, err := sendRepeated(ctx, c, queue.OpCancelTasks, repeat(s.DryRun), c.tasks.CancelTasks, &pb.CancelTasksRequest{
			Namespace: c.namespace, Selection: wire.Selection(s),
		})
		return wire.ReadBulk(res.GetBulk()), err
	})
}

// RetryTasks implements queue.Tasks.
func (c *Client) RetryTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return queue.InSteps(ctx, s, c.operationStep(), func(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
		res, err := sendRepeated(ctx, c, queue.OpRetryTasks, repeat(s.DryRun), c.tasks.RetryTasks, &pb.RetryTasksRequest{
			Namespace: c.namespace, Selection: wire.Selection(s),
		})
		return wire.ReadBulk(res.GetBulk()), err
	})
}

// DeleteTasks implements queue.Tasks.
func (c *Client) DeleteTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return queue.InSteps(ctx, s, c.operationStep(), func(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
		res, err := sendRepeated(ctx, c, queue.OpDeleteTasks, repeat(s.DryRun), c.tasks.DeleteTasks, &pb.DeleteTasksRequest{
			Namespace: c.namespace, Selection: wire.Selection(s),
		})
		return wire.ReadBulk(res.GetBulk()), err
	})
}

func readTaskAnswer(t *pb.Task, err error) (*queue.Task, error) {
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	return checkedAnswer(&r, r.Task(t))
}

// checkedAnswer returns v, or an internal error if r found a fault in the answer of the server.
func checkedAnswer[T any](r *wire.Reader, v T) (T, error) {
	if err := r.Err(); err != nil {
		var none T
		return none, &queue.Error{Kind: queue.KindInternal, Msg: "the server's answer cannot be read", Err: err}
	}
	return v, nil
}
