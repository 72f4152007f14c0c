package manager

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/waitlist"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestEagerStart(t *testing.T) {
	bubble(t, "a create hands its task to the caller that has waited longest, in one store call", func(t *testing.T, f *fake, m *Manager) {
		first := retain(m, waitFor("first", time.Minute))
		synctest.Wait()
		second := retain(m, waitFor("second", time.Minute, "mail"))
		synctest.Wait()
		looks := f.count("retain")
		for _, w := range []*later[[]*queue.Task]{first, second} {
			none(t, []error{create(m, "mail")})
			if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 0 {
				t.Fatal(tasks, err, w.took)
			}
		}
		if f.count("retain") != looks || f.count("eager") != 2 || f.count("create") != 0 {
			t.Errorf("calls are %v", f.calls)
		}
	})
	bubble(t, "a batch is shared out, and its other tasks wake the remaining callers", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		synctest.Wait()
		if _, err := m.CreateTasks(t.Context(), make200()[:3]); err != nil {
			t.Fatal(err)
		}
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 {
			t.Fatal(tasks, err)
		}
		if tasks, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: 5}); err != nil || len(tasks) != 2 {
			t.Fatal(tasks, err)
		}
	})
	bubble(t, "no caller gets a delayed task, one of another queue, or one of a large batch", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute, "mail"))
		synctest.Wait()
		none(t, []error{create(m, "sms")})
		if _, err := m.CreateTask(t.Context(), "mail", queue.TaskMeta{Delay: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.CreateTasks(t.Context(), make200()[:waitlist.MaxHandoff+1]); err != nil {
			t.Fatal(err)
		}
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || f.count("eager") != 0 {
			t.Fatal(tasks, err, f.calls)
		}
	})
	bubble(t, "a create that fails is an error of its creator; waiting callers continue to wait", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		pass(time.Second)
		f.refuse(func(_ context.Context, call string, _ any) error {
			if call == "eager" {
				return &queue.Error{Kind: queue.KindDenied}
			}
			return nil
		})
		kind(t, create(m, "mail"), queue.KindDenied)
		pass(time.Second)
		f.refuse(nil)
		none(t, []error{create(m, "mail")})
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 2*time.Second {
			t.Fatal(tasks, err, w.took)
		}
	})
	bubble(t, "a waiting caller gets the task of a creator that has gone", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		synctest.Wait()
		release := f.block("eager")
		ctx, cancel := context.WithCancel(t.Context())
		created := start(func() ([]*queue.Task, error) { return m.CreateTasks(ctx, make200()[:1]) })
		synctest.Wait()
		cancel()
		_, err := created.wait()
		kind(t, err, queue.KindIndeterminate)
		release()
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 {
			t.Fatal(tasks, err)
		}
	})
	bubble(t, "a task retained for a caller that has gone is handed back", func(t *testing.T, f *fake, m *Manager) {
		leaveWithATask(t, f, m)
		if n := f.held(); n != 0 {
			t.Errorf("%d tasks stay held", n)
		}
	})
	for _, c := range []struct {
		sentence string
		away     time.Duration
		held     int
	}{
		{"a task of a caller that has gone is handed back by a store that is away for 9 s", 9 * time.Second, 0},
		{"the hand-back of a task of a caller that has gone ends after 10 s", 11 * time.Second, 1},
	} {
		bubble(t, c.sentence, func(t *testing.T, f *fake, m *Manager) {
			back := time.Now().Add(c.away)
			f.refuse(func(_ context.Context, call string, _ any) error {
				if call == "release" && time.Now().Before(back) {
					return &queue.Error{Kind: queue.KindUnavailable}
				}
				return nil
			})
			leaveWithATask(t, f, m)
			pass(20 * time.Second)
			if n := f.held(); n != c.held {
				t.Errorf("%d tasks stay held after %d releases, want %d", n, f.count("release"), c.held)
			}
		})
	}
	bubble(t, "a hand-back does not hold up a close that has no time", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(func(_ context.Context, call string, _ any) error {
			if call == "release" {
				return &queue.Error{Kind: queue.KindUnavailable}
			}
			return nil
		})
		leaveWithATask(t, f, m)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := m.Close(ctx); queue.KindOf(err) != queue.KindDeadline || time.Since(began) > time.Second {
			t.Errorf("the close took %v: %v", time.Since(began), err)
		}
	})
	bubble(t, "a caller served by a create is not served by its waitlist too", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		synctest.Wait()
		release := f.block("eager")
		created := start(func() (struct{}, error) { return struct{}{}, create(m, "mail") })
		synctest.Wait()
		elsewhere(f, m)
		pass(10 * time.Second)
		if n := f.held(); n != 0 {
			t.Errorf("%d tasks are held", n)
		}
		release()
		if _, err := created.wait(); err != nil {
			t.Fatal(err)
		}
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || f.held() != 1 {
			t.Fatal(tasks, err, f.held())
		}
	})
}

// leaveWithATask has a caller leave while a create retains a task for it.
func leaveWithATask(t *testing.T, f *fake, m *Manager) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	gone := start(func() ([]*queue.Task, error) { return m.RetainTasks(ctx, waitFor("gone", time.Minute)) })
	synctest.Wait()
	release := f.block("eager")
	created := start(func() (struct{}, error) { return struct{}{}, create(m, "mail") })
	synctest.Wait()
	cancel()
	_, err := gone.wait()
	kind(t, err, queue.KindCanceled)
	release()
	if _, err := created.wait(); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}
