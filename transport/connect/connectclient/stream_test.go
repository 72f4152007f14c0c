package connectclient_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
)

func TestStream(t *testing.T) {
	for _, p := range protocols {
		t.Run(string(p), func(t *testing.T) { testStream(t, p) })
	}
}

func testStream(t *testing.T, p connectclient.Protocol) {
	s := serve(t)
	c := s.client(t, connectclient.WithProtocol(p))
	st := stream(t, c)
	ctx := t.Context()

	t.Run("tasks are retained, extended and released", func(t *testing.T) {
		fill(t, c, "a", 3, queue.QueueMeta{})
		ts := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"a"}, Limit: 2}))
		if len(ts) != 2 || ts[0].Lease == nil || ts[0].Worker != "w" {
			t.Fatalf("got %+v", ts)
		}
		beats := must[[]queue.Beat](t)(st.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: ts[0].ID, Token: ts[0].Lease.Token}}))
		if beats[0].Err != nil || beats[0].Lease.Token != ts[0].Lease.Token {
			t.Fatalf("got %+v", beats)
		}
		rel := []queue.Release{
			{ID: ts[0].ID, Token: ts[0].Lease.Token, Outcome: queue.OutcomeSuccess, Result: []byte(`{"n":1e400}`)},
			{ID: ts[1].ID, Token: ts[1].Lease.Token, Outcome: queue.OutcomeHandBack},
		}
		for range 2 { // a repeat answers the same
			done := must[[]queue.Released](t)(st.ReleaseTasks(ctx, rel[:1]))
			if done[0].Err != nil || done[0].Task.Status != queue.StatusReleased || string(done[0].Task.Result) != `{"n":1e400}` {
				t.Fatalf("got %+v", done[0])
			}
		}
		done := must[[]queue.Released](t)(st.ReleaseTasks(ctx, rel[1:]))
		if done[0].Err != nil || done[0].Task.Status != queue.StatusNew {
			t.Fatalf("got %+v", done[0])
		}
	})

	t.Run("of quiet releases only errors are reported", func(t *testing.T) {
		for name, consumer := range map[string]queue.Consumer{"unary": c, "stream": st} {
			fill(t, c, "g", 3, queue.QueueMeta{})
			ts := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"g"}, Limit: 3}))
			rel := make([]queue.Release, 3)
			for i, task := range ts {
				rel[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
			}
			rel[1].Token++
			done := must[[]queue.Released](t)(consumer.ReleaseTasks(ctx, rel))
			if len(done) != 3 || done[0].Err != nil || !errors.Is(done[1].Err, queue.ErrLeaseLost) || done[2].Err != nil || done[0].Task != nil {
				t.Errorf("%s: got %+v", name, done)
			}
			rel[1].Token--
			done = must[[]queue.Released](t)(consumer.ReleaseTasks(ctx, rel))
			if len(done) != 3 || done[0].Err != nil || done[1].Err != nil || done[2].Err != nil {
				t.Errorf("%s: got %+v", name, done)
			}
			got := must[*queue.Task](t)(c.GetTask(ctx, ts[1].ID))
			if got.Status != queue.StatusReleased {
				t.Errorf("%s: it is %s", name, got.Status)
			}
		}
	})

	t.Run("a stale token is lease lost and an unknown task is not found", func(t *testing.T) {
		fill(t, c, "b", 1, queue.QueueMeta{})
		ts := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"b"}}))
		done, err := st.ReleaseTasks(ctx, []queue.Release{
			{ID: ts[0].ID, Token: ts[0].Lease.Token + 1, Outcome: queue.OutcomeSuccess},
			{ID: 1 << 40, Token: 1, Outcome: queue.OutcomeSuccess},
		})
		if !errors.Is(err, queue.ErrLeaseLost) || len(done) != 2 || !errors.Is(done[0].Err, queue.ErrLeaseLost) || !errors.Is(done[1].Err, queue.ErrNotFound) {
			t.Fatalf("got %v, %v", done[0].Err, done[1].Err)
		}
		beats, err := st.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: ts[0].ID, Token: ts[0].Lease.Token + 1}})
		if !errors.Is(err, queue.ErrLeaseLost) || len(beats) != 1 {
			t.Fatalf("got %v, %v", beats, err)
		}
	})

	t.Run("a heartbeat shows the cancel request", func(t *testing.T) {
		fill(t, c, "c", 1, queue.QueueMeta{})
		ts := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"c"}}))
		must[queue.Bulk](t)(c.CancelTasks(ctx, queue.Selection{IDs: []int64{ts[0].ID}}))
		beats := must[[]queue.Beat](t)(st.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: ts[0].ID, Token: ts[0].Lease.Token}}))
		if !beats[0].CancelRequested {
			t.Fatalf("got %+v", beats[0])
		}
	})

	t.Run("a retain that waits gets the task that comes", func(t *testing.T) {
		fill(t, c, "d", 0, queue.QueueMeta{})
		got := make(chan []*queue.Task, 1)
		go func() {
			ts, _ := st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"d"}, Wait: 10 * time.Second})
			got <- ts
		}()
		must[*queue.Task](t)(c.CreateTask(ctx, "d", queue.TaskMeta{}))
		if ts := <-got; len(ts) != 1 {
			t.Fatalf("got %v", ts)
		}
	})

	t.Run("a retain after its wait is an empty list", func(t *testing.T) {
		ts, err := st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"d"}, Wait: time.Millisecond})
		if err != nil || len(ts) != 0 {
			t.Fatalf("got %v, %v", ts, err)
		}
	})

	t.Run("the task of a given-up retain goes to another", func(t *testing.T) {
		fill(t, c, "e", 0, queue.QueueMeta{})
		sub, cancel := context.WithCancel(ctx)
		gone := make(chan error, 1)
		go func() {
			_, err := st.RetainTasks(sub, queue.RetainRequest{Worker: "w", Queues: []string{"e"}, Wait: time.Minute})
			gone <- err
		}()
		cancel()
		if err := <-gone; !errors.Is(err, queue.ErrCanceled) || !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		must[*queue.Task](t)(c.CreateTask(ctx, "e", queue.TaskMeta{}))
		ts := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "v", Queues: []string{"e"}, Wait: 10 * time.Second}))
		if len(ts) != 1 || ts[0].Worker != "v" || ts[0].Attempt != 1 {
			t.Fatalf("got %+v", ts)
		}
	})

	t.Run("bad input is refused by the field and the stream goes on", func(t *testing.T) {
		for field, r := range map[string]queue.RetainRequest{
			"worker": {Worker: ""},
			"limit":  {Worker: "w", Limit: queue.MaxBatch + 1},
			"wait":   {Worker: "w", Wait: queue.MaxWait + 1},
			"lease":  {Worker: "w", Lease: time.Nanosecond},
			"queue":  {Worker: "w", Queues: []string{"\xff"}},
		} {
			_, err := st.RetainTasks(ctx, r)
			wantInvalid(t, err, field)
		}
		if _, err := st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"d"}}); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("calls of many goroutines at the same time are each answered with their own", func(t *testing.T) {
		const n = 200
		fill(t, c, "f", n, queue.QueueMeta{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		seen := map[int64]bool{}
		for range n / 10 {
			wg.Go(func() {
				for {
					ts, err := st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"f"}, Limit: 3})
					if err != nil || len(ts) == 0 {
						if err != nil {
							t.Error(err)
						}
						return
					}
					for _, task := range ts {
						mu.Lock()
						if seen[task.ID] {
							t.Errorf("task %d is held twice", task.ID)
						}
						seen[task.ID] = true
						mu.Unlock()
						done, err := st.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}})
						if err != nil || done[0].Err != nil || done[0].Task.ID != task.ID {
							t.Errorf("got %+v, %v", done, err)
						}
					}
				}
			})
		}
		wg.Wait()
		if len(seen) != n {
			t.Fatalf("%d of %d tasks were worked", len(seen), n)
		}
	})
}

func wantInvalid(t *testing.T, err error, field string) {
	t.Helper()
	e, ok := errors.AsType[*queue.Error](err)
	if !ok || e.Kind != queue.KindInvalid || e.Field != field || e.Msg == "" {
		t.Fatalf("error %#v (%v) does not say what is wrong with %s", err, err, field)
	}
}

// TestCallsThatWaitOutliveTheServersLimit holds that a server's own limit of a request cuts neither a call that waits as
// long as it asked to, nor a stream.
func TestCallsThatWaitOutliveTheServersLimit(t *testing.T) {
	s := serve(t, connectserver.WithAliveEvery(50*time.Millisecond))
	limited := httptest.NewUnstartedServer(s.server)
	limited.Config.WriteTimeout = 200 * time.Millisecond
	limited.Config.Protocols = s.http.Protocols
	limited.Start()
	t.Cleanup(limited.Close)
	s.url = limited.URL
	for _, p := range []connectclient.Protocol{connectclient.Connect, connectclient.GRPC} {
		c := s.client(t, connectclient.WithProtocol(p), connectclient.WithRetries(0))
		if _, err := s.svc.RegisterQueue(t.Context(), queue.QueueMeta{Name: "q"}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Wait: time.Second}); err != nil {
			t.Errorf("%s: a retain that waits: %v", p, err)
		}
		task, err := s.svc.CreateTask(t.Context(), "q", queue.TaskMeta{Delay: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.AwaitTask(t.Context(), task.ID, time.Second); err != nil {
			t.Errorf("%s: an await: %v", p, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := c.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return nil }); queue.KindOf(err) != queue.KindDeadline {
			t.Errorf("%s: a stream: %v", p, err)
		}
		cancel()
	}
}

// headerCheck counts the requests that leave before their headers are complete.
type headerCheck struct {
	*http.Transport
	incomplete atomic.Int64
}

func (c *headerCheck) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Content-Type") == "" {
		c.incomplete.Add(1)
	}
	return c.Transport.RoundTrip(r)
}

// TestStreamThatEndsWhileItOpens ends streams around their first message. The first Send and Close then run side by side:
// a request that left while Send still wrote the headers crashed the process.
func TestStreamThatEndsWhileItOpens(t *testing.T) {
	s := serve(t)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	for _, p := range protocols {
		t.Run(string(p), func(t *testing.T) {
			check := &headerCheck{Transport: transport}
			c := s.client(t, connectclient.WithProtocol(p), connectclient.WithHTTPClient(&http.Client{Transport: check}))
			for i := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				st := connectclient.NewStream(c)
				var wg sync.WaitGroup
				wg.Go(func() {
					_, _ = st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Wait: time.Minute})
				})
				wg.Go(func() {
					_ = c.RunTickerLoop(ctx, func(context.Context, queue.Tick) error { return nil })
				})
				time.Sleep(time.Duration(i%40) * 5 * time.Microsecond)
				cancel()
				wg.Wait()
				st.Close()
			}
			if n := check.incomplete.Load(); n > 0 {
				t.Errorf("%d requests left before their headers were complete", n)
			}
		})
	}
}
