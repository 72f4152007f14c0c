package memory

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Store is a queue.Store in maps. It is safe for concurrent use.
type Store struct {
	*Tokens

	clock  func() time.Time
	jitter func() float64

	mu       sync.Mutex
	spaces   map[string]*namespaceState
	suspects map[workerKey]*record // held by the workers
	tasks    map[int64]*record
	delayed  heap[*record]     // by when they are due
	leased   heap[*record]     // by when their lease runs out
	expiring heap[*record]     // waiting tasks with a ttl, by when they expire
	firing   heap[*ticker]     // tickers with a queue, by their next nominal time
	waking   heap[*groupState] // groups that a limit of time holds up, by its end
	dropped  []*queueState     // deleted queues that still have tasks
	feed     feed

	lastID    int64
	lastToken int64
	lastTick  int64
	ready     int64 // orders tasks by when they became ready
	turns     int64 // orders queues by when they were last served

	sampledAt time.Time // the minute in which the history was last written

	listeners map[*listener]struct{}

	requests map[requestKey]*request
}

var (
	_ queue.Store       = (*Store)(nil)
	_ queue.Listener    = (*Store)(nil)
	_ queue.StatsLister = (*Store)(nil)
	_ queue.Diagnoser   = (*Store)(nil)

	_ queue.UndeliveredRequests = (*Store)(nil)

	_ access.Tokens       = (*Store)(nil)
	_ access.SessionStore = (*Store)(nil)
	_ access.TaskQueues   = (*Store)(nil)
)

// Option configures New.
type Option func(*Store)

// WithClock makes now the store's clock instead of time.Now. It must be safe for concurrent use.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.clock = now } }

// WithJitter makes random, which gives numbers in [0, 1), the jitter of backoff. It is never called concurrently.
func WithJitter(random func() float64) Option { return func(s *Store) { s.jitter = random } }

// WithFirstID makes ids and tokens begin behind n: that of queue.FirstID for a cell.
func WithFirstID(n int64) Option { return func(s *Store) { s.lastID, s.lastToken = n, n } }

// DefaultMaxEvents is how many events the feed keeps.
const DefaultMaxEvents = 10_000

// WithMaxEvents bounds the feed to the newest n events of all namespaces together; at least 1.
func WithMaxEvents(n int) Option { return func(s *Store) { s.feed.most = max(n, 1) } }

// New returns an empty store.
func New(opts ...Option) *Store {
	s := &Store{
		clock:     time.Now,
		jitter:    rand.Float64,
		spaces:    map[string]*namespaceState{},
		suspects:  map[workerKey]*record{},
		tasks:     map[int64]*record{},
		feed:      feed{most: DefaultMaxEvents},
		listeners: map[*listener]struct{}{},

		requests: map[requestKey]*request{},
	}

	// A closure, because an option may change the clock below.
	s.Tokens = NewTokens(func() time.Time { return s.clock() })
	place := func(r *record) *int { return &r.heapIndex }
	s.delayed = newHeap(func(a, b *record) bool {
		if c := a.task.DelayedAt.Compare(b.task.DelayedAt); c != 0 {
			return c < 0
		}
		return a.task.ID < b.task.ID
	}, place)
	s.leased = newHeap(func(a, b *record) bool { return a.lease.ExpiresAt.Before(b.lease.ExpiresAt) }, place)
	s.expiring = newHeap(func(a, b *record) bool { return a.task.DiesAt.Before(b.task.DiesAt) },
		func(r *record) *int { return &r.expiryIndex })
	s.firing = newTickerHeap()
	s.waking = newHeap(func(a, b *groupState) bool { return a.wakeAt.Before(b.wakeAt) }, func(g *groupState) *int { return &g.place })
	for _, o := range opts {
		o(s)
	}

	return s
}

// namespaceState is what belongs to one namespace.
type namespaceState struct {
	name    string
	store   *Store
	queues  map[string]*queueState
	names   []string // of queues, sorted
	busy    map[*queueState]struct{}
	roster  taskRoster
	tickers map[string]*ticker
	ticking []string      // names of tickers, sorted
	firing  heap[*ticker] // tickers without a queue, by their next nominal time
	pending []*heldTick   // fired for listeners and not settled, oldest first
}

// openNamespace returns the namespace, making room for it where there is none yet.
func (s *Store) openNamespace(name string) *namespaceState {
	sp := s.spaces[name]
	if sp == nil {
		sp = &namespaceState{name: name, store: s, queues: map[string]*queueState{}, busy: map[*queueState]struct{}{}, tickers: map[string]*ticker{}, firing: newTickerHeap()}
		s.spaces[name] = sp
	}
	return sp
}

// findNamespace returns the namespace, or an empty one that is not kept.
func (s *Store) findNamespace(name string) *namespaceState {
	if sp := s.spaces[name]; sp != nil {
		return sp
	}
	// Reads of made-up names must not make the map grow. A nil map reads as empty.
	return &namespaceState{name: name, firing: newTickerHeap()}
}

// lockStore refuses an ended context, locks the store and returns the time. PostgreSQL's clock
// counts microseconds, and so does this one.
func (s *Store) lockStore(ctx context.Context) (time.Time, error) {
	if err := contextError(ctx); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	return s.clock().UTC().Truncate(time.Microsecond), nil
}

// lockQueue locks the store and finds a queue in it. It returns the time of the call. The store is not locked after an error.
func (s *Store) lockQueue(ctx context.Context, namespace, name string) (*queueState, time.Time, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, now, err
	}
	qs, err := s.findNamespace(namespace).findQueue(name)
	if err != nil {
		s.mu.Unlock()
	}
	return qs, now, err
}

func contextError(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return queue.ContextError(err)
	}
	return nil
}

// Ping reports whether ctx is alive; a store in memory always works.
func (s *Store) Ping(ctx context.Context) error { return contextError(ctx) }

// ListNamespaces lists the namespaces that have a queue or a ticker, and the system's own.
func (s *Store) ListNamespaces(ctx context.Context) ([]string, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	names := []string{queue.SystemNamespace}
	for name, sp := range s.spaces {
		if name != queue.SystemNamespace && len(sp.queues)+len(sp.tickers) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func taskSubject(id int64) string { return fmt.Sprintf("task %d", id) }
