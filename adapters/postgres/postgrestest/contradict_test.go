package postgrestest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestContradictions plants each contradiction that the check knows beside innocent tasks, and has it found, named and settled:
// the task ends in one state, the counts agree with the rows, and no other task is touched.
func TestContradictions(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	const (
		finish = `insert into pgqueue.done (task_id, finished_at, token, queue_id, status, attempt) select l.task_ids[2], now(), l.token + 1, l.queue_id, 4, 1 from pgqueue.lease l`
		ready  = `insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt) select nextval('pgqueue.turn'), l.task_ids[2], l.queue_id, 0, 1 from pgqueue.lease l limit 1`
		state  = `insert into pgqueue.state (queue_id, task_id, turn, attempt, retries) select r.queue_id, r.task_id, r.turn, 1, 2 from pgqueue.ready r where r.attempt = 1 limit 1
			on conflict (queue_id, task_id) do update set turn = excluded.turn`
		delayed = `insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt) select now() + interval '1 day', l.task_ids[2], l.queue_id, 0, 0 from pgqueue.lease l limit 1`
		due     = `insert into pgqueue.state (queue_id, task_id, delayed_at, attempt, retries) select queue_id, task_id, due_at, 0, 2 from pgqueue.delayed
			on conflict (queue_id, task_id) do update set delayed_at = excluded.delayed_at`
		later = `insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt) select due_at + interval '1 day', task_id, queue_id, priority, attempt from pgqueue.delayed`
		again = `insert into pgqueue.lease (token, part, queue_id, retained_at, expires_at, granted, worker, held, task_ids)
			select token, 2, queue_id, retained_at, expires_at - interval '1 minute', granted, worker, 1, array[0, task_ids[2], 0] from pgqueue.lease`
		newer = `insert into pgqueue.lease (token, queue_id, retained_at, expires_at, granted, worker, held, task_ids)
			select nextval('pgqueue.token'), queue_id, retained_at, expires_at, granted, 'w2', 1, array[task_ids[2]] from pgqueue.lease`
		free = `update pgqueue.lease set held = 2, task_ids[2] = 0`
	)
	for _, c := range []struct {
		what  string // the main one that is to be named
		plant []string
		want  queue.Status
	}{
		{"leased twice", []string{again}, queue.StatusRetained},
		{"leased twice", []string{newer}, queue.StatusRetained},
		{"leased and finished", []string{finish}, queue.StatusReleased},
		{"leased and finished", []string{finish, again, newer}, queue.StatusReleased},
		{"ready and finished", []string{finish, ready, state, free}, queue.StatusReleased},
		{"delayed and finished", []string{finish, delayed, free}, queue.StatusReleased},
		{"ready and leased", []string{ready, state}, queue.StatusRetained},
		{"delayed and leased", []string{delayed}, queue.StatusRetained},
		{"ready twice", []string{ready, ready, state, free}, queue.StatusRetry},
		{"ready and delayed", []string{ready, state, delayed, free}, queue.StatusRetry},
		{"ready out of place", []string{ready, free}, queue.StatusRetry},
		{"delayed out of place", []string{delayed, free}, queue.StatusNew},
		{"delayed twice", []string{delayed, due, later, free}, queue.StatusNew},
		{"held count", []string{`update pgqueue.lease set held = 7`}, queue.StatusRetained},
	} {
		t.Run(fmt.Sprintf("%s, by %d steps", c.what, len(c.plant)), func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s := open(t, dsn)
			makeQueue(t, s, "tests", "mail")
			makeQueue(t, s, "tests", "innocent")
			makeTask(t, s, "tests", "mail", "mail", "mail")
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 3}}})
			if err != nil || len(out[0]) != 3 {
				t.Fatal(out, err)
			}
			task := out[0][1]
			makeTask(t, s, "tests", "innocent", "innocent")
			noContradictions(t, s)

			sql(t, connect(t, dsn), c.plant...)
			found, _, err := s.FindContradictions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			named := false
			for _, f := range found {
				if f.Namespace != "tests" || f.Queue != "mail" || f.TaskID != 0 && f.TaskID != task.ID {
					t.Errorf("%+v is not at fault", f)
				}
				named = named || f.What == c.what
			}
			if !named {
				t.Fatalf("found %+v, want %s", found, c.what)
			}
			if f, err := s.CheckContradictions(t.Context()); err != nil || f.Level != queue.LevelFail || !strings.Contains(f.Advice, "--repair") {
				t.Errorf("%+v, %v", f, err)
			}

			if _, err := s.RepairContradictions(t.Context()); err != nil {
				t.Fatal(err)
			}
			noContradictions(t, s)
			held := int64(2)
			if c.want == queue.StatusRetained {
				held++
			}
			counts(t, s, "mail", map[queue.Status]int64{queue.StatusRetained: held, c.want: max(1, held*b2i(c.want == queue.StatusRetained))})
			counts(t, s, "innocent", map[queue.Status]int64{queue.StatusNew: 2})
			tasks, err := s.GetTasks(t.Context(), "tests", []int64{task.ID}, false)
			if err != nil || len(tasks) != 1 || tasks[0].Status != c.want {
				t.Fatalf("%+v, %v: want %s", tasks, err, c.want)
			}
			for _, other := range []*queue.Task{out[0][0], out[0][2]} {
				rs, err := s.ReleaseTasks(t.Context(), "tests", []queue.Release{{ID: other.ID, Token: other.Lease.Token, Outcome: queue.OutcomeSuccess}})
				if err != nil || rs[0].Err != nil {
					t.Errorf("task %d beside it: %v, %v", other.ID, rs, err)
				}
			}
			noContradictions(t, s)
		})
	}
}

// TestContradictionsAboveTheLimit plants more contradictions than a search returns: doctor says that there are more, and the
// repair corrects all.
func TestContradictionsAboveTheLimit(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeQueue(t, s, "tests", "quiet")
	load{waiting: 1_300, delayed: 1, done: 32}.fill(t, s, conn)
	finish := func(n int) {
		sql(t, conn, fmt.Sprintf(`insert into pgqueue.done (task_id, finished_at, token, queue_id, status, attempt)
			select task_id + g, now(), 0, queue_id, 4, 1 from pgqueue.ready cross join lateral generate_series(0, n - 1) g
			order by 1 limit %d on conflict do nothing`, n))
	}

	finish(1_000)
	if found, more, err := s.FindContradictions(t.Context()); err != nil || len(found) != 1_000 || more {
		t.Errorf("%d found, more: %t, %v", len(found), more, err)
	}
	wantFinding(t, diagnose(t, s), "contradictions", queue.LevelFail, "1000: tests/")

	finish(1_001)
	if found, more, err := s.FindContradictions(t.Context()); err != nil || len(found) != 1_000 || !more {
		t.Errorf("%d found, more: %t, %v", len(found), more, err)
	}
	wantFinding(t, diagnose(t, s), "contradictions", queue.LevelFail, "more than 1000: tests/")

	finish(1_200)
	if settled, err := s.RepairContradictions(t.Context()); err != nil || len(settled) != 1_200 {
		t.Errorf("%d settled, %v", len(settled), err)
	}
	noContradictions(t, s)
}

// TestContradictionsBehindABacklog has a contradiction as the last row of each table, behind several steps of rows without one:
// the look finds and settles each, step by step, and reports how far it has come.
func TestContradictionsBehindABacklog(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeQueue(t, s, "tests", "quiet")
	load{waiting: 70_000, delayed: 21_000, done: 32}.fill(t, s, conn)
	if _, err := s.Maintain(t.Context(), queue.ChoreFold); err != nil {
		t.Fatal(err)
	}
	out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Queues: []string{"mail"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 300}}})
	if err != nil || len(out[0]) != 300 {
		t.Fatal(len(out[0]), err)
	}
	if found, _, err := s.FindContradictions(t.Context()); err != nil || len(found) != 0 {
		t.Fatalf("before: %+v, %v", found, err)
	}

	const finish = `insert into pgqueue.done (task_id, finished_at, token, queue_id, status, attempt) `
	sql(t, conn,
		finish+`select task_id + n - 1, now(), 0, queue_id, 4, 1 from (select * from pgqueue.ready order by queue_id desc, lane desc, turn desc limit 1) r`,
		finish+`select task_id, now(), 0, queue_id, 4, 1 from (select * from pgqueue.delayed order by due_at desc, task_id desc limit 1) y`,
		finish+`select task_ids[1], now(), 0, queue_id, 4, 1 from (select * from pgqueue.lease order by token desc limit 1) l`,
	)
	kinds := func(found []postgres.Contradiction) (all []string) {
		for _, c := range found {
			all = append(all, c.What)
		}
		return all
	}
	want := []string{"delayed and finished", "leased and finished", "ready and finished"}

	steps := map[string][]int64{}
	watched := postgres.WithProgress(t.Context(), func(table string, rows int64) { steps[table] = append(steps[table], rows) })
	if found, _, err := s.FindContradictions(watched); err != nil || !slices.Equal(kinds(found), want) {
		t.Errorf("found %+v, %v", found, err)
	}
	for table, n := range map[string]int{"ready": 2, "delayed": 2, "lease": 1} {
		if len(steps[table]) < n || !slices.IsSorted(steps[table]) {
			t.Errorf("%s: %v, want at least %d steps", table, steps[table], n)
		}
	}
	wantFinding(t, diagnose(t, s), "contradictions", queue.LevelFail, "ready and finished")

	if settled, err := s.RepairContradictions(t.Context()); err != nil || !slices.Equal(kinds(settled), want) {
		t.Errorf("settled %+v, %v", settled, err)
	}
	noContradictions(t, s)
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func counts(t *testing.T, s *postgres.Store, name string, want map[queue.Status]int64) {
	t.Helper()
	st, err := s.QueueStats(t.Context(), "tests", name)
	if err != nil || len(st) != 1 {
		t.Fatal(st, err)
	}
	for status, n := range st[0].Counts {
		if n != want[status] {
			t.Errorf("%s has %d %s, want %d", name, n, status, want[status])
		}
	}
}
