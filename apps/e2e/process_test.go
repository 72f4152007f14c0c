//go:build linux

package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
)

// server is a server program below another command line.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string
	log  syncBuffer
	done chan struct{}
}

// startServer starts a program, such as "pgqueue run", on its own port and waits until it is ready. under is a
// command line that ends with the program's.
func startServer(t *testing.T, under, env []string, program string, args ...string) *server {
	t.Helper()
	s := startProcess(t, under, env, program, args...)
	s.ready()
	return s
}

// closedPort returns an address without a listener.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startProcess works like startServer without the wait.
func startProcess(t *testing.T, under, env []string, program string, args ...string) *server {
	t.Helper()
	s := &server{t: t, addr: closedPort(t), done: make(chan struct{})}
	words := strings.Fields(program)
	line := append(append([]string{}, under...), filepath.Join(programs(t), words[0]))
	line = append(append(append(line, words[1:]...), "--addr", s.addr, "--log-format", "json"), args...)
	s.cmd = exec.Command(line[0], line[1:]...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // the state has the result
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // fails when it has ended
		<-s.done
		if t.Failed() {
			t.Logf("%s:\n%s", program, s.log.String())
		}
	})
	return s
}

// mustRun fails the test when the program has ended.
func (s *server) mustRun() {
	s.t.Helper()
	select {
	case <-s.done:
		s.t.Fatalf("it has ended with exit code %d", s.cmd.ProcessState.ExitCode())
	default:
	}
}

func (s *server) get(path string) int {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Get("http://" + s.addr + path)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func (s *server) ready() {
	s.t.Helper()
	for over := time.Now().Add(2 * time.Minute); s.get("/readyz") != http.StatusOK; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(over) {
			s.t.Fatalf("it is not ready:\n%s", s.log.String())
		}
	}
}

// ends waits for the end and returns the exit code.
func (s *server) ends() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		s.t.Fatalf("it does not end:\n%s", s.log.String())
	}
	return s.cmd.ProcessState.ExitCode()
}

// childrenOf returns the children of a process.
func childrenOf(pid int) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		b, err := os.ReadFile(file)
		i := strings.LastIndexByte(string(b), ')')
		if err != nil || i < 0 {
			continue // it has ended
		}
		var state string
		var child, parent int
		if _, err := fmt.Sscan(string(b[i+1:]), &state, &parent); err != nil || parent != pid {
			continue
		}
		if _, err := fmt.Sscan(string(b), &child); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

func writeText(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// openTerminal opens a terminal. It returns the side of the user, and the name of the side of programs.
func openTerminal(t *testing.T) (user *os.File, name string) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return user, fmt.Sprintf("/dev/pts/%d", number)
}

// TestServerAmongProcesses tests both server programs with signals, a log without a reader, a supervisor and a
// collector that hangs.
func TestServerAmongProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.Empty(t)
	for _, program := range []string{"pgqueue run", "pgqueue-server"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
			t.Run(program+": "+sig.String()+" stops it", func(t *testing.T) {
				s := startServer(t, nil, nil, program, dsn)
				if err := s.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				code := s.ends()
				if sig == syscall.SIGQUIT {
					if !strings.Contains(s.log.String(), "goroutine ") {
						t.Error("the goroutines are not printed")
					}
				} else if code != 0 {
					t.Errorf("exit code %d", code)
				}
				if !strings.Contains(s.log.String(), `"msg":"stopped"`) {
					t.Error("it did not stop by itself")
				}
			})
		}
		t.Run(program+": SIGHUP reads the access file again", func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "access.yaml")
			writeText(t, file, "rules: []")
			s := startServer(t, nil, nil, program, dsn, "--access-file", file)
			for content, message := range map[string]string{
				"rules: [{cert: a, grant: [viewer@default]}]": "a file of settings has changed and is in use",
				"rules: [{cert: a, grant: [root@default]}]":   "a file of settings is wrong, so its former content stays in use",
			} {
				writeText(t, file, content)
				if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				for !strings.Contains(s.log.String(), message) {
					s.mustRun()
					time.Sleep(5 * time.Millisecond)
				}
			}
			if got := s.get("/readyz"); got != http.StatusOK {
				t.Errorf("/readyz: %d", got)
			}
		})
		t.Run(program+": the end of its terminal stops it", func(t *testing.T) {
			terminal, name := openTerminal(t)
			s := startServer(t, []string{"setsid", "sh", "-c", `exec "$@" 0<>` + name, "sh"}, nil, program, dsn)
			if err := terminal.Close(); err != nil {
				t.Fatal(err)
			}
			if code := s.ends(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(s.log.String(), `"msg":"stopped"`) {
				t.Error("it did not stop by itself")
			}
		})
		t.Run(program+": SIGHUP that was ignored at the start stays so", func(t *testing.T) {
			s := startServer(t, []string{"nohup"}, nil, program, dsn)
			for range 3 {
				if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				if got := s.get("/livez"); got != http.StatusOK {
					t.Errorf("/livez: %d", got)
				}
			}
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := s.ends(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
			t.Run(program+": "+sig.String()+" ends a wait for the database", func(t *testing.T) {
				closed := closedPort(t)
				s := startProcess(t, nil, nil, program, "postgres://u@"+closed+"/d", "--wait", "1h")
				for s.get("/livez") != http.StatusOK {
					s.mustRun()
				}
				if err := s.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if code := s.ends(); code != 0 {
					t.Errorf("exit code %d", code)
				}
			})
		}
		t.Run(program+": standard streams that are closed at the start are taken by nothing else", func(t *testing.T) {
			s := startServer(t, []string{"sh", "-c", `exec "$@" <&- >&- 2>&-`, "sh"}, nil, program, dsn)
			for range 20 { // each call writes a line to the log
				if got := s.get("/api/queue"); got != http.StatusOK {
					t.Fatalf("/api/queue: %d", got)
				}
			}
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := s.ends(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
		t.Run(program+": a reader of the log that goes away ends nothing", func(t *testing.T) {
			s := startServer(t, []string{"sh", "-c", `{ "$@" 2>&1; echo "exit code $?" >&2; } | head -n 1`, "sh"}, nil, program, dsn)
			for range 20 { // each call writes a line to the log
				if got := s.get("/api/queue"); got != http.StatusOK {
					t.Fatalf("/api/queue: %d", got)
				}
			}
			pids := childrenOf(s.cmd.Process.Pid)
			if err := syscall.Kill(serverIn(t, pids), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			s.ends()
			if !strings.Contains(s.log.String(), "exit code 0") {
				t.Errorf("it ended with %s", s.log.String())
			}
		})
		t.Run(program+": a supervisor hears that it is ready and stops", func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "notify")
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()

			// A supervisor reads all the time: the socket holds 10 messages.
			heard := map[string]bool{}
			var reading sync.WaitGroup
			reading.Go(func() {
				for b := make([]byte, 100); ; {
					n, err := l.Read(b)
					if err != nil {
						return
					}
					heard[string(b[:n])] = true
				}
			})

			s := startServer(t, nil, []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=20000"}, program, dsn)
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := s.ends(); code != 0 {
				t.Errorf("exit code %d", code)
			}

			// The program has sent all before its end; the read returns what the socket holds before the deadline counts.
			if err := l.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			reading.Wait()
			if !heard["READY=1"] || !heard["WATCHDOG=1"] || !heard["STOPPING=1"] {
				t.Errorf("heard %v", heard)
			}
		})
		t.Run(program+": a collector that hangs does not make it fail", func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for _, protocol := range []string{"http/protobuf", "grpc"} {
				s := startServer(t, nil, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol}, program, dsn)
				if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if code := s.ends(); code != 0 {
					t.Errorf("%s: exit code %d", protocol, code)
				}
				warned := false
				for lines := bufio.NewScanner(strings.NewReader(s.log.String())); lines.Scan(); {
					var entry struct{ Level, Msg string }
					if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
						t.Errorf("%s: a line that is not JSON: %s", protocol, lines.Text())
					}
					warned = warned || entry.Level == "WARN" && strings.Contains(entry.Msg, "telemetry was not sent")
				}
				if !warned {
					t.Errorf("%s: nothing is said of it", protocol)
				}
			}
		})
		t.Run(program+": as process 1 it passes signals on and its check finds it", func(t *testing.T) {
			under := []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}
			if os.Getuid() != 0 {
				under = append(under, "--map-root-user")
			}
			s := startServer(t, under, []string{"PGQUEUE_ADRR=x"}, program, dsn)
			if n := strings.Count(s.log.String(), "PGQUEUE_ADRR"); n != 1 {
				t.Errorf("the misspelt variable is named %d times", n)
			}
			first := childrenOf(s.cmd.Process.Pid)
			if len(first) != 1 || len(childrenOf(first[0])) != 1 {
				t.Fatalf("process 1 is %v", first)
			}
			if program == "pgqueue-server" {
				check := exec.Command("nsenter", "--target", fmt.Sprint(first[0]), "--pid", "--mount", "--user", "--preserve-credentials", s.cmd.Args[len(under)], "--check")
				if os.Getuid() == 0 {
					check = exec.Command("nsenter", "--target", fmt.Sprint(first[0]), "--pid", "--mount", s.cmd.Args[len(under)], "--check")
				}
				check.Env = append(os.Environ(), "PGQUEUE_ADDR=127.0.0.1:1")
				if out, err := check.CombinedOutput(); err != nil {
					t.Errorf("the check: %v\n%s", err, out)
				}
			}
			if err := syscall.Kill(first[0], syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := s.ends(); code != 0 || !strings.Contains(s.log.String(), `"msg":"stopped"`) {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// TestClosedStreamsOfCommands: a command does its work exactly once, whichever standard streams are missing.
func TestClosedStreamsOfCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	s := startServer(t, nil, nil, "pgqueue run", postgrestest.Empty(t))
	pgqueue := func(redirect string, args ...string) (stdout string, code int) {
		line := append([]string{"-c", `exec "$@" ` + redirect, "sh", filepath.Join(programs(t), "pgqueue")}, args...)
		cmd := exec.CommandContext(t.Context(), "sh", append(line, "--url", "http://"+s.addr+"/api")...)
		out, err := cmd.Output()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if _, code := pgqueue("", "create-queue", "mail"); code != 0 {
		t.Fatal("exit code", code)
	}
	for i, redirect := range []string{">&-", "2>&-", "<&-", "<&- >&- 2>&-"} {
		if _, code := pgqueue(redirect, "create-task", "mail", "--payload", `{"to":"a@b.c"}`); code != 0 {
			t.Errorf("%s: exit code %d", redirect, code)
		}
		if out, _ := pgqueue("", "tasks", "--jq", ".count"); strings.TrimSpace(out) != fmt.Sprint(i+1) {
			t.Errorf("%s: there are %s tasks, want %d", redirect, out, i+1)
		}
		if _, code := pgqueue(redirect, "queue", "none"); code != 3 {
			t.Errorf("%s: exit code %d of a queue that is not there, want 3", redirect, code)
		}
	}
	if out, _ := pgqueue("", "tasks", "--jq", ".body[].payload.to"); strings.Count(out, "a@b.c\n") != 4 {
		t.Errorf("the payloads are %q", out)
	}
}

// serverIn returns the process of a server among pids or their children.
func serverIn(t *testing.T, pids []int) int {
	t.Helper()
	for len(pids) > 0 {
		pid := pids[0]
		pids = append(pids[1:], childrenOf(pid)...)
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.HasPrefix(string(name), "pgqueue") {
			return pid
		}
	}
	t.Fatal("the server is not there")
	return 0
}

// TestUnits checks that systemd accepts the shipped units without a warning.
func TestUnits(t *testing.T) {
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatal(units, err)
	}
	dir := programs(t)
	for _, unit := range units {
		b, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "/usr/local/bin/", dir+"/")
		for _, want := range []string{"Type=notify\n", "WatchdogSec=", "TimeoutStopSec=", "RestartPreventExitStatus=2"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s", unit, want)
			}
		}
		file := filepath.Join(t.TempDir(), filepath.Base(unit))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, out)
		}
	}
}
