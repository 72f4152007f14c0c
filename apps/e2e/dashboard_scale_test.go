//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// scaleInput is what scale.mjs gets.
type scaleInput struct {
	Open     string           `json:"open"`
	Chromium string           `json:"chromium"`
	IDs      map[string]int64 `json:"ids"`
	Queues   int              `json:"queues"`
	Failed   int64            `json:"failed"`
	Millis   int              `json:"millis"`
	Seconds  int              `json:"seconds"`
	Minute   int              `json:"minute"`
}

// TestDashboardAtScale opens each page over many tasks, queues and large payloads: the first content comes soon and by few
// requests, ten tabs cost the database what one does, and the heap stays flat. PGQUEUE_TEST_FULL has 10,000,000 tasks, 5,000
// queues and ten minutes of events.
func TestDashboardAtScale(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	tools := queuetest.FindTools(t, "chromium", "npm")
	chromium, npm := tools[0], tools[1]
	modules := nodeModules(t, npm, "dashboard")
	tasks := int64(40_000)
	// The short form runs beside other tests, so it holds requests and rows to their numbers, and time loosely.
	in := scaleInput{Queues: 300, Chromium: chromium, Millis: 5_000, Seconds: 20, Minute: 15}
	if os.Getenv("PGQUEUE_TEST_FULL") != "" {
		tasks = 10_000_000
		in.Queues, in.Millis, in.Seconds, in.Minute = 5_000, 300, 600, 60
	}

	dsn := postgrestest.Empty(t)
	address := closedPort(t)
	// Background work would drop the partitions of the tasks while they are still empty.
	server := startNodeAt(t, dsn, "--addr", address, "--auth", "off", "--background=false")
	restart := func(args ...string) string {
		server.stop(t)
		server = startNodeAt(t, dsn, append([]string{"--addr", address, "--auth", "off"}, args...)...)
		return ""
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) // the test is over

	in.Open = strings.TrimSuffix(server.url, "/api")
	in.IDs, in.Failed = loadTasks(t, conn, server.url, in.Queues, tasks)
	restart()
	created := 0
	walk(t, modules, "scale.mjs", in, map[string]func() string{
		// All transactions of the database so far. A statement outside of a transaction is one.
		"transactions": func() string {
			var n int64
			if err := conn.QueryRow(t.Context(), "select xact_commit from pg_stat_database where datname = current_database()").Scan(&n); err != nil {
				t.Error(err)
			}
			return strconv.FormatInt(n, 10)
		},
		// Background work has ten transactions a second, which would hide those of a tab.
		"quiet": func() string { return restart("--background=false") },
		"loud":  func() string { return restart() },
		// A second of work: 20 tasks that are created, retained and released.
		"work": func() string {
			began := time.Now()
			body := "[" + strings.TrimSuffix(strings.Repeat(`{"queue":"busy"},`, 20), ",") + "]"
			callAPI(t, "POST", server.url+"/task/batch", "", body)
			created += 20
			held := callAPI(t, "PUT", server.url+"/task/busy?worker=w-1&limit=20", "", "")
			for _, one := range held["body"].([]any) {
				task := one.(map[string]any)
				token := readInteger(t, task["lease"].(map[string]any)["token"])
				callAPI(t, "PATCH", fmt.Sprintf("%s/task/%d", server.url, readInteger(t, task["id"])), "", fmt.Sprintf(`{"token":%d}`, token))
			}
			time.Sleep(time.Until(began.Add(time.Second)))
			return strconv.Itoa(created)
		},
	})
}

// loadTasks puts tasks into queues of the namespace shop by plain SQL, the same rows as the store writes: six of ten in the queue
// mail, the rest in q0 and the next ones. Nine of ten have ended, in the last two days, and one of 50 of these has failed. It
// returns ids to look at, and the number of failed tasks of mail.
func loadTasks(t *testing.T, conn *pgx.Conn, api string, queues int, tasks int64) (ids map[string]int64, failed int64) {
	t.Helper()
	exec := func(text string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), text, args...); err != nil {
			t.Fatalf("%.80s: %v", text, err)
		}
	}
	number := func(text string, args ...any) (n int64) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), text, args...).Scan(&n); err != nil {
			t.Fatalf("%.80s: %v", text, err)
		}
		return n
	}

	began := time.Now()
	for _, name := range []string{"mail", "large", "busy"} {
		callAPI(t, "POST", api+"/queue", "", fmt.Sprintf(`{"queue":%q}`, name))
	}
	exec("set synchronous_commit = off")
	exec(`insert into pgqueue.queue (id, namespace, name, ttl, retries, retry_delay, backoff, retry_max_delay, lease, concurrency, retention,
			paused, events, created_at, updated_at)
		select nextval('pgqueue.number'), q.namespace, 'q' || i, q.ttl, q.retries, q.retry_delay, q.backoff, q.retry_max_delay, q.lease, i % 20,
			q.retention, i % 100 = 0, q.events, now(), now()
		from pgqueue.queue q cross join generate_series(0, $1::integer - 1) i where q.name = 'mail'`, queues-3)
	exec("create table public.load_queue as select row_number() over (order by id) - 1 as n, id from pgqueue.queue where name like 'q%'")
	exec("create unique index on public.load_queue (n)")
	mail := number("select id from pgqueue.queue where name = 'mail'")

	first := number("select last_value from pgqueue.turn") + 1
	done, delayed := first+tasks/10*9, first+tasks/100*92
	exec("select setval('pgqueue.turn', $1::bigint)", first+tasks)
	payload := strings.Repeat("0123456789abcdef", 1<<16)[2:]                                                     // with its quotes the largest
	id := readInteger(t, callAPI(t, "POST", api+"/task", "", `{"queue":"large","payload":"`+payload+`"}`)["id"]) // which makes the partitions
	for range 29 {
		callAPI(t, "POST", api+"/task", "", `{"queue":"large","payload":"`+payload+`"}`)
	}

	// In pieces, because a transaction that is open for long keeps all events.
	const piece = 500_000
	pieces := func(from, to int64, text string, args ...any) {
		t.Helper()
		for ; from < to; from += piece {
			exec(text, append([]any{from, min(from+piece, to) - 1}, args...)...)
		}
	}
	age := fmt.Sprintf("(%d - i) * (interval '48 h' / %d.0)", first+tasks, tasks)
	pieces(first, first+tasks, `insert into pgqueue.task (id, created_at, delayed_at, queue_id, priority, retries, payload)
		select i, now() - `+age+`, case when i between $4 and $5 - 1 then now() + interval '1 h' + (i % 100000) * interval '1 s' end,
			case when i % 10 < 6 then $3 else q.id end, 0, 3, '{"to": "ann@example.org", "order": 12345678901234567890}'
		from generate_series($1::bigint, $2::bigint) i join public.load_queue q on q.n = i / 10 % $6`, mail, done, delayed, int64(queues-3))
	pieces(first, done, `insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker)
		select t.id, t.created_at + interval '2 min', t.created_at + interval '1 min', t.id * 256, t.queue_id, case when t.id % 50 = 0 then 5 else 4 end, 1, 'w-1'
		from pgqueue.task t where t.id between $1 and $2 order by t.id`)
	pieces(first, done, `insert into pgqueue.task_error (queue_id, task_id, attempt, at, worker, error)
		select d.queue_id, d.task_id, 1, d.finished_at, 'w-1', json_build_object('message', case when d.task_id % 3 = 0
			then 'timeout after ' || d.task_id || ' ms' else 'mailbox ' || d.task_id || ' is unavailable' end)
		from pgqueue.done d where d.status = 5 and d.task_id between $1 and $2`)
	pieces(done, delayed, `insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt)
		select delayed_at, id, queue_id, priority, 0 from pgqueue.task where id between $1 and $2`)
	pieces(delayed, first+tasks, `insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt)
		select id, id, queue_id, 0, 0 from pgqueue.task where id between $1 and $2 order by id`)
	exec("insert into pgqueue.lane (queue_id, lane) select id, 0 from pgqueue.queue q where not exists (select 1 from pgqueue.lane l where l.queue_id = q.id)")
	exec(`insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
		select now(), t.queue_id, case when d.status is null then 1 else d.status end, 0, coalesce(d.status, 1), count(*), count(*) filter (where t.delayed_at is not null)
		from pgqueue.task t left join pgqueue.done d on d.queue_id = t.queue_id and d.task_id = t.id
		where t.id >= $1 and t.id < $2 group by t.queue_id, d.status`, first, first+tasks)
	// As autovacuum does before long.
	exec(`select brin_summarize_new_values(i.indexrelid) from pg_inherits h join pg_index i on i.indrelid = h.inhrelid
		join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam and a.amname = 'brin' where h.inhparent = 'pgqueue.done'::regclass`)
	exec("vacuum analyze")
	t.Logf("loaded %d tasks in %d queues within %s", tasks, queues, time.Since(began).Round(time.Second))
	failed = number("select count(*) from pgqueue.done where queue_id = $1 and status = 5", mail)
	return map[string]int64{"large": id, "failed": number("select max(task_id) from pgqueue.done where queue_id = $1 and status = 5", mail)}, failed
}
