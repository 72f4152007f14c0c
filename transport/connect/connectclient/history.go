package connectclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// QueueHistory implements queue.QueueStatuses.
func (c *Client) QueueHistory(ctx context.Context, name string, q queue.HistoryQuery) (*queue.QueueHistory, error) {
	res, err := sendCall(ctx, c, queue.OpQueueHistory, c.queues.GetQueueHistory, wire.HistoryRequest(c.namespace, name, q))
	return readAnswer(res, err, (*wire.Reader).QueueHistory)
}
