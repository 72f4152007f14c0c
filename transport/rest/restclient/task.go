package restclient

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// CreateTask creates one task. A task without a key gets a random one, which makes the create safe to repeat after a
// broken connection. The task keeps this key. A create with a rule for its key, as replace, is not repeated.
func (c *Client) CreateTask(ctx context.Context, queueName string, meta queue.TaskMeta) (*queue.Task, error) {
	op := queue.OpCreateTask.String()
	nt, keyed, err := c.keyedTask(queue.NewTask{Queue: queueName, TaskMeta: meta})
	if err != nil {
		return nil, queue.WithOp(op, err)
	}
	t, err := fetch[restapi.Task](ctx, c, request{route: restapi.CreateTask, body: nt, safe: keyed.safe})
	if err != nil {
		return nil, err
	}
	// A replay of the client's own attempt does not count.
	t.Replayed = t.Replayed && !keyed.made
	return t, nil
}

// CreateTasks creates all of up to queue.MaxBatch tasks, or none. Tasks without a key get one, as in CreateTask.
func (c *Client) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	op := queue.OpCreateTasks.String()
	if len(tasks) == 0 {
		return nil, nil
	}

	body, keyed, safe := make([]restapi.NewTask, len(tasks)), make([]keyState, len(tasks)), true
	for i, t := range tasks {
		var err error
		if body[i], keyed[i], err = c.keyedTask(t); err != nil {
			return nil, queue.WithOp(op, queue.At(fmt.Sprintf("tasks[%d]", i), err))
		}
		safe = safe && keyed[i].safe
	}

	created, _, err := fetchList[restapi.Task](ctx, c, request{route: restapi.CreateTasks, body: body, safe: safe})
	if err != nil {
		return nil, err
	}
	if len(created) != len(tasks) {
		return nil, restapi.Incomplete(op)
	}

	for i, t := range created {
		t.Replayed = t.Replayed && !keyed[i].made
	}

	return created, nil
}

// keyState says of the key of a create: made = this client added it, safe = the create may be repeated.
type keyState struct{ made, safe bool }

// keyedTask checks t, so that a malformed payload cannot break the body, and adds a missing key.
func (c *Client) keyedTask(t queue.NewTask) (out restapi.NewTask, k keyState, err error) {
	if t, err = t.Normalize(math.MaxInt); err != nil {
		return out, k, err
	}
	if t.Key == "" && !c.keyless {
		t.Key, k.made = rand.Text(), true
	}
	k.safe = t.IsRepeatable()
	return restapi.NewTaskOf(t), k, nil
}

// GetTask returns a task with its errors.
func (c *Client) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	return fetch[restapi.Task](ctx, c, request{route: restapi.GetTask, args: []string{formatDecimal(id)}})
}

// AwaitTask returns the task when it is finished, or its present state after wait.
func (c *Client) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	v := url.Values{}
	setDuration(v, "wait", wait)
	q := request{route: restapi.AwaitTask, args: []string{formatDecimal(id)}, query: v, wait: max(wait, 0)}
	return fetch[restapi.Task](ctx, c, q)
}

// ListTasks returns a page of tasks. The newest come first unless q.OldestFirst is set.
func (c *Client) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	v := pageQuery(q.Page)
	setTextValue(v, "queue", q.Queue)
	setTextValue(v, "worker", q.Worker)
	for _, s := range q.Statuses {
		v.Add("status", string(s))
	}

	setTimeValue(v, "created_after", q.CreatedAfter)
	setTimeValue(v, "created_before", q.CreatedBefore)
	setTimeValue(v, "finished_after", q.FinishedAfter)
	setTimeValue(v, "finished_before", q.FinishedBefore)
	setTextValue(v, "key", q.Key)
	setTextValue(v, "text", q.Text)
	if q.OldestFirst {
		v.Set("order", "oldest")
	}
	if q.Brief {
		v.Set("brief", "true")
	}

	tasks, list, err := fetchList[restapi.Task](ctx, c, request{route: restapi.ListTasks, query: v})
	return queue.TaskPage{Tasks: tasks, Count: list.Count, AtLeast: list.AtLeast, Examined: list.Examined, Next: list.Next}, err
}

// CancelTasks cancels waiting tasks and requests the cancel of retained ones from their workers.
func (c *Client) CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return c.operateOnTasks(ctx, restapi.CancelTasks, s)
}

// RetryTasks makes finished tasks new again.
func (c *Client) RetryTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return c.operateOnTasks(ctx, restapi.RetryTasks, s)
}

// DeleteTasks deletes tasks that are not retained.
func (c *Client) DeleteTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return c.operateOnTasks(ctx, restapi.DeleteTasks, s)
}

func (c *Client) operateOnTasks(ctx context.Context, route restapi.Route, s queue.Selection) (queue.Bulk, error) {
	op := route.Op.String()
	s, err := s.Normalize()
	if err != nil {
		return queue.Bulk{}, queue.WithOp(op, err)
	}
	return queue.InSteps(ctx, s, c.operationStep(), func(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
		var out restapi.Bulk
		if err := c.sendRequest(ctx, request{route: route, body: restapi.SelectionOf(s), safe: s.DryRun}, &out); err != nil {
			return queue.Bulk{}, err
		}
		return out.Domain(op), nil
	})
}

// ListWorkers returns the workers that hold tasks at present.
func (c *Client) ListWorkers(ctx context.Context) ([]queue.Worker, error) {
	workers, _, err := fetchList[restapi.Worker](ctx, c, request{route: restapi.ListWorkers})
	return workers, err
}

func formatDecimal(n int64) string { return strconv.FormatInt(n, 10) }
