package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// Mail is what the examples work on.
type Mail struct {
	To string `json:"to"`
}

// A queue in the process: a task goes in, is worked by a handler and comes out. With adapters/postgres in place of
// adapters/memory it is the same.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m, err := manager.New(memory.New())
	if err != nil {
		log.Fatal(err)
	}
	send := func(_ context.Context, mail Mail) (string, error) { return "sent to " + mail.To, nil }
	if _, err := m.RegisterQueueWorker(ctx, queue.QueueMeta{Name: "mail", Retries: new(2)}, worker.Typed(send)); err != nil {
		log.Fatal(err)
	}
	running := make(chan error, 1)
	go func() { running <- m.Run(ctx) }() // the workers, and the background work

	task, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: []byte(`{"to":"ann@example.org"}`)})
	if err != nil {
		log.Fatal(err)
	}
	task, err = m.AwaitTask(ctx, task.ID, time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(task.Status, string(task.Result))

	cancel() // drains the workers
	if err := <-running; err != nil {
		log.Fatal(err)
	}
	if err := m.Close(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output: released "sent to ann@example.org"
}

// Tasks by hand, in batches: create, retain, heartbeat, release.
func Example_batches() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	if _, err := m.CreateTasks(ctx, []queue.NewTask{
		{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`{"to":"ann@example.org"}`)}},
		{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`{"to":"bob@example.org"}`), Priority: -1}},
	}); err != nil {
		log.Fatal(err)
	}
	tasks, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: "w1", Queues: []string{"mail"}, Limit: 10, Wait: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	beats := make([]queue.Heartbeat, len(tasks))
	releases := make([]queue.Release, len(tasks))
	for i, t := range tasks {
		beats[i] = queue.Heartbeat{ID: t.ID, Token: t.Lease.Token}
		releases[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess, Result: []byte(`"sent"`)}
	}
	if _, err := m.HeartbeatTasks(ctx, beats); err != nil { // each answer has an error of its own
		log.Fatal(err)
	}
	released, err := m.ReleaseTasks(ctx, releases)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range released {
		fmt.Println(string(r.Task.Payload), r.Task.Status, r.Err)
	}
	// Output:
	// {"to":"bob@example.org"} released <nil>
	// {"to":"ann@example.org"} released <nil>
}

// The error of a handler decides the outcome of its task.
func Example_outcomes() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	errTypo := errors.New("no such address")
	handler := worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
		switch task.Headers["case"] {
		case "typo":
			return nil, worker.Permanent(errTypo) // retries would not help
		case "busy":
			return nil, worker.RetryIn(errors.New("try later"), time.Hour) // instead of the backoff
		case "night":
			return nil, worker.Snooze(8 * time.Hour) // costs no attempt
		}
		return nil, nil
	})
	for _, c := range []string{"typo", "busy", "night", "fine"} {
		if _, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Headers: map[string]string{"case": c}}); err != nil {
			log.Fatal(err)
		}
	}
	tasks, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: "w1", Limit: 4})
	if err != nil {
		log.Fatal(err)
	}
	for _, task := range tasks {
		out, err := m.ReleaseTasks(ctx, []queue.Release{worker.Work(ctx, handler, task)})
		if err != nil {
			log.Fatal(err)
		}
		t := out[0].Task
		fmt.Println(task.Headers["case"], t.Status, "retries", t.Retries, "attempt", t.Attempt)
	}
	// Output:
	// typo failed retries 3 attempt 1
	// busy retry retries 2 attempt 1
	// night new retries 3 attempt 0
	// fine released retries 3 attempt 1
}

// The same key gives the same task, however often it is sent; with another payload it is refused.
func Example_idempotency() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	create := func(payload string) (*queue.Task, error) {
		return m.CreateTask(ctx, "mail", queue.TaskMeta{Key: "order-17", Payload: []byte(payload)})
	}
	first, err := create(`{"to":"ann@example.org"}`)
	if err != nil {
		log.Fatal(err)
	}
	again, err := create(`{"to":"ann@example.org"}`)
	if err != nil {
		log.Fatal(err)
	}
	_, err = create(`{"to":"bob@example.org"}`)
	fmt.Println(again.ID == first.ID, again.Replayed, errors.Is(err, queue.ErrKeyReused))
	// Output: true true true
}

// A lease that is lost changes nothing any more: the token of the new one is larger.
func Example_fencing() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	if _, err := m.CreateTask(ctx, "mail", queue.TaskMeta{}); err != nil {
		log.Fatal(err)
	}
	retain := func(name string) *queue.Task {
		tasks, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: name})
		if err != nil || len(tasks) != 1 {
			log.Fatal(len(tasks), err)
		}
		return tasks[0]
	}
	release := func(task *queue.Task, o queue.Outcome) error {
		out, err := m.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: o}})
		if err != nil {
			return err
		}
		return out[0].Err
	}
	old := retain("w1")
	if err := release(old, queue.OutcomeHandBack); err != nil {
		log.Fatal(err)
	}
	present := retain("w2")
	err := release(old, queue.OutcomeSuccess) // too late
	fmt.Println(present.Lease.Token > old.Lease.Token, errors.Is(err, queue.ErrLeaseLost))
	fmt.Println(release(present, queue.OutcomeSuccess))
	// Output:
	// true true
	// <nil>
}

// A ticker makes a task at each of its times. A preview lists the times, and RunTicker fires at once.
func Example_ticker() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	if _, err := m.RegisterTicker(ctx, queue.TickerMeta{
		Name: "digest", Cron: new("30 6 * * 1-5"), Timezone: new("Europe/Berlin"), Queue: new("mail"),
		Payload: []byte(`{"to":"all@example.org"}`),
	}); err != nil {
		log.Fatal(err)
	}
	next, err := m.PreviewTicker(ctx, "digest", 3)
	if err != nil {
		log.Fatal(err)
	}
	tick, err := m.RunTicker(ctx, "digest")
	if err != nil {
		log.Fatal(err)
	}
	task, err := m.GetTask(ctx, tick.TaskID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(next), task.Queue, string(task.Payload))
	// Output: 3 mail {"to":"all@example.org"}
}

// The ticks of a ticker without a queue go to exactly one handler, in any process.
func Example_tickHandler() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m, end := demo()
	defer end()
	if _, err := m.RegisterTicker(ctx, queue.TickerMeta{Name: "sweep", Period: new(time.Hour)}); err != nil {
		log.Fatal(err)
	}
	if _, err := m.RunTicker(ctx, "sweep"); err != nil {
		log.Fatal(err)
	}
	err := m.RunTickerLoop(ctx, func(_ context.Context, tick queue.Tick) error {
		fmt.Println(tick.Ticker, tick.Manual)
		cancel()
		return nil // after an error the tick goes to another listener
	})
	fmt.Println(errors.Is(err, queue.ErrCanceled))
	// Output:
	// sweep true
	// true
}

// The feed of events resumes behind any event's cursor without a gap.
func Example_events() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	start, err := m.LastEvent(ctx)
	if err != nil {
		log.Fatal(err)
	}
	task, err := m.CreateTask(ctx, "mail", queue.TaskMeta{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := m.CancelTasks(ctx, queue.Selection{IDs: []int64{task.ID}}); err != nil {
		log.Fatal(err)
	}
	page, err := m.ListEvents(ctx, queue.EventFilter{Queue: "mail", After: start}, 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range page.Events {
		fmt.Println(e.Kind, e.TaskID == task.ID)
	}
	// Output:
	// created true
	// cancelled true
}

// Bulk moves take ids or a filter; a dry run only counts.
func Example_bulk() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	for range 3 {
		if _, err := m.CreateTask(ctx, "mail", queue.TaskMeta{}); err != nil {
			log.Fatal(err)
		}
	}
	waiting := &queue.TaskFilter{Queue: "mail", Statuses: []queue.Status{queue.StatusNew, queue.StatusRetry}}
	for _, dry := range []bool{true, false} {
		done, err := m.CancelTasks(ctx, queue.Selection{Filter: waiting, DryRun: dry})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("matched", done.Matched, "moved", done.Moved)
	}
	// Output:
	// matched 3 moved 0
	// matched 3 moved 3
}

// Namespaces are invisible to each other.
func Example_namespaces() {
	ctx := context.Background()
	m, end := demo()
	defer end()
	other, err := m.In("acme")
	if err != nil {
		log.Fatal(err)
	}
	_, err = other.GetQueue(ctx, "mail")
	fmt.Println(m.Namespace(), other.Namespace(), errors.Is(err, queue.ErrNotFound))
	// Output: default acme true
}

// A worker of its own: middleware, slots, progress, a ticker's handler.
func Example_worker() {
	ctx, stop := context.WithCancel(context.Background())
	m, end := demo() // or restclient.New(…), connectclient.New(…)
	defer end()
	w := worker.New(m, worker.WithConcurrency(20))
	w.Use(func(next worker.Handler) worker.Handler { // middleware around the handlers of all queues
		return worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
			v, err := next.Work(ctx, task)
			fmt.Println(task.Queue, worker.OutcomeOf(err))
			return v, err
		})
	})
	w.Handle("mail", worker.Typed(func(ctx context.Context, mail Mail) (string, error) {
		worker.Logf(ctx, "attempt %d", worker.TaskFrom(ctx).Attempt) // seen on the task and in the feed of events
		if err := worker.Progress(ctx, map[string]int{"percent": 50}); err != nil {
			return "", err
		}
		return "sent to " + mail.To, ctx.Err() // ctx ends at a cancel, dies_at, a lost lease, the end of the drain
	}), worker.Concurrency(4)) // slots of its own, beside the 20
	w.HandleTicker("sweep", func(_ context.Context, tick queue.Tick) error {
		fmt.Println("tick of", tick.Ticker)
		stop() // as a signal would
		return nil
	})

	if _, err := m.RegisterTicker(ctx, queue.TickerMeta{Name: "sweep", Period: new(time.Hour)}); err != nil {
		log.Fatal(err)
	}
	task, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: []byte(`{"to":"ann@example.org"}`)})
	if err != nil {
		log.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }() // until ctx ends and every held task is released or handed back
	if task, err = m.AwaitTask(ctx, task.ID, time.Minute); err != nil {
		log.Fatal(err)
	}
	fmt.Println(task.Status, string(task.Result))
	if _, err := m.RunTicker(ctx, "sweep"); err != nil {
		log.Fatal(err)
	}
	if err := <-ran; err != nil {
		log.Fatal(err)
	}
	// Output:
	// mail success
	// released "sent to ann@example.org"
	// tick of sweep
}

// demo is a manager with the queue mail, and what ends it.
func demo() (*manager.Manager, func()) {
	ctx := context.Background()
	m, err := manager.New(memory.New())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := m.RegisterQueue(ctx, queue.QueueMeta{Name: "mail"}); err != nil {
		log.Fatal(err)
	}
	return m, func() {
		if err := m.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
}
