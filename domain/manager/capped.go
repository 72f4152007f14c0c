package manager

import (
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	cappedFor   = 5 * time.Second // how long a queue's policy is believed
	cappedLimit = 10_000          // queues remembered
)

// capped remembers which queues limit their concurrency: only there does the end of a task let another one start, and
// only there is it worth waking who waits. Not knowing counts as limited: a wake too many costs one Store call.
type capped struct {
	c  *core
	mu sync.Mutex
	of map[queueName]policy
}

type queueName struct{ namespace, name string }

type policy struct {
	limited bool
	until   time.Time
	asking  bool
}

func newCapped(c *core) *capped { return &capped{c: c, of: map[queueName]policy{}} }

// is reports whether the queue limits its concurrency as far as is known, and has it looked up when that is stale.
func (k *capped) is(namespace, name string) bool {
	key := queueName{namespace, name}
	k.mu.Lock()
	defer k.mu.Unlock()
	known, ok := k.of[key]
	if ok && time.Now().Before(known.until) {
		return known.limited
	}
	limited := !ok || known.limited
	if !known.asking && k.c.spawn(func() { k.look(key) }) {
		if len(k.of) >= cappedLimit {
			clear(k.of)
		}
		k.of[key] = policy{limited: limited, asking: true}
	}
	return limited
}

func (k *capped) look(key queueName) {
	ctx, cancel := k.c.call()
	defer cancel()
	q, err := k.c.store.GetQueue(ctx, key.namespace, key.name)
	if err != nil {
		q = &queue.Queue{Concurrency: 1} // cannot tell: limited, for now
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of[key] = policy{limited: q.Concurrency > 0, until: time.Now().Add(cappedFor)}
}

// forget has the queue looked up again: its policy was changed.
func (k *capped) forget(namespace, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, queueName{namespace, name})
}
