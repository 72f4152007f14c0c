package waitlist

import (
	"context"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	concurrencyMaxAge = 5 * time.Second // of a cached answer
	maxCachedQueues   = 10_000
)

// ConcurrencyCache remembers which queues limit the tasks in hand. Only there does the end of a task let another one
// start, so that waiting callers must be woken. An unknown queue counts as limited: a wake-up too many costs one Store
// call. It is safe for concurrent use.
type ConcurrencyCache struct {
	owner    *owner.Owner
	getQueue func(ctx context.Context, namespace, name string) (*queue.Queue, error)

	mu     sync.Mutex
	queues map[queueName]cachedConcurrency
}

type queueName struct{ namespace, name string }

type cachedConcurrency struct {
	limited   bool
	until     time.Time
	isLoading bool
}

// NewConcurrencyCache returns an empty cache of queues that getQueue reads.
func NewConcurrencyCache(
	o *owner.Owner, getQueue func(ctx context.Context, namespace, name string) (*queue.Queue, error),
) *ConcurrencyCache {
	return &ConcurrencyCache{owner: o, getQueue: getQueue, queues: map[queueName]cachedConcurrency{}}
}

// IsLimited reports whether the queue, or a group of it, limits the tasks in hand as far as is known, and loads the queue when that is old.
func (c *ConcurrencyCache) IsLimited(namespace, name string) bool {
	key := queueName{namespace, name}
	c.mu.Lock()
	defer c.mu.Unlock()
	cached, ok := c.queues[key]
	if ok && time.Now().Before(cached.until) {
		return cached.limited
	}

	limited := !ok || cached.limited
	if !cached.isLoading && c.owner.Go(func() { c.loadQueuePolicy(key) }) {
		if len(c.queues) >= maxCachedQueues {
			clear(c.queues)
		}
		c.queues[key] = cachedConcurrency{limited: limited, isLoading: true}
	}

	return limited
}

func (c *ConcurrencyCache) loadQueuePolicy(key queueName) {
	ctx, cancel := c.owner.NewCall()
	defer cancel()
	q, err := c.getQueue(ctx, key.namespace, key.name)
	limited := err != nil || q.FreesPlaces()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.queues[key] = cachedConcurrency{limited: limited, until: time.Now().Add(concurrencyMaxAge)}
}

// Forget drops the answer for a queue after a change of its settings.
func (c *ConcurrencyCache) Forget(namespace, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.queues, queueName{namespace, name})
}
