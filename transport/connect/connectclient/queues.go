package connectclient

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// CreateQueue implements queue.Queues.
func (c *Client) CreateQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	res, err := sendCall(ctx, c, queue.OpCreateQueue, c.queues.CreateQueue, &pb.CreateQueueRequest{
		Namespace: c.namespace, Meta: wire.QueueMeta(meta),
	})
	return readAnswer(res.GetQueue(), err, (*wire.Reader).Queue)
}

// RegisterQueue implements queue.Queues.
func (c *Client) RegisterQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	res, err := sendRepeated(ctx, c, queue.OpRegisterQueue, repeatable, c.queues.RegisterQueue, &pb.RegisterQueueRequest{
		Namespace: c.namespace, Meta: wire.QueueMeta(meta),
	})
	return readAnswer(res.GetQueue(), err, (*wire.Reader).Queue)
}

// GetQueue implements queue.Queues.
func (c *Client) GetQueue(ctx context.Context, name string) (*queue.Queue, error) {
	res, err := sendCall(ctx, c, queue.OpGetQueue, c.queues.GetQueue, &pb.GetQueueRequest{Namespace: c.namespace, Queue: name})
	return readAnswer(res.GetQueue(), err, (*wire.Reader).Queue)
}

// ListQueues implements queue.Queues.
func (c *Client) ListQueues(ctx context.Context, p queue.Page) (queue.QueuePage, error) {
	res, err := sendCall(ctx, c, queue.OpListQueues, c.queues.ListQueues, &pb.ListQueuesRequest{
		Namespace: c.namespace, Page: wire.Page(p),
	})
	queues, err := readEach(res.GetQueues(), err, (*wire.Reader).Queue)
	return queue.QueuePage{Queues: queues, Count: res.GetCount(), Next: res.GetNext()}, err
}

// UpdateQueue implements queue.Queues.
func (c *Client) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	res, err := sendCall(ctx, c, queue.OpUpdateQueue, c.queues.UpdateQueue, &pb.UpdateQueueRequest{
		Namespace: c.namespace, Queue: name, Meta: wire.QueueMeta(meta),
	})
	return readAnswer(res.GetQueue(), err, (*wire.Reader).Queue)
}

// DeleteQueue implements queue.Queues.
func (c *Client) DeleteQueue(ctx context.Context, name string, only ...queue.DeleteCondition) (*queue.Queue, error) {
	versions, empty := queue.SplitDeleteConditions(only)
	res, err := sendCall(ctx, c, queue.OpDeleteQueue, c.queues.DeleteQueue, &pb.DeleteQueueRequest{
		Namespace: c.namespace, Queue: name, IfVersion: queue.RequiredVersion(versions), IfEmpty: empty,
	})
	return readAnswer(res.GetQueue(), err, (*wire.Reader).Queue)
}

// CleanQueue implements queue.Queues. It repeats CleanQueueWithin until the queue is clean.
func (c *Client) CleanQueue(ctx context.Context, name string, only ...queue.IfVersion) (n int64, err error) {
	for {
		step, err := c.CleanQueueWithin(ctx, name, c.operationStep(), only...)
		n += step.Count
		if err != nil || !step.More {
			return n, err
		}
	}
}

// CleanQueueWithin implements queue.Queues.
func (c *Client) CleanQueueWithin(ctx context.Context, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	const op = queue.OpCleanQueue
	if err := queue.CheckDuration("within", within, 1); err != nil {
		return queue.Cleaned{}, queue.WithOp(op.String(), err)
	}
	res, err := sendCall(ctx, c, op, c.queues.CleanQueue, &pb.CleanQueueRequest{
		Namespace: c.namespace, Queue: name, Within: wire.Duration(within), IfVersion: queue.RequiredVersion(only),
	})
	return queue.Cleaned{Count: res.GetDeleted(), More: res.GetMore()}, err
}

// operationStep returns the time limit of one step of a long operation on the server. Half of the timeout keeps the
// step well below the limit of a call.
func (c *Client) operationStep() time.Duration { return min(queue.BulkStep, c.timeout/2) }

// QueueStats implements queue.QueueStatuses.
func (c *Client) QueueStats(ctx context.Context, name string) (*queue.QueueStats, error) {
	res, err := sendCall(ctx, c, queue.OpQueueStats, c.queues.GetQueueStats, &pb.GetQueueStatsRequest{
		Namespace: c.namespace, Queue: name,
	})
	return readAnswer(res.GetStats(), err, (*wire.Reader).QueueStats)
}

// ListQueueStatuses implements queue.QueueStatuses.
func (c *Client) ListQueueStatuses(ctx context.Context) ([]*queue.QueueStats, error) {
	res, err := sendCall(ctx, c, queue.OpListQueueStatuses, c.queues.ListQueueStats, &pb.ListQueueStatsRequest{
		Namespace: c.namespace,
	})
	return readEach(res.GetStats(), err, (*wire.Reader).QueueStats)
}
