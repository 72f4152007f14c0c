// Package load sends load from many clients to a running server and measures the answers.
package load

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// benchQueue is the queue of all tasks.
const benchQueue = "bench"

// Play plays the scenario of p against the server at p.Server.
func Play(ctx context.Context, p plan.Plan, stage *plan.Stage) error {
	u, err := url.Parse(p.Server)
	if err != nil {
		return err
	}

	l := &load{plan: p, stage: stage, addr: u.Host}
	opts := []restclient.Option{restclient.WithoutKeys()}
	if p.Token != "" {
		opts = append(opts, restclient.WithToken(func() string { return p.Token }))
	}
	if l.rest, err = restclient.New(p.Server+"/api", opts...); err != nil {
		return err
	}
	defer l.rest.Close()

	if _, err := l.rest.RegisterQueue(ctx, queue.QueueMeta{Name: benchQueue}); err != nil {
		return err
	}
	scripts := map[string]func(context.Context) error{
		"rest create":    l.restCreate,
		"rest pairs":     l.restPairs,
		"connect create": l.connectCreate,
		"connect pairs":  l.connectPairs,
		"stream runtime": l.streamRuntime,
		"streams":        l.streams,
	}

	script, ok := scripts[p.Scenario]
	if !ok {
		return fmt.Errorf("no load is called %q", p.Scenario)
	}
	return script(ctx)
}

// load is one run.
type load struct {
	plan  plan.Plan
	stage *plan.Stage
	addr  string
	rest  *restclient.Client
}

// fill creates n tasks. The run does not measure it.
func (l *load) fill(ctx context.Context, n int) error {
	for made := 0; made < n; {
		batch := make([]queue.NewTask, min(2_000, n-made))
		for i := range batch {
			batch[i] = queue.NewTask{Queue: benchQueue, TaskMeta: queue.TaskMeta{Payload: fmt.Appendf(nil, `{"n":%d}`, made+i)}}
		}
		if _, err := l.rest.CreateTasks(ctx, batch); err != nil {
			return err
		}
		made += len(batch)
	}
	return nil
}

// tally sums the results of all clients.
type tally struct {
	mu     sync.Mutex
	took   []time.Duration
	done   int
	errors int
	first  string
}

// client holds the results of one client.
type client struct {
	took  []time.Duration
	done  int // operations of one or more requests each
	err   error
	fails int
}

// fail counts an error and keeps the first one.
func (c *client) fail(err error) {
	c.fails++
	if c.err == nil {
		c.err = err
	}
}

// add adds the results of one client.
func (t *tally) add(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, c.took...)
	t.done += c.done
	t.errors += c.fails
	if c.err != nil && t.first == "" {
		t.first = c.err.Error()
	}
}

// clients runs the plan's clients until the time is over or step returns false for each. Each client has its own
// state, which open creates before the clock starts.
func clients[S any](ctx context.Context, l *load, phase string, open func() (S, error), step func(S, *client) (more bool)) error {
	states := make([]S, l.plan.Clients)
	for i := range states {
		var err error
		if states[i], err = open(); err != nil {
			return err
		}
	}
	return l.stage.Phase(phase, func() (plan.Result, error) {
		var t tally
		var over atomic.Bool

		begin := time.Now()
		timer := time.AfterFunc(time.Duration(l.plan.Seconds*float64(time.Second)), func() { over.Store(true) })
		defer timer.Stop()

		var wg sync.WaitGroup
		for _, s := range states {
			wg.Go(func() {
				c := &client{took: make([]time.Duration, 0, 1<<14)}
				// Failed requests are fast, so a client that only fails would look like the fastest.
				for !over.Load() && ctx.Err() == nil && c.fails < 100 && step(s, c) {
				}
				t.add(c)
			})
		}

		wg.Wait()
		return plan.Result{
			N: t.done, Seconds: time.Since(begin).Seconds(), Errors: t.errors, Error: t.first,
			Latency: map[string]plan.Quantiles{"request": plan.QuantilesOf(t.took)},
		}, ctx.Err()
	})
}
