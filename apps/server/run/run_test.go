package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log to look at.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// all gives the records with the message msg.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) all(t *testing.T, msg string) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range bytes.Lines(l.buf.Bytes()) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if record["msg"] == msg {
			out = append(out, record)
		}
	}
	return out
}

// slow is a store with creates that wait.
type slow struct {
	queue.Store
	entered, leave chan struct{}
	closed         chan struct{}
}

func (s *slow) Unwrap() queue.Store { return s.Store }

func (s *slow) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	s.entered <- struct{}{}
	select {
	case <-s.leave:
	case <-ctx.Done():
		return nil, &queue.Error{Kind: queue.KindCanceled, Err: ctx.Err()}
	}
	return s.Store.CreateTasks(ctx, c)
}

func newSlow() *slow {
	return &slow{Store: memory.New(), entered: make(chan struct{}, 8), leave: make(chan struct{}), closed: make(chan struct{})}
}

func (s *slow) config(log io.Writer) Config {
	return Config{
		Addr: "127.0.0.1:0", Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Store: func(context.Context) (queue.Store, func(context.Context) error, error) {
			return s, func(context.Context) error { close(s.closed); return nil }, nil
		},
	}
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

// client has no connections to leave behind.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func do(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	return doAs(t, "", method, url, body)
}

// doAs sends a request with a bearer token.
func doAs(t *testing.T, token, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServer(t *testing.T) {
	store, log := newSlow(), &lines{}
	close(store.leave)
	s := start(t, store.config(log))

	t.Run("the routes of the contract hang under the prefix", func(t *testing.T) {
		if code, body := do(t, "POST", s.URL()+"/api/queue", `{"queue":"mail"}`); code != http.StatusCreated {
			t.Fatal(code, body)
		}
		if code, body := do(t, "POST", s.URL()+"/api/task", `{"queue":"mail","payload":{"to":"a@b.c"}}`); code != http.StatusCreated {
			t.Fatal(code, body)
		}
	})
	t.Run("Connect answers at the root of the same port", func(t *testing.T) {
		code, body := do2(t, s.URL()+"/pgqueue.v1.NamespaceService/ListNamespaces", `{}`)
		if code != http.StatusOK || !strings.Contains(body, "default") {
			t.Fatal(code, body)
		}
	})
	t.Run("probes say ok", func(t *testing.T) {
		for _, path := range []string{"/livez", "/readyz"} {
			if code, body := do(t, "GET", s.URL()+path, ""); code != http.StatusOK || body != "ok\n" {
				t.Error(path, code, body)
			}
		}
	})
	t.Run("queue_tasks counts by namespace, queue and status", func(t *testing.T) {
		code, body := do(t, "GET", s.URL()+"/api/metrics", "")
		if want := `queue_tasks{namespace="default",queue="mail",status="new"} 1`; code != http.StatusOK || !strings.Contains(body, want) {
			t.Fatalf("%d, %s is not in\n%s", code, want, body)
		}
	})
	t.Run("each request is one line of the log, probes only when debugging", func(t *testing.T) {
		var infos []any
		for _, r := range log.all(t, "request") {
			if r["level"] == "INFO" {
				infos = append(infos, r["path"])
			}
		}
		if want := []any{"/api/queue", "/api/task"}; !slices.Equal(infos, want) {
			t.Fatal(infos, want)
		}
	})
}

func do2(t *testing.T, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestStop(t *testing.T) {
	t.Run("takes the server apart from the top to the bottom", func(t *testing.T) {
		log := &lines{}
		s := start(t, newSlow().config(log))
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []any
		for _, r := range log.all(t, "stopping") {
			if r["step"] != nil {
				got = append(got, r["step"])
			}
		}
		want := []any{
			"turn readiness off", "end streams", "finish requests", "close the manager", "end the watch of access", "end requests to issuers", "close the store", "close the port",
			"flush telemetry",
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	})
	t.Run("calls under way are finished, new ones are refused, and then the store is closed", func(t *testing.T) {
		store := newSlow()
		s := start(t, store.config(io.Discard))
		if code, body := do(t, "POST", s.URL()+"/api/queue", `{"queue":"mail"}`); code != http.StatusCreated {
			t.Fatal(code, body)
		}
		created := make(chan int, 1)
		go func() {
			code, _ := do(t, "POST", s.URL()+"/api/task", `{"queue":"mail"}`)
			created <- code
		}()
		<-store.entered
		stopped := make(chan error, 1)
		go func() { stopped <- s.Stop(context.Background()) }()
		for s.Ready(t.Context()) == nil {
			time.Sleep(time.Millisecond)
		}
		// The create under way keeps the port open for probes.
		if code, _ := do(t, "GET", s.URL()+"/readyz", ""); code != http.StatusServiceUnavailable {
			t.Error("/readyz answers", code)
		}
		if code, body := do(t, "GET", s.URL()+"/livez", ""); code != http.StatusOK {
			t.Error("/livez answers", code, body)
		}
		if code, body := do2(t, s.URL()+"/grpc.health.v1.Health/Check", `{}`); code != http.StatusOK || !strings.Contains(body, "NOT_SERVING") {
			t.Error("gRPC health answers", code, body)
		}
		select {
		case <-store.closed:
			t.Fatal("the store was closed with a create under way")
		case err := <-stopped:
			t.Fatal("stopped with a create under way:", err)
		default:
		}
		close(store.leave)
		if code := <-created; code != http.StatusCreated {
			t.Fatal("the create under way was answered with", code)
		}
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		<-store.closed
	})
	t.Run("streams get an end and do not delay it", func(t *testing.T) {
		s := start(t, newSlow().config(io.Discard))
		resp, err := client.Get(s.URL() + "/api/event")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		ended := make(chan string, 1)
		go func() { b, _ := io.ReadAll(resp.Body); ended <- string(b) }()
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if text := <-ended; !strings.Contains(text, "unavailable") {
			t.Fatalf("the stream ended with %q", text)
		}
	})
	t.Run("goes on when its time is over", func(t *testing.T) {
		store := newSlow()
		s := start(t, store.config(io.Discard))
		do(t, "POST", s.URL()+"/api/queue", `{"queue":"mail"}`)
		go func() { // its answer is of no interest: it is cut off
			req, _ := http.NewRequest(http.MethodPost, s.URL()+"/api/task", strings.NewReader(`{"queue":"mail"}`))
			req.Header.Set("Content-Type", "application/json")
			if resp, err := client.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		<-store.entered
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		<-store.closed
	})
}

func TestUntilSignal(t *testing.T) {
	run := func(t *testing.T, store *slow) (signals chan os.Signal, started chan *Server, level *slog.LevelVar, ended chan error) {
		signals, started, ended = make(chan os.Signal), make(chan *Server, 1), make(chan error, 1)
		level = new(slog.LevelVar)
		go func() {
			ended <- untilSignal(t.Context(), store.config(io.Discard), level, func(s *Server) { started <- s }, signals)
		}()
		return signals, started, level, ended
	}
	t.Run("a signal stops it gracefully", func(t *testing.T) {
		signals, started, _, ended := run(t, newSlow())
		<-started
		signals <- syscall.SIGTERM
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a second signal stops it at once", func(t *testing.T) {
		store := newSlow()
		signals, started, _, ended := run(t, store)
		s := <-started
		do(t, "POST", s.URL()+"/api/queue", `{"queue":"mail"}`)
		go func() {
			req, _ := http.NewRequest(http.MethodPost, s.URL()+"/api/task", strings.NewReader(`{"queue":"mail"}`))
			req.Header.Set("Content-Type", "application/json")
			if resp, err := client.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		<-store.entered
		signals <- os.Interrupt
		signals <- os.Interrupt
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
	t.Run("SIGUSR1 turns debug lines on and off", func(t *testing.T) {
		signals, started, level, ended := run(t, newSlow())
		<-started
		for _, want := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
			signals <- syscall.SIGUSR1
			for level.Level() != want {
				time.Sleep(time.Millisecond)
			}
		}
		signals <- syscall.SIGTERM
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

func TestBadInput(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tc := range map[string]struct {
		cfg  Config
		code int
		says string
	}{
		"an unknown scheme":       {Config{Database: program.Database{URL: "mysql://u:secret@h/d"}}, program.ExitUsage, `unknown scheme "mysql"`},
		"no URL":                  {Config{Database: program.Database{URL: "db.example.org"}}, program.ExitUsage, "postgres://"},
		"a broken URL":            {Config{Database: program.Database{URL: "postgres://u:secret@h:x/d"}}, program.ExitUsage, "invalid port"},
		"a folder beside a URL":   {Config{Database: program.Database{URL: "postgres://h/d"}, DataDir: "x"}, program.ExitUsage, "data-dir"},
		"an address without port": {Config{Addr: "localhost"}, program.ExitUsage, "localhost:8080"},
		"a bad namespace":         {Config{Namespace: "9"}, program.ExitUsage, "namespace"},
		"the system's namespace":  {Config{Namespace: "pgqueue"}, program.ExitUsage, "system"},
		"a port in use":           {Config{Addr: taken.Addr().String()}, program.ExitConflict, "in use"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Log = slog.New(slog.DiscardHandler)
			_, err := Start(t.Context(), tc.cfg)
			if err == nil || program.ExitCode(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("exit code %d, want %d; %v should say %q", program.ExitCode(err), tc.code, err, tc.says)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("shows too much: %q", err)
			}
		})
	}
}

func TestEnviron(t *testing.T) {
	parse := func(env map[string]string, args ...string) (Config, error) {
		var c Config
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		Flags(fs, &c)
		if err := fs.Parse(args); err != nil {
			return c, err
		}
		return c, program.Environ(fs, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	}
	t.Run("a flag is stronger than its variable", func(t *testing.T) {
		c, err := parse(map[string]string{"PGQUEUE_ADDR": "h:1", "PGQUEUE_PREFIX": "/q"}, "--addr", "h:2")
		if err != nil || c.Addr != "h:2" || c.Prefix != "/q" {
			t.Fatal(c.Addr, c.Prefix, err)
		}
	})
	t.Run("migrations and background work are on and can be turned off", func(t *testing.T) {
		c, err := parse(nil)
		if err != nil || c.NoMigrate || c.NoBackground {
			t.Fatal(c, err)
		}
		c, err = parse(map[string]string{"PGQUEUE_BACKGROUND": "false"}, "--migrate=false")
		if err != nil || !c.NoMigrate || !c.NoBackground {
			t.Fatal(c, err)
		}
	})
	t.Run("a bad value names the variable", func(t *testing.T) {
		if _, err := parse(map[string]string{"PGQUEUE_WAIT": "soon"}); err == nil || !strings.Contains(err.Error(), "PGQUEUE_WAIT") {
			t.Fatal(err)
		}
	})
}
