package postgrestest_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestTerminatedDuringCommit ends sessions while they write their commit to disk: PostgreSQL commits, says so, and then that
// it ends the session. A create that took this for a failure would be made twice.
func TestTerminatedDuringCommit(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	// A commit waits for the disk only where there is one to wait for; here each takes 100 ms.
	dsn := launchServer(t, embedded.WithSetting("commit_delay", "100000"), embedded.WithSetting("commit_siblings", "0"))
	admin := connect(t, dsn)
	s := open(t, dsn)
	up(t, s)
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail") // partitions and lane are there

	const rounds = 5
	hit := 0
	for round := range rounds {
		mark := []byte(strconv.Itoa(round))
		answered := make(chan error, 1)
		go func() {
			_, err := s.CreateTasks(context.WithoutCancel(t.Context()), queue.Create{
				Namespace: "tests", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: mark}}},
			})
			answered <- err
		}()
		var err error
		waitFor(t, func() (bool, string) {
			select {
			case err = <-answered:
				return true, ""
			default:
			}
			n := value[int](t, admin, "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() "+
				"and application_name = 'pgqueue' and state = 'active' and query ilike 'commit%'")
			hit += n
			return false, strconv.Itoa(hit)
		})
		left := value[int](t, admin, "select count(*) from pgqueue.task where payload::text = $1", string(mark))
		switch {
		case err == nil && left != 1:
			t.Errorf("round %d: the create was acknowledged, and %d tasks are there", round, left)
		case err != nil && left > 0 && !errors.Is(err, queue.ErrIndeterminate):
			t.Errorf("round %d: %d tasks are there, though the answer was %v", round, left, err)
		}
	}
	if hit == 0 {
		t.Error("no session was ended during its commit")
	}
	recounted(t, s)
}
