package schema

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of a cache.
const (
	// DefaultCacheEntries bounds the schemas that a cache keeps.
	DefaultCacheEntries = 1_000
	// DefaultCacheBytes bounds their memory.
	DefaultCacheBytes = 64 << 20
)

// Key names one version of the schema of a queue. A version is immutable, so an entry is never wrong.
type Key struct {
	// Queue is the number of the queue, or any other value that no second queue has.
	Queue   int64
	Version int64
}

// Cache keeps compiled schemas, those of the last use. It is safe for concurrent use.
type Cache struct {
	compiler Compiler
	entries  int
	bytes    int

	mu     sync.Mutex
	byKey  map[Key]*list.Element
	recent *list.List // of *cached, the last used first
	size   int
}

// cached is an entry. Its schema and error are set when done is closed.
type cached struct {
	key    Key
	done   chan struct{}
	schema Schema
	err    error
	size   int
}

// errUnfinished is the error of an entry when its load or compile panicked.
var errUnfinished = errors.New("the compile of the schema did not end")

// NewCache returns an empty cache over compiler. entries and bytes bound it; 0 stands for the default.
func NewCache(compiler Compiler, entries, bytes int) *Cache {
	if entries <= 0 {
		entries = DefaultCacheEntries
	}
	if bytes <= 0 {
		bytes = DefaultCacheBytes
	}
	return &Cache{compiler: compiler, entries: entries, bytes: bytes, byKey: map[Key]*list.Element{}, recent: list.New()}
}

// Get returns the schema of key. When the cache lacks it, load gives its source and the cache compiles it: once, however many
// callers wait. Errors are not kept. A caller that waits for another one's compile leaves with the end of its ctx.
func (c *Cache) Get(ctx context.Context, key Key, load func(context.Context) (json.RawMessage, error)) (Schema, error) {
	for {
		entry, isNew := c.ensureEntry(key)
		if isNew {
			c.fillEntry(ctx, entry, load)
			return entry.schema, entry.err
		}

		select {
		case <-entry.done:
		case <-ctx.Done():
			return nil, queue.ContextError(ctx.Err())
		}
		if entry.err == nil {
			return entry.schema, nil
		}
		// The other caller failed, perhaps by the end of its own context: this one tries itself.
		if ctx.Err() != nil {
			return nil, queue.ContextError(ctx.Err())
		}
	}
}

// ensureEntry returns the entry of key, and whether the caller has to fill it.
func (c *Cache) ensureEntry(key Key) (entry *cached, isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element := c.byKey[key]; element != nil {
		c.recent.MoveToFront(element)
		return element.Value.(*cached), false
	}
	entry = &cached{key: key, done: make(chan struct{})}
	c.byKey[key] = c.recent.PushFront(entry)
	return entry, true
}

// fillEntry compiles the schema of an entry. A failed one leaves the cache. So does one with a load or compile that panics.
func (c *Cache) fillEntry(ctx context.Context, entry *cached, load func(context.Context) (json.RawMessage, error)) {
	entry.err = errUnfinished
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		// While it was filled, others may have evicted the entry and begun another one.
		if element := c.byKey[entry.key]; element != nil && element.Value == entry {
			if entry.err != nil {
				c.removeEntry(element)
			} else {
				entry.size = entry.schema.Bytes()
				c.size += entry.size
			}
		}
		c.evictEntries()
		close(entry.done)
	}()

	source, err := load(ctx)
	if err != nil {
		entry.err = err
		return
	}
	entry.schema, entry.err = c.compiler.Compile(ctx, source)
}

// evictEntries removes the entries of the longest time without use until the cache is within its bounds. The last one stays.
// The caller holds mu.
func (c *Cache) evictEntries() {
	for c.recent.Len() > 1 && (c.recent.Len() > c.entries || c.size > c.bytes) {
		c.removeEntry(c.recent.Back())
	}
}

// removeEntry removes an entry. The caller holds mu.
func (c *Cache) removeEntry(element *list.Element) {
	entry := c.recent.Remove(element).(*cached)
	c.size -= entry.size
	delete(c.byKey, entry.key)
}

// Len returns the number of entries.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}
