package memory_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
	"github.com/pgqueue/pgqueue/domain/seal/keyfile"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// secret is in every payload, result and progress of the test.
const secret = "Pr1vateWord"

// openKeys returns the keys of a file with one key.
func openKeys(t testing.TB, c byte) *keyfile.Ring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	line := "k1 " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{c}, seal.DataKeyBytes))
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := keyfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestSealedTasks: a producer and a worker exchange sealed payloads, results and progress. The store, the events and the logs of the
// manager hold no clear byte of them, and a worker with another key fails its task with a kind of its own.
func TestSealedTasks(t *testing.T) {
	var logs lockedBuffer
	log := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	store := memory.New()
	m, err := manager.New(store, manager.WithLogger(log))
	if err != nil {
		t.Fatal(err)
	}
	codec := seal.New(openKeys(t, 1), seal.SealResults())
	svc := codec.Service(m)
	for _, name := range []string{"mail", "wrong"} {
		if _, err := m.CreateQueue(t.Context(), queue.QueueMeta{Name: name, Retries: new(0)}); err != nil {
			t.Fatal(err)
		}
	}

	payload := json.RawMessage(`{"word":"` + secret + `"}`)
	good, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: payload, Group: "g", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: payload, Group: "g", Key: "k"})
	if err != nil || again.ID != good.ID || !again.Replayed || !bytes.Equal(again.Payload, payload) {
		t.Errorf("a repeated create: %+v, %v", again, err)
	}
	bad, err := svc.CreateTask(t.Context(), "wrong", queue.TaskMeta{Payload: payload})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	w := worker.New(m, worker.WithInProcess(), worker.WithLogger(log))
	w.Handle("mail", codec.Handler(worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
		if !bytes.Equal(task.Payload, payload) {
			t.Errorf("the handler gets %s", task.Payload)
		}
		if err := errors.Join(codec.Progress(ctx, secret), worker.Flush(ctx)); err != nil {
			t.Error(err)
		}
		return map[string]string{"echo": secret}, nil
	})))
	w.Handle("wrong", seal.New(openKeys(t, 2)).Handler(worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
		t.Error("a handler gets a payload of another key")
		return nil, nil
	})))
	ended.Go(func() { _ = m.Run(ctx) })
	ended.Go(func() { _ = w.Run(ctx) })

	done, err := svc.AwaitTask(t.Context(), good.ID, time.Minute)
	failed, err2 := svc.AwaitTask(t.Context(), bad.ID, time.Minute)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if done.Status != queue.StatusReleased || !bytes.Equal(done.Payload, payload) || string(done.Result) != `{"echo":"`+secret+`"}` || !strings.Contains(string(done.Progress), secret) {
		t.Errorf("got %s %s, result %s, progress %s", done.Status, done.Payload, done.Result, done.Progress)
	}
	if failed.Status != queue.StatusFailed || queue.FingerprintOf(failed.Result).Kind != seal.ErrorKind {
		t.Errorf("got %s %s", failed.Status, failed.Result)
	}

	events, err := m.ListEvents(t.Context(), queue.EventFilter{}, 100)
	if err != nil || len(events.Events) == 0 {
		t.Fatal(events, err)
	}
	stop()
	ended.Wait()
	if text := fmt.Sprintf("%+v", events.Events); strings.Contains(text, secret) || strings.Contains(logs.String(), secret) {
		t.Errorf("clear text in the events or logs: %s\n%s", text, logs.String())
	}
	if where := findText(reflect.ValueOf(store), map[uintptr]bool{}, "store"); where != "" {
		t.Errorf("clear text in %s", where)
	}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// findText returns the place of the secret in all that v leads to, "" when it is nowhere.
func findText(v reflect.Value, seen map[uintptr]bool, place string) string {
	switch v.Kind() {
	case reflect.String:
		if strings.Contains(v.String(), secret) {
			return place
		}
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return ""
		}
		seen[v.Pointer()] = true
		return findText(v.Elem(), seen, place)
	case reflect.Interface:
		if !v.IsNil() {
			return findText(v.Elem(), seen, place)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if found := findText(v.Field(i), seen, place+"."+v.Type().Field(i).Name); found != "" {
				return found
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			if bytes.Contains(v.Bytes(), []byte(secret)) {
				return place
			}
			return ""
		}
		for i := range v.Len() {
			if found := findText(v.Index(i), seen, fmt.Sprintf("%s[%d]", place, i)); found != "" {
				return found
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if found := findText(v.MapIndex(key), seen, fmt.Sprintf("%s[%v]", place, key)); found != "" {
				return found
			}
		}
	default:
	}
	return ""
}

// TestFindText shows that the search finds a text.
func TestFindText(t *testing.T) {
	store := memory.New()
	m, err := manager.New(store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: json.RawMessage(`"` + secret + `"`)}); err != nil {
		t.Fatal(err)
	}
	if findText(reflect.ValueOf(store), map[uintptr]bool{}, "store") == "" {
		t.Error("a clear payload is not found")
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// BenchmarkSealed compares the throughput of tasks of 1 KiB with and without sealed payloads: created in batches of 100, and
// worked.
func BenchmarkSealed(b *testing.B) {
	for _, sealed := range []bool{false, true} {
		b.Run(fmt.Sprintf("sealed=%v", sealed), func(b *testing.B) {
			m, err := manager.New(memory.New(), manager.WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := m.CreateQueue(b.Context(), queue.QueueMeta{Name: "q"}); err != nil {
				b.Fatal(err)
			}

			var worked atomic.Int64
			all := make(chan struct{})
			var svc queue.Service = m
			var handler worker.Handler = worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
				if worked.Add(1) == int64(b.N) {
					close(all)
				}
				return nil, nil
			})
			if sealed {
				codec := seal.New(openKeys(b, 1))
				svc, handler = codec.Service(m), codec.Handler(handler)
			}
			w := worker.New(m, worker.WithInProcess(), worker.WithLogger(slog.New(slog.DiscardHandler)))
			w.Handle("q", handler)
			ctx, stop := context.WithCancel(b.Context())
			var ended sync.WaitGroup
			ended.Go(func() { _ = m.Run(ctx) })
			ended.Go(func() { _ = w.Run(ctx) })

			payload := json.RawMessage(`"` + strings.Repeat("a", 1022) + `"`)
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= 100 {
				tasks := make([]queue.NewTask, min(left, 100))
				for i := range tasks {
					tasks[i] = queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: payload}}
				}
				if _, err := svc.CreateTasks(ctx, tasks); err != nil {
					b.Fatal(err)
				}
			}
			<-all
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			stop()
			ended.Wait()
		})
	}
}
