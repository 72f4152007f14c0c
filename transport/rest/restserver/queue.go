package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func listQueues(c *call) error {
	q := c.query()
	page := q.page()
	if q.err != nil {
		return q.err
	}
	p, err := c.svc.ListQueues(c.ctx(), page)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.List[restapi.Queue]{Count: p.Count, Body: each(p.Queues, restapi.QueueOf), Next: p.Next})
}

func createQueue(c *call) error {
	meta, err := input[restapi.QueueMeta](c)
	if err != nil {
		return err
	}
	q, err := c.svc.CreateQueue(c.ctx(), meta)
	return c.queue(http.StatusCreated, q, err)
}

func getQueue(c *call) error {
	q, err := c.svc.GetQueue(c.ctx(), c.r.PathValue("name"))
	return c.queue(http.StatusOK, q, err)
}

func updateQueue(c *call) error {
	meta, err := input[restapi.QueueMeta](c)
	if err != nil {
		return err
	}
	name := c.r.PathValue("name")
	if err := sameName("queue", meta.Name, name, queue.QueueName); err != nil {
		return err
	}
	meta.Name = ""
	if meta.IfVersion, err = c.ifMatch(); err != nil {
		return err
	}
	q, err := c.svc.UpdateQueue(c.ctx(), name, meta)
	return c.queue(http.StatusOK, q, err)
}

// sameName refuses to rename; an empty name is none.
func sameName(field, given, path string, normal func(string) (string, error)) error {
	if given == "" {
		return nil
	}
	g, err := normal(given)
	if err != nil {
		return err
	}
	if p, err := normal(path); err == nil && p != g {
		return queue.Invalid(field, "a name cannot be changed")
	}
	return nil
}

func deleteQueue(c *call) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	q, err := c.svc.DeleteQueue(c.ctx(), c.r.PathValue("name"), queue.IfVersion(version))
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.QueueOf(q))
}

func pauseQueue(c *call) error { return c.setPaused(true) }

func resumeQueue(c *call) error { return c.setPaused(false) }

func (c *call) setPaused(paused bool) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	q, err := c.svc.UpdateQueue(c.ctx(), c.r.PathValue("name"), queue.QueueMeta{Paused: &paused, IfVersion: version})
	return c.queue(http.StatusOK, q, err)
}

func cleanQueue(c *call) error {
	q := c.query()
	within := q.duration("within")
	if q.err != nil {
		return q.err
	}
	if within == 0 {
		within = queue.BulkStep
	}
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	n, err := c.svc.CleanQueueWithin(c.ctx(), c.r.PathValue("name"), within, queue.IfVersion(version))
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.Count{Count: n.Count, More: n.More})
}

func getQueueStats(c *call) error {
	s, err := c.svc.QueueStats(c.ctx(), c.r.PathValue("name"))
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.QueueStatsOf(s))
}

func listStats(c *call) error {
	all, err := c.svc.ListQueueStatuses(c.ctx())
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.ListOf(each(all, restapi.QueueStatsOf)))
}

func (c *call) queue(status int, q *queue.Queue, err error) error {
	if err != nil {
		return err
	}
	if c.etag(q.Version) {
		return nil
	}
	return c.reply(status, restapi.QueueOf(q))
}

// each is never nil: an empty list is [] on the wire.
func each[In, Out any](in []In, f func(In) Out) []Out {
	out := make([]Out, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
