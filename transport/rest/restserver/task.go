package restserver

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func listTasks(c *call) error {
	q := c.query()
	tq := queue.TaskQuery{Page: q.page(), TaskFilter: queue.TaskFilter{
		Queue: q.text("queue"), Statuses: statuses(q.list("status")), Worker: q.text("worker"),
		CreatedAfter: q.time("created_after"), CreatedBefore: q.time("created_before"),
	}}
	switch order := q.text("order"); order {
	case "", "newest":
	case "oldest":
		tq.OldestFirst = true
	default:
		q.refuse(queue.Invalid("order", "must be newest or oldest"))
	}
	if q.err != nil {
		return q.err
	}
	p, err := c.svc.ListTasks(c.ctx(), tq)
	if err != nil {
		return err
	}
	give, err := c.cfg.Large.TakeRead(c.ctx(), queue.TaskBytes(p.Tasks))
	if err != nil {
		return err
	}
	defer give()
	return c.reply(http.StatusOK, restapi.List[restapi.Task]{Count: p.Count, AtLeast: p.AtLeast, Body: each(p.Tasks, restapi.TaskOf), Next: p.Next})
}

func createTask(c *call) error {
	in, err := decode[restapi.NewTask](c)
	if err != nil {
		return err
	}
	if h := c.r.Header[restapi.HeaderKey]; len(h) > 0 {
		if in.Key != "" && in.Key != h[0] {
			return queue.Invalid("key", "the body and the header "+restapi.HeaderKey+" differ")
		}
		in.Key = h[0]
	}
	nt, err := in.Domain()
	if err != nil {
		return err
	}
	t, err := c.svc.CreateTask(c.ctx(), nt.Queue, nt.TaskMeta)
	if err != nil {
		return err
	}
	if t.Replayed {
		c.w.Header().Set(restapi.HeaderReplayed, "true")
		return c.reply(http.StatusOK, restapi.TaskOf(t))
	}
	return c.reply(http.StatusCreated, restapi.TaskOf(t))
}

func createTasks(c *call) error {
	in, err := decodeMany[restapi.NewTask](c, "tasks")
	if err != nil {
		return err
	}
	if h := c.r.Header[restapi.HeaderKey]; len(h) > 0 {
		if err := giveKeys(in, h[0]); err != nil {
			return err
		}
	}

	tasks, err := eachIn(in, "tasks", restapi.NewTask.Domain)
	if err != nil {
		return err
	}
	created, err := c.svc.CreateTasks(c.ctx(), tasks)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if len(created) > 0 && !slices.ContainsFunc(created, func(t *queue.Task) bool { return !t.Replayed }) {
		status = http.StatusOK
		c.w.Header().Set(restapi.HeaderReplayed, "true")
	}
	return c.reply(status, restapi.ListOf(each(created, restapi.TaskOf)))
}

// giveKeys gives each task of a batch a key of its own, made of the batch's key and the task's place.
func giveKeys(tasks []restapi.NewTask, key string) error {
	const room = len("/9999") // a batch has at most queue.MaxBatch tasks
	if len(key) > queue.MaxKeyBytes-room {
		return queue.Invalid(restapi.HeaderKey, fmt.Sprintf("at most %d bytes for a batch", queue.MaxKeyBytes-room))
	}
	for i := range tasks {
		if tasks[i].Key != "" {
			return queue.Invalid(fmt.Sprintf("tasks[%d].key", i), "the header "+restapi.HeaderKey+" gives each task its key; leave one of them out")
		}
		tasks[i].Key = key + "/" + strconv.Itoa(i)
	}
	return nil
}

func getTask(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	t, err := c.svc.GetTask(c.ctx(), id)
	return c.task(t, err)
}

func awaitTask(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	q := c.query()
	wait := q.duration("wait")
	if q.err != nil {
		return q.err
	}
	if wait > queue.MaxWait {
		return queue.Invalid("wait", fmt.Sprintf("at most %v", queue.MaxWait))
	}
	ctx, done := c.linger(wait)
	defer done()
	t, err := c.svc.AwaitTask(ctx, id, wait)
	return c.task(t, ended(ctx, err))
}

func (c *call) task(t *queue.Task, err error) error {
	if err != nil {
		return err
	}
	give, err := c.cfg.Large.TakeRead(c.ctx(), t.Bytes())
	if err != nil {
		return err
	}
	defer give()
	return c.reply(http.StatusOK, restapi.TaskOf(t))
}

// eachIn converts what a request names many of; an error is put at its place.
func eachIn[In, Out any](in []In, name string, f func(In) (Out, error)) ([]Out, error) {
	out := make([]Out, len(in))
	for i, v := range in {
		var err error
		if out[i], err = f(v); err != nil {
			return nil, queue.At(fmt.Sprintf("%s[%d]", name, i), err)
		}
	}
	return out, nil
}
