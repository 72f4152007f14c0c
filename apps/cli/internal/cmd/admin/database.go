package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// databaseCommands work on the database itself, not through a server.
func databaseCommands(f *factory.Factory) []*cobra.Command {
	return []*cobra.Command{newMigrateCommand(f), newDoctorCommand(f)}
}

// database is how to reach one.
type database struct {
	program.Database
	dataDir  string // of the embedded PostgreSQL that is meant instead
	embedded bool   // that of the default folder is meant when nothing is said
}

func (d *database) defineFlags(fs *pflag.FlagSet) {
	d.Schema = program.DefaultSchema
	d.Flags(fs)
	fs.StringVar(&d.dataDir, "data-dir", "", "`folder` of the embedded PostgreSQL, which runs, instead of a URL")
	program.FromEnvironment(fs, "data-dir")
}

// openStore connects; the URL may be an argument too.
func (d *database) openStore(ctx context.Context, args []string) (*postgres.Store, error) {
	if err := d.Argument(args); err != nil {
		return nil, err
	}

	const needed = "the database's URL is needed: as an argument, --database-url or PGQUEUE_DATABASE_URL"
	switch {
	case d.URL != "" && d.dataDir != "":
		return nil, cmdutil.Usage("give a URL or --data-dir, not both")
	case d.URL == "" && (d.dataDir != "" || d.embedded):
		var err error
		if d.URL, err = embedded.Running(d.dataDir); err != nil {
			return nil, cmdutil.Usage("%s; or that of pgqueue run's own PostgreSQL, by --data-dir: %s", needed, err)
		}

	case d.URL == "":
		return nil, cmdutil.Usage(needed)
	}

	if err := d.Validate(); err != nil {
		return nil, err
	}

	return d.Open(ctx, slog.New(slog.DiscardHandler))
}

// migration is one on the wire.
type migration struct {
	Version   int       `json:"version"`
	Name      string    `json:"name"`
	State     string    `json:"state"`
	AppliedAt time.Time `json:"applied_at,omitzero"`
	Checksum  string    `json:"checksum"`
}

func newMigrateCommand(f *factory.Factory) *cobra.Command {
	var db database
	cmd := cmdutil.Parent(&cobra.Command{
		Use:   "migrate COMMAND",
		Short: "Create, upgrade, check or remove the tables of a database",
		Long: "Create, upgrade, check or remove the tables of a database. A server does migrate up at its start, unless\n" +
			"it runs with --migrate=false.",
		Example: "  pgqueue migrate status postgres://app@db.example.org/app\n  pgqueue migrate sql up | less",
		GroupID: cmdutil.GroupServer,
	})

	db.defineFlags(cmd.PersistentFlags())

	show := func(all []postgres.Migration, none string) error {
		p, err := f.Printer()
		if err != nil {
			return err
		}

		list := restapi.List[migration]{Count: int64(len(all))}
		for _, m := range all {
			list.Body = append(list.Body, migration{m.Version, m.Name, string(m.State), m.AppliedAt, m.Checksum})
		}

		return output.List(p, list, none, []output.Column[migration]{
			{Head: "VERSION", Right: true, Cell: func(m migration) string { return strconv.Itoa(m.Version) }},
			{Head: "NAME", Cell: func(m migration) string { return m.Name }},
			{Head: "STATE", Cell: func(m migration) string { return m.State }},
			{Head: "APPLIED", Cell: func(m migration) string { return output.Time(m.AppliedAt, f.Now()) }},
			{Head: "CHECKSUM", Wide: true, Cell: func(m migration) string { return m.Checksum }},
		})
	}

	// with makes a command that has the database.
	with := func(c *cobra.Command, do func(ctx context.Context, s *postgres.Store) error) {
		c.Args = cmdutil.Args(0, 1, "")
		c.RunE = func(cmd *cobra.Command, args []string) error {
			s, err := db.openStore(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer s.Close()

			return do(cmd.Context(), s)
		}

		cmd.AddCommand(c)
	}

	dryRun, to := false, -1
	opts := func() (o []postgres.MigrateOption) {
		if dryRun {
			o = append(o, postgres.DryRun())
		}

		return o
	}

	up := &cobra.Command{
		Use: "up [URL]", Short: "Create the tables, or upgrade them to this program's version",
		Example: "  pgqueue migrate up postgres://app@db.example.org/app --dry-run",
	}

	with(up, func(ctx context.Context, s *postgres.Store) error {
		done, err := s.MigrateUp(ctx, opts()...)
		if err != nil {
			return err
		}

		return show(done, "nothing to do: the schema is of this program's version")
	})

	down := &cobra.Command{
		Use: "down [URL]", Short: "Take the tables back to an older version; what newer ones kept is lost",
		Example: "  pgqueue migrate down postgres://app@db.example.org/app --to 0",
	}

	with(down, func(ctx context.Context, s *postgres.Store) error {
		if to < 0 {
			return cmdutil.Usage("--to is needed: the version to go back to; 0 removes all tables and tasks")
		}

		done, err := s.MigrateDown(ctx, to, opts()...)
		if err != nil {
			return err
		}

		return show(done, "nothing to do")
	})

	for _, c := range []*cobra.Command{up, down} {
		c.Flags().BoolVar(&dryRun, "dry-run", false, "tell what would be done, and change nothing")
	}

	down.Flags().IntVar(&to, "to", to, "go back to this `version`; 0 removes everything (needed)")

	with(&cobra.Command{Use: "status [URL]", Short: "List the migrations of the program and of the database", Example: "  pgqueue migrate status -o json"},
		func(ctx context.Context, s *postgres.Store) error {
			all, err := s.MigrationStatus(ctx)
			if err != nil {
				return err
			}

			return show(all, "there are no migrations")
		})

	with(&cobra.Command{Use: "validate [URL]", Short: "Check that the database has this program's tables", Example: "  pgqueue migrate validate"},
		func(ctx context.Context, s *postgres.Store) error {
			if err := s.ValidateMigrations(ctx); err != nil {
				return err
			}

			p, err := f.Printer()
			if err == nil {
				p.Done("the schema is of this program's version")
			}

			return err
		})

	with(&cobra.Command{
		Use: "after-restore [URL]", Short: "Put right what a restore to an earlier moment leaves behind",
		Long: "Put right what a restore to an earlier moment, or into another cluster, leaves behind: counts, the feed of events, the\n" +
			"sequences of ids and tokens, and rows that a dump without data lacks. Run it once, before anything uses the database,\n" +
			"as the role that owns the tables.",
		Example: "  pgqueue migrate after-restore postgres://owner@db.example.org/app --schema jobs",
	},
		func(ctx context.Context, s *postgres.Store) error {
			if err := s.AfterRestore(ctx); err != nil {
				return err
			}

			p, err := f.Printer()
			if err == nil {
				p.Done("counts, events and sequences are as they should be; start the servers")
			}

			return err
		})

	cmd.AddCommand(newMigrateSQLCommand(f, &db))

	return cmd
}

// migrateScripts are what migrate sql writes, by name.
var migrateScripts = map[string]func(*postgres.Store) string{
	"up":            func(s *postgres.Store) string { return s.MigrationSQL(true) },
	"down":          func(s *postgres.Store) string { return s.MigrationSQL(false) },
	"roles":         (*postgres.Store).RolesSQL,
	"after-restore": (*postgres.Store).AfterRestoreSQL,
}

func newMigrateSQLCommand(f *factory.Factory, db *database) *cobra.Command {
	names := []string{"up", "down", "roles", "after-restore"}
	return &cobra.Command{
		Use: "sql up|down|roles|after-restore", Short: "Write what a migration runs, as a script for psql",
		Long: "Write a script for psql, for the schema of --schema: what a migration runs on an empty database (up), or to remove\n" +
			"everything (down); roles with no more rights than their work needs (roles); what is to be run after a restore to an\n" +
			"earlier moment (after-restore).",
		Example: "  pgqueue migrate sql up >pgqueue.sql\n  pgqueue migrate sql roles --schema jobs | psql --file -",
		Args:    cmdutil.Args(1, 1, "up, down, roles or after-restore"), ValidArgs: names,

		RunE: func(cmd *cobra.Command, args []string) error {
			script := migrateScripts[args[0]]
			if script == nil {
				return cmdutil.Usage("%q is none of %s", args[0], strings.Join(names, ", "))
			}

			// A pool connects when it is asked to, and nobody asks.
			pool, err := pgxpool.New(cmd.Context(), "postgres://localhost/pgqueue")
			if err != nil {
				return err
			}
			defer pool.Close()
			s, err := postgres.New(pool, postgres.WithSchema(db.Schema))
			if err != nil {
				return err
			}
			defer s.Close()
			_, err = fmt.Fprintln(f.IO.Out, strings.TrimRight(script(s), "\n"))

			return err
		},
	}
}

// finding is one on the wire.
type finding struct {
	Name   string `json:"name"`
	Level  string `json:"level"`
	Value  string `json:"value"`
	Advice string `json:"advice,omitempty"`
}

func newDoctorCommand(f *factory.Factory) *cobra.Command {
	db := database{embedded: true} // without --repair it changes nothing, so that it may guess
	repair := false
	cmd := &cobra.Command{
		Use:   "doctor [URL]",
		Short: "Examine a database: settings, tables, clock, locks, LISTEN",
		Long: "Examine a database and say what to do about what is found: settings, tables, clock, long transactions, dead rows,\n" +
			"LISTEN through a pooler, rows that contradict each other. The exit code is 1 when something fails.\n" +
			"It looks at all tasks that wait or are held; when that takes long, stderr says how far it has come.\n" +
			"It changes nothing, but for --repair, which settles rows that contradict each other before the examination: a finished\n" +
			"task stays finished, a held one stays with the newest token, one that waits waits once, and counts are corrected. A\n" +
			"queue that has such rows stops for a moment, and with it all others of the schema; nothing is deleted.\n" +
			"Without a URL it examines the PostgreSQL that pgqueue run has started by itself.",
		Example: "  pgqueue doctor postgres://app@db.example.org/app\n  pgqueue doctor --jq '.body[] | select(.level != \"ok\")'",
		GroupID: cmdutil.GroupServer,
		Args:    cmdutil.Args(0, 1, ""),

		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.Printer()
			if err != nil {
				return err
			}

			s, err := db.openStore(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx := postgres.WithProgress(cmd.Context(), logEachStep(cmd.ErrOrStderr()))
			if repair {
				settled, err := s.RepairContradictions(ctx)
				for _, c := range settled {
					fmt.Fprintf(cmd.ErrOrStderr(), "settled: %s/%s task %d was %s\n", c.Namespace, c.Queue, c.TaskID, c.What)
				}

				if err != nil {
					return err
				}
			}

			found, err := s.Diagnose(ctx)
			if err != nil {
				return err
			}

			bad := false
			list := restapi.List[finding]{Count: int64(len(found))}
			for _, x := range found {
				bad = bad || x.Level == queue.LevelFail
				list.Body = append(list.Body, finding{x.Name, string(x.Level), x.Value, x.Advice})
			}

			if err := output.List(p, list, "nothing was found", findingColumns()); err != nil {
				return err
			}

			if bad {
				return &cmdutil.Exit{Code: program.ExitFailed}
			}

			return nil
		},
	}

	cmd.Flags().BoolVar(&repair, "repair", false, "settle rows that contradict each other first")
	db.defineFlags(cmd.Flags())

	return cmd
}

// reportInterval is how often a long look says how far it has come; one that is over before says nothing.
const reportInterval = 2 * time.Second

// logEachStep returns a function that writes now and then how many rows of a table were looked at.
func logEachStep(w io.Writer) func(table string, rows int64) {
	last := time.Now()
	return func(table string, rows int64) {
		if time.Since(last) < reportInterval {
			return
		}

		last = time.Now()
		fmt.Fprintf(w, "looking for rows that contradict each other: %d of table %s\n", rows, table)
	}
}

func findingColumns() []output.Column[finding] {
	return []output.Column[finding]{
		{Head: "CHECK", Cell: func(x finding) string { return x.Name }},
		{Head: "LEVEL", Cell: func(x finding) string { return x.Level }, Style: func(x finding) iostreams.Style {
			switch queue.Level(x.Level) {
			case queue.LevelFail:
				return iostreams.Red
			case queue.LevelWarn:
				return iostreams.Yellow
			case queue.LevelOK:
			}

			return iostreams.Green
		}},
		{Head: "FOUND", Cell: func(x finding) string { return output.Clean(x.Value) }},
		{Head: "ADVICE", Cell: func(x finding) string { return output.Clean(x.Advice) }},
	}
}
