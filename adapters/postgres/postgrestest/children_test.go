package postgrestest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
)

// The environment of a child: which of roles it plays, and on which database.
const (
	roleEnv    = "PGQUEUE_TEST_ROLE"
	roleURLEnv = "PGQUEUE_TEST_ROLE_URL"
)

// role is the function that a child runs instead of tests. It reads the lines of its parent and writes lines back. It ends
// when its parent closes the pipe or ends.
type role func(ctx context.Context, s *postgres.Store, hear <-chan string, say func(format string, args ...any)) error

// roles by name.
var roles = map[string]role{
	"drain":  drain,
	"groups": workGroups,
	"hold":   hold,
	"poison": workPoison,
	"work":   work,
	"ticker": keepTicking,
}

// playRole is the whole of a child.
func playRole(name string) int {
	err := func() error {
		play, ok := roles[name]
		if !ok {
			return fmt.Errorf("no role %q", name)
		}
		ctx, end := context.WithCancel(context.Background())
		defer end()
		s, err := postgres.Open(ctx, os.Getenv(roleURLEnv), postgres.WithMaxConns(8))
		if err != nil {
			return err
		}
		defer s.Close()
		heard := make(chan string)
		go func() {
			defer close(heard)
			defer end()
			for in := bufio.NewScanner(os.Stdin); in.Scan(); {
				heard <- in.Text()
			}
		}()
		out := bufio.NewWriter(os.Stdout)
		return errors.Join(play(ctx, s, heard, func(format string, args ...any) {
			fmt.Fprintf(out, format+"\n", args...)
			if out.Flush() != nil {
				end() // the parent has gone
			}
		}), out.Flush())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "role", name+":", err)
		return 1
	}
	return 0
}

// child is this test binary again, as a process of its own.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  chan string // closed when it has ended
	ended chan error
}

// spawn starts a child that is killed with the test at the latest.
func spawn(t *testing.T, role, dsn string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), exe), said: make(chan string, 1<<17), ended: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), roleEnv+"="+role, roleURLEnv+"="+dsn)
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			c.said <- in.Text()
		}
		c.ended <- c.cmd.Wait()
		close(c.said)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		for range c.said { // until it has ended
		}
	})
	return c
}

// say writes a line to the child.
func (c *child) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(c.stdin, line); err != nil {
		t.Fatalf("saying %q: %v", line, err)
	}
}

// hear is the next line of the child.
func (c *child) hear(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-c.said:
		if !ok {
			t.Fatalf("the child has ended: %v", <-c.ended)
		}
		return line
	case <-time.After(patience):
		t.Fatal("the child says nothing")
		return ""
	}
}

// dismiss ends the child and gives what it still had to say.
func (c *child) dismiss(t *testing.T) []string {
	t.Helper()
	c.stdin.Close()
	var rest []string
	for line := range c.said {
		rest = append(rest, line)
	}
	if err := <-c.ended; err != nil {
		t.Errorf("the child ended with %v after %q", err, strings.Join(rest[max(0, len(rest)-3):], "; "))
	}
	return rest
}

// signal sends the child's process a signal; an end by it does not count as a fault.
func (c *child) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}
