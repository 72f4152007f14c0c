package postgrestest_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestHoldsAtOnce has calls of one holder meet at the lease row of a batch: the second waits for the first, which moves
// tasks to a row of their own.
func TestHoldsAtOnce(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct {
		sentence string
		first    func(t *testing.T, s queue.Store, tasks []*queue.Task) error
		second   func(t *testing.T, s queue.Store, tasks []*queue.Task) error
	}{
		{"a release loses nothing to a heartbeat of a part of the batch", beatSome, releaseSome},
		{"a heartbeat loses nothing to one of a part of the batch", beatSome, beatSome},
		{"a heartbeat of all loses nothing to one of a part", beatSome, beatAll},
		{"a heartbeat of a part loses nothing to one of all", beatAll, beatSome},
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
			conn, other := connect(t, dsn), connect(t, dsn)
			sql(t, conn, "begin", "select 1 from pgqueue.lease for update")
			answers := make(chan error, 2)
			for i, call := range []func(*testing.T, queue.Store, []*queue.Task) error{c.first, c.second} {
				go func() { answers <- call(t, s, out[0]) }()
				waitFor(t, func() (bool, string) {
					n := value[int](t, other, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
					return n > i, strconv.Itoa(n)
				})
			}
			sql(t, conn, "commit")
			for range 2 {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
		})
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
