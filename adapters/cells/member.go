package cells

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// member is one cell and its Store, once that is open.
type member struct {
	owner *Store

	opening sync.Mutex // one attempt to open at a time

	mu      sync.Mutex
	cell    queue.Cell
	store   queue.Store // nil until it is open
	failed  error       // of the last attempt to open
	retryAt time.Time
	suspect bool // its last step of background work failed
	running map[queue.Chore]*step
}

// step is a step of background work that goes on by itself.
type step struct {
	over   chan struct{}
	result queue.Maintained // valid once over is closed
	err    error
}

// opened returns the Store, or nil.
func (m *member) opened() queue.Store {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.store
}

func (m *member) state() queue.CellState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cell.State
}

// change takes over a changed row of the directory. Another URL, schema or home closes the Store; the next call opens it again.
func (m *member) change(c queue.Cell) {
	m.mu.Lock()
	defer m.mu.Unlock()
	same := m.cell
	same.State = c.State
	if same != c && m.store != nil {
		old := m.store
		m.store, m.failed, m.retryAt = nil, nil, time.Time{}
		m.owner.work.Go(func() { closeStore(old) })
	}
	m.cell = c
}

// use returns the Store of the cell and opens it if need be. While a cell is down, at most one attempt a second is made.
func (m *member) use(ctx context.Context) (queue.Store, error) {
	if store, err, known := m.present(); known {
		return store, err
	}

	m.opening.Lock()
	defer m.opening.Unlock()
	if store, err, known := m.present(); known { // another caller has tried meanwhile
		return store, err
	}

	m.mu.Lock()
	cell := m.cell
	m.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	store, err := m.owner.open(ctx, cell)

	if err == nil {
		m.owner.adoptNamespaces(ctx, m, store)
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failed, m.retryAt = m.name(asUnavailable(err)), time.Now().Add(reopenPause)
		return nil, m.failed
	}
	m.store, m.failed = store, nil
	return store, nil
}

// present returns the open Store, or the error of an attempt less than reopenPause ago.
func (m *member) present() (store queue.Store, err error, known bool) { //nolint:revive // the error is a remembered one
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store != nil {
		return m.store, nil, true
	}
	return nil, m.failed, m.failed != nil && time.Now().Before(m.retryAt)
}

func (m *member) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store != nil {
		closeStore(m.store)
		m.store = nil
	}
}

// closeStore closes a Store that can be closed.
func closeStore(s queue.Store) {
	if c, ok := s.(interface{ Close() }); ok {
		c.Close()
	}
}

// asUnavailable makes the refusal of a whole cell an error that a repeat may cure.
func asUnavailable(err error) error {
	if queue.KindOf(err) == queue.KindUnavailable || queue.KindOf(err) == queue.KindDeadline || queue.KindOf(err) == queue.KindCanceled {
		return err
	}
	return &queue.Error{Kind: queue.KindUnavailable, Msg: err.Error(), Err: err}
}

// name puts the name of the cell into an error about the cell as a whole.
func (m *member) name(err error) error {
	e, ok := errors.AsType[*queue.Error](err)
	if !ok || e.Kind != queue.KindUnavailable && e.Kind != queue.KindIndeterminate && e.Kind != queue.KindDeadline {
		return err
	}

	named := *e
	named.Subject = fmt.Sprintf("cell %d", m.cell.ID)
	if e.Subject != "" && e.Subject != named.Subject {
		named.Subject += ", " + e.Subject
	}
	return &named
}

// call runs do on the Store of the cell that has a namespace.
func call[R any](ctx context.Context, s *Store, namespace string, do func(queue.Store) (R, error)) (R, error) {
	var none R
	m, err := s.place(ctx, namespace)
	if err != nil {
		return none, err
	}
	store, err := m.use(ctx)
	if err != nil {
		return none, err
	}
	result, err := do(store)
	return result, m.name(err)
}

// callEach runs do on all cells side by side, and returns the results and errors by the order of ids.
func callEach[R any](ctx context.Context, s *Store, do func(context.Context, *member, queue.Store) (R, error)) ([]*member, []R, []error) {
	s.refresh(ctx)
	all := s.all()
	results, errs := make([]R, len(all)), make([]error, len(all))

	var calls sync.WaitGroup
	for i, m := range all {
		calls.Go(func() {
			store, err := m.use(ctx)
			if err == nil {
				results[i], err = do(ctx, m, store)
			}
			errs[i] = m.name(err)
		})
	}
	calls.Wait()
	return all, results, errs
}
