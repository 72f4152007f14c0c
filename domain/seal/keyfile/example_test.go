package keyfile_test

import (
	"context"
	"encoding/json"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
	"github.com/pgqueue/pgqueue/domain/seal/keyfile"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// A producer seals the payloads of its tasks and reads their results.
func Example_producer() {
	produce := func(ctx context.Context, client queue.Service) (json.RawMessage, error) {
		keys, err := keyfile.Open("/etc/shop/seal.keys")
		if err != nil {
			return nil, err
		}
		svc := seal.New(keys).Service(client)

		task, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{Payload: json.RawMessage(`{"to":"ann@example.com"}`)})
		if err != nil {
			return nil, err
		}
		task, err = svc.AwaitTask(ctx, task.ID, queue.MaxWait)
		if err != nil {
			return nil, err
		}
		return task.Result, nil // clear
	}
	_ = produce
}

// A worker opens payloads and seals results.
func Example_worker() {
	work := func(ctx context.Context, client queue.Service, send worker.Handler) error {
		keys, err := keyfile.Open("/etc/shop/seal.keys")
		if err != nil {
			return err
		}
		codec := seal.New(keys, seal.SealResults())

		w := worker.New(client)
		w.Handle("mail", codec.Handler(send))
		return w.Run(ctx)
	}
	_ = work
}
