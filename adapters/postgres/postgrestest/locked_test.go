package postgrestest_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The tests of this file hold rows of waiting tasks in an open transaction of a caller.

// replacing replaces the task of a key of group g within tx.
var replacing = map[string]func(t *testing.T, s *postgres.Store, tx pgx.Tx, key string) error{
	"in Go": func(t *testing.T, s *postgres.Store, tx pgx.Tx, key string) error {
		in, err := s.InTx(tx, "tests")
		if err == nil {
			rule := queue.KeyRule{OnConflict: queue.ConflictReplace}
			_, err = in.CreateTask(t.Context(), "q", queue.TaskMeta{Payload: queue.EmptyJSON, Key: key, Group: "g", KeyRule: rule})
		}
		return err
	},
	"in SQL": func(t *testing.T, _ *postgres.Store, tx pgx.Tx, key string) error {
		const create = `select pgqueue.create_task('q', '{}'::json, key => $1, namespace => 'tests', options => '{"on_conflict": "replace", "group": "g"}')`
		_, err := tx.Exec(t.Context(), create, key)
		return err
	},
}

// TestReplaceHoldsUpItsGroupAlone: while a replaced task of a group is locked, retains get those of all other groups. Behind the
// end of the transaction the group goes on in its order, also after a rollback, which leaves no marker.
func TestReplaceHoldsUpItsGroupAlone(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for name, flow := range map[string]queue.FlowMeta{
		"order":         {Order: new(queue.OrderFIFO)},
		"order, batch":  {Order: new(queue.OrderFIFO), FIFOBatch: new(3)},
		"order, shares": {Order: new(queue.OrderFIFO), Fair: new(true)},
		"places":        {GroupConcurrency: new(1)},
	} {
		for how, replace := range replacing {
			for _, commit := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, commit %v", name, how, commit), func(t *testing.T) {
					t.Parallel()
					testReplacedGroup(t, flow, replace, commit)
				})
			}
		}
	}
}

func testReplacedGroup(t *testing.T, flow queue.FlowMeta, replace func(*testing.T, *postgres.Store, pgx.Tx, string) error, commit bool) {
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	firstPartition(t, s)
	makeFlowQueue(t, s, "tests", "q", flow)
	const others = 20
	c := queue.Create{Namespace: "tests", Atomic: true}
	for i := range 5 + others {
		task := queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Group: fmt.Sprint("h", i)}}
		if i < 5 {
			task.Group, task.Key = "g", fmt.Sprint("k", i)
		}
		c.Tasks = append(c.Tasks, task)
	}
	made, err := s.CreateTasks(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	retain := func(limit int) []*queue.Task {
		t.Helper()
		out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: limit}}})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	end := func(tasks ...*queue.Task) {
		t.Helper()
		var releases []queue.Release
		for _, task := range tasks {
			releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
		}
		if _, err := s.ReleaseTasks(t.Context(), "tests", releases); err != nil {
			t.Fatal(err)
		}
	}

	// The first task of the group ends while the second one is locked.
	first := retain(1)
	if len(first) != 1 || first[0].ID != made[0].Task.ID {
		t.Fatalf("%+v", first)
	}
	if flow.Order == nil {
		if n := len(retain(5)); n != 5 { // the tasks behind the first one wait for their group from now on
			t.Fatal(n)
		}
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(t, s, tx, "k1"); err != nil {
		t.Fatal(err)
	}
	end(first...)

	held := map[string]int{}
	for range 4 {
		for _, task := range retain(100) {
			held[task.Group]++
		}
		maintain(t, s, queue.ChorePromote)
	}
	ofGroup, groups := held["g"], len(held)
	if flow.Order == nil { // the third takes the place
		ofGroup, groups = ofGroup-1, groups+4
	}
	if ofGroup != 0 || groups < others {
		t.Errorf("beside the open transaction the tasks %v are retained", held)
	}
	if rows := value[int](t, conn, "select count(*) from pgqueue.group_wake"); flow.Order != nil && rows > 2 {
		t.Errorf("%d looks at the group are planned", rows)
	}
	if err := replace(t, s, tx, "k4"); err != nil { // in the order of locks, no deadlock
		t.Fatal(err)
	}

	stop := tx.Rollback
	if commit {
		stop = tx.Commit
	}
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if flow.Order == nil {
		return
	}
	want := []string{"k1", "k2", "k3", "k4"}
	if commit {
		want = []string{"k2", "k3", "k1", "k4"}
	}
	var got []string
	waitFor(t, func() (bool, string) {
		maintain(t, s, queue.ChorePromote)
		tasks := retain(100)
		for _, task := range tasks {
			got = append(got, task.Key)
		}
		end(tasks...)
		return len(got) >= len(want), fmt.Sprint(got)
	})
	if !slices.Equal(got, want) {
		t.Errorf("the group went on with %v, want %v", got, want)
	}
	noContradictions(t, s)
}

// TestPausesBesideALockedQueue: a release that pauses a queue, or a group of it, waits for no other transaction. Other releases of the
// same call end.
func TestPausesBesideALockedQueue(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, scope := range []queue.Scope{queue.ScopeQueue, queue.ScopeGroup} {
		t.Run(string(scope), func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, conn := open(t, dsn), connect(t, dsn)
			firstPartition(t, s)
			const n = 12
			c := queue.Create{Namespace: "tests", Atomic: true}
			for i := range n {
				makeFlowQueue(t, s, "tests", fmt.Sprint("q", i), queue.FlowMeta{GroupConcurrency: new(1)})
				c.Tasks = append(c.Tasks, queue.NewTask{Queue: fmt.Sprint("q", i), TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Group: "g"}})
			}
			if _, err := s.CreateTasks(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: n}}})
			if err != nil || len(out[0]) != n {
				t.Fatal(len(out[0]), err)
			}
			var releases []queue.Release
			for _, task := range out[0] {
				releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSnooze, Delay: 1e9, Scope: scope})
			}

			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "select from pgqueue.queue where id = (select min(id) from pgqueue.queue) for update"); err != nil {
				t.Fatal(err)
			}
			answers, err := s.ReleaseTasks(t.Context(), "tests", releases)
			if err != nil {
				t.Fatal(err)
			}
			var again []queue.Release
			for i, one := range answers {
				switch {
				case queue.IsLocked(one.Err):
					again = append(again, releases[i])
				case one.Err != nil:
					t.Errorf("a release beside the locked queue: %v", one.Err)
				}
			}
			if len(again) != 1 {
				t.Errorf("%d of %d releases wait for the locked queue, want 1", len(again), n)
			}

			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			answers, err = s.ReleaseTasks(t.Context(), "tests", again)
			if err != nil || answers[0].Err != nil {
				t.Fatal(answers, err)
			}
		})
	}
}

// TestMarkerBehindMetTasks: a task that a search meets before the marker of its group starts, although the group was held up then.
func TestMarkerBehindMetTasks(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for name, flow := range map[string]queue.FlowMeta{"order": {Order: new(queue.OrderFIFO)}, "places": {GroupConcurrency: new(1)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, conn := open(t, dsn), connect(t, dsn)
			firstPartition(t, s)
			makeFlowQueue(t, s, "tests", "q", flow)
			create := func() {
				t.Helper()
				makeGroupTask(t, s, "tests", "q", "g", 1)
			}
			retain := func() []*queue.Task {
				t.Helper()
				out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 5}}})
				if err != nil {
					t.Fatal(err)
				}
				return out[0]
			}
			create()
			first := retain()
			if len(first) != 1 {
				t.Fatal(first)
			}

			// One search reads 1,000 markers: those of other groups first, and then that of the end of the first task. In a FIFO queue
			// a task that comes back has a row of ready.
			create()
			sql(t, conn, `insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, grp)
				select nextval('pgqueue.marker'), 0, (select id from pgqueue.queue), 2147483647, 0, 0, g from generate_series(1, 1000) g`)
			if _, err := s.ReleaseTasks(t.Context(), "tests", []queue.Release{{ID: first[0].ID, Token: first[0].Lease.Token, Outcome: queue.OutcomeSuccess}}); err != nil {
				t.Fatal(err)
			}
			got := slices.Concat(retain(), retain(), retain())
			if len(got) != 1 {
				t.Errorf("%d tasks are retained behind the end of the first one, want 1", len(got))
			}
			noContradictions(t, s)
		})
	}
}
