package queuetest

import (
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testWorkers(e *env) {
	e.it("workers are listed with their tasks and times", func(e *env) {
		e.queue("a", queue.QueueMeta{Lease: new(100 * time.Hour)})
		e.queue("b", queue.QueueMeta{Lease: new(100 * time.Hour)})
		e.createN("a", 3)
		e.createN("b", 3)
		list := func() []queue.Worker {
			e.Helper()
			w, err := e.s.ListWorkers(e.ctx(), e.ns)
			e.ok(err)
			return w
		}
		e.equal("workers", len(list()), 0)
		first := e.retain("bob", 1, "b")[0]
		e.advance(10 * time.Hour)
		second := e.retain("bob", 1, "a")[0]
		third := e.retain("ann", 2, "a")
		got := list()
		e.equal("number", len(got), 2)
		e.equal("ann", []any{got[0].Name, got[0].Held, got[0].Queues}, []any{"ann", int64(2), []string{"a"}})
		e.equal("bob", []any{got[1].Name, got[1].Held, got[1].Queues}, []any{"bob", int64(2), []string{"a", "b"}})
		e.near("since", got[1].Since, first.StartedAt, time.Second)
		e.near("expires", got[1].ExpiresAt, first.Lease.ExpiresAt, time.Second)
		e.near("ann since", got[0].Since, third[0].StartedAt, time.Second)
		e.release(first, queue.OutcomeSuccess, "")
		got = list()
		e.equal("bob", []any{got[1].Held, got[1].Queues}, []any{int64(1), []string{"a"}})
		e.near("since", got[1].Since, second.StartedAt, time.Second)
		e.release(second, queue.OutcomeFailure, "")
		e.equal("number", len(list()), 1)
	})
	e.it("a worker names its first 1000 queues, and how many there are", func(e *env) {
		create := queue.Create{Namespace: e.ns, Atomic: true}
		for i := range queue.MaxWorkerQueues + 1 {
			name := fmt.Sprintf("q%04d", i)
			e.queue(name, queue.QueueMeta{})
			create.Tasks = append(create.Tasks, queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}})
		}
		_, err := e.s.CreateTasks(e.ctx(), create)
		e.ok(err)
		e.equal("retained", len(e.retain("bob", len(create.Tasks))), len(create.Tasks))
		w, err := e.s.ListWorkers(e.ctx(), e.ns)
		e.ok(err)
		e.equal("bob", []any{len(w), w[0].QueueCount, len(w[0].Queues)}, []any{1, queue.MaxWorkerQueues + 1, queue.MaxWorkerQueues})
		e.equal("the last queue", w[0].Queues[queue.MaxWorkerQueues-1], fmt.Sprintf("q%04d", queue.MaxWorkerQueues-1))
	})
}
