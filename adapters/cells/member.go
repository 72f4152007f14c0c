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

	mu      sync.Mutex
	cell    queue.Cell
	store   queue.Store // nil until it is open
	opening *attempt    // at most one at a time
	failed  error       // of the last attempt to open
	retryAt time.Time
	silent  bool  // the last attempt got no answer
	fault   error // of the last list of all cells: the log names a change once
	suspect error // of its last step of background work; nil = it went well
	running map[queue.Chore]*step
}

// step is a step of background work that goes on by itself.
type step struct {
	over   chan struct{}
	result queue.Maintained // valid once over is closed
	err    error
}

// opened returns the Store; nil while the cell is not open.
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
	expected := m.cell
	// A closed cell goes on with its namespaces, so the state needs no other connection.
	expected.State = c.State
	if expected != c && m.store != nil {
		old := m.store
		m.store, m.failed, m.retryAt, m.silent = nil, nil, time.Time{}, false
		// In a goroutine: a close waits for calls under way, and the lock of the member must not.
		if !m.owner.start(func() { closeStore(old) }) {
			closeStore(old)
		}
	}
	m.cell = c
}

// attempt is one attempt to open a cell.
type attempt struct {
	over  chan struct{}
	store queue.Store // valid once over is closed, as err is
	err   error
}

// use returns the Store of the cell and opens it if need be. While a cell is down, at most one attempt a second is made. An
// attempt belongs to no caller: each waits for it until its own ctx ends. No caller waits for a cell that gave no answer the
// last time.
func (m *member) use(ctx context.Context) (queue.Store, error) {
	try, store, err := m.openOnce()
	if try == nil {
		return store, err
	}

	select {
	case <-try.over:
		return try.store, try.err
	case <-ctx.Done():
		return nil, m.name(queue.ContextError(ctx.Err()))
	}
}

// openOnce returns the open Store, the error of a recent attempt, or the attempt that a caller has to wait for.
func (m *member) openOnce() (*attempt, queue.Store, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store != nil {
		return nil, m.store, nil
	}
	if m.failed != nil && m.opening == nil && time.Now().Before(m.retryAt) {
		return nil, nil, m.failed
	}

	if m.opening == nil {
		try := &attempt{over: make(chan struct{})}
		if !m.owner.start(func() { m.open(try) }) {
			return nil, nil, m.name(&queue.Error{Kind: queue.KindUnavailable, Msg: "the program is shutting down; repeat the call elsewhere"})
		}
		m.opening = try
	}
	if m.silent {
		return nil, nil, m.failed
	}
	return m.opening, nil, nil
}

// open makes an attempt to open the cell.
func (m *member) open(try *attempt) {
	m.mu.Lock()
	cell := m.cell
	m.mu.Unlock()

	ctx, cancel := context.WithTimeout(m.owner.ctx, openTimeout)
	defer cancel()
	store, err := m.owner.open(ctx, cell)
	if err == nil {
		m.owner.adoptNamespaces(ctx, m, store)
	}
	// A refusal comes at once. Silence costs each caller the whole timeout, so the next ones do not wait.
	isSilent := err != nil && ctx.Err() != nil

	m.mu.Lock()
	defer m.mu.Unlock()
	m.opening = nil
	if expected := m.cell; err == nil {
		expected.State = cell.State
		if expected != cell { // its row has changed meanwhile
			closeStore(store)
			err = &queue.Error{Kind: queue.KindUnavailable, Msg: "its row in the directory has changed; repeat the call"}
		}
	}
	switch {
	case err != nil:
		m.failed, m.retryAt, m.silent = m.name(asUnavailable(err)), time.Now().Add(reopenPause), isSilent
		try.err = m.failed
	default:
		m.store, m.failed, m.silent = store, nil, false
		try.store = store
	}
	close(try.over)
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
	// An error may pass here twice, from the opening and from the call.
	if e.Subject != "" && e.Subject != named.Subject {
		named.Subject += ", " + e.Subject
	}
	return &named
}

// call runs do on the Store of the cell that has a namespace.
func (s *Store) call(ctx context.Context, namespace string, do func(queue.Store) error) error {
	m, err := s.place(ctx, namespace)
	if err != nil {
		return err
	}
	store, err := m.use(ctx)
	if err != nil {
		return err
	}
	return m.name(do(store))
}

// callEach runs do on all cells side by side, and returns the results and errors by the order of ids. Each cell has a part of
// the time of ctx, at most most, so that the others answer beside one that is silent.
func callEach[R any](ctx context.Context, s *Store, most time.Duration, do func(context.Context, *member, queue.Store) (R, error)) ([]*member, []R, []error) {
	s.refresh(ctx)
	all := s.all()
	results, errs := make([]R, len(all)), make([]error, len(all))
	within := min(most, partOf(ctx, answerTimeout))

	var calls sync.WaitGroup
	for i, m := range all {
		calls.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			// The opening counts too: a cell that is down uses up its own part of the time.
			store, err := m.use(bounded)
			if err == nil {
				results[i], err = do(bounded, m, store)
			}
			if err != nil && bounded.Err() != nil && ctx.Err() == nil {
				err = &queue.Error{
					Kind: queue.KindUnavailable, Err: err,
					Msg: fmt.Sprintf("the cell gave no answer within %s; look at its server", within.Round(time.Millisecond)),
				}
			}
			errs[i] = m.name(err)
		})
	}
	calls.Wait()
	return all, results, errs
}

// partOf returns three quarters of the time that ctx has left, because the rest is for what the caller does with the answers. It
// returns without for a ctx that has no deadline.
func partOf(ctx context.Context, without time.Duration) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return time.Until(end) / 4 * 3
	}
	return without
}

// logChanges logs the cells that a list of all cells lacks, once, and those that answer again. The list itself cannot name them.
func logChanges(ctx context.Context, all []*member, errs []error) {
	for i, m := range all {
		m.logChange(ctx, errs[i])
	}
}

func (m *member) logChange(ctx context.Context, err error) {
	m.mu.Lock()
	before := m.fault
	m.fault = err
	m.mu.Unlock()

	switch {
	case err != nil && before == nil:
		m.owner.logger.WarnContext(ctx, "a cell does not answer; lists of all cells leave it out", "cell", m.cell.ID, "error", err)
	case err == nil && before != nil:
		m.owner.logger.InfoContext(ctx, "a cell answers again", "cell", m.cell.ID)
	}
}
