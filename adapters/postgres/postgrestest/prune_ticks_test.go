package postgrestest_test

import (
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestPrunedTicksAreCounted gives a ticker 150 ticks, of which the last 100 stay, and prunes the others in one step.
func TestPrunedTicksAreCounted(t *testing.T) {
	t.Parallel()
	needsDatabase(t)

	dsn := postgrestest.URL(t)
	s := open(t, dsn)
	ticker, err := queue.NewTicker("tests", queue.TickerMeta{Name: "hourly", Period: new(queue.DefaultLease)}, queue.DefaultMaxPayloadBytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateTicker(t.Context(), ticker); err != nil {
		t.Fatal(err)
	}

	conn := connect(t, dsn)
	sql(t, conn, "insert into pgqueue.tick (ticker_id, at, fired_at) "+
		"select k.id, pgqueue.clock() - interval '1 h' + g * interval '1 s', pgqueue.clock() from pgqueue.ticker k, generate_series(1, 150) g")

	done, err := s.Maintain(t.Context(), queue.ChorePrune)
	if err != nil || done.Moved != 50 {
		t.Errorf("got %+v, %v, want 50 rows", done, err)
	}
	if n := value[int](t, conn, "select count(*) from pgqueue.tick"); n != 100 {
		t.Errorf("%d ticks are left, want 100", n)
	}
}
