package postgrestest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

var n atomic.Int64
const base = "postgres://postgres@127.0.0.1:5499/"

func exec(t testing.TB, sql string) {
	c, err := pgx.Connect(context.Background(), base+"postgres"); if err != nil { t.Fatal(err) }
	defer c.Close(context.Background())
	if _, err := c.Exec(context.Background(), sql); err != nil { t.Fatal(err) }
}

func TestScratch(t *testing.T) {
	ctx := context.Background()
	exec(t, "drop database if exists tmpl with (force)")
	exec(t, "create database tmpl")
	s, err := postgres.Open(ctx, base+"tmpl"); if err != nil { t.Fatal(err) }
	if _, err := s.MigrateUp(ctx); err != nil { t.Fatal(err) }
	s.Close()
	offs := map[queue.Store]time.Duration{}
	queuetest.TestStore(t, queuetest.StoreHarness{
		New: func(t testing.TB) queue.Store {
			name := fmt.Sprintf("t%d_%d", os.Getpid(), n.Add(1))
			exec(t, "create database "+name+" template tmpl")
			s, err := postgres.Open(ctx, base+name); if err != nil { t.Fatal(err) }
			t.Cleanup(func() { s.Close(); exec(t, "drop database "+name+" with (force)") })
			return s
		},
		Advance: func(t testing.TB, st queue.Store, d time.Duration) {
			offs[st] += d
			s := st.(*postgres.Store)
			_, err := s.Pool().Exec(ctx, fmt.Sprintf("create or replace function pgqueue.clock() returns timestamptz language sql volatile parallel safe as 'select pg_catalog.clock_timestamp() + interval ''%d microseconds'''", offs[st].Microseconds()))
			if err != nil { t.Fatal(err) }
			s.Pool().Reset()
		},
		Features: queuetest.Features{Listener: true, Diagnoser: true, EventsAge: time.Hour},
	})
}
