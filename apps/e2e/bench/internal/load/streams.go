package load

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// quiet is the queue that the idle streams follow.
const quiet = "quiet"

// streams opens Clients event streams and Clients waiting retains. It wakes the retains by single creates, and then
// sends one event to all streams.
func (l *load) streams(ctx context.Context) error {
	if _, err := l.rest.RegisterQueue(ctx, queue.QueueMeta{Name: quiet}); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	heard, woken := make(chan time.Time, 16*l.plan.Clients), make(chan time.Time, l.plan.Clients)
	failed := make(chan error, 2*l.plan.Clients)

	if err := l.stage.Phase("open", func() (plan.Result, error) {
		for range l.plan.Clients {
			s, err := dial(ctx, l.addr)
			if err != nil {
				return plan.Result{}, err
			}

			context.AfterFunc(ctx, func() { s.Close() })
			if err := s.follow("/api/event?queue=" + quiet); err != nil {
				return plan.Result{}, err
			}
			wg.Go(func() { l.hear(ctx, s, heard, failed) })

			w, err := dial(ctx, l.addr)
			if err != nil {
				return plan.Result{}, err
			}

			context.AfterFunc(ctx, func() { w.Close() })
			wg.Go(func() { l.wait(ctx, w, woken, failed) })
		}
		plan.Pause(ctx, 2*time.Second) // until the last requests arrive at the server
		return plan.Result{N: 2 * l.plan.Clients}, nil
	}); err != nil {
		return err
	}

	if err := l.stage.Phase("wake", func() (plan.Result, error) {
		var took []time.Duration
		for range l.plan.Samples {

			at, err := l.create(ctx, benchQueue)
			if err != nil {
				return plan.Result{}, err
			}

			select {
			case then := <-woken:
				took = append(took, max(then.Sub(at), 0))
			case err := <-failed:
				return plan.Result{}, err
			case <-time.After(patience):
				return plan.Result{}, fmt.Errorf("no listener woke in %v", patience)
			}

			plan.Pause(ctx, 5*time.Millisecond)
		}
		return plan.Result{N: len(took), Latency: map[string]plan.Quantiles{"commit": plan.QuantilesOf(took)}}, nil
	}); err != nil {
		return err
	}

	return l.stage.Phase("fan out", func() (plan.Result, error) {
		var took []time.Duration
		for range 10 {

			at, err := l.create(ctx, quiet)
			if err != nil {
				return plan.Result{}, err
			}

			for range l.plan.Clients {
				select {
				case then := <-heard:
					took = append(took, max(then.Sub(at), 0))
				case err := <-failed:
					return plan.Result{}, err
				case <-time.After(patience):
					return plan.Result{}, fmt.Errorf("%d streams of %d heard of it", len(took)%l.plan.Clients, l.plan.Clients)
				}
			}

			plan.Pause(ctx, 100*time.Millisecond)
		}
		return plan.Result{N: len(took), Latency: map[string]plan.Quantiles{"commit": plan.QuantilesOf(took)}}, nil
	})
}

// create creates a task and returns the time of the answer, after the commit.
func (l *load) create(ctx context.Context, name string) (time.Time, error) {
	_, err := l.rest.CreateTask(ctx, name, queue.TaskMeta{})
	return time.Now(), err
}

// follow opens a stream of server-sent events.
func (c *conn) follow(path string) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := c.send("GET", path, "text/event-stream", nil); err != nil {
		return err
	}
	status, _, err := c.head()
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("stream: status %d", status)
	}
	if err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// hear sends the arrival time of each event of a stream until ctx ends.
func (*load) hear(ctx context.Context, c *conn, heard chan<- time.Time, failed chan<- error) {
	for {
		line, err := c.r.ReadSlice('\n')
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed <- fmt.Errorf("stream: %w", err)
			return
		}
		if bytes.HasPrefix(line, []byte("data:")) {
			heard <- time.Now()
		}
	}
}

// wait waits for one task and sends its arrival time.
func (*load) wait(ctx context.Context, c *conn, woken chan<- time.Time, failed chan<- error) {
	for ctx.Err() == nil {
		status, body, err := c.do("PUT", "/api/task/"+benchQueue+"?worker=w1&wait=25s", nil)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failed <- fmt.Errorf("retain: %w", err)
			return
		case status == http.StatusOK:
			woken <- time.Now()
			return
		case status != http.StatusNotFound:
			failed <- fmt.Errorf("retain: %d: %s", status, body)
			return
		}
	}
}
