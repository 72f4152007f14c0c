package restserver

import (
	"net/http"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// listEvents streams, unless the client asks for JSON.
func listEvents(c *call) error {
	q := c.query()
	f := queue.EventFilter{
		Queue: q.text("queue"), Statuses: statuses(q.list("status")), Worker: q.text("worker"), After: q.text("cursor"),
	}
	for _, k := range q.list("kind") {
		f.Kinds = append(f.Kinds, queue.EventKind(k))
	}
	if s := q.text("task"); s != "" {
		id, err := strconv.ParseInt(s, 10, 64)
		if err != nil || id <= 0 {
			q.refuse(queue.Invalid("task", "a task id above 0 is needed"))
		}
		f.TaskID = id
	}
	if last := c.r.Header.Get(restapi.HeaderLastEventID); last != "" {
		f.After = last
	}
	limit := q.page().Limit
	if q.err != nil {
		return q.err
	}
	f, err := f.Normalize()
	if err != nil {
		return err
	}
	if c.accepts(restapi.MediaJSON) && !c.accepts(restapi.MediaEventStream) {
		return c.eventPage(f, limit)
	}
	return c.events(f)
}

func (c *call) eventPage(f queue.EventFilter, limit int) error {
	p, err := (queue.Page{Limit: limit}).Normalize()
	if err != nil {
		return err
	}
	page, err := c.svc.ListEvents(c.ctx(), f, p.Limit)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.EventPageOf(page))
}

func (c *call) events(f queue.EventFilter) error {
	from := ""
	if f.After != "" {
		// A cursor that is too old or malformed is a plain refusal, not a stream that ends.
		if _, err := c.svc.ListEvents(c.ctx(), f, 1); err != nil {
			return err
		}
	} else if last, ok := queue.ServiceAs[queue.FeedEnd](c.svc); ok {
		var err error
		if from, err = last.LastEvent(c.ctx()); err != nil {
			return err
		}
		f.After = from
	}
	st, err := c.stream()
	if err != nil {
		return err
	}
	defer st.close()
	if from != "" { // so that a client that saw no event yet can resume too
		if err := st.mark(from); err != nil {
			return nil
		}
	}
	st.end(c.svc.SubscribeEvents(st.ctx, f, func(e queue.Event) error {
		data := restapi.EventOf(e)
		data.Cursor = "" // the id tells it
		return st.send(restapi.EventTask, e.Cursor, data, false)
	}))
	return nil
}
