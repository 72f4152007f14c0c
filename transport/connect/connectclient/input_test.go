package connectclient_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"connectrpc.com/grpchealth"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
)

// raw speaks to s as a client would that knows nothing but the proto.
func (s *stack) raw(t testing.TB, opts ...connecthttp.Option) *connect.Client {
	t.Helper()
	h := &http.Transport{Protocols: new(http.Protocols)}
	h.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h.CloseIdleConnections)
	return connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: h}, s.url, append(opts, connecthttp.WithGRPC())...))
}

// wantDetail checks the code and the detail of err.
func wantDetail(t *testing.T, err error, code connect.Code, kind pb.Kind, field string) {
	t.Helper()
	c, ok := errors.AsType[*connect.Error](err)
	if !ok || c.Code() != code || len(c.Details()) != 1 {
		t.Fatalf("got %v, want %v", err, code)
	}
	m, err := connectproto.UnmarshalErrorDetail(c.Details()[0])
	if err != nil {
		t.Fatal(err)
	}
	d := m.(*pb.ErrorDetail)
	if d.GetKind() != kind || d.GetField() != field || d.GetMessage() == "" {
		t.Fatalf("got %v, want %v about %q", d, kind, field)
	}
}

func TestBadInputIsRefusedByItsField(t *testing.T) {
	s := serve(t)
	c := s.raw(t)
	tasks, queues := pgqueuev1connect.NewTaskServiceClient(c), pgqueuev1connect.NewQueueServiceClient(c)
	work, tickers := pgqueuev1connect.NewWorkServiceClient(c), pgqueuev1connect.NewTickerServiceClient(c)
	events := pgqueuev1connect.NewEventServiceClient(c)
	ctx := t.Context()
	create := func(n *pb.NewTask) func() error {
		return func() error {
			_, err := tasks.CreateTask(ctx, &pb.CreateTaskRequest{Task: n})
			return err
		}
	}
	meta := func(m *pb.QueueMeta) func() error {
		return func() error {
			_, err := queues.CreateQueue(ctx, &pb.CreateQueueRequest{Meta: m})
			return err
		}
	}
	retain := func(r *pb.RetainTasksRequest) func() error {
		return func() error {
			_, err := work.RetainTasks(ctx, r)
			return err
		}
	}
	for name, c := range map[string]struct {
		field string
		call  func() error
	}{
		"no task":                    {"queue", create(nil)},
		"no queue":                   {"queue", create(&pb.NewTask{})},
		"a bad queue":                {"queue", create(&pb.NewTask{Queue: "1a"})},
		"no JSON":                    {"payload", create(&pb.NewTask{Queue: "q", Payload: []byte("{")})},
		"a lone surrogate":           {"payload", create(&pb.NewTask{Queue: "q", Payload: []byte(`"\ud800"`)})},
		"bytes that are not UTF-8":   {"payload", create(&pb.NewTask{Queue: "q", Payload: []byte("\"\xff\"")})},
		"a priority of 17 bits":      {"priority", create(&pb.NewTask{Queue: "q", Priority: 1 << 15})},
		"a delay that overflows":     {"delay", create(&pb.NewTask{Queue: "q", Delay: &durationpb.Duration{Seconds: math.MaxInt64}})},
		"a delay one past 10 years":  {"delay", create(&pb.NewTask{Queue: "q", Delay: &durationpb.Duration{Seconds: 315576000, Nanos: 1}})},
		"a negative delay":           {"delay", create(&pb.NewTask{Queue: "q", Delay: &durationpb.Duration{Seconds: -1}})},
		"a time after the year 9999": {"delayed_at", create(&pb.NewTask{Queue: "q", DelayedAt: &timestamppb.Timestamp{Seconds: 253402300800}})},
		"a key of 256 bytes":         {"key", create(&pb.NewTask{Queue: "q", Key: strings.Repeat("k", 256)})},
		"no meta":                    {"meta", meta(nil)},
		"too many retries":           {"retries", meta(&pb.QueueMeta{Queue: "q", Retries: proto.Int64(1001)})},
		"a short lease":              {"lease", meta(&pb.QueueMeta{Queue: "q", Lease: &durationpb.Duration{Nanos: 1}})},
		"an unknown backoff":         {"backoff", meta(&pb.QueueMeta{Queue: "q", Backoff: pb.Backoff(77).Enum()})},
		"no worker":                  {"worker", retain(&pb.RetainTasksRequest{})},
		"a long worker":              {"worker", retain(&pb.RetainTasksRequest{Worker: strings.Repeat("w", 256)})},
		"a large limit":              {"limit", retain(&pb.RetainTasksRequest{Worker: "w", Limit: 10001})},
		"a long wait":                {"wait", retain(&pb.RetainTasksRequest{Worker: "w", Wait: &durationpb.Duration{Seconds: 601}})},
		"a bad namespace":            {"namespace", retain(&pb.RetainTasksRequest{Worker: "w", Namespace: "-"})},
		"the system's namespace":     {"namespace", retain(&pb.RetainTasksRequest{Worker: "w", Namespace: "pgqueue"})},
		"an unknown status": {"status", func() error {
			_, err := tasks.ListTasks(ctx, &pb.ListTasksRequest{Filter: &pb.TaskFilter{Status: []pb.Status{77}}})
			return err
		}},
		"an empty queue of a filter": {"queue", func() error {
			_, err := tasks.DeleteTasks(ctx, &pb.DeleteTasksRequest{Selection: &pb.Selection{Filter: &pb.TaskFilter{Queue: new(""), Status: []pb.Status{pb.Status_STATUS_NEW}}}})
			return err
		}},
		"an empty worker of a filter": {"worker", func() error {
			_, err := tasks.ListTasks(ctx, &pb.ListTasksRequest{Filter: &pb.TaskFilter{Worker: new("")}})
			return err
		}},
		"a page of 1001 rows": {"limit", func() error {
			_, err := tasks.ListTasks(ctx, &pb.ListTasksRequest{Page: &pb.Page{Limit: 1001}})
			return err
		}},
		"the second of a batch": {"tasks[1].delay", func() error {
			_, err := tasks.CreateTasks(ctx, &pb.CreateTasksRequest{Tasks: []*pb.NewTask{{Queue: "q"}, {Queue: "q", Delay: &durationpb.Duration{Seconds: -1}}}})
			return err
		}},
		"no selection": {"ids", func() error {
			_, err := tasks.CancelTasks(ctx, &pb.CancelTasksRequest{})
			return err
		}},
		"an empty selection": {"ids", func() error {
			_, err := tasks.CancelTasks(ctx, &pb.CancelTasksRequest{Selection: &pb.Selection{}})
			return err
		}},
		"a ticker called next": {"ticker", func() error {
			_, err := tickers.CreateTicker(ctx, &pb.CreateTickerRequest{Meta: &pb.TickerMeta{Ticker: "next"}})
			return err
		}},
		"an unknown kind of event": {"kind", func() error {
			_, err := events.ListEvents(ctx, &pb.ListEventsRequest{Filter: &pb.EventFilter{Kind: []pb.EventKind{77}}})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			wantDetail(t, c.call(), connect.CodeInvalidArgument, pb.Kind_KIND_INVALID, c.field)
		})
	}
}

func TestAWorkersStreamThatBreaksTheProtocolEndsWithInvalid(t *testing.T) {
	s := serve(t)
	work := pgqueuev1connect.NewWorkServiceClient(s.raw(t))
	for name, c := range map[string]struct {
		field string
		sent  []*pb.WorkRequest
	}{
		"no hello":   {"hello", []*pb.WorkRequest{{}}},
		"two hellos": {"hello", []*pb.WorkRequest{{Hello: &pb.WorkHello{}}, {Hello: &pb.WorkHello{}}}},
		"an open id": {"retains", []*pb.WorkRequest{{Hello: &pb.WorkHello{Worker: "w"}}, {Retains: []*pb.WorkRetain{
			{Id: 1, Wait: &durationpb.Duration{Seconds: 60}}, {Id: 1},
		}}}},
		"a bad namespace": {"namespace", []*pb.WorkRequest{{Hello: &pb.WorkHello{Namespace: "1"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			st := must[pgqueuev1connect.WorkServiceWorkClientStream](t)(work.Work(t.Context()))
			defer st.Close()
			for _, m := range c.sent {
				if st.Send(m) != nil { // the server has ended the stream already: the received error says why
					break
				}
			}
			var err error
			for err == nil {
				_, err = st.Receive()
			}
			wantDetail(t, err, connect.CodeInvalidArgument, pb.Kind_KIND_INVALID, c.field)
		})
	}
}

func TestMessagesThatAreTooLarge(t *testing.T) {
	s := serve(t, connectserver.WithMaxMessageBytes(1<<20))
	c := s.client(t)
	ctx := t.Context()
	must[*queue.Queue](t)(c.CreateQueue(ctx, queue.QueueMeta{Name: "q"}))
	large := []byte(`"` + strings.Repeat("x", 400<<10) + `"`)

	t.Run("a request is too_large", func(t *testing.T) {
		_, err := c.CreateTask(ctx, "q", queue.TaskMeta{Payload: []byte(`"` + strings.Repeat("x", 2<<20) + `"`)})
		if !errors.Is(err, queue.ErrTooLarge) {
			t.Fatal(err)
		}
	})
	for _, p := range protocols {
		t.Run("on a stream it is too_large for its sender, and the others go on, "+string(p), func(t *testing.T) {
			c := s.client(t, connectclient.WithProtocol(p))
			st := stream(t, c)
			fill(t, c, "s", 1, queue.QueueMeta{})
			held := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"s"}}))
			waiting := make(chan error, 1)
			go func() {
				_, err := st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"s"}, Wait: time.Second})
				waiting <- err
			}()
			release := queue.Release{ID: held[0].ID, Token: held[0].Lease.Token, Outcome: queue.OutcomeSuccess}
			large := release
			large.Result = []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
			if _, err := st.ReleaseTasks(ctx, []queue.Release{large}); !errors.Is(err, queue.ErrTooLarge) {
				t.Error(err)
			}
			if err := <-waiting; err != nil && !errors.Is(err, queue.ErrIndeterminate) { // it may have come before or behind
				t.Error(err)
			}
			done := must[[]queue.Released](t)(st.ReleaseTasks(ctx, []queue.Release{release}))
			if done[0].Err != nil || done[0].Task.Status != queue.StatusReleased {
				t.Errorf("got %+v", done[0])
			}
		})
	}
	for name, consumer := range map[string]queue.Consumer{"unary": c, "stream": stream(t, c)} {
		t.Run("a task that does not fit into the answer of a retain goes back at once, "+name, func(t *testing.T) {
			for range 5 {
				must[*queue.Task](t)(c.CreateTask(ctx, "q", queue.TaskMeta{Payload: large}))
			}
			for left := 5; left > 0; {
				ts := must[[]*queue.Task](t)(consumer.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Limit: 10}))
				if len(ts) == 0 || len(ts) > 2 || ts[0].Attempt != 1 {
					t.Fatalf("got %d tasks with %d left", len(ts), left)
				}
				left -= len(ts)
				var rs []queue.Release
				for _, task := range ts {
					rs = append(rs, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
				}
				must[[]queue.Released](t)(consumer.ReleaseTasks(ctx, rs))
			}
		})
	}
}

func TestTheClientRefusesWhatProtobufCannotCarry(t *testing.T) {
	s := serve(t)
	c := s.client(t)
	_, err := c.CreateTask(t.Context(), "q", queue.TaskMeta{Key: "\xff"})
	wantInvalid(t, err, "key")
	_, err = c.CreateTasks(t.Context(), []queue.NewTask{{Queue: "q"}, {Queue: "q", TaskMeta: queue.TaskMeta{Headers: map[string]string{"a": "\xff"}}}})
	wantInvalid(t, err, "tasks[1].headers")
	_, err = connectclient.New("localhost:8080")
	wantInvalid(t, err, "url")
	_, err = connectclient.New(s.url, connectclient.WithProtocol("soap"))
	wantInvalid(t, err, "protocol")
}

// failing answers GetTask with an error.
type failing struct {
	queue.Service
	err error
}

func (f failing) GetTask(context.Context, int64) (*queue.Task, error) { return nil, f.err }
func (f failing) In(string) (queue.Service, error)                    { return f, nil }

func TestEveryKindOfErrorComesBackOverEveryProtocol(t *testing.T) {
	for _, p := range protocols {
		for _, k := range queue.Kinds() {
			t.Run(string(p)+"/"+string(k), func(t *testing.T) {
				want := &queue.Error{Kind: k, Op: "get task", Subject: "task 7", Field: "id", Msg: "ümlaut"}
				s := &stack{svc: failing{err: want}}
				s.start(t, "127.0.0.1:0")
				c := s.client(t, connectclient.WithProtocol(p), connectclient.WithRetries(0))
				_, err := c.GetTask(t.Context(), 7)
				got, ok := errors.AsType[*queue.Error](err)
				if !ok || !errors.Is(err, k) || *got != *want {
					t.Fatalf("got %#v, want %#v", got, want)
				}
			})
		}
	}
}

func TestTheCauseOfAnInternalErrorStaysInTheServer(t *testing.T) {
	s := &stack{svc: failing{err: errors.New("password=x")}}
	s.start(t, "127.0.0.1:0")
	_, err := s.client(t).GetTask(t.Context(), 7)
	if !errors.Is(err, queue.ErrInternal) || strings.Contains(err.Error(), "password") {
		t.Fatal(err)
	}
}

func TestHealthFollowsReadiness(t *testing.T) {
	var ready error
	s := serve(t, connectserver.WithReadiness(func(context.Context) error { return ready }))
	h := &http.Transport{}
	defer h.CloseIdleConnections()
	c := grpchealth.NewClient(&http.Client{Transport: h}, s.url)
	check := func(service string) grpchealth.Status {
		t.Helper()
		return must[*grpchealth.CheckResponse](t)(c.Check(t.Context(), &grpchealth.CheckRequest{Service: service})).Status
	}
	if _, err := c.Check(t.Context(), &grpchealth.CheckRequest{Service: "pgqueue.v1.Nothing"}); err == nil || !strings.Contains(err.Error(), "not_found") {
		t.Error("the health of an unknown service:", err)
	}
	if got := check(pgqueuev1connect.TaskServiceName); got != grpchealth.StatusServing {
		t.Fatal(got)
	}
	ready = errors.New("no database")
	if got := check(""); got != grpchealth.StatusNotServing {
		t.Fatal(got)
	}
	ready = nil
	if _, err := c.Check(t.Context(), &grpchealth.CheckRequest{Service: "other"}); err == nil {
		t.Fatal("an unknown service is healthy")
	}
	s.server.Drain()
	for range 200 { // an end of the call's context by Drain reached some of them before the answer
		if got := check(""); got != grpchealth.StatusNotServing {
			t.Fatal(got)
		}
	}
}

func TestWithHeader(t *testing.T) {
	got := make(chan []string, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Values("Authorization")
		w.WriteHeader(http.StatusForbidden)
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	c, err := connectclient.New(srv.URL, connectclient.WithHeader("authorization", "Bearer hush"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ListNamespaces(t.Context()); queue.KindOf(err) != queue.KindDenied {
		t.Error(err)
	}
	if values := <-got; len(values) != 1 || values[0] != "Bearer hush" {
		t.Error(values)
	}
}

// TestUnknownFieldsOfSelections sends what a newer client may send in binary protobuf. A server that ignored a field of a filter
// would delete more than its caller selects.
func TestUnknownFieldsOfSelections(t *testing.T) {
	s := serve(t)
	c := s.raw(t)
	tasks, queues := pgqueuev1connect.NewTaskServiceClient(c), pgqueuev1connect.NewQueueServiceClient(c)
	tickers := pgqueuev1connect.NewTickerServiceClient(c)
	ctx := t.Context()
	fill(t, s.svc, "mail", 3, queue.QueueMeta{})
	if _, err := s.svc.CreateTicker(ctx, queue.TickerMeta{Name: "t", Period: new(time.Hour)}); err != nil {
		t.Fatal(err)
	}

	newer := []byte{0xfa, 0x3f, 1, 'x'} // a text in the field 1023
	filter := &pb.TaskFilter{Queue: new("mail")}
	filter.ProtoReflect().SetUnknown(newer)
	selection := &pb.Selection{Filter: &pb.TaskFilter{Queue: new("mail")}}
	selection.ProtoReflect().SetUnknown(newer)
	unknown := func(m proto.Message) { m.ProtoReflect().SetUnknown(newer) }

	for name, c := range map[string]struct {
		field string
		call  func() error
	}{
		"a list by a filter": {"filter", func() error {
			_, err := tasks.ListTasks(ctx, &pb.ListTasksRequest{Filter: filter})
			return err
		}},
		"a cancel by a filter": {"filter", func() error {
			_, err := tasks.CancelTasks(ctx, &pb.CancelTasksRequest{Selection: &pb.Selection{Filter: filter}})
			return err
		}},
		"a delete by a filter": {"filter", func() error {
			_, err := tasks.DeleteTasks(ctx, &pb.DeleteTasksRequest{Selection: &pb.Selection{Filter: filter}})
			return err
		}},
		"a delete by a filter with an unknown status": {"status", func() error {
			status := &pb.TaskFilter{Queue: new("mail"), Status: []pb.Status{99}}
			_, err := tasks.DeleteTasks(ctx, &pb.DeleteTasksRequest{Selection: &pb.Selection{Filter: status}})
			return err
		}},
		"a delete by a selection": {"selection", func() error {
			_, err := tasks.DeleteTasks(ctx, &pb.DeleteTasksRequest{Selection: selection})
			return err
		}},
		"a retry by a selection": {"selection", func() error {
			_, err := tasks.RetryTasks(ctx, &pb.RetryTasksRequest{Selection: selection})
			return err
		}},
		"a delete": {"request", func() error {
			m := &pb.DeleteTasksRequest{Selection: &pb.Selection{Filter: &pb.TaskFilter{Queue: new("mail")}}}
			unknown(m)
			_, err := tasks.DeleteTasks(ctx, m)
			return err
		}},
		"a delete of a queue": {"request", func() error {
			m := &pb.DeleteQueueRequest{Queue: "mail"}
			unknown(m)
			_, err := queues.DeleteQueue(ctx, m)
			return err
		}},
		"a clean of a queue": {"request", func() error {
			m := &pb.CleanQueueRequest{Queue: "mail"}
			unknown(m)
			_, err := queues.CleanQueue(ctx, m)
			return err
		}},
		"a delete of a ticker": {"request", func() error {
			m := &pb.DeleteTickerRequest{Ticker: "t"}
			unknown(m)
			_, err := tickers.DeleteTicker(ctx, m)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			wantDetail(t, c.call(), connect.CodeInvalidArgument, pb.Kind_KIND_INVALID, c.field)
		})
	}

	left := must[queue.TaskPage](t)(s.svc.ListTasks(ctx, queue.TaskQuery{}))
	if left.Count != 3 {
		t.Errorf("%d tasks are left, want 3", left.Count)
	}

	// Other requests of newer clients are served.
	m := &pb.GetQueueRequest{Queue: "mail"}
	unknown(m)
	if _, err := queues.GetQueue(ctx, m); err != nil {
		t.Error(err)
	}
}
