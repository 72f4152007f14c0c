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
	return c.sendForQueue(ctx, request{route: restapi.CreateQueue, body: restapi.QueueMetaOf(meta)})
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
	return c.sendNamed(ctx, request{route: restapi.GetQueue}, name)
}

// ListQueues returns a page of queues in the order of their names.
func (c *Client) ListQueues(ctx context.Context, p queue.Page) (queue.QueuePage, error) {
	var out restapi.List[restapi.Queue]
	err := c.sendRequest(ctx, request{route: restapi.ListQueues, query: pageQuery(p)}, &out)
	if err != nil {
		return queue.QueuePage{}, err
	}
	return queue.QueuePage{Queues: mapSlice(out.Body, restapi.Queue.Domain), Count: out.Count, Next: out.Next}, nil
}

// UpdateQueue changes the fields that are set in meta.
func (c *Client) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	meta.Name = ""
	return c.sendNamed(ctx, request{route: restapi.UpdateQueue, body: restapi.QueueMetaOf(meta), version: meta.IfVersion, safe: meta.IfVersion == 0}, name)
}

// DeleteQueue deletes a queue and its tasks.
func (c *Client) DeleteQueue(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Queue, error) {
	return c.sendNamed(ctx, request{route: restapi.DeleteQueue, version: queue.RequiredVersion(only)}, name)
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
	op := queue.OpCleanQueue.String()
	name, err := queue.QueueName(name)
	if err == nil {
		err = queue.CheckDuration("within", within, 1)
	}
	if err != nil {
		return queue.Cleaned{}, queue.WithOp(op, err)
	}
	var out restapi.Count
	v := url.Values{}
	setDuration(v, "within", within)
	err = c.sendRequest(ctx, request{route: restapi.CleanQueue, args: []string{name}, query: v, version: queue.RequiredVersion(only)}, &out)
	return queue.Cleaned{Count: out.Count, More: out.More}, err
}

// operationStep returns the time limit of one step of a long operation on the server. Half of the timeout keeps the
// step well below the limit of a call.
func (c *Client) operationStep() time.Duration { return min(queue.BulkStep, c.timeout/2) }

// QueueStats returns the statistics of a queue.
func (c *Client) QueueStats(ctx context.Context, name string) (*queue.QueueStats, error) {
	name, err := queue.QueueName(name)
	if err != nil {
		return nil, queue.WithOp(queue.OpQueueStats.String(), err)
	}
	var out restapi.QueueStats
	if err := c.sendRequest(ctx, request{route: restapi.GetQueueStats, args: []string{name}}, &out); err != nil {
		return nil, err
	}
	return out.Domain(), nil
}

// ListQueueStatuses returns the statistics of every queue.
func (c *Client) ListQueueStatuses(ctx context.Context) ([]*queue.QueueStats, error) {
	var out restapi.List[restapi.QueueStats]
	if err := c.sendRequest(ctx, request{route: restapi.ListStats}, &out); err != nil {
		return nil, err
	}
	return mapSlice(out.Body, restapi.QueueStats.Domain), nil
}

func (c *Client) sendNamed(ctx context.Context, q request, name string) (*queue.Queue, error) {
	name, err := queue.QueueName(name)
	if err != nil {
		return nil, queue.WithOp(q.opName(), err)
	}
	q.args = []string{name}
	return c.sendForQueue(ctx, q)
}

func (c *Client) sendForQueue(ctx context.Context, q request) (*queue.Queue, error) {
	var out restapi.Queue
	if err := c.sendRequest(ctx, q, &out); err != nil {
		return nil, err
	}
	return out.Domain(), nil
}
