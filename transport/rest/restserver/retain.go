package restserver

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// retain serves both routes. Without a limit one task is the answer, or 404; with one, a list.
func retain(c *call) error {
	q := c.query()
	req := queue.RetainRequest{
		Worker: q.text("worker"), Queues: q.list("queue"), Limit: q.int("limit"), Wait: q.duration("wait"), Lease: q.duration("lease"),
		MaxBytes: q.int("max_bytes"), MaxTaskBytes: q.int("max_task_bytes"), RequestID: q.text("request_id"),
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
	tasks, give, err := c.cfg.Large.RetainWithin(ctx, c.svc, req)
	if err != nil {
		return ended(ctx, err)
	}
	defer give()
	switch {
	case len(tasks) > 0:
		return c.deliver(req, tasks, many)
	case many:
		return c.reply(http.StatusOK, restapi.ListOf([]restapi.Task{}))
	}
	return &queue.Error{Kind: queue.KindNotFound, Subject: "task", Msg: "none is available"}
}

// deliver answers with retained tasks. Those whose answer could not be written, for whatever reason, go back at once, or stay
// for the repeat of their request.
func (c *call) deliver(req queue.RetainRequest, tasks []*queue.Task, many bool) (err error) {
	delivered := false
	defer func() {
		if delivered {
			return
		}
		if back := queue.GiveBack(c.ctx(), c.svc, req, tasks); back != nil {
			c.cfg.Logger.WarnContext(c.ctx(), "tasks that were not delivered stay held until their leases run out",
				"tasks", len(tasks), "error", back)
		}
	}()

	if err := c.ctx().Err(); err != nil { // the caller left while the tasks were on their way
		return err
	}
	c.flushed = true
	if many {
		err = c.reply(http.StatusOK, restapi.ListOf(each(tasks, restapi.TaskOf)))
	} else {
		err = c.reply(http.StatusOK, restapi.TaskOf(tasks[0]))
	}
	if err != nil {
		return err
	}

	delivered = c.flushAnswer()
	return nil
}

// flushAnswer sends what is buffered of the answer, and reports whether all of it has left to a caller that is there.
func (c *call) flushAnswer() bool {
	if c.lost != nil {
		return false
	}
	if err := http.NewResponseController(c.w).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	// The end of a chunked answer, or of a stream of HTTP/2, has not left yet: who goes now has not got the answer. Who
	// has read an answer of a known length may close the connection at any moment.
	return c.w.Header().Get("Content-Length") != "" || c.ctx().Err() == nil
}
