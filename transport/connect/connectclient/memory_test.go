package connectclient_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// TestMemoryOfCallersOfAStream changes what a caller gave to a stream after its call has ended, while the message still waits.
func TestMemoryOfCallersOfAStream(t *testing.T) {
	s := serve(t)
	wire := &stalledWire{next: &http.Transport{Protocols: new(http.Protocols)}, stalled: make(chan struct{}, 1)}
	wire.next.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(wire.next.CloseIdleConnections)
	c := s.client(t, connectclient.WithHTTPClient(&http.Client{Transport: wire}))
	st := stream(t, c)
	fill(t, s.svc, "mail", 2, queue.QueueMeta{})
	tasks := must[[]*queue.Task](t)(st.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 2}))
	ended, held := tasks[0], tasks[1]

	wire.stall()
	defer wire.resume()
	leave := func(call func(ctx context.Context)) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		call(ctx)
	}

	// This message is larger than any read of the transport, so the stream cannot send another one behind it.
	large := []byte(`"` + string(bytes.Repeat([]byte{'x'}, 900_000)) + `"`)
	leave(func(ctx context.Context) {
		_, _ = st.ReleaseTasks(ctx, []queue.Release{{ID: 1 << 40, Token: 1, Outcome: queue.OutcomeSuccess, Result: large}})
	})
	<-wire.stalled

	result, progress := []byte(`"alice"`), []byte(`"alice"`)
	leave(func(ctx context.Context) {
		_, err := st.ReleaseTasks(ctx, []queue.Release{
			{ID: ended.ID, Token: ended.Lease.Token, Outcome: queue.OutcomeSuccess, Result: result},
		})
		if queue.KindOf(err) != queue.KindDeadline {
			t.Fatalf("the release was answered: %v", err)
		}
	})
	leave(func(ctx context.Context) {
		_, err := st.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: held.ID, Token: held.Lease.Token, Progress: progress}})
		if queue.KindOf(err) != queue.KindDeadline {
			t.Fatalf("the heartbeat was answered: %v", err)
		}
	})
	copy(result, `"mallo"`)
	copy(progress, `"mallo"`)
	wire.resume()

	got := must[*queue.Task](t)(s.svc.AwaitTask(t.Context(), ended.ID, time.Minute))
	if string(got.Result) != `"alice"` {
		t.Errorf("the result is %s", got.Result)
	}
	// The stream sends this heartbeat behind the first one.
	must[[]queue.Beat](t)(st.HeartbeatTasks(t.Context(), []queue.Heartbeat{{ID: held.ID, Token: held.Lease.Token}}))
	if got := must[*queue.Task](t)(s.svc.GetTask(t.Context(), held.ID)); string(got.Progress) != `"alice"` {
		t.Errorf("the progress is %s", got.Progress)
	}
}

// stalledWire is a transport that stops to read the bodies of its requests on demand.
type stalledWire struct {
	next    *http.Transport
	stalled chan struct{} // has an element when a body waits

	mu   sync.Mutex
	gate chan struct{} // nil = open
}

func (w *stalledWire) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = stalledBody{r.Body, w}
	}
	return w.next.RoundTrip(r)
}

func (w *stalledWire) stall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = make(chan struct{})
}

func (w *stalledWire) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gate != nil {
		close(w.gate)
		w.gate = nil
	}
}

type stalledBody struct {
	io.ReadCloser
	wire *stalledWire
}

func (b stalledBody) Read(to []byte) (int, error) {
	n, err := b.ReadCloser.Read(to)
	b.wire.mu.Lock()
	gate := b.wire.gate
	b.wire.mu.Unlock()
	if gate != nil {
		select {
		case b.wire.stalled <- struct{}{}:
		default:
		}
		<-gate
	}
	return n, err
}
