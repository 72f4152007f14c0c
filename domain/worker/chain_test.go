package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// inGroup sets the group of a task.
func inGroup(name string) func(*queue.Task) { return func(t *queue.Task) { t.Group = name } }

// ordered is a fake with tasks of FIFO groups.
func ordered() *fake {
	f := newFake()
	f.inOrder = true
	return f
}

// witness records the handlers of groups, and reports two of one group at once.
type witness struct {
	t *testing.T

	mu      sync.Mutex
	running map[string]int
	begun   map[string][]int64
	most    int // handlers at once
	now     int
}

func newWitness(t *testing.T) *witness {
	return &witness{t: t, running: map[string]int{}, begun: map[string][]int64{}}
}

// watch returns h under the eyes of w.
func (w *witness) watch(h worker.HandlerFunc) worker.HandlerFunc {
	return func(ctx context.Context, task *queue.Task) (any, error) {
		group := task.Group
		w.mu.Lock()
		if w.running[group]++; w.running[group] > 1 {
			w.t.Errorf("%d tasks of group %s run at once", w.running[group], group)
		}
		w.begun[group] = append(w.begun[group], task.ID)
		w.now++
		w.most = max(w.most, w.now)
		w.mu.Unlock()

		defer func() {
			w.mu.Lock()
			w.running[group]--
			w.now--
			w.mu.Unlock()
		}()
		return h(ctx, task)
	}
}

// started returns the ids of the tasks of a group that have begun.
func (w *witness) started(group string) []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.begun[group])
}

// outcomes returns the ends of n tasks from first on: one letter for each, "-" for none.
func (f *fake) outcomes(first int64, n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for id := first; id < first+int64(n); id++ {
		r, ended := f.ended[id]
		if !ended {
			b.WriteByte('-')
			continue
		}
		b.WriteByte(string(r.Outcome)[0])
	}
	return b.String()
}

func TestTasksInOrder(t *testing.T) {
	t.Run("tasks of a group run one after the other at any concurrency, and groups side by side", func(t *testing.T) {
		for _, trip := range []time.Duration{0, 2 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				f, seen := ordered(), newWitness(t)
				f.trip = trip
				want := map[string][]int64{}
				for range 20 {
					for _, g := range []string{"a", "b", "c", ""} {
						want[g] = append(want[g], f.add("mail", 1, inGroup(g)))
					}
				}
				w := newWorker(f, worker.WithConcurrency(10))
				w.Handle("mail", seen.watch(sleeper(10*time.Millisecond)))
				r := start(t, w)
				pass(2 * time.Second)
				for g, ids := range want {
					if got := seen.started(g); !slices.Equal(got, ids) {
						t.Errorf("group %q began in the order %v, want %v", g, got, ids)
					}
				}
				if seen.most != 4 {
					t.Errorf("%d handlers at once, there are 4 groups", seen.most)
				}
				if err := r.stop(); err != nil || f.holds() != 0 || f.count() != 80 {
					t.Errorf("%v; %d of 80 ended, %d are held", err, f.count(), f.holds())
				}
			})
		}
	})

	t.Run("a task that does not succeed hands back those behind it, and other groups go on", func(t *testing.T) {
		for name, c := range map[string]struct {
			bad  worker.HandlerFunc
			want string // the outcomes of the group
		}{
			"an error":     {func(context.Context, *queue.Task) (any, error) { return nil, errors.New("busy") }, "sfhhh"},
			"a last error": {func(context.Context, *queue.Task) (any, error) { return nil, worker.Permanent(errors.New("no")) }, "sphhh"},
			"a snooze":     {func(context.Context, *queue.Task) (any, error) { return nil, worker.Snooze(time.Hour) }, "sshhh"},
			"a panic":      {func(context.Context, *queue.Task) (any, error) { panic("boom") }, "sfhhh"},
			"Goexit": {func(context.Context, *queue.Task) (any, error) {
				runtime.Goexit()
				return nil, nil
			}, "sfhhh"},
			"a cancel": {func(context.Context, *queue.Task) (any, error) { return nil, worker.Cancel(errors.New("off")) }, "sphhh"},
			"a cleared task": {func(_ context.Context, task *queue.Task) (any, error) {
				*task = queue.Task{}
				return nil, errors.New("busy")
			}, "sfhhh"},
			"a systemic fault": {func(context.Context, *queue.Task) (any, error) { return nil, worker.Systemic(errors.New("down")) }, "sfhhh"},
			"a fault at start": {func(context.Context, *queue.Task) (any, error) {
				return nil, worker.NotStarted(errors.New("no memory"))
			}, "shhhh"},
			"success after all": {func(_ context.Context, task *queue.Task) (any, error) { *task = queue.Task{}; return nil, nil }, "sssss"},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, seen := ordered(), newWitness(t)
					a := f.add("mail", 5, inGroup("a"))
					b := f.add("mail", 5, inGroup("b"))
					w := newWorker(f, worker.WithConcurrency(10))
					w.Handle("mail", seen.watch(func(ctx context.Context, task *queue.Task) (any, error) {
						if task.ID == a+1 {
							return c.bad(ctx, task)
						}
						return sleeper(10*time.Millisecond)(ctx, task)
					}))
					r := start(t, w)
					pass(10 * time.Second)
					if got := f.outcomes(a, 5); got != c.want {
						t.Errorf("the group ended %s, want %s", got, c.want)
					}
					if n := 2 + 3*strings.Count(c.want[2:3], "s"); len(seen.started("a")) != n {
						t.Errorf("tasks %v of the group began, want %d", seen.started("a"), n)
					}
					// A fault at the start pauses the queue, and the tasks that have not begun go back.
					if got := f.outcomes(b, 5); got != "sssss" && name != "a fault at start" {
						t.Errorf("the other group ended %s", got)
					}
					if err := r.stop(); err != nil || f.holds() != 0 {
						t.Errorf("%v; %d tasks are held", err, f.holds())
					}
				})
			})
		}
	})

	t.Run("a pause of the queue hands back what waits for a running task, which may end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			a, b := f.add("mail", 3, inGroup("a")), f.add("mail", 3, inGroup("b"))
			other := f.add("other", 3, inGroup("c"))
			w := newWorker(f, worker.WithConcurrency(10))
			w.Handle("mail", seen.watch(func(ctx context.Context, task *queue.Task) (any, error) {
				if task.ID == a {
					time.Sleep(10 * time.Millisecond)
					return nil, worker.NotStarted(errors.New("no memory"))
				}
				return sleeper(100*time.Millisecond)(ctx, task)
			}))
			w.Handle("other", seen.watch(sleeper(100*time.Millisecond)))
			start(t, w)
			pass(500 * time.Millisecond)
			if got := f.outcomes(a, 3) + " " + f.outcomes(b, 3) + " " + f.outcomes(other, 3); got != "hhh shh sss" {
				t.Errorf("ended %s, want hhh shh sss", got)
			}
		})
	})

	t.Run("a stop hands back what waits for a running task at once, and lets that end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			first := f.add("mail", 5, inGroup("a"))
			w := newWorker(f, worker.WithConcurrency(10))
			w.Handle("mail", seen.watch(sleeper(10*time.Second)))
			r := start(t, w)
			pass(11 * time.Second) // the second one runs
			r.cancel()
			pass(100 * time.Millisecond)
			if got := f.outcomes(first, 5); got != "s-hhh" {
				t.Errorf("just after the stop the group ended %s, want s-hhh", got)
			}
			if err := r.stop(); err != nil || f.outcomes(first, 5) != "sshhh" || f.holds() != 0 {
				t.Errorf("%v; the group ended %s, want sshhh; %d are held", err, f.outcomes(first, 5), f.holds())
			}
		})
	})

	t.Run("no task behind a handler that outlives the stop stays held", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := ordered()
			first := f.add("mail", 4, inGroup("a"))
			over := make(chan struct{})
			w := newWorker(f, worker.WithConcurrency(10), worker.WithDrain(time.Second), worker.WithGrace(time.Second))
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) {
				<-over
				return nil, nil
			})
			r := start(t, w)
			pass(time.Second)
			if err := r.stop(); !errors.Is(err, worker.ErrHandlersLeft) {
				t.Errorf("got %v", err)
			}
			close(over)
			synctest.Wait()
			if got := f.outcomes(first, 4); got != "hhhh" || f.holds() != 0 || f.count() != 4 {
				t.Errorf("ended %s, want hhhh; %d are held, %d ends", got, f.holds(), f.count())
			}
		})
	})

	t.Run("a lost lease hands back what waits behind its task", func(t *testing.T) {
		for lost, want := range []string{"-hhhh", "s-hhh", "ss-hh", "sss-h", "ssss-"} {
			synctest.Test(t, func(t *testing.T) {
				f, seen := ordered(), newWitness(t)
				f.lease = 3 * time.Second
				first := f.add("mail", 5, inGroup("a"))
				f.lost[first+int64(lost)] = true // the first heartbeat is refused
				w := newWorker(f, worker.WithConcurrency(10))
				w.Handle("mail", seen.watch(sleeper(2*time.Second)))
				r := start(t, w)
				pass(1500 * time.Millisecond)
				if got := f.outcomes(first, 5); got[lost:] != want[lost:] {
					t.Errorf("after the heartbeat the group ended %s, want %s", got, want)
				}
				pass(30 * time.Second)
				if got := f.outcomes(first, 5); got != want {
					t.Errorf("the group ended %s, want %s", got, want)
				}
				if n := len(seen.started("a")); n != max(lost, 1) {
					t.Errorf("%d tasks began, want %d", n, max(lost, 1))
				}
				if err := r.stop(); err != nil || f.holds() != 1 { // the lost one is with the service
					t.Errorf("%v; %d are held, want 1", err, f.holds())
				}
			})
		}
	})

	t.Run("a lease that is lost before the worker has its task hands back the rest of its group", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			f.lease, f.trip = 3*time.Second, 1500*time.Millisecond // the worker asks for the leases first
			first := f.add("mail", 3, inGroup("a"))
			other := f.add("mail", 2, inGroup("b"))
			f.lost[first] = true
			w := newWorker(f, worker.WithConcurrency(10))
			w.Handle("mail", seen.watch(sleeper(time.Millisecond)))
			start(t, w)
			pass(20 * time.Second)
			if got := f.outcomes(first, 3) + " " + f.outcomes(other, 2); got != "-hh ss" {
				t.Errorf("ended %s, want -hh ss", got)
			}
		})
	})

	t.Run("a success that is refused hands back what waits behind it", func(t *testing.T) {
		for name, err := range map[string]error{
			"lost":    queue.ErrLeaseLost,
			"refused": &queue.Error{Kind: queue.KindConflict, Msg: "no"},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, seen := ordered(), newWitness(t)
					first := f.add("mail", 4, inGroup("a"))
					f.failOne = func(r queue.Release) error {
						if r.ID == first {
							return err
						}
						return nil
					}
					w := newWorker(f, worker.WithConcurrency(10))
					w.Handle("mail", seen.watch(sleeper(time.Second)))
					start(t, w)
					pass(10 * time.Second)
					if got := f.outcomes(first, 4); got != "-shh" {
						t.Errorf("the group ended %s, want -shh", got)
					}
				})
			})
		}
	})

	t.Run("leases are extended while tasks wait for the one before them", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			f.lease = 3 * time.Second
			first := f.add("mail", 5, inGroup("a"))
			w := newWorker(f, worker.WithConcurrency(10))
			w.Handle("mail", seen.watch(sleeper(20*time.Second)))
			start(t, w)
			pass(101 * time.Second)
			if got := f.outcomes(first, 5); got != "sssss" {
				t.Errorf("the group ended %s, want sssss", got)
			}
			if n := f.n().beats; n < 90 {
				t.Errorf("%d heartbeats", n)
			}
		})
	})

	t.Run("the next task of a group comes before tasks of other groups that wait for a slot", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			f.trip = 2 * time.Millisecond
			for g := range 30 {
				f.add("mail", 8, inGroup(fmt.Sprint("g", g)))
			}
			var order []string
			w := newWorker(f, worker.WithConcurrency(1))
			w.Handle("mail", seen.watch(func(_ context.Context, task *queue.Task) (any, error) {
				order = append(order, task.Group)
				time.Sleep(time.Millisecond)
				return nil, nil
			}))
			start(t, w)
			pass(10 * time.Second)
			if f.count() != 240 || f.n().maxHeld < 16 {
				t.Fatalf("%d of 240 ended; at most %d were held, so none waited", f.count(), f.n().maxHeld)
			}
			changes := 0
			for i := range order[1:] {
				if order[i] != order[i+1] {
					changes++
				}
			}
			if changes > 60 { // an answer may cut a group
				t.Errorf("the one slot changed groups %d times in 240 tasks of 30 groups", changes)
			}
		})
	})

	t.Run("stale groups go back whole, and those that run are kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			f.trip = 2 * time.Millisecond
			const groups, each = 300, 5
			for g := range groups {
				f.add("mail", each, inGroup(fmt.Sprint("g", g)))
			}
			var mu sync.Mutex
			slow := false
			w := newWorker(f, worker.WithConcurrency(4))
			w.Handle("mail", seen.watch(func(context.Context, *queue.Task) (any, error) {
				mu.Lock()
				long := slow
				mu.Unlock()
				if long {
					time.Sleep(10 * time.Second)
				}
				time.Sleep(100 * time.Microsecond)
				return nil, nil
			}))
			r := start(t, w)
			pass(20 * time.Millisecond)
			mu.Lock()
			slow = true
			mu.Unlock()
			pass(5 * time.Second)
			if n := f.holds(); n < 4 || n > 4*each {
				t.Errorf("%d tasks are held by 4 slots", n)
			}
			mu.Lock()
			slow = false
			mu.Unlock()
			pass(20 * time.Second)
			for g := range groups {
				if ids := seen.started(fmt.Sprint("g", g)); !slices.IsSorted(ids) {
					t.Errorf("group %d began in the order %v", g, ids)
				}
			}
			if err := r.stop(); err != nil || f.holds() != 0 || f.count() != groups*each {
				t.Errorf("%v; %d of %d ended, %d are held", err, f.count(), groups*each, f.holds())
			}
		})
	})

	t.Run("a worker of a number of tasks counts those that wait for others, and not those that go back", func(t *testing.T) {
		for _, c := range []struct{ max, slots int }{{1, 1}, {3, 10}, {7, 10}, {12, 2}, {23, 10}} {
			synctest.Test(t, func(t *testing.T) {
				f, seen := ordered(), newWitness(t)
				f.trip = time.Millisecond
				fails := map[int64]bool{}
				for g := range 12 {
					fails[f.add("mail", 5, inGroup(fmt.Sprint("g", g)))+1] = true
				}
				w := newWorker(f, worker.WithConcurrency(c.slots), worker.WithMaxTasks(c.max))
				w.Handle("mail", seen.watch(func(_ context.Context, task *queue.Task) (any, error) {
					time.Sleep(time.Millisecond)
					if fails[task.ID] {
						return nil, errors.New("busy")
					}
					return nil, nil
				}))
				wantEnd(t, start(t, w))
				worked := 0
				for _, r := range f.ended {
					if r.Outcome != queue.OutcomeHandBack {
						worked++
					}
				}
				if worked != c.max || f.holds() != 0 {
					t.Errorf("of at most %d tasks %d were worked, %d are held", c.max, worked, f.holds())
				}
			})
		}
	})

	t.Run("a lease that is lost while its task waits for another one does not count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			f.lease = 3 * time.Second
			first := f.add("mail", 5, inGroup("a"))
			f.lost[first+2] = true
			w := newWorker(f, worker.WithConcurrency(10), worker.WithMaxTasks(5))
			w.Handle("mail", seen.watch(sleeper(2*time.Second)))
			r := start(t, w)
			pass(3 * time.Second)
			f.add("mail", 10, inGroup("b"))
			wantEnd(t, r)
			if a, b := len(seen.started("a")), len(seen.started("b")); a != 2 || b != 3 {
				t.Errorf("%d and %d tasks were worked, want 2 before the lost one and 3 others", a, b)
			}
		})
	})

	t.Run("tasks that wait for others bound what is retained ahead, by number and by bytes", func(t *testing.T) {
		for _, c := range []struct {
			slots, groups, most int
			run                 time.Duration
			payload             []byte
		}{
			{4, 100, 600, time.Millisecond, queue.EmptyJSON},
			{100, 10, 120, 10 * time.Second, make([]byte, 1<<20)},
		} {
			synctest.Test(t, func(t *testing.T) {
				f, seen := ordered(), newWitness(t)
				f.trip = 2 * time.Millisecond
				for g := range c.groups {
					f.add("mail", 30, inGroup(fmt.Sprint("g", g)), func(t *queue.Task) { t.Payload = c.payload })
				}
				w := newWorker(f, worker.WithConcurrency(c.slots))
				w.Handle("mail", seen.watch(sleeper(c.run)))
				r := start(t, w)
				pass(100 * time.Millisecond)
				if n := f.n().maxHeld; n > c.most {
					t.Errorf("%d tasks were held at once, want at most %d", n, c.most)
				}
				pass(time.Hour)
				if err := r.stop(); err != nil || f.count() != 30*c.groups {
					t.Errorf("%v; %d of %d ended", err, f.count(), 30*c.groups)
				}
			})
		}
	})

	t.Run("a task with a lease that is lost before its start does not count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.lease, f.trip = 1500*time.Millisecond, 2*time.Millisecond
			f.add("mail", 500)
			began := 0
			w := newWorker(f, worker.WithConcurrency(1), worker.WithMaxTasks(150))
			w.HandleFunc("mail", func(_ context.Context, task *queue.Task) (any, error) {
				if began++; began == 60 {
					f.mu.Lock()
					for id := range f.held {
						f.lost[id] = id > task.ID
					}
					f.mu.Unlock()
					time.Sleep(time.Second) // a heartbeat
				}
				time.Sleep(time.Millisecond)
				return nil, nil
			})
			wantEnd(t, start(t, w))
			if began != 150 || len(f.lost) < 10 {
				t.Errorf("%d tasks were worked of 150; %d leases were lost", began, len(f.lost))
			}
		})
	})

	t.Run("a worker until its queues are empty works a group to its end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, seen := ordered(), newWitness(t)
			first := f.add("mail", 30, inGroup("a"))
			w := newWorker(f, worker.WithConcurrency(10), worker.WithUntilEmpty(0))
			w.Handle("mail", seen.watch(sleeper(time.Second)))
			wantEnd(t, start(t, w))
			if got := f.outcomes(first, 30); got != strings.Repeat("s", 30) {
				t.Errorf("the group ended %s", got)
			}
		})
	})
}
