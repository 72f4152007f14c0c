package postgrestest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestHistoryCost: a fold pays for the history once a minute alone. It logs the WAL of a fold with and without it.
func TestHistoryCost(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	asked := &countStatements{}
	s := open(t, postgrestest.URL(t), postgres.WithTracer(asked))
	const queues = 200
	var names []string
	for i := range queues {
		names = append(names, fmt.Sprintf("q%d", i))
		makeQueue(t, s, "tests", names[i])
	}
	conn := connect(t, s.Pool().Config().ConnString())

	// fold makes a task in each queue and folds them: it returns the statements and the WAL of the fold.
	fold := func() (statements int32, wal int64) {
		t.Helper()
		makeTask(t, s, "tests", names...)
		from := value[string](t, conn, "select pg_current_wal_insert_lsn()::text")
		asked.single.Store(0)
		asked.batched.Store(0)
		maintain(t, s, queue.ChoreFold)
		statements = asked.single.Load() + asked.batched.Load()
		return statements, value[int64](t, conn, fmt.Sprintf("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '%s')::bigint", from))
	}

	for {
		minute := value[time.Time](t, conn, "select date_trunc('minute', pgqueue.clock())")
		fold() // the first rows of all queues, and the history up to this minute
		before := value[int64](t, conn, "select count(*) from pgqueue.queue_history")
		plain, plainWAL := fold()
		if value[time.Time](t, conn, "select date_trunc('minute', pgqueue.clock())").After(minute) {
			continue // the minute has changed meanwhile
		}
		if n := value[int64](t, conn, "select count(*) from pgqueue.queue_history"); n != before {
			t.Errorf("a fold within a minute wrote %d rows of the history", n-before)
		}

		postgrestest.Advance(t, s, time.Minute)
		history, historyWAL := fold()
		if history <= plain || value[int64](t, conn, "select count(*) from pgqueue.queue_history where not hourly and created > 0") < 2*queues {
			t.Errorf("a fold after a minute sends %d statements, one within a minute %d", history, plain)
		}
		t.Logf("%d queues: a fold sends %d statements and writes %d bytes of WAL; once a minute %d and %d", queues, plain, plainWAL, history, historyWAL)
		break
	}
}
