package queuetest

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testCreate(e *env) {
	e.it("a task is new, with its queue's retries, when it was created", func(e *env) {
		e.queue("mail", queue.QueueMeta{Retries: new(7)})
		t := e.create("mail", queue.TaskMeta{
			Payload: []byte(`{"to":"a@b.c"}`), Priority: -5, Headers: map[string]string{"traceparent": "00-1"},
		})
		if t.ID <= 0 || t.CreatedAt.IsZero() {
			e.Fatalf("id %d, created at %v", t.ID, t.CreatedAt)
		}
		e.equal("namespace", t.Namespace, e.ns)
		e.equal("queue", t.Queue, "mail")
		e.equal("status", t.Status, queue.StatusNew)
		e.equal("payload", string(t.Payload), `{"to":"a@b.c"}`)
		e.equal("retries", t.Retries, 7)
		e.equal("attempt", t.Attempt, 0)
		e.equal("priority", t.Priority, int16(-5))
		e.equal("headers", t.Headers, map[string]string{"traceparent": "00-1"})
		if t.Lease != nil || t.Worker != "" || t.Result != nil || t.CancelRequested || t.Replayed ||
			!t.DelayedAt.IsZero() || !t.StartedAt.IsZero() || !t.FinishedAt.IsZero() || !t.DiesAt.IsZero() {
			e.Fatalf("a new task has what it cannot have: %+v", t)
		}
		got := e.get(t.ID)
		got.Errors = nil
		e.equal("the task read back", got, t)
	})
	e.it("every field that a producer gives stays with the task", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		meta := filledMeta()
		t := e.create("mail", meta)
		checkFields(e, "the answer of the create", t, meta)
		checkFields(e, "a get", e.get(t.ID), meta)
		checkFields(e, "a repeated create", e.create("mail", meta), meta)

		held := e.retain("w", 1, "mail")[0]
		checkFields(e, "a retain", held, meta)
		checkFields(e, "a release", e.release(held, queue.OutcomeHandBack, ""), meta)
		checkFields(e, "a retain after a hand-back", e.retain("w", 1, "mail")[0], meta)

		meta.Key = ""
		_, handed := e.eager(1, []string{"mail"}, e.newTask("mail", meta))
		checkFields(e, "a create with a retain", handed[0], meta)
	})
	e.it("every field stays with the tasks of a large batch", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		meta := filledMeta()
		meta.Key = ""
		tasks := make([]queue.NewTask, 100) // more than a store writes one by one
		for i := range tasks {
			tasks[i] = e.newTask("mail", meta)
		}
		e.createAll(tasks...)
		for _, t := range e.retain("w", len(tasks), "mail") {
			checkFields(e, "a retain", t, meta)
		}
	})
	e.it("a payload is {} by default", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.equal("payload", string(e.create("mail", queue.TaskMeta{}).Payload), "{}")
	})
	e.it("a batch is answered in its order, with ids that grow", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.queue("sms", queue.QueueMeta{})
		var batch []queue.NewTask
		for i := range 500 {
			batch = append(batch, e.newTask([]string{"mail", "sms"}[i%2], queue.TaskMeta{Payload: fmt.Appendf(nil, "%d", i)}))
		}
		var last int64
		for i, t := range e.createAll(batch...) {
			e.equal("payload", string(t.Payload), strconv.Itoa(i))
			e.equal("queue", t.Queue, batch[i].Queue)
			if t.ID <= last {
				e.Fatalf("id %d behind %d", t.ID, last)
			}
			last = t.ID
		}
	})
	e.it("an atomic batch with an unknown queue creates nothing and names the place", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		_, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{
			e.newTask("mail", queue.TaskMeta{}), e.newTask("none", queue.TaskMeta{}),
		}})
		e.kind(err, queue.KindNotFound)
		e.subject(err, "queue none", "tasks[1]")
		e.counts("mail", nil)
		e.nothing("mail")
	})
	e.it("of a batch that is not atomic only the tasks at fault are missing", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{
			e.newTask("mail", queue.TaskMeta{}), e.newTask("none", queue.TaskMeta{}), e.newTask("mail", queue.TaskMeta{}),
		}})
		e.ok(err)
		e.ok(out[0].Err)
		e.kind(out[1].Err, queue.KindNotFound)
		e.subject(out[1].Err, "queue none", "")
		e.ok(out[2].Err)
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 2})
	})
	e.it("a delayed task is not retained before its time", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		t := e.create("mail", queue.TaskMeta{Delay: 10 * time.Hour})
		e.near("delayed_at", t.DelayedAt, t.CreatedAt.Add(10*time.Hour), time.Second)
		e.equal("status", t.Status, queue.StatusNew)
		e.nothing("mail")
		e.advance(9 * time.Hour)
		e.nothing("mail")
		e.advance(time.Hour)
		e.equal("retained", e.hold("mail").ID, t.ID)
	})
	e.it("a delay beyond the 24.8 days of a 32-bit timer holds for all of its 3,000 days", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		const delay = 3000 * 24 * time.Hour
		t := e.create("mail", queue.TaskMeta{Delay: delay})
		e.near("delayed_at", t.DelayedAt, t.CreatedAt.Add(delay), time.Second)
		for _, after := range []time.Duration{0, 25 * 24 * time.Hour, 50 * 24 * time.Hour} { // 2^31 and 2^32 ms
			e.advance(after)
			e.nothing("mail")
		}
		e.advance(delay - 75*24*time.Hour)
		e.equal("retained", e.hold("mail").ID, t.ID)
	})
	e.it("a task with a time is due then, and one with a past time at once", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		probe := e.create("mail", queue.TaskMeta{})
		at := probe.CreatedAt.Add(5 * time.Hour).Truncate(time.Second)
		e.equal("retained", e.hold("mail").ID, probe.ID)
		zone := time.FixedZone("somewhere", 3*3600)
		later := e.create("mail", queue.TaskMeta{DelayedAt: at.In(zone)})
		if !later.DelayedAt.Equal(at) || later.DelayedAt.Location() != time.UTC {
			e.Fatalf("delayed_at is %v, want %v in UTC", later.DelayedAt, at)
		}
		past := e.create("mail", queue.TaskMeta{DelayedAt: at.Add(-100 * time.Hour)})
		e.equal("retained", ids(e.retain("w", 9, "mail")), []int64{past.ID})
		e.advance(6 * time.Hour)
		e.equal("retained", e.hold("mail").ID, later.ID)
	})
	e.it("a caller's change of its copy does not reach the store", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		payload, headers := []byte(`{"a":1}`), map[string]string{"k": "v"}
		t := e.create("mail", queue.TaskMeta{Payload: payload, Headers: headers})
		payload[2], headers["k"] = 'X', "X"
		t.Payload[2], t.Headers["k"] = 'Y', "Y"
		got := e.get(t.ID)
		e.equal("payload", string(got.Payload), `{"a":1}`)
		e.equal("headers", got.Headers, map[string]string{"k": "v"})
	})
	e.it("concurrent creates get ids of their own", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		var mu sync.Mutex
		seen := map[int64]bool{}
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 10 {
					out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{
						{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}},
					}})
					if err != nil || out[0].Err != nil {
						e.Errorf("create: %v %v", err, out)
						return
					}
					mu.Lock()
					seen[out[0].Task.ID] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		e.equal("number of ids", len(seen), 160)
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 160})
	})
}

// subject checks the subject and the field of an error.
func (e *env) subject(err error, subject, field string) {
	e.Helper()
	checkSubject(e.T, err, subject, field)
}
