package root

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"golang.org/x/term"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
)

// screen is a terminal with a program in it.
type screen struct {
	t       *testing.T
	master  *os.File
	tty     *os.File
	vt      vt10x.Terminal
	changed chan struct{}

	mu  sync.Mutex
	raw strings.Builder
}

func newScreen(t *testing.T, width, height int) *screen {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, master: master, tty: tty, vt: vt10x.New(vt10x.WithSize(width, height)), changed: make(chan struct{}, 1)}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 32<<10)
		for {
			n, err := master.Read(b)
			s.mu.Lock()
			s.raw.Write(b[:n])
			_, _ = s.vt.Write(b[:n])
			s.mu.Unlock()
			select {
			case s.changed <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = tty.Close()
		reading.Wait()
		_ = master.Close()
	})
	return s
}

// text is what is on the screen now.
func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.Split(s.vt.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// await waits until the screen shows want.
func (s *screen) await(want string) {
	s.t.Helper()
	timeout := time.After(20 * time.Second)
	for !strings.Contains(s.text(), want) {
		select {
		case <-s.changed:
		case <-timeout:
			s.t.Fatalf("the screen does not show %q:\n%s", want, s.text())
		}
	}
}

func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.master, keys); err != nil {
		s.t.Fatal(err)
	}
}

// top starts the command in the terminal; what it gives is its exit code, once it has ended.
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

func TestTop(t *testing.T) {
	s := world(t)
	s.must("retain-task", "mail", "--worker", "w3")
	s.must("complete-task", "4", "--error", `{"msg":"no such address"}`, "--permanent")
	url := s.env["PGQUEUE_URL"]
	sc := newScreen(t, 110, 24)
	before, err := term.GetState(int(sc.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
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
		sc.await("retry 1 failed tasks of mail? y or n")
		sc.press("n")
		sc.await("nothing was retried")
		sc.press("ry")
		sc.await("1 tasks are new again")
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
		sane(t, sc, before, ended)
	})
	t.Run("so does Ctrl-C", func(t *testing.T) {
		sc := newScreen(t, 80, 24)
		before, err := term.GetState(int(sc.tty.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		ended := sc.top(t.Context(), s)
		sc.await("q quit")
		sc.press("\x03")
		sane(t, sc, before, ended)
	})
	t.Run("so does a signal", func(t *testing.T) {
		sc := newScreen(t, 80, 24)
		before, err := term.GetState(int(sc.tty.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := sc.top(ctx, s)
		sc.await("q quit")
		cancel()
		sane(t, sc, before, ended)
	})
	t.Run("without a terminal it says what to use", func(t *testing.T) {
		if code, _, errOut := s.run(false, "", "top"); code != 2 || !strings.Contains(errOut, "stats --watch") {
			t.Error(code, errOut)
		}
	})
}

// sane says that the program has ended well and the terminal is as it was: cooked, cursor shown, first screen.
func sane(t *testing.T, sc *screen, before *term.State, ended <-chan int) {
	t.Helper()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	after, err := term.GetState(int(sc.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal is %v, was %v", after, before)
	}
	timeout := time.After(20 * time.Second)
	for left := sc.leftOn(); left != ""; left = sc.leftOn() {
		select {
		case <-sc.changed: // what was written last is on its way
		case <-timeout:
			t.Fatalf("%q is left on", left)
		}
	}
}

// leftOn is a mode of the terminal that was turned on and not off again.
func (s *screen) leftOn() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw := s.raw.String()
	for _, pair := range [][2]string{{"\x1b[?1049h", "\x1b[?1049l"}, {"\x1b[?25l", "\x1b[?25h"}} {
		if strings.LastIndex(raw, pair[1]) < strings.LastIndex(raw, pair[0]) {
			return pair[0]
		}
	}
	return ""
}
