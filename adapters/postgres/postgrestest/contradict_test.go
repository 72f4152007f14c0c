package postgrestest_test

import (
	"fmt"
	"maps"
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
		free  = `update pgqueue.lease set held = 2, task_ids[2] = 0`
		waits = `insert into pgqueue.group_waiting (turn, task_id, queue_id, lane, attempt, grp)
			select l.task_ids[2], l.task_ids[2], l.queue_id, 0, 0, l.grps[2] from pgqueue.lease l limit 1`
		elsewhere = `insert into pgqueue.group_waiting (turn, task_id, queue_id, lane, attempt, grp)
			select l.task_ids[2] + 1000, l.task_ids[2], l.queue_id, 65536, 0, 42 from pgqueue.lease l limit 1`
	)
	type contradiction struct {
		what  string // the main one that is to be named
		plant []string
		want  queue.Status
		flow  queue.FlowMeta
		waits int64 // tasks that wait for their group in the end
	}
	cases := []contradiction{
		{what: "leased twice", plant: []string{again}, want: queue.StatusRetained},
		{what: "leased twice", plant: []string{newer}, want: queue.StatusRetained},
		{what: "leased and finished", plant: []string{finish}, want: queue.StatusReleased},
		{what: "leased and finished", plant: []string{finish, again, newer}, want: queue.StatusReleased},
		{what: "ready and finished", plant: []string{finish, ready, state, free}, want: queue.StatusReleased},
		{what: "delayed and finished", plant: []string{finish, delayed, free}, want: queue.StatusReleased},
		{what: "ready and leased", plant: []string{ready, state}, want: queue.StatusRetained},
		{what: "delayed and leased", plant: []string{delayed}, want: queue.StatusRetained},
		{what: "ready twice", plant: []string{ready, ready, state, free}, want: queue.StatusRetry},
		{what: "ready and delayed", plant: []string{ready, state, delayed, free}, want: queue.StatusRetry},
		{what: "ready out of place", plant: []string{ready, free}, want: queue.StatusRetry},
		{what: "delayed out of place", plant: []string{delayed, free}, want: queue.StatusNew},
		{what: "delayed twice", plant: []string{delayed, due, later, free}, want: queue.StatusNew},
		{what: "counted wrongly", plant: []string{`update pgqueue.lease set held = 7`}, want: queue.StatusRetained},
	}
	// A task that waits for its group has the same places, in both kinds of queues.
	for _, flow := range []queue.FlowMeta{{GroupConcurrency: new(5)}, {Order: new(queue.OrderFIFO), FIFOBatch: new(3)}} {
		cases = append(cases,
			contradiction{what: "waiting for its group and leased", plant: []string{waits}, want: queue.StatusRetained, flow: flow},
			contradiction{what: "waiting for its group and leased", plant: []string{elsewhere}, want: queue.StatusRetained, flow: flow},
			contradiction{what: "waiting for its group and finished", plant: []string{finish, waits, free}, want: queue.StatusReleased, flow: flow},
			contradiction{what: "ready and waiting for its group", plant: []string{ready, state, waits, free}, want: queue.StatusRetry, flow: flow},
			contradiction{what: "ready and waiting for its group", plant: []string{ready, waits, free}, want: queue.StatusRetry, flow: flow},
			contradiction{what: "delayed and waiting for its group", plant: []string{delayed, due, waits, free}, want: queue.StatusNew, flow: flow, waits: 1},
			contradiction{what: "delayed and waiting for its group", plant: []string{delayed, waits, free}, want: queue.StatusNew, flow: flow, waits: 1},
			contradiction{what: "waiting for its group twice", plant: []string{waits, elsewhere, free}, want: queue.StatusNew, flow: flow, waits: 1},
			contradiction{what: "waiting for its group out of place", plant: []string{elsewhere, free}, want: queue.StatusNew, flow: flow, waits: 1},
		)
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s, by %d steps%s", c.what, len(c.plant), strings.Repeat(", in order", int(b2i(c.flow.Order != nil)))), func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s := open(t, dsn)
			makeFlowQueue(t, s, "tests", "mail", c.flow)
			makeQueue(t, s, "tests", "innocent")
			makeGroupTask(t, s, "tests", "mail", "a", 3)
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Queues: []string{"mail"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 3}}})
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
			if st, err := s.QueueStats(t.Context(), "tests", "mail"); err != nil || st[0].GroupWaiting != c.waits {
				t.Errorf("%d tasks wait for their group, want %d: %v", st[0].GroupWaiting, c.waits, err)
			}
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
			if c.waits == 0 {
				return
			}
			out, err = s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Queues: []string{"mail"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 3}}})
			if err != nil || len(out[0]) != 1 || out[0][0].ID != task.ID {
				t.Errorf("the task that waited is not given: %v, %v", out, err)
			}
			if st, err := s.QueueStats(t.Context(), "tests", "mail"); err != nil || st[0].GroupWaiting != 0 {
				t.Errorf("%d tasks wait for their group in the end: %v", st[0].GroupWaiting, err)
			}
		})
	}
}

// TestGroupWaitingInRepairs has the counts of a queue and its rows disagree about tasks that wait for their group, beside a
// contradiction: the repair sets the counts by the rows, markers of creates included.
func TestGroupWaitingInRepairs(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for name, flow := range map[string]queue.FlowMeta{
		"places": {GroupConcurrency: new(2)},
		"order":  {Order: new(queue.OrderFIFO)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s := open(t, dsn)
			fillGroups(t, s, "tests", flow)
			before, err := s.QueueStats(t.Context(), "tests", "mail")
			if err != nil || before[0].GroupWaiting < 5 {
				t.Fatalf("%+v, %v", before, err)
			}

			sql(t, connect(t, dsn), `update pgqueue.lease set held = 7`,
				`insert into pgqueue.event (at, queue_id, kind, was, "is", n) select pgqueue.clock(), id, 0, 0, 8, 40 from pgqueue.queue`,
				`insert into pgqueue.event (at, queue_id, kind, was, "is", n) select pgqueue.clock(), id, 0, 1, 0, 3 from pgqueue.queue`)
			if _, err := s.RepairContradictions(t.Context()); err != nil {
				t.Fatal(err)
			}
			after, err := s.QueueStats(t.Context(), "tests", "mail")
			if err != nil || after[0].GroupWaiting != before[0].GroupWaiting || !maps.Equal(after[0].Counts, before[0].Counts) {
				t.Errorf("%+v, before %+v, %v", after[0], before[0], err)
			}
		})
	}
}

// fillGroups makes a queue mail with a held task of each of two groups, and others that wait for them: some that a retain has met,
// and some of a create that it has not.
func fillGroups(t *testing.T, s *postgres.Store, namespace string, flow queue.FlowMeta) {
	t.Helper()
	makeFlowQueue(t, s, namespace, "mail", flow)
	makeGroupTask(t, s, namespace, "mail", "a", 6)
	makeGroupTask(t, s, namespace, "mail", "b", 3)
	for range 2 {
		if _, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: namespace, Requests: []queue.RetainShare{{Worker: "w", Limit: 20}}}); err != nil {
			t.Fatal(err)
		}
	}
	makeGroupTask(t, s, namespace, "mail", "a", 4)
}

func makeFlowQueue(t *testing.T, s *postgres.Store, namespace, name string, flow queue.FlowMeta) {
	t.Helper()
	q, err := queue.NewQueue(namespace, queue.QueueMeta{Name: name, FlowMeta: flow})
	if err == nil {
		_, err = s.CreateQueue(t.Context(), q)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func makeGroupTask(t *testing.T, s *postgres.Store, namespace, name, group string, n int) {
	t.Helper()
	c := queue.Create{Namespace: namespace, Atomic: true}
	for range n {
		c.Tasks = append(c.Tasks, queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Group: group}})
	}
	if _, err := s.CreateTasks(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// TestRepairGoesOn has the database refuse the repair of two queues: those of the others pass, in all tables, and the error names both.
func TestRepairGoesOn(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	for _, namespace := range []string{"bad", "worse", "good", "tests"} {
		makeQueue(t, s, namespace, "mail")
		makeTask(t, s, namespace, "mail", "mail", "mail")
		if _, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: namespace, Requests: []queue.RetainShare{{Worker: "w", Limit: 3}}}); err != nil {
			t.Fatal(err)
		}
	}
	refused := value[string](t, conn, "select string_agg(id::text, ', ') from pgqueue.queue where namespace in ('bad', 'worse')")
	sql(t, conn,
		"update pgqueue.lease set held = 7",
		// A search for these comes last.
		`insert into pgqueue.lease (token, queue_id, retained_at, expires_at, granted, worker, held, task_ids)
			select nextval('pgqueue.token'), queue_id, retained_at, expires_at, granted, 'w2', 1, array[task_ids[2]] from pgqueue.lease`)
	refuse(t, conn, "update", "lease", "row.queue_id in ("+refused+")")

	done, err := s.RepairContradictions(t.Context())
	if err == nil || strings.Count(err.Error(), "refused") != 2 ||
		!strings.Contains(err.Error(), "queue mail of namespace bad") || !strings.Contains(err.Error(), "queue mail of namespace worse") {
		t.Errorf("the error is %v, want one that names both queues", err)
	}
	for _, c := range done {
		if c.Namespace != "good" && c.Namespace != "tests" {
			t.Errorf("%+v counts as repaired", c)
		}
	}
	found, _, err := s.FindContradictions(t.Context())
	if err != nil || len(found) == 0 || len(done) == 0 {
		t.Fatalf("%d contradictions are left after %d repairs: %v", len(found), len(done), err)
	}
	for _, c := range found {
		if c.Namespace != "bad" && c.Namespace != "worse" {
			t.Errorf("%+v is left", c)
		}
	}

	sql(t, conn, "drop trigger refuse_lease on pgqueue.lease")
	if _, err := s.RepairContradictions(t.Context()); err != nil {
		t.Fatal(err)
	}
	noContradictions(t, s)
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
	wantFinding(t, diagnose(t, s), "contradictions", queue.LevelFail, "1000: task ")

	finish(1_001)
	if found, more, err := s.FindContradictions(t.Context()); err != nil || len(found) != 1_000 || !more {
		t.Errorf("%d found, more: %t, %v", len(found), more, err)
	}
	wantFinding(t, diagnose(t, s), "contradictions", queue.LevelFail, "more than 1000: task ")

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
