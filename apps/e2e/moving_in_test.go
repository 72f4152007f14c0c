package e2e_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

const movingInPage = "docs/how-to/moving-in.md"

// formerQueue is a queue that people come from: its tables, and rows with the payloads {"n": 1} to {"n": 5} in the order in
// which they are to be worked. The 4th is delayed, and another transaction holds the 5th. A job that runs has 8, a job of
// another kind has 9.
type formerQueue struct {
	name    string
	prepare func(t *testing.T, dsn string)
	rows    string
	locked  string // locks the 5th
	left    string // counts the rows
	stays   int    // rows that no statement moves
	key     string // of the 1st task

	empty string // removes the jobs, before the way back
	// back reads the payloads of the jobs in the order in which the former queue works them, those that are due in an hour, and the keys.
	back string
}

// dueLater selects the rows of the former queue with a time in an hour.
const dueLater = "between now() + interval '59 min' and now() + interval '61 min'"

var formerQueues = []formerQueue{
	{
		name: "river", prepare: migrateRiver,
		rows: `insert into river_job (kind, args, max_attempts, state, scheduled_at, priority) values
			('mail', '{"n":3}', 25, 'available', now() - interval '3 h', 2),
			('mail', '{"n":2}', 25, 'retryable', now() - interval '1 h', 1),
			('mail', '{"n":1}', 25, 'available', now() - interval '2 h', 1),
			('mail', '{"n":4}', 25, 'scheduled', now() + interval '1 h', 3),
			('mail', '{"n":5}', 25, 'available', now() - interval '1 h', 4),
			('mail', '{"n":8}', 25, 'running', now() - interval '1 h', 1),
			('other', '{"n":9}', 25, 'available', now() - interval '1 h', 1)`,
		locked: `select from river_job where args = '{"n":5}' for update`, left: "select count(*) from river_job", stays: 2,
		empty: "delete from river_job",
		back: `select string_agg(args->>'n', '' order by priority, id), string_agg(args->>'n', '') filter (where state = 'scheduled' and scheduled_at ` + dueLater + `), ''
			from river_job where kind = 'mail'`,
	},
	{
		name: "graphile", prepare: migrateByNode,
		rows: `insert into graphile_worker._private_tasks (identifier) values ('mail'), ('other');
			insert into graphile_worker._private_jobs (task_id, payload, run_at, priority, key, locked_at, attempts)
			select t.id, payload::json, now() + at::interval, priority, key, locked, attempts from (values
				('mail', '{"n":3}', '-3 h', 2, null, null::timestamptz, 0),
				('mail', '{"n":2}', '-1 h', 1, null, null, 3),
				('mail', '{"n":1}', '-2 h', 1, 'first', null, 0),
				('mail', '{"n":4}', '1 h', 3, null, null, 0),
				('mail', '{"n":5}', '-1 h', 4, null, null, 0),
				('mail', '{"n":7}', '-1 h', 1, null, null, 25),
				('mail', '{"n":8}', '-1 h', 1, null, now(), 1),
				('other', '{"n":9}', '-1 h', 1, null, null, 0)) v (task, payload, at, priority, key, locked, attempts)
			join graphile_worker._private_tasks t on t.identifier = v.task`,
		locked: `select from graphile_worker._private_jobs where payload::text = '{"n":5}' for update`,
		left:   "select count(*) from graphile_worker._private_jobs", stays: 3, key: "first",
		empty: "delete from graphile_worker._private_jobs",
		back: `select string_agg(payload->>'n', '' order by priority, run_at, j.id), string_agg(payload->>'n', '') filter (where run_at ` + dueLater + `), max(key)
			from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id and t.identifier = 'mail'`,
	},
	{
		name: "pgboss", prepare: migrateByNode,
		rows: `insert into pgboss.job (name, data, state, start_after, created_on, priority, singleton_key) values
			('mail', '{"n":3}', 'created', now() - interval '3 h', now() - interval '3 h', 2, null),
			('mail', '{"n":2}', 'retry', now() - interval '1 h', now() - interval '1 h', 5, null),
			('mail', '{"n":1}', 'created', now() - interval '2 h', now() - interval '2 h', 5, 'first'),
			('mail', '{"n":4}', 'created', now() + interval '1 h', now() - interval '1 h', 1, null),
			('mail', '{"n":5}', 'created', now() - interval '1 h', now() - interval '1 h', 0, null),
			('mail', '{"n":8}', 'active', now() - interval '1 h', now() - interval '1 h', 5, null),
			('other', '{"n":9}', 'created', now() - interval '1 h', now() - interval '1 h', 5, null)`,
		locked: `select from pgboss.job where data = '{"n":5}' for update`, left: "select count(*) from pgboss.job where name in ('mail', 'other')", stays: 2, // several jobs may have one singleton_key
		empty: "delete from pgboss.job where name in ('mail', 'other')",
		back: `select string_agg(data->>'n', '' order by priority desc, created_on, id), string_agg(data->>'n', '') filter (where start_after ` + dueLater + `), ''
			from pgboss.job where name = 'mail' and state = 'created'`,
	},
	{
		name: "gue", prepare: migrateGue,
		rows: `insert into gue_jobs (job_id, args, run_at, priority, queue, job_type, created_at, updated_at) values
			('c', '{"n":3}', now() - interval '3 h', 2, 'mail', 'send', now(), now()),
			('b', '{"n":2}', now() - interval '1 h', 1, 'mail', 'send', now(), now()),
			('a', '{"n":1}', now() - interval '2 h', 1, 'mail', 'send', now(), now()),
			('d', '{"n":4}', now() + interval '1 h', 3, 'mail', 'send', now(), now()),
			('e', '{"n":5}', now() - interval '1 h', 4, 'mail', 'send', now(), now()),
			('x', '{"n":9}', now() - interval '1 h', 1, 'other', 'send', now(), now())`,
		locked: `select from gue_jobs where job_id = 'e' for update`, left: "select count(*) from gue_jobs", stays: 1,
		empty: "delete from gue_jobs",
		back: `select string_agg(convert_from(args, 'UTF8')::json->>'n', '' order by priority, run_at, job_id),
			string_agg(convert_from(args, 'UTF8')::json->>'n', '') filter (where run_at ` + dueLater + ` and length(job_id) = 26), ''
			from gue_jobs where queue = 'mail' and job_type = 'send'`,
	},
	{
		name: "pgmq", prepare: execute(`create schema pgmq;
			create table pgmq.q_mail (msg_id bigint generated always as identity (start 100) primary key, read_ct integer not null default 0,
				enqueued_at timestamptz not null default now(), last_read_at timestamptz, vt timestamptz not null, message jsonb, headers jsonb)`),
		rows: `insert into pgmq.q_mail (msg_id, read_ct, vt, message) overriding system value values
			(1, 0, now() - interval '3 h', '{"n":1}'), (2, 2, now() - interval '1 h', '{"n":2}'),
			(3, 0, now() - interval '2 h', '{"n":3}'), (4, 0, now() + interval '1 h', '{"n":4}'),
			(5, 0, now() - interval '1 h', '{"n":5}'), (8, 1, now() + interval '1 m', '{"n":8}')`,
		locked: "select from pgmq.q_mail where msg_id = 5 for update", left: "select count(*) from pgmq.q_mail", stays: 1,
		empty: "delete from pgmq.q_mail",
		back:  "select string_agg(message->>'n', '' order by msg_id), string_agg(message->>'n', '') filter (where vt " + dueLater + "), '' from pgmq.q_mail",
	},
	{
		// The columns and constraints after its 14th migration.
		name: "oban", prepare: execute(`create type oban_job_state as enum ('available', 'suspended', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled');
			create table oban_jobs (id bigserial primary key, state oban_job_state not null default 'available', queue text not null default 'default',
				worker text not null, args jsonb not null default '{}', errors jsonb[] not null default '{}', attempt integer not null default 0,
				max_attempts integer not null default 20 check (max_attempts > 0), inserted_at timestamp not null default timezone('UTC', now()),
				scheduled_at timestamp not null default timezone('UTC', now()), attempted_at timestamp, completed_at timestamp, discarded_at timestamp,
				cancelled_at timestamp, attempted_by text[], tags text[] default '{}', meta jsonb default '{}',
				priority integer not null default 0 check (priority >= 0), check (attempt between 0 and max_attempts))`),
		rows: `insert into oban_jobs (worker, args, state, scheduled_at, priority) values
			('MyApp.Mail', '{"n":3}', 'available', timezone('UTC', now() - interval '3 h'), 2),
			('MyApp.Mail', '{"n":2}', 'retryable', timezone('UTC', now() - interval '1 h'), 0),
			('MyApp.Mail', '{"n":1}', 'available', timezone('UTC', now() - interval '2 h'), 0),
			('MyApp.Mail', '{"n":4}', 'scheduled', timezone('UTC', now() + interval '1 h'), 3),
			('MyApp.Mail', '{"n":5}', 'available', timezone('UTC', now() - interval '1 h'), 9),
			('MyApp.Mail', '{"n":8}', 'executing', timezone('UTC', now() - interval '1 h'), 0),
			('MyApp.Other', '{"n":9}', 'available', timezone('UTC', now() - interval '1 h'), 0)`,
		locked: `select from oban_jobs where args = '{"n":5}' for update`, left: "select count(*) from oban_jobs", stays: 2,
		empty: "delete from oban_jobs",
		back: `select string_agg(args->>'n', '' order by priority, scheduled_at, id),
			string_agg(args->>'n', '') filter (where state = 'scheduled' and scheduled_at at time zone 'UTC' ` + dueLater + `), ''
			from oban_jobs where worker = 'MyApp.Mail'`,
	},
}

// TestMovingIn runs each statement of the page on the tables of the queue that it names.
func TestMovingIn(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	statements, leave := map[string]string{}, ""
	for _, f := range docs(t)[movingInPage].code {
		if kind, name, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(f.comment, "<!-- "), " -->"), ": "); ok && f.language == "sql" {
			statements[kind+" "+name] = f.code
		}
		if strings.Contains(f.code, "pgqueue export") {
			leave = f.code
		}
	}
	if len(statements) != 2*len(formerQueues) {
		t.Errorf("the page has %d statements, tried are %d", len(statements), 2*len(formerQueues))
	}
	for _, former := range formerQueues {
		t.Run(former.name, func(t *testing.T) {
			t.Parallel()
			move := statements["move "+former.name]
			if move == "" {
				t.Fatal("the page has no statement for it")
			}
			dsn := postgrestest.Empty(t)
			former.prepare(t, dsn)
			s := postgrestest.OpenURL(t, dsn)
			if _, err := s.MigrateUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			mail, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: "mail"})
			if err == nil {
				_, err = s.CreateQueue(t.Context(), mail)
			}
			if err != nil {
				t.Fatal(err)
			}
			// Another zone shows a time that was read in the wrong one.
			conn, other := connectTo(t, dsn+"&timezone=Asia%2FKolkata"), connectTo(t, dsn)
			executeOn(t, conn, former.rows)
			executeOn(t, other, "begin")
			executeOn(t, other, former.locked)

			executeOn(t, conn, "begin")
			if n := numberOf(t, conn, move); n != 4 {
				t.Errorf("%d jobs were moved, want 4", n)
			}
			executeOn(t, conn, "rollback")
			if n := numberOf(t, conn, "select count(*) from pgqueue.task"); n != 0 {
				t.Errorf("%d tasks are there after a rollback", n)
			}

			moved := []int{numberOf(t, conn, move)}
			executeOn(t, other, "rollback")
			moved = append(moved, numberOf(t, conn, move), numberOf(t, conn, move))
			if fmt.Sprint(moved) != "[4 1 0]" {
				t.Errorf("%v jobs were moved, want 4, then the one that was locked, then none", moved)
			}
			if n := numberOf(t, conn, former.left); n != former.stays {
				t.Errorf("%d jobs stay, want %d", n, former.stays)
			}

			var order, delayed, keys string
			err = conn.QueryRow(t.Context(), `select string_agg(payload->>'n', '' order by priority, id),
				string_agg(payload->>'n', '') filter (where delayed_at between now() + interval '59 min' and now() + interval '61 min'),
				coalesce(string_agg(key, ''), '') from pgqueue.task`).Scan(&order, &delayed, &keys)
			if err != nil {
				t.Fatal(err)
			}
			if order != "12345" || delayed != "4" || keys != former.key {
				t.Errorf("order %s, delayed %s, keys %q", order, delayed, keys)
			}
			back := statements["back "+former.name]
			if back == "" {
				t.Fatal("the page has no way back for it")
			}
			moveBack(t, dsn, conn, s, former, leave, back)
		})
	}
}

// moveBack takes the steps of the way back.
func moveBack(t *testing.T, dsn string, conn *pgx.Conn, s *postgres.Store, former formerQueue, leave, insert string) {
	t.Helper()
	queuetest.FindTools(t, "bash", "jq", "psql")
	url, dir := serveStore(t, s), t.TempDir()
	shell := func(commands string) {
		t.Helper()
		env := append(os.Environ(), "PGQUEUE_URL="+url+"/api", "PATH="+programs(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
		runDoc(t, dir, env, "bash", "-euxo", "pipefail", "-c", strings.ReplaceAll(commands, "psql app", "psql '"+dsn+"'"))
	}
	executeOn(t, conn, former.empty)
	shell(leave)
	executeOn(t, conn, insert)
	shell("jq -r .id mail.ndjson | xargs pgqueue delete-task")

	if n := numberOf(t, conn, "select count(*) from pgqueue.task_now"); n != 0 {
		t.Errorf("%d tasks stay", n)
	}
	var order, delayed, keys string
	err := conn.QueryRow(t.Context(), former.back).Scan(&order, &delayed, &keys)
	if err != nil || order != "12345" || delayed != "4" || keys != former.key {
		t.Errorf("after the way back: order %s, delayed %s, keys %q, %v", order, delayed, keys, err)
	}
}

// payloadOf is the payload of the message n of a queue.
func payloadOf(name string, n int) string {
	payload := fmt.Sprintf(`{"n":%d,"s":"it's \"so\" \\ äß"}`, n)
	if name == "Sidekiq" {
		return "[" + payload + "]"
	}
	return payload
}

// addJobs lets BullMQ create five jobs that wait, and one that is delayed.
func addJobs(t *testing.T, socket string) {
	t.Helper()
	npm := findNpm(t)
	dir := t.TempDir()
	copyInto(t, filepath.Join("testdata", "moving-in", "bullmq.mjs"), filepath.Join(dir, "bullmq.mjs"))
	if err := os.Symlink(nodeModules(t, npm, "moving-in"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "node", "bullmq.mjs", socket)
}

func migrateRiver(t *testing.T, dsn string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err == nil {
		_, err = m.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func migrateGue(t *testing.T, dsn string) {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/vgarvardt/gue/v5").Output()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "migrations", "schema.sql"))
	if err != nil {
		t.Fatal(err)
	}
	execute(string(schema))(t, dsn)
}

// migrateByNode lets the library of the queue make its tables. It needs npm, which installs the packages once.
func migrateByNode(t *testing.T, dsn string) {
	t.Helper()
	npm := findNpm(t)
	_, name, _ := strings.Cut(t.Name(), "/")
	dir := t.TempDir()
	script, err := os.ReadFile(filepath.Join("testdata", "moving-in", "migrate.mjs"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "migrate.mjs"), script, 0o600)
	}
	if err == nil {
		err = os.Symlink(nodeModules(t, npm, "moving-in"), filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "node", "migrate.mjs", name, dsn)
}

// execute returns a function that runs statements on a database.
func execute(sql string) func(t *testing.T, dsn string) {
	return func(t *testing.T, dsn string) {
		t.Helper()
		executeOn(t, connectTo(t, dsn), sql)
	}
}

func connectTo(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// executeOn runs statements without parameters, which may be several.
func executeOn(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

func numberOf(t *testing.T, conn *pgx.Conn, sql string) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMovingInByABridge runs the bridge of the page from the lists of Sidekiq and Celery, and from jobs that BullMQ itself creates,
// first after one was killed.
func TestMovingInByABridge(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	redisCLI := queuetest.FindTools(t, "redis-cli", "redis-server", "bash", "jq")[0]
	page := docs(t)[movingInPage]
	var bridge, back, backOfBullMQ string
	for _, f := range page.code {
		switch {
		case strings.Contains(f.code, "\nbridge()"):
			bridge = f.code
		case strings.Contains(f.code, "\nback()"):
			back = f.code
		case strings.HasPrefix(f.code, "// node back.mjs"):
			backOfBullMQ = f.code
		}
	}
	for name, message := range map[string]func(n int) string{
		"Sidekiq": func(n int) string {
			return fmt.Sprintf(`{"class":"Mail","args":[{"n":%d,"s":"it's \"so\" \\ äß"}],"jid":"key-%[1]d","retry":true,"queue":"mail"}`, n)
		},
		"Celery": func(n int) string {
			return celeryMessage(fmt.Sprintf(`[[],{"n":%d,"s":"it's \"so\" \\ äß"},{"callbacks":null}]`, n), fmt.Sprintf("key-%d", n))
		},
		"BullMQ": nil, // its library creates a hash for each job
	} {
		t.Run(name, func(t *testing.T) {
			row := regexp.MustCompile("(?m)^\\| " + name + " \\| `([^`]+)` \\| `(.+)`").FindSubmatch(page.source)
			if row == nil {
				t.Fatal("the page has no row for it")
			}
			list, toTask := string(row[1]), strings.ReplaceAll(string(row[2]), `\|`, "|")

			dir := t.TempDir()
			socket := filepath.Join(dir, "redis")
			cli := fmt.Sprintf("#!/bin/sh\nexec %s -s %s \"$@\"\n", redisCLI, socket)
			if err := os.WriteFile(filepath.Join(dir, "redis-cli"), []byte(cli), 0o700); err != nil {
				t.Fatal(err)
			}
			server := exec.CommandContext(t.Context(), "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = server.Process.Kill()
				_ = server.Wait()
			})
			store := memory.New()
			url := serveStore(t, store)
			env := append(os.Environ(), "PGQUEUE_URL="+url+"/api", "PATH="+dir+string(os.PathListSeparator)+programs(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
			redis := func(args ...string) string {
				return strings.TrimSpace(string(run(t, dir, nil, filepath.Join(dir, "redis-cli"), args...)))
			}
			for waited := 0; exec.CommandContext(t.Context(), filepath.Join(dir, "redis-cli"), "ping").Run() != nil; waited++ {
				if waited > 500 {
					t.Fatal("redis does not start")
				}
				time.Sleep(10 * time.Millisecond)
			}

			// A killed bridge has left the first message in its own list, after the create.
			if message == nil {
				addJobs(t, socket)
				redis("lmove", list, "moving:"+list, "right", "left")
			} else {
				redis("rpush", "moving:"+list, message(0))
				for n := 1; n < 5; n++ {
					redis("lpush", list, message(n))
				}
			}
			script := "to_task() { " + toTask + "; }\n" + bridge + "\nbridge " + list + " mail\n"
			first := "pgqueue create-queue mail\npgqueue create-task mail --key key-0 --payload '" + strings.ReplaceAll(payloadOf(name, 0), "'", `'\''`) + "'\n"
			runDoc(t, dir, env, "bash", "-euo", "pipefail", "-c", first)
			runDoc(t, dir, env, "bash", "-u", "-c", script)

			created, err := store.ListTasks(t.Context(), queue.DefaultNamespace, queue.TaskQuery{Page: queue.Page{Limit: 100}})
			if err != nil {
				t.Fatal(err)
			}
			if len(created.Tasks) != 5 || redis("llen", list) != "0" || redis("llen", "moving:"+list) != "0" {
				t.Fatalf("%d tasks, want 5; %s and %s messages are left", len(created.Tasks), redis("llen", list), redis("llen", "moving:"+list))
			}
			for i, task := range created.Tasks { // the newest first
				if n := 4 - i; string(task.Payload) != payloadOf(name, n) || task.Key != fmt.Sprintf("key-%d", n) {
					t.Errorf("task %d has the key %s and the payload %s", n, task.Key, task.Payload)
				}
			}

			if name == "Celery" { // positional arguments have no names, so the message stays
				redis("lpush", list, celeryMessage(`[[1],{},{}]`, "positional"))
				runDoc(t, dir, env, "bash", "-u", "-c", script+"[ $? -ne 0 ]")
				if redis("llen", "moving:"+list) != "1" || redis("llen", list) != "0" {
					t.Errorf("%s messages wait, %s are in the list of the bridge; want 0 and 1", redis("llen", list), redis("llen", "moving:"+list))
				}
				redis("del", "moving:"+list)
			}

			// The way back, and in again: the tasks are the same, in their order, and a delayed one has stayed.
			leave := "pgqueue create-task mail --delay 1h >/dev/null\npgqueue pause-queue mail >/dev/null\npgqueue export --queue mail --status new --status retry >mail.ndjson\n" + back
			if name == "BullMQ" {
				redis("flushall")
				leave += "\ndue mail.ndjson >due.ndjson\nnode back.mjs " + socket + " <due.ndjson\njq -r .id due.ndjson | xargs pgqueue delete-task >/dev/null\n"
				if err := os.WriteFile(filepath.Join(dir, "back.mjs"), []byte(backOfBullMQ), 0o600); err != nil {
					t.Fatal(err)
				}
				linkModules(t, nodeModules(t, findNpm(t), "moving-in"), dir)
			} else {
				row := regexp.MustCompile("(?m)^\\| " + name + " \\| `(back [^`]+)` \\| `(.+)`").FindSubmatch(page.source)
				if row == nil {
					t.Fatal("the page has no way back for it")
				}
				leave += "\nfrom_task() { " + strings.ReplaceAll(string(row[2]), `\|`, "|") + "; }\ndue mail.ndjson | " + string(row[1]) + "\n"
			}
			runDoc(t, dir, env, "bash", "-euo", "pipefail", "-c", leave)
			if n := redis("llen", list); n != "5" {
				t.Errorf("%s messages are back, want 5", n)
			}
			runDoc(t, dir, env, "bash", "-u", "-c", "pgqueue create-queue again\n"+strings.TrimSuffix(script, "mail\n")+"again\n")
			again, err := store.ListTasks(t.Context(), queue.DefaultNamespace, queue.TaskQuery{Page: queue.Page{Limit: 100}})
			if err != nil || len(again.Tasks) != 6 {
				t.Fatalf("%d tasks (%v), want 5 and the delayed one", len(again.Tasks), err)
			}
			for i, task := range again.Tasks[:5] {
				if n := 4 - i; string(task.Payload) != payloadOf(name, n) || task.Key != fmt.Sprintf("key-%d", n) {
					t.Errorf("back and in again task %d has the key %s and the payload %s", n, task.Key, task.Payload)
				}
			}
		})
	}
}

// celeryMessage returns a message of Celery with arguments.
func celeryMessage(arguments, id string) string {
	body := base64.StdEncoding.EncodeToString([]byte(arguments))
	return fmt.Sprintf(`{"body":%q,"headers":{"id":%q,"task":"mail"},"properties":{"body_encoding":"base64"}}`, body, id)
}

// TestMovingInFromSQS runs the bridge of the page on a server that speaks the protocol of SQS.
func TestMovingInFromSQS(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	aws := queuetest.FindTools(t, "aws", "moto_server", "bash", "jq")[0]
	var bridge, back string
	for _, f := range docs(t)[movingInPage].code {
		if strings.Contains(f.code, "sqs_bridge()") {
			bridge = f.code
		}
		if strings.Contains(f.code, "sqs_back()") {
			back = f.code
		}
	}

	dir := t.TempDir()
	server := exec.CommandContext(t.Context(), "moto_server", "--host", "127.0.0.1", "--port", "0")
	says, err := server.StderrPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	lines := bufio.NewScanner(says)
	var endpoint string
	for endpoint == "" && lines.Scan() {
		endpoint = regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(lines.Text())
	}
	go func() { _, _ = io.Copy(io.Discard, says) }()

	store := memory.New()
	if err := os.WriteFile(filepath.Join(dir, "aws"), fmt.Appendf(nil, "#!/bin/sh\nexec %s --endpoint-url %s \"$@\"\n", aws, endpoint), 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"PGQUEUE_URL=" + serveStore(t, store) + "/api", "PATH=" + strings.Join([]string{dir, programs(t), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none", "AWS_DEFAULT_REGION=us-east-1", "bash", "-euo", "pipefail", "-c",
	}
	sh := func(script string) string {
		t.Helper()
		return strings.TrimSpace(string(run(t, dir, nil, "env", append(slices.Clone(env), script)...)))
	}
	url := sh("pgqueue create-queue mail >/dev/null; aws sqs create-queue --queue-name mail --output text")
	type message struct {
		ID    string `json:"Id"`
		Body  string `json:"MessageBody"`
		Delay int    `json:"DelaySeconds"`
	}
	messages := []message{{"late", "no JSON", 900}}
	for n := range 3 {
		messages = append(messages, message{strconv.Itoa(n), payloadOf("SQS", n), 0})
	}
	entries, err := json.Marshal(messages)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "entries"), entries, 0o600); err != nil {
		t.Fatal(err)
	}
	sh("aws sqs send-message-batch --entries file://entries --queue-url " + url + " >/dev/null")
	sh(bridge + "\nsqs_bridge " + url + " mail")

	created, err := store.ListTasks(t.Context(), queue.DefaultNamespace, queue.TaskQuery{Page: queue.Page{Limit: 100}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, task := range created.Tasks {
		seen[string(task.Payload)] = task.Key != ""
	}
	for n := range 3 {
		if !seen[payloadOf("SQS", n)] {
			t.Errorf("message %d has no task with a key", n)
		}
	}
	left := sh("aws sqs get-queue-attributes --queue-url " + url + " --attribute-names All --query " +
		"'Attributes.[ApproximateNumberOfMessages,ApproximateNumberOfMessagesNotVisible,ApproximateNumberOfMessagesDelayed]' --output text")
	if len(created.Tasks) != 3 || strings.Join(strings.Fields(left), " ") != "0 0 1" {
		t.Errorf("%d tasks, want 3; waiting, hidden and delayed messages are %s", len(created.Tasks), left)
	}

	sh("pgqueue export --queue mail >mail.ndjson\n" + back + "\ndue mail.ndjson | sqs_back " + url)
	bodies := sh("aws sqs receive-message --max-number-of-messages 10 --queue-url " + url + " --output json | jq -c '.Messages | map(.Body | fromjson) | sort | .[]'")
	var want []string
	for n := range 3 {
		want = append(want, payloadOf("SQS", n))
	}
	if after, err := store.ListTasks(t.Context(), queue.DefaultNamespace, queue.TaskQuery{Page: queue.Page{Limit: 100}}); err != nil || len(after.Tasks) != 0 || bodies != strings.Join(want, "\n") {
		t.Errorf("%d tasks stay (%v), the messages are %s", len(after.Tasks), err, bodies)
	}
}
