// Package root puts the commands together into the program pgqueue.
package root

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Main runs the program and returns its exit code.
func Main(args []string, version string) int {
	// SIGINT and SIGTERM end the context once; a second one ends the process, as nothing else listens then.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, factory.New(version), args)
}

// Run runs one command line and returns the exit code. Errors are told on f.IO.Err, a line each, with what to do next.
func Run(ctx context.Context, f *factory.Factory, args []string) int {
	defer f.Close()
	cmd, started := New(f)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return run.ExitDone
	}
	if errors.Is(err, syscall.EPIPE) {
		return run.ExitDone // whoever read has seen enough
	}
	if quiet, ok := errors.AsType[*cmdutil.Exit](err); ok {
		return quiet.Code
	}
	if !*started { // cobra's own: an unknown command, a missing argument
		if _, ours := errors.AsType[*queue.Error](err); !ours {
			err = cmdutil.Usage("%s", err.Error())
		}
	}
	if ctx.Err() != nil && (queue.KindOf(err) == queue.KindCanceled || errors.Is(err, context.Canceled)) {
		fmt.Fprintln(f.IO.Err, "interrupted")
		return run.ExitFailed
	}
	explain(f, err)
	return run.ExitCode(err)
}

// explain tells of err and of what to do next.
func explain(f *factory.Factory, err error) {
	fmt.Fprintf(f.IO.Err, "pgqueue: %s\n", output.Clean(run.OneLine(err)))
	if hint := hint(err); hint != "" {
		fmt.Fprintln(f.IO.Err, f.IO.Paint(iostreams.Faint, strings.Repeat(" ", len("pgqueue: "))+hint))
	}
}

// hint says what to do next, where it is not in the error.
func hint(err error) string {
	e, ok := errors.AsType[*queue.Error](err)
	if !ok {
		return ""
	}
	text := e.Error()
	switch {
	case e.Kind == queue.KindUnavailable && strings.Contains(text, "server cannot be reached"):
		return "is a server running there? start one with: pgqueue run (or name another with --url)"
	case e.Kind == queue.KindNotFound && strings.Contains(text, "no such queue") && !strings.Contains(text, "pgqueue "):
		return "pgqueue queues lists what is there; pgqueue create-queue NAME makes one"
	case e.Kind == queue.KindNotFound && strings.Contains(text, "no such ticker"):
		return "pgqueue tickers lists what is there"
	case e.Kind == queue.KindLeaseLost:
		return "another worker may hold the task now; pgqueue task ID tells"
	case e.Kind == queue.KindIndeterminate:
		return "it may have been done or not; look before repeating it"
	}
	return ""
}

// New is the tree of commands; started becomes true when one of them begins to run.
func New(f *factory.Factory) (_ *cobra.Command, started *bool) {
	started = new(bool)
	cmd := &cobra.Command{
		Use:   "pgqueue COMMAND",
		Short: "A task queue on PostgreSQL",
		Long: "pgqueue is a task queue on PostgreSQL: delayed tasks, retries with backoff, tickers, many tenants.\n\n" +
			"pgqueue run starts a server; the other commands are clients of one.\n" +
			"Every flag has an environment variable, as PGQUEUE_URL for --url.\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 not found or nothing there, 4 conflict or lease lost, 5 server unreachable.",
		Example:       "  pgqueue run\n  pgqueue create-queue mail\n  pgqueue create-task mail --payload '{\"to\":\"a@b.c\"}'\n  pgqueue retain-task mail --worker w1\n  pgqueue complete-task 1",
		SilenceErrors: true, SilenceUsage: true,
		SuggestionsMinimumDistance: 3,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			*started = true
			return cmdutil.Prepare(f, cmd)
		},
		Version: f.Version,
	}
	cmd.SetIn(f.IO.In)
	cmd.SetOut(f.IO.Out)
	cmd.SetErr(f.IO.Err)
	cmd.SetVersionTemplate("pgqueue {{.Version}}\n")
	cmd.CompletionOptions.DisableDefaultCmd = true
	f.Flags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("namespace", cmdutil.NamespaceNames(f))
	_ = cmd.RegisterFlagCompletionFunc("output", cmdutil.Fixed(output.Formats()...))
	_ = cmd.RegisterFlagCompletionFunc("protocol", cmdutil.Fixed(factory.REST, factory.Connect))
	cmd.AddGroup(
		&cobra.Group{ID: cmdutil.GroupServer, Title: "Server:"},
		&cobra.Group{ID: cmdutil.GroupQueues, Title: "Queues:"},
		&cobra.Group{ID: cmdutil.GroupTasks, Title: "Tasks:"},
		&cobra.Group{ID: cmdutil.GroupTickers, Title: "Tickers:"},
		&cobra.Group{ID: cmdutil.GroupWatch, Title: "Watching:"},
		&cobra.Group{ID: cmdutil.GroupOther, Title: "Other:"},
	)
	cmd.SetHelpCommandGroupID(cmdutil.GroupOther)
	for _, group := range [][]*cobra.Command{
		serve.Commands(f), queues.Commands(f), task.Commands(f), ticker.Commands(f), watch.Commands(f), transfer.Commands(f),
		top.Commands(f), bench.Commands(f), admin.Commands(f), configure.Commands(f),
	} {
		cmd.AddCommand(group...)
	}
	cmd.SetFlagErrorFunc(flagError)
	return cmd, started
}

// flagError says which flag may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	text := err.Error()
	if missing, ok := errors.AsType[*pflag.NotExistError](err); ok {
		text = fmt.Sprintf("unknown flag %s", flagName(missing.GetSpecifiedName()))
		if near := nearest(cmd, missing.GetSpecifiedName()); near != "" {
			text += fmt.Sprintf("; did you mean --%s?", near)
		} else {
			text += fmt.Sprintf("; see %s --help", cmd.CommandPath())
		}
	}
	return cmdutil.Usage("%s", text)
}

func flagName(s string) string {
	if len(s) == 1 {
		return "-" + s
	}
	return "--" + s
}

// nearest is the flag of cmd that name is closest to; "" when none is close.
func nearest(cmd *cobra.Command, name string) string {
	best, least := "", 1+len(name)/3
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		d := distance(name, f.Name)
		if len(name) > 2 && strings.HasPrefix(f.Name, name) {
			d = 1
		}
		if !f.Hidden && d <= least && (best == "" || d < least) {
			best, least = f.Name, d
		}
	})
	return best
}

// distance is how many letters must change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
