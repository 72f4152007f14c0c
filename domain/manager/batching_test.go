package manager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func create(m *Manager, name string) error {
	_, err := m.CreateTask(context.Background(), name, queue.TaskMeta{})
	return err
}

// occupy starts as many creates as a namespace may have under way, each in a call of its own. The store must be
// blocked.
func occupy(m *Manager) (wait func() []error) {
	var waits []func() []error
	for range DefaultMaxCalls {
		waits = append(waits, each(1, func(int) error { return create(m, "mail") }))
		synctest.Wait()
	}
	return func() (errs []error) {
		for _, w := range waits {
			errs = append(errs, w()...)
		}
		return errs
	}
}

func TestGather(t *testing.T) {
	bubble(t, "an idle system sends a call at once", func(t *testing.T, f *fake, m *Manager) {
		began := time.Now()
		if err := create(m, "mail"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 || f.count("create") != 1 {
			t.Errorf("took %v and %d calls", took, f.count("create"))
		}
	})
	bubble(t, "calls that arrive during a call leave together with the next", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		first := occupy(m)
		wait := each(500, func(int) error { return create(m, "mail") })
		synctest.Wait()
		if n := f.count("create"); n != DefaultMaxCalls {
			t.Fatalf("%d calls in flight, want %d", n, DefaultMaxCalls)
		}
		release()
		none(t, append(wait(), first()...))
		if n := f.count("create"); n != DefaultMaxCalls+1 {
			t.Errorf("500 creates took %d store calls: %v", n, f.sizes)
		}
		if len(f.tasks) != 500+DefaultMaxCalls {
			t.Errorf("%d tasks", len(f.tasks))
		}
	})
	bubble(t, "a full batch does not wait for those in flight, one that is not full does", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 100)
		tasks, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: 100})
		if err != nil || len(tasks) != 100 {
			t.Fatal(len(tasks), err)
		}
		unblock := f.block("release")
		var waits []func() []error
		release := func(n int) {
			var batch []queue.Release
			for _, task := range tasks[:n] {
				batch = append(batch, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
			}
			tasks = tasks[n:]
			waits = append(waits, each(1, func(int) error {
				_, err := m.ReleaseTasks(context.Background(), batch)
				return err
			}))
			synctest.Wait()
		}
		for i := range maxFullCalls {
			release(10)
			if n := f.count("release"); n != i+1 {
				t.Errorf("%d calls in flight, want %d", n, i+1)
			}
		}
		release(10)
		release(1)
		if n := f.count("release"); n != maxFullCalls {
			t.Errorf("%d calls in flight, want %d and no more", n, maxFullCalls)
		}
		unblock()
		for _, wait := range waits {
			none(t, wait())
		}
	}, WithBatching(Batching{MaxBatch: 10}))
	bubble(t, "no batch is larger than its limit, in items and in bytes", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		big := queue.TaskMeta{Payload: []byte(`"` + strings.Repeat("x", 1<<19) + `"`)}
		wait := each(40, func(i int) error {
			meta := queue.TaskMeta{}
			if i%2 == 0 {
				meta = big
			}
			_, err := m.CreateTask(t.Context(), "mail", meta)
			return err
		})
		synctest.Wait()
		release()
		none(t, wait())
		if most := slices.Max(f.sizes); most > 10 {
			t.Errorf("a batch of %d tasks: %v", most, f.sizes)
		}
	}, WithBatching(Batching{MaxBatch: 10}))
	bubble(t, "heartbeats and releases are gathered and each answered in its place", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 50)
		tasks, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: 50})
		if err != nil || len(tasks) != 50 {
			t.Fatal(len(tasks), err)
		}
		beat, release := f.block("heartbeat"), f.block("release")
		beats := each(50, func(i int) error {
			_, err := m.HeartbeatTasks(t.Context(), []queue.Heartbeat{{ID: tasks[i].ID, Token: tasks[i].Lease.Token}})
			return err
		})
		releases := each(25, func(i int) error {
			a, b := tasks[2*i], tasks[2*i+1]
			out, err := m.ReleaseTasks(t.Context(), []queue.Release{
				{ID: a.ID, Token: a.Lease.Token, Outcome: queue.OutcomeSuccess},
				{ID: 0, Outcome: queue.OutcomeSuccess},
				{ID: b.ID, Token: b.Lease.Token + 1000, Outcome: queue.OutcomeSuccess},
			})
			switch {
			case err != nil:
				return err
			case out[0].Err != nil || out[0].Task.ID != a.ID:
				return errors.New("the good one is not released")
			case !errors.Is(out[1].Err, queue.ErrInvalid) || !errors.Is(out[2].Err, queue.ErrLeaseLost):
				return errors.Join(out[1].Err, out[2].Err)
			}
			return nil
		})
		synctest.Wait()
		beat()
		release()
		none(t, beats())
		none(t, releases())
		if f.count("heartbeat") > 4 || f.count("release") > 4 {
			t.Errorf("%d heartbeats, %d releases", f.count("heartbeat"), f.count("release"))
		}
	})
	bubble(t, "an item at fault is answered alone", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		wait := each(100, func(i int) error {
			if i == 42 {
				return create(m, "unknown")
			}
			return create(m, "mail")
		})
		synctest.Wait()
		release()
		for i, err := range wait() {
			if i == 42 {
				kind(t, err, queue.KindNotFound)
				if want := "create task: queue unknown: no such queue"; err.Error() != want {
					t.Errorf("got %q, want %q", err, want)
				}
			} else if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
	})
	bubble(t, "an item that makes the store refuse the whole batch harms its own caller only", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(func(_ context.Context, call string, arg any) error {
			if c, ok := arg.(queue.Create); ok && slices.ContainsFunc(c.Tasks, func(n queue.NewTask) bool { return n.Queue == "poison" }) {
				return queue.Invalid("payload", "poison")
			}
			return nil
		})
		release := f.block("create")
		wait := each(100, func(i int) error {
			if i == 42 {
				return create(m, "poison")
			}
			return create(m, "mail")
		})
		synctest.Wait()
		release()
		errs := wait()
		kind(t, errs[42], queue.KindInvalid)
		errs[42] = nil
		none(t, errs)
		if len(f.tasks) != 99 {
			t.Errorf("%d tasks, want 99", len(f.tasks))
		}
	})
	bubble(t, "a store that cannot be reached is one error for all, and no call is repeated", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(func(context.Context, string, any) error { return &queue.Error{Kind: queue.KindUnavailable} })
		release := f.block("create")
		wait := each(100, func(int) error { return create(m, "mail") })
		synctest.Wait()
		release()
		for _, err := range wait() {
			kind(t, err, queue.KindUnavailable)
		}
		if n := f.count("create"); n > DefaultMaxCalls+2 {
			t.Errorf("%d calls", n)
		}
	})
	bubble(t, "a panic in the store is an internal error of its callers", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(func(context.Context, string, any) error { panic("boom") })
		kind(t, create(m, "mail"), queue.KindInternal)
		f.refuse(nil)
		if err := create(m, "mail"); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "a slow namespace does not hold up another", func(t *testing.T, f *fake, m *Manager) {
		slow := make(chan struct{})
		f.refuse(func(_ context.Context, _ string, arg any) error {
			if arg.(queue.Create).Namespace == "default" {
				<-slow
			}
			return nil
		})
		wait := each(100, func(int) error { return create(m, "mail") })
		synctest.Wait()
		other, err := m.In("other")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.CreateTask(t.Context(), "mail", queue.TaskMeta{}); err != nil {
			t.Fatal(err)
		}
		close(slow)
		none(t, wait())
	})
	bubble(t, "more callers than may wait are refused", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		wait := each(10, func(int) error { return create(m, "mail") })
		synctest.Wait()
		kind(t, create(m, "mail"), queue.KindUnavailable)
		release()
		none(t, wait())
		if err := create(m, "mail"); err != nil {
			t.Fatal(err)
		}
	}, WithBatching(Batching{MaxWaiting: 10}))
	bubble(t, "a delay that was asked for gathers on an idle system too", func(t *testing.T, f *fake, m *Manager) {
		began := time.Now()
		none(t, each(10, func(int) error { return create(m, "mail") })())
		if took := time.Since(began); took != 5*time.Millisecond || f.count("create") != 1 {
			t.Errorf("took %v and %d calls", took, f.count("create"))
		}
	}, WithBatching(Batching{MaxDelay: 5 * time.Millisecond}))
}

func TestLostCallers(t *testing.T) {
	bubble(t, "a caller that goes before its call has left leaves nothing behind", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		first := occupy(m)
		ctx, cancel := context.WithCancel(t.Context())
		gone := start(func() (*queue.Task, error) { return m.CreateTask(ctx, "mail", queue.TaskMeta{}) })
		stays := start(func() (*queue.Task, error) { return m.CreateTask(t.Context(), "mail", queue.TaskMeta{}) })
		synctest.Wait()
		cancel()
		_, err := gone.wait()
		kind(t, err, queue.KindCanceled)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not wrap the context's error", err)
		}
		release()
		none(t, first())
		if task, err := stays.wait(); err != nil {
			t.Fatal(task, err)
		}
		if len(f.tasks) != DefaultMaxCalls+1 {
			t.Errorf("%d tasks", len(f.tasks))
		}
	})
	bubble(t, "a caller that goes during its call does not know", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := m.CreateTask(ctx, "mail", queue.TaskMeta{})
		kind(t, err, queue.KindIndeterminate)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the context's error", err)
		}
		release()
		synctest.Wait()
		if len(f.tasks) != 1 {
			t.Error("the call ended with its caller")
		}
	})
	bubble(t, "a store call has its own deadline", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("create")
		defer release()
		began := time.Now()
		kind(t, create(m, "mail"), queue.KindIndeterminate)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	}, WithCallTimeout(3*time.Second))
	bubble(t, "tasks retained for a caller that has gone are handed back", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 3)
		release := f.block("retain")
		ctx, cancel := context.WithCancel(t.Context())
		gone := start(func() ([]*queue.Task, error) {
			return m.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Limit: 3})
		})
		synctest.Wait()
		cancel()
		_, err := gone.wait()
		kind(t, err, queue.KindCanceled)
		release()
		synctest.Wait()
		if n := f.held(); n != 0 || len(f.ready) != 3 {
			t.Errorf("%d tasks stay held, %d are ready", n, len(f.ready))
		}
	})
	bubble(t, "handing back is tried again", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		f.refuse(func(_ context.Context, call string, _ any) error {
			if call == "release" && f.count("release") < 3 {
				return &queue.Error{Kind: queue.KindUnavailable}
			}
			return nil
		})
		release := f.block("retain")
		ctx, cancel := context.WithCancel(t.Context())
		gone := start(func() ([]*queue.Task, error) { return m.RetainTasks(ctx, queue.RetainRequest{Worker: "w"}) })
		synctest.Wait()
		cancel()
		_, _ = gone.wait()
		release()
		pass(time.Second)
		if n := f.held(); n != 0 {
			t.Errorf("%d tasks stay held", n)
		}
	})
}

func TestSharedCallFaults(t *testing.T) {
	poison := func(err error, bad ...string) func(context.Context, string, any) error {
		return func(_ context.Context, call string, arg any) error {
			c, ok := arg.(queue.Create)
			if ok && slices.ContainsFunc(c.Tasks, func(n queue.NewTask) bool { return slices.Contains(bad, n.Queue) }) {
				return err
			}
			return nil
		}
	}
	internal := &queue.Error{Kind: queue.KindInternal, Msg: "cannot affect row a second time"}
	gathered := func(t *testing.T, f *fake, m *Manager, n int, name func(i int) string) (errs []error, calls int) {
		t.Helper()
		release := f.block("create")
		wait := each(n, func(i int) error { return create(m, name(i)) })
		synctest.Wait()
		release()
		errs = wait()
		return errs, f.count("create")
	}
	bubble(t, "an item that breaks the store harms its own caller only", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(poison(internal, "poison"))
		errs, calls := gathered(t, f, m, 400, func(i int) string {
			if i%100 == 3 {
				return "poison"
			}
			return "mail"
		})
		for i, err := range errs {
			if i%100 == 3 {
				kind(t, err, queue.KindInternal)
			} else if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if calls > 100 {
			t.Errorf("%d store calls", calls)
		}
	})
	bubble(t, "a store that breaks at everything is not stormed", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(poison(internal, "mail"))
		errs, calls := gathered(t, f, m, 1000, func(int) string { return "mail" })
		for _, err := range errs {
			kind(t, err, queue.KindInternal)
		}
		// The callers leave in up to four batches, as the Go scheduler decides. A batch of 250 ends its search after
		// 2·(log2 250 + 1) refused calls, and answers the remaining halves, one a level.
		if calls > 4*3*9 {
			t.Errorf("%d store calls for 1000 callers", calls)
		}
	})
	bubble(t, "a panic of the store is not repeated: it may have been behind the commit", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(func(context.Context, string, any) error { panic("boom") })
		errs, calls := gathered(t, f, m, 100, func(int) string { return "mail" })
		for _, err := range errs {
			kind(t, err, queue.KindInternal)
		}
		if calls > 3 {
			t.Errorf("%d store calls", calls)
		}
	})
}

// TestLockedItems locks the task of one caller by another transaction: the other callers of the Store call get answers.
func TestLockedItems(t *testing.T) {
	retained := func(t *testing.T, f *fake, m *Manager, n int) []*queue.Task {
		t.Helper()
		f.put("default", "mail", n)
		tasks, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: n})
		if err != nil || len(tasks) != n {
			t.Fatal(len(tasks), err)
		}
		return tasks
	}
	release := func(ctx context.Context, m *Manager, tasks ...*queue.Task) ([]queue.Released, error) {
		var rs []queue.Release
		for _, task := range tasks {
			rs = append(rs, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
		}
		return m.ReleaseTasks(ctx, rs)
	}
	bubble(t, "its caller waits until it is free, the others do not", func(t *testing.T, f *fake, m *Manager) {
		tasks := retained(t, f, m, 20)
		f.lock(tasks[3].ID)
		answered := make(chan error, 1)
		go func() {
			out, err := release(context.Background(), m, tasks[3])
			if err == nil {
				err = out[0].Err
			}
			answered <- err
		}()
		synctest.Wait()
		none(t, each(20, func(i int) error {
			if i == 3 {
				return nil
			}
			out, err := release(t.Context(), m, tasks[i])
			return errors.Join(err, out[0].Err)
		})())
		select {
		case err := <-answered:
			t.Fatalf("the locked release was answered: %v", err)
		default:
		}
		f.unlock(tasks[3].ID)
		if err := <-answered; err != nil {
			t.Error(err)
		}
	})
	bubble(t, "its caller's deadline counts, and nothing happened", func(t *testing.T, f *fake, m *Manager) {
		tasks := retained(t, f, m, 1)
		f.lock(tasks[0].ID)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := release(ctx, m, tasks[0])
		if k := queue.KindOf(err); k != queue.KindDeadline && k != queue.KindIndeterminate {
			t.Error(err)
		}
	})
	bubble(t, "a call with several is answered soon, each by itself", func(t *testing.T, f *fake, m *Manager) {
		tasks := retained(t, f, m, 3)
		f.lock(tasks[1].ID)
		from := time.Now()
		out, err := release(t.Context(), m, tasks...)
		if err != nil || out[0].Err != nil || out[2].Err != nil {
			t.Fatal(out, err)
		}
		kind(t, out[1].Err, queue.KindUnavailable)
		if took := time.Since(from); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
	bubble(t, "what stays locked for longer than a call may take is unavailable", func(t *testing.T, f *fake, m *Manager) {
		tasks := retained(t, f, m, 1)
		f.lock(tasks[0].ID)
		out, err := release(context.Background(), m, tasks[0])
		kind(t, err, queue.KindUnavailable)
		kind(t, out[0].Err, queue.KindUnavailable)
	})
	bubble(t, "closing the manager answers waiting callers", func(t *testing.T, f *fake, m *Manager) {
		tasks := retained(t, f, m, 1)
		f.lock(tasks[0].ID)
		answered := make(chan error, 1)
		go func() {
			out, err := release(context.Background(), m, tasks[0])
			if err == nil {
				err = out[0].Err
			}
			answered <- err
		}()
		synctest.Wait()
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
		kind(t, <-answered, queue.KindUnavailable)
	})
}

// TestMemoryOfCallers changes the arguments of callers after their calls returned, while the Store still works on them.
func TestMemoryOfCallers(t *testing.T) {
	ofTask := func(arg any) ([]byte, map[string]string) {
		task := arg.(queue.Create).Tasks[0]
		return task.Payload, task.Headers
	}
	for _, c := range []struct {
		name, call string
		make       func(ctx context.Context, m *Manager, memory []byte, headers map[string]string) error
		kept       func(arg any) (memory []byte, headers map[string]string)
	}{
		{"create", "create", func(ctx context.Context, m *Manager, memory []byte, headers map[string]string) error {
			_, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: memory, Headers: headers})
			return err
		}, ofTask},
		{"create for a waiting caller", "eager", func(ctx context.Context, m *Manager, memory []byte, headers map[string]string) error {
			_, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: memory, Headers: headers})
			return err
		}, ofTask},
		{"create with a rule for its key, for a waiting caller", "eager", func(
			ctx context.Context, m *Manager, memory []byte, headers map[string]string,
		) error {
			_, err := m.CreateTask(ctx, "mail", queue.TaskMeta{
				Payload: memory, Headers: headers, Key: "k", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReject},
			})
			return err
		}, ofTask},
		{"bulk create for a waiting caller", "eager", func(ctx context.Context, m *Manager, memory []byte, headers map[string]string) error {
			_, err := m.CreateTasks(ctx, []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: memory, Headers: headers}}})
			return err
		}, ofTask},
		{"release", "release", func(ctx context.Context, m *Manager, memory []byte, _ map[string]string) error {
			_, err := m.ReleaseTasks(ctx, []queue.Release{{ID: 1, Token: 1, Outcome: queue.OutcomeSuccess, Result: memory}})
			return err
		}, func(arg any) ([]byte, map[string]string) { return arg.([]queue.Release)[0].Result, nil }},
		{"heartbeat", "heartbeat", func(ctx context.Context, m *Manager, memory []byte, _ map[string]string) error {
			_, err := m.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: 1, Token: 1, Progress: memory}})
			return err
		}, func(arg any) ([]byte, map[string]string) { return arg.([]queue.Heartbeat)[0].Progress, nil }},
	} {
		bubble(t, c.name, func(t *testing.T, f *fake, m *Manager) {
			if c.call == "eager" {
				retain(m, waitFor("w", time.Minute, "mail"))
				synctest.Wait()
			}
			var memory string
			var headers map[string]string
			f.refuse(func(_ context.Context, call string, arg any) error {
				if call == c.call { // this read races with a write of the returned caller: the race detector reports it
					b, h := c.kept(arg)
					memory, headers = string(b), h
				}
				return nil
			})
			release := f.block(c.call)
			ctx, cancel := context.WithCancel(t.Context())
			mine, names := []byte(`"alice"`), map[string]string{"to": "alice"}
			done := make(chan error, 1)
			go func() { done <- c.make(ctx, m, mine, names) }()
			synctest.Wait()
			cancel()
			if err := <-done; err == nil {
				t.Error("the call was answered")
			}
			copy(mine, `"mallo"`)
			names["to"] = "mallo"
			release()
			synctest.Wait()
			if memory != `"alice"` || headers != nil && headers["to"] != "alice" {
				t.Errorf("the store got %s and %v", memory, headers)
			}
		})
	}
}
