package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// testLifecycle tries every row of the contract's table, and every pair of status and move without a row.
func testLifecycle(e *env) {
	rows := e.rows()
	for _, row := range queue.Transitions() {
		name := fmt.Sprintf("%s –%s→ %s", orDash(row.From), row.Move, orDash(row.To))
		if row.When != "" {
			name += " when " + row.When
		}
		walk := rows[rowKey{row.From, row.Move, row.To}]
		e.it(name, func(e *env) {
			if walk == nil {
				e.Fatal("the suite does not walk this row of the table")
			}
			walk(e)
		})
		delete(rows, rowKey{row.From, row.Move, row.To})
	}
	for k := range rows {
		e.Errorf("the suite walks %v, which the table does not have", k)
	}
	for _, from := range queue.Statuses() {
		for _, move := range moves() {
			if queue.Allowed(from, move) {
				continue
			}
			e.it(fmt.Sprintf("a task that is %s refuses %s and is unchanged", from, move), func(e *env) {
				e.unchangedBy(e.reach(from).ID, move)
			})
		}
	}
}

type rowKey struct {
	from queue.Status
	move queue.Move
	to   queue.Status
}

func moves() []queue.Move {
	return []queue.Move{
		queue.MoveRetain, queue.MoveRelease, queue.MoveFail, queue.MoveHandBack, queue.MoveSnooze, queue.MoveLeaseLost,
		queue.MoveExpire, queue.MoveCancel, queue.MoveRetry, queue.MovePrune,
	}
}

func orDash(s queue.Status) string {
	if s == "" {
		return "nothing"
	}
	return string(s)
}

// reach returns a task in queue q with status s, without a ttl. A waiting task is due.
func (e *env) reach(s queue.Status) *queue.Task {
	e.Helper()
	return e.reachWith(s, queue.QueueMeta{RetryDelay: new(time.Duration(0)), Retries: new(1), Lease: new(time.Hour)})
}

func (e *env) reachWith(s queue.Status, meta queue.QueueMeta) *queue.Task {
	e.Helper()
	return e.reachTask(s, meta, queue.TaskMeta{})
}

// reachTask is reachWith for a task with settings.
func (e *env) reachTask(s queue.Status, meta queue.QueueMeta, task queue.TaskMeta) *queue.Task {
	e.Helper()
	if s == queue.StatusExpired && meta.TTL == nil {
		meta.TTL, meta.Retention = new(30*time.Minute), new(1000*time.Hour)
	}
	e.queue("q", meta)
	t := e.create("q", task)
	switch s {
	case queue.StatusNew:
	case queue.StatusRetry:
		e.release(e.hold("q"), queue.OutcomeFailure, `1`)
	case queue.StatusRetained:
		return e.hold("q")
	case queue.StatusReleased:
		e.release(e.hold("q"), queue.OutcomeSuccess, `1`)
	case queue.StatusFailed:
		e.release(e.hold("q"), queue.OutcomePermanent, `1`)
	case queue.StatusExpired:
		e.advance(time.Hour)
		e.chores(queue.ChoreExpire)
	case queue.StatusCancelled:
		e.ok(e.one(e.s.CancelTasks, t.ID))
	}
	return e.status(t.ID, s)
}

// unchangedBy tries move on a task for which the table has no row, and checks that the task stays as it was.
func (e *env) unchangedBy(id int64, move queue.Move) {
	e.Helper()
	e.unchanged(id, func() {
		switch move {
		case queue.MoveRetain:
			e.nothing("q")
		case queue.MoveRelease, queue.MoveFail, queue.MoveHandBack, queue.MoveSnooze:
			for _, o := range outcomes() {
				if o.Move() == move {
					_, err := e.tryRelease(releaseOf(id, 0, o))
					e.kind(err, queue.KindConflict)
					_, err = e.tryRelease(releaseOf(id, 1<<60, o))
					e.kind(err, queue.KindLeaseLost)
				}
			}
		case queue.MoveLeaseLost:
			e.advance(100 * time.Hour)
			e.chores(queue.ChoreRescue)
		case queue.MoveExpire:
			e.advance(100 * time.Hour)
			e.chores(queue.ChoreExpire)
		case queue.MoveCancel:
			e.kind(e.one(e.s.CancelTasks, id), queue.KindConflict)
		case queue.MoveRetry:
			e.kind(e.one(e.s.RetryTasks, id), queue.KindConflict)
		case queue.MovePrune:
			e.advance(10_000 * time.Hour)
			e.chores(queue.ChorePrune)
		case queue.MoveCreate:
		}
	})
}

// rows returns a function for each row of the table that makes its move.
func (e *env) rows() map[rowKey]func(e *env) {
	released := func(o queue.Outcome, want queue.Status, meta queue.QueueMeta, failedBefore, asked bool) func(e *env) {
		return func(e *env) {
			meta.Lease = new(time.Hour)
			meta.RetryDelay = new(time.Duration(0))
			t := e.reachWith(queue.StatusRetained, meta)
			if failedBefore {
				e.release(t, queue.OutcomeFailure, `1`)
				t = e.hold("q")
			}
			if asked {
				e.ok(e.one(e.s.CancelTasks, t.ID))
			}
			e.equal("answer", e.release(t, o, "").Status, want)
			e.status(t.ID, want)
			e.counts("q", map[queue.Status]int64{want: 1})
		}
	}
	lost := func(want queue.Status, meta queue.QueueMeta, asked bool) func(e *env) {
		return func(e *env) {
			meta.Lease = new(time.Hour)
			meta.Retention = new(1000 * time.Hour)
			t := e.reachWith(queue.StatusRetained, meta)
			if asked {
				e.ok(e.one(e.s.CancelTasks, t.ID))
			}
			e.advance(2 * time.Hour)
			e.status(t.ID, queue.StatusRetained)
			e.chores(queue.ChoreRescue)
			e.status(t.ID, want)
			e.counts("q", map[queue.Status]int64{want: 1})
			_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess})
			e.kind(err, queue.KindLeaseLost)
		}
	}
	some, none := queue.QueueMeta{Retries: new(3)}, queue.QueueMeta{Retries: new(0)}
	rows := map[rowKey]func(e *env){
		{"", queue.MoveCreate, queue.StatusNew}: func(e *env) {
			e.reach(queue.StatusNew)
			e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
		},
		{queue.StatusNew, queue.MoveRetain, queue.StatusRetained}: func(e *env) {
			t := e.reach(queue.StatusNew)
			e.equal("id", e.hold("q").ID, t.ID)
			e.status(t.ID, queue.StatusRetained)
			e.counts("q", map[queue.Status]int64{queue.StatusRetained: 1})
		},
		{queue.StatusRetry, queue.MoveRetain, queue.StatusRetained}: func(e *env) {
			t := e.reach(queue.StatusRetry)
			held := e.hold("q")
			e.equal("id, attempt", []any{held.ID, held.Attempt}, []any{t.ID, 2})
			e.status(t.ID, queue.StatusRetained)
			e.counts("q", map[queue.Status]int64{queue.StatusRetained: 1})
		},
		{queue.StatusRetained, queue.MoveRelease, queue.StatusReleased}:   released(queue.OutcomeSuccess, queue.StatusReleased, some, false, false),
		{queue.StatusRetained, queue.MoveRelease, queue.StatusCancelled}:  released(queue.OutcomeSuccess, queue.StatusCancelled, some, false, true),
		{queue.StatusRetained, queue.MoveFail, queue.StatusRetry}:         released(queue.OutcomeFailure, queue.StatusRetry, some, false, false),
		{queue.StatusRetained, queue.MoveFail, queue.StatusFailed}:        released(queue.OutcomeFailure, queue.StatusFailed, none, false, false),
		{queue.StatusRetained, queue.MoveFail, queue.StatusCancelled}:     released(queue.OutcomeFailure, queue.StatusCancelled, some, false, true),
		{queue.StatusRetained, queue.MoveHandBack, queue.StatusNew}:       released(queue.OutcomeHandBack, queue.StatusNew, some, false, false),
		{queue.StatusRetained, queue.MoveHandBack, queue.StatusRetry}:     released(queue.OutcomeHandBack, queue.StatusRetry, some, true, false),
		{queue.StatusRetained, queue.MoveHandBack, queue.StatusCancelled}: released(queue.OutcomeHandBack, queue.StatusCancelled, some, false, true),
		{queue.StatusRetained, queue.MoveSnooze, queue.StatusNew}:         released(queue.OutcomeSnooze, queue.StatusNew, some, false, false),
		{queue.StatusRetained, queue.MoveSnooze, queue.StatusRetry}:       released(queue.OutcomeSnooze, queue.StatusRetry, some, true, false),
		{queue.StatusRetained, queue.MoveSnooze, queue.StatusCancelled}:   released(queue.OutcomeSnooze, queue.StatusCancelled, some, false, true),
		{queue.StatusRetained, queue.MoveLeaseLost, queue.StatusRetry}:    lost(queue.StatusRetry, some, false),
		{queue.StatusRetained, queue.MoveLeaseLost, queue.StatusFailed}:   lost(queue.StatusFailed, none, false),
		{queue.StatusRetained, queue.MoveLeaseLost, queue.StatusExpired}: lost(queue.StatusExpired,
			queue.QueueMeta{TTL: new(90 * time.Minute)}, false),
		{queue.StatusRetained, queue.MoveLeaseLost, queue.StatusCancelled}: lost(queue.StatusCancelled, some, true),
		{queue.StatusRetained, queue.MoveCancel, queue.StatusRetained}: func(e *env) {
			t := e.reach(queue.StatusRetained)
			e.ok(e.one(e.s.CancelTasks, t.ID))
			e.equal("cancel requested", e.status(t.ID, queue.StatusRetained).CancelRequested, true)
			b := e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token})
			e.ok(b.Err)
			e.equal("cancel requested, to the holder", b.CancelRequested, true)
			e.counts("q", map[queue.Status]int64{queue.StatusRetained: 1})
		},
	}
	for _, s := range []queue.Status{queue.StatusNew, queue.StatusRetry} {
		rows[rowKey{s, queue.MoveExpire, queue.StatusExpired}] = func(e *env) {
			t := e.reachWith(s, queue.QueueMeta{TTL: new(time.Hour), Retention: new(1000 * time.Hour), RetryDelay: new(time.Duration(0))})
			e.advance(2 * time.Hour)
			e.nothing("q")
			e.chores(queue.ChoreExpire)
			e.status(t.ID, queue.StatusExpired)
			e.counts("q", map[queue.Status]int64{queue.StatusExpired: 1})
		}
		rows[rowKey{s, queue.MoveCancel, queue.StatusCancelled}] = func(e *env) {
			t := e.reach(s)
			e.ok(e.one(e.s.CancelTasks, t.ID))
			e.status(t.ID, queue.StatusCancelled)
			e.nothing("q")
			e.counts("q", map[queue.Status]int64{queue.StatusCancelled: 1})
		}
	}
	for _, s := range slices.DeleteFunc(queue.Statuses(), func(s queue.Status) bool { return !s.Finished() }) {
		rows[rowKey{s, queue.MoveRetry, queue.StatusNew}] = func(e *env) {
			t := e.reach(s)
			e.ok(e.one(e.s.RetryTasks, t.ID))
			got := e.status(t.ID, queue.StatusNew)
			e.equal("attempt, retries", []int{got.Attempt, got.Retries}, []int{0, 1})
			e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
			held := e.hold("q")
			e.equal("id, attempt", []any{held.ID, held.Attempt}, []any{t.ID, 1})
		}
		rows[rowKey{s, queue.MovePrune, ""}] = func(e *env) {
			t := e.reach(s)
			e.advance(10_000 * time.Hour)
			if e.find(t.ID) != nil {
				e.Fatal("a task past its retention can be seen")
			}
			e.chores(queue.ChorePrune)
			if e.find(t.ID) != nil {
				e.Fatal("a task past its retention is there")
			}
			e.counts("q", nil)
		}
	}
	return rows
}

func (*env) taskSubject(id int64) string { return fmt.Sprintf("task %d", id) }
