package postgres

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements of the tick firer.
var (
	readDueTickers     = statement("ticker.due")
	readDueTicker      = statement("ticker.due.one")
	findNextTick       = statement("ticker.next")
	planTickers        = statement("ticker.plan")
	recordTickerFaults = statement("ticker.fault")
	lockTickersAhead   = statement("ticker.ahead")
	listTickersAhead   = statement("ticker.ahead.names")
	replanTicker       = statement("ticker.replan")
	findFiredTicks     = statement("tick.fired")
	insertTicks        = statement("tick.insert")
)

// firing collects the ticks of a transaction. The tick, its task and the plan of the ticker are written together or not
// at all.
type firing struct {
	now     time.Time
	budget  queue.TickBudget
	read    []*storedTicker // tickers that were due
	more    bool            // a ticker has more ticks to fire, or was left out
	ticks   []queue.Tick
	tickers []*storedTicker          // ticker of each tick
	tasks   map[string][]pendingTask // by namespace
	planned []*plannedTicker
	faulty  []*storedTicker // tickers without a plan
	lag     time.Duration
	batches []*insertBatch
}

// pendingTask is the task of the tick at place.
type pendingTask struct {
	place int
	task  queue.NewTask
}

// plannedTicker is the state of a ticker after its ticks.
type plannedTicker struct {
	k           *storedTicker
	fires       []time.Time
	next, dueAt time.Time
}

// planTicker decides which nominal times of k fire now. The n remaining tickers, k included, share the rest of the
// budget. A ticker with a fault of its own goes to faulty, and recordFault records the fault.
func (f *firing) planTicker(k *storedTicker, n int) {
	f.lag = max(f.lag, f.now.Sub(k.NextAt))
	fires, next, more, err := f.budget.Fires(&k.Ticker, f.now, n)
	if err != nil {
		k.recordFault(err)
		f.faulty = append(f.faulty, k)
		return
	}
	p := &plannedTicker{k: k, fires: fires, next: next, dueAt: next}
	if more { // the remaining ticks come after those of all other due tickers
		p.dueAt, f.more = f.now, true
	}
	f.planned = append(f.planned, p)
}

// fireAllPlanned makes the ticks of the planned tickers. A clock that went back repeats nominal times at or before the
// last tick; those that have fired do not fire again.
func (f *firing) fireAllPlanned(ctx context.Context, t *txn.Tx) error {
	var ids []int32
	var ats []time.Time
	for _, p := range f.planned {
		for _, at := range p.fires {
			if at = truncateToMicros(at); !at.After(p.k.Timestamp) {
				ids, ats = append(ids, p.k.id), append(ats, at)
			}
		}
	}

	type firedAt struct {
		id int32
		at int64
	}

	// Only repeated times can have fired, so the common case reads nothing.
	fired := map[firedAt]bool{}
	if len(ids) > 0 {
		err := t.Query(ctx, findFiredTicks, func(rows pgx.Rows) error {
			var id int32
			var at time.Time
			err := rows.Scan(&id, &at)
			fired[firedAt{id, at.UnixMicro()}] = true
			return err
		}, arg("id", ids), arg("at", ats))
		if err != nil {
			return err
		}
	}

	for _, p := range f.planned {
		for _, at := range p.fires {
			if at = truncateToMicros(at); !fired[firedAt{p.k.id, at.UnixMicro()}] {
				f.addTick(p.k, at, false)
			}
		}
	}
	return nil
}

// addTick adds one tick. It adds the task of the tick too if k has a queue.
func (f *firing) addTick(k *storedTicker, at time.Time, manual bool) {
	tick := queue.Tick{
		Namespace: k.Namespace, Ticker: k.Name, At: truncateToMicros(at), FiredAt: f.now, Manual: manual, Payload: k.Payload, Queue: k.Queue,
		Period: k.Period, Cron: k.Cron,
	}

	if k.Queue != "" {
		// A manual tick is a wish of an operator: the overlap rule does not hold for it.
		skips := !manual && k.Overlap == queue.OverlapSkip
		if tick.Skipped = skips && k.unfinished; !tick.Skipped {
			if f.tasks == nil {
				f.tasks = map[string][]pendingTask{}
			}
			f.tasks[k.Namespace] = append(f.tasks[k.Namespace], pendingTask{
				place: len(f.ticks), task: queue.NewTask{Queue: k.Queue, TaskMeta: queue.TaskMeta{Payload: k.Payload}},
			})
		}
		k.unfinished = k.unfinished || skips // the task of this tick is unfinished when the next one fires
	}

	f.ticks = append(f.ticks, tick)
	f.tickers = append(f.tickers, k)
}

// writeFiring creates the tasks and queues the rows of ticks and plans. A tick with a deleted queue is skipped, and the
// fault of its ticker says so.
func (f *firing) writeFiring(ctx context.Context, t *txn.Tx, s *Store) error {
	queueIDs := make([]*int32, len(f.ticks))
	for namespace, pending := range f.tasks {
		c := queue.Create{Namespace: namespace, Unlimited: true}
		for _, p := range pending {
			c.Tasks = append(c.Tasks, p.task)
		}

		b, err := s.createTasksIn(ctx, t, c, keysWait)
		f.batches = append(f.batches, b)
		if err != nil {
			return err
		}

		byID := map[int64]int32{}
		for _, r := range b.rows {
			byID[r.task.ID] = r.q.id
		}

		// The tick records the id of its task, which createTasksIn has assigned.
		for i, p := range pending {
			made, k := b.out[i], f.tickers[p.place]
			if made.Err != nil {
				f.ticks[p.place].Skipped = true
				k.recordFault(made.Err)
				continue
			}
			q := byID[made.Task.ID]
			queueIDs[p.place], f.ticks[p.place].TaskID = &q, made.Task.ID
			k.lastQueue, k.lastTask = &q, &made.Task.ID
		}
	}

	// Last, because the rows carry the ids of the tasks.
	f.insertTicks(t, queueIDs)
	f.queueTickerPlans(t)
	return nil
}

// tickRow is the row of a tick at its insert.
type tickRow struct {
	tickerID  int32
	at        time.Time
	firedAt   time.Time
	queueID   *int32
	taskID    *int64
	skipped   bool
	manual    bool
	heldUntil *time.Time // end of the hold of a listener; NULL: the tick became a task
	payload   []byte     // only for a listener; a task carries its own payload
}

var tickColumns = table.Of[tickRow]()

// insertTicks queues the statement that writes the ticks and reads their ids.
func (f *firing) insertTicks(t *txn.Tx, queueIDs []*int32) {
	if len(f.ticks) == 0 {
		return
	}

	rows := make([]tickRow, len(f.ticks))
	for i := range f.ticks {
		tick := &f.ticks[i]
		rows[i] = tickRow{
			tickerID: f.tickers[i].id, at: tick.At, firedAt: f.now, queueID: queueIDs[i], skipped: tick.Skipped, manual: tick.Manual,
		}
		if tick.TaskID != 0 {
			rows[i].taskID = &tick.TaskID
		}
		if tick.Queue == "" { // for a listener, and not held yet
			rows[i].heldUntil = &f.now
			rows[i].payload = tick.Payload
		}
	}

	// An insert returns its rows in the order of the input.
	i := 0
	t.QueueQuery(insertTicks, func(rows pgx.Rows) error {
		err := rows.Scan(&f.ticks[i].ID)
		i++
		return err
	}, tickColumns.Arrays(nil, rows)...)
}

// planRow is the plan of a ticker after its ticks.
type planRow struct {
	id                    int32
	lastAt, nextAt, dueAt *time.Time
	queueID               *int32
	taskID                *int64
	fault                 string
}

var planColumns = table.Of[planRow]()

// queueTickerPlans queues the writes of the plans, and postpones the faulty tickers.
func (f *firing) queueTickerPlans(t *txn.Tx) {
	plans := make([]planRow, len(f.planned))
	for i, p := range f.planned {
		plans[i] = planRow{
			id: p.k.id, nextAt: timePointer(truncateToMicros(p.next)), dueAt: timePointer(truncateToMicros(p.dueAt)),
			queueID: p.k.lastQueue, taskID: p.k.lastTask, fault: p.k.encodeFault(),
		}
		if n := len(p.fires); n > 0 {
			plans[i].lastAt = timePointer(truncateToMicros(p.fires[n-1]))
		}
	}
	queueRows(t, planTickers, planColumns, plans, arg("now", f.now))
	postponeTickers(t, f.faulty)
}

// postponeTickers records the faults of tickers that could not fire. Steps ignore these tickers for
// queue.TickFaultRest.
func postponeTickers(t *txn.Tx, faulty []*storedTicker) {
	rows := make([]planRow, len(faulty))
	for i, k := range faulty {
		rows[i] = planRow{id: k.id, fault: k.encodeFault()}
	}
	queueRows(t, recordTickerFaults, planColumns.Only("id", "fault"), rows, arg("delay", int64(queue.TickFaultRest)))
}

// readDueTickers locks the due tickers that a statement selects, and plans them.
func (f *firing) readDueTickers(ctx context.Context, t *txn.Tx, due sqltext.Statement, args ...sqltext.Arg) error {
	bytes := 0
	err := t.Query(ctx, due, func(rows pgx.Rows) error {
		k := &storedTicker{}
		err := k.scanTickerRow(rows, &f.now, &k.unfinished)
		f.read = append(f.read, k)
		bytes += len(k.Payload)
		return err
	}, args...)
	if err != nil {
		return err
	}

	// The share of each ticker depends on the number of tickers behind it.
	f.now = f.now.UTC()
	f.more = len(f.read) >= queue.MaxStepTickers || bytes >= queue.MaxStepTickBytes
	for i, k := range f.read {
		f.planTicker(k, len(f.read)-i)
	}

	return f.fireAllPlanned(ctx, t)
}

// listFaults returns the faults of the tickers that did not fire or made no task.
func (f *firing) listFaults() []queue.Fault {
	var all []queue.Fault
	for _, k := range f.read {
		if k.err != nil {
			all = append(all, k.describeFault())
		}
	}
	return all
}

// publishFiring updates the lanes and wakes the queues after the commit of f. It returns the wake-ups.
func (f *firing) publishFiring(s *Store) (woken []queue.Wake) {
	for _, b := range f.batches {
		s.lanes.confirmLanes(b.lanes, b.generation)
		woken = append(woken, b.woken...)
	}
	s.notify.NotifyReady(woken)
	return woken
}

// runFiring runs do in a transaction, and again after it made missing partitions. Beside an error it returns the firing
// as far as do came.
func (s *Store) runFiring(ctx context.Context, op string, do func(ctx context.Context, t *txn.Tx, f *firing) error) (*firing, error) {
	var f *firing
	err := s.repeatWithPartition(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		f = &firing{budget: queue.NewTickBudget()}
		return do(ctx, t, f)
	}, func() int64 { return f.batches[len(f.batches)-1].maxID })
	return f, txn.IgnoreNothing(err)
}

// fireDueTickers fires the due tickers that have a queue.
func (s *Store) fireDueTickers(ctx context.Context) (queue.Maintained, error) {
	var next queue.Maintained
	out, _, err := s.fireDue(ctx, "fire tickers", readDueTickers, nil, func(_ context.Context, t *txn.Tx) error {
		next = queue.Maintained{}
		t.QueueQuery(findNextTick, nextIn(&next))
		return nil
	})
	out.NextIn = next.NextIn
	return out, err
}

// fireDue fires the tickers that a statement selects and runs then in the same transaction. If rows make the step fail, it
// fires each ticker by itself: the faulty ticker is reported and postponed, and the others fire. together is false in that
// case, and then has not taken effect.
func (s *Store) fireDue(
	ctx context.Context, op string, due sqltext.Statement, args []sqltext.Arg, then func(context.Context, *txn.Tx) error,
) (out queue.Maintained, together bool, err error) {
	args = append(args, arg("limit", queue.MaxStepTickers), arg("bytes", queue.MaxStepTickBytes))
	f, err := s.runFiring(ctx, op, func(ctx context.Context, t *txn.Tx, f *firing) error {
		if err := f.readDueTickers(ctx, t, due, args...); err != nil {
			return err
		}
		if err := f.writeFiring(ctx, t, s); err != nil {
			return err
		}
		return then(ctx, t)
	})

	if err == nil {
		return s.summarizeFiring(f), true, nil
	}
	if !isFaultOfRows(ctx, err) || f == nil || len(f.read) == 0 {
		return out, false, err
	}

	// Each ticker fires in a transaction of its own, which isolates the faulty one.
	for _, k := range f.read {
		one, err := s.fireOneTicker(ctx, op, k)
		if err != nil {
			return out, false, err
		}
		addStep(&out, one)
	}
	return out, false, nil
}

// fireOneTicker fires one ticker by itself, if it is still due and no other process has locked it. It reports and
// postpones a faulty ticker. An error is a fault of the database.
func (s *Store) fireOneTicker(ctx context.Context, op string, k *storedTicker) (queue.Maintained, error) {
	f, err := s.runFiring(ctx, op, func(ctx context.Context, t *txn.Tx, f *firing) error {
		if err := f.readDueTickers(ctx, t, readDueTicker, arg("id", k.id)); err != nil {
			return err
		}
		return f.writeFiring(ctx, t, s)
	})

	if err == nil {
		return s.summarizeFiring(f), nil
	}

	if !isFaultOfRows(ctx, err) {
		return queue.Maintained{}, err
	}

	k.recordFault(err)
	// A transaction of its own, because that of the firing was rolled back with its fault.
	rest := s.db.Run(ctx, op, func(_ context.Context, t *txn.Tx) error {
		postponeTickers(t, []*storedTicker{k})
		return nil
	})

	return queue.Maintained{Moved: 1, Faults: []queue.Fault{k.describeFault()}}, rest
}

// summarizeFiring returns the result of a step that committed f.
func (s *Store) summarizeFiring(f *firing) queue.Maintained {
	out := queue.Maintained{
		Moved: len(f.read), More: f.more, Lag: f.lag, Woken: f.publishFiring(s), Ticks: f.ticks, Faults: f.listFaults(),
	}
	for i := range f.ticks {
		if k := &f.ticks[i]; k.TaskID != 0 {
			out.Tallies.Add(k.Namespace, k.Queue, "", queue.StatusNew, 1)
		}
	}
	return out
}

// replanTickers plans tickers from now that were planned while the clock was ahead. After the clock went back they
// would otherwise wait until it reaches that time again. The faults name the tickers that it had to leave.
func (s *Store) replanTickers(ctx context.Context) (faults []queue.Fault, err error) {
	// Without a bound on its time: the first id of a step grows, so the loop ends.
	for first, more := int32(1), true; more; {
		ids, err := s.replanStep(ctx, first, math.MaxInt32)
		if err != nil {
			if !isFaultOfRows(ctx, err) {
				return faults, err
			}

			var named []queue.Fault
			ids, named, err = s.replanEach(ctx, first)
			faults = append(faults, named...)
			if err != nil {
				return faults, err
			}
		}
		if more = len(ids) == queue.MaxStepTickers; more {
			first = ids[len(ids)-1] + 1
		}
	}
	return faults, nil
}

const opReplan = "plan tickers anew"

// replanStep plans the tickers of a step, in one transaction. It returns their ids, in order.
func (s *Store) replanStep(ctx context.Context, first, last int32) (ids []int32, err error) {
	err = s.db.Run(ctx, opReplan, func(ctx context.Context, t *txn.Tx) error {
		ids = nil
		var all []*storedTicker
		var now time.Time
		err := t.Query(ctx, lockTickersAhead, func(rows pgx.Rows) error {
			k := &storedTicker{}
			all = append(all, k)
			return k.scanTickerRow(rows, &now, &k.unfinished)
		}, arg("first", first), arg("last", last), arg("limit", queue.MaxStepTickers))
		if err != nil {
			return err
		}

		now = now.UTC()
		for _, k := range all {
			ids = append(ids, k.id)
			anchor, next, err := k.Replan(now)
			if err != nil { // the ticker becomes due now, so that a step finds and reports its fault
				anchor, next = k.Anchor, now
			}
			t.Queue(replanTicker, arg("id", k.id), arg("next_at", timePointer(truncateToMicros(next))), arg("anchor", anchor), arg("now", now))
		}
		return nil
	})
	return ids, err
}

// replanEach plans the tickers of a step one by one, each in a transaction of its own, which isolates the faulty ones. It returns
// the ids of all, in order. After refusedQueues faults it returns the error of the last one.
func (s *Store) replanEach(ctx context.Context, first int32) (ids []int32, faults []queue.Fault, err error) {
	var all []queue.Fault // one for each ticker
	err = s.db.Query(ctx, opReplan, listTickersAhead, func(rows pgx.Rows) error {
		var id int32
		var f queue.Fault
		err := rows.Scan(&id, &f.Namespace, &f.Subject)
		ids, all = append(ids, id), append(all, f)
		return err
	}, arg("first", first), arg("limit", queue.MaxStepTickers))
	if err != nil {
		return nil, nil, err
	}

	for i, f := range all {
		_, err := s.replanStep(ctx, ids[i], ids[i])
		known := f.Namespace + " plan " + f.Subject
		s.knownFaults.clearFault(known, err)
		if err == nil {
			continue
		}
		if !isFaultOfRows(ctx, err) || len(faults) == refusedQueues {
			return ids, faults, err
		}

		f.Subject, f.Err, f.Known = "plan of ticker "+f.Subject, err, s.knownFaults.recordFault(known, err)
		faults = append(faults, f)
	}
	return ids, faults, nil
}
