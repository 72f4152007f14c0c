//go:build unix

package run

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// asProgram makes the test's binary be the program: so the tests have a real process.
const asProgram = "RUN_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main("pgqueue-worker", "test", os.Args[1:], os.Stdout, os.Stderr))
	}
	queuetest.DefaultSignals()
	goleak.VerifyTestMain(m)
}

// server is a manager over the memory store, served over REST at /api and over Connect beside it. Its namespace is not
// "default": a worker without a namespace works in the server's.
func server(t *testing.T) (*manager.Manager, string) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	m, err := manager.New(memory.New(), manager.WithLogger(quiet), manager.WithNamespace("shop"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { _ = m.Run(ctx) })
	r, err := restserver.New(restserver.Config{Service: m, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	c, err := connectserver.New(m)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	c.Mount(mux)
	mux.Handle("/", r)
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(func() {
		cancel()
		background.Wait()
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
		s.CloseClientConnections()
		s.Close()
	})
	return m, s.URL
}

func makeQueue(t *testing.T, m *manager.Manager, meta queue.QueueMeta) {
	t.Helper()
	if _, err := m.CreateQueue(t.Context(), meta); err != nil {
		t.Fatal(err)
	}
}

func makeTasks(t *testing.T, m *manager.Manager, name string, n int) []*queue.Task {
	t.Helper()
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i] = queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: fmt.Appendf(nil, `{"n":%d}`, i)}}
	}
	tasks, err := m.CreateTasks(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// await returns a task as soon as it is finished.
func await(t *testing.T, m *manager.Manager, id int64) *queue.Task {
	t.Helper()
	task, err := m.AwaitTask(t.Context(), id, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !task.Status.Finished() {
		t.Fatalf("task %d is still %s", id, task.Status)
	}
	return task
}

// process is a running pgqueue-worker.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log chan string
}

func startProgram(t *testing.T, args ...string) *process {
	t.Helper()
	return startUnder(t, nil, nil, args...)
}

// startUnder starts the program by a command line that ends in its own, with more environment.
func startUnder(t *testing.T, under, env []string, args ...string) *process {
	t.Helper()
	line := slices.Concat(under, []string{os.Args[0]}, args)
	p := &process{t: t, cmd: exec.Command(line[0], line[1:]...), log: make(chan string, 10_000)}
	p.cmd.Env = append(os.Environ(), append([]string{asProgram + "=1", "PGQUEUE_LOG_FORMAT=text"}, env...)...)
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var read sync.WaitGroup
	read.Go(func() {
		defer close(p.log)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.log <- s.Text()
		}
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // unless it has ended
		read.Wait()
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			for line := range p.log {
				t.Log(line)
			}
		}
	})
	return p
}

// says waits for a line of the log that matches, and returns what its first group matched.
func (p *process) says(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	over := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-p.log:
			if !ok {
				p.t.Fatalf("it ended without saying %q", pattern)
			}
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
		case <-over:
			p.t.Fatalf("it did not say %q", pattern)
		}
	}
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.says("msg=stopped")
	for range p.log { // to the end: Wait closes the pipe
	}
	_ = p.cmd.Wait() // the caller reads the exit code
	return p.cmd.ProcessState.ExitCode()
}

func TestProgram(t *testing.T) {
	for _, protocol := range []string{"rest", "connect"} {
		t.Run("works a queue over "+protocol, func(t *testing.T) {
			m, url := server(t)
			makeQueue(t, m, queue.QueueMeta{Name: "mail", RetryDelay: new(time.Duration)})
			p := startProgram(t, "--url", url+"/api", "--protocol", protocol, "-q", "mail", "--name", "w1",
				"--exec", `read -r p; echo "sending" >&2; echo "{\"got\":$p,\"id\":$PGQUEUE_TASK_ID}"; [ $PGQUEUE_TASK_ATTEMPT -gt 1 ] || exit 75`)
			for i, task := range makeTasks(t, m, "mail", 3) {
				done := await(t, m, task.ID)
				want := fmt.Sprintf(`{"got":{"n":%d},"id":%d}`, i, task.ID)
				if done.Status != queue.StatusReleased || string(done.Result) != want || done.Attempt != 2 || done.Worker != "w1" {
					t.Errorf("%s %s after %d attempts by %q", done.Status, done.Result, done.Attempt, done.Worker)
				}
				full, err := m.GetTask(t.Context(), task.ID)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(full.Progress), `"line":"sending"`) {
					t.Errorf("progress %s", full.Progress)
				}
				if len(full.Errors) != 1 || !strings.Contains(string(full.Errors[0].Error), `"exit_code":75`) {
					t.Errorf("errors %+v", full.Errors)
				}
			}
			if code := p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}

	for _, protocol := range []string{"rest", "connect"} {
		t.Run("ends by itself as a job over "+protocol, func(t *testing.T) {
			m, url := server(t)
			makeQueue(t, m, queue.QueueMeta{Name: "mail"})
			makeTasks(t, m, "mail", 7)
			args := []string{"--url", url + "/api", "--protocol", protocol, "-q", "mail", "--exec", "cat"}
			for _, c := range []struct {
				flags      []string
				worked, of int64
			}{
				{[]string{"--max-tasks", "3"}, 3, 7},
				{[]string{"--until-empty", "-c", "2"}, 7, 7},
				{[]string{"--until-empty=100ms"}, 7, 7},
			} {
				p := startProgram(t, append(slices.Clone(args), c.flags...)...)
				p.says("msg=finished")
				p.says("msg=stopped")
				for range p.log { // to the end: Wait closes the pipe
				}
				if err := p.cmd.Wait(); err != nil {
					t.Errorf("%v: %v", c.flags, err)
				}
				stats, err := m.QueueStats(t.Context(), "mail")
				if err != nil || stats.Counts[queue.StatusReleased] != c.worked || stats.Counts[queue.StatusRetained] != 0 || stats.Counts[queue.StatusNew] != c.of-c.worked {
					t.Errorf("%v: %+v, %v", c.flags, stats, err)
				}
			}
		})
	}

	t.Run("a job that the server refuses ends with the exit code 1", func(t *testing.T) {
		guard := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
		guard.Config.Protocols = new(http.Protocols)
		guard.Config.Protocols.SetHTTP1(true)
		guard.Config.Protocols.SetUnencryptedHTTP2(true)
		guard.Start()
		t.Cleanup(guard.Close)
		for _, protocol := range []string{"rest", "connect"} {
			p := startProgram(t, "--url", guard.URL+"/api", "--protocol", protocol, "-q", "mail", "--exec", "cat", "--until-empty")
			p.says("pgqueue-worker: .*retain")
			for range p.log { // to the end: Wait closes the pipe
			}
			_ = p.cmd.Wait() // the exit code is read below
			if code := p.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("%s: exit code %d, want 1", protocol, code)
			}
		}
	})

	t.Run("shows its token to what stands before the server", func(t *testing.T) {
		m, backend := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail"})
		to, err := url.Parse(backend)
		if err != nil {
			t.Fatal(err)
		}
		var plain http.Protocols // HTTP/2 without TLS, as Connect needs it
		plain.SetUnencryptedHTTP2(true)
		through := &http.Transport{Protocols: &plain}
		t.Cleanup(through.CloseIdleConnections)
		proxy := &httputil.ReverseProxy{Transport: through, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
		guard := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer hush" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			proxy.ServeHTTP(w, r)
		}))
		guard.Config.Protocols = new(http.Protocols)
		guard.Config.Protocols.SetHTTP1(true)
		guard.Config.Protocols.SetUnencryptedHTTP2(true)
		guard.Start()
		t.Cleanup(guard.Close)
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("hush\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, protocol := range []string{"rest", "connect"} {
			p := startProgram(t, "--url", guard.URL+"/api", "--protocol", protocol, "--auth-token-file", token, "-q", "mail", "--exec", "cat")
			if done := await(t, m, makeTasks(t, m, "mail", 1)[0].ID); done.Status != queue.StatusReleased {
				t.Errorf("%s: %s %s", protocol, done.Status, done.Result)
			}
			p.stop()
		}
	})

	t.Run("posts tasks to an URL", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "hooks"})
		var calls atomic.Int64
		hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			body, _ := io.ReadAll(r.Body)
			if r.Header.Get("Webhook-Signature") == "" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = w.Write(body)
		}))
		defer hook.Close()
		p := startProgram(t, "--url", url+"/api", "-q", "hooks", "--http", hook.URL, "--allow-private",
			"--secret", "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0")
		for i, task := range makeTasks(t, m, "hooks", 20) {
			if done := await(t, m, task.ID); done.Status != queue.StatusReleased || string(done.Result) != fmt.Sprintf(`{"n":%d}`, i) {
				t.Errorf("%s %s", done.Status, done.Result)
			}
		}
		if code := p.stop(); code != 0 || calls.Load() != 20 {
			t.Errorf("exit code %d, %d calls", code, calls.Load())
		}
	})

	t.Run("a target that is not there for a while does not fail a backlog", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "dep", Retries: new(3), RetryDelay: new(10 * time.Millisecond)})
		var up atomic.Bool
		var missed atomic.Int64
		hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if up.Load() {
				return
			}
			missed.Add(1)
			http.Error(w, "default backend - 404", http.StatusNotFound)
		}))
		defer hook.Close()
		p := startProgram(t, "--url", url+"/api", "-q", "dep", "--http", hook.URL, "--allow-private", "-c", "4")
		tasks := makeTasks(t, m, "dep", 200)
		p.says("rests from the queue")
		p.says("rests from the queue") // and again, after the first rest
		if n := missed.Load(); n > 40 {
			t.Errorf("%d requests in the first two rounds", n)
		}
		up.Store(true)
		for _, task := range tasks {
			if done := await(t, m, task.ID); done.Status != queue.StatusReleased {
				t.Errorf("task %d is %s: %s", task.ID, done.Status, done.Result)
			}
		}
		p.stop()
	})
	t.Run("a folder that vanishes costs no attempt, readiness says so, and it goes on when the folder is back", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail", Retries: new(0)})
		dir := filepath.Join(t.TempDir(), "w")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		p := startProgram(t, "--url", url+"/api", "-q", "mail", "--dir", dir, "--exec", "pwd", "--metrics-addr", "127.0.0.1:0")
		addr := p.says(`addr=(\S+)`)
		p.says("msg=working")
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		tasks := makeTasks(t, m, "mail", 50)
		p.says("tasks cannot be started here.*stat " + dir)
		res, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "queue mail cannot be started") {
			t.Errorf("/readyz: %d %s", res.StatusCode, body)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if done := await(t, m, task.ID); done.Status != queue.StatusReleased || done.Attempt != 1 {
				t.Errorf("task %d is %s at attempt %d: %s", task.ID, done.Status, done.Attempt, done.Result)
			}
		}
		p.stop()
	})
	t.Run("is stopped under load: nothing is lost, nothing runs twice, no attempt is spent", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail"})
		dir := t.TempDir()
		const n = 150
		tasks := makeTasks(t, m, "mail", n)
		run := func() *process {
			return startProgram(t, "--url", url+"/api", "-q", "mail", "-c", "8", "--dir", dir,
				"--exec", `echo $$ >> $PGQUEUE_TASK_ID; sleep 0.01`)
		}
		for range 3 { // stopped in the midst of it, again and again
			p := run()
			p.says("msg=working")
			held(t, m)
			if code := p.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, task := range queuetest.Created(t, m, "mail") {
				if task.Status == queue.StatusRetained || task.Status == queue.StatusNew && task.Attempt != 0 {
					t.Errorf("after a stop task %d is %s at attempt %d", task.ID, task.Status, task.Attempt)
				}
			}
		}
		p := run()
		for _, task := range tasks {
			if done := await(t, m, task.ID); done.Status != queue.StatusReleased || done.Attempt != 1 {
				t.Errorf("task %d: %s at attempt %d", task.ID, done.Status, done.Attempt)
			}
			b, err := os.ReadFile(filepath.Join(dir, strconv.FormatInt(task.ID, 10)))
			if err != nil || strings.Count(string(b), "\n") != 1 {
				t.Errorf("task %d ran as %q (%v)", task.ID, b, err)
			}
		}
		p.stop()
	})

	t.Run("a second signal ends the drain: what runs is stopped and handed back", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail"})
		id := makeTasks(t, m, "mail", 1)[0].ID
		p := startProgram(t, "--url", url+"/api", "-q", "mail", "--exec", `sleep 1000`)
		held(t, m)
		began := time.Now()
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.says("msg=stopping")
		if code := p.stop(); code != 0 || time.Since(began) > 20*time.Second {
			t.Errorf("exit code %d after %v", code, time.Since(began))
		}
		if task, err := m.GetTask(t.Context(), id); err != nil || task.Status != queue.StatusNew || task.Attempt != 0 || task.Retries != queue.DefaultRetries {
			t.Errorf("%+v %v", task, err)
		}
	})

	t.Run("a cancel stops the command and ends the task cancelled", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail", Lease: new(2 * time.Second)})
		id := makeTasks(t, m, "mail", 1)[0].ID
		p := startProgram(t, "--url", url+"/api", "-q", "mail", "--exec", `sleep 1000`)
		held(t, m)
		if _, err := m.CancelTasks(t.Context(), queue.Selection{IDs: []int64{id}}); err != nil {
			t.Fatal(err)
		}
		if done := await(t, m, id); done.Status != queue.StatusCancelled || !strings.Contains(string(done.Result), "a cancel of the task was requested") {
			t.Errorf("%s %s", done.Status, done.Result)
		}
		p.stop()
	})

	t.Run("a killed worker's tasks are worked by another when their lease is over", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail", Lease: new(time.Second), RetryDelay: new(time.Duration)})
		id := makeTasks(t, m, "mail", 1)[0].ID
		p := startProgram(t, "--url", url+"/api", "-q", "mail", "--exec", `sleep 1000`)
		held(t, m)
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		startProgram(t, "--url", url+"/api", "-q", "mail", "--exec", `echo 2`)
		done := await(t, m, id)
		if done.Status != queue.StatusReleased || done.Attempt != 2 {
			t.Errorf("%s at attempt %d", done.Status, done.Attempt)
		}
		if took := time.Since(killed); took > 6*time.Second {
			t.Errorf("redelivered after %v with a lease of 1 s", took)
		}
	})

	t.Run("reports its state over HTTP", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail"})
		p := startProgram(t, "--url", url+"/api", "-q", "mail", "--exec", "true", "--metrics-addr", "127.0.0.1:0",
			"--allowed-host", "metrics.example.com")
		addr := p.says(`addr=(\S+)`)
		await(t, m, makeTasks(t, m, "mail", 1)[0].ID)
		get := func(path string) (int, string) {
			res, err := http.Get("http://" + addr + path)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			return res.StatusCode, string(b)
		}
		for _, path := range []string{"/livez", "/readyz"} {
			if code, body := get(path); code != 200 {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "pgqueue_worker_") {
			t.Errorf("/metrics: %d %.500s", code, body)
		}
		for header, want := range map[[2]string]int{
			{"Host", "evil.example.com"}:           http.StatusMisdirectedRequest,
			{"Host", "metrics.example.com:9090"}:   http.StatusOK,
			{"Sec-Fetch-Site", "cross-site"}:       http.StatusForbidden,
			{"Origin", "https://evil.example.com"}: http.StatusForbidden,
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if req.Header.Set(header[0], header[1]); header[0] == "Host" {
				req.Host = header[1]
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if _ = res.Body.Close(); res.StatusCode != want {
				t.Errorf("%s: %s: status %d, want %d", header[0], header[1], res.StatusCode, want)
			}
		}
		general, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "http://"+addr, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		general.URL.Opaque, general.Host = "*", "evil.example.com"
		res, err := http.DefaultClient.Do(general)
		if err != nil {
			t.Fatal(err)
		}
		if _ = res.Body.Close(); res.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("OPTIONS * with a foreign Host: status %d, want 421", res.StatusCode)
		}
		http.DefaultClient.CloseIdleConnections()
		p.stop()
	})

	t.Run("is not ready while it drains", func(t *testing.T) {
		m, url := server(t)
		makeQueue(t, m, queue.QueueMeta{Name: "mail"})
		dir := t.TempDir()
		started, release := filepath.Join(dir, "started"), filepath.Join(dir, "release")
		id := makeTasks(t, m, "mail", 1)[0].ID
		p := startProgram(t, "--url", url+"/api", "-q", "mail", "--metrics-addr", "127.0.0.1:0",
			"--exec", `: >`+started+`; until [ -e `+release+` ]; do sleep 0.01; done; echo '"drained"'`)
		addr := p.says(`addr=(\S+)`)
		appears(t, started) // held is too soon: a task that has not started is handed back
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.says("msg=stopping")
		for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
			res, err := http.Get("http://" + addr + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s: status %d", path, res.StatusCode)
			}
		}
		http.DefaultClient.CloseIdleConnections()
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		p.says("msg=stopped")
		if done := await(t, m, id); done.Status != queue.StatusReleased || string(done.Result) != `"drained"` {
			t.Errorf("%s %s", done.Status, done.Result)
		}
	})

	t.Run("is not ready without its server", func(t *testing.T) {
		p := startProgram(t, "--url", "http://127.0.0.1:1/api", "-q", "mail", "--exec", "true", "--metrics-addr", "127.0.0.1:0")
		addr := p.says(`addr=(\S+)`)
		res, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d", res.StatusCode)
		}
		http.DefaultClient.CloseIdleConnections()
		p.says("cannot retain tasks")
		if code := p.stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// appears waits until a file is there.
func appears(t *testing.T, file string) {
	t.Helper()
	for range 20_000 {
		if _, err := os.Stat(file); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s does not appear", file)
}

// held waits until some worker holds a task.
func held(t *testing.T, m *manager.Manager) {
	t.Helper()
	for range 20_000 {
		ws, err := m.ListWorkers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(ws) > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("no worker holds a task")
}
