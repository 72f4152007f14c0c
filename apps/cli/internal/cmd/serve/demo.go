package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// demoFault is a made-up error of a handler.
type demoFault string

func (f demoFault) Error() string { return string(f) }

func newDemoCommand(f *factory.Factory) *cobra.Command {
	var cfg run.Config
	// The flags of the server give cfg its defaults. The demo has one of them.
	run.Flags(pflag.NewFlagSet("", pflag.ContinueOnError), &cfg)
	cmd := &cobra.Command{
		Use:         "demo",
		Annotations: cmdutil.Reads(""),
		Short:       "Run a server with queues, tickers and workers that fail and recover",
		Long: "Run a server in memory with queues, tickers and workers that fail and recover, to look at.\n\n" +
			"It works until a signal, keeps nothing and needs no database. A third of each minute the mail server of the demo\n" +
			"refuses connections, so that tasks fail, are tried again, and some fail for good.",
		Example: "  pgqueue demo\n" +
			"  pgqueue demo --addr localhost:9000",
		GroupID: cmdutil.GroupServer,
		Args:    cmdutil.Args(0, 0, ""),

		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cfg, func(s *run.Server) {
				fmt.Fprintf(f.IO.Out, "the dashboard:  %s%s/\nin a terminal:  %s top --url %s\nCtrl-C ends the demo; it keeps nothing\n",
					s.URL(), cfg.UIPath, typedProgramName(), s.APIURL())
			})
		},
	}

	cmd.Flags().StringVar(&cfg.Addr, "addr", cfg.Addr, "listen on this `host:port`; port 0 takes a free one")
	return cmd
}

// runDemo runs the server of the demo and its traffic until ctx ends. started is called when the server is ready.
func runDemo(ctx context.Context, cfg run.Config, started func(*run.Server)) error {
	store := memory.New()
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	s, err := run.Start(ctx, cfg)
	if err != nil {
		return err
	}

	// The work ends before the server: its last releases need the service.
	err = playDemo(ctx, s.Service(), started, s)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.StopTimeout)
	defer cancel()
	return errors.Join(err, s.Stop(stop))
}

// playDemo creates the queues and tickers, and creates and works tasks until ctx ends.
func playDemo(ctx context.Context, svc queue.Service, started func(*run.Server), s *run.Server) error {
	// Finished tasks leave after an hour, so the memory has a bound.
	retention := time.Hour
	for _, q := range []queue.QueueMeta{
		{Name: "mail", Retries: new(2), RetryDelay: new(5 * time.Second), Concurrency: new(20), Retention: &retention},
		{Name: "thumbs", Retries: new(1), RetryDelay: new(10 * time.Second), Concurrency: new(4), Retention: &retention},
		{Name: "reports", Retries: new(0), Lease: new(time.Minute), Retention: &retention},
	} {
		if _, err := svc.RegisterQueue(ctx, q); err != nil {
			return err
		}
	}
	for _, t := range []queue.TickerMeta{
		{Name: "usage-report", Period: new(30 * time.Second), Queue: new("reports"), Payload: []byte(`{"report":"usage"}`)},
		{Name: "nightly-report", Cron: new("30 3 * * *"), Timezone: new("Europe/Berlin"), Queue: new("reports"), Payload: []byte(`{"report":"nightly"}`)},
	} {
		if _, err := svc.RegisterTicker(ctx, t); err != nil {
			return err
		}
	}

	w := worker.New(svc, worker.WithName("demo-worker"), worker.WithConcurrency(30), worker.WithInProcess(), worker.WithDrain(0),
		worker.WithLogger(slog.New(slog.DiscardHandler)))
	begin := time.Now()
	w.HandleFunc("mail", func(ctx context.Context, t *queue.Task) (any, error) {
		if err := spend(ctx, 50*time.Millisecond, 400*time.Millisecond); err != nil {
			return nil, err
		}
		switch second := time.Since(begin) % time.Minute; {
		case second > 10*time.Second && second < 30*time.Second && rand.IntN(10) < 8:
			return nil, demoFault("dial tcp 192.0.2.25:25: connect: connection refused")
		case rand.IntN(50) == 0:
			return nil, worker.Permanent(demoFault(fmt.Sprintf("550 mailbox of user%d unavailable", t.ID)))
		}
		return map[string]bool{"sent": true}, nil
	})
	w.HandleFunc("thumbs", func(ctx context.Context, _ *queue.Task) (any, error) {
		if err := spend(ctx, 300*time.Millisecond, 1500*time.Millisecond); err != nil {
			return nil, err
		}
		if rand.IntN(25) == 0 {
			return nil, demoFault("read tcp 192.0.2.80:443: connection reset by peer")
		}
		return map[string]int{"width": 128}, nil
	})
	w.HandleFunc("reports", func(ctx context.Context, _ *queue.Task) (any, error) {
		return nil, spend(ctx, 5*time.Second, 15*time.Second)
	})

	var traffic sync.WaitGroup
	traffic.Go(func() { createDemoTasks(ctx, svc) })
	if started != nil {
		started(s)
	}
	err := w.Run(ctx)
	traffic.Wait()
	return err
}

// createDemoTasks creates a few tasks five times a second until ctx ends.
func createDemoTasks(ctx context.Context, svc queue.Service) {
	beat := time.NewTicker(200 * time.Millisecond)
	defer beat.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}

		tasks := []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: fmt.Appendf(nil, `{"to":"user%d@example.com","template":"welcome"}`, n)}}}
		if n%3 == 0 {
			tasks = append(tasks, queue.NewTask{Queue: "thumbs", TaskMeta: queue.TaskMeta{Payload: fmt.Appendf(nil, `{"file":"img_%05d.jpg","width":128}`, n)}})
		}
		if n%25 == 0 {
			tasks = append(tasks, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{
				Payload: fmt.Appendf(nil, `{"to":"user%d@example.com","template":"reminder"}`, n), Delay: 2 * time.Minute,
			}})
		}
		// A full queue or the end of the server ends the create; the next beat tries again.
		_, _ = svc.CreateTasks(ctx, tasks)
	}
}

// spend takes a random time from least to most, or returns the cause of an earlier end.
func spend(ctx context.Context, least, most time.Duration) error {
	t := time.NewTimer(least + rand.N(most-least))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
