//go:build unix

package root

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"golang.org/x/term"
)

// screen is a terminal with a program in it.
type screen struct {
	t       *testing.T
	master  *os.File
	tty     *os.File
	before  term.State // of the tty, before there was a program
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
	s.before = s.state()
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

func (s *screen) state() term.State {
	s.t.Helper()
	st, err := term.GetState(int(s.tty.Fd()))
	if err != nil {
		s.t.Fatal(err)
	}
	return *st
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

// written is every byte that came to the screen.
func (s *screen) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
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

// session runs the real program in the terminal as a person does: from a shell, which prints its exit code and then reads a
// line. Ctrl-C reaches both.
func (s *screen) session(env map[string]string, args ...string) {
	s.t.Helper()
	const script = `trap : INT; "$@"; echo "exit code $?"; read -r line; echo "read: $line"`
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh", builtProgram(s.t)}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=")
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.tty, s.tty, s.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// ends says that the program of a session ends with a code, and that the terminal is a person's again.
func (s *screen) ends(code int) {
	s.t.Helper()
	s.await(fmt.Sprintf("exit code %d", code))
	s.sane()
	s.press("still here\r")
	s.await("\nread: still here")
	if !strings.Contains(s.text(), "\nstill here\n") {
		s.t.Errorf("the terminal does not echo:\n%s", s.text())
	}
}

// sane says that the terminal is as it was: cooked, cursor shown, first screen.
func (s *screen) sane() {
	s.t.Helper()
	if after := s.state(); after != s.before {
		s.t.Errorf("the terminal is %v, was %v", after, s.before)
	}
	timeout := time.After(20 * time.Second)
	for left := s.leftOn(); left != ""; left = s.leftOn() {
		select {
		case <-s.changed: // the last write is on its way
		case <-timeout:
			s.t.Fatalf("%q is left on", left)
		}
	}
}

// leftOn is a mode of the terminal that was turned on and not off again.
func (s *screen) leftOn() string {
	raw := s.written()
	for _, pair := range [][2]string{
		{"\x1b[?1049h", "\x1b[?1049l"}, {"\x1b[?25l", "\x1b[?25h"}, {"\x1b[?2004h", "\x1b[?2004l"}, {"\x1b[?1004h", "\x1b[?1004l"},
	} {
		if strings.LastIndex(raw, pair[1]) < strings.LastIndex(raw, pair[0]) {
			return pair[0]
		}
	}
	return ""
}

// builtProgram is the real program in a folder of its own: this test, which TestMain makes it by its name.
func builtProgram(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pgqueue")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}
