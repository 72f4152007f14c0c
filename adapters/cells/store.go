package cells

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// directoryAge is the age at which a process reads the directory again.
	directoryAge = time.Second
	// reopenPause is the time between two attempts to open a cell that is down.
	reopenPause = time.Second
	// openTimeout bounds one attempt to open a cell.
	openTimeout = 5 * time.Second
	// answerTimeout bounds the answer of one cell to a call of all cells that has no deadline; else that deadline bounds it.
	answerTimeout = 20 * time.Second
	// unbounded leaves the bound of an answer to the deadline of its call.
	unbounded = 24 * time.Hour
	// directoryTimeout bounds a read of the directory, because every call may have to make it.
	directoryTimeout = time.Second
	// stepTimeout bounds a step of background work in one cell while the step of all cells waits for it.
	stepTimeout = 10 * time.Second
)

// Opener opens the Store of a cell. It returns an error unless the cell can work: a server that is not the home of the cell, or
// a schema of another version, is refused.
type Opener func(ctx context.Context, c queue.Cell) (queue.Store, error)

// Store is a queue.Store over the Stores of cells. It is safe for concurrent use.
type Store struct {
	queue.RoutedStore

	directory queue.CellDirectory
	open      Opener
	logger    *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	starts sync.Mutex // no work starts after Close
	work   sync.WaitGroup

	mu      sync.Mutex
	members map[int]*member
	places  map[string]int
	split   map[string]error // namespaces with rows in a cell that is not their place
	readAt  time.Time        // of the directory
}

var _ queue.Store = (*Store)(nil)

// Option configures a Store.
type Option func(*Store)

// WithLogger makes the store log cells that are down. Default: no log.
func WithLogger(l *slog.Logger) Option { return func(s *Store) { s.logger = l } }

// New returns a Store over the cells of a directory. It opens each of them, and gives namespaces that a cell has already their
// place. Cell 0 must answer; another cell that is down only keeps its namespaces from working. The caller must close the Store.
func New(ctx context.Context, directory queue.CellDirectory, open Opener, opts ...Option) (*Store, error) {
	s := &Store{
		directory: directory, open: open, logger: slog.New(slog.DiscardHandler),
		members: map[int]*member{}, places: map[string]int{}, split: map[string]error{},
	}
	s.RoutedStore = queue.RouteStore(s.call)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, opt := range opts {
		opt(s)
	}

	if err := s.readDirectory(ctx); err != nil {
		s.Close()
		return nil, err
	}
	first := s.member(0)
	if first == nil {
		s.Close()
		return nil, queue.Invalid("cells", "must contain cell 0, got none; add it, because it has tokens and audit")
	}
	if _, err := first.use(ctx); err != nil {
		s.Close()
		return nil, err
	}

	var others sync.WaitGroup
	for _, m := range s.all() {
		// Side by side: each cell that is down costs the whole timeout of an attempt.
		others.Go(func() {
			if _, err := m.use(ctx); err != nil {
				s.logger.WarnContext(ctx, "a cell does not work; its namespaces are unavailable", "cell", m.cell.ID, "error", err)
			}
		})
	}
	others.Wait()
	return s, nil
}

// start runs work in a goroutine that Close waits for; it returns false after Close.
func (s *Store) start(work func()) bool {
	s.starts.Lock()
	defer s.starts.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.work.Go(work)
	return true
}

// Close ends the goroutines of the store, and closes the Stores that its opener made.
func (s *Store) Close() {
	s.starts.Lock()
	s.cancel()
	s.starts.Unlock()
	s.work.Wait()
	for _, m := range s.all() {
		m.close()
	}
}

// Unwrap returns the Store of cell 0, which has tokens, sessions and the audit of the installation.
func (s *Store) Unwrap() queue.Store {
	m := s.member(0)
	if m == nil {
		return nil
	}
	return m.opened()
}

// readDirectory replaces cells and places by those of the directory.
func (s *Store) readDirectory(ctx context.Context) error {
	d, err := s.directory.ReadDirectory(ctx)
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.places, s.readAt = d.Places, time.Now()
	for _, c := range d.Cells {
		if err := queue.CheckCell(c); err != nil {
			return err
		}
		if m := s.members[c.ID]; m != nil {
			m.change(c)
			continue
		}
		s.members[c.ID] = &member{owner: s, cell: c, running: map[queue.Chore]*step{}}
	}
	return nil
}

// refresh reads the directory again when it is old. Without an answer the present one stays.
func (s *Store) refresh(ctx context.Context) {
	s.mu.Lock()
	isOld := time.Since(s.readAt) > directoryAge
	if isOld {
		s.readAt = time.Now() // one caller reads
	}
	s.mu.Unlock()

	if !isOld {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, min(directoryTimeout, partOf(ctx, directoryTimeout)))
	defer cancel()
	if err := s.readDirectory(bounded); err != nil && ctx.Err() == nil {
		s.logger.WarnContext(ctx, "could not read the directory of cells; the last one stays", "error", err)
	}
}

// member returns a cell, or nil.
func (s *Store) member(id int) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[id]
}

// all returns the cells by id.
func (s *Store) all() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.members), func(a, b *member) int { return a.cell.ID - b.cell.ID })
}

// place returns the cell of a namespace. One without a place has no rows in any cell.
func (s *Store) place(ctx context.Context, namespace string) (*member, error) {
	s.refresh(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.split[namespace]; err != nil {
		return nil, err
	}
	id, placed := s.places[namespace]
	if namespace == queue.SystemNamespace {
		id, placed = 0, true
	}
	if !placed {
		id = s.weigh(namespace)
	}
	m := s.members[id]
	if m == nil {
		return nil, &queue.Error{Kind: queue.KindUnavailable, Subject: "namespace " + namespace, Msg: fmt.Sprintf("its cell %d is unknown; add the cell to the directory", id)}
	}
	return m, nil
}

// weigh returns the open cell with the highest rendezvous weight for a namespace: a further cell changes the answer for few
// namespaces only. The caller holds mu.
func (s *Store) weigh(namespace string) int {
	best, most := 0, uint64(0)
	for id, m := range s.members {
		// Every process must choose the same cell, so the hash has no seed.
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%d %s", id, namespace)
		weight := mixBits(h.Sum64())
		if m.state() == queue.CellOpen && (weight > most || weight == most && id < best) {
			best, most = id, weight
		}
	}
	return best
}

// mixBits spreads the bits of a hash: FNV changes the high bits little for texts that end alike.
func mixBits(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// settle gives a namespace its place, for the first queue or ticker of it. While the directory does not answer, a known place
// stays.
func (s *Store) settle(ctx context.Context, namespace string) error {
	s.mu.Lock()
	id, placed := s.places[namespace]
	if !placed {
		id = s.weigh(namespace)
	}
	s.mu.Unlock()
	if namespace == queue.SystemNamespace {
		return nil
	}

	bounded, cancel := ctx, context.CancelFunc(func() {})
	if placed {
		// The directory confirms a known place only, so a call waits for it for a second at most.
		bounded, cancel = context.WithTimeout(ctx, min(directoryTimeout, partOf(ctx, directoryTimeout)))
	}
	defer cancel()
	present, err := s.directory.PlaceNamespace(bounded, namespace, id)
	if err != nil {
		if placed {
			return nil
		}
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[namespace] = present
	return nil
}

// adoptNamespaces gives the namespaces of a cell that has opened their place. One with a place elsewhere is refused from then on: its rows are in
// two cells, and only an operator knows which ones count.
func (s *Store) adoptNamespaces(ctx context.Context, m *member, store queue.Store) {
	names, err := store.ListNamespaces(ctx)
	if err != nil {
		s.logger.WarnContext(ctx, "could not list the namespaces of a cell", "cell", m.cell.ID, "error", err)
		return
	}

	for _, name := range names {
		if name == queue.SystemNamespace {
			continue
		}
		s.mu.Lock()
		place, placed := s.places[name]
		s.mu.Unlock()

		if !placed {
			if place, err = s.directory.PlaceNamespace(ctx, name, m.cell.ID); err != nil {
				s.logger.WarnContext(ctx, "could not place a namespace", "namespace", name, "cell", m.cell.ID, "error", err)
				continue
			}
		}

		s.mu.Lock()
		// The directory decides: another process may have placed the namespace meanwhile.
		s.places[name] = place
		if place != m.cell.ID {
			s.split[name] = &queue.Error{
				Kind: queue.KindUnavailable, Subject: "namespace " + name,
				Msg: fmt.Sprintf("must be in one cell, got its place in cell %d and rows in cell %d; delete its queues and tickers in one of them, then restart", place, m.cell.ID),
			}
			s.logger.ErrorContext(ctx, "a namespace is in two cells and refused", "namespace", name, "error", s.split[name])
		}
		s.mu.Unlock()
	}
}
