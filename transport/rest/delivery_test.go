package rest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// TestRetainThatIsNotDeliveredGoesBack: whatever keeps an answer from being written, its tasks are there for the next
// retain at once, with the attempts and retries that they had.
func TestRetainThatIsNotDeliveredGoesBack(t *testing.T) {
	const tasks, size = 12, 900_000 // more than the buffers between two processes hold

	for name, leave := range map[string]func(t *testing.T, s *stack){
		"its caller closes the connection in the middle of the answer": func(t *testing.T, s *stack) {
			conn := s.dial("PUT /api/task/big?worker=w&limit=12&max_bytes=8388608 HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := io.ReadFull(conn, make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		},
		"its caller reads too slowly": func(t *testing.T, s *stack) {
			conn := s.dial("PUT /api/task/big?worker=w&limit=12&max_bytes=8388608 HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // the answer is on its way; no more of it is read
				t.Fatal(err)
			}
		},
		"a stream of HTTP/2 is reset in the middle of the answer": func(t *testing.T, s *stack) {
			var p http.Protocols
			p.SetUnencryptedHTTP2(true)
			tr := &http.Transport{Protocols: &p, DisableCompression: true} // compressed, the answer fits into the first frames
			t.Cleanup(tr.CloseIdleConnections)
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.url+"/api/task/big?worker=w&limit=12&max_bytes=8388608", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadFull(resp.Body, make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
			cancel()
		},
		"a proxy cuts it": func(t *testing.T, s *stack) {
			url := cuttingProxy(t, strings.TrimPrefix(s.url, "http://"), 200_000)
			resp, err := request(t, url+"/api/task/big?worker=w&limit=12&max_bytes=8388608")
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			if err == nil {
				t.Error("the proxy did not cut the answer")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t)
			s := serve(t, m, func(c *restserver.Config) { c.Timeouts.Write, c.Timeouts.Body = time.Second, time.Second })
			s.do(201, "POST", "/api/queue", `{"queue":"big","retries":2,"lease":"1h"}`)
			for i := range tasks {
				// No client here asks for compression. The server's time for a body is too short for these creates.
				_, err := m.CreateTask(t.Context(), "big", queue.TaskMeta{Payload: fmt.Appendf(nil, `{"n":%d,"x":%q}`, i, strings.Repeat("x", size))})
				if err != nil {
					t.Fatal(err)
				}
			}
			leave(t, s)
			wantAllWaiting(t, m, "big", tasks)
		})
	}
}

// wantAllWaiting waits until n tasks of a queue are waiting, and sees that each can be retained as if for the first time.
func wantAllWaiting(t *testing.T, svc queue.Service, name string, n int) {
	t.Helper()
	for {
		stats, err := svc.QueueStats(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if stats.Counts[queue.StatusNew] == int64(n) && stats.Counts[queue.StatusRetained] == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond) // the test's own time limit ends this
	}
	seen := map[int64]bool{}
	for len(seen) < n {
		held, err := svc.RetainTasks(t.Context(), queue.RetainRequest{Worker: "after", Queues: []string{name}, Limit: n})
		if err != nil || len(held) == 0 {
			t.Fatal(len(held), err)
		}
		for _, task := range held {
			seen[task.ID] = true
			if task.Attempt != 1 || task.Retries != 2 {
				t.Errorf("task %d: attempt %d, retries %d; want 1 and 2", task.ID, task.Attempt, task.Retries)
			}
		}
	}
}

// TestSmallRetainIsDeliveredWhole: an answer was delivered when its caller closes the connection right behind it.
func TestSmallRetainIsDeliveredWhole(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	for range 50 {
		s.do(201, "POST", "/api/task", `{"queue":"q"}`)
		conn := s.dial("PUT /api/task/q?worker=w HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil || resp.ContentLength <= 0 {
			t.Fatal(resp.ContentLength, err)
		}
		_ = conn.Close()
	}
	stats := ok[*queue.QueueStats](t)(s.client.QueueStats(t.Context(), "q"))
	if stats.Counts[queue.StatusRetained] != 50 {
		t.Errorf("%v, want 50 retained", stats.Counts)
	}
}

// cuttingProxy forwards to addr, and closes both sides once it has forwarded so many bytes of an answer.
func cuttingProxy(t *testing.T, addr string, after int64) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				_ = near.Close()
				return
			}
			go func() { _, _ = io.Copy(far, near) }()
			go func() {
				_, _ = io.CopyN(near, far, after)
				_, _ = near.Close(), far.Close()
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

func request(t *testing.T, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	return http.DefaultClient.Do(req)
}

// TestRetainWithARequestIDStaysForItsRepeat: the same request gets the tasks and tokens of an answer that was cut.
func TestRetainWithARequestIDStaysForItsRepeat(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"big","retries":2,"lease":"1h"}`)
	for i := range 12 {
		s.do(201, "POST", "/api/task", fmt.Sprintf(`{"queue":"big","payload":{"n":%d,"x":%q}}`, i, strings.Repeat("x", 900_000)))
	}
	const ask = "/api/task/big?worker=w&limit=9&max_bytes=8388608&request_id=one"
	conn := s.dial("PUT " + ask + " HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()

	first := s.do(200, "PUT", ask, "")
	if again := s.do(200, "PUT", ask, ""); again.body != first.body || !strings.Contains(first.body, `"count":9`) {
		t.Errorf("the repeat of a retain is not the same: %d and %d bytes", len(first.body), len(again.body))
	}
	stats := ok[*queue.QueueStats](t)(s.client.QueueStats(t.Context(), "big"))
	if stats.Counts[queue.StatusRetained] != 9 {
		t.Errorf("%v, want 9 retained", stats.Counts)
	}
	s.refused(422, queue.KindInvalid, "request_id", "PUT", "/api/task/big?worker=w&limit=11&request_id=one", "")
}
