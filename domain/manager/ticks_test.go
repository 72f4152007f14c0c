package manager

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// loops runs n ticker loops and records the ticks of each.
type loops struct {
	mu   sync.Mutex
	got  map[int][]int64
	stop context.CancelFunc
	wait func() []error
}

func loop(m *Manager, n int, handle func(ctx context.Context, i int, t queue.Tick) error) *loops {
	ctx, cancel := context.WithCancel(context.Background())
	l := &loops{got: map[int][]int64{}, stop: cancel}
	l.wait = each(n, func(i int) error {
		return m.RunTickerLoop(ctx, func(ctx context.Context, t queue.Tick) error {
			l.mu.Lock()
			l.got[i] = append(l.got[i], t.ID)
			l.mu.Unlock()
			if handle != nil {
				return handle(ctx, i, t)
			}
			return nil
		})
	})
	return l
}

func (l *loops) end(t *testing.T) {
	t.Helper()
	l.stop()
	defer synctest.Wait()
	for _, err := range l.wait() {
		kind(t, err, queue.KindCanceled)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestTicks(t *testing.T) {
	bubble(t, "each tick goes to exactly one listener, in turn", func(t *testing.T, f *fake, m *Manager) {
		l := loop(m, 4, nil)
		pass(time.Second)
		for range 20 {
			f.tick(2)
			pass(1100 * time.Millisecond)
		}
		var all []int64
		for i, ids := range l.got {
			if len(ids) != 10 {
				t.Errorf("loop %d got %d ticks, want 10", i, len(ids))
			}
			all = append(all, ids...)
		}
		slices.Sort(all)
		slices.Sort(f.done)
		if len(all) != 40 || len(slices.Compact(all)) != 40 || !slices.Equal(all, f.done) {
			t.Errorf("got %v, settled %v", all, f.done)
		}
		l.end(t)
	})
	bubble(t, "more ticks than listeners are all handled, one after the other", func(t *testing.T, f *fake, m *Manager) {
		f.tick(10)
		began := time.Now()
		var last atomic.Int64
		l := loop(m, 2, func(context.Context, int, queue.Tick) error {
			time.Sleep(time.Second)
			last.Store(int64(time.Since(began)))
			return nil
		})
		pass(time.Minute)
		if took := time.Duration(last.Load()); took != 5*time.Second || len(f.done) != 10 {
			t.Errorf("took %v for %d ticks", took, len(f.done))
		}
		l.end(t)
	})
	bubble(t, "a tick that its listener could not handle goes to the next listener", func(t *testing.T, f *fake, m *Manager) {
		bad := -1
		l := loop(m, 2, func(_ context.Context, i int, _ queue.Tick) error {
			if bad < 0 {
				bad = i
			}
			if i == bad {
				return errors.New("no")
			}
			return nil
		})
		synctest.Wait()
		f.tick(1)
		m.dealers.Wake("default")
		pass(50 * time.Millisecond)
		if len(l.got[bad]) != 1 || len(l.got[1-bad]) != 1 || len(f.done) != 1 {
			t.Errorf("got %v, settled %v", l.got, f.done)
		}
		l.end(t)
	})
	bubble(t, "a handle that always fails is not called in a spin", func(t *testing.T, f *fake, m *Manager) {
		l := loop(m, 1, func(context.Context, int, queue.Tick) error { return errors.New("no") })
		f.tick(1)
		pass(time.Minute)
		if n := len(l.got[0]); n < 5 || n > 15 {
			t.Errorf("called %d times in a minute", n)
		}
		l.end(t)
		if len(f.ticks) != 1 {
			t.Error("the tick was not given back")
		}
	})
	bubble(t, "a tick taken for a listener that went is given back", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("take")
		l := loop(m, 1, nil)
		synctest.Wait()
		f.tick(1)
		l.end(t)
		release()
		synctest.Wait()
		if len(f.ticks) != 1 || len(f.taken) != 0 {
			t.Errorf("%d ticks are due, %d held", len(f.ticks), len(f.taken))
		}
	})
	bubble(t, "handle's context ends before the hold of its tick does", func(t *testing.T, f *fake, m *Manager) {
		var hold time.Duration
		f.refuse(func(_ context.Context, call string, arg any) error {
			if call == "take" {
				hold = arg.(time.Duration)
			}
			return nil
		})
		f.tick(1)
		began := time.Now()
		var took time.Duration
		l := loop(m, 1, func(ctx context.Context, _ int, _ queue.Tick) error {
			<-ctx.Done()
			took = time.Since(began)
			return nil
		})
		pass(2 * time.Minute)
		if took != TickTimeout || hold < took {
			t.Errorf("handle had %v of a hold of %v", took, hold)
		}
		l.end(t)
	})
	bubble(t, "NextTicker blocks for the next tick and takes it", func(t *testing.T, f *fake, m *Manager) {
		next := start(func() (*queue.Tick, error) { return m.NextTicker(t.Context()) })
		pass(10 * time.Second)
		if next.done.Load() {
			t.Fatal("it did not block")
		}
		f.tick(2)
		tick, err := next.wait()
		if err != nil || tick.ID != 1 || !slices.Equal(f.done, []int64{1}) {
			t.Fatal(tick, err, f.done)
		}
		synctest.Wait()
		if len(f.ticks) != 1 || m.dealers.Len() != 0 {
			t.Error("it took more than one tick, or left its hub behind")
		}
	})
	bubble(t, "without listeners no tick is taken", func(t *testing.T, f *fake, m *Manager) {
		l := loop(m, 1, nil)
		pass(time.Second)
		l.end(t)
		before := f.count("take")
		pass(time.Minute)
		if n := f.count("take") - before; n != 0 {
			t.Errorf("%d calls", n)
		}
	})
	bubble(t, "an outage of the store is sat out", func(t *testing.T, f *fake, m *Manager) {
		f.refuse(func(context.Context, string, any) error { return &queue.Error{Kind: queue.KindUnavailable} })
		l := loop(m, 1, nil)
		f.tick(1)
		pass(10 * time.Second)
		f.refuse(nil)
		pass(2 * time.Second)
		if len(f.done) != 1 {
			t.Error("the tick is lost")
		}
		l.end(t)
	})
}
