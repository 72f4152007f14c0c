package connectclient_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stack is a server over a manager over memory.
type stack struct {
	clock  *clock
	store  *memory.Store
	svc    queue.Service
	server *connectserver.Server
	http   *http.Server
	addr   string
	url    string
	// principal is that of every request; nil = none
	principal *access.Principal
}

// clock runs, and jumps on demand.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// serve starts a stack; it is gone, without a goroutine left, at the end of the test.
func serve(t testing.TB, opts ...connectserver.Option) *stack {
	t.Helper()
	s := newStack(t)
	s.start(t, "127.0.0.1:0", opts...)
	return s
}

// newStack is a stack without a server.
func newStack(t testing.TB) *stack {
	t.Helper()
	s := &stack{clock: &clock{}}
	s.store = memory.New(memory.WithClock(s.clock.Now))
	m, err := manager.New(s.store, manager.WithPollInterval(20*time.Millisecond), manager.WithBackgroundWork(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Errorf("closing the manager: %v", err)
		}
	})
	s.svc = m
	return s
}

// start serves s.svc at addr.
func (s *stack) start(t testing.TB, addr string, opts ...connectserver.Option) {
	t.Helper()
	var err error
	if s.server, err = connectserver.New(s.svc, opts...); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.server.Mount(mux)
	s.http = &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	s.addr = l.Addr().String()
	s.url = "http://" + s.addr
	h := s.http
	serving := make(chan struct{}) // from here on a close reaches the listener
	h.BaseContext = func(net.Listener) context.Context {
		close(serving)
		return access.With(context.Background(), s.principal)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.Serve(l)
	}()
	<-serving
	t.Cleanup(func() {
		s.server.Drain()
		_ = h.Close()
		<-served
	})
}

// client is a client of s with connections that end with the test, before the server.
func (s *stack) client(t testing.TB, opts ...connectclient.Option) *connectclient.Client {
	t.Helper()
	c, err := connectclient.New(s.url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// stream is a stream of c that ends with the test.
func stream(t testing.TB, c *connectclient.Client) *connectclient.Stream {
	t.Helper()
	st := connectclient.NewStream(c)
	t.Cleanup(st.Close)
	return st
}

var protocols = []connectclient.Protocol{connectclient.Connect, connectclient.GRPC, connectclient.GRPCWeb}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fill makes a queue and n tasks in it.
func fill(t testing.TB, svc queue.Service, name string, n int, meta queue.QueueMeta) {
	t.Helper()
	meta.Name = name
	must[*queue.Queue](t)(svc.RegisterQueue(t.Context(), meta))
	for n > 0 {
		k := min(n, queue.MaxBatch)
		ts := make([]queue.NewTask, k)
		for i := range ts {
			ts[i] = queue.NewTask{Queue: name}
		}
		must[[]*queue.Task](t)(svc.CreateTasks(t.Context(), ts))
		n -= k
	}
}
