package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestHoldsAtOnce has calls of one holder meet at the lease row of a batch, which another transaction has locked: heartbeats
// do not wait for it, releases of the row's tasks do, and nothing is lost between them.
func TestHoldsAtOnce(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	type call = func(t *testing.T, s queue.Store, tasks []*queue.Task) error
	for _, c := range []struct {
		sentence string
		during   []call // each is answered while the row is locked
		behind   call   // is answered when it is free
	}{
		{"a release loses nothing to a heartbeat of a part of the batch", []call{beatSome}, releaseSome},
		{"a heartbeat loses nothing to one of a part of the batch", []call{beatSome, beatSome}, beatAll},
		{"a heartbeat of all loses nothing to one of a part", []call{beatSome, beatAll}, releaseSome},
		{"a heartbeat of a part loses nothing to one of all", []call{beatAll, beatSome}, releaseSome},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s := open(t, dsn)
			makeQueue(t, s, "tests", "mail")
			makeTask(t, s, "tests", "mail", "mail", "mail", "mail")
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 4}}})
			if err != nil {
				t.Fatal(err)
			}
			conn := connect(t, dsn)
			sql(t, conn, "begin", "select 1 from pgqueue.lease for update")
			for _, during := range c.during {
				if err := during(t, s, out[0]); err != nil {
					t.Error(err)
				}
			}
			answer := make(chan error, 1)
			go func() { answer <- c.behind(t, s, out[0]) }()
			sql(t, conn, "commit")
			if err := <-answer; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHeartbeatBesideARow extends a lease while its row is locked, and lets the row's time pass: the heartbeat counts.
func TestHeartbeatBesideARow(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := open(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail", "mail", "mail")
	out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	tasks := out[0]
	conn := connect(t, dsn)
	sql(t, conn, "begin", "select 1 from pgqueue.lease for update")
	beats, err := s.HeartbeatTasks(t.Context(), "tests", []queue.Heartbeat{
		{ID: tasks[0].ID, Token: tasks[0].Lease.Token, Lease: 5 * time.Hour, Progress: []byte(`7`)},
		{ID: tasks[1].ID, Token: tasks[1].Lease.Token, Lease: 6 * time.Hour},
		{ID: tasks[0].ID, Token: tasks[1].Lease.Token},
	})
	if err != nil || beats[0].Err != nil || beats[1].Err != nil || !errors.Is(beats[2].Err, queue.ErrLeaseLost) {
		t.Fatal(beats, err)
	}
	if beats[0].Lease.Duration != 5*time.Hour || beats[1].Lease.ExpiresAt.Before(beats[0].Lease.ExpiresAt) {
		t.Errorf("leases %+v", beats)
	}
	// The row's own end comes while it is locked: nothing is rescued then, and later only tasks without an extension.
	sql(t, conn, "update pgqueue.lease set expires_at = pgqueue.clock() - interval '1 s'")
	rescue := func() int {
		t.Helper()
		m, err := s.Maintain(t.Context(), queue.ChoreRescue)
		if err != nil {
			t.Fatal(err)
		}
		return m.Moved
	}
	if n := rescue(); n != 0 {
		t.Fatalf("%d tasks of a locked row were rescued", n)
	}
	sql(t, conn, "commit")
	if n := rescue(); n != 1 {
		t.Fatalf("%d tasks were rescued, want the one that was not extended", n)
	}
	if n := rescue(); n != 0 {
		t.Fatalf("%d more tasks were rescued", n)
	}
	found, err := s.GetTasks(t.Context(), "tests", []int64{tasks[0].ID}, false)
	if err != nil || len(found) != 1 || string(found[0].Progress) != `7` {
		t.Fatal(found, err)
	}
	released, err := s.ReleaseTasks(t.Context(), "tests", []queue.Release{
		{ID: tasks[0].ID, Token: tasks[0].Lease.Token, Outcome: queue.OutcomeSuccess},
		{ID: tasks[1].ID, Token: tasks[1].Lease.Token, Outcome: queue.OutcomeSuccess},
		{ID: tasks[2].ID, Token: tasks[2].Lease.Token, Outcome: queue.OutcomeSuccess},
	})
	if err != nil || released[0].Err != nil || released[1].Err != nil || !errors.Is(released[2].Err, queue.ErrLeaseLost) {
		t.Fatal(released, err)
	}
	if n := value[int](t, conn, "select count(*) from pgqueue.lease_beat"); n != 0 {
		t.Errorf("%d heartbeats are left beside rows", n)
	}
}

// TestHeartbeatBesideARowStays has a heartbeat and a rescue put an end beside a row into it while another heartbeat writes a
// later end there: the later one stays.
func TestHeartbeatBesideARowStays(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for name, merge := range map[string]func(ctx context.Context, s *postgres.Store, tasks []*queue.Task) error{
		"a heartbeat": func(ctx context.Context, s *postgres.Store, tasks []*queue.Task) error {
			_, err := s.HeartbeatTasks(ctx, "tests", []queue.Heartbeat{{ID: tasks[0].ID, Token: tasks[0].Lease.Token}})
			return err
		},
		"a rescue": func(ctx context.Context, s *postgres.Store, _ []*queue.Task) error {
			_, err := s.Maintain(ctx, queue.ChoreRescue)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s := open(t, dsn)
			makeQueue(t, s, "tests", "mail")
			makeTask(t, s, "tests", "mail")
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			conn := connect(t, dsn)
			sql(t, conn, "begin", "select 1 from pgqueue.lease for update")
			beats, err := s.HeartbeatTasks(t.Context(), "tests", []queue.Heartbeat{
				{ID: out[0][0].ID, Token: out[0][0].Lease.Token, Lease: 5 * time.Hour},
			})
			if err != nil || beats[0].Err != nil {
				t.Fatal(beats, err)
			}
			sql(t, conn, "commit")
			if name == "a rescue" {
				sql(t, conn, "update pgqueue.lease set expires_at = pgqueue.clock() - interval '1 s'")
			}

			sql(t, conn, "begin", "update pgqueue.lease_beat set expires_at = expires_at + interval '1 hour'")
			answer := make(chan error, 1)
			go func() { answer <- merge(t.Context(), s, out[0]) }()
			watch := connect(t, dsn)
			for !value[bool](t, watch, `select exists (select 1 from pg_stat_activity
				where wait_event_type = 'Lock' and datname = current_database() and query like '%lease_beat%')`) {
				select {
				case err := <-answer:
					t.Fatalf("the end beside the row was not read: %v", err)
				default:
				}
			}
			sql(t, conn, "commit")
			if err := <-answer; err != nil {
				t.Fatal(err)
			}
			if n := value[int](t, conn, "select count(*) from pgqueue.lease_beat"); n != 1 {
				t.Errorf("%d ends are beside rows, want the later one", n)
			}
		})
	}
}

// TestLapsedHeartbeatBesideARow extends a task beside its locked lease row and lets both ends pass before a rescue. The next
// heartbeat without a length gets the length that was granted last, also behind the pruner.
func TestLapsedHeartbeatBesideARow(t *testing.T) {
	t.Parallel()
	needsDatabase(t)

	dsn := postgrestest.URL(t)
	s := open(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail")
	out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	task := out[0][0]

	conn := connect(t, dsn)
	sql(t, conn, "begin", "select 1 from pgqueue.lease for update")
	beats, err := s.HeartbeatTasks(t.Context(), "tests", []queue.Heartbeat{{ID: task.ID, Token: task.Lease.Token, Lease: 8 * time.Hour}})
	if err != nil || beats[0].Err != nil {
		t.Fatal(beats, err)
	}
	sql(t, conn, "commit",
		"update pgqueue.lease set expires_at = pgqueue.clock() - interval '2 s'",
		"update pgqueue.lease_beat set expires_at = pgqueue.clock() - interval '1 s'")
	if _, err := s.Maintain(t.Context(), queue.ChorePrune); err != nil {
		t.Fatal(err)
	}

	beats, err = s.HeartbeatTasks(t.Context(), "tests", []queue.Heartbeat{{ID: task.ID, Token: task.Lease.Token}})
	if err != nil || beats[0].Err != nil || beats[0].Lease.Duration != 8*time.Hour {
		t.Errorf("got %+v, %v, want a lease of 8h", beats, err)
	}
	if n := value[int](t, conn, "select count(*) from pgqueue.lease_beat"); n != 0 {
		t.Errorf("%d heartbeats are left beside rows", n)
	}

	sql(t, conn, "insert into pgqueue.lease_beat values (1024, pgqueue.clock() - interval '1 s', 1)")
	if _, err := s.Maintain(t.Context(), queue.ChorePrune); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, conn, "select count(*) from pgqueue.lease_beat"); n != 0 {
		t.Errorf("%d heartbeats of rows that do not exist are left", n)
	}
}

// TestCancelBesideALockedRow cancels the tasks of two lease rows by a filter while an open transaction has locked the second.
// The request reaches the worker of the first at once, and a release there does not wait.
func TestCancelBesideALockedRow(t *testing.T) {
	t.Parallel()
	needsDatabase(t)

	dsn := postgrestest.URL(t)
	s := open(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail", "mail")
	var held []*queue.Task
	for range 2 {
		out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
		if err != nil || len(out[0]) != 1 {
			t.Fatal(out, err)
		}
		held = append(held, out[0]...)
	}

	conn := connect(t, dsn)
	sql(t, conn, "begin", fmt.Sprintf("select 1 from pgqueue.lease where token = %d for update", held[1].Lease.Token))
	type answer struct {
		bulk queue.Bulk
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		bulk, err := s.CancelTasks(t.Context(), "tests", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}})
		answers <- answer{bulk, err}
	}()

	waitFor(t, func() (bool, string) {
		tasks, err := s.GetTasks(t.Context(), "tests", []int64{held[0].ID}, false)
		if err != nil {
			t.Fatal(err)
		}
		return tasks[0].CancelRequested, "the request does not reach the task in the free row"
	})
	out, err := s.ReleaseTasks(queue.WithoutWait(t.Context()), "tests", []queue.Release{
		{ID: held[0].ID, Token: held[0].Lease.Token, Outcome: queue.OutcomeSuccess},
	})
	if err != nil || out[0].Err != nil {
		t.Error("the release waits for the cancel", out, err)
	}

	sql(t, conn, "commit")
	a := <-answers
	if a.err != nil || a.bulk.Matched != 2 || a.bulk.Moved != 2 || len(a.bulk.Errs) != 0 || a.bulk.Next != "" {
		t.Errorf("got %+v, want two tasks moved", a)
	}
	tasks, err := s.GetTasks(t.Context(), "tests", []int64{held[1].ID}, false)
	if err != nil || !tasks[0].CancelRequested {
		t.Error("the request does not reach the task in the row that was locked", tasks, err)
	}
}

// TestCancelOfALockedRow ends by the timeout of a call: the task is not lost, the answer says so.
func TestCancelOfALockedRow(t *testing.T) {
	t.Parallel()
	needsDatabase(t)

	dsn := postgrestest.URL(t)
	s := open(t, dsn, postgres.WithCallTimeout(time.Second))
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail")
	out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	task := out[0][0]
	conn := connect(t, dsn)
	sql(t, conn, "begin", "select 1 from pgqueue.lease for update")

	bulk, err := s.CancelTasks(t.Context(), "tests", queue.Selection{IDs: []int64{task.ID}})
	if err != nil || bulk.Moved != 0 || !queue.IsLocked(bulk.Errs[task.ID]) {
		t.Errorf("by its id: got %+v, %v", bulk, err)
	}
	bulk, err = s.CancelTasks(t.Context(), "tests", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}})
	if queue.KindOf(err) != queue.KindUnavailable || bulk.Moved != 0 {
		t.Errorf("by a filter: got %+v, %v", bulk, err)
	}
}

// TestRescueSkipsWhatItCannot has one lease row contradict the rest of the database: the others are rescued.
func TestRescueSkipsWhatItCannot(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	var said strings.Builder
	s, err := postgres.Open(t.Context(), dsn, postgres.WithLogger(slog.New(slog.NewTextHandler(&said, nil))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	makeQueue(t, s, "tests", "once")
	makeQueue(t, s, "tests", "innocent")
	none := 0
	if _, err := s.UpdateQueue(t.Context(), "tests", "once", queue.QueueMeta{Retries: &none}); err != nil {
		t.Fatal(err)
	}
	makeTask(t, s, "tests", "once", "innocent")
	for _, name := range []string{"once", "innocent"} {
		if _, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Queues: []string{name}, Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	conn := connect(t, dsn)
	// Held, and finished too: its rescue fails with a key that is there.
	sql(t, conn, `insert into pgqueue.done (task_id, finished_at, token, queue_id, status, attempt)
		select l.task_ids[1], now(), 0, l.queue_id, 4, 1 from pgqueue.lease l join pgqueue.queue q on q.id = l.queue_id where q.name = 'once'`)
	sql(t, conn, "update pgqueue.lease set expires_at = pgqueue.clock() - interval '1 s'")
	m, err := s.Maintain(t.Context(), queue.ChoreRescue)
	if err != nil || m.Moved != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := said.String(); !strings.Contains(got, "queue=once") || !strings.Contains(got, "namespace=tests") || !strings.Contains(got, "doctor") {
		t.Errorf("said %s", got)
	}
	if m, err = s.Maintain(t.Context(), queue.ChoreRescue); err != nil || m.Moved != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
}

func beatAll(t *testing.T, s queue.Store, tasks []*queue.Task) error {
	var beats []queue.Heartbeat
	for _, task := range tasks {
		beats = append(beats, queue.Heartbeat{ID: task.ID, Token: task.Lease.Token})
	}
	out, err := s.HeartbeatTasks(t.Context(), "tests", beats)
	for _, b := range out {
		if err == nil && b.Err != nil {
			err = fmt.Errorf("heartbeat: %w", b.Err)
		}
	}
	return err
}

func beatSome(t *testing.T, s queue.Store, tasks []*queue.Task) error {
	return beatAll(t, s, tasks[:2])
}

func releaseSome(t *testing.T, s queue.Store, tasks []*queue.Task) error {
	out, err := s.ReleaseTasks(t.Context(), "tests", []queue.Release{
		{ID: tasks[0].ID, Token: tasks[0].Lease.Token, Outcome: queue.OutcomeSuccess},
		{ID: tasks[3].ID, Token: tasks[3].Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true},
	})
	for _, r := range out {
		if err == nil && r.Err != nil {
			err = fmt.Errorf("release: %w", r.Err)
		}
	}
	return err
}
