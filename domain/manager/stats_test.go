package manager

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func (f *fake) QueueStats(ctx context.Context, _, _ string) ([]*queue.QueueStats, error) {
	if err := f.enter(ctx, "QueueStats", nil); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return []*queue.QueueStats{{Queue: "mail", Ready: int64(f.calls["QueueStats"])}}, nil
}

func TestSharedStats(t *testing.T) {
	read := func(t *testing.T, s queue.StatsFeed) int64 {
		t.Helper()
		all, err := s.SharedStats(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].Ready
	}
	bubble(t, "the calls of a second share one reading, and nothing is read without a call", func(t *testing.T, f *fake, m *Manager) {
		for range 10 {
			if n := read(t, m); n != 1 {
				t.Errorf("reading %d", n)
			}
		}
		time.Sleep(queue.StatsAge)
		if n := read(t, m); n != 2 {
			t.Errorf("reading %d after a second", n)
		}
		time.Sleep(time.Hour)
		if n := f.count("QueueStats"); n != 2 {
			t.Errorf("%d readings", n)
		}
	})
	bubble(t, "namespaces do not share", func(t *testing.T, f *fake, m *Manager) {
		other, err := m.In("other")
		if err != nil {
			t.Fatal(err)
		}
		read(t, m)
		if n := read(t, other.(*Manager)); n != 2 {
			t.Errorf("reading %d", n)
		}
	})
	bubble(t, "calls at the same time wait for one reading, which outlives the call that began it", func(t *testing.T, f *fake, m *Manager) {
		hold := make(chan struct{})
		f.mu.Lock()
		f.hold["QueueStats"] = hold
		f.mu.Unlock()
		gone, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		calls.Go(func() {
			if _, err := m.SharedStats(gone); queue.KindOf(err) != queue.KindCanceled {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 9 {
			calls.Go(func() {
				if n := read(t, m); n != 1 {
					t.Errorf("reading %d", n)
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(hold)
		calls.Wait()
	})
	bubble(t, "a failed reading is not kept", func(t *testing.T, f *fake, m *Manager) {
		f.mu.Lock()
		f.before = func(context.Context, string, any) error { return &queue.Error{Kind: queue.KindUnavailable} }
		f.mu.Unlock()
		if _, err := m.SharedStats(t.Context()); queue.KindOf(err) != queue.KindUnavailable {
			t.Error(err)
		}
		f.mu.Lock()
		f.before = nil
		f.mu.Unlock()
		read(t, m)
	})
}
