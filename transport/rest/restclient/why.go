package restclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// ExplainTask returns the reasons why a task is not running.
func (c *Client) ExplainTask(ctx context.Context, id int64) (*queue.Explanation, error) {
	return fetch[restapi.Explanation](ctx, c, request{route: restapi.ExplainTask, args: []string{formatDecimal(id)}})
}

// ExplainQueue returns the reasons why no task of a queue is retained.
func (c *Client) ExplainQueue(ctx context.Context, name string) (*queue.Explanation, error) {
	return fetch[restapi.Explanation](ctx, c, queueRequest(restapi.ExplainQueue, name))
}
