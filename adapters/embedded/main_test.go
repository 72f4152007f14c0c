//go:build unix

package embedded

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq"
	"go.uber.org/goleak"
)

// The tests run the real server. PGQUEUE_TEST_BINDIR names its binaries when the search would find others.
const (
	binDirEnv = "PGQUEUE_TEST_BINDIR"
	helperEnv = "PGQUEUE_EMBEDDED_HELPER"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(helperEnv); spec != "" {
		helper(spec)
		return
	}
	code := m.Run()
	if dir := templateDir; dir != "" {
		_ = os.RemoveAll(dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func orphan() Option { return func(c *config) { c.orphan = true } }

func searchIn(p places) Option { return func(c *config) { c.places = p } }

// helperSpec describes a helper process. It starts a server, prints a reply as one line of JSON and lives until its
// input ends.
type helperSpec struct {
	DataDir string
	BinDir  string
	Orphan  bool
}

type helperReply struct {
	DSN   string
	PID   int // of the postmaster
	Error string
}

func (s helperSpec) options() []Option {
	opts := []Option{WithDataDir(s.DataDir), WithSetting("fsync", "off"), WithFetcher(nil)}
	if s.BinDir != "" {
		opts = append(opts, WithBinDir(s.BinDir))
	}
	if s.Orphan {
		opts = append(opts, orphan())
	}
	return opts
}

func helper(text string) {
	var (
		spec  helperSpec
		reply helperReply
	)
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		reply.Error = err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Start(ctx, spec.options()...)
	if err != nil {
		reply.Error = err.Error()
	} else {
		reply.DSN, reply.PID = s.DSN(), s.pm.cmd.Process.Pid
	}
	_ = json.NewEncoder(os.Stdout).Encode(reply)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if s != nil {
		_ = s.Stop(ctx)
	}
}

// startHelper starts a helper process, as another user when attr says so, and returns after its reply. kill ends it
// like kill -9.
func startHelper(t *testing.T, program string, attr *syscall.SysProcAttr, spec helperSpec) (reply helperReply, kill func()) {
	t.Helper()
	spec.BinDir = os.Getenv(binDirEnv)
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^$")
	cmd.Env = append(os.Environ(), helperEnv+"="+string(text))
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = stdin.Close()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the helper gave no reply: %v", err)
	}
	if err := json.Unmarshal([]byte(line), &reply); err != nil {
		t.Fatalf("the helper replied %q: %v", line, err)
	}
	return reply, kill
}

// openDir returns a folder that the user of PostgreSQL may enter. In a test as root that user may not enter
// t.TempDir.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedded-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func needServer(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL; -short leaves it out")
	}
	t.Parallel()
}

// testOptions returns the options for servers of tests: fast, and without a download.
func testOptions(t *testing.T, opts ...Option) []Option {
	t.Helper()
	all := []Option{
		WithSetting("fsync", "off"),
		WithFetcher(nil),
		WithLogger(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))),
	}
	if dir := os.Getenv(binDirEnv); dir != "" {
		all = append(all, WithBinDir(dir))
	}
	return append(all, opts...)
}

func start(t *testing.T, opts ...Option) *Server {
	t.Helper()
	s, err := Start(t.Context(), testOptions(t, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var (
	templateOnce sync.Once
	templateDir  string
	errTemplate  error
)

// madeFolder returns a data folder that was started and stopped once. It is a copy of one folder for the whole run,
// because initialisation takes a second.
func madeFolder(t *testing.T) string {
	t.Helper()
	templateOnce.Do(func() {
		if templateDir, errTemplate = os.MkdirTemp("", "embedded-template-"); errTemplate != nil {
			return
		}
		if errTemplate = os.Chmod(templateDir, 0o755); errTemplate != nil {
			return
		}
		opts := []Option{WithDataDir(filepath.Join(templateDir, "pg")), WithSetting("fsync", "off"), WithFetcher(nil)}
		if dir := os.Getenv(binDirEnv); dir != "" {
			opts = append(opts, WithBinDir(dir))
		}
		var s *Server
		if s, errTemplate = Start(context.Background(), opts...); errTemplate == nil {
			errTemplate = s.Stop(context.Background())
		}
	})
	if errTemplate != nil {
		t.Fatal(errTemplate)
	}
	dir := filepath.Join(openDir(t), "pg")
	if out, err := exec.Command("cp", "-Rp", filepath.Join(templateDir, "pg"), dir).CombinedOutput(); err != nil {
		t.Fatalf("copying the template: %v: %s", err, out)
	}
	// Otherwise all copies would try the same port.
	if err := os.Remove(filepath.Join(dir, portName)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// query runs a statement and returns the first column of its first row.
func query(t *testing.T, dsn, statement string) string {
	t.Helper()
	got, err := tryQuery(dsn, statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return got
}

func tryQuery(dsn, statement string) (string, error) {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return "", err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var got sql.NullString
	err = db.QueryRowContext(ctx, statement).Scan(&got)
	return got.String, err
}

func exec1(t *testing.T, dsn, statement string) {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// until polls a condition that has no signal.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(pollEvery)
	}
}

func pidFile(t *testing.T, dir string) (pid int, rest string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, clusterName, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, rest, _ := strings.Cut(string(b), "\n")
	if pid, err = strconv.Atoi(line); err != nil {
		t.Fatal(err)
	}
	return pid, rest
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}
