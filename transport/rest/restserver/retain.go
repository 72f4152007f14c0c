package restserver

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// handBackTime bounds the return of tasks whose caller is gone.
const handBackTime = 5 * time.Second

// retain serves both routes. Without a limit one task is the answer, or 404; with one, a list.
func retain(c *call) error {
	q := c.query()
	req := queue.RetainRequest{
		Worker: q.text("worker"), Queues: q.list("queue"), Limit: q.int("limit"), Wait: q.duration("wait"), Lease: q.duration("lease"),
	}
	many := q.has("limit")
	switch {
	case q.err != nil:
		return q.err
	case many && req.Limit == 0:
		return queue.Invalid("limit", "a number from 1 to "+strconv.Itoa(queue.MaxBatch)+" is needed")
	}
	if name := c.r.PathValue("queue"); name != "" {
		req.Queues = []string{name}
	}
	req, err := req.Normalize()
	if err != nil {
		return err
	}
	ctx := c.ctx()
	if req.Wait > 0 {
		var done func()
		ctx, done = c.linger(req.Wait)
		defer done()
	}
	tasks, err := c.svc.RetainTasks(ctx, req)
	switch {
	case err != nil:
		return ended(ctx, err)
	case c.ctx().Err() != nil: // nobody is there to take them
		c.handBack(tasks)
		return c.ctx().Err()
	case many:
		return c.reply(http.StatusOK, restapi.ListOf(each(tasks, restapi.TaskOf)))
	case len(tasks) == 0:
		return &queue.Error{Kind: queue.KindNotFound, Subject: "task", Msg: "none is available"}
	}
	return c.reply(http.StatusOK, restapi.TaskOf(tasks[0]))
}

func (c *call) handBack(tasks []*queue.Task) {
	if len(tasks) == 0 {
		return
	}
	back := make([]queue.Release, len(tasks))
	for i, t := range tasks {
		back[i] = queue.Release{ID: t.ID, Outcome: queue.OutcomeHandBack}
		if t.Lease != nil {
			back[i].Token = t.Lease.Token
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), handBackTime)
	defer cancel()
	if _, err := c.svc.ReleaseTasks(ctx, back); err != nil {
		c.cfg.Logger.WarnContext(ctx, "tasks of a caller that is gone stay held until their lease runs out", "tasks", len(tasks), "error", err)
	}
}
