//go:build unix

package root

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
)

// top starts the command in the terminal; the channel gives its exit code, once it has ended.
func (s *screen) top(ctx context.Context, sh *shell) <-chan int {
	f := &factory.Factory{
		IO: &iostreams.IO{
			In: s.tty, Out: s.tty, Err: s.tty, InTTY: true, OutTTY: true, ErrTTY: true, Color: true, Width: 110,
		},
		Version: "test", Now: func() time.Time { return sh.now }, Lookup: func(k string) (string, bool) { v, ok := sh.env[k]; return v, ok },
	}
	ended := make(chan int, 1)
	go func() { ended <- Run(ctx, f, []string{"top", "--every", "100ms"}) }()
	return ended
}

// left says that top has ended well and left the terminal as it was.
func (s *screen) left(ended <-chan int) {
	s.t.Helper()
	select {
	case code := <-ended:
		if code != 0 {
			s.t.Errorf("exit code %d", code)
		}
	case <-time.After(20 * time.Second):
		s.t.Fatal("it does not end")
	}
	s.sane()
}

func TestTop(t *testing.T) {
	s := world(t)
	s.must("retain-task", "mail", "--worker", "w3")
	s.must("complete-task", "4", "--error", `{"msg":"no such address"}`, "--permanent")
	url := s.env["PGQUEUE_URL"]
	sc := newScreen(t, 110, 24)
	ended := sc.top(t.Context(), s)
	// pin compares the screen, once it shows a text; the port is the test's own.
	pin := func(name, shows string) {
		t.Helper()
		sc.await(shows)
		golden(t, name, strings.ReplaceAll(sc.text(), url, "http://server/api"))
	}
	sc.await("q quit")
	pin("top.txt", "RECENT FAILURES")

	t.Run("p pauses and resumes the queue that is chosen", func(t *testing.T) {
		sc.press("p")
		sc.await("mail is paused")
		if got := s.must("queue", "mail", "--jq", ".paused"); got != "true\n" {
			t.Error(got)
		}
		sc.await("mail (paused)")
		sc.press("p")
		sc.await("mail is resumed")
	})
	t.Run("enter inspects failures, esc goes back", func(t *testing.T) {
		sc.press("\r")
		pin("top-inspect.txt", "attempt 1 by w3")
		sc.press("j")
		sc.await("attempt 1 by w1")
		sc.press("\x1b")
		sc.await("WORKERS")
	})
	t.Run("r asks, and retries what failed", func(t *testing.T) {
		sc.press("r")
		sc.await("retry 1 failed task of mail? y or n")
		sc.press("n")
		sc.await("nothing was retried")
		sc.press("ry")
		sc.await("1 task made new")
		if got := s.must("task", "4", "--jq", ".status"); got != "new\n" {
			t.Error(got)
		}
	})
	t.Run("down chooses the next queue", func(t *testing.T) {
		sc.press("\x1b[B")
		sc.await("▶ sms")
	})
	t.Run("q ends and leaves the terminal as it was", func(t *testing.T) {
		sc.press("q")
		sc.left(ended)
	})
	t.Run("so does Ctrl-C", func(t *testing.T) {
		sc := newScreen(t, 80, 24)
		ended := sc.top(t.Context(), s)
		sc.await("q quit")
		sc.press("\x03")
		sc.left(ended)
	})
	t.Run("so does a signal", func(t *testing.T) {
		sc := newScreen(t, 80, 24)
		ctx, cancel := context.WithCancel(t.Context())
		ended := sc.top(ctx, s)
		sc.await("q quit")
		cancel()
		sc.left(ended)
	})
	t.Run("without a terminal it says what to use", func(t *testing.T) {
		if code, _, errOut := s.run(false, "", "top"); code != 2 || !strings.Contains(errOut, "stats --watch") {
			t.Error(code, errOut)
		}
	})
}

// TestTopShowsAnObserverNoContent: the screen of an observer has the queues and the failed tasks, without their payloads and
// errors. A viewer sees both.
func TestTopShowsAnObserverNoContent(t *testing.T) {
	s := world(t)
	s.must("create-task", "mail", "--key", "k5", "--payload", `{"to":"MARKED"}`)
	s.must("retain-task", "mail", "--worker", "w3", "--limit", "10")
	s.must("complete-task", "5", "--error", `{"msg":"MARKED too"}`, "--permanent")
	s.env["PGQUEUE_AUTH_TOKEN"] = strings.TrimSpace(s.must("create-token", "admin", "--grant", "system@*", "--jq", ".token"))

	for _, role := range []string{"observer", "viewer"} {
		t.Run(role, func(t *testing.T) {
			own := newShell(t, s.env["PGQUEUE_URL"])
			own.now = s.now
			own.env["PGQUEUE_AUTH_TOKEN"] = strings.TrimSpace(s.must("create-token", role, "--grant", role+"@default", "--jq", ".token"))
			sc := newScreen(t, 110, 24)
			ended := sc.top(t.Context(), own)
			sc.await("RECENT FAILURES")
			sc.press("\r")
			sc.await("attempt 1 by w3")
			sc.press("q")
			sc.left(ended)
			if got := strings.Contains(sc.written(), "MARKED"); got != (role == "viewer") {
				t.Errorf("the screen has contents: %v\n%s", got, sc.text())
			}
		})
	}
}
