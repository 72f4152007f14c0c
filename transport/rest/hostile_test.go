package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// visits are the requests that a server has answered.
type visits struct {
	mu  sync.Mutex
	all []restserver.Access
}

func (v *visits) config(c *restserver.Config) {
	c.Access = func(_ context.Context, a restserver.Access) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.all = append(v.all, a)
	}
}

// calm waits until n requests were answered and none is open any more, and then none may have got a 500.
func (v *visits) calm(s *stack, n int) []restserver.Access {
	s.Helper()
	for over := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		v.mu.Lock()
		all := v.all
		v.mu.Unlock()
		if len(all) >= n && s.server.Open() == 0 {
			for _, a := range all {
				if a.Status == http.StatusInternalServerError {
					s.Errorf("%s %s got a 500", a.Method, a.Path)
				}
			}
			return all
		}
		if time.Now().After(over) {
			s.Fatalf("%d requests are open, %d of %d answered", s.server.Open(), len(all), n)
		}
	}
}

// drip sends text a byte at a time until the other side has had enough.
func drip(c net.Conn, text string) {
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestClientThatSendsByteByByteIsCut(t *testing.T) {
	for name, head := range map[string]string{
		"a queue": "POST /api/queue HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n",
		"a batch": "POST /api/task/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 10000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var v visits
			s := newStack(t, v.config, func(c *restserver.Config) { c.Timeouts.Body = 100 * time.Millisecond })
			s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
			c := s.dial(head)
			var dripping sync.WaitGroup
			dripping.Go(func() { drip(c, strings.Repeat("{\"queue\":\"q\"}\n", 700)) })
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			var p restapi.Problem
			err = json.NewDecoder(resp.Body).Decode(&p)
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestTimeout || err != nil || p.Code != string(queue.KindUnavailable) {
				t.Error(resp.Status, p, err)
			}
			c.Close()
			dripping.Wait()
			v.calm(s, 2)
			if a := s.do(200, "GET", "/api/task", ""); !strings.HasPrefix(a.body, `{"count":0,`) {
				t.Error("the part that came was taken:", cut(a.body))
			}
		})
	}
	t.Run("in its header", func(t *testing.T) {
		s := newStack(t, func(c *restserver.Config) { c.Timeouts.Header = 100 * time.Millisecond })
		c := s.dial("GET /api/queue HTTP/1.1\r\nX: ")
		var dripping sync.WaitGroup
		dripping.Go(func() { drip(c, strings.Repeat("x", 10_000)) })
		if b, err := io.ReadAll(c); strings.Contains(string(b), " 200 ") {
			t.Errorf("%q %v", b, err)
		}
		c.Close()
		dripping.Wait()
	})
}

func TestClientThatDoesNotReadItsAnswerIsDropped(t *testing.T) {
	var v visits
	m := newManager(t)
	s := serve(t, m, v.config, func(c *restserver.Config) {
		c.Timeouts.Body, c.Timeouts.Write = 100*time.Millisecond, 100*time.Millisecond
	})
	if _, err := m.CreateQueue(t.Context(), queue.QueueMeta{Name: "q"}); err != nil {
		t.Fatal(err)
	}
	batch := make([]queue.NewTask, queue.MaxPage)
	for i := range batch {
		batch[i] = queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: []byte(`"` + strings.Repeat("x", 20_000) + `"`)}}
	}
	if _, err := m.CreateTasks(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	c := s.dial("GET /api/task?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n") // 20 MB, more than the two ends of a connection keep
	v.calm(s, 1)
	c.Close()
}

func TestBatchCutInItsMiddleCreatesNothing(t *testing.T) {
	var v visits
	s := newStack(t, v.config)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	lines := strings.Repeat("{\"queue\":\"q\"}\n", 500)
	const n = 10
	for range n {
		s.dial(fmt.Sprintf("POST /api/task/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s", 2*len(lines), lines)).Close()
		s.dial(fmt.Sprintf("POST /api/task/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(lines), lines)).Close()
	}
	v.calm(s, 1+2*n)
	if a := s.do(200, "GET", "/api/task", ""); !strings.HasPrefix(a.body, `{"count":0,`) {
		t.Error(cut(a.body))
	}
}

func TestBodyWithoutALengthIsBounded(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	req := s.request("POST", "/api/task", "", "Content-Type", "application/json")
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"queue":"q","payload":"`), strings.NewReader(strings.Repeat("x", 2<<20)), strings.NewReader(`"}`)))
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Error(resp.Status, string(b))
	}
}

func TestStreamCutInItsMiddleLeavesNothing(t *testing.T) {
	var v visits
	s := newStack(t, v.config)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	s.do(201, "POST", "/api/task", `{"queue":"q","delay":"10h"}`)
	const n = 20
	var cuts []net.Conn
	for i := range n {
		path := []string{"/api/event", "/api/ticker/next?ack=true", "/api/task/1/result?wait=5m", "/api/event?queue=q"}[i%4]
		cuts = append(cuts, s.dial("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	for s.server.Open() < n {
		runtime.Gosched()
	}
	s.do(201, "POST", "/api/task/batch", strings.Repeat("{\"queue\":\"q\"}\n", 5000), "Content-Type", "application/x-ndjson")
	for i, c := range cuts {
		if i%4 != 2 { // in the midst of what it says
			if _, err := c.Read(make([]byte, 100)); err != nil {
				t.Error(err)
			}
		}
		c.Close()
	}
	v.calm(s, 3+n)
}

// TestSlowReaderIsDroppedAndHoldsNobody has a subscriber that does not read beside one that does. The first gets a last
// event that says so, and resumes at its position without a gap.
func TestSlowReaderIsDroppedAndHoldsNobody(t *testing.T) {
	const n, batch = 100_000, 500 // more than the two ends of a connection and the buffer keep
	m, err := manager.New(memory.New(memory.WithMaxEvents(2*n)), manager.WithEventBuffer(1000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s := serve(t, m, func(c *restserver.Config) { c.Timeouts.Write = 5 * time.Minute })
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	slow := s.dial("GET /api/event HTTP/1.1\r\nHost: x\r\n\r\n")
	quick := s.open("GET", "/api/event", "")
	for s.server.Open() < 2 {
		runtime.Gosched()
	}
	for range n / batch {
		s.do(201, "POST", "/api/task/batch", strings.Repeat("{\"queue\":\"q\"}\n", batch), "Content-Type", "application/x-ndjson")
		for seen := 0; seen < batch; {
			switch e := quick.any(); e.name {
			case "task":
				seen++
			case "error":
				t.Fatalf("the subscriber that reads was dropped too: %+v", e)
			}
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	late := &sse{stack: s, body: resp.Body, events: make(chan event, n)}
	late.read() // to the end of the stream
	close(late.events)
	seen, last := 0, event{}
	for e := range late.events {
		if e.name == "task" {
			if seen++; !strings.Contains(e.data, fmt.Sprintf(`"task":%d,`, seen)) {
				t.Fatalf("event %d is %+v", seen, e)
			}
			last = e
		} else if e.name == "error" && shape(e.data, `{"code":"slow_reader"}`) == "" {
			last.name = "dropped"
		}
	}
	if last.name != "dropped" || seen == 0 || seen == n {
		t.Fatalf("after %d of %d events the stream ended with %+v", seen, n, last)
	}
	t.Logf("dropped after %d events", seen)
	again := s.open("GET", "/api/event", "", "Last-Event-ID", last.id)
	for ; seen < n; seen++ {
		e := again.any()
		if e.name == "error" { // it did not keep up either; it resumes too
			again = s.open("GET", "/api/event", "", "Last-Event-ID", last.id)
			seen--
			continue
		}
		if !strings.Contains(e.data, fmt.Sprintf(`"task":%d,`, seen+1)) {
			t.Fatalf("behind event %d comes %+v", seen, e)
		}
		last = e
	}
}

func TestGarbageIsNever500(t *testing.T) {
	var v visits
	s := newStack(t, v.config)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	bodies := []string{
		"", "null", "0", `""`, "[]", "{}", "[{}]", "[null]", `{"queue":null}`, `{"queue":1}`, `{"ids":[1e400]}`, `{"ids":[-1]}`, `{"payload":1}`,
		"{", "\x00", "\xff\xfe", `{"a":` + nested(200) + `}`, strings.Repeat("9", 1000), `{"token":9223372036854775807,"delay":"290y"}`,
		`{"queue":"q","cron":"* * * * *","period":"1ns"}`, "\ufeff{}", `{"queue":"q","queue":"q"}`,
	}
	queries := []string{"", "?limit=-1&offset=999999999999999999999", "?wait=&worker=%00", "?cursor=%ff&status=&queue=%2e%2e", "?worker=w&lease=1s&limit=1&wait=1ms", "?%", "?namespace=%20"}
	names := []string{"q", "1", "%00", "..%2f", strings.Repeat("n", 500), "9223372036854775807", "-1"}
	n := 0
	for _, r := range restapi.Routes() {
		if r == restapi.NextTicker || r == restapi.ListEvents || r == restapi.ListTickers { // streams, where the request accepts them
			continue
		}
		for i, body := range bodies {
			path := r.Path
			for strings.Contains(path, "{") {
				before, after, _ := strings.Cut(path, "{")
				_, after, _ = strings.Cut(after, "}")
				path = before + names[(i+n)%len(names)] + after
			}
			ct := []string{"application/json", "application/x-ndjson", "application/json; null=exact"}[i%3]
			a := s.send(r.Method, "/api"+path+queries[(i+n)%len(queries)], body, "Content-Type", ct, "If-Match", `"\x"`[:i%4], "Idempotency-Key", strings.Repeat("k", i*20))
			if a.status >= 500 {
				t.Errorf("%s %s with %q: %d %s", r.Method, path, cut(body), a.status, cut(a.body))
			}
			n++
		}
	}
	v.calm(s, n)
}
