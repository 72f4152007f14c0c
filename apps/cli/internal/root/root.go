// Package root combines the commands into the program pgqueue.
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
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/apply"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/bench"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/configure"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/queues"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/serve"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/task"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/ticker"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/token"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/top"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/transfer"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/watch"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmd/why"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Main runs the program and returns its exit code.
func Main(args []string, version string) int {
	// SIGINT and SIGTERM end the context once; a second signal ends the process. A shell starts background jobs with
	// SIGINT ignored, and so it stays.
	ends := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) {
		ends = append(ends, os.Interrupt)
	}

	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	context.AfterFunc(ctx, stop)
	// A closed pipe is an error of the write and must not end the process, which still reports its changes and hands back
	// tasks that were not shown. The signal is caught, not ignored, because child processes inherit an ignored one.
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE)
	defer signal.Stop(gone)

	return Run(ctx, factory.New(version), args)
}

// Run runs one command line and returns the exit code. An error is one line on f.IO.Err with its remedy.
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

	// A lost result of a change is reported, because the change has happened.
	if lost, ok := errors.AsType[*output.Unshown](err); ok && mayChangeState(ran) {
		return reportUnshown(f, lost)
	}

	if errors.Is(err, syscall.EPIPE) {
		// The reader has closed the pipe.
		return program.ExitDone
	}

	if quiet, ok := errors.AsType[*cmdutil.Exit](err); ok {
		return quiet.Code
	}

	if !*started {
		// The error comes from cobra, such as a missing flag.
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

// mayChangeState reports whether a command may have changed something, which is the default.
func mayChangeState(cmd *cobra.Command) bool {
	parent := ""
	if cmd.HasParent() {
		parent = cmd.Parent().Name()
	}

	switch {
	case !cmd.HasParent(), cmdutil.OnlyCommands(cmd), cmdutil.OnlyReads(cmd):
		return false
	case parent == "config":
		return cmd.Name() != "view" && cmd.Name() != "get-contexts"
	case parent == "migrate":
		return cmd.Name() == "up" || cmd.Name() == "down"
	}

	return true
}

// writesNoJSON are the commands without JSON for --jq.
var writesNoJSON = []string{"run", "work", "top", "completion", "export", "sql"}

// checkJQExpression refuses a wrong --jq before any call.
func checkJQExpression(f *factory.Factory, cmd *cobra.Command) error {
	if f.Settings.JQ == "" {
		return nil
	}

	if slices.Contains(writesNoJSON, cmd.Name()) && cmd.Parent().Name() != "ticker" {
		return queue.Invalid("--jq", fmt.Sprintf("must come with a command that writes JSON, got %.64q; leave the flag out", cmd.CommandPath()))
	}

	_, err := f.Printer()

	return err
}

// reportUnshown reports a change with a result that could not be shown. Exit code 2 would mean that nothing was changed.
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

// New returns the tree of commands. started becomes true when a command begins to run.
func New(f *factory.Factory) (_ *cobra.Command, started *bool) {
	started = new(bool)
	cmd := cmdutil.Parent(&cobra.Command{
		Use:   "pgqueue COMMAND",
		Short: "A task queue on PostgreSQL",
		Long: "pgqueue is a task queue on PostgreSQL: delayed tasks, retries with backoff, tickers, many tenants.\n\n" +
			"pgqueue run starts a server; the other commands are clients of one.\n" +
			"Each has a second name, noun first: pgqueue task list is pgqueue tasks.\n" +
			"The environment names the server and the credentials: PGQUEUE_URL, _NAMESPACE, _PROTOCOL, _AUTH_TOKEN, _TIMEOUT and\n" +
			"_OUTPUT. Arguments alone decide what a command changes; only pgqueue run has a variable for every flag, as PGQUEUE_ADDR.\n" +
			"Exit codes: 0 done, 1 failed or refused for want of a right, 2 usage, 3 not found or nothing there, 4 conflict or lease lost, 5 server unreachable.",
		Example:       "  pgqueue run\n  pgqueue create-queue mail\n  pgqueue create-task mail --payload '{\"to\":\"a@b.c\"}'\n  pgqueue retain-task mail --worker w1\n  pgqueue complete-task 1",
		SilenceErrors: true, SilenceUsage: true,

		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			*started = true
			if cmdutil.OnlyCommands(cmd) || cmd.DisableFlagParsing || cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
				// Help and completion need no settings, and the worker reads its own.
				return nil
			}

			if err := program.RefuseEmpty(cmd.Flags(), args); err != nil {
				return err
			}

			if err := cmdutil.RefuseMisspeltVariables(f, cmd); err != nil {
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
	// A command has one parent in cobra, so its second name needs a command of its own.
	flat, second := newCommands(f), newCommands(f)
	cmd.AddCommand(flat...)
	addNouns(flat, second)
	cmd.SetFlagErrorFunc(cmdutil.FlagError)

	return cmd, started
}

// newCommands returns all commands of the contract. A command without a line of its own has the one of its operation.
func newCommands(f *factory.Factory) []*cobra.Command {
	commands := slices.Concat(
		serve.Commands(f), queues.Commands(f), task.Commands(f), ticker.Commands(f), watch.Commands(f), why.Commands(f), transfer.Commands(f),
		top.Commands(f), bench.Commands(f), admin.Commands(f), token.Commands(f, admin.OpenTokens(f)), configure.Commands(f), []*cobra.Command{apply.Command(f)},
	)
	for _, c := range commands {
		if c.Short == "" {
			c.Short = cmdutil.Operation(c).Operation().Summary
		}
	}

	return commands
}
