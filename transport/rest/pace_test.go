package rest_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// large answers with more than the two ends of a connection keep.
const large = 24 << 20

func largeAnswer(c *restserver.Config) {
	c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, large)) })
}

// readSlowly reads an answer, with rests that last longer all together than any timeout here.
func readSlowly(r io.Reader) (int64, error) {
	var all int64
	for range 40 {
		n, err := io.CopyN(io.Discard, r, large/40)
		if all += n; err != nil {
			return all, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	n, err := io.Copy(io.Discard, r)
	return all + n, err
}

func TestDeadlinesMoveWhileBytesDo(t *testing.T) {
	timeouts := func(c *restserver.Config) {
		c.Timeouts.Body, c.Timeouts.Write = 700*time.Millisecond, 700*time.Millisecond
	}
	t.Run("an answer that is read slowly arrives whole", func(t *testing.T) {
		s := newStack(t, timeouts, largeAnswer)
		resp, err := s.http.Get(s.url + "/api/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := readSlowly(resp.Body); n != large || err != nil {
			t.Errorf("%d bytes of %d came: %v", n, large, err)
		}
	})
	t.Run("a reader that stands still is cut", func(t *testing.T) {
		var v visits
		s := newStack(t, timeouts, largeAnswer, v.config)
		c := s.dial("GET /api/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
		all := v.calm(s, 1)
		c.Close()
		if all[0].Bytes >= large {
			t.Errorf("%d bytes were written to a reader that reads none", all[0].Bytes)
		}
	})
	t.Run("a body that is sent slowly is taken whole", func(t *testing.T) {
		s := newStack(t, timeouts)
		s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
		line := `{"queue":"q","payload":"` + strings.Repeat("x", 100_000) + "\"}\n"
		body := strings.Repeat(line, 40)
		c := s.dial(fmt.Sprintf("POST /api/task/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", len(body)))
		if answer := sendSlowly(t, c, body); !strings.HasPrefix(answer, "HTTP/1.1 201") {
			t.Error(cut(answer))
		}
	})
}

func sendSlowly(t *testing.T, c net.Conn, body string) string {
	t.Helper()
	for b := []byte(body); len(b) > 0; {
		n := min(len(b), 100_000)
		if _, err := c.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
		time.Sleep(50 * time.Millisecond)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(answer))
}

func TestClientWaitsForWhatMoves(t *testing.T) {
	body := `{"count":1,"body":[{"id":1,"payload":"` + strings.Repeat("x", 3<<20) + `"}]}`
	slow := func(rest time.Duration) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for b := []byte(body); len(b) > 0; {
				n := min(len(b), 150_000)
				if _, err := w.Write(b[:n]); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(rest):
				case <-r.Context().Done():
					return
				}
				b = b[n:]
			}
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	for name, c := range map[string]struct {
		rest time.Duration
		ok   bool
	}{
		"an answer that takes longer than the timeout but moves": {60 * time.Millisecond, true},
		"one that stands still is given up":                      {time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := restclient.New(slow(c.rest), restclient.WithTimeout(600*time.Millisecond), restclient.WithAttempts(1))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			page, err := client.ListTasks(t.Context(), queue.TaskQuery{})
			switch {
			case c.ok && (err != nil || len(page.Tasks) != 1):
				t.Errorf("%d tasks, %v", len(page.Tasks), err)
			case !c.ok && (queue.KindOf(err) != queue.KindIndeterminate || !strings.Contains(err.Error(), "did not answer in time")):
				t.Error(err)
			}
		})
	}
}
