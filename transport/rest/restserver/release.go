package restserver

import (
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	releaseTaskInput struct {
		input.Task
		Body input.Body[restapi.Release, queue.Release]
	}
	releaseTasksInput struct {
		Body input.Bodies[restapi.Release, queue.Release]
	}
	heartbeatTaskInput struct {
		input.Task
		Body input.Body[restapi.Heartbeat, queue.Heartbeat]
	}
	heartbeatTasksInput struct {
		Body input.Bodies[restapi.Heartbeat, queue.Heartbeat]
	}
	snoozeTaskInput struct {
		input.Task
		Body input.Body[restapi.Snooze, queue.Release]
	}
	handBackTaskInput struct {
		input.Task
		Body input.Body[restapi.HandBack, queue.Release]
	}
)

func releaseTask(c *call, in *releaseTaskInput) (*output[restapi.Task], error) {
	r, err := in.Body.Value()
	return c.releaseOne(r, in.ID.Value, err)
}

func snoozeTask(c *call, in *snoozeTaskInput) (*output[restapi.Task], error) {
	r, err := in.Body.Value()
	return c.releaseOne(r, in.ID.Value, err)
}

func handBackTask(c *call, in *handBackTaskInput) (*output[restapi.Task], error) {
	r, err := in.Body.Optional()
	return c.releaseOne(r, in.ID.Value, err)
}

// releaseOne ends the lease of the task in the path. err is the error of the body.
func (c *call) releaseOne(r queue.Release, id int64, err error) (*output[restapi.Task], error) {
	if err != nil {
		return nil, err
	}
	if r.ID, err = requireSameID(r.ID, id); err != nil {
		return nil, err
	}
	out, err := c.svc.ReleaseTasks(c.requestContext(), []queue.Release{r})
	if err != nil {
		return nil, err
	}
	c.afterAnswer(c.cfg.Large.TakeAnswer(c.requestContext(), queue.ReleasedTasks(out)...))
	return outputOf(restapi.TaskOf, out[0].Task, nil)
}

// requireSameID returns the id of the path. The body may repeat it but not differ.
func requireSameID(inBody, inPath int64) (int64, error) {
	if inBody != 0 && inBody != inPath {
		return 0, queue.Invalid("id", fmt.Sprintf("must be the id in the path, %d, got %d; leave it out of the body", inPath, inBody))
	}
	return inPath, nil
}

func releaseTasks(c *call, in *releaseTasksInput) (*output[restapi.List[restapi.Released]], error) {
	releases, err := in.Body.Values()
	if err != nil {
		return nil, err
	}
	out, err := c.svc.ReleaseTasks(c.requestContext(), releases)
	if err != nil && len(out) != len(releases) {
		// With equal lengths each release has its own result.
		return nil, err
	}
	c.afterAnswer(c.cfg.Large.TakeAnswer(c.requestContext(), queue.ReleasedTasks(out)...))
	return listOutput(restapi.ReleasedOf, out, nil)
}

func heartbeatTask(c *call, in *heartbeatTaskInput) (*output[restapi.Beat], error) {
	h, err := in.Body.Value()
	if err != nil {
		return nil, err
	}
	if h.ID, err = requireSameID(h.ID, in.ID.Value); err != nil {
		return nil, err
	}
	out, err := c.svc.HeartbeatTasks(c.requestContext(), []queue.Heartbeat{h})
	if err != nil {
		return nil, err
	}
	return outputOf(restapi.BeatOf, out[0], nil)
}

func heartbeatTasks(c *call, in *heartbeatTasksInput) (*output[restapi.List[restapi.Beat]], error) {
	beats, err := in.Body.Values()
	if err != nil {
		return nil, err
	}
	out, err := c.svc.HeartbeatTasks(c.requestContext(), beats)
	if err != nil && len(out) != len(beats) {
		// With equal lengths each heartbeat has its own result.
		return nil, err
	}
	return listOutput(restapi.BeatOf, out, nil)
}
