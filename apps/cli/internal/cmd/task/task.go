// Package task has the commands of tasks.
package task

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// Commands returns the commands of tasks.
func Commands(f *factory.Factory) []*cobra.Command {
	return cmdutil.InGroup(cmdutil.GroupTasks,
		newListCommand(f), newViewCommand(f), newCreateCommand(f), newRetainCommand(f),
		newCompleteCommand(f), newHeartbeatCommand(f), newSnoozeCommand(f), newHandBackCommand(f),
		newAwaitCommand(f), newBulkCommand(f, bulkCancel), newBulkCommand(f, bulkRetry),
		newBulkCommand(f, bulkDelete),
	)
}

// taskColumns of a list of tasks.
func taskColumns(now time.Time) []output.Column[restapi.Task] {
	status := func(t restapi.Task) iostreams.Style { return output.StatusStyle(queue.Status(t.Status)) }
	return []output.Column[restapi.Task]{
		{Head: "ID", Right: true, Cell: func(t restapi.Task) string { return strconv.FormatInt(t.ID, 10) }},
		{Head: "QUEUE", Cell: func(t restapi.Task) string { return t.Queue }},
		{Head: "STATUS", Cell: func(t restapi.Task) string { return t.Status }, Style: status},
		{Head: "ATTEMPT", Right: true, Cell: func(t restapi.Task) string { return strconv.Itoa(t.Attempt) }},
		{Head: "RETRIES", Right: true, Wide: true, Cell: func(t restapi.Task) string { return strconv.Itoa(t.Retries) }},
		{Head: "PRIORITY", Right: true, Wide: true, Cell: func(t restapi.Task) string { return strconv.Itoa(int(t.Priority)) }},
		{Head: "WORKER", Cell: func(t restapi.Task) string { return output.Dash(t.Worker) }},
		{Head: "CREATED", Cell: func(t restapi.Task) string { return output.Ago(t.CreatedAt, now) }},
		{Head: "DUE", Cell: func(t restapi.Task) string { return formatDueTime(t, now) }},
		{Head: "STARTED", Wide: true, Cell: func(t restapi.Task) string { return output.Ago(t.StartedAt, now) }},
		{Head: "FINISHED", Wide: true, Cell: func(t restapi.Task) string { return output.Ago(t.FinishedAt, now) }},
		{Head: "GROUP", Wide: true, Cell: func(t restapi.Task) string { return output.Dash(t.Group) }},
		{Head: "KEY", Wide: true, Cell: func(t restapi.Task) string { return output.Dash(t.Key) }},
		{Head: "RESULT", Wide: true, Cell: func(t restapi.Task) string { return output.Dash(string(t.Result)) }},
		{Head: "PAYLOAD", Cell: func(t restapi.Task) string { return output.Clean(string(t.Payload)) }},
	}
}

// formatDueTime formats the time from which a waiting task may be retained.
func formatDueTime(t restapi.Task, now time.Time) string {
	if !queue.Status(t.Status).Waiting() {
		return "-"
	}
	if !t.DelayedAt.After(now) {
		return "now"
	}
	return output.Ago(t.DelayedAt, now)
}

// describeTask returns the lines that show one task.
func describeTask(t restapi.Task, now time.Time) []output.Field {
	out := []output.Field{
		{Name: "id", Value: strconv.FormatInt(t.ID, 10), Style: iostreams.Bold},
		{Name: "queue", Value: t.Queue},
		{Name: "namespace", Value: t.Namespace},
		{Name: "status", Value: t.Status, Style: output.StatusStyle(queue.Status(t.Status))},
		{Name: "attempt", Value: fmt.Sprintf("%d (%d retries left)", t.Attempt, t.Retries)},
		{Name: "priority", Value: strconv.Itoa(int(t.Priority))},
		{Name: "worker", Value: output.Clean(t.Worker)},
		{Name: "key", Value: output.Clean(t.Key)},
		{Name: "group", Value: output.Clean(t.Group)},
	}

	for _, at := range []struct {
		name string
		t    time.Time
	}{{"created", t.CreatedAt}, {"due", t.DelayedAt}, {"started", t.StartedAt}, {"finished", t.FinishedAt}, {"expires", t.DiesAt}} {
		if !at.t.IsZero() {
			out = append(out, output.Field{Name: at.name, Value: output.Time(at.t, now)})
		}
	}

	if t.Lease != nil {
		out = append(out,
			output.Field{Name: "token", Value: strconv.FormatInt(t.Lease.Token, 10), Style: iostreams.Bold},
			output.Field{Name: "lease", Value: "until " + output.Time(t.Lease.ExpiresAt, now)})
	}

	if t.CancelRequested {
		out = append(out, output.Field{Name: "cancel", Value: "requested", Style: iostreams.Yellow})
	}

	out = append(out, output.Field{Name: "payload", Value: output.Pretty(t.Payload)})
	if len(t.Headers) > 0 {
		var lines []string
		for _, k := range slices.Sorted(maps.Keys(t.Headers)) {
			lines = append(lines, output.Clean(k)+": "+output.Clean(t.Headers[k]))
		}

		out = append(out, output.Field{Name: "headers", Value: strings.Join(lines, "\n")})
	}

	if len(t.Progress) > 0 {
		out = append(out, output.Field{Name: "progress", Value: output.Pretty(t.Progress)})
	}

	if len(t.Result) > 0 {
		out = append(out, output.Field{Name: "result", Value: output.Pretty(t.Result)})
	}

	for _, e := range t.Errors {
		kind := ""
		if e.ErrorKind != "" {
			kind = output.Clean(e.ErrorKind) + ", "
		}
		text := fmt.Sprintf("attempt %d, %s, %s: %s%s", e.Attempt, output.Time(e.At, now), output.Dash(e.Worker), kind, output.Clean(string(e.Error)))
		out = append(out, output.Field{Name: "error", Value: text, Style: iostreams.Red})
	}

	return out
}

func printTask(f *factory.Factory, p *output.Printer, t *queue.Task) error {
	w := restapi.TaskOf(t)
	return output.One(p, w, func() []output.Field { return describeTask(w, f.Now()) })
}

func newListCommand(f *factory.Factory) *cobra.Command {
	var filter cmdutil.Filter
	var page queue.Page
	brief := false
	cmd := &cobra.Command{
		Use:         "tasks",
		Annotations: cmdutil.Calls(queue.OpListTasks, "task list"),
		SuggestFor:  []string{"get"},
		Example: "  pgqueue tasks --queue mail --status failed\n" +
			"  pgqueue tasks --created-after 2026-01-02 -o wide\n" +
			"  pgqueue tasks --limit 1000 --jq '.body[] | [.id, .status] | @tsv'",
		Args: cmdutil.Args(0, 0, "", "--queue"),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, _ []string) error {
			found, err := listTasks(ctx, svc, queue.TaskQuery{TaskFilter: filter.Domain(), Page: page, Brief: brief})
			if err != nil {
				return err
			}

			body := restapi.List[restapi.Task]{Count: found.Count, AtLeast: found.AtLeast, Examined: found.Examined, Body: restapi.Each(found.Tasks, restapi.TaskOf), Next: found.Next}
			if err := output.List(p, body, "no tasks", taskColumns(f.Now())); err != nil {
				return err
			}

			if found.Next != "" && (p.Human() || page.Limit == 0) {
				// A script that gives a limit knows that it gets a part.
				of := strconv.FormatInt(found.Count, 10)
				if found.AtLeast {
					of = "at least " + of
				}

				more := "the next page: --cursor " + found.Next
				if found.Examined > 0 {
					more = fmt.Sprintf("%d tasks were searched; to search on: --cursor %s", found.Examined, found.Next)
				}
				p.Cut(len(found.Tasks), of, more)
			}

			return nil
		}),
	}

	filter.Flags(f, cmd)
	cmdutil.Page(cmd.Flags(), &page, "100")
	cmd.Flags().StringVar(&page.Cursor, "cursor", "", "go on after the page that named this `cursor`")
	cmd.Flags().BoolVar(&brief, "brief", false, "leave out payloads, headers and progress, and shorten results")

	return cmd
}

// listTasks returns a full page, or the last. A list by worker may come in shorter pages. A search for a text is one call,
// because the next one may search as long again.
func listTasks(ctx context.Context, svc queue.Service, q queue.TaskQuery) (queue.TaskPage, error) {
	page, err := svc.ListTasks(ctx, q)
	if q.Limit == 0 {
		q.Limit = queue.DefaultPage
	}

	// A page by offset cannot go on by a cursor.
	for err == nil && q.Offset == 0 && page.Next != "" && q.Text == "" && len(page.Tasks) < q.Limit {
		more := q
		// Only the rest of the page, so that the pages of one list do not overlap.
		more.Cursor, more.Limit = page.Next, q.Limit-len(page.Tasks)
		var rest queue.TaskPage
		rest, err = svc.ListTasks(ctx, more)
		page.Tasks, page.Next = append(page.Tasks, rest.Tasks...), rest.Next
	}

	if q.Offset == 0 && q.Cursor == "" && page.Next == "" {
		// This page is the whole list.
		page.Count, page.AtLeast = int64(len(page.Tasks)), false
	}

	return page, err
}

func newViewCommand(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:         "task ID",
		Annotations: cmdutil.Calls(queue.OpGetTask, "task view"),
		SuggestFor:  []string{"describe", "show", "view", "inspect"},
		Short:       "Show a task with its errors",
		Example:     "  pgqueue task 42\n  pgqueue task 42 -o yaml\n  pgqueue task 42 --jq .payload",
		Args:        cmdutil.Args(1, 1, "a task id"),

		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := cmdutil.ID(args[0])
			if err != nil {
				// "pgqueue task lst" may mean the command "task list".
				if near := cmdutil.NearCommand(cmd, args[0]); near != "" {
					err = cmdutil.Usage("task id: must be a number above 0, got %q; did you mean %s?", args[0], near)
				}

				return err
			}

			return f.Do(cmd, func(ctx context.Context, svc queue.Service, p *output.Printer) error {
				t, err := svc.GetTask(ctx, id)
				if err != nil {
					return err
				}

				return printTask(f, p, t)
			})
		},
	}
}

func newAwaitCommand(f *factory.Factory) *cobra.Command {
	wait := time.Minute
	cmd := &cobra.Command{
		Use:         "await-task ID",
		Annotations: cmdutil.Calls(queue.OpAwaitTask, "task await"),
		Short:       "Wait until a task is finished",
		Long: "Wait until a task is finished and show it. The exit code is 0 when it was released, 1 when it failed, expired or was\n" +
			"cancelled, and 3 when it was not finished in time.",
		Example: "  pgqueue await-task 42 --wait 5m --jq .result",
		Args:    cmdutil.Args(1, 1, "a task id"),

		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := cmdutil.ID(args[0])
			if err != nil {
				return err
			}

			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			// The wait bounds the call, and may be longer than --timeout.
			t, err := svc.AwaitTask(cmd.Context(), id, wait)
			if err != nil {
				return err
			}

			if err := printTask(f, p, t); err != nil {
				return err
			}

			switch {
			case !t.Status.Finished():
				return &cmdutil.Exit{Code: 3}
			case t.Status != queue.StatusReleased:
				return &cmdutil.Exit{Code: 1}
			}

			return nil
		},
	}

	program.DurationVar(cmd.Flags(), &wait, "wait", "how long to wait, up to 10m")

	return cmd
}
