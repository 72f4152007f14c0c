// Package queues has the commands of queues and namespaces.
package queues

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Commands returns the commands of queues and namespaces.
func Commands(f *factory.Factory) []*cobra.Command {
	return cmdutil.InGroup(cmdutil.GroupQueues,
		newNamespacesCommand(f), newListCommand(f), newViewCommand(f), newCreateCommand(f),
		newUpdateCommand(f), newDeleteCommand(f), newPauseCommand(f, true), newPauseCommand(f, false),
		newCleanCommand(f), newFailuresCommand(f), newHistoryCommand(f), newScaleCommand(f),
		newGroupsCommand(f), newGroupCommand(f), newUnblockCommand(f),
	)
}

func newNamespacesCommand(f *factory.Factory) *cobra.Command {
	var page queue.Page
	cmd := &cobra.Command{
		Use:         "namespaces",
		Annotations: cmdutil.Calls(queue.OpListNamespaces, ""),
		Example:     "  pgqueue namespaces\n  pgqueue namespaces --jq '.body[]'",
		Args:        cmdutil.Args(0, 0, ""),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, _ []string) error {
			names, err := svc.ListNamespaces(ctx)
			if err != nil {
				return err
			}

			part, next, err := page.Names(names)
			if err != nil {
				return err
			}

			list := restapi.List[string]{Count: int64(len(names)), Body: part, Next: next}
			if err := output.List(p, list, "no namespaces",
				[]output.Column[string]{{Head: "NAMESPACE", Cell: func(s string) string { return s }}}); err != nil {
				return err
			}

			cmdutil.ReportCut(p, page, len(part), list.Count)

			return nil
		}),
	}

	cmdutil.Page(cmd.Flags(), &page, "all")

	return cmd
}

func formatDuration(n int64) string { return output.Duration(time.Duration(n)) }

// formatRetention formats the time that finished tasks stay.
func formatRetention(q restapi.Queue) string { return output.Duration(q.Domain().FinishedStay()) }

func queueColumns(now time.Time) []output.Column[restapi.Queue] {
	type row = restapi.Queue
	return []output.Column[row]{
		{Head: "QUEUE", Cell: func(q row) string { return q.Queue }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "PAUSED", Cell: func(q row) string { return output.YesNo(q.Paused) }, Style: func(q row) iostreams.Style {
			if q.Paused {
				return iostreams.Yellow
			}

			return iostreams.Plain
		}},
		{Head: "TTL", Right: true, Cell: func(q row) string { return formatDuration(q.TTL) }},
		{Head: "RETRIES", Right: true, Cell: func(q row) string { return strconv.Itoa(q.Retries) }},
		{Head: "DELAY", Right: true, Cell: func(q row) string { return formatDuration(q.RetryDelay) }},
		{Head: "BACKOFF", Cell: func(q row) string { return q.Backoff }},
		{Head: "MAX-DELAY", Right: true, Wide: true, Cell: func(q row) string { return formatDuration(q.RetryMaxDelay) }},
		{Head: "LEASE", Right: true, Cell: func(q row) string { return formatDuration(q.Lease) }},
		{Head: "CONCURRENCY", Right: true, Cell: func(q row) string {
			if q.Concurrency == 0 {
				return "-"
			}

			return strconv.Itoa(q.Concurrency)
		}},
		{Head: "RETENTION", Right: true, Cell: formatRetention},
		{Head: "EVENTS", Wide: true, Cell: func(q row) string { return output.YesNo(q.Events) }},
		{Head: "CREATED", Wide: true, Cell: func(q row) string { return output.Ago(q.CreatedAt, now) }},
	}
}

func describeQueue(q restapi.Queue, now time.Time) []output.Field {
	concurrency := "no limit"
	if q.Concurrency > 0 {
		concurrency = strconv.Itoa(q.Concurrency)
	}

	paused := output.Field{Name: "paused", Value: output.YesNo(q.Paused)}
	if q.Paused {
		paused.Style = iostreams.Yellow
	}

	return []output.Field{
		{Name: "queue", Value: q.Queue, Style: iostreams.Bold},
		{Name: "namespace", Value: q.Namespace},
		paused,
		{Name: "ttl", Value: formatDuration(q.TTL)},
		{Name: "retries", Value: strconv.Itoa(q.Retries)},
		{Name: "retry delay", Value: fmt.Sprintf("%s, %s, at most %s", formatDuration(q.RetryDelay), q.Backoff, formatDuration(q.RetryMaxDelay))},
		{Name: "lease", Value: formatDuration(q.Lease)},
		{Name: "concurrency", Value: concurrency},
		{Name: "flow", Value: describeFlow(q)},
		{Name: "failures", Value: describeFailurePolicy(q)},
		{Name: "retention", Value: formatRetention(q)},
		{Name: "events", Value: output.YesNo(q.Events)},
		{Name: "created", Value: output.Time(q.CreatedAt, now)},
		{Name: "updated", Value: output.Time(q.UpdatedAt, now)},
	}
}

func printQueue(f *factory.Factory, p *output.Printer, q *queue.Queue) error {
	w := restapi.QueueOf(q)
	return output.One(p, w, func() []output.Field { return describeQueue(w, f.Now()) })
}

func newListCommand(f *factory.Factory) *cobra.Command {
	return cmdutil.ListAll(f, &cobra.Command{
		Use:         "queues",
		Annotations: cmdutil.Calls(queue.OpListQueues, "queue list"),
		SuggestFor:  []string{"ls", "list"},
		Short:       "List the queues and their policies",
		Long:        "List the queues and their policies. pgqueue stats shows how full they are.",
		Example:     "  pgqueue queues\n  pgqueue queues -o wide\n  pgqueue queues --jq '.body[] | select(.paused) | .queue'",
	}, func(ctx context.Context, svc queue.Service, page queue.Page) ([]*queue.Queue, int64, error) {
		got, err := svc.ListQueues(ctx, page)
		return got.Queues, got.Count, err
	}, restapi.QueueOf, "no queues; make one with: pgqueue create-queue NAME", queueColumns)
}

// The changes of a queue after which its policy is not shown.
const (
	deleted = "deleted"
	paused  = "paused"
	resumed = "resumed"
)

// newNamedCommand returns a command on one named queue.
func newNamedCommand(f *factory.Factory, cmd *cobra.Command, do func(context.Context, queue.Service, string) (*queue.Queue, error), done string) *cobra.Command {
	return cmdutil.About(f, cmd, "a queue's name", cmdutil.QueueNames(f), do, func(p *output.Printer, q *queue.Queue) error {
		if done != "" {
			p.Done("queue %s %s", q.Name, done)
		}

		if p.Human() && (done == deleted || done == paused || done == resumed) {
			// The sentence is enough.
			return nil
		}

		return printQueue(f, p, q)
	})
}

func newViewCommand(f *factory.Factory) *cobra.Command {
	return newNamedCommand(f, &cobra.Command{
		Use: "queue NAME", Annotations: cmdutil.Calls(queue.OpGetQueue, "queue view"), Short: "Show a queue and its policy", Example: "  pgqueue queue mail\n  pgqueue queue mail --jq .retries",
	}, func(ctx context.Context, svc queue.Service, name string) (*queue.Queue, error) {
		return svc.GetQueue(ctx, name)
	}, "")
}

// definePolicyFlags defines the flags of a queue's policy.
func definePolicyFlags(cmd *cobra.Command, m *queue.QueueMeta) {
	fs := cmd.Flags()
	cmdutil.MaybeDuration(fs, &m.TTL, "ttl", "a task not finished this long after it became due expires; 0 = never")
	cmdutil.MaybeInt(fs, &m.Retries, "retries", "retries after the first attempt; 0 = one attempt only")
	cmdutil.MaybeDuration(fs, &m.RetryDelay, "retry-delay", "base of the delay between attempts")
	cmdutil.MaybeText(fs, &m.Backoff, "backoff", "how the delay grows: exponential, linear or constant")
	cmdutil.MaybeDuration(fs, &m.RetryMaxDelay, "retry-max-delay", "cap of the delay; 0 = none")
	cmdutil.MaybeDuration(fs, &m.Lease, "lease", "how long a retained task is held without a heartbeat")
	cmdutil.MaybeInt(fs, &m.Concurrency, "concurrency", "most tasks retained at once over all workers; 0 = no limit")
	cmdutil.MaybeDuration(fs, &m.Retention, "retention", "how long finished tasks stay; 0 = the ttl if set, else 7d")
	cmdutil.MaybeBool(fs, &m.Paused, "paused", "retain nothing from it")
	cmdutil.MaybeBool(fs, &m.Events, "events", "keep the events of its tasks in the feed")
	defineFlowFlags(cmd, &m.FlowMeta)
	defineFailureFlags(cmd, &m.FailurePolicyMeta)
	_ = cmd.RegisterFlagCompletionFunc("backoff", cmdutil.Fixed("exponential", "linear", "constant"))
}

func newCreateCommand(f *factory.Factory) *cobra.Command {
	var m queue.QueueMeta
	cmd := newNamedCommand(f, &cobra.Command{
		Use: "create-queue NAME", Annotations: cmdutil.Calls(queue.OpCreateQueue, "queue create"),
		Long:              "Create a queue. The defaults are: 3 retries, 2m delay, exponential, 5m lease, 7d retention.",
		Example:           "  pgqueue create-queue mail\n  pgqueue create-queue mail --retries 2 --retry-delay 30s --ttl 7d --concurrency 10",
		ValidArgsFunction: cobra.NoFileCompletions,
	}, func(ctx context.Context, svc queue.Service, name string) (*queue.Queue, error) {
		m.Name = name
		return svc.CreateQueue(ctx, m)
	}, "created")

	definePolicyFlags(cmd, &m)

	return cmd
}

func newUpdateCommand(f *factory.Factory) *cobra.Command {
	var m queue.QueueMeta
	cmd := newNamedCommand(f, &cobra.Command{
		Use: "update-queue NAME", Annotations: cmdutil.Calls(queue.OpUpdateQueue, "queue update"), Short: "Change settings of a queue",
		Example: "  pgqueue update-queue mail --lease 10m\n  pgqueue update-queue mail --ttl 0",
	}, func(ctx context.Context, svc queue.Service, name string) (*queue.Queue, error) {
		// A condition alone changes nothing, so it counts as no setting.
		if m == (queue.QueueMeta{IfVersion: m.IfVersion}) {
			return nil, cmdutil.Usage("settings: must be at least one, got none; see pgqueue update-queue --help")
		}

		return svc.UpdateQueue(ctx, name, m)
	}, "updated")

	definePolicyFlags(cmd, &m)
	cmdutil.IfVersion(cmd, &m.IfVersion, "queue")

	return cmd
}

func newDeleteCommand(f *factory.Factory) *cobra.Command {
	var version int64
	var empty bool
	cmd := newNamedCommand(f, &cobra.Command{
		Use: "delete-queue NAME", Annotations: cmdutil.Calls(queue.OpDeleteQueue, "queue delete"), Example: "  pgqueue delete-queue mail\n  pgqueue delete-queue mail --if-empty",
	}, func(ctx context.Context, svc queue.Service, name string) (*queue.Queue, error) {
		return svc.DeleteQueue(ctx, name, queue.IfVersion(version), queue.IfEmpty(empty))
	}, deleted)

	cmdutil.IfVersion(cmd, &version, "queue")
	cmd.Flags().BoolVar(&empty, "if-empty", false, "only if the queue has no unfinished tasks")

	return cmd
}

func newPauseCommand(f *factory.Factory, pause bool) *cobra.Command {
	cmd, done := &cobra.Command{Use: "resume-queue NAME", Annotations: cmdutil.Calls(queue.OpUpdateQueue, "queue resume"), Short: "Resume a paused queue", Example: "  pgqueue resume-queue mail"}, resumed
	if pause {
		cmd = &cobra.Command{
			Use: "pause-queue NAME", Annotations: cmdutil.Calls(queue.OpUpdateQueue, "queue pause"), Short: "Pause a queue: nothing is retained from it", Example: "  pgqueue pause-queue mail",
		}

		done = paused
	}

	var version int64

	cmd = newNamedCommand(f, cmd, func(ctx context.Context, svc queue.Service, name string) (*queue.Queue, error) {
		return svc.UpdateQueue(ctx, name, queue.QueueMeta{Paused: &pause, IfVersion: version})
	}, done)

	cmdutil.IfVersion(cmd, &version, "queue")

	return cmd
}

func newCleanCommand(f *factory.Factory) *cobra.Command {
	var version int64
	cmd := &cobra.Command{
		Use:               "clean-queue NAME",
		Annotations:       cmdutil.Calls(queue.OpCleanQueue, "queue clean"),
		SuggestFor:        []string{"purge", "purge-queue", "prune", "clean"},
		Example:           "  pgqueue clean-queue mail",
		Args:              cmdutil.Args(1, 1, "a queue's name"),
		ValidArgsFunction: cmdutil.First(cmdutil.QueueNames(f)),

		RunE: func(cmd *cobra.Command, args []string) error {
			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			var got queue.Cleaned
			sentence := func() string { return output.Count(got.Count, "finished task") + " deleted" }
			err = cmdutil.Steps(cmd.Context(), f, sentence, func(ctx context.Context, within time.Duration) (bool, error) {
				step, err := svc.CleanQueueWithin(ctx, args[0], within, queue.IfVersion(version))
				if err != nil {
					return false, err
				}

				got.Count, got.More = got.Count+step.Count, step.More

				return got.More, nil
			})

			if err != nil && got.Count == 0 {
				return err
			}

			if p.Human() {
				p.Done("%s", sentence())
				return err
			}

			return errors.Join(err, p.Value(restapi.Count{Count: got.Count, More: got.More}))
		},
	}

	cmdutil.IfVersion(cmd, &version, "queue")

	return cmd
}
