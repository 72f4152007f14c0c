package queuetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// keyRuleRows are the answers to a create with a key that a task has: by the status of that task, and for unique_until started,
// finished and pruned.
var keyRuleRows = []struct {
	conflict queue.OnConflict
	statuses []queue.Status
	answers  [3]queue.KeyAnswer
}{
	{queue.ConflictReturn, []queue.Status{queue.StatusNew}, [3]queue.KeyAnswer{queue.KeyReturn, queue.KeyReturn, queue.KeyReturn}},
	{
		queue.ConflictReturn,
		[]queue.Status{queue.StatusRetry, queue.StatusRetained},
		[3]queue.KeyAnswer{queue.KeyTake, queue.KeyReturn, queue.KeyReturn},
	},
	{
		queue.ConflictReturn,
		[]queue.Status{queue.StatusReleased, queue.StatusFailed, queue.StatusExpired, queue.StatusCancelled},
		[3]queue.KeyAnswer{queue.KeyTake, queue.KeyTake, queue.KeyReturn},
	},
	{queue.ConflictReject, []queue.Status{queue.StatusNew}, [3]queue.KeyAnswer{queue.KeyReject, queue.KeyReject, queue.KeyReject}},
	{
		queue.ConflictReject,
		[]queue.Status{queue.StatusRetry, queue.StatusRetained},
		[3]queue.KeyAnswer{queue.KeyTake, queue.KeyReject, queue.KeyReject},
	},
	{
		queue.ConflictReject,
		[]queue.Status{queue.StatusReleased, queue.StatusFailed, queue.StatusExpired, queue.StatusCancelled},
		[3]queue.KeyAnswer{queue.KeyTake, queue.KeyTake, queue.KeyReject},
	},
	{
		queue.ConflictReplace,
		[]queue.Status{queue.StatusNew},
		[3]queue.KeyAnswer{queue.KeySupersede, queue.KeySupersede, queue.KeySupersede},
	},
	{
		queue.ConflictReplace,
		[]queue.Status{queue.StatusRetry},
		[3]queue.KeyAnswer{queue.KeyTake, queue.KeySupersede, queue.KeySupersede},
	},
	{
		queue.ConflictReplace,
		[]queue.Status{queue.StatusRetained, queue.StatusReleased, queue.StatusFailed, queue.StatusExpired, queue.StatusCancelled},
		[3]queue.KeyAnswer{queue.KeyTake, queue.KeyTake, queue.KeyTake},
	},
}

// answerWords name the answers in the sentences.
var answerWords = map[queue.KeyAnswer]string{
	queue.KeyTake: "another task gets the key", queue.KeySupersede: "another task replaces it", queue.KeyReturn: "it is the answer",
	queue.KeyReject: "the create is refused",
}

func testKeyRules(e *env) {
	for _, row := range keyRuleRows {
		for _, status := range row.statuses {
			for i, until := range []queue.UniqueUntil{queue.UniqueUntilStarted, queue.UniqueUntilFinished, queue.UniqueUntilPruned} {
				rule := queue.KeyRule{OnConflict: row.conflict, UniqueUntil: until}
				e.it(fmt.Sprintf("%s, unique until %s, a task is %s: %s", row.conflict, until, status, answerWords[row.answers[i]]), func(e *env) {
					e.checkKeyAnswer(status, rule, row.answers[i])
				})
			}
		}
	}

	e.it("a create that is refused for its key creates nothing of its call", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.create("q", queue.TaskMeta{Key: "k"})
		_, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{
			e.newTask("q", queue.TaskMeta{}),
			e.newTask("q", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReject}}),
		}})
		e.kind(err, queue.KindAlreadyExists)
		e.subject(err, "queue q", "tasks[1].key")
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
	})
	e.it("tasks of one call replace others among ready, delayed and grouped ones", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.queue("f", flowOf(fifo()))
		var old, fresh []queue.NewTask
		rule := queue.KeyRule{OnConflict: queue.ConflictReplace}
		for i := range 90 {
			meta := queue.TaskMeta{Key: strconv.Itoa(i), Group: "g"}
			name := "q"
			switch {
			case i >= 60:
				name = "f"
			case i >= 30:
				meta.Delay = time.Hour
			}
			old = append(old, e.newTask(name, meta))
			if i%3 == 1 {
				meta.KeyRule, meta.Payload = rule, []byte(`{"new":true}`)
				fresh = append(fresh, e.newTask(name, meta))
			}
		}
		before := e.createAll(old...)
		after := e.createAll(fresh...)
		for i, t := range after {
			gone := e.status(before[3*i+1].ID, queue.StatusCancelled)
			e.superseded(gone, t.ID)
			e.equal("delayed", !t.DelayedAt.IsZero(), !gone.DelayedAt.IsZero())
		}
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 60, queue.StatusCancelled: 20})
		e.counts("f", map[queue.Status]int64{queue.StatusNew: 30, queue.StatusCancelled: 10})
		e.equal("delayed", e.stats("q").Delayed, int64(30))

		e.advance(2 * time.Hour)
		e.equal("of q", len(e.retain("w", 100, "q")), 60)
		for range 30 {
			e.release(e.hold("f"), queue.OutcomeSuccess, "")
		}
		e.nothing("f")
	})
	e.it("the last error and result of a task stay when another one replaces it", func(e *env) {
		t := e.reachTask(queue.StatusRetry, queue.QueueMeta{RetryDelay: new(time.Hour), Retries: new(1)}, queue.TaskMeta{Key: "k"})
		by := e.create("q", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReplace}})
		got := e.status(t.ID, queue.StatusCancelled)
		e.equal("result", string(got.Result), `1`)
		e.equal("errors", len(got.Errors), 2)
		e.superseded(got, by.ID)
	})
	e.it("a task that was replaced takes no key with it", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(time.Hour)})
		rule := queue.KeyRule{OnConflict: queue.ConflictReplace}
		first := e.create("q", queue.TaskMeta{Key: "k", KeyRule: rule})
		second := e.create("q", queue.TaskMeta{Key: "k", KeyRule: rule})
		e.equal("by key", ids(e.list(queue.TaskFilter{Key: "k"}, queue.Page{Limit: 10}).Tasks), []int64{second.ID})
		e.pass(2 * time.Hour)
		if e.find(first.ID) != nil {
			e.Fatal("the first task was not pruned")
		}
		e.equal("the task of the key", e.create("q", queue.TaskMeta{Key: "k"}).ID, second.ID)
	})
	e.it("of many creates that replace one another at once, the last one waits", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				for range 4 {
					out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{{Queue: "q", TaskMeta: queue.TaskMeta{
						Payload: queue.EmptyJSON, Key: "same", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReplace},
					}}}})
					if err != nil || out[0].Err != nil {
						e.Errorf("create: %v, %+v", err, out)
					}
				}
			})
		}
		wg.Wait()
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1, queue.StatusCancelled: 47})
		e.equal("the task of the key", e.create("q", queue.TaskMeta{Key: "same"}).ID, e.hold("q").ID)
	})
	e.it("a task that workers take while others replace it runs, or is replaced", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(1000 * time.Hour)})
		var wg sync.WaitGroup
		var made, taken [4][]int64
		for i := range made {
			wg.Go(func() {
				for range 12 {
					out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{{Queue: "q", TaskMeta: queue.TaskMeta{
						Payload: queue.EmptyJSON, Key: "same", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReplace},
					}}}})
					if err != nil || out[0].Err != nil {
						e.Errorf("create: %v, %+v", err, out)
						return
					}
					made[i] = append(made[i], out[0].Task.ID)
				}
			})
			wg.Go(func() {
				for range 12 {
					out, err := e.s.RetainTasks(e.ctx(), queue.Retain{
						Namespace: e.ns, Queues: []string{"q"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 1}},
					})
					if err != nil {
						e.Errorf("retain: %v", err)
						return
					}
					taken[i] = append(taken[i], ids(out[0])...)
				}
			})
		}
		wg.Wait()
		started, waiting := slices.Concat(taken[:]...), 0
		for _, id := range slices.Concat(made[:]...) {
			t := e.get(id)
			switch {
			case slices.Contains(started, id):
				e.equal(fmt.Sprintf("task %d, which started", id), t.Status, queue.StatusRetained)
			case t.Status == queue.StatusNew:
				waiting++
			default:
				e.equal(fmt.Sprintf("task %d", id), t.Status, queue.StatusCancelled)
			}
		}
		if waiting > 1 {
			e.Errorf("%d tasks of one key wait", waiting)
		}
	})
}

// checkKeyAnswer creates a task with a key that one of a status has.
func (e *env) checkKeyAnswer(status queue.Status, rule queue.KeyRule, want queue.KeyAnswer) {
	e.Helper()
	owner := e.reachTask(status, queue.QueueMeta{
		RetryDelay: new(time.Duration(0)), Retries: new(1), Lease: new(time.Hour),
	}, queue.TaskMeta{Key: "k"})
	out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{Key: "k", KeyRule: rule})}})
	e.ok(err)
	got := out[0]

	after := e.status(owner.ID, map[bool]queue.Status{true: queue.StatusCancelled, false: status}[want == queue.KeySupersede])
	switch want {
	case queue.KeyReject:
		e.kind(got.Err, queue.KindAlreadyExists)
		e.subject(got.Err, "queue q", "key")
	case queue.KeyReturn:
		e.ok(got.Err)
		e.equal("answer", []any{got.Task.ID, got.Task.Replayed}, []any{owner.ID, true})
	case queue.KeyTake, queue.KeySupersede:
		e.ok(got.Err)
		if got.Task.ID <= owner.ID || got.Task.Replayed || got.Task.Status != queue.StatusNew {
			e.Fatalf("the answer is %+v", got.Task)
		}
		e.equal("the task of the key", e.create("q", queue.TaskMeta{Key: "k"}).ID, got.Task.ID)
	}

	if want == queue.KeySupersede {
		e.superseded(after, got.Task.ID)
		e.equal("the replaced task", []any{got.Superseded, got.WasStatus}, []any{owner.ID, status})
	} else {
		e.equal("the replaced task", []any{got.Superseded, got.WasStatus}, []any{int64(0), queue.Status("")})
	}
}

// superseded checks that a task says which one has replaced it.
func (e *env) superseded(t *queue.Task, by int64) {
	e.Helper()
	if n := len(t.Errors); n == 0 || !strings.Contains(string(t.Errors[n-1].Error), fmt.Sprintf("superseded by task %d", by)) {
		e.Fatalf("task %d has the errors %v, want that task %d superseded it", t.ID, t.Errors, by)
	}
}

func testDebounce(e *env) {
	create := func(e *env, longest time.Duration, payload string) *queue.Task {
		e.Helper()
		return e.create("q", queue.TaskMeta{
			Key: "k", Payload: []byte(payload), KeyRule: queue.KeyRule{Debounce: time.Hour, DebounceMax: longest},
		})
	}
	e.it("each create starts the wait again, and the last payload runs once", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		for i := range 4 {
			t := create(e, 0, strconv.Itoa(i))
			e.near("start", t.DelayedAt, e.now().Add(time.Hour), aWhile)
			e.pass(40 * time.Minute)
			e.nothing("q")
		}
		e.pass(30 * time.Minute)
		t := e.hold("q")
		e.equal("payload", string(t.Payload), "3")
		e.nothing("q")
		e.counts("q", map[queue.Status]int64{queue.StatusRetained: 1, queue.StatusCancelled: 3})
	})
	e.it("debounce_max bounds the wait from the first create on", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		first := create(e, 2*time.Hour, "0")
		for i := range 2 {
			e.pass(40 * time.Minute)
			create(e, 2*time.Hour, strconv.Itoa(i+1))
		}
		last := create(e, 2*time.Hour, "9")
		e.near("start", last.DelayedAt, first.CreatedAt.Add(2*time.Hour), time.Second)
		e.pass(45 * time.Minute)
		e.equal("payload", string(e.hold("q").Payload), "9")
	})
	e.it("a create after the start begins a wait of its own", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(1000 * time.Hour)})
		create(e, 2*time.Hour, "0")
		create(e, 2*time.Hour, "1")
		e.pass(3 * time.Hour)
		e.equal("payload", string(e.hold("q").Payload), "1")
		e.pass(time.Hour)
		t := create(e, 2*time.Hour, "2")
		e.near("start", t.DelayedAt, e.now().Add(time.Hour), aWhile)
		e.pass(50 * time.Minute)
		again := create(e, 2*time.Hour, "3")
		e.near("start", again.DelayedAt, e.now().Add(time.Hour), aWhile)
	})
}
