package manager

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestClose(t *testing.T) {
	bubble(t, "waiting callers are answered, and no call is accepted any more", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		task, err := m.NextTask(t.Context(), "w")
		if err != nil {
			t.Fatal(err)
		}
		var all []*later[struct{}]
		wait := func(f func() error) { all = append(all, start(func() (struct{}, error) { return struct{}{}, f() })) }
		wait(func() error { _, err := m.RetainTasks(context.Background(), waitFor("w", time.Minute)); return err })
		wait(func() error { _, err := m.AwaitTask(context.Background(), task.ID, time.Minute); return err })
		wait(func() error {
			return m.SubscribeEvents(context.Background(), queue.EventFilter{}, func(queue.Event) error { return nil })
		})
		wait(func() error {
			return m.RunTickerLoop(context.Background(), func(context.Context, queue.Tick) error { return nil })
		})
		wait(func() error { _, err := m.NextTicker(context.Background()); return err })
		pass(5 * time.Second)
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, w := range all {
			_, err := w.wait()
			kind(t, err, queue.KindUnavailable)
		}
		kind(t, create(m, "mail"), queue.KindUnavailable)
		_, err = m.GetTask(t.Context(), task.ID)
		kind(t, err, queue.KindUnavailable)
		kind(t, m.Run(t.Context()), queue.KindUnavailable)
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	bubble(t, "calls in flight end well, those that had not left are refused", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		first := occupy(m)
		wait := each(10, func(int) error { return create(m, "mail") })
		synctest.Wait()
		closed := start(func() (int, error) { return 0, m.Close(context.Background()) })
		synctest.Wait()
		if closed.done.Load() {
			t.Error("close did not wait for calls in flight")
		}
		release()
		if _, err := closed.wait(); err != nil {
			t.Fatal(err)
		}
		none(t, first())
		for _, err := range wait() {
			kind(t, err, queue.KindUnavailable)
		}
		if len(f.tasks) != DefaultMaxCalls {
			t.Errorf("%d tasks", len(f.tasks))
		}
	})
	bubble(t, "when its context ends the calls in flight are cancelled", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		defer release()
		get := f.block("get")
		defer get()
		created := start(func() (struct{}, error) { return struct{}{}, create(m, "mail") })
		got := start(func() (*queue.Task, error) { return m.GetTask(context.Background(), 1) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		kind(t, m.Close(ctx), queue.KindDeadline)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		_, err := created.wait()
		kind(t, err, queue.KindIndeterminate)
		_, err = got.wait()
		kind(t, err, queue.KindUnavailable)
	})
	bubble(t, "a task retained while the manager closes is handed back", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		synctest.Wait()
		release := f.block("retain")
		elsewhere(f, m)
		synctest.Wait()
		closed := start(func() (int, error) { return 0, m.Close(context.Background()) })
		synctest.Wait()
		_, err := w.wait()
		kind(t, err, queue.KindUnavailable)
		release()
		if _, err := closed.wait(); err != nil {
			t.Fatal(err)
		}
		if n := f.held(); n != 0 {
			t.Errorf("%d tasks stay held", n)
		}
	})
}
