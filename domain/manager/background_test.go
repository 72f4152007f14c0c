package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/background"
	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// running runs the background work during test.
func running(t *testing.T, m *Manager, test func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ran := start(func() (int, error) { return 0, m.Run(ctx) })
	synctest.Wait()
	test()
	cancel()
	if _, err := ran.wait(); err != nil {
		t.Errorf("run: %v", err)
	}
}

func health(m *Manager, c queue.Chore) ChoreHealth {
	for _, h := range m.Health() {
		if h.Chore == c {
			return h
		}
	}
	return ChoreHealth{}
}

func TestChores(t *testing.T) {
	bubble(t, "idle chores step at their own pace", func(t *testing.T, f *fake, m *Manager) {
		running(t, m, func() {
			pass(time.Minute)
			for _, c := range queue.Chores() {
				ideal := int(time.Minute / background.IdlePause(c))
				if n := f.count(string(c)); n < ideal*9/10 || n > ideal*12/10+1 {
					t.Errorf("%s made %d steps in a minute, want about %d", c, n, ideal)
				}
			}
		})
	})
	bubble(t, "a chore with more to do steps again at once, one that knows when sleeps until then", func(t *testing.T, f *fake, m *Manager) {
		var mu sync.Mutex
		var at []time.Duration
		began := time.Now()
		f.maintain = func(_ context.Context, c queue.Chore) (queue.Maintained, error) {
			if c != queue.ChorePromote {
				return queue.Maintained{}, nil
			}
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began))
			if len(at) < 5 {
				return queue.Maintained{Moved: 1, More: true, Lag: 7 * time.Millisecond}, nil
			}
			return queue.Maintained{NextIn: 3 * time.Millisecond}, nil
		}
		running(t, m, func() {
			pass(4 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if len(at) != 6 || at[4] != 0 || at[5] != 3*time.Millisecond {
				t.Error(at)
			}
			h := health(m, queue.ChorePromote)
			if h.Moved != 4 || h.Lag != 7*time.Millisecond || h.LastSuccess.IsZero() || h.Failing != 0 {
				t.Errorf("%+v", h)
			}
		})
	})
	bubble(t, "a process that comes on time for what another has done comes ever later, until it has something to do", func(t *testing.T, f *fake, m *Manager) {
		var at []time.Time
		const next = 3 * time.Millisecond
		f.maintain = func(_ context.Context, c queue.Chore) (queue.Maintained, error) {
			if c != queue.ChoreTick {
				return queue.Maintained{}, nil
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			at = append(at, time.Now())
			moved := 0
			if len(at) == 10 {
				moved = 1
			}
			return queue.Maintained{Moved: moved, NextIn: next}, nil
		}
		running(t, m, func() {
			pass(time.Second)
			f.mu.Lock()
			defer f.mu.Unlock()
			for i, late := range []time.Duration{0, owner.MinStagger, 2 * owner.MinStagger, 4 * owner.MinStagger, 8 * owner.MinStagger, owner.MaxStagger, owner.MaxStagger, owner.MaxStagger, owner.MaxStagger, 0, owner.MinStagger} {
				got := at[i+1].Sub(at[i]) - next
				if got < late*9/10 || got > late*11/10 {
					t.Errorf("step %d came %v late, want about %v", i+1, got, late)
				}
			}
		})
	})
	bubble(t, "chores begin one after another, one that is kicked at once", func(t *testing.T, f *fake, m *Manager) {
		began := time.Now()
		first := map[queue.Chore]time.Duration{}
		f.maintain = func(_ context.Context, c queue.Chore) (queue.Maintained, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if _, ok := first[c]; !ok {
				first[c] = time.Since(began)
			}
			return queue.Maintained{}, nil
		}
		running(t, m, func() {
			m.agents.WakeIn(queue.ChoreTick, 0)
			pass(time.Second)
			f.mu.Lock()
			defer f.mu.Unlock()
			for i, kind := range queue.Chores() {
				want := time.Duration(i) * background.StartInterval
				if kind == queue.ChoreTick {
					want = 0
				}
				if first[kind] != want {
					t.Errorf("%s begins after %v, want %v", kind, first[kind], want)
				}
			}
		})
	})
	bubble(t, "a kick that finds nothing delays no agent", func(t *testing.T, f *fake, m *Manager) {
		var at []time.Time
		const next = 100 * time.Millisecond
		f.maintain = func(_ context.Context, c queue.Chore) (queue.Maintained, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if c == queue.ChoreTick {
				at = append(at, time.Now())
			}
			return queue.Maintained{NextIn: next}, nil
		}
		running(t, m, func() {
			pass(next * 3 / 2) // the first step is over
			m.agents.WakeIn(queue.ChoreTick, 0)
			pass(next)
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(at) != 3 || at[2].Sub(at[1]) != next {
				t.Error(at)
			}
		})
	})
	bubble(t, "waiting callers learn of tasks that a step made ready", func(t *testing.T, f *fake, m *Manager) {
		due := false
		f.maintain = func(_ context.Context, c queue.Chore) (queue.Maintained, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if c != queue.ChorePromote || !due {
				return queue.Maintained{}, nil
			}
			due = false
			f.add("default", queue.NewTask{Queue: "mail"})
			return queue.Maintained{Moved: 1, Woken: []queue.Wake{{Namespace: "default", Queue: "mail"}}}, nil
		}
		running(t, m, func() {
			w := retain(m, waitFor("w", time.Minute, "mail"))
			pass(20 * time.Second)
			f.mu.Lock()
			due = true
			f.mu.Unlock()
			m.agents.WakeIn(queue.ChorePromote, 0)
			if tasks, err := w.wait(); err != nil || len(tasks) != 1 || w.took != 20*time.Second {
				t.Error(tasks, err, w.took)
			}
		})
	})
	bubble(t, "a delayed task has its promotion come in time", func(t *testing.T, f *fake, m *Manager) {
		var mu sync.Mutex
		var steps []time.Time
		f.maintain = func(_ context.Context, c queue.Chore) (queue.Maintained, error) {
			mu.Lock()
			defer mu.Unlock()
			if c == queue.ChorePromote {
				steps = append(steps, time.Now())
			}
			return queue.Maintained{}, nil
		}
		running(t, m, func() {
			pass(10 * time.Second)
			const delay = 10 * time.Millisecond
			if _, err := m.CreateTask(t.Context(), "mail", queue.TaskMeta{Delay: delay}); err != nil {
				t.Fatal(err)
			}
			due := time.Now().Add(delay)
			pass(delay)
			if !slices.ContainsFunc(steps, due.Equal) {
				t.Errorf("no step at %v: %v", due, steps)
			}
		})
	})
	bubble(t, "failing work is repeated ever more slowly, and reported", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(func(_ context.Context, call string, _ any) error {
			switch call {
			case "rescue":
				return errors.New("broken")
			case "fold":
				panic("boom")
			}
			return nil
		})
		running(t, m, func() {
			pass(time.Minute)
			for _, c := range []queue.Chore{queue.ChoreRescue, queue.ChoreFold} {
				h := health(m, c)
				if n := f.count(string(c)); n < 8 || n > 14 || h.Failing != n || h.LastError == nil || !h.LastSuccess.IsZero() {
					t.Errorf("%d steps: %+v", n, h)
				}
			}
			if h := health(m, queue.ChorePromote); h.Failing != 0 || h.Steps < 50 {
				t.Errorf("%+v", h)
			}
			f.refuse(nil)
			pass(12 * time.Second)
			if h := health(m, queue.ChoreRescue); h.Failing != 0 || h.LastSuccess.IsZero() || h.LastError == nil {
				t.Errorf("%+v", h)
			}
		})
	})
	bubble(t, "a queue that a step passes over is kept and logged by name, at a bounded rate, and forgotten when it is well", func(t *testing.T, f *fake, m *Manager) {
		var mu sync.Mutex
		var faults []queue.Fault
		f.maintain = func(_ context.Context, c queue.Chore) (queue.Maintained, error) {
			mu.Lock()
			defer mu.Unlock()
			if c != queue.ChoreTick {
				return queue.Maintained{}, nil
			}
			return queue.Maintained{Moved: len(faults), Faults: faults}, nil
		}
		for i := range 150 {
			faults = append(faults, queue.Fault{Namespace: "n", Subject: fmt.Sprintf("ticker t%03d", i), Err: errors.New("no such zone")})
		}
		running(t, m, func() {
			pass(50 * time.Second)
			h := health(m, queue.ChoreTick)
			if h.Failing != 0 || len(h.Faults) != 100 || h.Faults[0].Subject != "ticker t000" {
				t.Errorf("%d failures, %d faults", h.Failing, len(h.Faults))
			}
			mu.Lock()
			faults = nil
			mu.Unlock()
			pass(3 * time.Minute)
			if h := health(m, queue.ChoreTick); len(h.Faults) != 0 {
				t.Errorf("%d faults are kept", len(h.Faults))
			}
		})
	})
	bubble(t, "a step that does not answer is ended by its deadline", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("prune")
		defer release()
		running(t, m, func() {
			pass(31 * time.Second)
			if h := health(m, queue.ChorePrune); h.Failing != 1 || !errors.Is(h.LastError, context.DeadlineExceeded) {
				t.Errorf("%+v", h)
			}
		})
	})
	bubble(t, "Run without background work does no chore", func(t *testing.T, f *fake, m *Manager) {
		running(t, m, func() {
			pass(time.Minute)
			for _, c := range queue.Chores() {
				if n := f.count(string(c)); n != 0 {
					t.Errorf("%s made %d steps", c, n)
				}
			}
		})
	}, WithBackgroundWork(false))
	bubble(t, "Run runs once at a time, and again after it has ended", func(t *testing.T, f *fake, m *Manager) {
		running(t, m, func() { kind(t, m.Run(t.Context()), queue.KindConflict) })
		running(t, m, func() {})
	})
	bubble(t, "Run ends when the manager is closed", func(t *testing.T, f *fake, m *Manager) {
		ran := start(func() (int, error) { return 0, m.Run(context.Background()) })
		pass(time.Second)
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := ran.wait(); err != nil {
			t.Fatal(err)
		}
	})
}
