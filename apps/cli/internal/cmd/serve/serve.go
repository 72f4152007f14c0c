// Package serve has the commands that run a server, a worker and a demo of both.
package serve

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/apps/server/run"
	workerrun "github.com/pgqueue/pgqueue/apps/worker/run"
)

// Commands returns the commands run, work and demo.
func Commands(f *factory.Factory) []*cobra.Command {
	return []*cobra.Command{newRunCommand(f), newWorkCommand(f), newDemoCommand(f)}
}

// newWorkCommand returns the program pgqueue-worker as a command, for machines that have pgqueue alone. The worker reads its
// flags itself, because they have variables and a file of their own.
func newWorkCommand(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:         "work --queue NAME (--exec COMMAND | --http URL)",
		Annotations: cmdutil.Reads(""),
		SuggestFor:  []string{"worker"},
		Short:       "Work the tasks of queues by a command or a URL, as pgqueue-worker does",
		Example: "  pgqueue work --queue mail --exec './send.sh' -c 4\n" +
			"  pgqueue work --queue hooks --http https://example.com/hook --until-empty=30s\n" +
			"  pgqueue work --help",
		GroupID: cmdutil.GroupServer,

		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := workerrun.Main("pgqueue work", f.Version, args, f.IO.Out, f.IO.Err); code != program.ExitDone {
				return &cmdutil.Exit{Code: code}
			}
			return nil
		},
	}
}

func newRunCommand(f *factory.Factory) *cobra.Command {
	var cfg run.Config
	var log program.LogConfig
	cmd := &cobra.Command{
		Use:         "run [URL]",
		Annotations: cmdutil.Reads(""),
		SuggestFor:  []string{"start", "serve", "server", "up"},
		Short:       "Run a server: REST, Connect RPC and background work",
		Long: "Run a server: REST, Connect RPC and background work, on one port.\n\n" +
			"With a URL (or PGQUEUE_DATABASE_URL) it works on that PostgreSQL. Without one it starts an embedded PostgreSQL\n" +
			"that keeps its data between runs. A signal stops it gracefully, a second one at once.",
		Example: "  pgqueue run\n" +
			"  pgqueue run --addr :9000 --data-dir ./data\n" +
			"  pgqueue run postgres://app@db.example.org/app --schema jobs",
		GroupID:           cmdutil.GroupServer,
		Args:              cmdutil.Args(0, 1, ""),
		ValidArgsFunction: cobra.NoFileCompletions,

		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if code, done := program.Init(); done {
				// Init precedes the first output, which the child writes.
				return &cmdutil.Exit{Code: code}
			}

			if err := cfg.Argument(args); err != nil {
				return err
			}

			if err := cfg.RefuseClientURL(f.Lookup); err != nil {
				return err
			}

			if cfg.Log, err = log.Logger(f.IO.Err, f.IO.ErrTTY); err != nil {
				return err
			}

			if ns := f.Settings.Namespace; ns != "" {
				cfg.Namespace = ns
			}

			cfg.Version = f.Version
			if f.IO.ErrTTY && !f.IO.Dumb {
				cfg.Waiting = func(err error, left time.Duration) { showWaiting(f, err, left) }
			}

			// A signal also ends the context of the command. It must not count twice: a second signal stops the server at once.
			ctx := context.WithoutCancel(cmd.Context())
			program.WarnUnread(cfg.Log, cmd.Flags())

			return run.UntilSignal(ctx, cfg, log.Level, func(s *run.Server) { suggestNextCommands(f, s) })
		},
	}

	run.Flags(cmd.Flags(), &cfg)
	program.LogFlags(cmd.Flags(), &log)

	return cmd
}

// showWaiting shows on one line of a terminal that the server waits for the database, and removes the line at the end.
func showWaiting(f *factory.Factory, err error, left time.Duration) {
	text := ""
	if err != nil {
		text = fmt.Sprintf("waiting for the database, %s left: %s", output.Duration(left.Round(time.Second)), output.Clean(program.OneLine(err)))
		if f.IO.Width > 0 {
			text = ansi.Truncate(text, f.IO.Width-1, "…")
		}
	}

	fmt.Fprint(f.IO.Err, f.IO.ClearLine()+f.IO.Paint(iostreams.Faint, text))
}

// suggestNextCommands writes three commands to type next.
func suggestNextCommands(f *factory.Factory, s *run.Server) {
	self := typedProgramName()
	at := ""
	if url := s.APIURL(); url != program.DefaultServerURL {
		at = " --url " + url
	}

	for _, line := range []string{
		self + " create-queue mail" + at,
		self + " create-task mail --payload '{\"to\":\"a@b.c\"}'" + at,
		self + " retain-task mail --worker w1" + at + f.IO.Paint(iostreams.Faint, "   # more: "+self+" --help, "+s.URL()+"/docs"),
	} {
		fmt.Fprintln(f.IO.Out, line)
	}
}

// typedProgramName returns the name under which this program was started, if it is short enough to type again.
func typedProgramName() string {
	name := "pgqueue"
	if len(os.Args) > 0 && filepath.Base(os.Args[0]) == name {
		name = os.Args[0]
	}
	return name
}
