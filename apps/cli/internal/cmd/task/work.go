package task

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func newRetainCommand(f *factory.Factory) *cobra.Command {
	var r queue.RetainRequest
	cmd := &cobra.Command{
		Use:         "retain-task [QUEUE...]",
		Annotations: cmdutil.Calls(queue.OpRetainTasks, "task retain"),
		SuggestFor:  []string{"dequeue", "pull", "claim", "reserve", "fetch", "retain"},
		Short:       "Take tasks under a lease",
		Long: "Take ready tasks under a lease, from the named queues or from all. The token shown is needed to\n" +
			"complete them. The exit code is 3 when there is none. With --limit the JSON is a list, else it is the task.\n" +
			"Tasks of one group with in_order in their leases run one after the other: when one does not succeed, hand back the rest.",
		Example: "  pgqueue retain-task mail --worker w1\n" +
			"  pgqueue retain-task --worker w1 --wait 30s\n" +
			"  pgqueue retain-task mail sms --worker w1 --limit 10 --jq '.body[].id'",
		ValidArgsFunction: cmdutil.QueueNames(f),

		RunE: func(cmd *cobra.Command, args []string) error {
			if r.Worker == "" {
				return cmdutil.Usage("--worker: must be the name of the worker, got none")
			}

			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			// --wait bounds the call, and may be longer than --timeout.
			r.Queues = args
			tasks, err := svc.RetainTasks(cmd.Context(), r)
			if err != nil {
				return err
			}

			switch {
			case len(tasks) == 0 && (p.Human() || !cmd.Flags().Changed("limit")):
				return &queue.Error{Op: "retain task", Kind: queue.KindNotFound, Msg: "no task is ready; wait for one with --wait"}
			case cmd.Flags().Changed("limit"):
				err = output.List(p, restapi.ListOf(restapi.Each(tasks, restapi.TaskOf)), "", heldColumns(f.Now()))
				if err == nil && len(tasks) == 0 {
					return &cmdutil.Exit{Code: 3}
				}

			default:
				err = printTask(f, p, tasks[0])
			}

			if err != nil && handBackUnseen(cmd, p, svc, tasks) {
				return &queue.Error{Op: "retain task", Kind: queue.KindInternal, Msg: "no task is held: " + program.OneLine(err)}
			}

			return err
		},
	}

	fs := cmd.Flags()
	fs.StringVar(&r.Worker, "worker", "", "`name` of the worker (needed)")
	program.DurationVar(fs, &r.Wait, "wait", "wait this long for a task, up to 10m")
	r.Limit = 1
	cmdutil.LimitVar(fs, &r.Limit, "take at most this many")
	fs.StringVar(&r.RequestID, "request-id", "", "`id` of this retain: the same command with it gives the same tasks for 30s, or their leases if shorter")
	fs.IntVar(&r.MaxBytes, "max-bytes", 0, "take tasks of about this many bytes together, up to 8388608; the first one always (default 3000000)")
	program.DurationVar(fs, &r.Lease, "lease", "hold it this long without a heartbeat (default: the queue's)")

	return cmd
}

// handBackUnseen hands back retained tasks that could not be shown, because without their tokens they cannot be
// released. It reports whether it did.
func handBackUnseen(cmd *cobra.Command, p *output.Printer, svc queue.Consumer, tasks []*queue.Task) bool {
	if len(tasks) == 0 {
		return true
	}

	if err := queue.HandBack(cmd.Context(), svc, tasks); err != nil {
		fmt.Fprintf(p.IO.Err, "the tasks could neither be shown nor handed back; they return when their leases end: %v\n", err)
		return false
	}

	fmt.Fprintln(p.IO.Err, "the tasks could not be shown and were handed back")

	return true
}

// heldColumns shows the token first, because a release needs it.
func heldColumns(now time.Time) []output.Column[restapi.Task] {
	out := []output.Column[restapi.Task]{{Head: "TOKEN", Right: true, Cell: func(t restapi.Task) string {
		if t.Lease == nil {
			return "-"
		}
		return output.Number(t.Lease.Token)
	}}}
	return append(out, taskColumns(now)...)
}

type completeOptions struct {
	failure     string
	result      string
	token       int64
	permanent   bool
	retryIn     time.Duration
	scope       string
	errorKind   string
	fingerprint string
}

// defineScope defines the flag of what a delay holds up.
func defineScope(cmd *cobra.Command, scope *string) {
	cmd.Flags().StringVar(scope, "scope", string(queue.ScopeTask), "part that the delay holds up: the task, its group, or its queue")
	_ = cmd.RegisterFlagCompletionFunc("scope", cmdutil.Fixed("task", "group", "queue"))
}

func newCompleteCommand(f *factory.Factory) *cobra.Command {
	var o completeOptions
	cmd := &cobra.Command{
		Use:         "complete-task ID",
		Annotations: cmdutil.Calls(queue.OpReleaseTasks, "task complete"),
		SuggestFor:  []string{"release-task", "release", "ack", "done", "finish", "fail", "complete"},
		Short:       "Release a held task: done, or failed with --error",
		Long: "Release a held task: done, with a --result, or failed, with an --error; then it is tried again while retries are\n" +
			"left. Without --token it ends the present lease, of any worker; with it only that lease (exit code 4).",
		Example: "  pgqueue complete-task 42 --token 7 --result '{\"sent\":true}'\n" +
			"  pgqueue complete-task 42 --error '{\"msg\":\"no route to host\"}' --retry-in 30s\n" +
			"  pgqueue complete-task 42 --error '\"no such address\"' --permanent --error-kind no_address",
		Args: cmdutil.Args(1, 1, "a task id", "--result"),

		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := o.buildRelease(cmd, f, args[0])
			if err != nil {
				return err
			}

			return releaseTask(cmd, f, r)
		},
	}

	fs := cmd.Flags()
	fs.StringVar(&o.failure, "error", "", "it failed with this `error`: JSON, @file, or - for stdin")
	fs.StringVar(&o.result, "result", "", "its `result`: JSON, @file, or - for stdin")
	fs.Int64Var(&o.token, "token", 0, "`token` of the lease")
	fs.StringVar(&o.errorKind, "error-kind", "", "with --error: `kind` of the error, as invalid_input")
	fs.StringVar(&o.fingerprint, "fingerprint", "", "with --error: `name` that groups the failure with others")
	fs.BoolVar(&o.permanent, "permanent", false, "with --error: do not try it again")
	program.DurationVar(fs, &o.retryIn, "retry-in", "with --error: try it again after this instead of the backoff")
	defineScope(cmd, &o.scope)

	return cmd
}

func (o *completeOptions) buildRelease(cmd *cobra.Command, f *factory.Factory, arg string) (queue.Release, error) {
	id, err := cmdutil.ID(arg)
	r := queue.Release{ID: id, Token: o.token, Outcome: queue.OutcomeSuccess, Delay: o.retryIn, Scope: queue.Scope(o.scope)}
	if err != nil {
		return r, err
	}

	failed := cmd.Flags().Changed("error")
	if err := o.checkFlags(failed); err != nil {
		return r, err
	}
	if !failed {
		r.Result, err = cmdutil.JSON(f, "--result", o.result)
		return r, err
	}

	r.Outcome = queue.OutcomeFailure
	if o.permanent {
		r.Outcome = queue.OutcomePermanent
	}
	r.ErrorKind, r.Fingerprint = o.errorKind, o.fingerprint
	r.Result, err = cmdutil.JSON(f, "--error", o.failure)
	return r, err
}

// checkFlags returns an error for flags that exclude each other. failed reports that --error was given, as an empty text too.
func (o *completeOptions) checkFlags(failed bool) error {
	switch {
	case failed && o.result != "":
		return cmdutil.Usage("--error: must not come with --result; leave one out")
	case !failed && (o.permanent || o.retryIn != 0 || o.errorKind != "" || o.fingerprint != ""):
		return cmdutil.Usage("--permanent, --retry-in, --error-kind and --fingerprint: must come with --error; add it or leave them out")
	case o.permanent && o.retryIn != 0:
		return cmdutil.Usage("--permanent: must not come with --retry-in; leave one out")
	case failed && o.failure == "":
		return cmdutil.Usage(`--error: must be JSON, got nothing; write it as '{"msg":"no route to host"}'`)
	}
	return nil
}

func releaseTask(cmd *cobra.Command, f *factory.Factory, r queue.Release) error {
	return f.Do(cmd, func(ctx context.Context, svc queue.Service, p *output.Printer) error {
		out, err := svc.ReleaseTasks(ctx, []queue.Release{r})
		if err != nil {
			return err
		}

		return printTask(f, p, out[0].Task)
	})
}

func newSnoozeCommand(f *factory.Factory) *cobra.Command {
	r := queue.Release{Outcome: queue.OutcomeSnooze}
	scope := ""
	cmd := &cobra.Command{
		Use:         "snooze-task ID",
		Annotations: cmdutil.Calls(queue.OpReleaseTasks, "task snooze"),
		Short:       "Hand a held task back for a while, at no cost of an attempt",
		Example:     "  pgqueue snooze-task 42 --token 7 --delay 10m",
		Args:        cmdutil.Args(1, 1, "a task id"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.ID, err = cmdutil.ID(args[0]); err != nil {
				return err
			}

			if r.Delay == 0 {
				return cmdutil.Usage("--delay: must be the time that the task waits, got none")
			}
			r.Scope = queue.Scope(scope)

			return releaseTask(cmd, f, r)
		},
	}

	cmd.Flags().Int64Var(&r.Token, "token", 0, "`token` of the lease")
	program.DurationVar(cmd.Flags(), &r.Delay, "delay", "how long it waits (needed)")
	defineScope(cmd, &scope)

	return cmd
}

func newHandBackCommand(f *factory.Factory) *cobra.Command {
	r := queue.Release{Outcome: queue.OutcomeHandBack}
	cmd := &cobra.Command{
		Use:         "handback-task ID",
		Annotations: cmdutil.Calls(queue.OpReleaseTasks, "task handback"),
		Short:       "Hand a held task back unstarted, at no cost of an attempt",
		Example:     "  pgqueue handback-task 42 --token 7",
		Args:        cmdutil.Args(1, 1, "a task id"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.ID, err = cmdutil.ID(args[0]); err != nil {
				return err
			}

			return releaseTask(cmd, f, r)
		},
	}

	cmd.Flags().Int64Var(&r.Token, "token", 0, "`token` of the lease")

	return cmd
}

func describeBeat(b queue.Beat, now time.Time) []output.Field {
	cancel := ""
	if b.CancelRequested {
		cancel = "requested: complete the task to end it"
	}
	return []output.Field{{Name: "lease", Value: "until " + output.Time(b.Lease.ExpiresAt, now)}, {Name: "cancel", Value: cancel}}
}

func newHeartbeatCommand(f *factory.Factory) *cobra.Command {
	var h queue.Heartbeat
	var progress string
	cmd := &cobra.Command{
		Use:         "heartbeat-task ID",
		Annotations: cmdutil.Calls(queue.OpHeartbeatTasks, "task heartbeat"),
		Short:       "Extend the lease of a task, and report progress",
		Example:     "  pgqueue heartbeat-task 42 --token 7 --lease 10m --progress '{\"percent\":40}'",
		Args:        cmdutil.Args(1, 1, "a task id"),

		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if h.ID, err = cmdutil.ID(args[0]); err != nil {
				return err
			}

			if h.Token == 0 {
				return cmdutil.Usage("--token: must be the token of the lease, got none")
			}

			if h.Progress, err = cmdutil.JSON(f, "--progress", progress); err != nil {
				return err
			}

			return f.Do(cmd, func(ctx context.Context, svc queue.Service, p *output.Printer) error {
				out, err := svc.HeartbeatTasks(ctx, []queue.Heartbeat{h})
				if err != nil {
					return err
				}

				return output.One(p, restapi.BeatOf(out[0]), func() []output.Field { return describeBeat(out[0], f.Now()) })
			})
		},
	}

	cmd.Flags().Int64Var(&h.Token, "token", 0, "`token` of the lease (needed)")
	program.DurationVar(cmd.Flags(), &h.Lease, "lease", "hold it this long from now on (default: keep the length that was granted)")
	cmd.Flags().StringVar(&progress, "progress", "", "`progress` to keep with the task: JSON, @file, or -")

	return cmd
}
