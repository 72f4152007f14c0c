// Package top has the full-screen view of queues, workers and failures.
package top

import (
	"context"
	"errors"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/config"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Commands returns the command top.
func Commands(f *factory.Factory) []*cobra.Command { return []*cobra.Command{newTopCommand(f)} }

func newTopCommand(f *factory.Factory) *cobra.Command {
	every := time.Second
	cmd := &cobra.Command{
		Use:         "top",
		Annotations: cmdutil.Reads(""),
		SuggestFor:  []string{"watch", "ui", "dashboard"},
		Short:       "Watch queues, rates, ages, workers and failures, full-screen",
		Long: "Watch queues, rates, ages, workers and recent failures, full-screen.\n\n" +
			"Keys: up and down choose a queue, p pauses and resumes it, r retries its failed tasks, enter inspects its\n" +
			"failures, q ends. For scripts there is: pgqueue stats --watch.",
		Example: "  pgqueue top\n  pgqueue top --every 5s -n shop",
		GroupID: cmdutil.GroupWatch,
		Args:    cmdutil.Args(0, 0, ""),

		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !f.IO.OutTTY || !f.IO.InTTY || f.IO.Dumb:
				return cmdutil.Usage("output: must be a terminal, got a pipe or a file; without a terminal use pgqueue stats --watch")
			case every < 100*time.Millisecond:
				return cmdutil.Usage("--every: must be at least 100ms, got %v", every)
			}

			svc, err := f.Service()
			if err != nil {
				return err
			}

			// The first read precedes the screen, so that an error appears as that of every command.
			first, err := readOverview(cmd.Context(), svc)
			if err != nil {
				return err
			}

			m := &model{
				ctx: cmd.Context(), svc: svc, now: f.Now, every: every, snapshot: first,
				title: selectedNamespace(svc, first) + " at " + config.RedactURL(f.Settings.URL), color: f.IO.Color,
			}

			p := tea.NewProgram(m, tea.WithInput(f.IO.In), tea.WithOutput(f.IO.Screen()), tea.WithEnvironment(os.Environ()), tea.WithoutSignalHandler())
			// tea.WithContext does not wait for the reader of the terminal, and may leave it reading for ever.
			stop := context.AfterFunc(cmd.Context(), p.Quit)
			defer stop()
			_, err = p.Run()
			if errors.Is(err, tea.ErrInterrupted) || cmd.Context().Err() != nil {
				// The end was asked for, and the terminal is restored.
				err = nil
			}

			return err
		},
	}

	program.DurationVar(cmd.Flags(), &every, "every", "look this often")

	return cmd
}

// selectedNamespace returns the namespace on the screen. Without a setting it is the default of the server, read from
// its queues.
func selectedNamespace(svc queue.Service, first snapshot) string {
	if len(first.stats) > 0 {
		return first.stats[0].Namespace
	}
	return svc.Namespace()
}

// snapshot is the result of one refresh.
type snapshot struct {
	at       time.Time
	stats    []*queue.QueueStats
	workers  []queue.Worker
	failures []*queue.Task
}

const (
	lookTimeout = 5 * time.Second
	// mostFailures is the largest number of recent failures shown.
	mostFailures = 50
)

func readOverview(ctx context.Context, svc queue.Service) (s snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if s.stats, err = svc.ListQueueStatuses(ctx); err != nil {
		return s, err
	}

	if s.workers, err = svc.ListWorkers(ctx); err != nil {
		return s, err
	}

	s.failures, err = listFailures(ctx, svc, "")

	return s, err
}

// listFailures returns the newest tasks that failed or wait for a retry.
func listFailures(ctx context.Context, svc queue.Service, name string) ([]*queue.Task, error) {
	page, err := svc.ListTasks(ctx, queue.TaskQuery{
		TaskFilter: queue.TaskFilter{Queue: name, Statuses: []queue.Status{queue.StatusFailed, queue.StatusRetry}},
		Page:       queue.Page{Limit: mostFailures},
	})
	return page.Tasks, err
}
