package restclient_test

import (
	"context"
	"log"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// A worker over a server: handlers are the same as in process.
func Example() {
	ctx := context.Background()
	c, err := restclient.New("http://localhost:8080/api", restclient.WithNamespace("shop"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	w := worker.New(c, worker.WithConcurrency(20))
	w.HandleFunc("mail", func(_ context.Context, task *queue.Task) (any, error) {
		log.Printf("task %d: %s", task.ID, task.Payload)
		return nil, nil
	})
	if err := w.Run(ctx); err != nil { // until ctx ends and every held task is released or handed back
		log.Print(err)
	}
}
