package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// ways are the two ways in which a worker program reaches a server. It polls over both; a worker in Go may keep a stream too.
var ways = []string{"rest", "connect"}

// dialWith returns a client of n over a way with a token; "" sends none.
func dialWith(t *testing.T, n *node, way, token string) queue.Service {
	t.Helper()
	if way == "rest" {
		var opts []restclient.Option
		if token != "" {
			opts = append(opts, restclient.WithToken(func() string { return token }))
		}
		c, err := restclient.New(n.url, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}

	opts := []connectclient.Option{connectclient.WithProtocol(map[string]connectclient.Protocol{
		"connect": connectclient.Connect, "grpc": connectclient.GRPC,
	}[way])}
	if token != "" {
		opts = append(opts, connectclient.WithToken(func() string { return token }))
	}
	c, err := connectclient.New(strings.TrimSuffix(n.url, "/api"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// writeSecret writes a file that only this user reads, and returns its path.
func writeSecret(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestServerClosesUnderWorkers closes a server as docs/security.md says: it runs with credentials and --insecure-open while its
// clients get their tokens one by one, then it starts again without the flag. Worker programs of both kinds and a worker with a stream work all the time. No task
// is lost, no call with a valid token is refused, and each stream without a token ends. Workers without a token get nothing
// any more, and the others work the tasks that these held.
func TestServerClosesUnderWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	const atLeast = 100
	dsn := postgrestest.URL(t)
	producer, workers := access.NewSecret().Reveal(), access.NewSecret().Reveal()
	tokens := writeSecret(t, producer, workers+" worker@default")
	workerToken := writeSecret(t, workers)
	n := startNodeAt(t, dsn, "--insecure-open", "--admin-token-file", tokens)

	svc := dialWith(t, n, "rest", producer)
	if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail", Lease: new(time.Second), RetryDelay: new(time.Duration), Retries: new(10)}); err != nil {
		t.Fatal(err)
	}
	made := produceUntil(t, svc)
	p := &plant{Client: svc.(*restclient.Client)}

	dir := t.TempDir()
	start := func(name, way string, args ...string) *hand {
		target := []string{"--queue", "mail", "--concurrency", "3", "--protocol", way, "--url", n.url}
		return startHand(t, name+"-"+way, dir, append(target, args...)...)
	}
	var moving, forgotten []*hand
	for _, way := range ways {
		moving = append(moving, start("before", way))
		forgotten = append(forgotten, start("forgotten", way))
	}
	streaming := startStreamWorker(t, n, "before-stream", dir, "")
	forgottenStream := startStreamWorker(t, n, "forgotten-stream", dir, "")
	open := map[string]chan error{}
	for _, way := range append(ways, "grpc") {
		open["events over "+way] = follow(t, func(ctx context.Context) error {
			return dialWith(t, n, way, "").SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return nil })
		})
	}
	kept := follow(t, func(ctx context.Context) error {
		return dialWith(t, n, "rest", producer).SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return nil })
	})

	// The clients move: each worker stops as in a deployment, and one with a token takes its place.
	p.released(t, "mail", atLeast/4)
	for i, way := range ways {
		if code := moving[i].stop(t); code != 0 {
			t.Errorf("%s ended with code %d", moving[i].name, code)
		}
		moving[i] = start("after", way, "--auth-token-file", workerToken)
	}
	streaming.stop(t)
	streaming = startStreamWorker(t, n, "after-stream", dir, workers)
	p.released(t, "mail", atLeast/2)
	for _, path := range []string{"/api/task", "/pgqueue.v1.WorkService/RetainTasks", "/pgqueue.v1.WorkService/Work\""} {
		if !namesOpenRequest(n.log.String(), path) {
			t.Errorf("the log names no request of %s without a credential", path)
		}
	}

	// The flag goes.
	u, err := url.Parse(n.url)
	if err != nil {
		t.Fatal(err)
	}
	n.stop(t)
	n = startNodeAt(t, dsn, "--admin-token-file", tokens, "--addr", u.Host)
	for name, ended := range open {
		if err := <-ended; queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("the %s without a token end with %v", name, err)
		}
	}
	s, err := p.QueueStats(t.Context(), "mail")
	if err != nil {
		t.Fatal(err)
	}
	p.released(t, "mail", s.Counts[queue.StatusReleased]+atLeast/2)
	ids := made()
	p.released(t, "mail", int64(len(ids)))
	for _, h := range moving {
		if code := h.stop(t); code != 0 || h.isRefused() {
			t.Errorf("%s ended with code %d, and was refused: %v", h.name, code, h.isRefused())
		}
	}
	streaming.stop(t)
	if streaming.isRefused() {
		t.Error("the stream with a token was refused")
	}
	select {
	case err := <-kept:
		t.Errorf("the stream with a token ended with %v", err)
	default:
	}

	worked := map[string]int{}
	for _, task := range queuetest.Created(t, p, "mail") {
		worked[task.Worker]++
		if task.Status != queue.StatusReleased {
			t.Errorf("task %d is %s", task.ID, task.Status)
		}
		if task.Attempt > 1 {
			checkLapsed(t, p, task.ID)
		}
	}
	for _, id := range ids {
		if len(ran(t, dir, id)) == 0 {
			t.Errorf("task %d did not run", id)
		}
	}
	awaitRefusal(t, "the stream without a token", forgottenStream.isRefused)
	for _, h := range forgotten {
		awaitRefusal(t, h.name, h.isRefused)
	}
	forgottenStream.stop(t)
	t.Logf("%d tasks, worked by %v", len(ids), worked)
}

// isRefused reports whether the server has refused a call of the worker for its credential.
func (h *hand) isRefused() bool { return isRefusal(h.log.String()) }

func isRefusal(log string) bool {
	return strings.Contains(log, "must be a bearer token") || strings.Contains(log, "must be a valid") || strings.Contains(log, "401 Unauthorized")
}

// awaitRefusal waits until a worker is refused, which tries with growing pauses.
func awaitRefusal(t *testing.T, name string, isRefused func() bool) {
	t.Helper()
	for over := time.Now().Add(time.Minute); !isRefused(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(over) {
			t.Errorf("%s is not refused", name)
			return
		}
	}
}

// streamWorker is a worker of this process that keeps a stream.
type streamWorker struct {
	log   syncBuffer
	end   context.CancelFunc
	ended chan error
}

// startStreamWorker starts a worker of mail over a stream of Connect. It records each attempt in a file as startHand does.
func startStreamWorker(t *testing.T, n *node, name, dir, token string) *streamWorker {
	t.Helper()
	stream := connectclient.NewStream(dialWith(t, n, "connect", token).(*connectclient.Client))
	s := &streamWorker{ended: make(chan error, 1)}
	w := worker.New(stream, worker.WithName(name), worker.WithConcurrency(3), worker.WithLogger(slog.New(slog.NewTextHandler(&s.log, nil))))
	w.HandleFunc("mail", func(_ context.Context, task *queue.Task) (any, error) {
		f, err := os.OpenFile(filepath.Join(dir, strconv.FormatInt(task.ID, 10)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		_, err = fmt.Fprintln(f, task.Attempt)
		return nil, err
	})

	ctx, cancel := context.WithCancel(t.Context())
	s.end = cancel
	go func() { s.ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		stream.Close()
	})
	return s
}

// stop stops the worker and waits for its end.
func (s *streamWorker) stop(t *testing.T) {
	t.Helper()
	s.end()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func (s *streamWorker) isRefused() bool { return isRefusal(s.log.String()) }

// checkLapsed checks that each failed attempt of a task ended with its lease. That of a worker that is refused lapses, and so
// may one of 1 s while the server starts again.
func checkLapsed(t *testing.T, p *plant, id int64) {
	t.Helper()
	task, err := p.GetTask(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, failed := range task.Errors {
		// A worker that gets no heartbeat through in time gives the task up by itself, and may say so before the lease is over.
		if !strings.Contains(string(failed.Error), "lease expired") && !strings.Contains(string(failed.Error), "lease lost") {
			t.Errorf("task %d failed at %s with %s", task.ID, failed.Worker, failed.Error)
		}
	}
}

// maxBacklog is the number of ready tasks from which the producer waits.
const maxBacklog = 30

// namesOpenRequest reports whether a log names a request to a path without a credential, with its client and its address.
func namesOpenRequest(log, path string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "request without a credential") && strings.Contains(line, `path":"`+path) && strings.Contains(line, `"remote":"127.0.0.1:`) {
			return true
		}
	}
	return false
}

// produceUntil creates tasks of mail, each with another key, until the function that it returns is called. That one returns
// the ids. A call that is refused fails the test; one without an answer is repeated with its key.
func produceUntil(t *testing.T, svc queue.Service) (stop func() []int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ids []int64
	var producing sync.WaitGroup
	producing.Go(func() {
		for i := 0; ctx.Err() == nil; {
			// The workers start a process for each task, so the producer is faster.
			if s, err := svc.QueueStats(t.Context(), "mail"); err != nil || s.Counts[queue.StatusNew] > maxBacklog {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			task, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: []byte("0.01"), Key: fmt.Sprint(i)})
			switch queue.KindOf(err) {
			case "":
				ids = append(ids, task.ID)
				i++
			case queue.KindUnavailable, queue.KindIndeterminate:
			default:
				t.Errorf("task %d: %v", i, err)
				return
			}
		}
	})
	stop = sync.OnceValue(func() []int64 {
		cancel()
		producing.Wait()
		return ids
	})
	t.Cleanup(func() { stop() })
	return stop
}

// follow runs call until it ends or the test does, and returns the channel of its error.
func follow(t *testing.T, call func(context.Context) error) chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var calling sync.WaitGroup
	calling.Go(func() { ended <- call(ctx) })
	t.Cleanup(func() {
		cancel()
		calling.Wait()
	})
	return ended
}
