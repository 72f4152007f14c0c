package connectclient_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
)

// cable is a TCP connection between a client and a server that can be made to lose everything without a word.
type cable struct {
	net.Listener
	mu    sync.Mutex
	cut   chan struct{} // closed: what runs now carries nothing any more
	conns []net.Conn
	wg    sync.WaitGroup
}

func newCable(t testing.TB, server string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, cut: make(chan struct{})}
	c.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server)
			if err != nil {
				_ = in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			cut := c.cut
			c.mu.Unlock()
			c.wg.Go(func() { carry(out, in, cut) })
			c.wg.Go(func() { carry(in, out, cut) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.mu.Lock()
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.mu.Unlock()
		c.wg.Wait()
	})
	return c
}

// carry copies until cut; then it swallows.
func carry(to, from net.Conn, cut <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-cut:
			if err != nil {
				return
			}
			continue
		default:
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = to.(*net.TCPConn).CloseWrite()
			}
			return
		}
	}
}

// Cut makes the connections there are dead; new ones work.
func (c *cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.cut)
	c.cut = make(chan struct{})
}

func (c *cable) client(t testing.TB, opts ...connectclient.Option) *connectclient.Client {
	t.Helper()
	cl, err := connectclient.New("http://"+c.Addr().String(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

const quick = 50 * time.Millisecond

func TestAPeerThatDiesWithoutAWord(t *testing.T) {
	s := serve(t, connectserver.WithAliveEvery(quick))
	line := newCable(t, s.addr)
	st := stream(t, line.client(t))
	near := s.client(t)
	ctx := t.Context()
	fill(t, near, "q", 1, queue.QueueMeta{Lease: new(time.Hour)})
	held := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "dead", Queues: []string{"q"}}))

	// A retain of the dead worker is open when the line goes dead.
	open := make(chan error, 1)
	sub, cancel := context.WithCancel(ctx)
	go func() {
		_, err := st.RetainTasks(sub, queue.RetainRequest{Worker: "dead", Queues: []string{"q"}, Wait: time.Minute})
		open <- err
	}()
	line.Cut()
	err := <-open // both sides notice by the silence, the client says so
	cancel()
	if !errors.Is(err, queue.ErrIndeterminate) {
		t.Fatalf("got %v", err)
	}

	t.Run("the tasks that it waited for go to the living", func(t *testing.T) {
		must[*queue.Task](t)(near.CreateTask(ctx, "q", queue.TaskMeta{}))
		ts := must[[]*queue.Task](t)(near.RetainTasks(ctx, queue.RetainRequest{Worker: "alive", Queues: []string{"q"}, Wait: 10 * time.Second}))
		if len(ts) != 1 || ts[0].Attempt != 1 {
			t.Fatalf("got %+v", ts)
		}
	})
	t.Run("its tasks stay held until the lease runs out", func(t *testing.T) {
		task := must[*queue.Task](t)(near.GetTask(ctx, held[0].ID))
		if task.Status != queue.StatusRetained || task.Worker != "dead" {
			t.Fatalf("got %+v", task)
		}
		s.clock.Advance(2 * time.Hour)
		for more := true; more; {
			did, err := s.store.Maintain(ctx, queue.ChoreRescue)
			if err != nil {
				t.Fatal(err)
			}
			more = did.More
		}
		if task = must[*queue.Task](t)(near.GetTask(ctx, held[0].ID)); task.Status != queue.StatusRetry {
			t.Fatalf("got %+v", task)
		}
	})
	t.Run("come back to life it works on, and learns that its lease is lost", func(t *testing.T) {
		done, err := st.ReleaseTasks(ctx, []queue.Release{{ID: held[0].ID, Token: held[0].Lease.Token, Outcome: queue.OutcomeSuccess}})
		if !errors.Is(err, queue.ErrLeaseLost) && !errors.Is(err, queue.ErrConflict) {
			t.Fatalf("got %+v, %v", done, err)
		}
	})
}

func TestReleasesAndHeartbeatsAreRepeatedOnANewStream(t *testing.T) {
	s := serve(t, connectserver.WithAliveEvery(quick))
	line := newCable(t, s.addr)
	st := stream(t, line.client(t))
	fill(t, s.svc, "q", 1, queue.QueueMeta{})
	ts := must[[]*queue.Task](t)(st.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}}))
	line.Cut()
	beats := must[[]queue.Beat](t)(st.HeartbeatTasks(t.Context(), []queue.Heartbeat{{ID: ts[0].ID, Token: ts[0].Lease.Token}}))
	line.Cut()
	done := must[[]queue.Released](t)(st.ReleaseTasks(t.Context(), []queue.Release{{ID: ts[0].ID, Token: ts[0].Lease.Token, Outcome: queue.OutcomeSuccess}}))
	if beats[0].Err != nil || done[0].Err != nil || done[0].Task.Status != queue.StatusReleased {
		t.Fatalf("got %+v, %+v", beats[0], done[0])
	}
}

// retainSignals is a service that closes retained when a retain of worker deaf has tasks.
type retainSignals struct {
	queue.Service
	retained chan struct{}
}

func (s retainSignals) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	tasks, err := s.Service.RetainTasks(ctx, r)
	if r.Worker == "deaf" && len(tasks) > 0 {
		close(s.retained)
	}
	return tasks, err
}

func TestAWorkerThatStopsReading(t *testing.T) {
	const n = 16
	fast := serve(t) // an answer of 1 MiB takes longer than the short timeout on a busy machine
	near := fast.client(t)
	retained := make(chan struct{})
	s := &stack{svc: retainSignals{fast.svc, retained}}
	s.start(t, "127.0.0.1:0", connectserver.WithSendTimeout(quick))
	ctx := t.Context()
	must[*queue.Queue](t)(near.CreateQueue(ctx, queue.QueueMeta{Name: "q"}))
	payload := []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	for range n {
		must[*queue.Task](t)(near.CreateTask(ctx, "q", queue.TaskMeta{Payload: payload}))
	}
	// Compressed, all of it would fit into what the transport takes unread.
	work := pgqueuev1connect.NewWorkServiceClient(s.raw(t, connecthttp.WithCompressors()))
	deaf := must[pgqueuev1connect.WorkServiceWorkClientStream](t)(work.Work(ctx))
	defer deaf.Close()
	for _, m := range []*pb.WorkRequest{
		{Hello: &pb.WorkHello{Worker: "deaf"}},
		{Retains: []*pb.WorkRetain{{Id: 1, Limit: n, Wait: durationpb.New(time.Minute), MaxBytes: queue.MaxRetainBytes}}},
	} {
		if err := deaf.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	// Behind others the deaf worker would find less than what the transport takes unread.
	<-retained
	// Until the server has given it up others may find nothing; then they find all of it.
	for got := 0; got < n; {
		ts := must[[]*queue.Task](t)(near.RetainTasks(ctx, queue.RetainRequest{Worker: "near", Limit: n, Wait: 20 * time.Second}))
		if len(ts) == 0 {
			t.Fatalf("%d of %d tasks came back", got, n)
		}
		for _, task := range ts {
			if task.Attempt != 1 {
				t.Fatalf("an undelivered task cost an attempt: %d", task.Attempt)
			}
			must[[]queue.Released](t)(near.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}}))
			got++
		}
	}
	var err error
	for err == nil { // the answers that have come already, and then the end
		_, err = deaf.Receive()
	}
	if errors.Is(err, io.EOF) {
		t.Error("the stream ended as if all was well")
	}
}

func TestADrainedServerEndsItsStreams(t *testing.T) {
	s := serve(t)
	c := s.client(t, connectclient.WithRetries(0))
	st := stream(t, c)
	fill(t, c, "q", 1, queue.QueueMeta{})
	ctx := t.Context()
	ts := must[[]*queue.Task](t)(st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}}))

	ended := make(chan error, 3)
	go func() {
		_, err := st.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Wait: time.Minute})
		ended <- err
	}()
	go func() { ended <- c.RunTickerLoop(ctx, func(context.Context, queue.Tick) error { return nil }) }()
	go func() { ended <- c.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return nil }) }()
	s.server.Drain()
	for range 3 {
		// The server may cut the wait of a retain short and answer it before the stream ends.
		if err := <-ended; err != nil && !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	done := must[[]queue.Released](t)(c.ReleaseTasks(ctx, []queue.Release{{ID: ts[0].ID, Token: ts[0].Lease.Token, Outcome: queue.OutcomeSuccess}}))
	if done[0].Err != nil {
		t.Fatalf("a held task cannot be released by a unary call: %v", done[0].Err)
	}
}

func TestASubscriptionGoesOnWithoutGapsWhereItBroke(t *testing.T) {
	const n = 60
	s := serve(t, connectserver.WithAliveEvery(quick))
	line := newCable(t, s.addr)
	c := line.client(t)
	fill(t, s.svc, "q", 0, queue.QueueMeta{})
	// From a cursor on: the first event is there before the subscription.
	must[*queue.Task](t)(s.svc.CreateTask(t.Context(), "q", queue.TaskMeta{}))
	page := must[queue.EventPage](t)(c.ListEvents(t.Context(), queue.EventFilter{}, 1))
	go func() {
		for range n {
			if _, err := s.svc.CreateTask(t.Context(), "q", queue.TaskMeta{}); err != nil {
				t.Error(err)
			}
		}
	}()
	enough := errors.New("enough")
	var ids []int64
	err := c.SubscribeEvents(t.Context(), queue.EventFilter{After: page.Next}, func(e queue.Event) error {
		ids = append(ids, e.TaskID)
		switch len(ids) {
		case n:
			return enough
		case n / 3:
			s.http.Close() // the server dies …
			s.start(t, s.addr, connectserver.WithAliveEvery(quick))
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	for i, id := range ids {
		if id != page.Events[0].TaskID+int64(i)+1 {
			t.Fatalf("event %d is of task %d: %v", i, id, ids)
		}
	}
}

func TestASubscriptionThatBreaksBeforeItsFirstEventHasNoGap(t *testing.T) {
	s := serve(t)
	fill(t, s.svc, "q", 0, queue.QueueMeta{})
	s.svc = decorated{s.svc}
	s.http.Close()
	s.start(t, s.addr)
	heard := make(chan struct{}, 100)
	c := s.client(t, connectclient.WithInterceptors(func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			st, err := next(ctx, spec)
			return hearing{st, heard}, err
		}
	}))
	enough := errors.New("enough")
	var id int64
	ended := make(chan error, 1)
	go func() {
		ended <- c.SubscribeEvents(t.Context(), queue.EventFilter{}, func(e queue.Event) error { id = e.TaskID; return enough })
	}()
	<-heard // where the feed ends; the client takes it before it hears anything else
	s.http.Close()
	task := must[*queue.Task](t)(s.svc.CreateTask(t.Context(), "q", queue.TaskMeta{})) // no reader listens
	s.start(t, s.addr)
	if err := <-ended; !errors.Is(err, enough) || id != task.ID {
		t.Fatal(err, id)
	}
}

// hearing signals every message that a client receives.
type hearing struct {
	connect.ClientStream
	heard chan<- struct{}
}

func (h hearing) Receive(msg any) error {
	err := h.ClientStream.Receive(msg)
	if err == nil {
		h.heard <- struct{}{}
	}
	return err
}

// decorated hides the optional powers of a service, as telemetry does.
type decorated struct{ queue.Service }

func (d decorated) Unwrap() queue.Service { return d.Service }

func TestAServerThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	for _, p := range protocols {
		t.Run(string(p), func(t *testing.T) {
			c := must[*connectclient.Client](t)(connectclient.New("http://"+addr, connectclient.WithProtocol(p), connectclient.WithRetries(1)))
			_, err := c.CreateTask(t.Context(), "q", queue.TaskMeta{})
			if !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("a call: %v", err)
			}
			st := stream(t, c)
			_, err = st.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"})
			if !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("a stream: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), quick)
			defer cancel()
			_, err = c.GetTask(ctx, 1)
			if err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestAClosedStreamRefusesCalls(t *testing.T) {
	s := serve(t)
	st := connectclient.NewStream(s.client(t))
	must[[]queue.Beat](t)(st.HeartbeatTasks(t.Context(), nil))
	st.Close()
	if _, err := st.ReleaseTasks(t.Context(), nil); !errors.Is(err, queue.ErrUnavailable) {
		t.Fatal(err)
	}
	st.Close()
}

func TestTheStreamNeedsHTTP2AndSaysSo(t *testing.T) {
	s := serve(t)
	h := &http.Transport{}
	t.Cleanup(h.CloseIdleConnections)
	c := s.client(t, connectclient.WithHTTPClient(&http.Client{Transport: h}), connectclient.WithRetries(0))
	fill(t, c, "q", 1, queue.QueueMeta{}) // unary calls do without
	_, err := stream(t, c).RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"})
	wantInvalid(t, err, "http_client")
	err = c.RunTickerLoop(t.Context(), func(context.Context, queue.Tick) error { return nil })
	wantInvalid(t, err, "http_client")
}
