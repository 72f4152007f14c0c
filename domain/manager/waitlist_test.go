package manager

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func retain(m *Manager, r queue.RetainRequest) *later[[]*queue.Task] {
	return start(func() ([]*queue.Task, error) { return m.RetainTasks(context.Background(), r) })
}

func TestWaitingRetain(t *testing.T) {
	bubble(t, "a task that is there is given at once", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		w := retain(m, waitFor("w", time.Minute))
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 0 {
			t.Fatal(tasks, err, w.took)
		}
	})
	bubble(t, "a create of this process wakes at once", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute, "mail", "sms"))
		pass(30 * time.Second)
		if err := create(m, "mail"); err != nil {
			t.Fatal(err)
		}
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 30*time.Second {
			t.Fatal(tasks, err, w.took)
		}
	})
	bubble(t, "a create in another queue or namespace wakes no caller", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Second, "mail"))
		synctest.Wait()
		before := f.count("retain")
		other, _ := m.In("other")
		_, err := other.CreateTask(t.Context(), "mail", queue.TaskMeta{})
		none(t, []error{err, create(m, "sms")})
		synctest.Wait()
		if n := f.count("retain") - before; n != 0 {
			t.Errorf("%d store calls", n)
		}
		if tasks, err := w.wait(); err != nil || len(tasks) != 0 || w.took != time.Second {
			t.Fatal(tasks, err, w.took)
		}
	})
	bubble(t, "a hint of the store wakes at once", func(t *testing.T, f *fake, m *Manager) {
		ctx, cancel := context.WithCancel(t.Context())
		ran := start(func() (int, error) { return 0, m.Run(ctx) })
		w := retain(m, waitFor("w", time.Minute, "mail"))
		pass(20 * time.Second)
		f.put("default", "mail", 1)
		f.wakes <- queue.Wake{Namespace: "default", Queue: "mail"}
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 20*time.Second {
			t.Fatal(tasks, err, w.took)
		}
		cancel()
		if _, err := ran.wait(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "without a hint a task is found within the poll interval", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		pass(20 * time.Second)
		f.put("default", "mail", 1)
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took > 21100*time.Millisecond {
			t.Fatal(tasks, err, w.took)
		}
	})
	bubble(t, "a delayed task wakes when it is due", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		pass(20 * time.Second)
		if _, err := m.CreateTask(t.Context(), "mail", queue.TaskMeta{Delay: 5 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 20*time.Second+5*time.Millisecond {
			t.Fatal(tasks, err, w.took)
		}
	})
	bubble(t, "a hand back of this process wakes at once", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		task, err := m.NextTask(t.Context(), "first")
		if err != nil {
			t.Fatal(err)
		}
		w := retain(m, waitFor("second", time.Minute))
		pass(20 * time.Second)
		back := queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeHandBack}
		if _, err := m.ReleaseTasks(t.Context(), []queue.Release{back}); err != nil {
			t.Fatal(err)
		}
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 20*time.Second {
			t.Fatal(tasks, err, w.took)
		}
	})
	bubble(t, "a place under a concurrency limit wakes, the end of a task without one does not", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 20)
		tasks, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: 20})
		if err != nil {
			t.Fatal(err)
		}
		w := retain(m, waitFor("w", time.Minute))
		pass(20 * time.Second)
		for limit := range 2 {
			f.mu.Lock()
			f.concurrency = limit
			f.mu.Unlock()
			m.concurrency.Forget("default", "mail")
			m.concurrency.IsLimited("default", "mail")
			synctest.Wait() // the manager knows it now
			before := f.count("retain")
			for i, task := range tasks[10*limit : 10*limit+10] {
				// Workers release quietly, and the answer then has no task.
				end := queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: i%2 == 0}
				if _, err := m.ReleaseTasks(t.Context(), []queue.Release{end}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if n := f.count("retain") - before; n != 10*limit {
				t.Errorf("with concurrency %d ten ends cost %d retains", limit, n)
			}
		}
		if _, err := w.wait(); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a thousand callers of one waitlist cost one store call a poll", func(t *testing.T, f *fake, m *Manager) {
		wait := each(1000, func(i int) error {
			tasks, err := m.RetainTasks(t.Context(), waitFor(workerName(i), 5*time.Minute))
			if len(tasks) > 0 {
				t.Errorf("got %v", tasks)
			}
			return err
		})
		pass(time.Minute)
		before := f.count("retain")
		pass(time.Minute)
		if n := f.count("retain") - before; n < 50 || n > 70 {
			t.Errorf("%d calls in a minute of polling every second", n)
		}
		none(t, wait())
	})
	bubble(t, "the longest wait is served first, and a wake-up serves as many callers as there are tasks", func(t *testing.T, f *fake, m *Manager) {
		var mu sync.Mutex
		var order []string
		var waits []func() []error
		for i := range 300 {
			waits = append(waits, each(1, func(int) error {
				tasks, err := m.RetainTasks(t.Context(), waitFor(workerName(i), time.Hour/6))
				mu.Lock()
				defer mu.Unlock()
				for range tasks {
					order = append(order, workerName(i))
				}
				return err
			}))
			synctest.Wait()
		}
		pass(time.Minute)
		before := f.count("retain")
		if _, err := m.CreateTasks(t.Context(), make200()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := f.count("retain") - before; n > 4 {
			t.Errorf("200 tasks for 300 waiting callers cost %d calls", n)
		}
		slices.Sort(order)
		if len(order) != 200 || order[0] != workerName(0) || order[199] != workerName(199) {
			t.Errorf("%d served, from %v to %v", len(order), order[0], order[len(order)-1])
		}
		before = f.count("retain")
		elsewhere(f, m)
		synctest.Wait()
		if n := f.count("retain") - before; n != 1 || len(order) != 201 || order[200] != workerName(200) {
			t.Errorf("one task cost %d calls", n)
		}
		for _, w := range waits {
			none(t, w())
		}
	})
	bubble(t, "a caller that goes while its room is served loses no task", func(t *testing.T, f *fake, m *Manager) {
		ctx, cancel := context.WithCancel(t.Context())
		gone := start(func() ([]*queue.Task, error) { return m.RetainTasks(ctx, waitFor("gone", time.Minute)) })
		synctest.Wait()
		release := f.block("retain")
		elsewhere(f, m)
		synctest.Wait()
		cancel()
		_, err := gone.wait()
		kind(t, err, queue.KindCanceled)
		stays := retain(m, waitFor("stays", time.Minute))
		synctest.Wait()
		release()
		tasks, err := stays.wait()
		if err != nil || len(tasks) != 1 || tasks[0].Worker != "stays" || stays.took != 0 {
			t.Fatal(tasks, err, stays.took)
		}
	})
	bubble(t, "a wait that ends during a store call takes what the call gives", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Second))
		synctest.Wait()
		release := f.block("retain")
		elsewhere(f, m)
		pass(2 * time.Second)
		release()
		if tasks, err := w.wait(); err != nil || len(tasks) != 1 {
			t.Fatal(tasks, err)
		}
	})
	bubble(t, "a waiting caller sits out an outage and gets its error when it lasts", func(t *testing.T, f *fake, m *Manager) {
		short, long := retain(m, waitFor("w", 5*time.Second)), retain(m, waitFor("w", time.Minute))
		pass(time.Second)
		f.refuse(func(context.Context, string, any) error { return &queue.Error{Kind: queue.KindUnavailable} })
		_, err := short.wait()
		kind(t, err, queue.KindUnavailable)
		f.refuse(nil)
		f.put("default", "mail", 1)
		if tasks, err := long.wait(); err != nil || len(tasks) != 1 || long.took > 7*time.Second {
			t.Fatal(tasks, err, long.took)
		}
	})
	bubble(t, "an error that waiting does not help against is returned at once", func(t *testing.T, f *fake, m *Manager) {
		w := retain(m, waitFor("w", time.Minute))
		pass(time.Second)
		f.refuse(func(context.Context, string, any) error { return &queue.Error{Kind: queue.KindDenied} })
		_, err := w.wait()
		kind(t, err, queue.KindDenied)
	})
	bubble(t, "more than may park are refused", func(t *testing.T, f *fake, m *Manager) {
		wait := each(10, func(int) error { _, err := m.RetainTasks(t.Context(), waitFor("w", time.Minute)); return err })
		synctest.Wait()
		f.put("default", "mail", 1)
		_, err := m.RetainTasks(t.Context(), waitFor("w", time.Minute))
		kind(t, err, queue.KindUnavailable)
		_, err = m.AwaitTask(t.Context(), 1, time.Minute)
		kind(t, err, queue.KindUnavailable)
		none(t, wait())
		if _, err := m.AwaitTask(t.Context(), 1, time.Second); err != nil {
			t.Error(err)
		}
	}, WithBatching(Batching{MaxWaiting: 10}))
	bubble(t, "rooms are left as they were found", func(t *testing.T, f *fake, m *Manager) {
		none(t, each(100, func(i int) error {
			_, err := m.RetainTasks(t.Context(), waitFor("w", time.Second, "q"+workerName(i)))
			return err
		})())
		synctest.Wait()
		if m.waitlists.Len() != 0 {
			t.Errorf("%d rooms", m.waitlists.Len())
		}
	})
}

// elsewhere creates a task in another process, which sends a hint.
func elsewhere(f *fake, m *Manager) {
	f.put("default", "mail", 1)
	m.waitlists.Wake(queue.Wake{Namespace: "default", Queue: "mail"})
}

func make200() []queue.NewTask {
	tasks := make([]queue.NewTask, 200)
	for i := range tasks {
		tasks[i].Queue = "mail"
	}
	return tasks
}

func TestRetainsOfLargeTasks(t *testing.T) {
	const n = 600
	gotOneEach := func(t *testing.T, waits []*later[[]*queue.Task]) {
		t.Helper()
		seen := map[int64]bool{}
		for i, w := range waits {
			tasks, err := w.wait()
			if err != nil || len(tasks) != 1 || tasks[0] == nil || seen[tasks[0].ID] {
				t.Fatalf("caller %d got %v and %v", i, tasks, err)
			}
			seen[tasks[0].ID] = true
		}
	}

	bubble(t, "callers that wait get a task each when a call answers a few of them", func(t *testing.T, f *fake, m *Manager) {
		f.perCall = 8
		var waits []*later[[]*queue.Task]
		for i := range n {
			waits = append(waits, retain(m, waitFor(workerName(i), time.Minute, "mail")))
		}
		synctest.Wait()
		f.put("default", "mail", n)
		pass(time.Second)
		gotOneEach(t, waits)
	})
	bubble(t, "callers that do not wait get a task each when a call answers a few of them", func(t *testing.T, f *fake, m *Manager) {
		f.perCall = 8
		f.put("default", "mail", n)
		var waits []*later[[]*queue.Task]
		for i := range n {
			waits = append(waits, retain(m, waitFor(workerName(i), 0, "mail")))
		}
		gotOneEach(t, waits)
	})
	bubble(t, "a caller with its wait over during a call that leaves it out gets its task", func(t *testing.T, f *fake, m *Manager) {
		f.perCall = 1
		release := f.block("retain")
		first := retain(m, waitFor("w0", time.Minute, "mail"))
		synctest.Wait()
		waits := []*later[[]*queue.Task]{first, retain(m, waitFor("w1", 10*time.Second, "mail")), retain(m, waitFor("w2", 10*time.Second, "mail"))}
		synctest.Wait()
		f.put("default", "mail", 3)
		release()
		release = f.block("retain")
		synctest.Wait()
		pass(20 * time.Second)
		release()
		gotOneEach(t, waits)
	})
	bubble(t, "the tasks of callers that leave go back", func(t *testing.T, f *fake, m *Manager) {
		f.perCall = 2
		release := f.block("retain")
		ctx, cancel := context.WithCancel(t.Context())
		var waits []*later[[]*queue.Task]
		for i := range 9 {
			waits = append(waits, start(func() ([]*queue.Task, error) {
				return m.RetainTasks(ctx, waitFor(workerName(i), 0, "mail"))
			}))
		}
		f.put("default", "mail", 9)
		synctest.Wait()
		cancel()
		for _, w := range waits {
			if tasks, err := w.wait(); err == nil {
				t.Errorf("got %v", tasks)
			}
		}
		release()
		pass(time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		for id, task := range f.tasks {
			if task.Status == queue.StatusRetained {
				t.Errorf("task %d is %s", id, task.Status)
			}
		}
	})
}
