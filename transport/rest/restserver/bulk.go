package restserver

import (
	"cmp"
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// bulkOperation is one bulk operation of queue.Service.
type bulkOperation func(queue.Service, context.Context, queue.Selection) (queue.Bulk, error)

// moveSelected returns the route of a bulk operation on the tasks that the body selects.
func moveSelected(move bulkOperation) func(*call, *input.With[restapi.Selection, queue.Selection]) (*output[restapi.Bulk], error) {
	return func(c *call, in *input.With[restapi.Selection, queue.Selection]) (*output[restapi.Bulk], error) {
		selection := in.Body.Value
		selection.Within = cmp.Or(selection.Within, queue.BulkStep)
		out, err := move(c.svc, c.requestContext(), selection)
		return outputOf(restapi.BulkOf, out, err)
	}
}

// moveTask returns the route of a bulk operation on one task, which answers with the task afterwards.
func moveTask(move bulkOperation) func(*call, *input.Task) (*output[restapi.Task], error) {
	return func(c *call, in *input.Task) (*output[restapi.Task], error) {
		if err := c.applyToTask(move, in.ID.Value); err != nil {
			return nil, err
		}
		return getTask(c, in)
	}
}

func deleteTask(c *call, in *input.Task) (*noOutput, error) {
	return nil, c.applyToTask(queue.Service.DeleteTasks, in.ID.Value)
}

// applyToTask applies a bulk operation to one task.
func (c *call) applyToTask(apply bulkOperation, id int64) error {
	out, err := apply(c.svc, c.requestContext(), queue.Selection{IDs: []int64{id}})
	if err != nil {
		return err
	}
	return out.Errs[id]
}
