package manager

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func await(m *Manager, id int64, wait time.Duration) *later[*queue.Task] {
	return start(func() (*queue.Task, error) { return m.AwaitTask(context.Background(), id, wait) })
}

func TestAwait(t *testing.T) {
	bubble(t, "a release of this process ends the wait at once", func(t *testing.T, f *fake, m *Manager) {
		none(t, []error{create(m, "mail")})
		task, _ := m.NextTask(t.Context(), "w")
		w := await(m, task.ID, time.Minute)
		pass(20 * time.Second)
		released, err := m.ReleaseTask(t.Context(), task.ID, true, map[string]int{"n": 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.wait()
		if err != nil || got.Status != queue.StatusReleased || string(got.Result) != `{"n":1}` || w.took != 20*time.Second {
			t.Fatal(got, err, w.took)
		}
		if got == released {
			t.Error("two callers share a task")
		}
	})
	bubble(t, "an end elsewhere is found within the poll interval", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		w := await(m, 1, time.Minute)
		pass(20 * time.Second)
		f.finish(1, queue.StatusExpired)
		if got, err := w.wait(); err != nil || got.Status != queue.StatusExpired || w.took > 21100*time.Millisecond {
			t.Fatal(got, err, w.took)
		}
	})
	bubble(t, "at the end of the wait the task comes as it is", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		for _, wait := range []time.Duration{0, time.Second} {
			w := await(m, 1, wait)
			if got, err := w.wait(); err != nil || got.Status != queue.StatusNew || w.took != wait {
				t.Fatal(got, err, w.took)
			}
		}
	})
	bubble(t, "an unknown task is reported at once, a deleted one soon", func(t *testing.T, f *fake, m *Manager) {
		w := await(m, 1, time.Minute)
		_, err := w.wait()
		kind(t, err, queue.KindNotFound)
		if w.took != 0 {
			t.Errorf("took %v", w.took)
		}
		f.put("default", "mail", 1)
		w = await(m, 1, time.Minute)
		pass(10 * time.Second)
		f.mu.Lock()
		delete(f.tasks, 1)
		f.mu.Unlock()
		_, err = w.wait()
		kind(t, err, queue.KindNotFound)
	})
	bubble(t, "a task of another namespace is unknown", func(t *testing.T, f *fake, m *Manager) {
		f.put("other", "mail", 1)
		_, err := await(m, 1, time.Minute).wait()
		kind(t, err, queue.KindNotFound)
	})
	bubble(t, "a thousand awaits cost one store call a poll", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1000)
		wait := each(1000, func(i int) error {
			_, err := m.AwaitTask(t.Context(), int64(i+1), 2*time.Minute)
			return err
		})
		pass(30 * time.Second)
		before := f.count("ended")
		pass(time.Minute)
		if n := f.count("ended") - before; n < 50 || n > 130 {
			t.Errorf("%d calls in a minute", n)
		}
		for id := range int64(1000) {
			f.finish(id+1, queue.StatusReleased)
		}
		none(t, wait())
		synctest.Wait()
		if m.awaits.Len() != 0 {
			t.Error("the awaiting is left behind")
		}
	})
	bubble(t, "a caller that gives up is forgotten", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := m.AwaitTask(ctx, 1, time.Minute)
		kind(t, err, queue.KindDeadline)
		synctest.Wait()
		if m.awaits.Len() != 0 {
			t.Error("the awaiting is left behind")
		}
	})
}
