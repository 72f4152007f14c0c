package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// build builds the programs once for each test run and returns their folder.
var build = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../build/e2e") // git ignores this folder; the next run rebuilds only changed parts
	if err != nil {
		return "", err
	}
	for app, program := range map[string]string{"cli": "pgqueue", "server": "pgqueue-server", "worker": "pgqueue-worker"} {
		out, err := exec.Command("go", "build", "-C", filepath.Join("..", app), "-o", filepath.Join(dir, program), "./cmd/"+program).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
	}
	return dir, nil
})

// programs returns the folder of the current programs.
func programs(t testing.TB) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// node is a server process that started its own PostgreSQL.
type node struct {
	cmd  *exec.Cmd
	data string
	url  string // URL of the API
	log  *syncBuffer
}

var urlFlag = regexp.MustCompile(`--url (\S+)`)

// startNode starts "pgqueue run" on a data folder. It waits until the server prints the next command to type, which
// happens when it is ready.
func startNode(t testing.TB, data string, args ...string) *node {
	t.Helper()
	return startWith(t, data, append([]string{"--data-dir", data}, args...)...)
}

// startNodeAt works like startNode on an existing database.
func startNodeAt(t testing.TB, dsn string, args ...string) *node {
	t.Helper()
	return startWith(t, "", append([]string{dsn}, args...)...)
}

func startWith(t testing.TB, data string, args ...string) *node {
	t.Helper()
	n := &node{data: data, log: &syncBuffer{}}
	n.cmd = exec.Command(filepath.Join(programs(t), "pgqueue"), append([]string{"run", "--addr", "127.0.0.1:0"}, args...)...)
	n.cmd.Stderr = n.log
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(ready)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := urlFlag.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case ready <- m[1]:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() { n.stop(t) })
	select {
	case n.url = <-ready:
	case <-time.After(2 * time.Minute):
	}
	if n.url == "" {
		n.stop(t)
		t.Fatalf("the server does not come up:\n%s", n.log)
	}
	return n
}

// stop stops the server as a user does.
func (n *node) stop(t testing.TB) {
	t.Helper()
	if n.cmd.ProcessState != nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(time.Minute, func() { _ = n.cmd.Process.Kill() })
	defer kill.Stop()
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v:\n%s", err, n.log)
	}
}

// kill ends the server and its PostgreSQL by SIGKILL, which neither can handle.
func (n *node) kill(t testing.TB) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.data, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		t.Fatal(err)
	}
	_ = n.cmd.Wait()
}

// pgqueue runs a command line against n and returns its stdout.
func (n *node) pgqueue(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs(t), "pgqueue"), args...)
	cmd.Env = append(os.Environ(), "PGQUEUE_URL="+n.url)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pgqueue %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// dataDir returns a folder for a server's data, which the test removes. In a test as root PostgreSQL runs as another
// user. So other users may pass through this folder; t.TempDir is closed to them.
func dataDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgqueue-e2e-data-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}
