package postgrestest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// ear is a listening Store and what it heard.
type ear struct {
	wakes chan queue.Wake
	end   context.CancelFunc
	done  chan error
}

// hear lets s listen until the test ends, and returns when it does.
func hear(t *testing.T, s *postgres.Store) *ear {
	t.Helper()
	e := start(t, s)
	e.wait(t, queue.Wake{}) // for what happened before
	return e
}

// start is hear, and returns at once.
func start(t *testing.T, s *postgres.Store) *ear {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	e := &ear{wakes: make(chan queue.Wake, 10_000), end: end, done: make(chan error, 1)}
	go func() { e.done <- s.Listen(ctx, func(w queue.Wake) { e.wakes <- w }) }()
	t.Cleanup(func() { e.stop(t) })
	return e
}

func (e *ear) stop(t *testing.T) {
	t.Helper()
	e.end()
	select {
	case err := <-e.done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Listen ended with %v", err)
		}
		e.done <- err
	case <-time.After(patience):
		t.Error("Listen did not end with its context")
	}
}

// next is the next wake.
func (e *ear) next(t *testing.T) queue.Wake {
	t.Helper()
	select {
	case w := <-e.wakes:
		return w
	case <-time.After(patience):
		t.Fatal("nothing was heard")
		return queue.Wake{}
	}
}

// wait passes over others until want comes.
func (e *ear) wait(t *testing.T, want queue.Wake) {
	t.Helper()
	for e.next(t) != want {
	}
}

func makeQueue(t *testing.T, s queue.Store, namespace, name string) {
	t.Helper()
	q, err := queue.NewQueue(namespace, queue.QueueMeta{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

func makeTask(t *testing.T, s queue.Store, namespace string, names ...string) {
	t.Helper()
	c := queue.Create{Namespace: namespace, Atomic: true}
	for _, name := range names {
		c.Tasks = append(c.Tasks, queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}})
	}
	if _, err := s.CreateTasks(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// send notifies as a foreign process.
func send(t *testing.T, conn *pgx.Conn, channel, payload string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), "select pg_notify($1, $2)", channel, payload); err != nil {
		t.Fatal(err)
	}
}

func TestNotifications(t *testing.T) {
	t.Parallel()

	t.Run("a task that one process creates wakes the others, and not the one itself", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		one, two := open(t, dsn), open(t, dsn)
		makeQueue(t, one, "tests", "mail")
		mine, others := hear(t, one), hear(t, two)

		makeTask(t, one, "tests", "mail")
		if got, want := others.next(t), (queue.Wake{Namespace: "tests", Queue: "mail"}); got != want {
			t.Fatalf("heard %+v, want %+v", got, want)
		}
		// PostgreSQL delivers in order: had it woken itself, that would come before this.
		send(t, connect(t, dsn), "pgqueue", "- tests/last")
		if got, want := mine.next(t), (queue.Wake{Namespace: "tests", Queue: "last"}); got != want {
			t.Fatalf("heard %+v, want %+v", got, want)
		}
	})

	t.Run("queues that become ready while a notification is held back go with the next, all in one", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		// Longer than the test: notifications that are not sent at once go when the store closes.
		one := open(t, dsn, postgres.WithNotifyInterval(time.Hour))
		for _, name := range []string{"a", "b", "c"} {
			makeQueue(t, one, "tests", name)
		}
		conn := connect(t, dsn)
		sql(t, conn, "listen pgqueue")
		makeTask(t, one, "tests", "a")
		if got := receive(t, conn); got != "tests/a" {
			t.Fatalf("heard %q, want the leading edge", got)
		}
		makeTask(t, one, "tests", "c")
		makeTask(t, one, "tests", "b")
		makeTask(t, one, "tests", "b", "c")
		one.Close()
		if got := receive(t, conn); got != "tests/b,tests/c" {
			t.Fatalf("heard %q, want both queues once", got)
		}
	})

	t.Run("more queues than fit into a notification wake everyone", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		one := open(t, dsn)
		var names []string
		for i := range 200 {
			names = append(names, strings.Repeat("q", 50)+strings.Repeat("x", i%10)+string(rune('a'+i/26))+string(rune('a'+i%26)))
			makeQueue(t, one, "tests", names[i])
		}
		conn := connect(t, dsn)
		sql(t, conn, "listen pgqueue")
		makeTask(t, one, "tests", names...)
		if got := receive(t, conn); got != "" {
			t.Fatalf("heard %.40q…, want the empty list", got)
		}
	})

	t.Run("without notify there are no notifications", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		one, two := open(t, dsn, postgres.WithoutNotify()), open(t, dsn)
		makeQueue(t, one, "tests", "mail")
		e := hear(t, two)
		makeTask(t, one, "tests", "mail")
		one.Close()
		send(t, connect(t, dsn), "pgqueue", "- tests/last")
		if got, want := e.next(t), (queue.Wake{Namespace: "tests", Queue: "last"}); got != want {
			t.Fatalf("heard %+v, want %+v", got, want)
		}
	})

	t.Run("a payload is read for what it says, and what is not understood wakes everyone", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		e, conn := hear(t, open(t, dsn)), connect(t, dsn)
		for payload, want := range map[string][]queue.Wake{
			"x tests/a":                {{Namespace: "tests", Queue: "a"}},
			"x tests/a,other/b":        {{Namespace: "tests", Queue: "a"}, {Namespace: "other", Queue: "b"}},
			"x tests/":                 {{Namespace: "tests"}},
			"x ":                       {{}},
			"x":                        {{}},
			"":                         {{}},
			"x nonsense":               {{}},
			"another-process ?a-proof": nil,
		} {
			send(t, conn, "pgqueue", payload)
			send(t, conn, "pgqueue", "x tests/end")
			for _, w := range append(want, queue.Wake{Namespace: "tests", Queue: "end"}) {
				if got := e.next(t); got != w {
					t.Errorf("payload %q: heard %+v, want %+v", payload, got, w)
				}
			}
		}
	})

	t.Run("schemas of one database do not hear each other", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		other := postgrestest.OpenURL(t, dsn, postgres.WithSchema("elsewhere"))
		one := open(t, dsn, postgres.WithSchema("elsewhere"))
		makeQueue(t, other, "tests", "mail")
		e, apart := hear(t, one), hear(t, open(t, dsn))
		makeTask(t, other, "tests", "mail")
		if got, want := e.next(t), (queue.Wake{Namespace: "tests", Queue: "mail"}); got != want {
			t.Fatalf("heard %+v, want %+v", got, want)
		}
		send(t, connect(t, dsn), "pgqueue", "- tests/last")
		if got, want := apart.next(t), (queue.Wake{Namespace: "tests", Queue: "last"}); got != want {
			t.Fatalf("heard %+v, want %+v", got, want)
		}
	})

	t.Run("a listening connection that is ended comes back and wakes everyone", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		e, conn := hear(t, open(t, dsn)), connect(t, dsn)
		for range 2 {
			sql(t, conn, "select pg_terminate_backend(pid) from pg_stat_activity "+
				"where datname = current_database() and application_name = 'pgqueue listen'")
			if got := e.next(t); got != (queue.Wake{}) {
				t.Fatalf("heard %+v, want a wake for all", got)
			}
		}
		send(t, conn, "pgqueue", "x tests/a")
		e.wait(t, queue.Wake{Namespace: "tests", Queue: "a"})
	})

	t.Run("a connection on which LISTEN delivers nothing is found out and replaced", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		p := newProxy(t, dsn)
		p.swallow(true)
		logs := make(signals, 100)
		s := open(t, dsn, postgres.WithListenURL(p.url), postgres.WithLogger(logs.logger()))
		e := hear(t, s)
		logs.wait(t, "LISTEN delivers nothing")
		p.swallow(false)
		e.wait(t, queue.Wake{}) // the new connection
		send(t, connect(t, dsn), "pgqueue", "x tests/a")
		e.wait(t, queue.Wake{Namespace: "tests", Queue: "a"})
	})

	t.Run("listening ends with its context while the database is away", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		p := newProxy(t, dsn)
		logs := make(signals, 100)
		s := open(t, dsn, postgres.WithListenURL(p.url), postgres.WithLogger(logs.logger()))
		e := hear(t, s)
		p.close()
		logs.wait(t, "listening ended")
		e.stop(t)
	})

	t.Run("a connection string for LISTEN that is none is refused at once", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t, postgres.WithListenURL("postgres://%zz"))
		err := s.Listen(t.Context(), func(queue.Wake) {})
		wantError(t, err, queue.KindInvalid, "listen_url")
		if strings.Contains(err.Error(), "secret") {
			t.Error("the error shows the password")
		}
	})
}

// receive is the list of queues of the next notification.
func receive(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sender, list, ok := strings.Cut(n.Payload, " ")
	if !ok || sender == "" || len(n.Payload) > 7900 {
		t.Fatalf("payload %q", n.Payload)
	}
	return list
}

// proxy stands between a client and a PostgreSQL. It can be made to swallow notifications, as a pooler in transaction mode
// does, and passes on everything else.
type proxy struct {
	url string

	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu        sync.Mutex
	swallowed bool
	closed    bool
	conns     []net.Conn
}

func newProxy(t *testing.T, dsn string) *proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: u.Host}
	u.Host = l.Addr().String()
	p.url = u.String()
	p.wg.Go(p.serve)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) swallow(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallowed = yes
}

func (p *proxy) swallows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallowed
}

// close ends the proxy and every connection through it.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// own registers connections to be closed; false when it is too late.
func (p *proxy) own(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	p.conns = append(p.conns, conns...)
	return true
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		if !p.own(client, server) {
			return
		}
		p.wg.Go(func() {
			defer server.Close()
			_, _ = io.Copy(server, client)
		})
		p.wg.Go(func() {
			defer client.Close()
			_ = p.messages(client, server)
		})
	}
}

// messages passes the server's messages on: one byte of type, four of length.
func (p *proxy) messages(to io.Writer, from io.Reader) error {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		size := int(head[1])<<24 | int(head[2])<<16 | int(head[3])<<8 | int(head[4])
		message := make([]byte, 1+size)
		copy(message, head)
		if _, err := io.ReadFull(from, message[5:]); err != nil {
			return err
		}
		if message[0] == 'A' && p.swallows() {
			continue
		}
		if _, err := to.Write(message); err != nil {
			return err
		}
	}
}
