package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
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

func (s *stack) request(method, path, body string, header ...string) *http.Request {
	s.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, content)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func (st *sse) read() {
	in := bufio.NewScanner(st.body)
	in.Buffer(nil, 16<<20)
	var e event
	for in.Scan() {
		switch k, v, _ := strings.Cut(in.Text(), ": "); k {
		case "event":
			e.name = v
		case "id":
			e.id = v
		case "data":
			e.data += v
		case "":
			if in.Text() == "" && e != (event{}) {
				st.events <- e
				e = event{}
			}
		}
	}
}

// ends expects the stream to end.
func (st *sse) ends() {
	st.Helper()
	select {
	case e, isOpen := <-st.events:
		if isOpen {
			st.Fatalf("event %+v, want the end", e)
		}
	case <-time.After(30 * time.Second):
		st.Fatal("the stream does not end")
	}
}

func TestEventStream(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"a"}`)
	s.do(201, "POST", "/api/queue", `{"queue":"b"}`)
	all := s.open("GET", "/api/event", "")
	ofB := s.open("GET", "/api/event?queue=b&status=new&status=retained", "", "Accept", "*/*")
	s.do(201, "POST", "/api/task", `{"queue":"a"}`)
	s.do(201, "POST", "/api/task", `{"queue":"b"}`)
	s.do(200, "PUT", "/api/task/b?worker=w1", ``)
	s.do(200, "PATCH", "/api/task/2", `{}`)
	want := []string{
		`{"kind":"created","task":1,"queue":"a","namespace":"default","status":"new","at":"T"}`,
		`{"kind":"created","task":2,"queue":"b","namespace":"default","status":"new","at":"T"}`,
		`{"kind":"retained","task":2,"queue":"b","namespace":"default","status":"retained","worker":"w1","at":"T"}`,
		`{"kind":"released","task":2,"queue":"b","namespace":"default","status":"released","worker":"w1","at":"T"}`,
	}
	var cursors []string
	for len(cursors) < len(want) {
		e := all.any()
		if e.name == "" {
			continue // where the stream begins
		}
		if why := shape(e.data, want[len(cursors)]); e.name != "task" || why != "" || e.id == "" {
			t.Errorf("%s: %+v", why, e)
		}
		if strings.Contains(e.data, `"cursor"`) {
			t.Errorf("the data %s repeats the id", e.data)
		}
		cursors = append(cursors, e.id)
	}
	for _, w := range want[1:3] {
		e := ofB.any()
		for e.name == "" {
			e = ofB.any()
		}
		if why := shape(e.data, w); why != "" {
			t.Errorf("%s: %+v", why, e)
		}
	}
	t.Run("Last-Event-ID resumes behind it", func(t *testing.T) {
		s := &stack{T: t, url: s.url, http: s.http}
		st := s.open("GET", "/api/event", "", "Last-Event-ID", cursors[1])
		for i := 2; i < 4; i++ {
			if e := st.next("task"); e.id != cursors[i] || shape(e.data, want[i]) != "" {
				t.Errorf("%+v, want %s", e, want[i])
			}
		}
	})
	t.Run("as JSON it is a page", func(t *testing.T) {
		s := &stack{T: t, url: s.url, http: s.http}
		a := s.do(200, "GET", "/api/event?limit=2", "", "Accept", "application/json")
		if why := shape(a.body, `{"body":[`+want[0]+`,`+want[1]+`],"next":"`+cursors[1]+`","more":true}`); why != "" {
			t.Error(why)
		}
	})
}

// any is the next event of any name.
func (st *sse) any() event {
	st.Helper()
	select {
	case e, isOpen := <-st.events:
		if !isOpen {
			st.Fatal("the stream has ended")
		}
		return e
	case <-time.After(30 * time.Second):
		st.Fatal("no event")
		return event{}
	}
}

func TestCursorThatIsTooOldIs410(t *testing.T) {
	m, err := manager.New(memory.New(memory.WithMaxEvents(2)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	s := serve(t, m)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	var page struct{ Next string }
	if err := json.Unmarshal([]byte(s.do(200, "GET", "/api/event", "", "Accept", "application/json").body), &page); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	}
	s.refused(410, queue.KindCursorExpired, "cursor", "GET", "/api/event", "", "Last-Event-ID", page.Next)
}

func TestSilentStreamHasHeartbeats(t *testing.T) {
	s := newStack(t, func(c *restserver.Config) { c.Timeouts.Heartbeat = 10 * time.Millisecond })
	resp, err := s.http.Do(s.request("GET", "/api/ticker/next", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	for comments := 0; comments < 5; {
		if !in.Scan() {
			t.Fatal("the stream ended")
		}
		if strings.HasPrefix(in.Text(), ":") {
			comments++
		} else if in.Text() != "" {
			t.Errorf("%q", in.Text())
		}
	}
}

func TestShutdownEndsStreamsWithATypedLastEvent(t *testing.T) {
	s := newStack(t)
	streams := []*sse{s.open("GET", "/api/ticker/next", ""), s.open("GET", "/api/event", "")}
	type outcome struct {
		status int
		header http.Header
		err    error
	}
	poll := make(chan outcome, 1)
	go func() {
		resp, err := s.http.Do(s.request("PUT", "/api/task?worker=w&wait=60s", ""))
		if err == nil {
			resp.Body.Close()
			poll <- outcome{resp.StatusCode, resp.Header, nil}
			return
		}
		poll <- outcome{err: err}
	}()
	for s.server.Open() < 3 {
		runtime.Gosched()
	}
	if err := s.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, st := range streams {
		e := st.any()
		for e.name == "" {
			e = st.any()
		}
		if why := shape(e.data, `{"status":503,"code":"unavailable"}`); e.name != "error" || why != "" {
			t.Errorf("%s: %+v", why, e)
		}
		st.ends()
	}
	if o := <-poll; o.status != 503 || o.header.Get("Retry-After") == "" {
		t.Errorf("a long poll ended with %+v", o)
	}
	s.refused(503, queue.KindUnavailable, "", "GET", "/api/queue", "")
}

func TestLongPollOutlivesTheTimeouts(t *testing.T) {
	s := newStack(t, func(c *restserver.Config) {
		c.Timeouts.Body, c.Timeouts.Write = 20*time.Millisecond, 20*time.Millisecond
	})
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	done := make(chan answer, 1)
	go func() { done <- s.send("PUT", "/api/task/q?worker=w&wait=30s", "") }()
	time.Sleep(150 * time.Millisecond) // longer than every timeout: what must not happen takes time
	s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	if a := <-done; a.status != 200 || shape(a.body, `{"id":1,"worker":"w"}`) != "" {
		t.Errorf("%+v", a)
	}
}

func TestTasksOfAClientThatIsGoneAreHandedBack(t *testing.T) {
	m := newManager(t)
	late := &lateRetain{Service: m, entered: make(chan struct{}), gone: make(chan struct{})}
	var log syncBuffer
	logged := make(chan int, 10)
	s := serve(t, late, func(c *restserver.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Access = func(_ context.Context, a restserver.Access) {
			if a.Method == http.MethodPut {
				logged <- a.Status
			}
		}
	})
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if resp, err := s.http.Do(s.request("PUT", "/api/task?worker=w", "").WithContext(ctx)); err == nil {
			resp.Body.Close()
		}
	}()
	<-late.entered
	cancel()
	<-late.gone
	for {
		a := s.send("GET", "/api/task/1", "")
		if shape(a.body, `{"id":1,"status":"new","attempt":0}`) == "" {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(a.body)
		}
	}
	if status := <-logged; status != restapi.StatusClientClosedRequest || log.String() != "" {
		t.Error("a client that went away counts as a defect:", status, log.String())
	}
}

// syncBuffer is a log.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// lateRetain retains when its caller is gone.
type lateRetain struct {
	queue.Service
	entered, gone chan struct{}
}

func (l *lateRetain) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	close(l.entered)
	<-ctx.Done()
	defer close(l.gone)
	return l.Service.RetainTasks(context.WithoutCancel(ctx), r)
}

func TestTickThatIsNotSettledGoesToAnotherStream(t *testing.T) {
	s := newStack(t)
	first := s.open("GET", "/api/ticker/next?ack=true", "")
	s.do(201, "POST", "/api/ticker", `{"ticker":"t","period":"10h"}`)
	s.do(200, "POST", "/api/ticker/t/run", "")
	var stream struct{ Stream string }
	if err := json.Unmarshal([]byte(first.next("stream").data), &stream); err != nil || stream.Stream == "" {
		t.Fatal(stream, err)
	}
	tick := first.next("ticker")
	s.refused(409, queue.KindConflict, "id", "POST", "/api/ticker/ack", `{"stream":"`+stream.Stream+`","id":999}`)
	s.refused(404, queue.KindNotFound, "stream", "POST", "/api/ticker/ack", `{"stream":"`+stream.Stream+`","id":`+tick.id+`}`, "Pgqueue-Namespace", "other")
	second := s.open("GET", "/api/ticker/next?ack=true", "")
	if err := json.Unmarshal([]byte(second.next("stream").data), &stream); err != nil {
		t.Fatal(err)
	}
	first.body.Close()
	if again := second.next("ticker"); again.id != tick.id {
		t.Errorf("%+v, want tick %s", again, tick.id)
	}
	s.do(204, "POST", "/api/ticker/ack", `{"stream":"`+stream.Stream+`","id":`+tick.id+`}`)
	s.do(200, "POST", "/api/ticker/t/run", "")
	if e := second.next("ticker"); e.id == tick.id {
		t.Error("a settled tick came again")
	}
}

func TestSlowReaderGetsATypedLastEvent(t *testing.T) {
	slow := &slowFeed{Service: newManager(t)}
	s := serve(t, slow)
	st := s.open("GET", "/api/event", "")
	e := st.any()
	if e.name == "" {
		e = st.any()
	}
	if why := shape(e.data, `{"code":"slow_reader"}`); e.name != "error" || why != "" {
		t.Errorf("%s: %+v", why, e)
	}
	st.ends()
}

// slowFeed finds its reader slow at once.
type slowFeed struct{ queue.Service }

func (slowFeed) SubscribeEvents(context.Context, queue.EventFilter, func(queue.Event) error) error {
	return &queue.Error{Kind: queue.KindSlowReader, Msg: "resume from the last cursor"}
}

func TestReaderThatStopsReadingIsDropped(t *testing.T) {
	flood := &floodFeed{Service: newManager(t), done: make(chan error, 1)}
	s := serve(t, flood, func(c *restserver.Config) { c.Timeouts.Write = 50 * time.Millisecond })
	s.dial("GET /api/event HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := <-flood.done; err == nil {
		t.Error("the writer never ended")
	}
}

// floodFeed has events without end.
type floodFeed struct {
	queue.Service
	done chan error
}

func (f *floodFeed) SubscribeEvents(_ context.Context, _ queue.EventFilter, handle func(queue.Event) error) error {
	for {
		if err := handle(queue.Event{Cursor: "1", Kind: queue.EventCreated, Queue: strings.Repeat("q", 60_000)}); err != nil {
			f.done <- err
			return err
		}
	}
}

func TestThousandIdleStreamsAndWaits(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 2,000 connections")
	}
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	const n = 1000
	ctx, cancel := context.WithCancel(t.Context())
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			path, method := "/api/event", "GET"
			if i%2 == 0 {
				path, method = "/api/task/q?worker=w&wait=5m", "PUT"
			}
			resp, err := s.http.Do(s.request(method, path, "").WithContext(ctx))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body) // until ctx ends
				resp.Body.Close()
			}
		})
	}
	for s.server.Open() < n {
		runtime.Gosched()
	}
	t.Logf("%d goroutines for %d connections, clients and all", runtime.NumGoroutine()-before, n)
	cancel()
	wg.Wait()
	for s.server.Open() > 0 {
		runtime.Gosched()
	}
}

func TestStreamBehindADecoratorSaysWhereItBegins(t *testing.T) {
	s := serve(t, decorated{newManager(t)})
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	st := s.open("GET", "/api/event", "")
	begin := st.next("")
	if begin.id == "" || begin.data != "" {
		t.Fatalf("%+v", begin)
	}
	s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	for _, st := range []*sse{st, s.open("GET", "/api/event", "", "Last-Event-ID", begin.id)} {
		if e := st.next("task"); shape(e.data, `{"kind":"created","task":1}`) != "" {
			t.Errorf("%+v", e)
		}
	}
}

// decorated hides the optional powers of a service, as telemetry does.
type decorated struct{ queue.Service }

func (d decorated) Unwrap() queue.Service { return d.Service }
