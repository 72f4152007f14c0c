package manager

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/feed"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// follower subscribes and records the cursors of the events that it receives.
type follower struct {
	*later[struct{}]
	stop context.CancelFunc
	mu   sync.Mutex
	got  []string
}

func follow(m *Manager, f queue.EventFilter, each func(queue.Event) error) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	w := &follower{stop: cancel}
	w.later = start(func() (struct{}, error) {
		return struct{}{}, m.SubscribeEvents(ctx, f, func(e queue.Event) error {
			w.mu.Lock()
			w.got = append(w.got, e.Cursor)
			w.mu.Unlock()
			if each != nil {
				return each(e)
			}
			return nil
		})
	})
	return w
}

func (w *follower) cursors() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

func (w *follower) end(t *testing.T, want queue.Kind) {
	t.Helper()
	w.stop()
	_, err := w.wait()
	kind(t, err, want)
}

func upTo(from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

func TestEvents(t *testing.T) {
	bubble(t, "a subscriber gets what happens from now on", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 5)
		w := follow(m, queue.EventFilter{}, nil)
		synctest.Wait()
		f.put("default", "mail", 5)
		f.put("other", "mail", 5)
		pass(2 * time.Second)
		if got := w.cursors(); !slices.Equal(got, upTo(6, 10)) {
			t.Error(got)
		}
		w.end(t, queue.KindCanceled)
	})
	bubble(t, "an event of this process arrives within milliseconds", func(t *testing.T, f *fake, m *Manager) {
		var at time.Time
		w := follow(m, queue.EventFilter{}, func(queue.Event) error { at = time.Now(); return nil })
		pass(time.Minute)
		none(t, []error{create(m, "mail")})
		began := time.Now()
		pass(time.Second)
		if took := at.Sub(began); took < 0 || took > 2*feed.MinReadInterval {
			t.Errorf("took %v", took)
		}
		w.end(t, queue.KindCanceled)
	})
	bubble(t, "a subscriber catches up from its cursor over pages, filtered", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 2500)
		f.put("default", "sms", 10)
		w := follow(m, queue.EventFilter{After: "1", Queue: "mail"}, nil)
		pass(time.Second)
		f.put("default", "sms", 10)
		f.put("default", "mail", 1)
		pass(2 * time.Second)
		if got := w.cursors(); !slices.Equal(got, append(upTo(2, 2500), "2521")) {
			t.Error(len(got), got[0], got[len(got)-1])
		}
		w.end(t, queue.KindCanceled)
	})
	bubble(t, "a subscriber that joins while events come in gets each once and in order", func(t *testing.T, f *fake, m *Manager) {
		const total = 3000
		writing := start(func() (int, error) {
			for i := range total / 10 {
				f.put("default", "mail", 10)
				if i%30 == 0 {
					m.feeds.Changed("default")
				}
				time.Sleep(time.Millisecond)
			}
			return 0, nil
		})
		f.put("default", "mail", 1)
		var all []*follower
		for i := range 50 {
			after := ""
			if i%2 == 0 {
				after = "1"
			}
			all = append(all, follow(m, queue.EventFilter{After: after}, nil))
			pass(5 * time.Millisecond)
		}
		if _, err := writing.wait(); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		for i, w := range all {
			got := w.cursors()
			first := 2
			if i%2 == 1 {
				first, _ = strconv.Atoi(got[0])
			}
			if !slices.Equal(got, upTo(first, total+1)) {
				t.Errorf("subscriber %d: %d events from %s to %s, want from %d to %d", i, len(got), got[0], got[len(got)-1], first, total+1)
			}
			w.end(t, queue.KindCanceled)
		}
	})
	bubble(t, "a subscriber that joins a lagging feed gets no event twice", func(t *testing.T, f *fake, m *Manager) {
		first := follow(m, queue.EventFilter{}, nil)
		pass(time.Minute) // after it the reader sleeps for up to a poll interval
		f.put("default", "mail", 100)
		second := follow(m, queue.EventFilter{After: "0"}, nil)
		synctest.Wait()
		f.put("default", "mail", 100)
		pass(2 * time.Second)
		for _, w := range []*follower{first, second} {
			if got := w.cursors(); !slices.Equal(got, upTo(1, 200)) {
				t.Errorf("%d events", len(got))
			}
			w.end(t, queue.KindCanceled)
		}
	})
	bubble(t, "a thousand subscribers cost one reader, and none costs nothing", func(t *testing.T, f *fake, m *Manager) {
		var all []*follower
		for range 1000 {
			all = append(all, follow(m, queue.EventFilter{}, nil))
		}
		pass(time.Minute)
		before := f.count("events")
		pass(time.Minute)
		if n := f.count("events") - before; n < 50 || n > 70 {
			t.Errorf("%d reads in a minute of polling every second", n)
		}
		for _, w := range all {
			w.end(t, queue.KindCanceled)
		}
		synctest.Wait()
		before = f.count("events")
		pass(time.Minute)
		if n := f.count("events") - before; n != 0 || m.feeds.Len() != 0 {
			t.Errorf("%d reads without a subscriber", n)
		}
	})
	bubble(t, "a slow subscriber is ended and delays no other", func(t *testing.T, f *fake, m *Manager) {
		hold := make(chan struct{})
		slow := follow(m, queue.EventFilter{}, func(queue.Event) error { <-hold; return nil })
		quick := follow(m, queue.EventFilter{}, nil)
		synctest.Wait()
		for range 10 {
			f.put("default", "mail", 5)
			pass(2 * time.Second)
		}
		if got := quick.cursors(); !slices.Equal(got, upTo(1, 50)) {
			t.Error(got)
		}
		close(hold)
		_, err := slow.wait()
		kind(t, err, queue.KindSlowReader)
		if got := slow.cursors(); !slices.Equal(got, upTo(1, 5)) {
			t.Errorf("the slow one got %v", got)
		}
		quick.end(t, queue.KindCanceled)
	}, WithEventBuffer(10))
	bubble(t, "a subscriber may go while the store does not answer", func(t *testing.T, f *fake, m *Manager) {
		w := follow(m, queue.EventFilter{}, nil)
		synctest.Wait()
		release := f.block("events")
		defer release()
		pass(5 * time.Second)
		w.end(t, queue.KindCanceled)
		if w.took != 5*time.Second {
			t.Errorf("took %v", w.took)
		}
	})
	bubble(t, "what handle returns is returned", func(t *testing.T, f *fake, m *Manager) {
		enough := errors.New("enough")
		w := follow(m, queue.EventFilter{}, func(queue.Event) error { return enough })
		synctest.Wait()
		f.put("default", "mail", 5)
		if _, err := w.wait(); err != enough { //nolint:errorlint // the identical error
			t.Error(err)
		}
	})
	bubble(t, "an expired cursor is an error, and a later subscriber begins anew", func(t *testing.T, f *fake, m *Manager) {
		w := follow(m, queue.EventFilter{}, nil)
		synctest.Wait()
		expired := func(_ context.Context, call string, _ any) error {
			if call == "events" {
				return &queue.Error{Kind: queue.KindCursorExpired}
			}
			return nil
		}
		f.refuse(expired)
		_, err := w.wait()
		kind(t, err, queue.KindCursorExpired)
		_, err = follow(m, queue.EventFilter{After: "1"}, nil).wait()
		kind(t, err, queue.KindCursorExpired)
		f.refuse(nil)
		w = follow(m, queue.EventFilter{}, nil)
		synctest.Wait()
		f.put("default", "mail", 1)
		pass(2 * time.Second)
		if got := w.cursors(); len(got) != 1 {
			t.Error(got)
		}
		w.end(t, queue.KindCanceled)
	})
	bubble(t, "an outage of the store leaves no gap", func(t *testing.T, f *fake, m *Manager) {
		w := follow(m, queue.EventFilter{}, nil)
		synctest.Wait()
		f.refuse(func(context.Context, string, any) error { return &queue.Error{Kind: queue.KindUnavailable} })
		f.put("default", "mail", 5)
		pass(time.Minute)
		f.refuse(nil)
		f.put("default", "mail", 5)
		pass(2 * time.Second)
		if got := w.cursors(); !slices.Equal(got, upTo(1, 10)) {
			t.Error(got)
		}
		w.end(t, queue.KindCanceled)
	})
}
