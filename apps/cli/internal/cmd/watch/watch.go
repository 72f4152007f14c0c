// Package watch has the commands stats, events and workers.
package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Commands returns the commands stats, events and workers.
func Commands(f *factory.Factory) []*cobra.Command {
	return cmdutil.InGroup(cmdutil.GroupWatch, newStatsCommand(f), newEventsCommand(f), newWorkersCommand(f))
}

func statsColumns() []output.Column[restapi.QueueStats] {
	type row = restapi.QueueStats
	out := []output.Column[row]{
		{Head: "QUEUE", Cell: func(s row) string { return s.Queue }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "READY", Right: true, Cell: func(s row) string { return output.Number(s.Ready) }},
		{Head: "DELAYED", Right: true, Cell: func(s row) string { return output.Number(s.Delayed) }},
	}

	for _, status := range queue.Statuses() {
		out = append(out, output.Column[row]{
			Head: strings.ToUpper(string(status)), Right: true,
			Wide: status == queue.StatusNew || status == queue.StatusExpired || status == queue.StatusCancelled,
			Cell: func(s row) string { return output.Number(s.Counts[string(status)]) },
			Style: func(s row) iostreams.Style {
				if s.Counts[string(status)] == 0 {
					return iostreams.Faint
				}

				return output.StatusStyle(status)
			},
		})
	}

	return append(out,
		output.Column[row]{Head: "OLDEST", Right: true, Cell: func(s row) string { return output.Duration(time.Duration(s.OldestReadyAge)) }},
		output.Column[row]{Head: "IN", Right: true, Cell: func(s row) string { return output.Rate(s.CreatedPerSecond) }},
		output.Column[row]{Head: "OUT", Right: true, Cell: func(s row) string { return output.Rate(s.FinishedPerSecond) }},
		output.Column[row]{Head: "PAUSED", Cell: func(s row) string { return output.YesNo(s.Paused) }})
}

func newStatsCommand(f *factory.Factory) *cobra.Command {
	watch, every := false, 2*time.Second
	cmd := &cobra.Command{
		Use:         "stats [QUEUE]",
		Annotations: cmdutil.Calls(queue.OpListQueueStatuses, "queue stats"),
		SuggestFor:  []string{"status", "ps", "count", "counts"},
		Short:       "Show how full and how busy the queues are",
		Long: "Show how full and how busy the queues are: tasks by status, the age of the task that is ready the longest, and\n" +
			"the rates of the last minute. With --watch it goes on until interrupted.",
		Example:           "  pgqueue stats\n  pgqueue stats mail --watch --every 1s\n  pgqueue stats --jq '.body[] | select(.ready > 1000) | .queue'",
		Args:              cmdutil.Args(0, 1, ""),
		ValidArgsFunction: cmdutil.First(cmdutil.QueueNames(f)),

		RunE: func(cmd *cobra.Command, args []string) error {
			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			if watch && every < 100*time.Millisecond {
				return cmdutil.Usage("--every: must be at least 100ms, got %v", every)
			}

			// A program reads the values of a stream a line each. YAML stays where it is asked for.
			if watch && !p.Human() && p.Format != output.YAML {
				p.Format = output.NDJSON
			}

			for {
				err := readStats(cmd.Context(), f, svc, p, args, watch)
				if watch && cmd.Context().Err() != nil {
					// An interruption may have cut a call.
					return nil //nolint:nilerr // the error of an interrupted call does not count
				}

				if err != nil || !watch {
					return err
				}

				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(every):
				}
			}
		},
	}

	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted")
	program.DurationVar(cmd.Flags(), &every, "every", "with --watch: look this often")

	return cmd
}

func readStats(ctx context.Context, f *factory.Factory, svc queue.Service, p *output.Printer, args []string, watch bool) error {
	call, cancel := f.Call(ctx)
	defer cancel()
	var list restapi.List[restapi.QueueStats]

	if len(args) == 1 {
		st, err := svc.QueueStats(call, args[0])
		if err != nil {
			return err
		}

		if !p.Human() {
			return p.Value(restapi.QueueStatsOf(st))
		}

		list = restapi.ListOf([]restapi.QueueStats{restapi.QueueStatsOf(st)})
	} else {
		all, err := svc.ListQueueStatuses(call)
		if err != nil {
			return err
		}

		list = restapi.ListOf(restapi.Each(all, restapi.QueueStatsOf))
	}

	// Each table takes the place of the one before.
	if watch && p.Human() && p.IO.OutTTY && !p.IO.Dumb {
		fmt.Fprint(f.IO.Out, f.IO.ClearScreen())
	}

	return output.List(p, list, "no queues; make one with: pgqueue create-queue NAME", statsColumns())
}

func newEventsCommand(f *factory.Factory) *cobra.Command {
	var filter queue.EventFilter
	var kinds, statuses []string
	follow, count, allKinds := true, 0, cmdutil.Words[string](queue.EventKinds())
	cmd := &cobra.Command{
		Use:         "events",
		Annotations: cmdutil.Calls(queue.OpSubscribeEvents, "task events"),
		SuggestFor:  []string{"log", "logs", "tail", "follow"},
		Short:       "Follow the events of tasks",
		Long: "Follow the events of tasks, a line each, until interrupted. --after continues behind the cursor of an event, without\n" +
			"gaps; --follow=false shows what is kept of the feed and ends.",
		Example: "  pgqueue events --queue mail --kind failed\n  pgqueue events --task 42\n" +
			"  pgqueue events --follow=false --jq 'select(.status == \"failed\") | .task'",
		Args: cmdutil.Args(0, 0, "", "--queue"),

		RunE: func(cmd *cobra.Command, _ []string) error {
			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			if !p.Human() {
				p.Format = output.NDJSON
			}

			filter.Kinds, filter.Statuses = cmdutil.Words[queue.EventKind](kinds), cmdutil.Words[queue.Status](statuses)

			seen := 0
			show := func(e queue.Event) error {
				if err := printEvent(f, p, e); err != nil {
					return err
				}

				if seen++; seen == count {
					return errEnough
				}

				return nil
			}

			if follow {
				err = svc.SubscribeEvents(cmd.Context(), filter, show)
			} else {
				err = showKept(cmd.Context(), f, svc, filter, show)
			}

			// The user asked for this end, by --count or by a signal.
			if errors.Is(err, errEnough) || count == 0 && cmd.Context().Err() != nil {
				err = nil
			}

			return err
		},
	}

	fs := cmd.Flags()
	fs.StringVar(&filter.Queue, "queue", "", "only of this `queue`")
	fs.Int64Var(&filter.TaskID, "task", 0, "only of this `task`")
	fs.StringVar(&filter.Worker, "worker", "", "only of this `worker`")
	fs.StringSliceVar(&kinds, "kind", nil, "only these `kinds`: "+strings.Join(allKinds, ", "))
	fs.StringSliceVar(&statuses, "status", nil, "only what leaves a task in these `statuses`")
	fs.StringVar(&filter.After, "after", "", "go on behind this `cursor`")
	fs.BoolVarP(&follow, "follow", "f", true, "go on until interrupted")
	fs.IntVar(&count, "count", 0, "end after this many")
	_ = cmd.RegisterFlagCompletionFunc("queue", cmdutil.QueueNames(f))
	_ = cmd.RegisterFlagCompletionFunc("kind", cmdutil.Fixed(allKinds...))
	_ = cmd.RegisterFlagCompletionFunc("status", cmdutil.Statuses)

	return cmd
}

// errEnough ends a stream after the number of events that was asked for.
var errEnough = errors.New("enough")

// showKept calls show with each event behind the cursor of filter that the feed keeps.
func showKept(ctx context.Context, f *factory.Factory, svc queue.Service, filter queue.EventFilter, show func(queue.Event) error) error {
	for {
		call, cancel := f.Call(ctx)
		page, err := svc.ListEvents(call, filter, queue.MaxPage)
		cancel()

		if err != nil {
			return err
		}

		for _, e := range page.Events {
			if err := show(e); err != nil {
				return err
			}
		}

		if !page.More {
			return nil
		}

		filter.After = page.Next
	}
}

func printEvent(f *factory.Factory, p *output.Printer, e queue.Event) error {
	if !p.Human() {
		return p.Value(restapi.EventOf(e))
	}

	worker := ""
	if e.Worker != "" {
		worker = "  by " + output.Clean(e.Worker)
	}

	_, err := fmt.Fprintf(f.IO.Out, "%s  %s  task %d in %s%s\n", e.At.In(f.Now().Location()).Format("15:04:05.000"),
		f.IO.Paint(output.StatusStyle(e.Kind.Status()), fmt.Sprintf("%-9s", e.Kind)), e.TaskID, e.Queue, worker)

	return err
}

func newWorkersCommand(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:         "workers",
		Annotations: cmdutil.Calls(queue.OpListWorkers, ""),
		Short:       "List the workers that hold tasks, and since when",
		Example:     "  pgqueue workers\n  pgqueue workers --jq '.body[] | [.worker, .held] | @tsv'",
		Args:        cmdutil.Args(0, 0, ""),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, _ []string) error {
			all, err := svc.ListWorkers(ctx)
			if err != nil {
				return err
			}

			list, now := restapi.ListOf(restapi.Each(all, restapi.WorkerOf)), f.Now()

			return output.List(p, list, "no worker holds a task", []output.Column[restapi.Worker]{
				{Head: "WORKER", Cell: func(w restapi.Worker) string { return output.Clean(w.Worker) }},
				{Head: "HELD", Right: true, Cell: func(w restapi.Worker) string { return output.Number(w.Held) }},
				{Head: "SINCE", Cell: func(w restapi.Worker) string { return output.Ago(w.Since, now) }},
				{Head: "LEASE ENDS", Cell: func(w restapi.Worker) string { return output.Ago(w.ExpiresAt, now) }},
				{Head: "QUEUES", Cell: queuesOf},
			})
		}),
	}
}

// queuesOf names the queues of a worker, and how many more there are.
func queuesOf(w restapi.Worker) string {
	names := strings.Join(slices.Sorted(slices.Values(w.Queues)), " ")
	if w.QueueCount > len(w.Queues) {
		names += fmt.Sprintf(" and %d more", w.QueueCount-len(w.Queues))
	}
	return names
}
