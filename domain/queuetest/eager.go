package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// eager creates tasks and retains up to limit tasks from queues in the same step.
func (e *env) eager(limit int, queues []string, tasks ...queue.NewTask) (made []queue.Created, taken []*queue.Task) {
	e.Helper()
	made, outs, err := e.s.CreateAndRetain(e.ctx(), queue.Create{Namespace: e.ns, Tasks: tasks},
		queue.Retain{Namespace: e.ns, Queues: queues, Requests: []queue.RetainShare{{Worker: "w", Limit: limit}}})
	e.ok(err)
	e.equal("answers", len(outs), 1)
	return made, outs[0]
}

func testCreateAndRetain(e *env) {
	mail := []string{"mail"}
	e.it("a created task is held in the same step, as after a retain", func(e *env) {
		e.queue("mail", queue.QueueMeta{Retries: new(7), Lease: new(3 * time.Hour), TTL: new(time.Hour)})
		headers := map[string]string{"traceparent": "00-1"}
		made, taken := e.eager(1, mail, e.newTask("mail", queue.TaskMeta{
			Payload: []byte(`{"to":"a@b.c"}`), Priority: -5, Headers: headers, Key: "k",
		}))
		e.equal("taken", len(taken), 1)
		t := taken[0]
		e.equal("status that its creator sees", made[0].Task.Status, queue.StatusNew)
		if made[0].Task.Lease != nil || t.Lease == nil || t.Lease.Token <= 0 {
			e.Fatalf("leases are %+v and %+v", made[0].Task.Lease, t.Lease)
		}
		e.near("lease end", t.Lease.ExpiresAt, t.StartedAt.Add(3*time.Hour), time.Second)
		got := e.status(t.ID, queue.StatusRetained)
		held := *t
		held.Lease, got.Errors = nil, nil
		e.equal("the held task read back", got, &held)
		e.counts("mail", map[queue.Status]int64{queue.StatusRetained: 1})
		e.release(t, queue.OutcomeSuccess, `1`)
		e.status(t.ID, queue.StatusReleased)
	})
	e.it("the retain is one like any other: a task that was ready before goes first", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.queue("sms", queue.QueueMeta{})
		before := e.create("mail", queue.TaskMeta{})
		made, taken := e.eager(1, mail, e.newTask("mail", queue.TaskMeta{}))
		e.equal("taken", ids(taken), []int64{before.ID})
		e.equal("payload", string(taken[0].Payload), "{}")
		e.equal("next", ids(e.retain("w", 5, "mail")), []int64{made[0].Task.ID})
		urgent, taken := e.eager(2, nil, e.newTask("sms", queue.TaskMeta{}), e.newTask("mail", queue.TaskMeta{Priority: 1}), e.newTask("mail", queue.TaskMeta{}))
		e.equal("taken of both queues", len(taken), 2)
		e.status(urgent[0].Task.ID, queue.StatusRetained)
		e.status(urgent[1].Task.ID, queue.StatusNew)
		e.status(urgent[2].Task.ID, queue.StatusRetained)
	})
	e.it("a bulk is created whole, and its first tasks are held", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		tasks := make([]queue.NewTask, 200)
		for i := range tasks {
			tasks[i] = e.newTask("mail", queue.TaskMeta{})
		}
		made, taken := e.eager(10, mail, tasks...)
		want := make([]int64, len(made))
		for i, c := range made {
			want[i] = c.Task.ID
		}
		e.equal("taken", ids(taken), want[:10])
		e.equal("left", ids(e.retain("w", 300, "mail")), want[10:])
	})
	e.it("a delayed task, a replay of a key and a refused one start nothing", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		_, taken := e.eager(5, mail, e.newTask("mail", queue.TaskMeta{Delay: time.Hour}))
		e.equal("taken", len(taken), 0)
		first := e.create("mail", queue.TaskMeta{Key: "k"})
		e.hold("mail")
		made, taken := e.eager(5, mail, e.newTask("mail", queue.TaskMeta{Key: "k"}), e.newTask("none", queue.TaskMeta{}))
		e.equal("taken", len(taken), 0)
		e.equal("replay", made[0].Task.ID, first.ID)
		e.kind(made[1].Err, queue.KindNotFound)
	})
	e.it("where nothing may be retained the create stands", func(e *env) {
		e.queue("mail", queue.QueueMeta{Paused: new(true)})
		e.queue("full", queue.QueueMeta{Concurrency: new(1)})
		made, taken := e.eager(5, mail, e.newTask("mail", queue.TaskMeta{}))
		e.equal("taken", len(taken), 0)
		e.status(made[0].Task.ID, queue.StatusNew)
		made, taken = e.eager(5, []string{"none"}, e.newTask("mail", queue.TaskMeta{}))
		e.equal("taken", len(taken), 0)
		e.status(made[0].Task.ID, queue.StatusNew)
		_, taken = e.eager(5, []string{"full"}, e.newTask("full", queue.TaskMeta{}), e.newTask("full", queue.TaskMeta{}))
		e.equal("taken under the limit", len(taken), 1)
		_, taken = e.eager(5, []string{"full"}, e.newTask("full", queue.TaskMeta{}))
		e.equal("taken at the limit", len(taken), 0)
	})
	e.it("an atomic create that is refused leaves nothing and takes nothing", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		t := e.create("mail", queue.TaskMeta{})
		_, outs, err := e.s.CreateAndRetain(e.ctx(),
			queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{e.newTask("mail", queue.TaskMeta{}), e.newTask("none", queue.TaskMeta{})}},
			queue.Retain{Namespace: e.ns, Queues: mail, Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
		e.kind(err, queue.KindNotFound)
		e.equal("answers", len(outs), 0)
		e.status(t.ID, queue.StatusNew)
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 1})
	})
}
