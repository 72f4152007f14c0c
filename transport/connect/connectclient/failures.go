package connectclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// ListFailures implements queue.FailureGroups.
func (c *Client) ListFailures(ctx context.Context, name string, q queue.FailureQuery) (*queue.Failures, error) {
	res, err := sendCall(ctx, c, queue.OpListFailures, c.queues.ListFailures, wire.FailuresRequest(c.namespace, name, q))
	return readAnswer(res, err, (*wire.Reader).Failures)
}
