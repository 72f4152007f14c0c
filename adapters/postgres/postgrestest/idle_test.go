package postgrestest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// countStatements counts single statements and those of batches.
type countStatements struct{ single, batched atomic.Int32 }

func (c *countStatements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.single.Add(1)
	return ctx
}

func (c *countStatements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *countStatements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	c.batched.Add(int32(data.Batch.Len()))
	return ctx
}

func (c *countStatements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *countStatements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// TestIdleChores holds an idle program to what it asks of the database.
func TestIdleChores(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	asked := &countStatements{}
	s := open(t, postgrestest.URL(t), postgres.WithTracer(asked))
	ttl := 3 * time.Hour
	q, err := queue.NewQueue("tests", queue.QueueMeta{Name: "mail", TTL: &ttl})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	chores := []queue.Chore{queue.ChorePromote, queue.ChoreRescue, queue.ChoreExpire, queue.ChoreTick}
	for _, c := range append(chores, queue.ChoreFold) {
		maintain(t, s, c)
	}
	for _, c := range chores {
		t.Run(string(c)+" with nothing to do is one statement, without a transaction", func(t *testing.T) {
			asked.single.Store(0)
			asked.batched.Store(0)
			maintain(t, s, c)
			if single, batched := asked.single.Load(), asked.batched.Load(); single != 1 || batched != 0 {
				t.Errorf("%d statements and %d in batches", single, batched)
			}
		})
	}
	t.Run("what becomes due is found by the next look", func(t *testing.T) {
		if _, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "tests", Tasks: []queue.NewTask{
			{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Delay: time.Hour}},
		}}); err != nil {
			t.Fatal(err)
		}
		newTicker(t, s, "tests", "t", "mail", queue.TickerMeta{Period: new(time.Hour)})
		for _, c := range []queue.Chore{queue.ChorePromote, queue.ChoreTick} {
			done, err := s.Maintain(t.Context(), c)
			if err != nil || done.NextIn <= 59*time.Minute || done.NextIn > time.Hour {
				t.Errorf("%s: the next is due in %v, %v", c, done.NextIn, err)
			}
		}
		postgrestest.Advance(t, s, time.Hour)
		for _, c := range []queue.Chore{queue.ChorePromote, queue.ChoreTick, queue.ChoreFold} {
			done, err := s.Maintain(t.Context(), c)
			if err != nil || done.Moved == 0 {
				t.Errorf("%s found %d, %v", c, done.Moved, err)
			}
		}
		lease := time.Second
		out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1, Lease: lease}}})
		if err != nil || len(out[0]) != 1 {
			t.Fatal(out, err)
		}
		postgrestest.Advance(t, s, time.Minute)
		if done, err := s.Maintain(t.Context(), queue.ChoreRescue); err != nil || done.Moved != 1 {
			t.Errorf("rescue found %d, %v", done.Moved, err)
		}
		postgrestest.Advance(t, s, 4*time.Hour)
		if done, err := s.Maintain(t.Context(), queue.ChoreExpire); err != nil || done.Moved == 0 {
			t.Errorf("expire found %d, %v", done.Moved, err)
		}
	})
}
