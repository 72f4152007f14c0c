package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// sends records what a notifier sends, and when.
type sends struct {
	begin time.Time
	at    []time.Duration
	texts []string
	fault error
	took  time.Duration
	faced []error
}

func (s *sends) notifier(every time.Duration) *Notifier {
	s.begin = time.Now()
	n := NewNotifier(nil, Config{Every: every, Failed: func(err error) { s.faced = append(s.faced, err) }})
	n.sender = "me"
	n.send = func(ctx context.Context, text string) error {
		s.at = append(s.at, time.Since(s.begin))
		s.texts = append(s.texts, text)
		select {
		case <-time.After(s.took):
			return s.fault
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return n
}

func in(names ...string) (wakes []queue.Wake) {
	for _, name := range names {
		wakes = append(wakes, queue.Wake{Namespace: "n", Queue: name})
	}
	return wakes
}

func (s *sends) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for i := range s.texts {
		got = append(got, fmt.Sprintf("%v %s", s.at[i], s.texts[i]))
	}
	if !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func TestNotifier(t *testing.T) {
	it := func(name string, test func(*testing.T, *sends)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, &sends{}) }) })
	}
	const every = 5 * time.Millisecond

	it("the first is sent at once, those of the window after it together at its end", func(t *testing.T, s *sends) {
		n := s.notifier(every)
		n.NotifyReady(in("a"))
		time.Sleep(time.Millisecond)
		n.NotifyReady(in("c"))
		n.NotifyReady(in("b", "c"))
		time.Sleep(every)
		n.NotifyReady(in("d"))
		time.Sleep(time.Minute)
		n.NotifyReady(in("e"))
		synctest.Wait()
		s.want(t, "0s me n/a", "5ms me n/b,n/c", "10ms me n/d", fmt.Sprintf("%v me n/e", time.Minute+6*time.Millisecond))
		n.Close()
	})
	it("a slow send delays no caller, and wake-ups that came meanwhile go next", func(t *testing.T, s *sends) {
		s.took = time.Second
		n := s.notifier(every)
		n.NotifyReady(in("a"))
		synctest.Wait()
		n.NotifyReady(in("b"))
		n.NotifyReady(in("c"))
		time.Sleep(3 * time.Second)
		s.want(t, "0s me n/a", "1s me n/b,n/c")
		n.Close()
	})
	it("a send that fails or hangs is given up, reported and forgotten", func(t *testing.T, s *sends) {
		s.fault = errors.New("no")
		n := s.notifier(every)
		n.NotifyReady(in("a"))
		synctest.Wait()
		s.fault, s.took = nil, time.Hour
		n.NotifyReady(in("b"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.faced) != 2 || !errors.Is(s.faced[1], context.DeadlineExceeded) {
			t.Errorf("reported %v", s.faced)
		}
		n.Close()
	})
	it("close sends what is left and nothing is sent after it", func(t *testing.T, s *sends) {
		n := s.notifier(time.Hour)
		n.NotifyReady(in("a"))
		synctest.Wait()
		n.NotifyReady(in("b"))
		n.Close()
		n.NotifyReady(in("c"))
		n.Close()
		synctest.Wait()
		s.want(t, "0s me n/a", "0s me n/b")
	})
	it("close is over in bounded time however long a send hangs", func(t *testing.T, s *sends) {
		s.took = time.Hour
		n := s.notifier(every)
		n.NotifyReady(in("a"))
		synctest.Wait()
		n.NotifyReady(in("b"))
		n.Close()
		if took := time.Since(s.begin); took > 2*notifyTimeout {
			t.Errorf("it took %v", took)
		}
	})
	it("what waits is bounded: beyond it everyone is woken", func(t *testing.T, s *sends) {
		n := s.notifier(every)
		n.NotifyReady(in("first"))
		synctest.Wait() // sent; what follows waits for the end of the window, which cannot come while this runs
		for i := range maxPending + 1 {
			n.NotifyReady(in(fmt.Sprintf("q%d", i)))
		}
		n.mu.Lock()
		if len(n.pending) != maxPending {
			t.Errorf("%d wait", len(n.pending))
		}
		n.mu.Unlock()
		time.Sleep(every)
		synctest.Wait()
		if last := s.texts[len(s.texts)-1]; last != "me " {
			t.Errorf("sent %.60q…", last)
		}
		n.Close()
	})
	it("switched off it sends nothing", func(t *testing.T, s *sends) {
		n := s.notifier(every)
		n.config.Off = true
		n.NotifyReady(in("a"))
		n.Close()
		s.want(t)
	})
	it("without a wake-up nothing starts", func(t *testing.T, s *sends) {
		n := s.notifier(every)
		n.NotifyReady(nil)
		s.want(t)
		n.Close()
	})
}

func TestPayload(t *testing.T) {
	long := func(n int) (wakes []queue.Wake) {
		for i := range n {
			wakes = append(wakes, queue.Wake{Namespace: strings.Repeat("n", 63), Queue: fmt.Sprintf("q%062d", i)})
		}
		return wakes
	}
	for _, c := range []struct {
		name  string
		wakes []queue.Wake
		want  string
	}{
		{"queues are named once, in order", in("b", "a", "b"), "- n/a,n/b"},
		{"any queue of a namespace", []queue.Wake{{Namespace: "n"}}, "- n/"},
		{"any at all swallows the rest", append(in("a"), queue.Wake{}), "- "},
		{"none is any", nil, "- "},
		{"a list too long to fit is any", long(100), "- "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := payloadFrom(anonymous, c.wakes); got != c.want {
				t.Errorf("%.80q, want %q", got, c.want)
			}
		})
	}
	t.Run("a list that just fits is sent, and never more than the limit", func(t *testing.T) {
		for n := range 100 {
			text := payloadFrom(anonymous, long(n))
			if len(text) > maxNotifyBytes {
				t.Fatalf("%d queues make %d bytes", n, len(text))
			}
			_, wakes, _ := parsePayload(text)
			if n > 0 && n <= 60 && !slices.Equal(wakes, long(n)) {
				t.Fatalf("%d queues come back as %v", n, wakes)
			}
		}
	})
}
