package contender

import (
	"context"
	_ "embed"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// These values gave the highest rate on the machine of the storage design.
const (
	rawBatch  = 500
	rawTakers = 2
)

//go:embed raw.sql
var rawSchema string

// raw is the speed of PostgreSQL itself over narrow rows: hand-written statements for whole batches, and a client
// that only reads its tasks. It has no counts, events, retries or queues, so it is a ceiling and not a queue.
type raw struct {
	pool *pgxpool.Pool
	done atomic.Int64
	stop context.CancelFunc
	wg   sync.WaitGroup
	errs [rawTakers]error
}

func openRaw(ctx context.Context, p plan.Plan, fresh bool) (Queue, error) {
	pool, err := pgxpool.New(ctx, p.URL)
	if err != nil {
		return nil, err
	}
	if fresh {
		if _, err := pool.Exec(ctx, rawSchema); err != nil {
			pool.Close()
			return nil, err
		}
	}
	return &raw{pool: pool, stop: func() {}}, nil
}

// Insert copies the tasks and their ready rows, with ids that it reserves at once.
func (r *raw) Insert(ctx context.Context, batch []Task) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		// The sequence counts steps of the largest batch.
		var id int64
		if err := tx.QueryRow(ctx, `select nextval('id') * 10000`).Scan(&id); err != nil {
			return err
		}

		_, err := tx.CopyFrom(ctx, pgx.Identifier{"task"}, []string{"id", "payload"}, pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
			return []any{id + int64(i), batch[i].Payload.JSON()}, nil
		}))
		if err != nil {
			return err
		}

		_, err = tx.CopyFrom(ctx, pgx.Identifier{"ready"}, []string{"id"}, pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
			return []any{id + int64(i)}, nil
		}))
		return err
	})
}

func (r *raw) InsertOne(ctx context.Context, t Task) error { return r.Insert(ctx, []Task{t}) }

func (r *raw) Work(ctx context.Context, _ func(Payload)) error {
	ctx, r.stop = context.WithCancel(ctx)
	for i := range rawTakers {
		r.wg.Go(func() {
			if err := r.take(ctx); ctx.Err() == nil {
				r.errs[i] = err
			}
		})
	}
	return nil
}

// take takes batch after batch behind its cursor and marks each as done.
func (r *raw) take(ctx context.Context) error {
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()

	for cursor := int64(0); ctx.Err() == nil; {
		rows, err := conn.Query(ctx, takeSQL, cursor, rawBatch)
		if err != nil {
			return err
		}

		var lease, id, last int64
		var payload []byte
		tag, err := pgx.ForEachRow(rows, []any{&lease, &id, &payload}, func() error {
			last = max(last, id)
			return nil
		})
		if err != nil {
			return err
		}

		if tag.RowsAffected() == 0 {
			// Rows that committed out of order may be behind the cursor.
			if cursor == 0 {
				plan.Pause(ctx, time.Millisecond)
			}
			cursor = 0
			continue
		}

		cursor = last
		if _, err := conn.Exec(ctx, doneSQL, lease); err != nil {
			return err
		}
		r.done.Add(tag.RowsAffected())
	}
	return ctx.Err()
}

// takeSQL finds rows by their position and by arrays of ids. A join of tables that have no statistics yet would read
// them whole.
const takeSQL = `
with taken as (
	delete from ready where ctid = any (array(select ctid from ready where id > $1 order by id limit $2 for update skip locked))
	returning id
), held as (
	insert into lease (expires_at, ids)
	select clock_timestamp() + interval '5 min', array_agg(id) from taken having count(*) > 0 returning lease.id
)
select held.id, task.id, task.payload from held, task where task.id = any (array(select id from taken))`

const doneSQL = `
with ended as (delete from lease where id = $1 returning ids)
insert into done (id, finished_at) select unnest(ids), clock_timestamp() from ended`

func (r *raw) Completed() int64 { return r.done.Load() }

func (r *raw) Close(context.Context) error {
	r.stop()
	r.wg.Wait()
	r.pool.Close()
	return errors.Join(r.errs[:]...)
}
