package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func releaseTask(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	in, err := decode[restapi.Release](c)
	if err != nil {
		return err
	}
	if in.ID != 0 && in.ID != id {
		return queue.Invalid("id", "the body and the path differ")
	}
	in.ID = id
	r, err := in.Domain()
	if err != nil {
		return err
	}
	return c.release(r)
}

func snoozeTask(c *call) error {
	return releaseBy(c, decode[restapi.Snooze], restapi.Snooze.Domain)
}

func handBackTask(c *call) error {
	return releaseBy(c, decodeOptional[restapi.HandBack], restapi.HandBack.Domain)
}

func releaseBy[T any](c *call, read func(*call) (T, error), domain func(T, int64) (queue.Release, error)) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	in, err := read(c)
	if err != nil {
		return err
	}
	r, err := domain(in, id)
	if err != nil {
		return err
	}
	return c.release(r)
}

func (c *call) release(r queue.Release) error {
	out, err := c.svc.ReleaseTasks(c.ctx(), []queue.Release{r})
	if err != nil {
		return err
	}
	give := c.cfg.Large.TakeAnswer(c.ctx(), &out[0].Task)
	defer give()
	return c.reply(http.StatusOK, restapi.TaskOf(out[0].Task))
}

func releaseTasks(c *call) error {
	in, err := decodeMany[restapi.Release](c, "releases")
	if err != nil {
		return err
	}
	releases, err := eachIn(in, "releases", restapi.Release.Domain)
	if err != nil {
		return err
	}
	out, err := c.svc.ReleaseTasks(c.ctx(), releases)
	if err != nil && len(out) != len(releases) { // otherwise each release has its own answer
		return err
	}
	give := c.cfg.Large.TakeAnswer(c.ctx(), queue.ReleasedTasks(out)...)
	defer give()
	return c.reply(http.StatusOK, restapi.ListOf(each(out, restapi.ReleasedOf)))
}

func heartbeatTask(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	in, err := decode[restapi.Heartbeat](c)
	if err != nil {
		return err
	}
	if in.ID != 0 && in.ID != id {
		return queue.Invalid("id", "the body and the path differ")
	}
	in.ID = id
	h, err := in.Domain()
	if err != nil {
		return err
	}
	out, err := c.svc.HeartbeatTasks(c.ctx(), []queue.Heartbeat{h})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.BeatOf(out[0]))
}

func heartbeatTasks(c *call) error {
	in, err := decodeMany[restapi.Heartbeat](c, "heartbeats")
	if err != nil {
		return err
	}
	beats, err := eachIn(in, "heartbeats", restapi.Heartbeat.Domain)
	if err != nil {
		return err
	}
	out, err := c.svc.HeartbeatTasks(c.ctx(), beats)
	if err != nil && len(out) != len(beats) { // otherwise each heartbeat has its own answer
		return err
	}
	return c.reply(http.StatusOK, restapi.ListOf(each(out, restapi.BeatOf)))
}
