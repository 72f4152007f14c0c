package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Maintain implements queue.Store. It runs one step of the agent of chore, or returns at once if nothing can be due.
func (s *Store) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	// After an idle step, one short query replaces the step until something is due.
	if out, nothing := s.nothingDue(ctx, chore); nothing {
		return out, nil
	}
	out, err := s.runAgent(ctx, chore)
	s.idle.note(chore, err == nil && out.Moved == 0 && !out.More)
	return out, err
}

func (s *Store) runAgent(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	switch chore {
	case queue.ChorePromote:
		return s.promote(ctx)
	case queue.ChoreRescue:
		return s.rescue(ctx)
	case queue.ChoreExpire:
		return s.expire(ctx)
	case queue.ChorePrune:
		return s.prune(ctx)
	case queue.ChoreFold:
		return s.fold(ctx)
	case queue.ChoreTick:
		return s.fireDueTickers(ctx)
	}
	return queue.Maintained{}, queue.Invalid("chore", fmt.Sprintf("must be one of queue.Chores(), got %.64q", chore))
}

// The keys of the watermarks that idle agents read too. The pruner has one for each retention.
const (
	markPromote       = "promote"
	markRescue        = "rescue"
	markExpireReady   = "expire.ready"
	markExpireDelayed = "expire.delayed"
	markExpireWaiting = "expire.waiting"
)

// watermarks record the time up to which background work has finished the rows of tables ordered by time. A step starts
// there and does not read dead rows again. A row may still appear below a watermark, so a step sometimes starts at the
// beginning; the interval follows the cost of such a step. It is safe for concurrent use.
type watermarks struct {
	mu sync.Mutex
	at map[string]*watermark
}

type watermark struct {
	time time.Time
	next time.Time // time of the next start at the beginning
}

func (w *watermarks) init() { w.at = map[string]*watermark{} }

// get returns the watermark of key, or zero when the step must start at the beginning.
func (w *watermarks) get(key string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mark := w.at[key]; mark != nil && time.Now().Before(mark.next) {
		return mark.time
	}
	return time.Time{}
}

// set moves the watermark of key to the time to, after a step that ran from used and started at began.
func (w *watermarks) set(key string, used, to, began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	mark := w.at[key]
	if mark == nil {
		mark = &watermark{}
		w.at[key] = mark
	}

	// A full pass may lower the watermark and sets the interval to the next one; a partial pass only raises it.
	if used.IsZero() {
		cost := time.Since(began)
		mark.time, mark.next = to, time.Now().Add(max(startEvery, startShare*cost))
	} else if to.After(mark.time) {
		mark.time = to
	}
}

// sweep is the work of an agent on the rows of a table that is ordered by time.
type sweep struct {
	op     string
	mark   string // key of the watermark
	filter *rowFilter
	first  sqltext.Statement // finds the first row of a step
}

// sweepStep is one step of a sweep.
type sweepStep struct {
	size  int           // most rows of the step
	from  time.Time     // watermark at which it starts
	scope []sqltext.Arg // the arguments that select its rows, but for the size
	out   queue.Maintained
	top   time.Time // the latest time among its rows
}

// runSweep runs one step in a transaction. After a success it moves the watermark to the latest time of the step. It returns
// the size of the step too.
func (s *Store) runSweep(
	ctx context.Context, w sweep, do func(context.Context, *txn.Tx, *sweepStep) error,
) (out queue.Maintained, size int, err error) {
	began, from := time.Now(), s.watermarks.get(w.mark)
	size, tasks, queues := w.filter.nextStep()
	scope := []sqltext.Arg{arg("watermark", floorParam(from)), arg("passed_task_ids", tasks), arg("passed_queue_ids", queues)}

	var r sweepStep
	err = s.db.Run(ctx, w.op, func(ctx context.Context, t *txn.Tx) error {
		r = sweepStep{size: size, from: from, scope: scope, top: from}
		return do(ctx, t, &r)
	})

	// One refused row must not hold up the others: the filter finds the row and passes over it.
	if txn.IgnoreNothing(err) != nil {
		out, err = w.filter.retryRefused(ctx, err, func() (row refusedRow, err error) {
			err = s.db.Query(ctx, w.op, w.first, row.scanRefusedRow, scope...)
			return row, err
		})
		return out, size, err
	}

	w.filter.recordPass()
	// A step that passed over rows keeps its watermark, so that these rows come again.
	if len(tasks)+len(queues) == 0 {
		s.watermarks.set(w.mark, from, r.top, began)
	}
	return r.out, size, nil
}

// floorParam returns t, or 1970 for a zero t, as an argument of statements that start at a watermark.
func floorParam(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// nextIn reads a row (due time, now) into out.NextIn, at least 1 ms.
func nextIn(out *queue.Maintained) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var at *time.Time
		var now time.Time
		if err := rows.Scan(&at, &now); err != nil || at == nil {
			return err
		}
		out.NextIn = max(at.Sub(now), time.Millisecond)
		return nil
	}
}

// addStep adds the result of one more step to total.
func addStep(total *queue.Maintained, one queue.Maintained) {
	total.Moved += one.Moved
	total.More = total.More || one.More
	total.Lag = max(total.Lag, one.Lag)
	total.Woken = append(total.Woken, one.Woken...)
	total.Ticks = append(total.Ticks, one.Ticks...)
	total.Faults = append(total.Faults, one.Faults...)
	total.Tallies.Merge(one.Tallies)
	total.Quarantined.Merge(one.Quarantined)
	for status, n := range one.Moves {
		if total.Moves == nil {
			total.Moves = map[queue.Status]int{}
		}
		total.Moves[status] += n
	}
}

// later returns the later one of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// idleAgents remembers the background agents with nothing to do in their last step. Such an agent first asks by one
// statement, outside of a transaction, whether work is due. An idle program thus sends a fourth of the statements of
// full steps. An agent with work does not pay for the question. It is safe for concurrent use.
type idleAgents struct {
	mu sync.Mutex
	of map[queue.Chore]bool
}

// is reports whether the agent was idle in its last step.
func (i *idleAgents) is(chore queue.Chore) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of[chore]
}

// note records whether the agent was idle in its last step.
func (i *idleAgents) note(chore queue.Chore, idle bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.of == nil {
		i.of = map[queue.Chore]bool{}
	}
	i.of[chore] = idle
}

// dueQueries has the statements for idle agents. A statement returns the time at which the agent has work (null: never)
// and the present time. marks are the keys of the watermarks from which it reads, by parameter.
var dueQueries = map[queue.Chore]struct {
	statement sqltext.Statement
	marks     map[string]string
}{
	queue.ChorePromote: {findNextDue, map[string]string{"watermark": markPromote}},
	queue.ChoreRescue:  {findNextLapse, map[string]string{"watermark": markRescue}},
	queue.ChoreExpire:  {findNextExpiry, map[string]string{"ready_watermark": markExpireReady, "delayed_watermark": markExpireDelayed, "waiting_watermark": markExpireWaiting}},
	queue.ChoreFold:    {findNextFold, nil},
	queue.ChoreTick:    {findNextTick, nil},
}

// nothingDue reports whether an idle agent has no work now, and in out the time until it has. After an error it
// returns false: the step itself reports the fault.
func (s *Store) nothingDue(ctx context.Context, chore queue.Chore) (out queue.Maintained, nothing bool) {
	due, ok := dueQueries[chore]
	if !ok || !s.idle.is(chore) {
		return out, false
	}

	began := time.Now()
	from := make(map[string]time.Time, len(due.marks))
	args := make([]sqltext.Arg, 0, len(due.marks))
	for parameter, key := range due.marks {
		from[key] = s.watermarks.get(key)
		args = append(args, arg(parameter, floorParam(from[key])))
	}

	err := s.db.Query(ctx, "look for work", due.statement, func(rows pgx.Rows) error {
		var at *time.Time
		var now time.Time
		err := rows.Scan(&at, &now)
		if nothing = at == nil || at.After(now); nothing && at != nil {
			out.NextIn = max(at.Sub(now), time.Millisecond)
		}
		return err
	}, args...)
	if err != nil || !nothing {
		return queue.Maintained{}, false
	}

	// The watermarks stay, but the read costs time: they record it to pace their reads from the beginning.
	for key, used := range from {
		s.watermarks.set(key, used, used, began)
	}
	return out, true
}
