package postgrestest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
	"github.com/pgqueue/pgqueue/domain/seal/keyfile"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// sealCodec returns a codec over a file with one key.
func sealCodec(t testing.TB, opts ...seal.Option) *seal.Codec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	line := "k1 " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, seal.DataKeyBytes))
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := keyfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return seal.New(ring, opts...)
}

// TestSealedTables: of a task with sealed payload and result, created alone and in a transaction, no table holds a clear byte.
func TestSealedTables(t *testing.T) {
	const secret = "Pr1vateWord"
	payload := json.RawMessage(`{"word":"` + secret + `"}`)
	dsn := postgrestest.URL(t)
	store := postgrestest.OpenURL(t, dsn)
	m, err := manager.New(store)
	if err != nil {
		t.Fatal(err)
	}
	codec := sealCodec(t, seal.SealResults())
	svc := codec.Service(m)
	if _, err := m.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(t.Context())) }()

	one, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: payload, Key: "k", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	other := codec.Service(m) // has the same data key
	if again, err := other.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: payload, Key: "k", Group: "g"}); err != nil || again.ID != one.ID {
		t.Errorf("a repeated create: %v, %v", again, err)
	}
	later := sealCodec(t, seal.SealResults()).Service(m) // has another one
	if again, err := later.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: payload, Key: "k", Group: "g"}); err != nil || again.ID != one.ID || !again.Replayed {
		t.Errorf("a repeated create with another data key: %v, %v", again, err)
	}
	two := createSealedInTx(t, store, db, codec, payload)

	held, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: 2})
	if err != nil || len(held) != 2 {
		t.Fatal(held, err)
	}
	handler := codec.Handler(worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
		if !bytes.Equal(task.Payload, payload) {
			t.Errorf("the handler gets %s", task.Payload)
		}
		return secret, nil
	}))
	for _, task := range held {
		if _, err := m.ReleaseTasks(t.Context(), []queue.Release{worker.Work(t.Context(), handler, task)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []int64{one.ID, two.ID} {
		if done, err := svc.GetTask(t.Context(), id); err != nil || !bytes.Equal(done.Payload, payload) || string(done.Result) != `"`+secret+`"` {
			t.Errorf("got %+v, %v", done, err)
		}
	}

	tables := findInTables(t, db, store.Schema(), secret)
	if len(tables) > 0 {
		t.Errorf("clear text in %v", tables)
	}
	if _, err := m.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: payload}); err != nil {
		t.Fatal(err)
	}
	if len(findInTables(t, db, store.Schema(), secret)) == 0 {
		t.Error("the search does not find a clear payload")
	}
}

// createSealedInTx creates a task in a transaction of the caller.
func createSealedInTx(t *testing.T, store *postgres.Store, db *pgx.Conn, codec *seal.Codec, payload json.RawMessage) *queue.Task {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, err := store.InTx(tx, queue.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	task, err := codec.Producer(in, queue.DefaultNamespace).CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return task
}

// findInTables returns the tables of a schema that hold a text, also as bytes.
func findInTables(t *testing.T, db *pgx.Conn, schema, text string) (found []string) {
	t.Helper()
	rows, err := db.Query(t.Context(), "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind in ('r', 'p')", schema)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		var n int
		name := pgx.Identifier{schema, table}.Sanitize()
		err := db.QueryRow(t.Context(), "select count(*) from "+name+" x where x::text like $1 or x::text like $2",
			"%"+text+"%", "%"+hex.EncodeToString([]byte(text))+"%").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			found = append(found, table)
		}
	}
	return found
}

// BenchmarkSealed compares the throughput of tasks of 1 KiB with and without sealed payloads: created in batches of 100, and
// worked.
func BenchmarkSealed(b *testing.B) {
	for _, sealed := range []bool{false, true} {
		b.Run(fmt.Sprintf("sealed=%v", sealed), func(b *testing.B) {
			m, err := manager.New(postgrestest.Open(b), manager.WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := m.CreateQueue(b.Context(), queue.QueueMeta{Name: "q"}); err != nil {
				b.Fatal(err)
			}
			var worked atomic.Int64
			all := make(chan struct{})
			var svc queue.Service = m
			var handler worker.Handler = worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
				if worked.Add(1) == int64(b.N) {
					close(all)
				}
				return nil, nil
			})
			if sealed {
				codec := sealCodec(b)
				svc, handler = codec.Service(m), codec.Handler(handler)
			}
			w := worker.New(m, worker.WithInProcess(), worker.WithLogger(slog.New(slog.DiscardHandler)))
			w.Handle("q", handler)
			ctx, stop := context.WithCancel(b.Context())
			var ended sync.WaitGroup
			ended.Go(func() { _ = m.Run(ctx) })
			ended.Go(func() { _ = w.Run(ctx) })

			payload := json.RawMessage(`"` + strings.Repeat("a", 1022) + `"`)
			b.ResetTimer()
			for left := b.N; left > 0; left -= 100 {
				tasks := make([]queue.NewTask, min(left, 100))
				for i := range tasks {
					tasks[i] = queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: payload}}
				}
				if _, err := svc.CreateTasks(ctx, tasks); err != nil {
					b.Fatal(err)
				}
			}
			<-all
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			stop()
			ended.Wait()
		})
	}
}
