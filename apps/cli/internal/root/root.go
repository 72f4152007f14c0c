// Package root puts the commands together into the program pgqueue.
package root

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/admin"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/bench"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/configure"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/queues"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/serve"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/task"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/ticker"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/top"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/transfer"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/watch"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Main runs the program and returns its exit code.
func Main(args []string, version string) int {
	// SIGINT and SIGTERM end the context once; a second one ends the process, as nothing else listens then. A shell has
	// what it starts in the background ignore SIGINT, and so it stays.
	ends := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) {
		ends = append(ends, os.Interrupt)
	}

	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	context.AfterFunc(ctx, stop)
	// A reader that goes away is an error of the write, and not the end of the process: what was done is to be told, and
	// tasks that were not seen go back. It is heard and not ignored, as what this starts would ignore it too.
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE)
	defer signal.Stop(gone)

	return Run(ctx, factory.New(version), args)
}

// Run runs one command line and returns the exit code. An error is one line on f.IO.Err that says what to do next.
func Run(ctx context.Context, f *factory.Factory, args []string) int {
	defer f.Close()
	failed := f.IO.Guard()
	cmd, started := New(f)
	cmd.SetArgs(args)
	ran, err := cmd.ExecuteContextC(ctx)
	if err == nil && failed() != nil {
		err = &output.Unshown{Err: failed()}
	}

	if err == nil {
		return program.ExitDone
	}

	if lost, ok := errors.AsType[*output.Unshown](err); ok && mayChangeState(ran) {
		return reportUnshown(f, lost)
	}

	if errors.Is(err, syscall.EPIPE) {
		return program.ExitDone // whoever read has seen enough
	}

	if quiet, ok := errors.AsType[*cmdutil.Exit](err); ok {
		return quiet.Code
	}

	if !*started { // cobra's own, as a flag that is needed
		if _, ours := errors.AsType[*queue.Error](err); !ours {
			err = cmdutil.Usage("%s", err.Error())
		}
	}

	if ctx.Err() != nil && (queue.KindOf(err) == queue.KindCanceled || errors.Is(err, context.Canceled)) {
		fmt.Fprintln(f.IO.Err, "interrupted")
		return program.ExitFailed
	}

	text, code := explainError(f, err)
	fmt.Fprintf(f.IO.Err, "pgqueue: %s\n", output.Clean(text))

	return code
}

// onlyReads are the commands that change nothing: when their results cannot be told, nothing was done. What run writes is
// advice.
var onlyReads = []string{
	"namespaces", "queues", "queue", "stats", "tasks", "task", "await-task", "export", "events", "tickers", "ticker", "ticks", "preview-ticker",
	"next-ticker", "workers", "top", "version", "completion", "doctor", "help", "run",
}

const changesNothing = "changes-nothing"

// mayChangeState says that a command may have changed something. One that is not known to change nothing may.
func mayChangeState(cmd *cobra.Command) bool {
	parent := ""
	if cmd.HasParent() {
		parent = cmd.Parent().Name()
	}

	switch {
	case !cmd.HasParent(), cmdutil.OnlyCommands(cmd), cmd.Annotations[changesNothing] != "":
		return false
	case parent == "config":
		return cmd.Name() != "view" && cmd.Name() != "get-contexts"
	case parent == "migrate":
		return cmd.Name() == "up" || cmd.Name() == "down"
	}

	return true
}

// writesNoJSON are commands that have nothing for --jq to work on.
var writesNoJSON = []string{"run", "top", "completion", "export", "sql"}

// checkJQExpression finds what is wrong with --jq before anything is done.
func checkJQExpression(f *factory.Factory, cmd *cobra.Command) error {
	if f.Settings.JQ == "" {
		return nil
	}

	if slices.Contains(writesNoJSON, cmd.Name()) && cmd.Parent().Name() != "ticker" {
		return queue.Invalid("--jq", cmd.CommandPath()+" writes no JSON for it; leave it out")
	}

	_, err := f.Printer()

	return err
}

// reportUnshown tells of what was done and could not be told as it was asked for: exit code 2 would say that nothing was done.
func reportUnshown(f *factory.Factory, lost *output.Unshown) int {
	reason := "its answer could not be written: " + program.OneLine(lost.Err)
	if e, ok := errors.AsType[*queue.Error](lost.Err); ok && e.Field == "--jq" {
		reason = "--jq failed: " + program.Clean(e.Msg)
	}

	if lost.JSON == nil {
		fmt.Fprintf(f.IO.Err, "pgqueue: done, but %s\n", reason)
	} else {
		fmt.Fprintf(f.IO.Err, "pgqueue: done, but %s; the answer is:\n%s\n", reason, lost.JSON)
	}

	return program.ExitFailed
}

// New is the tree of commands; started becomes true when one of them begins to run.
func New(f *factory.Factory) (_ *cobra.Command, started *bool) {
	started = new(bool)
	cmd := cmdutil.Parent(&cobra.Command{
		Use:   "pgqueue COMMAND",
		Short: "A task queue on PostgreSQL",
		Long: "pgqueue is a task queue on PostgreSQL: delayed tasks, retries with backoff, tickers, many tenants.\n\n" +
			"pgqueue run starts a server; the other commands are clients of one.\n" +
			"They can be said noun first, too: pgqueue task list is pgqueue tasks.\n" +
			"The environment says where and as whom a command works: PGQUEUE_URL, _NAMESPACE, _PROTOCOL, _AUTH_TOKEN, _TIMEOUT and\n" +
			"_OUTPUT. What it does is said by its arguments alone; only of pgqueue run every flag has a variable, as PGQUEUE_ADDR.\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 not found or nothing there, 4 conflict or lease lost, 5 server unreachable.",
		Example:       "  pgqueue run\n  pgqueue create-queue mail\n  pgqueue create-task mail --payload '{\"to\":\"a@b.c\"}'\n  pgqueue retain-task mail --worker w1\n  pgqueue complete-task 1",
		SilenceErrors: true, SilenceUsage: true,

		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			*started = true
			if cmdutil.OnlyCommands(cmd) || cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
				return nil // help and completion come whatever the settings are
			}

			if err := program.RefuseEmpty(cmd.Flags(), args); err != nil {
				return err
			}

			if err := cmdutil.Prepare(f, cmd); err != nil {
				return err
			}

			return checkJQExpression(f, cmd)
		},
		Version: f.Version,
	})

	cmd.SetIn(f.IO.In)
	cmd.SetOut(f.IO.Out)
	cmd.SetErr(f.IO.Err)
	cmd.SetUsageTemplate(cmdutil.UsageTemplate(cmd.UsageTemplate()))
	cmd.SetVersionTemplate("pgqueue {{.Version}}\n")
	cmd.CompletionOptions.DisableDefaultCmd = true
	f.Flags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("namespace", cmdutil.NamespaceNames(f))
	_ = cmd.RegisterFlagCompletionFunc("output", cmdutil.Fixed(output.Formats()...))
	_ = cmd.RegisterFlagCompletionFunc("protocol", cmdutil.Fixed(program.REST, program.Connect))
	cmd.AddGroup(
		&cobra.Group{ID: cmdutil.GroupServer, Title: "Server:"},
		&cobra.Group{ID: cmdutil.GroupQueues, Title: "Queues:"},
		&cobra.Group{ID: cmdutil.GroupTasks, Title: "Tasks:"},
		&cobra.Group{ID: cmdutil.GroupTickers, Title: "Tickers:"},
		&cobra.Group{ID: cmdutil.GroupWatch, Title: "Watching:"},
		&cobra.Group{ID: cmdutil.GroupOther, Title: "Other:"},
	)

	cmd.SetHelpCommandGroupID(cmdutil.GroupOther)
	flat, second := newCommands(f), newCommands(f)
	cmd.AddCommand(flat...)
	markReadOnly(flat)
	markReadOnly(second)
	addNouns(flat, second)
	cmd.SetFlagErrorFunc(cmdutil.FlagError)

	return cmd, started
}

// markReadOnly marks the commands that change nothing, by the names that they have at first.
func markReadOnly(all []*cobra.Command) {
	for _, c := range all {
		if slices.Contains(onlyReads, c.Name()) {
			if c.Annotations == nil {
				c.Annotations = map[string]string{}
			}

			c.Annotations[changesNothing] = "yes"
		}
	}
}

// newCommands are all commands of the contract, made anew.
func newCommands(f *factory.Factory) []*cobra.Command {
	return slices.Concat(
		serve.Commands(f), queues.Commands(f), task.Commands(f), ticker.Commands(f), watch.Commands(f), transfer.Commands(f),
		top.Commands(f), bench.Commands(f), admin.Commands(f), configure.Commands(f),
	)
}
