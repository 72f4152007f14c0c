package rest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// A server in front of a manager, and a client that is a queue.Service again.
func Example() {
	ctx := context.Background()
	m, err := manager.New(memory.New())
	if err != nil {
		log.Fatal(err)
	}
	server, err := restserver.New(restserver.Config{Service: m})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	hs := restserver.NewHTTPServer(server, restserver.Timeouts{})
	done := make(chan error, 1)
	go func() { done <- hs.Serve(l) }()

	c, err := restclient.New("http://"+l.Addr().String()+"/api", restclient.WithNamespace("demo"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.RegisterQueue(ctx, queue.QueueMeta{Name: "mail"}); err != nil {
		log.Fatal(err)
	}
	if _, err := c.CreateTask(ctx, "mail", queue.TaskMeta{Payload: []byte(`{"to":"a@b.c"}`)}); err != nil {
		log.Fatal(err)
	}
	tasks, err := c.RetainTasks(ctx, queue.RetainRequest{Worker: "w1", Wait: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	out, err := c.ReleaseTasks(ctx, []queue.Release{{ID: tasks[0].ID, Token: tasks[0].Lease.Token, Outcome: queue.OutcomeSuccess}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(out[0].Task.Payload), out[0].Task.Status)

	c.Close()
	// First the streams and long polls end, then the listener, then what is behind.
	for _, end := range []func(context.Context) error{server.Shutdown, hs.Shutdown, m.Close} {
		if err := end(ctx); err != nil {
			log.Print(err)
		}
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
	// Output: {"to":"a@b.c"} released
}
