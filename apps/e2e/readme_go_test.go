package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// The functions of this file contain the Go code of the README, statement by statement, with the reader's parts added.

// Mail and Receipt are types of the reader.
type (
	Mail    struct{ To string }
	Receipt struct{ Sent bool }
)

// readmeWorker is the section "Over Connect and gRPC"; the reader provides send.
func readmeWorker(ctx context.Context, serverURL string, send func(context.Context, Mail) (Receipt, error)) error {
	client, err := connectclient.New(serverURL) // http://localhost:8080
	if err != nil {
		return err
	}
	w := worker.New(client)
	w.Handle("mail", worker.Typed(func(ctx context.Context, m Mail) (Receipt, error) {
		return send(ctx, m) // an error causes a retry after the backoff; the worker extends the lease meanwhile
	}))
	return w.Run(ctx) // until ctx ends and every held task is released or handed back
}

// readmeInProcess is the section "In your Go program".
func readmeInProcess(ctx context.Context, databaseURL string) error {
	store, err := postgres.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.MigrateUp(ctx); err != nil {
		return err
	}
	m, err := manager.New(store)
	if err != nil {
		return err
	}
	defer m.Close(context.Background())

	if _, err := m.RegisterQueue(ctx, queue.QueueMeta{Name: "mail"}); err != nil {
		return err
	}
	task, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: json.RawMessage(`{"to":"a@b.c"}`)})
	if err != nil {
		return err
	}
	fmt.Println("created", task.ID)
	return nil
}

func TestReadmeInProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	pg, err := embedded.Start(t.Context(), embedded.WithTemporary(), embedded.WithSetting("fsync", "off"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := readmeInProcess(t.Context(), pg.DSN()); err != nil {
		t.Fatal(err)
	}
}

// workMail runs the README's worker against a server until it has sent a mail.
func workMail(t *testing.T, serverURL string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := make(chan Mail, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- readmeWorker(ctx, serverURL, func(_ context.Context, m Mail) (Receipt, error) {
			select {
			case sent <- m:
			default:
			}
			return Receipt{Sent: true}, nil
		})
	}()
	select {
	case <-sent:
	case err := <-ended:
		t.Fatal("the worker ended:", err)
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
