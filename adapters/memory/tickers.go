package memory

import (
	"bytes"
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schedule"
)

// ticker is a ticker and what the store knows beside it.
type ticker struct {
	queue.Ticker
	in        *heap[*ticker] // where it waits for its next time; nil when it has none
	place     int
	dueAt     time.Time    // when to look at it: NextAt; later after a fault, or now in a long catch-up
	plannedAt time.Time    // when NextAt was computed
	lastTask  int64        // of the last tick that became one
	ticks     []queue.Tick // the last maxTicks, oldest first
}

// maxTicks bounds the history of a ticker.
const maxTicks = 100

func newTickerHeap() heap[*ticker] {
	return newHeap(func(a, b *ticker) bool { return a.dueAt.Before(b.dueAt) }, func(t *ticker) *int { return &t.place })
}

// copyTicker is the ticker as a caller gets it.
func (t *ticker) copyTicker() *queue.Ticker {
	v := t.Ticker
	v.Payload = bytes.Clone(v.Payload)
	return &v
}

// planNextTick says when t fires next, after settled, and puts it where that is found.
func (s *Store) planNextTick(sp *namespaceState, t *ticker, sch schedule.Schedule, settled time.Time) {
	var next time.Time
	if !t.Paused {
		next, _ = sch.Next(t.Anchor, settled)
	}
	t.plannedAt = settled
	s.scheduleTicker(sp, t, next)
}

// scheduleTicker sets the time of the next tick, at which the store looks at t again.
func (s *Store) scheduleTicker(sp *namespaceState, t *ticker, next time.Time) {
	s.scheduleTickerAt(sp, t, next, next)
}

// scheduleTickerAt has t wait for its next time, and looked at then or, after a fault, later.
func (s *Store) scheduleTickerAt(sp *namespaceState, t *ticker, next, dueAt time.Time) {
	// The heap is ordered by dueAt, so the ticker must be out of it while that changes.
	if t.in != nil {
		t.in.removeItem(t)
		t.in = nil
	}

	t.NextAt, t.dueAt = next, dueAt
	if next.IsZero() {
		return
	}

	t.in = &sp.firing
	if t.Queue != "" {
		t.in = &s.firing
	}

	t.in.pushItem(t)
}

// CreateTicker stores t; its times are counted from now.
func (s *Store) CreateTicker(ctx context.Context, t queue.Ticker) (*queue.Ticker, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	// Before anything is written: a schedule that cannot be read leaves no ticker behind.
	sch, err := t.Schedule()
	if err != nil {
		return nil, err
	}

	if t.Queue != "" && s.findNamespace(t.Namespace).queues[t.Queue] == nil {
		return nil, queue.NotFoundQueue(t.Queue)
	}

	sp := s.openNamespace(t.Namespace)
	if sp.tickers[t.Name] != nil {
		return nil, &queue.Error{Kind: queue.KindAlreadyExists, Subject: "ticker " + t.Name, Msg: "a ticker of that name exists; choose another name or update it"}
	}

	t.Payload = bytes.Clone(t.Payload)
	t.Anchor, t.CreatedAt, t.UpdatedAt = now, now, now
	own := &ticker{Ticker: t}
	sp.tickers[t.Name] = own
	sp.ticking = insertSorted(sp.ticking, t.Name)
	s.planNextTick(sp, own, sch, now)
	return own.copyTicker(), nil
}

// GetTicker returns a ticker, or KindNotFound.
func (s *Store) GetTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	t, err := s.findNamespace(namespace).findTicker(name)
	if err != nil {
		return nil, err
	}
	return t.copyTicker(), nil
}

// findTicker returns the ticker called name, if it has the required version.
func (sp *namespaceState) findTicker(name string, only ...queue.IfVersion) (*ticker, error) {
	t := sp.tickers[name]
	if t == nil {
		return nil, queue.NotFoundTicker(name)
	}
	return t, queue.CheckVersion("ticker "+name, t.Version, only...)
}

// ListTickers returns a page in the order of names.
func (s *Store) ListTickers(ctx context.Context, namespace string, p queue.Page) (queue.TickerPage, error) {
	p, err := p.Normalize()
	if err != nil {
		return queue.TickerPage{}, err
	}

	if _, err := s.lockStore(ctx); err != nil {
		return queue.TickerPage{}, err
	}

	defer s.mu.Unlock()

	sp := s.findNamespace(namespace)
	page := queue.TickerPage{Tickers: []*queue.Ticker{}, Count: int64(len(sp.ticking))}
	names := p.Skip(sp.ticking)
	for _, name := range names[:p.Cut(len(names), func(i int) int { return len(sp.tickers[names[i]].Payload) })] {
		page.Tickers = append(page.Tickers, sp.tickers[name].copyTicker())
	}

	if n := len(page.Tickers); n > 0 && n < len(names) {
		page.Next = names[n-1]
	}

	return page, nil
}

// UpdateTicker applies meta to the present ticker. A new schedule counts from now, after what was due by the old one has
// fired, and so does one that is resumed: ticks that a pause suppressed are not made up.
func (s *Store) UpdateTicker(ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int) (*queue.Ticker, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	sp := s.findNamespace(namespace)
	t, err := sp.findTicker(name, queue.IfVersion(meta.IfVersion))
	if err != nil {
		return nil, err
	}

	next, err := t.Ticker.With(meta, maxPayloadBytes)
	if err != nil {
		return nil, err
	}

	if next.Queue != "" && next.Queue != t.Queue && sp.queues[next.Queue] == nil {
		return nil, queue.NotFoundQueue(next.Queue)
	}

	old := t.Ticker
	anew := !next.SameSchedule(&old)
	var planned *schedule.Schedule
	if !next.Paused && (anew || old.Paused) {
		sch, err := next.Schedule()
		if err != nil {
			return nil, err
		}
		planned = &sch
	}

	if anew {
		s.fireOldSchedule(sp, t, now)
		// The old schedule may just have fired, and next was made before that.
		next.Timestamp = t.Timestamp
	}

	next.Payload = bytes.Clone(next.Payload)
	next.Version++
	next.UpdatedAt = now
	// The update may have repaired it; the next look writes it again otherwise.
	next.Fault = ""
	t.Ticker = next
	if anew {
		t.Anchor = now
	}
	s.placeTicker(sp, t, planned, now)
	return t.copyTicker(), nil
}

// placeTicker plans the next tick of an updated ticker, by a schedule that counts from now or by the present plan.
func (s *Store) placeTicker(sp *namespaceState, t *ticker, planned *schedule.Schedule, now time.Time) {
	switch {
	case planned != nil:
		s.planNextTick(sp, t, *planned, now)
	case t.Paused:
		s.scheduleTicker(sp, t, time.Time{})
	default:
		s.scheduleTicker(sp, t, t.NextAt) // the queue may be another, and with it the heap
	}
}

// fireOldSchedule fires the ticks of t that are due by its schedule before an update.
func (s *Store) fireOldSchedule(sp *namespaceState, t *ticker, now time.Time) {
	for more := true; more && t.in != nil && !t.NextAt.After(now); {
		budget := queue.NewTickBudget()
		// A ticker that cannot fire accepts the update all the same, because the update may repair it.
		_, more, _ = s.fireMissedTicks(sp, t, now, &budget, 1)
	}
}

// DeleteTicker deletes a ticker and its ticks; tasks that it made stay.
func (s *Store) DeleteTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	sp := s.findNamespace(namespace)
	t, err := sp.findTicker(name, only...)
	if err != nil {
		return nil, err
	}

	v := t.copyTicker()
	s.scheduleTicker(sp, t, time.Time{})
	delete(sp.tickers, name)
	sp.ticking = removeSorted(sp.ticking, name)
	sp.forgetTicks(name)
	return v, nil
}
