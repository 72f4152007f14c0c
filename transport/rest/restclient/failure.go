package restclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// ListFailures returns the newest failed tasks of a queue in groups.
func (c *Client) ListFailures(ctx context.Context, name string) (*queue.Failures, error) {
	return fetch[restapi.Failures](ctx, c, queueRequest(restapi.ListFailures, name))
}
