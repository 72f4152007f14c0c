package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// countingConn counts the bytes that the database sends and gets.
type countingConn struct {
	net.Conn
	moved *atomic.Int64
}

func (c countingConn) Read(to []byte) (int, error) {
	n, err := c.Conn.Read(to)
	c.moved.Add(int64(n))
	return n, err
}

func (c countingConn) Write(from []byte) (int, error) {
	n, err := c.Conn.Write(from)
	c.moved.Add(int64(n))
	return n, err
}

// openCounting is a store and the count of the bytes that it has exchanged with the database.
func openCounting(t *testing.T, dsn string) (*postgres.Store, *atomic.Int64) {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	moved := new(atomic.Int64)
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return countingConn{conn, moved}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s, err := postgres.New(pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, moved
}

// TestMovesReadNoContent: 60 tasks of 200 kB are moved, and none of their payloads leaves the database.
func TestMovesReadNoContent(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	const tasks, most = 60, 256 << 10
	quiet := func(outcome queue.Outcome, delay time.Duration) func(*testing.T, *postgres.Store, []*queue.Task) {
		return func(t *testing.T, s *postgres.Store, held []*queue.Task) {
			releases := make([]queue.Release, len(held))
			for i, task := range held {
				releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: outcome, Delay: delay, Quiet: true}
			}
			for range 2 { // the second time as a repeat
				out, err := s.ReleaseTasks(t.Context(), "tests", releases)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range out {
					if r.Err != nil {
						t.Fatal(r.Err)
					}
				}
			}
		}
	}
	for name, move := range map[string]func(*testing.T, *postgres.Store, []*queue.Task){
		"a rescue": func(t *testing.T, s *postgres.Store, _ []*queue.Task) {
			m, err := s.Maintain(t.Context(), queue.ChoreRescue)
			if err != nil || m.Moved != tasks {
				t.Fatalf("%+v, %v", m, err)
			}
		},
		"a success":           quiet(queue.OutcomeSuccess, 0),
		"a failure":           quiet(queue.OutcomeFailure, 0),
		"a permanent failure": quiet(queue.OutcomePermanent, 0),
		"a hand back":         quiet(queue.OutcomeHandBack, 0),
		"a snooze":            quiet(queue.OutcomeSnooze, time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, moved := openCounting(t, dsn)
			makeQueue(t, s, "tests", "mail")
			large := queue.Create{Namespace: "tests"}
			for range tasks {
				large.Tasks = append(large.Tasks, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{
					Payload: []byte(`"` + strings.Repeat("x", 200_000) + `"`),
				}})
			}
			if _, err := s.CreateTasks(t.Context(), large); err != nil {
				t.Fatal(err)
			}
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: tasks}}})
			if err != nil || len(out[0]) != tasks {
				t.Fatal(len(out[0]), err)
			}
			if name == "a rescue" {
				sql(t, connect(t, dsn), "update pgqueue.lease set expires_at = pgqueue.clock() - interval '1 s'")
			}
			before := moved.Load()
			move(t, s, out[0])
			if n := moved.Load() - before; n > most {
				t.Errorf("%d bytes were read or written, want %d at most", n, most)
			}
		})
	}
}

// TestSurplusGoesBackAfterAFault: the first hand-back of tasks beyond the limit in bytes fails, and a later one succeeds long
// before the leases lapse. A lapsed lease would spend a retry. The repeat of a request gets what its first answer had.
func TestSurplusGoesBackAfterAFault(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, id := range []string{"", "request"} {
		t.Run("request id "+strconv.Quote(id), func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, conn := open(t, dsn), connect(t, dsn)
			makeQueue(t, s, "acme", "mail")

			create := func(bytes int) {
				t.Helper()
				c := queue.Create{Namespace: "acme", Atomic: true}
				for range 10 {
					c.Tasks = append(c.Tasks, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`"` + strings.Repeat("x", bytes) + `"`)}})
				}
				if _, err := s.CreateTasks(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			retain := func(id string) (ids []int64) {
				t.Helper()
				out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "acme", Queues: []string{"mail"}, Requests: []queue.RetainShare{
					{Worker: "w", RequestID: id, Lease: time.Hour, Limit: 10, MaxBytes: 250_000},
				}})
				if err != nil {
					t.Fatal(err)
				}
				for _, task := range out[0] {
					ids = append(ids, task.ID)
				}
				return ids
			}

			// Ten small tasks make the store predict that the large ones fit.
			create(10)
			if got := retain(""); len(got) != 10 {
				t.Fatalf("retained %d small tasks, want 10", len(got))
			}
			create(100_000)
			sql(t, conn,
				"create table pgqueue.stopped ()",
				`create function pgqueue.stop() returns trigger language plpgsql as $$begin
					if exists (select from pgqueue.stopped) then raise exception 'stopped' using errcode = 'query_canceled'; end if;
					return coalesce(new, old); end$$`,
				"create trigger stop before update or delete on pgqueue.lease for each row execute function pgqueue.stop()",
				"insert into pgqueue.stopped default values")
			first := retain(id)
			if len(first) != 2 {
				t.Fatalf("retained %d large tasks, want 2", len(first))
			}
			if n := value[int](t, conn, "select count(*) from pgqueue.ready"); n != 0 {
				t.Fatalf("%d tasks are ready: the hand-back did not fail", n)
			}
			if id != "" {
				if again := retain(id); !slices.Equal(again, first) {
					t.Errorf("the repeat of the request gets the tasks %v, want %v", again, first)
				}
			}

			sql(t, conn, "delete from pgqueue.stopped")
			waitFor(t, func() (bool, string) {
				n := value[int](t, conn, "select coalesce(sum(n), 0)::int from pgqueue.ready where attempt = 0")
				return n == 8, fmt.Sprintf("%d tasks are ready without a failed attempt", n)
			})
		})
	}
}

// TestDeadLettersInBytes: up to 200 tasks of 900 kB fail together in a queue with a dead letter queue. Their payloads do not
// leave the database, no transaction copies all of them, and the letters have the order and the content of the tasks.
func TestDeadLettersInBytes(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	const mostMoved, mostCopied = 1 << 20, 65 << 20

	// Half of the bytes of such a text are random, so PostgreSQL stores them as they are.
	random := rand.New(rand.NewPCG(1, 2))
	large := make([]byte, 450_000)
	for i := range large {
		large[i] = byte(random.Uint32())
	}
	text := fmt.Sprintf("%x", large)

	for _, c := range []struct {
		name  string
		tasks int
		fail  func(t *testing.T, s *postgres.Store, conn *pgx.Conn, held []*queue.Task)
	}{
		{"a release", 80, func(t *testing.T, s *postgres.Store, _ *pgx.Conn, held []*queue.Task) {
			releases := make([]queue.Release, len(held))
			for i, task := range held {
				releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomePermanent, Quiet: true}
			}
			out, err := s.ReleaseTasks(t.Context(), "tests", releases)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range out {
				if r.Err != nil || r.Status != queue.StatusFailed {
					t.Fatalf("%+v", r)
				}
			}
		}},
		{"a release of callers that share it", 75, func(t *testing.T, s *postgres.Store, _ *pgx.Conn, held []*queue.Task) {
			// The first release of each task counts, also when the call leaves it.
			releases := make([]queue.Release, 2*len(held))
			for i, task := range held {
				releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomePermanent, Quiet: true}
				releases[len(held)+i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
			}
			for len(releases) > 0 {
				out, err := s.ReleaseTasks(queue.WithoutWait(t.Context()), "tests", releases)
				if err != nil {
					t.Fatal(err)
				}
				var locked []queue.Release
				for i, r := range out {
					if queue.IsLocked(r.Err) {
						locked = append(locked, releases[i])
					} else if r.Err != nil {
						t.Fatalf("%+v", r)
					}
				}
				if len(locked) == len(releases) {
					t.Fatal("the call ended no task")
				}
				releases = locked
			}
		}},
		{"a rescue", 75, func(t *testing.T, s *postgres.Store, conn *pgx.Conn, _ []*queue.Task) {
			sql(t, conn, "update pgqueue.lease set expires_at = pgqueue.clock() - interval '1 s'")
			if faults := maintain(t, s, queue.ChoreRescue); len(faults) > 0 {
				t.Fatalf("%+v", faults)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, moved := openCounting(t, dsn)
			conn := connect(t, dsn)
			makeQueue(t, s, "tests", "dead")
			q, err := queue.NewQueue("tests", queue.QueueMeta{Name: "mail", Retries: new(0), FailurePolicyMeta: queue.FailurePolicyMeta{DeadLetter: new("dead")}})
			if err == nil {
				_, err = s.CreateQueue(t.Context(), q)
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.tasks {
				task := queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{
					Payload: fmt.Appendf(nil, `{ "n" :%d, "x":"%s"}`, i, text), Group: strconv.Itoa(i % 3), Headers: map[string]string{"h": strconv.Itoa(i)},
				}}
				if _, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "tests", Tasks: []queue.NewTask{task}}); err != nil {
					t.Fatal(err)
				}
			}
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Queues: []string{"mail"}, Requests: []queue.RetainShare{{Worker: "w", Limit: c.tasks}}})
			if err != nil || len(out[0]) != c.tasks {
				t.Fatal(len(out[0]), err)
			}

			before := moved.Load()
			c.fail(t, s, conn, out[0])
			if n := moved.Load() - before; n > mostMoved {
				t.Errorf("%d bytes were read or written, want %d at most", n, mostMoved)
			}
			if n := value[int](t, conn, `select count(*) from (select t.*, row_number() over (order by t.id) as n from pgqueue.task t join pgqueue.queue q on q.id = t.queue_id where q.name = 'mail') o
				join (select t.*, row_number() over (order by t.id) as n from pgqueue.task t join pgqueue.queue q on q.id = t.queue_id where q.name = 'dead') l using (n)
				where l.payload::text = o.payload::text and l.headers ->> 'h' = o.headers ->> 'h' and l.group_name = o.group_name
				  and l.headers ->> $1 = o.id::text`, queue.HeaderDeadLetterTask); n != c.tasks {
				t.Errorf("%d letters have the place and the content of their tasks, want %d", n, c.tasks)
			}
			// The rows of a transaction have its number.
			if n := value[int](t, conn, `select max(bytes)::integer from (select sum(pg_column_size(t.payload)) as bytes from pgqueue.task t join pgqueue.queue q on q.id = t.queue_id
				where q.name = 'dead' group by t.xmin) x`); n > mostCopied {
				t.Errorf("a transaction copied %d bytes, want %d at most", n, mostCopied)
			}
			if n := value[int](t, conn, "select sum(r.n)::integer from pgqueue.ready r join pgqueue.queue q on q.id = r.queue_id where q.name = 'dead'"); n != c.tasks {
				t.Errorf("%d letters are ready, want %d", n, c.tasks)
			}
			noContradictions(t, s)
			recounted(t, s)
		})
	}
}
