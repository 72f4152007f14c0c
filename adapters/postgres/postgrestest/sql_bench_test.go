//go:build linux

package postgrestest_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
)

// leastCreate is the least that a create does: the rows of a task, without the checks of create_task.
const leastCreate = `
create function least_create(queue text, payload json) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    q record;
    id bigint;
    born_at timestamptz := pgqueue.clock();
begin
    select x.id, x.retries, x.events, x.namespace, x.name into q
    from pgqueue.queue x where x.namespace = 'default' and x.name = least_create.queue and x.deleted_at is null;
    id := nextval('pgqueue.turn');
    insert into pgqueue.task (id, created_at, queue_id, priority, retries, payload) values (id, born_at, q.id, 0, q.retries, payload);
    if not exists (select from pgqueue.lane l where l.queue_id = q.id and l.lane = 0) then
        insert into pgqueue.lane (queue_id, lane) values (q.id, 0);
    end if;
    insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt) values (id, id, q.id, 0, 0);
    perform pg_notify('pgqueue', '- ' || q.namespace || '/' || q.name);
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, task_ids) values (born_at, q.id, 1, 0, 1, 1, case when q.events then array[id] end);
    return id;
end $$`

// BenchmarkSQL measures the CPU of the PostgreSQL process in each form of a create, in µs a task, and beside it the least that a
// create costs on the same machine at the same time. Each iteration is a transaction of 1,000 tasks, so the commit and the round
// trip are small parts.
func BenchmarkSQL(b *testing.B) {
	const tasks = 1000
	for _, form := range []struct{ name, prepare, statement string }{
		{"no task, a row alone", "create table plain (id bigint)", "insert into plain select generate_series(1, 1000)"},
		{"the rows of a task alone", leastCreate, `select count(least_create('mail', json_build_object('n', i))) from generate_series(1, 1000) i`},
		{"create_task", "", `select count(pgqueue.create_task('mail', json_build_object('n', i))) from generate_series(1, 1000) i`},
		{"create_task with a key", "", `select count(pgqueue.create_task('mail', json_build_object('n', i), key => gen_random_uuid()::text)) from generate_series(1, 1000) i`},
		{"create_tasks", "", `select count(*) from pgqueue.create_tasks('mail', array(select json_build_object('n', i) from generate_series(1, 1000) i))`},
		{
			"a trigger for each row", `
			create table by_row (id bigint);
			create function row_created() returns trigger language plpgsql as $$
			begin perform pgqueue.create_task('mail', json_build_object('n', new.id)); return null; end $$;
			create trigger row_created after insert on by_row for each row execute function row_created()`,
			"insert into by_row select generate_series(1, 1000)",
		},
		{
			"a trigger for each statement", `
			create table by_statement (id bigint);
			create function rows_created() returns trigger language plpgsql as $$
			begin perform pgqueue.create_tasks('mail', array(select json_build_object('n', id) from new_rows order by id)); return null; end $$;
			create trigger rows_created after insert on by_statement referencing new table as new_rows for each statement execute function rows_created()`,
			"insert into by_statement select generate_series(1, 1000)",
		},
	} {
		b.Run(form.name, func(b *testing.B) {
			needsDatabase(b)
			url := postgrestest.URL(b)
			s := postgrestest.OpenURL(b, url)
			firstPartition(b, s)
			mustQueue(b, s, "mail")
			conn, err := pgx.Connect(b.Context(), url)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = conn.Close(b.Context()) })
			if _, err := conn.Exec(b.Context(), form.prepare); err != nil {
				b.Fatal(err)
			}
			exec := func() {
				if _, err := conn.Exec(b.Context(), form.statement); err != nil {
					b.Fatal(err)
				}
			}
			exec() // plans and caches

			begun := readCPU(b, conn.PgConn().PID())
			for b.Loop() {
				exec()
			}
			used := readCPU(b, conn.PgConn().PID()) - begun
			b.ReportMetric(float64(used)/float64(b.N*tasks), "cpu-µs/task")
		})
	}
}

// readCPU returns the CPU time of a process in µs. The kernel counts it in 10 ms, so a benchmark must run for seconds.
func readCPU(b *testing.B, pid uint32) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skipf("needs PostgreSQL on this machine: %v", err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var sum int64
	for _, field := range fields[11:13] { // utime and stime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += ticks
	}
	return sum * 10_000
}
