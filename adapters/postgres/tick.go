package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schedule"
)

const (
	tickStep  = 200         // tickers of one step
	ticksKept = 100         // a ticker
	tickPrune = time.Minute // between two looks for older ones
)

// firing gathers the ticks of a transaction: the tick, its task and the ticker's plan are written together or not at all.
type firing struct {
	now     time.Time
	ticks   []queue.Tick
	tickers []int32 // beside ticks
	tasks   map[string][]pendingTask
	plans   struct {
		ids    []int32
		lastAt []*time.Time
		nextAt []*time.Time
	}
	lag   time.Duration
	birth []*birth
}

// pendingTask is the task of the tick at place.
type pendingTask struct {
	place int
	task  queue.NewTask
}

// due fires k for the times that its misfire policy leaves, and plans its next.
func (f *firing) due(k *storedTicker, unfinished bool) error {
	sch, err := k.Schedule()
	if err != nil {
		return err
	}
	f.lag = max(f.lag, f.now.Sub(k.NextAt))
	out := sch.Due(k.Anchor, k.NextAt.Add(-time.Microsecond), f.now, schedule.Policy{
		Misfire: schedule.Misfire(k.Misfire), Limit: k.MisfireLimit,
	})
	var last *time.Time
	for _, at := range out.Fires {
		f.fire(k, at, false, unfinished)
		unfinished = unfinished || k.Overlap == queue.OverlapSkip // the tick before it is not finished yet
		last = timePtr(micros(at))
	}
	f.plans.ids = append(f.plans.ids, k.id)
	f.plans.lastAt, f.plans.nextAt = append(f.plans.lastAt, last), append(f.plans.nextAt, timePtr(micros(out.Next)))
	return nil
}

// fire adds one tick, with its task when k has a queue.
func (f *firing) fire(k *storedTicker, at time.Time, manual, unfinished bool) {
	tick := queue.Tick{
		Namespace: k.Namespace, Ticker: k.Name, At: micros(at), FiredAt: f.now, Manual: manual, Payload: k.Payload, Queue: k.Queue,
		Period: k.Period, Cron: k.Cron,
	}
	if k.Queue != "" {
		tick.Skipped = !manual && k.Overlap == queue.OverlapSkip && unfinished
		if !tick.Skipped {
			if f.tasks == nil {
				f.tasks = map[string][]pendingTask{}
			}
			f.tasks[k.Namespace] = append(f.tasks[k.Namespace], pendingTask{
				place: len(f.ticks), task: queue.NewTask{Queue: k.Queue, TaskMeta: queue.TaskMeta{Payload: k.Payload}},
			})
		}
	}
	f.ticks = append(f.ticks, tick)
	f.tickers = append(f.tickers, k.id)
}

// write creates the tasks and queues the ticks and plans. A tick whose queue is gone is skipped.
func (f *firing) write(ctx context.Context, t *tx, s *Store) error {
	queueIDs := make([]*int32, len(f.ticks))
	for namespace, pending := range f.tasks {
		c := queue.Create{Namespace: namespace}
		for _, p := range pending {
			c.Tasks = append(c.Tasks, p.task)
		}
		b, err := s.create(ctx, t, c, keysWait)
		f.birth = append(f.birth, b)
		if err != nil {
			return err
		}
		byID := map[int64]int32{}
		for _, r := range b.rows {
			byID[r.task.ID] = r.q.id
		}
		for i, p := range pending {
			made := b.out[i]
			if made.Err != nil {
				f.ticks[p.place].Skipped = true
				continue
			}
			q := byID[made.Task.ID]
			queueIDs[p.place], f.ticks[p.place].TaskID = &q, made.Task.ID
		}
	}
	n := len(f.ticks)
	if n > 0 {
		var (
			ats, fired      = make([]time.Time, n), make([]time.Time, n)
			tasks           = make([]*int64, n)
			skipped, manual = make([]bool, n), make([]bool, n)
			held            = make([]*time.Time, n)
			payloads        = make([][]byte, n)
		)
		for i := range f.ticks {
			tick := &f.ticks[i]
			ats[i], fired[i], skipped[i], manual[i], payloads[i] = tick.At, f.now, tick.Skipped, tick.Manual, tick.Payload
			if tick.TaskID != 0 {
				tasks[i] = &tick.TaskID
			}
			if tick.Queue == "" {
				held[i] = &f.now // for a listener, held by nobody yet
			}
		}
		i := 0
		t.queueRows("tick.insert", func(rows pgx.Rows) error {
			err := rows.Scan(&f.ticks[i].ID)
			i++
			return err
		}, f.tickers, ats, fired, queueIDs, tasks, skipped, manual, held, payloads)
	}
	if len(f.plans.ids) > 0 {
		t.queue("ticker.plan", f.plans.ids, f.plans.lastAt, f.plans.nextAt)
	}
	return nil
}

// readDue locks due tickers and fires them.
func (f *firing) readDue(ctx context.Context, t *tx, name string, args ...any) (int, error) {
	type dueTicker struct {
		k    *storedTicker
		last *int64
	}
	var all []dueTicker
	err := t.read(ctx, name, func(rows pgx.Rows) error {
		d := dueTicker{k: &storedTicker{}}
		err := d.k.scan(rows, &f.now, &d.last)
		all = append(all, d)
		return err
	}, args...)
	f.now = f.now.UTC()
	for _, d := range all {
		if err == nil {
			err = f.due(d.k, d.last != nil)
		}
	}
	return len(all), err
}

// committed lets the store know what f's tasks changed.
func (f *firing) committed(s *Store) (woken []queue.Wake) {
	for _, b := range f.birth {
		s.lanes.confirm(b.lanes, b.era)
		woken = append(woken, b.woken...)
	}
	s.notify.ready(woken)
	return woken
}

// inFiring runs do in a transaction, again after making partitions when its tasks need them.
func (s *Store) inFiring(ctx context.Context, op string, do func(ctx context.Context, t *tx, f *firing) error) (*firing, error) {
	for {
		var f *firing
		err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
			f = &firing{}
			return do(ctx, t, f)
		})
		if needPartition(err) {
			if err := s.extend(ctx, f.birth[len(f.birth)-1]); err != nil {
				return nil, err
			}
			continue
		}
		return f, quietly(err)
	}
}

// tick fires due tickers that have a queue.
func (s *Store) tick(ctx context.Context) (queue.Maintained, error) {
	var out queue.Maintained
	f, err := s.inFiring(ctx, "fire tickers", func(ctx context.Context, t *tx, f *firing) error {
		out = queue.Maintained{}
		n, err := f.readDue(ctx, t, "ticker.due", tickStep)
		if err != nil {
			return err
		}
		out.Moved, out.More = n, n == tickStep
		if n > 0 {
			if err := f.write(ctx, t, s); err != nil {
				return err
			}
		}
		t.queueRows("ticker.next", nextIn(&out))
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Lag, out.Woken, out.Ticks = f.lag, f.committed(s), f.ticks
	for i := range f.ticks {
		if k := &f.ticks[i]; k.TaskID != 0 {
			out.Tallies.Add(k.Namespace, k.Queue, "", queue.StatusNew, 1)
		}
	}
	return out, nil
}

// RunTicker implements queue.Store.
func (s *Store) RunTicker(ctx context.Context, namespace, name string) (*queue.Tick, error) {
	const op = "run ticker"
	f, err := s.inFiring(ctx, op, func(ctx context.Context, t *tx, f *firing) error {
		k, now, err := lockTicker(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		if err := s.checkTarget(ctx, &k.Ticker); err != nil {
			return err
		}
		f.now = now
		f.fire(k, now, true, false)
		return f.write(ctx, t, s)
	})
	if err != nil {
		return nil, err
	}
	f.committed(s)
	return &f.ticks[0], nil
}

// ListTicks implements queue.Store.
func (s *Store) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	if _, err := s.GetTicker(ctx, namespace, name); err != nil {
		return nil, err
	}
	ticks := []queue.Tick{}
	err := s.query(ctx, "list ticks", "tick.list", scanTicks(&ticks), namespace, name, limit, queue.MaxPageBytes)
	return ticks, err
}

func scanTicks(into *[]queue.Tick) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var k queue.Tick
		err := rows.Scan(&k.ID, &k.At, &k.FiredAt, &k.TaskID, &k.Skipped, &k.Manual, (*[]byte)(&k.Payload), &k.Namespace, &k.Ticker, &k.Queue,
			&k.Period, &k.Cron)
		k.At, k.FiredAt = k.At.UTC(), k.FiredAt.UTC()
		*into = append(*into, k)
		return err
	}
}

// TakeTicks implements queue.Store. Tickers without a queue fire when somebody looks, so a time without listeners is a
// downtime under their misfire policy.
func (s *Store) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	var ticks []queue.Tick
	var next queue.Maintained
	_, err := s.inFiring(ctx, "take ticks", func(ctx context.Context, t *tx, f *firing) error {
		ticks, next = []queue.Tick{}, queue.Maintained{}
		if _, err := f.readDue(ctx, t, "ticker.due.listen", tickStep, namespace); err != nil {
			return err
		}
		if err := f.write(ctx, t, s); err != nil {
			return err
		}
		if err := t.flush(ctx); err != nil {
			return err
		}
		t.queueRows("tick.take", scanTicks(&ticks), namespace, limit, int64(hold))
		return t.read(ctx, "ticker.next.listen", nextIn(&next), namespace)
	})
	if err != nil {
		return nil, 0, err
	}
	return ticks, next.NextIn, nil
}

// SettleTicks implements queue.Store.
func (s *Store) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	if len(ids) == 0 {
		return nil
	}
	return s.inTx(ctx, "settle ticks", func(_ context.Context, t *tx) error {
		t.queue("tick.settle", namespace, ids, delivered)
		return nil
	})
}

// pruneTicks keeps the history of tickers short.
func (s *Store) pruneTicks(ctx context.Context) (int, bool, error) {
	s.floors.mu.Lock()
	due := time.Since(s.ticksPruned) >= tickPrune
	s.floors.mu.Unlock()
	if !due {
		return 0, false, nil
	}
	n := 0
	err := s.inTx(ctx, "prune ticks", func(ctx context.Context, t *tx) error {
		t.batch.Queue(t.sql.get("tick.prune"), ticksKept, pruneStep)
		return nil
	})
	s.floors.mu.Lock()
	s.ticksPruned = time.Now()
	s.floors.mu.Unlock()
	return n, false, err
}
