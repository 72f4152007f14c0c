package restserver

import (
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// onTask is the input of a change of the task in the path with a body.
type onTask[In input.Wire[Out], Out any] struct {
	input.Task
	Body input.Body[In, Out]
}

type (
	releaseTasksInput struct {
		Body input.Bodies[restapi.Release, queue.Release]
	}
	heartbeatTasksInput struct {
		Body input.Bodies[restapi.Heartbeat, queue.Heartbeat]
	}
)

// releaseTask ends the lease of the task in the path with the outcome of the body.
func releaseTask[In input.Wire[queue.Release]](c *call, in *onTask[In, queue.Release]) (_ *output[restapi.Task], err error) {
	r := in.Body.Value
	if r.ID, err = requireSameID(r.ID, in.ID.Value); err != nil {
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
	out, err := c.svc.ReleaseTasks(c.requestContext(), in.Body.Values)
	if err != nil && len(out) != len(in.Body.Values) {
		// With equal lengths each release has its own result.
		return nil, err
	}
	c.afterAnswer(c.cfg.Large.TakeAnswer(c.requestContext(), queue.ReleasedTasks(out)...))
	return listOutput(restapi.ReleasedOf, out, nil)
}

func heartbeatTask(c *call, in *onTask[restapi.Heartbeat, queue.Heartbeat]) (_ *output[restapi.Beat], err error) {
	h := in.Body.Value
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
	out, err := c.svc.HeartbeatTasks(c.requestContext(), in.Body.Values)
	if err != nil && len(out) != len(in.Body.Values) {
		// With equal lengths each heartbeat has its own result.
		return nil, err
	}
	return listOutput(restapi.BeatOf, out, nil)
}
