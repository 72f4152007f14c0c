package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	ticksKept = 100         // a ticker
	tickPrune = time.Minute // between two looks for older ones
)

// firing gathers the ticks of a transaction: the tick, its task and the ticker's plan are written together or not at all.
type firing struct {
	now     time.Time
	budget  queue.TickBudget
	read    []*storedTicker // that were due
	more    bool            // some has more to fire, or was left out
	ticks   []queue.Tick
	tickers []*storedTicker // beside ticks
	tasks   map[string][]pendingTask
	planned []*plannedTicker
	faulty  []*storedTicker // could not be planned
	lag     time.Duration
	birth   []*birth
}

func newFiring() *firing { return &firing{budget: queue.NewTickBudget()} }

// pendingTask is the task of the tick at place.
type pendingTask struct {
	place int
	task  queue.NewTask
}

// plannedTicker is what a ticker is after its ticks.
type plannedTicker struct {
	k           *storedTicker
	fires       []time.Time
	next, dueAt time.Time
}

// plan decides which times of k fire now; n tickers, k included, share what is left of the budget. A ticker that has none
// of its own fault is planned, any other is left for ticker.fault.
func (f *firing) plan(k *storedTicker, n int) {
	f.lag = max(f.lag, f.now.Sub(k.NextAt))
	fires, next, more, err := f.budget.Fires(&k.Ticker, f.now, n)
	if err != nil {
		k.fail(err)
		f.faulty = append(f.faulty, k)
		return
	}
	p := &plannedTicker{k: k, fires: fires, next: next, dueAt: next}
	if more { // behind those that were not looked at
		p.dueAt, f.more = f.now, true
	}
	f.planned = append(f.planned, p)
}

// fireAll makes the ticks of what is planned. Nominal times at or before the last tick come up again after a clock went back:
// those that have fired do not fire twice.
func (f *firing) fireAll(ctx context.Context, t *tx) error {
	var ids []int32
	var ats []time.Time
	for _, p := range f.planned {
		for _, at := range p.fires {
			if at = micros(at); !at.After(p.k.Timestamp) {
				ids, ats = append(ids, p.k.id), append(ats, at)
			}
		}
	}
	type firedAt struct {
		id int32
		at int64
	}
	fired := map[firedAt]bool{}
	if len(ids) > 0 {
		err := t.read(ctx, "tick.fired", func(rows pgx.Rows) error {
			var id int32
			var at time.Time
			err := rows.Scan(&id, &at)
			fired[firedAt{id, at.UnixMicro()}] = true
			return err
		}, ids, ats)
		if err != nil {
			return err
		}
	}
	for _, p := range f.planned {
		for _, at := range p.fires {
			if at = micros(at); !fired[firedAt{p.k.id, at.UnixMicro()}] {
				f.fire(p.k, at, false)
			}
		}
	}
	return nil
}

// fire adds one tick, with its task when k has a queue.
func (f *firing) fire(k *storedTicker, at time.Time, manual bool) {
	tick := queue.Tick{
		Namespace: k.Namespace, Ticker: k.Name, At: micros(at), FiredAt: f.now, Manual: manual, Payload: k.Payload, Queue: k.Queue,
		Period: k.Period, Cron: k.Cron,
	}
	if k.Queue != "" {
		skips := !manual && k.Overlap == queue.OverlapSkip
		if tick.Skipped = skips && k.unfinished; !tick.Skipped {
			if f.tasks == nil {
				f.tasks = map[string][]pendingTask{}
			}
			f.tasks[k.Namespace] = append(f.tasks[k.Namespace], pendingTask{
				place: len(f.ticks), task: queue.NewTask{Queue: k.Queue, TaskMeta: queue.TaskMeta{Payload: k.Payload}},
			})
		}
		k.unfinished = k.unfinished || skips // the tick before the next is not finished yet
	}
	f.ticks = append(f.ticks, tick)
	f.tickers = append(f.tickers, k)
}

// write creates the tasks and queues the ticks and plans. A tick whose queue is gone is skipped, and its ticker's fault says
// so.
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
			made, k := b.out[i], f.tickers[p.place]
			if made.Err != nil {
				f.ticks[p.place].Skipped = true
				k.fail(made.Err)
				continue
			}
			q := byID[made.Task.ID]
			queueIDs[p.place], f.ticks[p.place].TaskID = &q, made.Task.ID
			k.lastQueue, k.lastTask = &q, &made.Task.ID
		}
	}
	f.insertTicks(t, queueIDs)
	f.queuePlans(t)
	return nil
}

func (f *firing) insertTicks(t *tx, queueIDs []*int32) {
	n := len(f.ticks)
	if n == 0 {
		return
	}
	var (
		tickers         = make([]int32, n)
		ats, fired      = make([]time.Time, n), make([]time.Time, n)
		tasks           = make([]*int64, n)
		skipped, manual = make([]bool, n), make([]bool, n)
		held            = make([]*time.Time, n)
		payloads        = make([][]byte, n)
	)
	for i := range f.ticks {
		tick := &f.ticks[i]
		tickers[i], ats[i], fired[i], skipped[i], manual[i] = f.tickers[i].id, tick.At, f.now, tick.Skipped, tick.Manual
		if tick.TaskID != 0 {
			tasks[i] = &tick.TaskID
		}
		if tick.Queue == "" {
			held[i] = &f.now // for a listener, held by nobody yet
			payloads[i] = tick.Payload
		}
	}
	i := 0
	t.queueRows("tick.insert", func(rows pgx.Rows) error {
		err := rows.Scan(&f.ticks[i].ID)
		i++
		return err
	}, tickers, ats, fired, queueIDs, tasks, skipped, manual, held, payloads)
}

// queuePlans writes what the planned tickers are now, and lets the faulty ones rest.
func (f *firing) queuePlans(t *tx) {
	if n := len(f.planned); n > 0 {
		var (
			ids           = make([]int32, n)
			lasts, nexts  = make([]*time.Time, n), make([]*time.Time, n)
			dues          = make([]*time.Time, n)
			queues, tasks = make([]*int32, n), make([]*int64, n)
			faults        = make([]string, n)
		)
		for i, p := range f.planned {
			ids[i], nexts[i], dues[i] = p.k.id, timePtr(micros(p.next)), timePtr(micros(p.dueAt))
			queues[i], tasks[i], faults[i] = p.k.lastQueue, p.k.lastTask, p.k.faultText()
			if n := len(p.fires); n > 0 {
				lasts[i] = timePtr(micros(p.fires[n-1]))
			}
		}
		t.queue("ticker.plan", ids, lasts, nexts, dues, queues, tasks, f.now, faults)
	}
	if len(f.faulty) > 0 {
		ids, faults := make([]int32, len(f.faulty)), make([]string, len(f.faulty))
		for i, k := range f.faulty {
			ids[i], faults[i] = k.id, k.faultText()
		}
		t.queue("ticker.fault", ids, faults, int64(queue.TickFaultRest))
	}
}

// readDue locks due tickers, those that a statement gives, and plans them.
func (f *firing) readDue(ctx context.Context, t *tx, name string, args ...any) error {
	bytes := 0
	err := t.read(ctx, name, func(rows pgx.Rows) error {
		k := &storedTicker{}
		err := k.scan(rows, &f.now, &k.unfinished)
		f.read = append(f.read, k)
		bytes += len(k.Payload)
		return err
	}, args...)
	if err != nil {
		return err
	}
	f.now = f.now.UTC()
	f.more = len(f.read) >= queue.MaxStepTickers || bytes >= queue.MaxStepTickBytes
	for i, k := range f.read {
		f.plan(k, len(f.read)-i)
	}
	return f.fireAll(ctx, t)
}

// faults are the tickers that did not fire, or made no task.
func (f *firing) faults() []queue.Fault {
	var all []queue.Fault
	for _, k := range f.read {
		if k.err != nil {
			all = append(all, k.told())
		}
	}
	return all
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

// inFiring runs do in a transaction, again after making partitions when its tasks need them. What it returns beside an error
// is how far do came.
func (s *Store) inFiring(ctx context.Context, op string, do func(ctx context.Context, t *tx, f *firing) error) (*firing, error) {
	for {
		var f *firing
		err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
			f = newFiring()
			return do(ctx, t, f)
		})
		if needPartition(err) {
			if err := s.extend(ctx, f.birth[len(f.birth)-1]); err != nil {
				return f, err
			}
			continue
		}
		return f, quietly(err)
	}
}

// tick fires due tickers that have a queue. When the database refuses the whole, each is tried by itself, so that the one
// at fault is found, named and left alone for a while, and the others fire.
func (s *Store) tick(ctx context.Context) (queue.Maintained, error) {
	const op = "fire tickers"
	var next queue.Maintained
	f, err := s.inFiring(ctx, op, func(ctx context.Context, t *tx, f *firing) error {
		next = queue.Maintained{}
		if err := f.readDue(ctx, t, "ticker.due", queue.MaxStepTickers, queue.MaxStepTickBytes); err != nil {
			return err
		}
		if err := f.write(ctx, t, s); err != nil {
			return err
		}
		t.queueRows("ticker.next", nextIn(&next))
		return nil
	})
	if err == nil {
		return s.fired(f, next.NextIn), nil
	}
	if !ofItsRows(ctx, err) || f == nil || len(f.read) == 0 {
		return queue.Maintained{}, err
	}
	var out queue.Maintained
	for _, k := range f.read {
		one, err := s.fireOne(ctx, op, k)
		if err != nil {
			return out, err
		}
		out.Moved += one.Moved
		out.Lag = max(out.Lag, one.Lag)
		out.More = out.More || one.More
		out.Woken, out.Ticks = append(out.Woken, one.Woken...), append(out.Ticks, one.Ticks...)
		out.Faults = append(out.Faults, one.Faults...)
		out.Tallies.Merge(one.Tallies)
	}
	return out, nil
}

// fireOne fires one ticker by itself, if it is due still and no other process has it; a fault of its own is told and the
// ticker left alone for a while. An error is about the database.
func (s *Store) fireOne(ctx context.Context, op string, k *storedTicker) (queue.Maintained, error) {
	f, err := s.inFiring(ctx, op, func(ctx context.Context, t *tx, f *firing) error {
		if err := f.readDue(ctx, t, "ticker.due.one", k.id); err != nil {
			return err
		}
		return f.write(ctx, t, s)
	})
	if err == nil {
		return s.fired(f, 0), nil
	}
	if !ofItsRows(ctx, err) {
		return queue.Maintained{}, err
	}
	k.fail(err)
	rest := s.inTx(ctx, op, func(_ context.Context, t *tx) error {
		t.queue("ticker.fault", []int32{k.id}, []string{k.faultText()}, int64(queue.TickFaultRest))
		return nil
	})
	return queue.Maintained{Moved: 1, Faults: []queue.Fault{k.told()}}, rest
}

// fired is what a step answers that committed f.
func (s *Store) fired(f *firing, nextIn time.Duration) queue.Maintained {
	out := queue.Maintained{
		Moved: len(f.read), More: f.more, NextIn: nextIn, Lag: f.lag, Woken: f.committed(s), Ticks: f.ticks, Faults: f.faults(),
	}
	for i := range f.ticks {
		if k := &f.ticks[i]; k.TaskID != 0 {
			out.Tallies.Add(k.Namespace, k.Queue, "", queue.StatusNew, 1)
		}
	}
	return out
}

// RunTicker implements queue.Store.
func (s *Store) RunTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	const op = "run ticker"
	f, err := s.inFiring(ctx, op, func(ctx context.Context, t *tx, f *firing) error {
		k, now, err := lockTicker(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		if err := queue.CheckVersion("ticker "+name, k.Version, only...); err != nil {
			return err
		}
		if err := s.checkTarget(ctx, &k.Ticker); err != nil {
			return err
		}
		f.now = now
		f.fire(k, now, true)
		if err := f.write(ctx, t, s); err != nil {
			return err
		}
		if k.lastTask != nil {
			t.queue("ticker.made", k.id, k.lastQueue, k.lastTask)
		}
		return nil
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
	const op = "take ticks"
	var ticks []queue.Tick
	var next queue.Maintained
	take := func(ctx context.Context, t *tx) error {
		t.queueRows("tick.take", scanTicks(&ticks), namespace, min(limit, queue.MaxTakenTicks), int64(hold))
		return t.read(ctx, "ticker.next.listen", nextIn(&next), namespace)
	}
	f, err := s.inFiring(ctx, op, func(ctx context.Context, t *tx, f *firing) error {
		ticks, next = []queue.Tick{}, queue.Maintained{}
		if err := f.readDue(ctx, t, "ticker.due.listen", queue.MaxStepTickers, queue.MaxStepTickBytes, namespace); err != nil {
			return err
		}
		if err := f.write(ctx, t, s); err != nil {
			return err
		}
		if err := t.flush(ctx); err != nil {
			return err
		}
		return take(ctx, t)
	})
	if err == nil {
		s.logFaults(f.faults())
		return ticks, next.NextIn, nil
	}
	if !ofItsRows(ctx, err) || f == nil || len(f.read) == 0 {
		return nil, 0, err
	}
	for _, k := range f.read {
		one, err := s.fireOne(ctx, op, k)
		if err != nil {
			return nil, 0, err
		}
		s.logFaults(one.Faults)
	}
	err = s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		ticks, next = []queue.Tick{}, queue.Maintained{}
		return take(ctx, t)
	})
	if err != nil {
		return nil, 0, err
	}
	return ticks, next.NextIn, nil
}

// logFaults tells of faults that no step of a chore answers, each once for as long as it stays the same.
func (s *Store) logFaults(faults []queue.Fault) {
	for _, f := range faults {
		if !f.Known {
			s.opt.logger.Warn("a ticker cannot fire; the others go on", "namespace", f.Namespace, "subject", f.Subject, "error", f.Err)
		}
	}
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

// pruneTicks keeps the history of tickers short, and plans anew when the clock has gone back. now is the database's.
func (s *Store) pruneTicks(ctx context.Context, now time.Time) (int, bool, error) {
	s.floors.mu.Lock()
	due := now.Sub(s.ticksPruned).Abs() >= tickPrune
	s.floors.mu.Unlock()
	if !due {
		return 0, false, nil
	}
	err := s.replan(ctx)
	if err == nil {
		err = s.inTx(ctx, "prune ticks", func(_ context.Context, t *tx) error {
			t.queue("tick.prune", ticksKept, pruneStep)
			return nil
		})
	}
	s.floors.mu.Lock()
	s.ticksPruned = now
	s.floors.mu.Unlock()
	return 0, false, err
}

// replan counts tickers from now that were planned while the clock was ahead of now; it has gone back since. Without it they
// would stand still until the clock is there again.
func (s *Store) replan(ctx context.Context) error {
	for more := true; more; {
		err := s.inTx(ctx, "plan tickers anew", func(ctx context.Context, t *tx) error {
			var all []*storedTicker
			var now time.Time
			err := t.read(ctx, "ticker.ahead", func(rows pgx.Rows) error {
				k := &storedTicker{}
				all = append(all, k)
				return k.scan(rows, &now, &k.unfinished)
			}, queue.MaxStepTickers)
			if more = len(all) == queue.MaxStepTickers; err != nil {
				return err
			}
			now = now.UTC()
			for _, k := range all {
				anchor, next, err := k.Replan(now)
				if err != nil { // it is looked at, and its fault told, like any that is due
					anchor, next = k.Anchor, now
				}
				t.queue("ticker.replan", k.id, timePtr(micros(next)), anchor, now)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
