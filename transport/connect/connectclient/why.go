package connectclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// ExplainTask implements queue.Explanations.
func (c *Client) ExplainTask(ctx context.Context, id int64) (*queue.Explanation, error) {
	res, err := sendCall(ctx, c, queue.OpExplainTask, c.tasks.ExplainTask, &pb.ExplainTaskRequest{Namespace: c.namespace, Id: id})
	return readAnswer(res.GetExplanation(), err, (*wire.Reader).Explanation)
}

// ExplainQueue implements queue.Explanations.
func (c *Client) ExplainQueue(ctx context.Context, name string) (*queue.Explanation, error) {
	res, err := sendCall(ctx, c, queue.OpExplainQueue, c.queues.ExplainQueue, &pb.ExplainQueueRequest{Namespace: c.namespace, Queue: name})
	return readAnswer(res.GetExplanation(), err, (*wire.Reader).Explanation)
}
