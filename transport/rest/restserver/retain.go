package restserver

import (
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	retainFromAnyInput struct {
		Queues []input.Name `query:"queue,explode" example:"[\"mail\"]" doc:"The queue; repeat it for several; none = any"`
		input.Retain
	}
	retainFromQueueInput struct {
		input.Queue
		input.Retain
	}
)

func retainFromAny(c *call, in *retainFromAnyInput) (*huma.StreamResponse, error) {
	queues := restapi.Each(input.Split(in.Queues), func(name input.Name) string { return string(name) })
	return c.retainTasks(in.Retain, queues)
}

func retainFromQueue(c *call, in *retainFromQueueInput) (*huma.StreamResponse, error) {
	return c.retainTasks(in.Retain, []string{string(in.Queue.Queue)})
}

// retainTasks answers with one task or 404 if the request has no limit, and otherwise with a list.
func (c *call) retainTasks(in input.Retain, queues []string) (*huma.StreamResponse, error) {
	asList := in.Limit.Value > 0
	req, err := queue.RetainRequest{
		Worker: in.Worker, Queues: queues, Limit: in.Limit.Value, Wait: in.Wait.Value, Lease: in.Lease.Value,
		MaxBytes: in.MaxBytes.Value, MaxTaskBytes: in.MaxTaskBytes.Value, RequestID: in.RequestID,
	}.Normalize()
	if err != nil {
		return nil, err
	}

	// A long poll outlasts the deadlines of a normal request.
	ctx := c.requestContext()
	if req.Wait > 0 {
		var done func()
		ctx, done = c.extendDeadlines(req.Wait)
		defer done()
	}
	tasks, give, err := c.cfg.Large.RetainWithin(ctx, c.svc, req)
	if err != nil {
		return nil, contextCause(ctx, err)
	}
	c.afterAnswer(give)

	switch {
	case len(tasks) > 0:
		return streamOutput(func() { c.deliverTasks(req, tasks, asList) }), nil
	case asList:
		return streamOutput(func() { c.replyJSON(restapi.ListOf([]restapi.Task{})) }), nil
	}
	return nil, &queue.Error{Kind: queue.KindNotFound, Subject: "task", Msg: "none is available; wait for one with ?wait="}
}

// deliverTasks answers with retained tasks. If the write fails, the tasks are handed back at once, or stay for the
// repeat of their request id.
func (c *call) deliverTasks(req queue.RetainRequest, tasks []*queue.Task, asList bool) {
	delivered := false
	// The function also runs after a panic of the encoder.
	defer func() {
		if delivered {
			return
		}
		if err := queue.GiveBack(c.requestContext(), c.svc, req, tasks); err != nil {
			c.cfg.Logger.WarnContext(c.requestContext(), "undelivered tasks stay retained until their leases run out",
				"tasks", len(tasks), "error", err)
		}
	}()

	if err := c.requestContext().Err(); err != nil {
		// The caller has disconnected during the retain.
		c.replyFailure(err)
		return
	}
	c.flushed = true
	if asList {
		c.replyJSON(restapi.ListOf(restapi.Each(tasks, restapi.TaskOf)))
	} else {
		task := restapi.TaskOf(tasks[0])
		c.replyJSON(&task)
	}
	delivered = c.flushAnswer()
}

// flushAnswer sends the buffered rest of the answer and reports whether all of it went to a connected caller.
func (c *call) flushAnswer() bool {
	if c.lost != nil {
		return false
	}
	if err := http.NewResponseController(c.w).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return false
	}

	// The end of a chunked answer or of an HTTP/2 stream leaves later: a caller that disconnects now has not received
	// the answer. A caller that has read an answer of a known length may close the connection at any moment.
	return c.w.Header().Get("Content-Length") != "" || c.requestContext().Err() == nil
}
