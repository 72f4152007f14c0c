package postgrestest_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestWantedSlotsOfTheView compares the view with the domain for each setting that bounds a queue, before and after the time of a
// task is known.
func TestWantedSlotsOfTheView(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	s := postgrestest.Open(t)
	mustQueue(t, s, "mail")
	conn := connect(t, s.Pool().Config().ConnString())
	tasks := slices.Repeat([]queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte("1")}}}, 500)
	if _, err := s.CreateTasks(t.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: tasks}); err != nil {
		t.Fatal(err)
	}
	held := retain(t, s, 20)

	compare := func(state string) {
		t.Helper()
		for _, settings := range []string{
			"rate_limit = 0", "rate_limit = 30, rate_period = 60000000000", "rate_limit = 2, rate_period = 1000000000", "rate_limit = 1, rate_period = 86400000000000",
			"rate_limit = 1000, rate_period = 1000000000", "rate_limit = 1000, concurrency = 7", "rate_limit = 0, concurrency = 7", "concurrency = 100",
			"paused_until = now() + interval '1 hour'", "paused_until = now() - interval '1 hour'", "paused_until = null, paused = true", "paused = false, concurrency = 0",
		} {
			sql(t, conn, "update pgqueue.queue set "+settings+" where name = 'mail'")
			stats, err := s.QueueStats(t.Context(), queue.DefaultNamespace, "mail")
			if err != nil {
				t.Fatal(err)
			}
			var wanted, starts float64
			var paused bool
			err = conn.QueryRow(t.Context(), `select wanted_slots, coalesce(starts_per_second, 0), paused_until is not null
				from pgqueue.queue_stats where queue = 'mail'`).Scan(&wanted, &starts, &paused)
			if err != nil {
				t.Fatal(err)
			}
			st := stats[0]
			if want := queue.ScaleQueues(queue.DefaultScaleWithin, st).Slots; math.Abs(wanted-want) > want*1e-9 || starts != st.StartsPerSecond || paused == st.PausedUntil.IsZero() {
				t.Errorf("%s, %s: the view wants %v slots, the domain %v; %v and %v starts a second; paused %v until %v",
					state, settings, wanted, want, starts, st.StartsPerSecond, paused, st.PausedUntil)
			}
		}
	}
	compare("no task has ended")
	for _, task := range held[:10] {
		sql(t, conn, fmt.Sprintf("select pgqueue.complete_task(%d, %d)", task.ID, task.Lease.Token))
	}
	compare("10 tasks have ended")
}
