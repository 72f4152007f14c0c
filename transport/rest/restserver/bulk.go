package restserver

import (
	"context"
	"net/http"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

type bulk func(context.Context, queue.Selection) (queue.Bulk, error)

func cancelTask(c *call) error { return c.one(c.svc.CancelTasks, true) }

func retryTask(c *call) error { return c.one(c.svc.RetryTasks, true) }

func deleteTask(c *call) error { return c.one(c.svc.DeleteTasks, false) }

func cancelTasks(c *call) error { return c.selected(c.svc.CancelTasks) }

func retryTasks(c *call) error { return c.selected(c.svc.RetryTasks) }

func deleteTasks(c *call) error { return c.selected(c.svc.DeleteTasks) }

// one moves the task of the path and answers with it as it is then, when there is something left of it.
func (c *call) one(move bulk, left bool) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	out, err := move(c.ctx(), queue.Selection{IDs: []int64{id}})
	if err != nil {
		return err
	}
	if err := out.Errs[id]; err != nil {
		return err
	}
	if !left {
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	t, err := c.svc.GetTask(c.ctx(), id)
	return c.task(t, err)
}

// selected moves the tasks that the body selects.
func (c *call) selected(move bulk) error {
	s, err := input[restapi.Selection](c)
	if err != nil {
		return err
	}
	if s.Within == 0 {
		s.Within = queue.BulkStep
	}
	out, err := move(c.ctx(), s)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.BulkOf(out))
}
