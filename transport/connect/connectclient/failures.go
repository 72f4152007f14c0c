package connectclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// ListFailures implements queue.FailureGroups.
func (c *Client) ListFailures(ctx context.Context, name string) (*queue.Failures, error) {
	res, err := sendCall(ctx, c, queue.OpListFailures, c.queues.ListFailures, &pb.ListFailuresRequest{Namespace: c.namespace, Queue: name})
	return readAnswer(res, err, (*wire.Reader).Failures)
}
