package cells

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Each method of this file asks all cells.

var (
	_ queue.Listener    = (*Store)(nil)
	_ queue.StatsLister = (*Store)(nil)
	_ queue.Diagnoser   = (*Store)(nil)
	_ queue.CellLister  = (*Store)(nil)
)

// Ping implements queue.Store. Cell 0 must work; another cell that is down only keeps its namespaces from working.
func (s *Store) Ping(ctx context.Context) error {
	m := s.member(0)
	store, err := m.use(ctx)
	if err != nil {
		return err
	}
	return m.name(store.Ping(ctx))
}

// ListCells implements queue.CellLister.
func (s *Store) ListCells(ctx context.Context) ([]queue.CellStatus, error) {
	s.refresh(ctx)
	s.mu.Lock()
	namespaces := map[int]int{}
	for _, id := range s.places {
		namespaces[id]++
	}
	s.mu.Unlock()

	all, _, errs := callEach(ctx, s, openTimeout, func(ctx context.Context, _ *member, store queue.Store) (struct{}, error) {
		return struct{}{}, store.Ping(ctx)
	})
	if err := ctx.Err(); err != nil {
		return nil, queue.ContextError(err)
	}

	out := make([]queue.CellStatus, len(all))
	for i, m := range all {
		out[i] = queue.CellStatus{ID: m.cell.ID, Schema: m.cell.Schema, State: m.state(), Namespaces: namespaces[m.cell.ID], Err: errs[i]}
	}
	return out, nil
}

// ListNamespaces implements queue.Store. The namespaces of a cell that is down or silent come from the directory.
func (s *Store) ListNamespaces(ctx context.Context) ([]string, error) {
	all, lists, errs := callEach(ctx, s, unbounded, func(ctx context.Context, _ *member, store queue.Store) ([]string, error) {
		return store.ListNamespaces(ctx)
	})
	if err := fatalError(ctx, errs); err != nil {
		return nil, err
	}

	logChanges(ctx, all, errs)
	names := slices.Concat(lists...)
	s.mu.Lock()
	for name, id := range s.places {
		// A cell that answered has named its own; only those of the others come from here.
		if i := slices.IndexFunc(all, func(m *member) bool { return m.cell.ID == id }); i >= 0 && errs[i] != nil {
			names = append(names, name)
		}
	}
	s.mu.Unlock()
	slices.Sort(names)
	return slices.Compact(names), nil
}

// AllQueueStats implements queue.StatsLister. A cell that is down or silent is left out; ListCells and the log name it.
func (s *Store) AllQueueStats(ctx context.Context) ([]*queue.QueueStats, error) {
	all, lists, errs := callEach(ctx, s, unbounded, func(ctx context.Context, _ *member, store queue.Store) ([]*queue.QueueStats, error) {
		if lister, ok := queue.StoreAs[queue.StatsLister](store); ok {
			return lister.AllQueueStats(ctx)
		}
		return nil, nil
	})
	if err := fatalError(ctx, errs); err != nil {
		return nil, err
	}

	logChanges(ctx, all, errs)
	out := slices.Concat(lists...)
	slices.SortFunc(out, func(a, b *queue.QueueStats) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Queue, b.Queue))
	})
	return out, nil
}

// fatalError returns the error of a call to all cells: the end of ctx, or the first error when no cell answered.
func fatalError(ctx context.Context, errs []error) error {
	if err := ctx.Err(); err != nil {
		return queue.ContextError(err)
	}
	if i := slices.Index(errs, nil); i >= 0 || len(errs) == 0 {
		return nil
	}
	return errs[0]
}

// Diagnose implements queue.Diagnoser. The findings of cells other than 0 have the cell in their name.
func (s *Store) Diagnose(ctx context.Context) ([]queue.Finding, error) {
	all, lists, errs := callEach(ctx, s, unbounded, func(ctx context.Context, _ *member, store queue.Store) ([]queue.Finding, error) {
		if err := store.Ping(ctx); err != nil {
			return nil, err
		}
		if d, ok := queue.StoreAs[queue.Diagnoser](store); ok {
			return d.Diagnose(ctx)
		}
		return nil, nil
	})
	if err := fatalError(ctx, errs); err != nil {
		return nil, err
	}

	var out []queue.Finding
	for i, m := range all {
		if errs[i] != nil {
			out = append(out, queue.Finding{
				Name: fmt.Sprintf("cell %d", m.cell.ID), Level: queue.LevelFail, Value: errs[i].Error(),
				Advice: "its namespaces are unavailable; start its server, or correct its row by pgqueue cells",
			})
		}
		for _, f := range lists[i] {
			if m.cell.ID > 0 {
				f.Name = fmt.Sprintf("cell %d %s", m.cell.ID, f.Name)
			}
			out = append(out, f)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for name, err := range s.split {
		out = append(out, queue.Finding{Name: "namespace " + name, Level: queue.LevelFail, Value: err.Error(), Advice: "delete its queues and tickers in one of the cells, then restart"})
	}
	return out, nil
}

// Listen implements queue.Listener: it listens to each cell, and tries again where a cell is down.
func (s *Store) Listen(ctx context.Context, wake func(queue.Wake)) error {
	var one sync.Mutex
	oneAtATime := func(w queue.Wake) {
		one.Lock()
		defer one.Unlock()
		wake(w)
	}

	var listens sync.WaitGroup
	// A cell never leaves the directory, so its goroutine lasts until ctx ends.
	heard := map[int]bool{}
	for {
		for _, m := range s.all() {
			if !heard[m.cell.ID] {
				heard[m.cell.ID] = true
				listens.Go(func() { listenTo(ctx, m, oneAtATime) })
			}
		}
		// A further cell appears in the directory.
		if !retry.Sleep(ctx, directoryAge) {
			listens.Wait()
			return ctx.Err()
		}
		s.refresh(ctx)
	}
}

// listenTo listens to one cell until ctx ends.
func listenTo(ctx context.Context, m *member, wake func(queue.Wake)) {
	for ctx.Err() == nil {
		store, err := m.use(ctx)
		if err == nil {
			l, ok := queue.StoreAs[queue.Listener](store)
			if !ok {
				return
			}
			_ = l.Listen(ctx, wake) // it ends with ctx, or with the Store of a cell that has changed
			// Notifications may have been lost with the connection.
			wake(queue.Wake{})
		}
		retry.Sleep(ctx, reopenPause)
	}
}

// Maintain implements queue.Store: one step in each cell, side by side. A cell that fails is a fault of the step, and the next
// steps in it go on by themselves until one succeeds.
func (s *Store) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	caller := ctx
	all, results, errs := callEach(ctx, s, unbounded, func(ctx context.Context, m *member, store queue.Store) (queue.Maintained, error) {
		if m.isSuspect() {
			return m.maintainApart(s, chore, store)
		}
		// A step of a cell that hangs must not hold up the background work of all others.
		bounded, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		done, err := store.Maintain(bounded, chore)
		if caller.Err() == nil && err != nil && (errors.Is(err, queue.ErrUnavailable) || bounded.Err() != nil) {
			m.setSuspect(err)
		}
		return done, err
	})
	if err := fatalError(ctx, errs); err != nil {
		return queue.Maintained{}, err
	}

	sum := queue.Maintained{}
	for i, m := range all {
		if errs[i] != nil {
			sum.Faults = append(sum.Faults, queue.Fault{Subject: fmt.Sprintf("cell %d", m.cell.ID), Err: errs[i]})
			continue
		}
		addStep(&sum, results[i])
	}
	return sum, nil
}

// addStep adds a step of one cell to the sum.
func addStep(sum *queue.Maintained, m queue.Maintained) {
	sum.Moved += m.Moved
	sum.More = sum.More || m.More
	// 0 means not known, so it is not the earliest.
	if m.NextIn > 0 && (sum.NextIn == 0 || m.NextIn < sum.NextIn) {
		sum.NextIn = m.NextIn
	}
	sum.Lag = max(sum.Lag, m.Lag)
	sum.Woken = append(sum.Woken, m.Woken...)
	for status, n := range m.Moves {
		if sum.Moves == nil {
			sum.Moves = map[queue.Status]int{}
		}
		sum.Moves[status] += n
	}
	sum.Tallies.Merge(m.Tallies)
	sum.Quarantined.Merge(m.Quarantined)
	sum.Ticks = append(sum.Ticks, m.Ticks...)
	sum.Faults = append(sum.Faults, m.Faults...)
}

func (m *member) isSuspect() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.suspect != nil
}

func (m *member) setSuspect(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.suspect = err
}

// maintainApart starts a step that no other cell waits for, at most one of a chore, and returns the result of the last one. Until
// there is one, the fault of the step before stays.
func (m *member) maintainApart(s *Store, chore queue.Chore, store queue.Store) (queue.Maintained, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	var last queue.Maintained
	if r := m.running[chore]; r != nil {
		select {
		case <-r.over:
			last, m.suspect = r.result, r.err
		default:
			return last, m.suspect // it still runs
		}
	}

	r := &step{over: make(chan struct{})}
	m.running[chore] = r
	started := s.start(func() {
		// The context of the store, because the caller has its answer long before this step ends.
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		defer cancel()
		r.result, r.err = store.Maintain(ctx, chore)
		close(r.over)
	})
	if !started {
		delete(m.running, chore)
	}
	return last, m.suspect
}
