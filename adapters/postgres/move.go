package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// moves gathers what becomes of tasks and writes it in one statement a table.
type moves struct {
	now    time.Time
	done   doneRows
	held   heldRows
	back   backRows
	errs   errorRows
	events events
	woken  []queue.Wake

	tallies queue.Tallies
}

func newMoves(now time.Time) *moves { return &moves{now: micros(now), events: events{}} }

// success ends a hold well. It needs no facts: that is what makes the common case cheap.
func (m *moves) success(p spot, result json.RawMessage) {
	m.held.add(p, result)
	m.events.add(change{
		queue: p.q.id, keep: p.q.Events, kind: eventFor(queue.MoveRelease, queue.StatusReleased), was: statusRetained,
		is: statusReleased, worker: p.worker,
	}, p.id)
}

// moved is one task with the life that the domain gave it.
type moved struct {
	q         *storedQueue
	id        int64
	priority  int16
	move      queue.Move
	was       queue.Status
	wasLate   bool // it left a delayed row
	life      queue.Life
	startedAt time.Time
	token     int64 // of the hold that its holder ended; 0 otherwise
	worker    string
	result    json.RawMessage
	keep      bool // the last result instead, which is not read
}

func (m *moves) add(d moved) {
	delayed := 0
	if d.wasLate {
		delayed--
	}
	m.tallies.Add(d.q.Namespace, d.q.Name, d.was, d.life.Status, 1)
	if d.life.Status.Finished() {
		m.done.add(d)
	} else {
		late := d.life.DelayedAt.After(m.now)
		m.back.add(d, late)
		if late {
			delayed++
		} else {
			m.woken = append(m.woken, queue.Wake{Namespace: d.q.Namespace, Queue: d.q.Name})
		}
	}
	m.events.add(change{
		queue: d.q.id, keep: d.q.Events, kind: eventFor(d.move, d.life.Status), was: statusCodes[d.was],
		is: statusCodes[d.life.Status], worker: d.worker, delayed: delayed,
	}, d.id)
}

// failure keeps the error of an attempt.
func (m *moves) failure(q int32, id int64, attempt int, worker string, err json.RawMessage) {
	m.errs.add(q, id, attempt, m.now, worker, err)
}

// write queues all rows.
func (m *moves) write(t *tx) {
	m.held.insert(t, m.now)
	m.done.insert(t, m.now)
	m.back.insert(t)
	m.errs.insert(t)
	m.events.insert(t, m.now)
}

type doneRows struct {
	ids       []int64
	startedAt []*time.Time
	tokens    []int64
	queues    []int32
	statuses  []int16
	attempts  []int16
	workers   []*string
	results   [][]byte
	keeps     []bool
}

func (r *doneRows) add(d moved) {
	r.ids, r.startedAt, r.tokens = append(r.ids, d.id), append(r.startedAt, timePtr(d.startedAt)), append(r.tokens, d.token)
	r.queues, r.statuses = append(r.queues, d.q.id), append(r.statuses, statusCodes[d.life.Status])
	r.attempts, r.workers = append(r.attempts, int16(d.life.Attempt)), append(r.workers, textPtr(d.worker))
	r.results = append(r.results, jsonParam(d.result))
	r.keeps = append(r.keeps, d.keep)
}

func (r *doneRows) insert(t *tx, now time.Time) {
	if len(r.ids) > 0 {
		t.queue("move.done", now, r.ids, r.startedAt, r.tokens, r.queues, r.statuses, r.attempts, r.workers, r.results,
			r.keeps)
	}
}

// heldRows are successes: what their leases have in common is sent once a lease, and those without a result go in runs.
type heldRows struct {
	ids      []int64 // of the first of each run, as its token
	tokens   []int64
	refs     []int32
	attempts []int16
	lengths  []int16
	results  [][]byte

	place     map[*hold]int
	leases    []*hold
	bare      [][]int64 // by lease, the ids without a result in their places
	startedAt []time.Time
	queues    []int32
	workers   []string
}

func (r *heldRows) add(p spot, result []byte) {
	ref, ok := r.place[p.hold]
	if !ok {
		if r.place == nil {
			r.place = map[*hold]int{}
		}
		ref = len(r.leases)
		r.place[p.hold] = ref
		r.leases, r.bare = append(r.leases, p.hold), append(r.bare, nil)
		r.startedAt, r.queues, r.workers = append(r.startedAt, p.retainedAt), append(r.queues, p.q.id), append(r.workers, p.worker)
	}
	if len(result) > 0 {
		r.row(ref, p.i, p.id, result)
		return
	}
	if r.bare[ref] == nil {
		r.bare[ref] = make([]int64, len(p.ids))
	}
	r.bare[ref][p.i] = p.id
}

// row adds the row of a task, the first of its run if more follow.
func (r *heldRows) row(ref, place int, id int64, result []byte) {
	p := spot{r.leases[ref], place, id}
	r.ids, r.tokens, r.refs = append(r.ids, id), append(r.tokens, p.taskToken()), append(r.refs, int32(ref+1)) // arrays count from 1
	r.attempts, r.lengths = append(r.attempts, int16(p.attempt())), append(r.lengths, 1)
	r.results = append(r.results, jsonParam(result))
}

func (r *heldRows) insert(t *tx, now time.Time) {
	for ref, ids := range r.bare {
		l := r.leases[ref]
		for i := 0; i < len(ids); {
			first := i
			for i++; i < len(ids) && ids[first] != 0 && ids[i] == ids[i-1]+1 && runBlock(ids[i]) == runBlock(ids[first]) &&
				(spot{l, i, ids[i]}).attempt() == (spot{l, first, ids[first]}).attempt(); i++ {
			}
			if ids[first] != 0 {
				r.row(ref, first, ids[first], nil)
				r.lengths[len(r.lengths)-1] = int16(i - first)
			}
		}
	}
	if len(r.ids) > 0 {
		t.queue("move.done.held", now, r.ids, r.refs, r.startedAt, r.queues, r.workers, r.tokens, r.attempts, r.lengths, r.results)
	}
}

type backRows struct {
	ids        []int64
	queues     []int32
	priorities []int16
	late       []bool
	delayedAt  []*time.Time
	diesAt     []*time.Time
	startedAt  []*time.Time
	tokens     []int64
	attempts   []int16
	retries    []int16
	workers    []*string
	results    [][]byte
	keeps      []bool
}

func (r *backRows) add(d moved, late bool) {
	r.ids, r.queues, r.priorities = append(r.ids, d.id), append(r.queues, d.q.id), append(r.priorities, d.priority)
	r.late, r.delayedAt = append(r.late, late), append(r.delayedAt, timePtr(micros(d.life.DelayedAt)))
	r.diesAt, r.startedAt = append(r.diesAt, timePtr(micros(d.life.DiesAt))), append(r.startedAt, timePtr(d.startedAt))
	r.tokens, r.attempts = append(r.tokens, d.token), append(r.attempts, int16(d.life.Attempt))
	r.retries, r.workers = append(r.retries, int16(d.life.Retries)), append(r.workers, textPtr(d.worker))
	r.results = append(r.results, jsonParam(d.result))
	r.keeps = append(r.keeps, d.keep)
}

func (r *backRows) insert(t *tx) {
	if len(r.ids) > 0 {
		t.queue("move.back", r.ids, r.queues, r.priorities, r.late, r.delayedAt, r.diesAt, r.startedAt, r.tokens, r.attempts,
			r.retries, r.workers, r.results, r.keeps)
	}
}

type errorRows struct {
	queues   []int32
	ids      []int64
	attempts []int16
	ats      []time.Time
	workers  []string
	errs     [][]byte
	trim     []int // places whose task may have too many by now
}

func (r *errorRows) add(q int32, id int64, attempt int, at time.Time, worker string, err json.RawMessage) {
	if len(err) == 0 {
		err = json.RawMessage("null")
	} else if len(err) > queue.MaxErrorBytes {
		err = queue.CleanJSON(err, queue.MaxErrorBytes)
	}
	if attempt > queue.MaxErrors {
		r.trim = append(r.trim, len(r.ids))
	}
	r.queues, r.ids, r.attempts = append(r.queues, q), append(r.ids, id), append(r.attempts, int16(attempt))
	r.ats, r.workers, r.errs = append(r.ats, at), append(r.workers, worker), append(r.errs, err)
}

func (r *errorRows) insert(t *tx) {
	if len(r.ids) == 0 {
		return
	}
	t.queue("move.error", r.queues, r.ids, r.attempts, r.ats, r.workers, r.errs)
	if len(r.trim) > 0 {
		qs, ids := make([]int32, len(r.trim)), make([]int64, len(r.trim))
		for i, at := range r.trim {
			qs[i], ids[i] = r.queues[at], r.ids[at]
		}
		t.queue("move.error.trim", qs, ids, queue.MaxErrors)
	}
}

func leaseLost(id int64) error {
	return &queue.Error{
		Kind: queue.KindLeaseLost, Subject: fmt.Sprintf("task %d", id),
		Msg: "the token is not the one of its present lease; somebody else may hold it",
	}
}

func noTask(id int64) error {
	return &queue.Error{Kind: queue.KindNotFound, Subject: fmt.Sprintf("task %d", id), Msg: "no such task"}
}

func notHeld(id int64) error {
	return &queue.Error{Kind: queue.KindConflict, Subject: fmt.Sprintf("task %d", id), Msg: "nobody holds it"}
}
