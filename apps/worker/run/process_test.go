//go:build linux

package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// sleeper starts a program under a command line, with a task. The task's command notes its process id and sleeps. sleeper
// returns the process ids of the command and of its child.
func sleeper(t *testing.T, under []string, args ...string) (p *process, m *manager.Manager, id int64, pids []int) {
	t.Helper()
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail"})
	file := filepath.Join(t.TempDir(), "pids")
	p = startUnder(t, under, nil, append([]string{
		"--url", url + "/api", "-q", "mail", "--kill-after", "1s", "--drain-time", "10ms",
		"--exec", `sleep 1000 & echo $$ $! >` + file + `.new; mv ` + file + `.new ` + file + `; wait`,
	}, args...)...)
	id = makeTasks(t, m, "mail", 1)[0].ID
	appears(t, file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for s := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return p, m, id, pids
}

// gone waits until a process has ended; a zombie has.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 20_000 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("process %d lives on", pid)
}

func (p *process) send(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the end and returns the exit code.
func (p *process) end() int {
	for range p.log { // to the end: Wait closes the pipe
	}
	_ = p.cmd.Wait() // the caller reads the exit code
	return p.cmd.ProcessState.ExitCode()
}

func handedBack(t *testing.T, m *manager.Manager, id int64) {
	t.Helper()
	task, err := m.GetTask(t.Context(), id)
	if err != nil || task.Status != queue.StatusNew || task.Attempt != 0 || task.Retries != queue.DefaultRetries {
		t.Errorf("the task is %+v, %v", task, err)
	}
}

// TestSignals holds what each signal does to a worker that runs a command.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String()+" stops it, its commands with all that they started end, and the task goes back", func(t *testing.T) {
			p, m, id, pids := sleeper(t, nil)
			p.send(sig)
			if sig == syscall.SIGQUIT {
				p.says(`^goroutine \d+ \[`)
			}
			p.says(`msg=stopping.* signal="?` + sig.String())
			p.says("msg=stopped")
			if code := p.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, pid := range pids {
				gone(t, pid)
			}
			handedBack(t, m, id)
		})
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		t.Run(sig.String()+" that was ignored at the start, as nohup and shells do, stays so", func(t *testing.T) {
			m, url := server(t)
			makeQueue(t, m, queue.QueueMeta{Name: "mail"})
			name := map[syscall.Signal]string{syscall.SIGHUP: "HUP", syscall.SIGINT: "INT"}[sig]
			p := startUnder(t, []string{"sh", "-c", `trap "" ` + name + `; exec "$@"`, "sh"}, nil, "--url", url+"/api", "-q", "mail", "--exec", "echo 1")
			p.says("msg=working")
			for range 3 {
				p.send(sig)
				if done := await(t, m, makeTasks(t, m, "mail", 1)[0].ID); done.Status != queue.StatusReleased {
					t.Errorf("%s %s", done.Status, done.Result)
				}
			}
			if code := p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String()+" ends a worker that waits for its database", func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			_ = l.Close()
			p := startProgram(t, "--database-url", "postgres://u@"+addr+"/d", "--wait", "1h", "-q", "mail", "--exec", "true", "--log-level", "debug")
			p.says("msg=opening")
			p.send(sig)
			p.says(`msg=stopping.* signal="?` + sig.String())
			p.says("msg=stopped")
			if code := p.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	t.Run("SIGUSR1 turns debug lines on", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail", Retries: new(0)})
		p := startProgram(t, "--url", url+"/api", "-q", "mail", "--exec", "exit 3")
		p.says("msg=working")
		await(t, m, makeTasks(t, m, "mail", 1)[0].ID)
		p.says("level=WARN.*a task failed")
		p.send(syscall.SIGUSR1)
		for p.cmd.ProcessState == nil { // the signal takes its time
			await(t, m, makeTasks(t, m, "mail", 1)[0].ID)
			select {
			case line := <-p.log:
				if strings.Contains(line, "level=DEBUG") {
					p.stop()
					return
				}
			default:
			}
		}
	})
	t.Run("SIGKILL of the worker ends its command, too", func(t *testing.T) {
		p, _, _, pids := sleeper(t, nil)
		p.send(syscall.SIGKILL)
		gone(t, pids[0])
		_ = syscall.Kill(pids[1], syscall.SIGKILL) // the child of the command lives on, as the documentation says
	})
}

// TestBackgroundChildren: children in the group of a command end with its task, those in a session of their own live on.
func TestBackgroundChildren(t *testing.T) {
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail"})
	p := startProgram(t, "--url", url+"/api", "-q", "mail", "--exec",
		`sleep 1000 >/dev/null 2>&1 & a=$!; setsid sleep 1000 >/dev/null 2>&1 & echo "[$a,$!]"`)
	done := await(t, m, makeTasks(t, m, "mail", 1)[0].ID)
	var pids [2]int
	if err := json.Unmarshal(done.Result, &pids); err != nil {
		t.Fatal(err, string(done.Result))
	}
	gone(t, pids[0])
	if err := syscall.Kill(pids[1], syscall.SIGKILL); err != nil {
		t.Errorf("the session's process: %v", err)
	}
	p.stop()
}

// TestLogReaderGone: the reader of the log goes away, and the worker works on.
func TestLogReaderGone(t *testing.T) {
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail", Retries: new(0)})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "--url", url+"/api", "-q", "mail", "--log-level", "debug", "--exec", `read -r p; yes | head -n 1 >/dev/null; case $p in *0*) exit 3;; esac; kill -PIPE $$`)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asProgram+"=1"), w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = w.Close()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	for i, task := range makeTasks(t, m, "mail", 20) { // each is logged
		done := await(t, m, task.ID)
		want := "signal: broken pipe" // commands have the signal as ever
		if i%10 == 0 {
			want = "exit status 3"
		}
		if !strings.Contains(string(done.Result), want) {
			t.Errorf("task %d: %s", i, done.Result)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestClosedStdio: standard input, output and error that are closed at the start are not taken by something else.
func TestClosedStdio(t *testing.T) {
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail"})
	p := startUnder(t, []string{"sh", "-c", `exec "$@" <&- >&- 2>&-`, "sh"}, nil, "--url", url+"/api", "-q", "mail",
		"--exec", `echo on standard error >&2; cat`)
	for i, task := range makeTasks(t, m, "mail", 20) {
		if done := await(t, m, task.ID); string(done.Result) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Errorf("%s %s", done.Status, done.Result)
		}
	}
	p.send(syscall.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestFirstProcess: as process 1 of a container it reaps what loses its parent, passes signals on, and its check finds it.
func TestFirstProcess(t *testing.T) {
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail"})
	under := []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if os.Getuid() != 0 {
		under = append(under, "--map-root-user")
	}
	p := startUnder(t, under, nil, "--url", url+"/api", "-q", "mail", "-c", "4", "--metrics-addr", "127.0.0.1:0",
		"--exec", `(setsid true >/dev/null 2>&1 &); echo $$`)
	first := 0
	p.says("msg=working")
	for first == 0 {
		first = childOf(p.cmd.Process.Pid)
	}
	for _, task := range makeTasks(t, m, "mail", 40) {
		if done := await(t, m, task.ID); done.Status != queue.StatusReleased || string(done.Result) == "1" {
			t.Errorf("%s %s", done.Status, done.Result)
		}
	}
	for over := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		left := zombies(first)
		if left == 0 {
			break
		}
		if time.Now().After(over) {
			t.Fatalf("%d zombies stay", left)
		}
	}
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.says("msg=stopped")
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	t.Run("its exit code is the program's", func(t *testing.T) {
		p := startUnder(t, under, nil, "--nonsense")
		if code := p.end(); code != 2 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("signals that come before the child handles them are kept for it", func(t *testing.T) {
		for range 5 {
			p := startUnder(t, under, nil, "--url", url+"/api", "-q", "mail", "--exec", "true")
			first := 0
			for first == 0 || childOf(first) == 0 {
				first = childOf(p.cmd.Process.Pid)
			}
			for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR1, syscall.SIGHUP} {
				if err := syscall.Kill(first, sig); err != nil {
					t.Fatal(err)
				}
			}
			p.says(`msg=stopping.* signal=hangup`)
			if code := p.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		}
	})
	t.Run("behind another init a check asks where the worker listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		p := startUnder(t, append(slices.Clone(under), "sh", "-c", `"$@"; exit $?`, "init"), []string{"PGQUEUE_METRICS_ADDR=127.0.0.1:1"},
			"--url", url+"/api", "-q", "mail", "--metrics-addr", addr,
			"--exec", asProgram+"=1 PGQUEUE_METRICS_ADDR=127.0.0.1:1 "+os.Args[0]+" --check >&2; echo $?")
		if done := await(t, m, makeTasks(t, m, "mail", 1)[0].ID); string(done.Result) != "0" {
			t.Errorf("the check says %s", done.Result)
		}
		if err := syscall.Kill(childOf(childOf(p.cmd.Process.Pid)), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.end()
	})
	t.Run("a check beside it asks its address, against the environment", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		p := startUnder(t, under, []string{"PGQUEUE_METRICS_ADDR=127.0.0.1:1"}, "--url", url+"/api", "-q", "mail", "--metrics-addr", addr,
			"--exec", asProgram+"=1 PGQUEUE_METRICS_ADDR=127.0.0.1:1 "+os.Args[0]+" --check >&2; echo $?")
		if done := await(t, m, makeTasks(t, m, "mail", 1)[0].ID); string(done.Result) != "0" {
			t.Errorf("the check says %s", done.Result)
		}
		if err := syscall.Kill(childOf(p.cmd.Process.Pid), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.end()
	})
}

// childOf is a child of a process; 0 when there is none.
func childOf(pid int) (child int) {
	eachProcess(func(p, parent int, _ string) {
		if parent == pid {
			child = p
		}
	})
	return child
}

// zombies counts the children of a process that have ended and were not reaped.
func zombies(of int) (n int) {
	eachProcess(func(_, parent int, state string) {
		if parent == of && state == "Z" {
			n++
		}
	})
	return n
}

func eachProcess(do func(pid, parent int, state string)) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		b, err := os.ReadFile(file)
		i := bytes.LastIndexByte(b, ')')
		if err != nil || i < 0 {
			continue // it has ended
		}
		var state string
		var pid, parent int
		if _, err := fmt.Sscan(string(b[i+1:]), &state, &parent); err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(b), &pid); err == nil {
			do(pid, parent, state)
		}
	}
}

// TestSupervisor: systemd hears that the worker is ready, lives and stops, and no command speaks in its name.
func TestSupervisor(t *testing.T) {
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail"})
	for name, socket := range map[string]string{"a path": filepath.Join(t.TempDir(), "notify"), "an abstract name": fmt.Sprintf("@pgqueue-test-%d", os.Getpid())} {
		t.Run(name, func(t *testing.T) {
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			hears := func(want string) {
				t.Helper()
				if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
					t.Fatal(err)
				}
				for b := make([]byte, 100); ; {
					n, err := l.Read(b)
					if err != nil {
						t.Fatalf("%q is not heard: %v", want, err)
					}
					if string(b[:n]) == want {
						return
					}
				}
			}
			p := startUnder(t, nil, []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=20000"}, "--url", url+"/api", "-q", "mail",
				"--exec", `env | grep -c -e NOTIFY_SOCKET -e WATCHDOG; true`)
			hears("READY=1")
			for range 3 {
				hears("WATCHDOG=1")
			}
			if done := await(t, m, makeTasks(t, m, "mail", 1)[0].ID); string(done.Result) != "0" {
				t.Errorf("the command has %s of the supervisor's variables", done.Result)
			}
			p.send(syscall.SIGTERM)
			hears("STOPPING=1")
			if code := p.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	t.Run("one that is not there keeps nothing from being worked", func(t *testing.T) {
		p := startUnder(t, nil, []string{"NOTIFY_SOCKET=/nowhere/at/all"}, "--url", url+"/api", "-q", "mail", "--exec", "echo 1")
		p.says("cannot speak to the supervisor")
		await(t, m, makeTasks(t, m, "mail", 1)[0].ID)
		p.stop()
	})
}

// TestCollectorHangs: a collector that takes connections and never answers holds up neither work nor the stop, and what
// the exporters say is in the log's form.
func TestCollectorHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail"})
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			p := startUnder(t, nil, []string{
				"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol, "OTEL_BSP_SCHEDULE_DELAY=10",
				"OTEL_EXPORTER_OTLP_TIMEOUT=100",
			}, "--url", url+"/api", "-q", "mail", "--exec", "echo 1", "--log-format", "json")
			for range 3 {
				await(t, m, makeTasks(t, m, "mail", 1)[0].ID)
			}
			p.send(syscall.SIGTERM)
			warned := false
			for line := range p.log {
				var entry struct{ Level, Msg string }
				if err := json.Unmarshal([]byte(line), &entry); err != nil {
					t.Errorf("a line that is not JSON: %s", line)
				}
				warned = warned || entry.Level == "WARN" && strings.Contains(entry.Msg, "telemetry was not sent")
			}
			if err := p.cmd.Wait(); err != nil {
				if e, ok := errors.AsType[*exec.ExitError](err); ok {
					t.Errorf("exit code %d", e.ExitCode())
				}
			}
			if !warned {
				t.Error("nothing is said of it")
			}
		})
	}
}
