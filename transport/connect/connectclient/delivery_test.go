package connectclient_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
)

// TestRetainThatIsNotDeliveredGoesBack: whatever keeps an answer from being written, its tasks are there for the next
// retain at once, with the attempts and retries that they had.
func TestRetainThatIsNotDeliveredGoesBack(t *testing.T) {
	const tasks, size = 12, 900_000 // more than the buffers between two processes hold

	for name, call := range map[string]struct {
		media string
		http2 bool
	}{
		"Connect over HTTP/1.1":  {"application/proto", false},
		"Connect over HTTP/2":    {"application/proto", true},
		"gRPC":                   {"application/grpc", true},
		"gRPC-Web over HTTP/1.1": {"application/grpc-web", false},
	} {
		t.Run(name+": its caller goes in the middle of the answer", func(t *testing.T) {
			s := serve(t)
			fillLarge(t, s.svc, "big", tasks, size)
			tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
			tr.Protocols.SetHTTP1(!call.http2)
			tr.Protocols.SetUnencryptedHTTP2(call.http2)
			defer tr.CloseIdleConnections()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			body := must[[]byte](t)(proto.Marshal(&pb.RetainTasksRequest{Worker: "w", Queue: []string{"big"}, Limit: tasks, MaxBytes: queue.MaxRetainBytes}))
			if strings.Contains(call.media, "grpc") {
				body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
			}
			req := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodPost,
				s.url+pgqueuev1connect.WorkServiceRetainTasksProcedure, bytes.NewReader(body)))
			req.Header.Set("Content-Type", call.media)
			req.Header.Set("Te", "trailers")
			resp := must[*http.Response](t)(tr.RoundTrip(req))
			if _, err := io.ReadFull(resp.Body, make([]byte, 100_000)); err != nil {
				t.Fatal(resp.Status, err)
			}
			cancel()
			_ = resp.Body.Close()
			wantAllWaiting(t, s.svc, "big", tasks)
		})
	}

	for _, p := range protocols {
		t.Run(fmt.Sprint(p, ": the answer cannot be encoded"), func(t *testing.T) {
			s := serve(t)
			fill(t, s.svc, "q", 3, queue.QueueMeta{})
			odd := &oddKeys{Service: s.svc}
			front := &stack{svc: odd}
			front.start(t, "127.0.0.1:0")
			_, err := front.client(t, connectclient.WithProtocol(p)).RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: 3})
			if err == nil {
				t.Fatal("an answer that is not UTF-8 arrived")
			}
			wantAllWaiting(t, s.svc, "q", 3)
		})
	}
}

// oddKeys retains tasks with keys that no protocol can carry.
type oddKeys struct{ queue.Service }

func (o *oddKeys) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	ts, err := o.Service.RetainTasks(ctx, r)
	for _, task := range ts {
		task.Key = "\xff"
	}
	return ts, err
}

// TestRetainsWhoseCallersGoLoseNothing: callers with deadlines at any moment of a retain leave no task leased.
func TestRetainsWhoseCallersGoLoseNothing(t *testing.T) {
	const calls = 150

	for _, p := range protocols {
		for _, wait := range []time.Duration{0, time.Minute} {
			t.Run(fmt.Sprintf("%v, wait %v", p, wait), func(t *testing.T) {
				s := serve(t)
				fill(t, s.svc, "q", 0, queue.QueueMeta{})
				c := s.client(t, connectclient.WithProtocol(p))
				made, got := 0, 0
				var cut atomic.Int64
				for i := range calls {
					fill(t, s.svc, "q", 3, queue.QueueMeta{})
					made += 3
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%60)*50*time.Microsecond)
					ts, err := c.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 3, Wait: wait})
					cancel()
					got += len(ts)
					if err != nil {
						cut.Add(1)
					}
				}
				c.Close() // all that is on its way is handed back
				waitFor(t, func() bool {
					stats := must[*queue.QueueStats](t)(s.svc.QueueStats(t.Context(), "q"))
					return stats.Counts[queue.StatusRetained] == int64(got) && stats.Counts[queue.StatusNew] == int64(made-got)
				})
				if cut.Load() == 0 {
					t.Log("no caller went") // the machine was too fast for this to show anything
				}
			})
		}
	}
}

// waitFor waits until ok; the test's own time limit ends it.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		time.Sleep(5 * time.Millisecond)
	}
}

// fillLarge makes a queue with long leases and n tasks of so many bytes.
func fillLarge(t *testing.T, svc queue.Service, name string, n, size int) {
	t.Helper()
	retries := 2
	fill(t, svc, name, 0, queue.QueueMeta{Retries: &retries})
	payload := []byte(`"` + strings.Repeat("x", size-2) + `"`)
	for range n {
		must[*queue.Task](t)(svc.CreateTask(t.Context(), name, queue.TaskMeta{Payload: payload}))
	}
}

// wantAllWaiting waits until n tasks of a queue are waiting, and sees that each can be retained as if for the first time.
func wantAllWaiting(t *testing.T, svc queue.Service, name string, n int) {
	t.Helper()
	waitFor(t, func() bool {
		stats := must[*queue.QueueStats](t)(svc.QueueStats(t.Context(), name))
		return stats.Counts[queue.StatusNew] == int64(n) && stats.Counts[queue.StatusRetained] == 0
	})
	for seen := 0; seen < n; {
		ts := must[[]*queue.Task](t)(svc.RetainTasks(t.Context(), queue.RetainRequest{Worker: "after", Queues: []string{name}, Limit: n}))
		if seen += len(ts); len(ts) == 0 {
			t.Fatalf("%d of %d tasks are there", seen, n)
		}
		for _, task := range ts {
			if task.Attempt != 1 {
				t.Errorf("task %d: attempt %d, want 1", task.ID, task.Attempt)
			}
		}
	}
}
