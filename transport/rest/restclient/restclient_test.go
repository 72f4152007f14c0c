package restclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a server that answers the nth request with the nth step; the last step repeats.
type script struct {
	*httptest.Server
	client *Client
	mu     sync.Mutex
	bodies []string
	paths  []string
}

type step func(w http.ResponseWriter, r *http.Request)

func play(t *testing.T, opts []Option, steps ...step) *script {
	t.Helper()
	s := &script{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		n := len(s.bodies)
		s.bodies, s.paths = append(s.bodies, string(b)), append(s.paths, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		steps[min(n, len(steps)-1)](w, r)
	}))
	c, err := New(s.URL+"/api", opts...)
	if err != nil {
		t.Fatal(err)
	}
	s.client = c
	t.Cleanup(func() { c.Close(); s.Close() })
	return s
}

func (s *script) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}

func reply(status int, body string, header ...string) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if status >= 400 {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// broke cuts the connection before an answer.
func broke(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// half cuts the connection in the answer.
func half(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, `{"id":`)
	panic(http.ErrAbortHandler)
}

const (
	aTask = `{"id":7,"payload":1,"namespace":"default","queue":"q","retries":3,"status":"new"}`
	busy  = `{"code":"unavailable","status":503,"detail":"try again"}`
)

func TestWhatIsSafeIsRepeated(t *testing.T) {
	ctx := t.Context()
	for _, x := range []struct {
		name  string
		call  func(c *Client) error
		reply string
		want  int // requests when the first broke
	}{
		{"a read", func(c *Client) error { _, err := c.GetTask(ctx, 7); return err }, aTask, 2},
		{"a create", func(c *Client) error { _, err := c.CreateTask(ctx, "q", queue.TaskMeta{}); return err }, aTask, 2},
		{"a batch", func(c *Client) error {
			_, err := c.CreateTasks(ctx, []queue.NewTask{{Queue: "q"}})
			return err
		}, `{"count":1,"body":[` + aTask + `]}`, 2},
		{"a release with a token", func(c *Client) error {
			_, err := c.ReleaseTasks(ctx, []queue.Release{{ID: 7, Token: 1, Outcome: queue.OutcomeSuccess}})
			return err
		}, `{"count":1,"body":[{"task":` + aTask + `}]}`, 2},
		{"a heartbeat", func(c *Client) error {
			_, err := c.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: 7, Token: 1}})
			return err
		}, `{"count":1,"body":[{"lease":{"token":1,"expires_at":"2026-01-02T15:04:05Z","duration":1}}]}`, 2},
		{"a release without a token", func(c *Client) error {
			_, err := c.ReleaseTasks(ctx, []queue.Release{{ID: 7, Outcome: queue.OutcomeSuccess}})
			return err
		}, `{"count":1,"body":[{"task":` + aTask + `}]}`, 1},
		{"a retain", func(c *Client) error {
			_, err := c.RetainTasks(ctx, queue.RetainRequest{Worker: "w"})
			return err
		}, `{"count":0,"body":[]}`, 1},
		{"a queue's creation", func(c *Client) error { _, err := c.CreateQueue(ctx, queue.QueueMeta{Name: "q"}); return err }, `{}`, 1},
		{"a delete", func(c *Client) error { _, err := c.DeleteQueue(ctx, "q"); return err }, `{}`, 1},
	} {
		for how, cut := range map[string]step{"before the answer": broke, "in the answer": half} {
			t.Run(x.name+" that broke "+how, func(t *testing.T) {
				s := play(t, nil, cut, reply(200, x.reply))
				err := x.call(s.client)
				if n := s.calls(); n != x.want {
					t.Errorf("%d requests, want %d", n, x.want)
				}
				if x.want == 1 && !errors.Is(err, queue.ErrIndeterminate) || x.want > 1 && err != nil {
					t.Error(err)
				}
			})
		}
		for _, lost := range []struct {
			how  string
			step step
		}{
			{"502 of a proxy", reply(502, `<html>bad gateway</html>`, "Content-Type", "text/html")},
			{"503 of a proxy", reply(503, `upstream connect error or disconnect/reset before headers`, "Content-Type", "text/plain")},
			{"503 of a proxy with a problem of its own", reply(503, `{"type":"about:blank","code":"upstream_reset","status":503}`)},
			{"504 of a proxy", reply(504, ``, "Content-Type", "text/plain")},
		} {
			t.Run(x.name+" that got a "+lost.how+" may have happened", func(t *testing.T) {
				s, want := play(t, nil, lost.step, reply(200, x.reply)), x.want
				if x.name == "a retain" {
					want = 2 // the tasks of the first one come back when their leases end
				}
				err := x.call(s.client)
				if n := s.calls(); n != want {
					t.Errorf("%d requests, want %d", n, want)
				}
				if want == 1 && !errors.Is(err, queue.ErrIndeterminate) || want > 1 && err != nil {
					t.Error(err)
				}
			})
		}
		t.Run(x.name+" that the server refused untouched", func(t *testing.T) {
			s := play(t, nil, reply(503, busy), reply(200, x.reply))
			if err := x.call(s.client); err != nil || s.calls() != 2 {
				t.Error(err, s.calls())
			}
		})
	}
}

// TestACreateWithoutAKeyIsSentOnce: a proxy that lost the server after its commit answers 502 or 503.
func TestACreateWithoutAKeyIsSentOnce(t *testing.T) {
	for _, status := range []int{502, 503, 504} {
		s := play(t, []Option{WithoutKeys()}, reply(status, `lost`, "Content-Type", "text/plain"), reply(200, aTask))
		_, err := s.client.CreateTask(t.Context(), "q", queue.TaskMeta{})
		if !errors.Is(err, queue.ErrIndeterminate) || s.calls() != 1 || !strings.Contains(err.Error(), "check the state before a repeat") {
			t.Errorf("%d: %v after %d requests", status, err, s.calls())
		}
	}
}

// TestAStreamThatAProxyRefusesIsOpenedAgain: a 502 of a proxy costs a stream no event.
func TestAStreamThatAProxyRefusesIsOpenedAgain(t *testing.T) {
	lost := reply(502, `lost`, "Content-Type", "text/plain")
	stop := errors.New("enough")
	s := play(t, nil, lost, events("id: 0\n\n", event(1), "stay"))
	err := s.client.SubscribeEvents(t.Context(), queue.EventFilter{}, func(queue.Event) error { return stop })
	if !errors.Is(err, stop) || s.calls() != 2 {
		t.Errorf("events: %v after %d requests", err, s.calls())
	}

	s = play(t, nil, lost, reply(400, `{"code":"invalid"}`))
	err = s.client.RunTickerLoop(t.Context(), func(context.Context, queue.Tick) error { return nil })
	if !errors.Is(err, queue.ErrInvalid) || s.calls() != 2 {
		t.Errorf("ticks: %v after %d requests", err, s.calls())
	}
}

// TestACreateWithARuleForItsKeyIsSentOnce: a second one could refuse, replace or debounce the task that the first one made.
func TestACreateWithARuleForItsKeyIsSentOnce(t *testing.T) {
	for name, rule := range map[string]queue.KeyRule{
		"reject":         {OnConflict: queue.ConflictReject},
		"replace":        {OnConflict: queue.ConflictReplace},
		"debounce":       {Debounce: time.Second},
		"until started":  {UniqueUntil: queue.UniqueUntilStarted},
		"until finished": {UniqueUntil: queue.UniqueUntilFinished},
	} {
		s := play(t, nil, broke, reply(200, aTask))
		if _, err := s.client.CreateTask(t.Context(), "q", queue.TaskMeta{Key: "k", KeyRule: rule}); !errors.Is(err, queue.ErrIndeterminate) || s.calls() != 1 {
			t.Errorf("%s: %v after %d requests", name, err, s.calls())
		}
		s = play(t, nil, broke, reply(200, `{"body":[`+aTask+`]}`))
		many := []queue.NewTask{{Queue: "q", TaskMeta: queue.TaskMeta{Key: "k", KeyRule: rule}}}
		if _, err := s.client.CreateTasks(t.Context(), many); !errors.Is(err, queue.ErrIndeterminate) || s.calls() != 1 {
			t.Errorf("%s, many: %v after %d requests", name, err, s.calls())
		}
	}
}

func TestRepeatedCreateHasTheSameKey(t *testing.T) {
	s := play(t, nil, broke, reply(200, strings.TrimSuffix(aTask, "}")+`,"replayed":true}`))
	task, err := s.client.CreateTask(t.Context(), "q", queue.TaskMeta{})
	if err != nil || task.Replayed {
		t.Errorf("%+v %v: a replay of our own attempt is none", task, err)
	}
	if s.bodies[0] != s.bodies[1] || !strings.Contains(s.bodies[0], `"key":"`) {
		t.Error(s.bodies)
	}
	s = play(t, []Option{WithoutKeys()}, broke)
	if _, err := s.client.CreateTask(t.Context(), "q", queue.TaskMeta{}); !errors.Is(err, queue.ErrIndeterminate) || s.calls() != 1 || strings.Contains(s.bodies[0], "key") {
		t.Error(err, s.bodies)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	s := play(t, []Option{WithAttempts(2)}, broke)
	if _, err := s.client.GetTask(t.Context(), 1); !errors.Is(err, queue.ErrIndeterminate) || s.calls() != 2 {
		t.Error(err, s.calls())
	}
}

func TestNoServerIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := New("http://"+l.Addr().String()+"/api", WithAttempts(2))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, err := range map[string]error{
		"a read":         second(c.GetTask(t.Context(), 1)),
		"a retain":       second(c.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"})),
		"a stream":       c.SubscribeEvents(t.Context(), queue.EventFilter{}, nil),
		"a ticker loop":  c.RunTickerLoop(t.Context(), nil),
		"a registration": second(c.RegisterQueue(t.Context(), queue.QueueMeta{Name: "q"})),
	} {
		if !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestEndOfTheCallersContext(t *testing.T) {
	s := play(t, nil, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for s.calls() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := s.client.GetTask(ctx, 1); !errors.Is(err, queue.ErrCanceled) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.client.GetTask(ctx, 1); !errors.Is(err, queue.ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestServerThatHangsIsLeft(t *testing.T) {
	s := play(t, []Option{WithTimeout(200 * time.Millisecond), WithAttempts(2)}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := s.client.GetTask(t.Context(), 1); !errors.Is(err, queue.ErrIndeterminate) || s.calls() != 2 {
		t.Error(err, s.calls())
	}
}

func TestAnswersThatAreNotOurs(t *testing.T) {
	for _, c := range []struct {
		want queue.Kind
		step step
	}{
		{queue.KindInternal, reply(200, `<html>`)},
		{queue.KindInternal, reply(404, `<html>`, "Content-Type", "text/html; charset=utf-8")}, // of no task
		{queue.KindInternal, reply(302, ``, "Location", "/elsewhere")},
		{queue.KindUnavailable, reply(502, `gateway`)}, // a read
		{queue.KindUnavailable, reply(503, `gateway`)},
		{queue.KindUnavailable, reply(504, `gateway`)},
		{queue.KindUnauthenticated, reply(401, ``)},
	} {
		s := play(t, []Option{WithAttempts(1)}, c.step)
		if _, err := s.client.GetTask(t.Context(), 1); queue.KindOf(err) != c.want || strings.Contains(err.Error(), "<html>") {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestBadURLs(t *testing.T) {
	for _, u := range []string{"", "localhost:8080", "ftp://x/", "http://", "http://x/?a=b", "http://x/#a", "http://[::1"} {
		if _, err := New(u); !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("%q: %v", u, err)
		}
	}
	if _, err := New("http://x", WithNamespace("pgqueue")); !errors.Is(err, queue.ErrInvalid) {
		t.Error(err)
	}
	if _, err := New("http://x", WithAttempts(0)); err == nil {
		t.Error("no attempts at all")
	}
}

// events answers with a stream of frames and then breaks, or stays open when it ends with "stay".
func events(frames ...string) step {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		ctl := http.NewResponseController(w)
		for _, f := range frames {
			if f == "stay" {
				_ = ctl.Flush()
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, f)
		}
		_ = ctl.Flush()
		panic(http.ErrAbortHandler)
	}
}

func event(n int) string {
	return fmt.Sprintf("event: task\nid: %d\ndata: {\"kind\":\"created\",\"task\":%d}\n\n", n, n)
}

func TestSubscriptionResumesWhereItBroke(t *testing.T) {
	s := play(t, nil,
		events(": hello\n\n", "id: 0\n\n"),
		events(event(1), event(2), "event: task\nid: 3\ndata: {\"kind\":"), // cut in an event
		reply(503, busy),
		events(event(3), ":\n\n", "event: error\ndata: "+busy+"\n\n"),
		events(event(4), "stay"))
	var got []int64
	stop := errors.New("enough")
	err := s.client.SubscribeEvents(t.Context(), queue.EventFilter{Queue: "q"}, func(e queue.Event) error {
		if e.Cursor != fmt.Sprint(e.TaskID) {
			t.Errorf("the event of task %d has the cursor %q, want the id of the frame", e.TaskID, e.Cursor)
		}
		if got = append(got, e.TaskID); len(got) == 4 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || fmt.Sprint(got) != "[1 2 3 4]" {
		t.Error(err, got)
	}
	want := []string{"", "cursor=0&", "cursor=2&", "cursor=2&", "cursor=3&"}
	for i, w := range want {
		if s.paths[i] != "GET /api/event?"+w+"queue=q" {
			t.Error(i, s.paths[i])
		}
	}
}

func TestSubscriptionThatWouldHaveAGapEnds(t *testing.T) {
	s := play(t, nil, events(": hello\n\n"), events("stay"))
	if err := s.client.SubscribeEvents(t.Context(), queue.EventFilter{}, nil); !errors.Is(err, queue.ErrIndeterminate) {
		t.Error(err)
	}
}

func TestSubscriptionEndsByTheServersWord(t *testing.T) {
	for _, k := range []queue.Kind{queue.KindSlowReader, queue.KindCursorExpired, queue.KindDenied} {
		s := play(t, nil, events(fmt.Sprintf("event: error\ndata: {\"code\":%q,\"status\":410}\n\n", string(k))))
		if err := s.client.SubscribeEvents(t.Context(), queue.EventFilter{}, nil); queue.KindOf(err) != k {
			t.Error(err)
		}
	}
	s := play(t, nil, reply(410, `{"code":"cursor_expired","status":410}`))
	if err := s.client.SubscribeEvents(t.Context(), queue.EventFilter{After: "1"}, nil); !errors.Is(err, queue.ErrCursorExpired) {
		t.Error(err)
	}
}

func TestPatienceIsBounded(t *testing.T) {
	s := play(t, []Option{WithPatience(0), WithAttempts(3)}, events("id: 1\n\n"), reply(503, busy))
	if err := s.client.SubscribeEvents(t.Context(), queue.EventFilter{}, nil); !errors.Is(err, queue.ErrUnavailable) {
		t.Error(err)
	}
}

const tick1 = "event: ticker\nid: 9\ndata: {\"ticker\":\"t\",\"payload\":{\"a\":\ndata: 1},\"id\":9}\n\n"

func TestTicksAreSettledAfterTheHandler(t *testing.T) {
	var handled atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	s := play(t, nil, events("event: stream\ndata: {\"stream\":\"s1\"}\n\n", tick1, "stay"), func(w http.ResponseWriter, _ *http.Request) {
		if handled.Load() == 0 {
			t.Error("settled before it was handled")
		}
		w.WriteHeader(http.StatusNoContent)
		cancel()
	})
	err := s.client.RunTickerLoop(ctx, func(_ context.Context, tick queue.Tick) error {
		if tick.ID != 9 || tick.Ticker != "t" || string(tick.Payload) != "{\"a\":\n1}" {
			t.Errorf("%+v", tick)
		}
		handled.Add(1)
		return errors.New("not today")
	})
	if !errors.Is(err, queue.ErrCanceled) || handled.Load() != 1 || s.bodies[1] != `{"stream":"s1","id":9,"delivered":false}` {
		t.Error(err, handled.Load(), s.bodies)
	}
}

func TestTicksOfAServerThatCannotBeReachedAgainCountWhenSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	s := play(t, nil,
		events("event: stream\ndata: {\"stream\":\"s1\"}\n\n", tick1, "stay"),
		reply(404, `{"code":"not_found","status":404}`),
		events(tick1, "stay"))
	err := s.client.RunTickerLoop(ctx, func(context.Context, queue.Tick) error {
		if n++; n == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, queue.ErrCanceled) || len(s.paths) != 3 || s.paths[0] != "GET /api/ticker/next?ack=true" || s.paths[2] != "GET /api/ticker/next" {
		t.Error(err, s.paths)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("event: a\nid: 1\ndata: x\ndata: y\n\n:c\n\ndata\n\n"))
	f.Add([]byte("id: \x00\n\nevent\r\ndata:z\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		lines := 0
		err := readFrames(bytes.NewReader(in), func() { lines++ }, func(f frame) error {
			if strings.ContainsAny(f.event+f.id, "\n\x00") && strings.Contains(f.id, "\x00") || bytes.HasSuffix(f.data, []byte("\n\n\n")) && lines == 0 {
				t.Errorf("%+v", f)
			}
			return nil
		})
		if err == nil || lines != bytes.Count(in, []byte("\n")) {
			t.Error(err, lines)
		}
	})
}
