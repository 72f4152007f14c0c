package queuetest

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// This file has helpers for tests of an application: of its handlers, and of the tasks that it creates. Over the memory
// store they need no database:
//
//	m, err := manager.New(memory.New())
//
// Inside testing/synctest the memory store uses the clock of the bubble, so delays, backoff and leases pass at once.
// Run the manager there, which makes delayed tasks ready. Call time.Sleep for the delay and a second more, then Drain.

// RunHandler runs handler on a task with payload, as a worker would, and returns the resulting release: its outcome,
// result and delay. change may set more fields of the task (Headers, Attempt, DiesAt …). The handler's context is that
// of the test.
func RunHandler(t testing.TB, handler worker.Handler, payload any, change ...func(*queue.Task)) queue.Release {
	t.Helper()
	b, err := queue.Marshal(payload)
	if err != nil {
		t.Fatalf("the payload %v", err)
	}
	if b == nil {
		b = queue.EmptyJSON
	}
	now := time.Now()
	task := &queue.Task{
		ID: 1, Namespace: queue.DefaultNamespace, Queue: "test", Payload: b, Status: queue.StatusRetained, Worker: "test",
		CreatedAt: now, StartedAt: now, Attempt: 1, Retries: queue.DefaultRetries,
	}
	for _, c := range change {
		c(task)
	}
	return worker.Work(t.Context(), handler, task)
}

// RequireOutcome fails the test unless rel has the outcome want.
func RequireOutcome(t testing.TB, rel queue.Release, want queue.Outcome) {
	t.Helper()
	if rel.Outcome != want {
		t.Fatalf("the task ended with %s, not %s; its result is %s", rel.Outcome, want, rel.Result)
	}
}

// RequireResult fails the test unless rel is a success with an R as result. It returns the result.
func RequireResult[R any](t testing.TB, rel queue.Release) (r R) {
	t.Helper()
	RequireOutcome(t, rel, queue.OutcomeSuccess)
	if err := json.Unmarshal(rel.Result, &r); err != nil {
		t.Fatalf("the result %s is no %T: %v", rel.Result, r, err)
	}
	return r
}

// lister is the part of queue.Tasks that the helpers need to read tasks.
type lister interface {
	ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error)
}

// Created returns every task of a queue, oldest first; name "" means all queues of the namespace.
func Created(t testing.TB, svc lister, name string) []*queue.Task {
	t.Helper()
	q := queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: name}, Page: queue.Page{Limit: queue.MaxPage}}
	var all []*queue.Task
	for {
		p, err := svc.ListTasks(t.Context(), q)
		if err != nil {
			t.Fatalf("list the tasks of queue %q: %v", name, err)
		}
		all = append(all, p.Tasks...)
		if p.Next == "" || len(p.Tasks) == 0 {
			slices.Reverse(all)
			return all
		}
		q.Cursor = p.Next
	}
}

// RequireCreated fails the test unless exactly one task of a queue has payload, compared as JSON, in any status. It
// returns that task.
func RequireCreated(t testing.TB, svc lister, name string, payload any) *queue.Task {
	t.Helper()
	found, all := withPayload(t, svc, name, payload)
	if len(found) != 1 {
		t.Fatalf("%d tasks of queue %q have the payload, not 1; its payloads are\n%s", len(found), name, payloads(all))
	}
	return found[0]
}

// RequireNotCreated fails the test when a task of a queue has payload.
func RequireNotCreated(t testing.TB, svc lister, name string, payload any) {
	t.Helper()
	if found, _ := withPayload(t, svc, name, payload); len(found) > 0 {
		t.Fatalf("%d tasks of queue %q have the payload, as task %d", len(found), name, found[0].ID)
	}
}

func withPayload(t testing.TB, svc lister, name string, payload any) (found, all []*queue.Task) {
	t.Helper()
	b, err := queue.Marshal(payload)
	if err != nil {
		t.Fatalf("the payload %v", err)
	}
	want := decoded(b)
	all = Created(t, svc, name)
	for _, task := range all {
		if reflect.DeepEqual(decoded(task.Payload), want) {
			found = append(found, task)
		}
	}
	return found, all
}

// decoded decodes JSON and keeps the spelling of its numbers.
func decoded(b []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(b)
	}
	return v
}

func payloads(tasks []*queue.Task) []byte {
	var b bytes.Buffer
	for _, t := range tasks[:min(len(tasks), 20)] {
		b.Write(append(t.Payload, '\n'))
	}
	return b.Bytes()
}

// maxDrained bounds Drain, because a handler that keeps creating tasks would never let it end.
const maxDrained = 100_000

// Drain works the queues of handlers, one task after the other in the service's order, until it can retain none of
// their tasks. It includes tasks that handlers create meanwhile, but not delayed tasks or tasks that wait for a retry.
// It returns the tasks as they were after their release, in the order of work.
func Drain(t testing.TB, svc queue.Consumer, handlers map[string]worker.Handler) []*queue.Task {
	t.Helper()
	r := queue.RetainRequest{Worker: "drain"}
	for name := range handlers {
		r.Queues = append(r.Queues, name)
	}
	if len(r.Queues) == 0 {
		t.Fatal("drain: no handlers")
	}
	var worked []*queue.Task
	for len(worked) < maxDrained {
		tasks, err := svc.RetainTasks(t.Context(), r)
		if err != nil {
			t.Fatalf("drain: %v", err)
		}
		if len(tasks) == 0 {
			return worked
		}
		h := handlers[tasks[0].Queue]
		if h == nil {
			t.Fatalf("drain: task %d is of queue %q, which was not asked for", tasks[0].ID, tasks[0].Queue)
		}
		out, err := svc.ReleaseTasks(t.Context(), []queue.Release{worker.Work(t.Context(), h, tasks[0])})
		if err == nil {
			err = out[0].Err
		}
		if err != nil {
			t.Fatalf("drain: release task %d: %v", tasks[0].ID, err)
		}
		worked = append(worked, out[0].Task)
	}
	t.Fatalf("drain: still tasks after %d; does a handler create its own successor?", maxDrained)
	return nil
}
