package postgrestest_test

import (
	"context"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// rarely is a poll interval that no test waits for: a task found before was not found by polling.
const rarely = time.Minute

// looked signals each look for tasks that found nothing.
type looked struct {
	queue.Store
	empty chan struct{}
}

func (l *looked) Unwrap() queue.Store { return l.Store }

func (l *looked) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	out, err := l.Store.RetainTasks(ctx, r)
	if err == nil && len(out[0]) == 0 {
		select {
		case l.empty <- struct{}{}:
		default:
		}
	}
	return out, err
}

// waiter is a process with a retain that waits for a task.
type waiter struct {
	looked *looked
	task   chan *queue.Task
	m      *manager.Manager
}

// await starts a waiter, and returns when it has looked in vain.
func await(t *testing.T, s *postgres.Store, poll time.Duration) *waiter {
	t.Helper()
	w := &waiter{looked: &looked{s, make(chan struct{}, 1)}, task: make(chan *queue.Task, 1)}
	var err error
	if w.m, err = manager.New(w.looked, manager.WithNamespace("tests"), manager.WithPollInterval(poll), manager.WithBackgroundWork(false)); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ran := make(chan error, 2)
	go func() { ran <- w.m.Run(ctx) }()
	go func() {
		for {
			tasks, err := w.m.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Wait: queue.MaxWait})
			if ctx.Err() != nil || err != nil {
				ran <- nil
				return
			}
			for _, task := range tasks {
				w.task <- task
			}
		}
	}()
	t.Cleanup(func() {
		end()
		for range 2 {
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := cleanupContext(t)
		defer cancel()
		if err := w.m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	w.idle(t)
	return w
}

// idle returns when it has looked in vain.
func (w *waiter) idle(t *testing.T) {
	t.Helper()
	select {
	case <-w.looked.empty:
	case <-time.After(patience):
		t.Fatal("it does not look for tasks")
	}
}

// gets returns when it has a task.
func (w *waiter) gets(t *testing.T) *queue.Task {
	t.Helper()
	select {
	case task := <-w.task:
		return task
	case <-time.After(patience):
		t.Fatalf("it got no task within %v", patience)
		return nil
	}
}

// listens returns when s does.
func listens(t *testing.T, s *postgres.Store) {
	t.Helper()
	waitFor(t, func() (bool, string) { return s.Listening(), "no store listens" })
}

// TestWakeUp has one process wait for what another creates.
func TestWakeUp(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	t.Run("a waiting retain starts by the hint of a create elsewhere, long before it polls", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		a, b := open(t, dsn), open(t, dsn)
		makeQueue(t, a, "tests", "mail")
		w := await(t, b, rarely)
		listens(t, b)
		w.idle(t) // the look that the beginning of listening made it take
		for range 5 {
			began := time.Now()
			makeTask(t, a, "tests", "mail")
			w.gets(t)
			t.Logf("found after %v", time.Since(began))
		}
	})
	t.Run("with a LISTEN that delivers nothing and does not say so tasks are found by polling", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		p := newProxy(t, dsn)
		p.swallow(true)
		a, b := open(t, dsn), open(t, dsn, postgres.WithListenURL(p.url))
		makeQueue(t, a, "tests", "mail")
		w := await(t, b, 100*time.Millisecond)
		listens(t, b)
		for range 5 {
			makeTask(t, a, "tests", "mail")
			w.gets(t)
		}
	})
	t.Run("what came while LISTEN delivered nothing is found as soon as it is healed", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		p := newProxy(t, dsn)
		p.swallow(true)
		logs := make(signals, 100)
		a, b := open(t, dsn), open(t, dsn, postgres.WithListenURL(p.url), postgres.WithLogger(logs.logger()))
		makeQueue(t, a, "tests", "mail")
		w := await(t, b, rarely)
		listens(t, b)
		w.idle(t)
		makeTask(t, a, "tests", "mail")
		logs.wait(t, "LISTEN delivers nothing") // that hint is lost
		p.swallow(false)
		w.gets(t)
		makeTask(t, a, "tests", "mail")
		w.gets(t)
	})
	t.Run("with connections for LISTEN that are ended all the time tasks are found by polling", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		a, b := open(t, dsn), open(t, dsn)
		makeQueue(t, a, "tests", "mail")
		w, conn := await(t, b, 100*time.Millisecond), connect(t, dsn)
		listens(t, b)
		for range 10 {
			sql(t, conn, "select pg_terminate_backend(pid) from pg_stat_activity "+
				"where datname = current_database() and application_name = 'pgqueue listen'")
			makeTask(t, a, "tests", "mail")
			w.gets(t)
		}
		listens(t, b) // it heals
	})
	t.Run("with no LISTEN to be had tasks are found by polling", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		p := newProxy(t, dsn)
		p.close()
		a, b := open(t, dsn), open(t, dsn, postgres.WithListenURL(p.url))
		makeQueue(t, a, "tests", "mail")
		w := await(t, b, 100*time.Millisecond)
		for range 5 {
			makeTask(t, a, "tests", "mail")
			w.gets(t)
		}
	})
}
