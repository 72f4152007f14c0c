package restclient

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// registerRounds bounds the rounds of a register that races with deletes of the same name.
const registerRounds = 10

// CreateQueue creates a queue.
func (c *Client) CreateQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return fetch[restapi.Queue](ctx, c, request{route: restapi.CreateQueue, body: restapi.QueueMetaOf(meta)})
}

// RegisterQueue creates a queue, or updates the present one.
func (c *Client) RegisterQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return createOrUpdate(
		func() (*queue.Queue, error) { return c.CreateQueue(ctx, meta) },
		func() (*queue.Queue, error) { return c.UpdateQueue(ctx, meta.Name, meta) })
}

// createOrUpdate creates the object, or updates the present one.
func createOrUpdate[T any](create, update func() (T, error)) (v T, err error) {
	for range registerRounds {
		if v, err = create(); !errors.Is(err, queue.ErrAlreadyExists) {
			return v, err
		}
		if v, err = update(); !errors.Is(err, queue.ErrNotFound) {
			return v, err
		}
	}
	return v, err
}

// GetQueue returns a queue.
func (c *Client) GetQueue(ctx context.Context, name string) (*queue.Queue, error) {
	return fetch[restapi.Queue](ctx, c, queueRequest(restapi.GetQueue, name))
}

// ListQueues returns a page of queues in the order of their names.
func (c *Client) ListQueues(ctx context.Context, p queue.Page) (queue.QueuePage, error) {
	queues, list, err := fetchList[restapi.Queue](ctx, c, request{route: restapi.ListQueues, query: pageQuery(p)})
	return queue.QueuePage{Queues: queues, Count: list.Count, Next: list.Next}, err
}

// UpdateQueue changes the fields that are set in meta.
func (c *Client) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	meta.Name = ""
	q := queueRequest(restapi.UpdateQueue, name)
	q.body, q.version = restapi.QueueMetaOf(meta), meta.IfVersion
	// A version that the first attempt has raised would refuse the second one.
	q.safe = meta.IfVersion == 0
	return fetch[restapi.Queue](ctx, c, q)
}

// DeleteQueue deletes a queue and its tasks.
func (c *Client) DeleteQueue(ctx context.Context, name string, only ...queue.DeleteCondition) (*queue.Queue, error) {
	versions, empty := queue.SplitDeleteConditions(only)
	q := queueRequest(restapi.DeleteQueue, name)
	q.version = queue.RequiredVersion(versions)
	if empty {
		q.query = url.Values{"if_empty": {"true"}}
	}
	return fetch[restapi.Queue](ctx, c, q)
}

// CleanQueue deletes the finished tasks of a queue. It repeats CleanQueueWithin until the queue is clean.
func (c *Client) CleanQueue(ctx context.Context, name string, only ...queue.IfVersion) (n int64, err error) {
	for {
		step, err := c.CleanQueueWithin(ctx, name, c.operationStep(), only...)
		n += step.Count
		if err != nil || !step.More {
			return n, err
		}
	}
}

// CleanQueueWithin makes one call of CleanQueue, in which the server works for about within.
func (c *Client) CleanQueueWithin(ctx context.Context, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	q := queueRequest(restapi.CleanQueue, name)
	if q.fault == nil {
		q.fault = queue.CheckDuration("within", within, 1)
	}
	q.query, q.version = url.Values{}, queue.RequiredVersion(only)
	setDuration(q.query, "within", within)

	var out restapi.Count
	err := c.sendRequest(ctx, q, &out)
	return queue.Cleaned{Count: out.Count, More: out.More}, err
}

// operationStep returns the time limit of one step of a long operation on the server. Half of the timeout keeps the
// step well below the limit of a call.
func (c *Client) operationStep() time.Duration { return min(queue.BulkStep, c.timeout/2) }

// QueueStats returns the statistics of a queue.
func (c *Client) QueueStats(ctx context.Context, name string) (*queue.QueueStats, error) {
	return fetch[restapi.QueueStats](ctx, c, queueRequest(restapi.GetQueueStats, name))
}

// ListQueueStatuses returns the statistics of every queue.
func (c *Client) ListQueueStatuses(ctx context.Context) ([]*queue.QueueStats, error) {
	stats, _, err := fetchList[restapi.QueueStats](ctx, c, request{route: restapi.ListStats})
	return stats, err
}
