package restserver

import (
	"cmp"
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type selectionInput struct {
	Body input.Body[restapi.Selection, queue.Selection]
}

// bulkOperation is one bulk operation of queue.Service.
type bulkOperation func(context.Context, queue.Selection) (queue.Bulk, error)

func cancelTask(c *call, in *taskInput) (*output[restapi.Task], error) {
	return c.moveTask(c.svc.CancelTasks, in.ID.Value)
}

func retryTask(c *call, in *taskInput) (*output[restapi.Task], error) {
	return c.moveTask(c.svc.RetryTasks, in.ID.Value)
}

func deleteTask(c *call, in *taskInput) (*noOutput, error) {
	return nil, c.applyToTask(c.svc.DeleteTasks, in.ID.Value)
}

func cancelTasks(c *call, in *selectionInput) (*output[restapi.Bulk], error) {
	return c.moveSelected(c.svc.CancelTasks, in)
}

func retryTasks(c *call, in *selectionInput) (*output[restapi.Bulk], error) {
	return c.moveSelected(c.svc.RetryTasks, in)
}

func deleteTasks(c *call, in *selectionInput) (*output[restapi.Bulk], error) {
	return c.moveSelected(c.svc.DeleteTasks, in)
}

// applyToTask applies a bulk operation to one task.
func (c *call) applyToTask(apply bulkOperation, id int64) error {
	out, err := apply(c.requestContext(), queue.Selection{IDs: []int64{id}})
	if err != nil {
		return err
	}
	return out.Errs[id]
}

// moveTask applies a bulk operation to one task and answers with the task afterwards.
func (c *call) moveTask(move bulkOperation, id int64) (*output[restapi.Task], error) {
	if err := c.applyToTask(move, id); err != nil {
		return nil, err
	}
	t, err := c.svc.GetTask(c.requestContext(), id)
	return c.taskOutput(t, err)
}

// moveSelected applies a bulk operation to the tasks that the body selects.
func (c *call) moveSelected(move bulkOperation, in *selectionInput) (*output[restapi.Bulk], error) {
	selection, err := in.Body.Value()
	if err != nil {
		return nil, err
	}
	selection.Within = cmp.Or(selection.Within, queue.BulkStep)
	out, err := move(c.requestContext(), selection)
	return outputOf(restapi.BulkOf, out, err)
}
