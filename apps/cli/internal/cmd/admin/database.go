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
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// databaseCommands returns the commands that work on the database without a server.
func databaseCommands(f *factory.Factory) []*cobra.Command {
	return []*cobra.Command{newMigrateCommand(f), newDoctorCommand(f)}
}

// database holds the flags that name a database.
type database struct {
	program.Database
	dataDir  string // folder of an embedded PostgreSQL that replaces the URL
	embedded bool   // without a URL and a folder, use the embedded PostgreSQL of the default folder
}

func (d *database) defineFlags(fs *pflag.FlagSet) {
	d.Schema = program.DefaultSchema
	d.Flags(fs)
	fs.StringVar(&d.dataDir, "data-dir", "", "`folder` of the embedded PostgreSQL, which runs, instead of a URL")
	program.FromEnvironment(fs, "data-dir")
}

// openStore connects to the database. The URL may also be the argument.
func (d *database) openStore(ctx context.Context, args []string) (*postgres.Store, error) {
	if err := d.Argument(args); err != nil {
		return nil, err
	}

	const needed = "database-url: must be the URL of the database, got none; give an argument, --database-url or PGQUEUE_DATABASE_URL"
	switch {
	case d.URL != "" && d.dataDir != "":
		return nil, cmdutil.Usage("--data-dir: must not come with a URL; leave one out")
	case d.URL == "" && (d.dataDir != "" || d.embedded):
		var err error
		// Only a running PostgreSQL has a URL; this command starts none.
		d.URL, err = embedded.Running(d.dataDir)
		switch {
		case err != nil && d.dataDir != "":
			return nil, cmdutil.Usage("--data-dir: must be the folder of a running pgqueue run, got %.64q: %v; start it, or give --database-url", d.dataDir, err)
		case err != nil:
			return nil, cmdutil.Usage(needed+"; or name the folder of pgqueue run's own PostgreSQL by --data-dir: %v", err)
		}

	case d.URL == "":
		return nil, cmdutil.Usage(needed)
	}

	if err := d.Validate(); err != nil {
		return nil, err
	}

	return d.Open(ctx, slog.New(slog.DiscardHandler))
}

// migration is the JSON view of a migration.
type migration struct {
	Version   int       `json:"version"`
	Name      string    `json:"name"`
	State     string    `json:"state"`
	AppliedAt time.Time `json:"applied_at,omitzero"`
	Checksum  string    `json:"checksum"`
}

// migrations makes the commands below migrate, which share their flags.
type migrations struct {
	f      *factory.Factory
	db     database
	dryRun bool
	target int // version of migrate down; below 0 = not given
}

func newMigrateCommand(f *factory.Factory) *cobra.Command {
	m := &migrations{f: f, target: -1}
	cmd := cmdutil.Parent(&cobra.Command{
		Use:   "migrate COMMAND",
		Short: "Create, upgrade, check or remove the tables of a database",
		Long: "Create, upgrade, check or remove the tables of a database. A server does migrate up at its start, unless\n" +
			"it runs with --migrate=false.",
		Example: "  pgqueue migrate status postgres://app@db.example.org/app\n  pgqueue migrate sql up | less",
		GroupID: cmdutil.GroupServer,
	})
	m.db.defineFlags(cmd.PersistentFlags())

	up := m.newStoreCommand(&cobra.Command{
		Use: "up [URL]", Short: "Create the tables, or upgrade them to this program's version",
		Example: "  pgqueue migrate up postgres://app@db.example.org/app --dry-run",
	}, m.migrateUp)
	down := m.newStoreCommand(&cobra.Command{
		Use: "down [URL]", Short: "Take the tables back to an older version; data of newer versions is lost",
		Example: "  pgqueue migrate down postgres://app@db.example.org/app --to 0",
	}, m.migrateDown)
	down.Flags().IntVar(&m.target, "to", m.target, "go back to this `version`; 0 removes everything (needed)")
	for _, c := range []*cobra.Command{up, down} {
		c.Flags().BoolVar(&m.dryRun, "dry-run", false, "show the changes without making them")
	}

	status := m.newStoreCommand(&cobra.Command{
		Use: "status [URL]", Short: "List the migrations of the program and of the database",
		Example: "  pgqueue migrate status -o json",
	}, m.showStatus)
	validate := m.newStoreCommand(&cobra.Command{
		Use: "validate [URL]", Short: "Check that the database has this program's tables",
		Example: "  pgqueue migrate validate",
	}, m.validateTables)
	restored := m.newStoreCommand(&cobra.Command{
		Use: "after-restore [URL]", Short: "Correct the database after a restore to an earlier moment",
		Long: "Correct the database after a restore to an earlier moment or into another cluster: counts, the feed of events, the\n" +
			"sequences of ids and tokens, and rows that a dump without data lacks. Run it once, before anything uses the database,\n" +
			"as the role that owns the tables.",
		Example: "  pgqueue migrate after-restore postgres://owner@db.example.org/app --schema jobs",
	}, m.correctRestored)

	cmd.AddCommand(up, down, status, validate, restored, newMigrateSQLCommand(f, &m.db))
	return cmd
}

// newStoreCommand completes c as a command that works on the database.
func (m *migrations) newStoreCommand(c *cobra.Command, do func(context.Context, *postgres.Store) error) *cobra.Command {
	c.Args = cmdutil.Args(0, 1, "")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := m.db.openStore(cmd.Context(), args)
		if err != nil {
			return err
		}
		defer s.Close()

		return do(cmd.Context(), s)
	}
	return c
}

func (m *migrations) migrateOptions() []postgres.MigrateOption {
	if m.dryRun {
		return []postgres.MigrateOption{postgres.DryRun()}
	}
	return nil
}

func (m *migrations) migrateUp(ctx context.Context, s *postgres.Store) error {
	done, err := s.MigrateUp(ctx, m.migrateOptions()...)
	if err != nil {
		return err
	}
	return m.printMigrations(done, "nothing to do: the schema is of this program's version")
}

func (m *migrations) migrateDown(ctx context.Context, s *postgres.Store) error {
	if m.target < 0 {
		return cmdutil.Usage("--to: must be the version to go back to, got none; 0 removes all tables and tasks")
	}

	done, err := s.MigrateDown(ctx, m.target, m.migrateOptions()...)
	if err != nil {
		return err
	}
	return m.printMigrations(done, "nothing to do")
}

func (m *migrations) showStatus(ctx context.Context, s *postgres.Store) error {
	all, err := s.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	return m.printMigrations(all, "there are no migrations")
}

func (m *migrations) validateTables(ctx context.Context, s *postgres.Store) error {
	if err := s.ValidateMigrations(ctx); err != nil {
		return err
	}
	return m.confirm("the schema is of this program's version")
}

func (m *migrations) correctRestored(ctx context.Context, s *postgres.Store) error {
	err := s.AfterRestore(ctx)
	recordCommand(ctx, s, m.f.IO.Err, access.AuditEntry{Operation: opAfterRestore}, err)
	if err != nil {
		return err
	}
	return m.confirm("counts, events and sequences are as they should be; start the servers")
}

func (m *migrations) confirm(sentence string) error {
	p, err := m.f.Printer()
	if err == nil {
		p.Done("%s", sentence)
	}
	return err
}

// printMigrations lists migrations, or writes none where the list is empty.
func (m *migrations) printMigrations(all []postgres.Migration, none string) error {
	p, err := m.f.Printer()
	if err != nil {
		return err
	}

	list := restapi.List[migration]{Count: int64(len(all))}
	for _, x := range all {
		list.Body = append(list.Body, migration{x.Version, x.Name, string(x.State), x.AppliedAt, x.Checksum})
	}
	return output.List(p, list, none, []output.Column[migration]{
		{Head: "VERSION", Right: true, Cell: func(x migration) string { return strconv.Itoa(x.Version) }},
		{Head: "NAME", Cell: func(x migration) string { return x.Name }},
		{Head: "STATE", Cell: func(x migration) string { return x.State }},
		{Head: "APPLIED", Cell: func(x migration) string { return output.Time(x.AppliedAt, m.f.Now()) }},
		{Head: "CHECKSUM", Wide: true, Cell: func(x migration) string { return x.Checksum }},
	})
}

// migrateScripts maps the argument of migrate sql to its script.
var migrateScripts = map[string]func(*postgres.Store) string{
	"up":            func(s *postgres.Store) string { return s.MigrationSQL(true) },
	"down":          func(s *postgres.Store) string { return s.MigrationSQL(false) },
	"roles":         (*postgres.Store).RolesSQL,
	"after-restore": (*postgres.Store).AfterRestoreSQL,
}

func newMigrateSQLCommand(f *factory.Factory, db *database) *cobra.Command {
	names := []string{"up", "down", "roles", "after-restore"}
	return &cobra.Command{
		Use: "sql up|down|roles|after-restore", Short: "Write the statements of a migration as a script for psql",
		Long: "Write a script for psql, for the schema of --schema: a migration of an empty database (up), or one that removes\n" +
			"everything (down); roles with no more rights than their work needs (roles); the corrections after a restore to an\n" +
			"earlier moment (after-restore).",
		Example: "  pgqueue migrate sql up >pgqueue.sql\n  pgqueue migrate sql roles --schema jobs | psql --file -",
		Args:    cmdutil.Args(1, 1, "up, down, roles or after-restore"), ValidArgs: names,

		RunE: func(cmd *cobra.Command, args []string) error {
			script := migrateScripts[args[0]]
			if script == nil {
				return cmdutil.Usage("script: must be one of %s, got %q", strings.Join(names, ", "), args[0])
			}

			// A pool connects at its first query, and none runs here.
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

func newDoctorCommand(f *factory.Factory) *cobra.Command {
	// Without --repair it changes nothing, so a guess is harmless.
	db := database{embedded: true}
	repair := false
	cmd := &cobra.Command{
		Use:         "doctor [URL]",
		Annotations: cmdutil.Reads(""),
		Short:       "Examine a database: settings, tables, clock, locks, LISTEN",
		Long: "Examine a database and advise on each finding: settings, tables, clock, long transactions, dead rows,\n" +
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
					fmt.Fprintf(cmd.ErrOrStderr(), "settled: %s was %s\n", c.Subject(), c.What)
				}

				recordCommand(ctx, s, cmd.ErrOrStderr(), access.AuditEntry{Operation: opRepair, Matched: int64(len(settled)), Moved: int64(len(settled))}, err)
				if err != nil {
					return err
				}
			}

			found, err := s.Diagnose(ctx)
			if err != nil {
				return err
			}

			// Warnings do not fail the command: they are advice.
			bad := false
			list := restapi.List[restapi.Finding]{Count: int64(len(found))}
			for _, x := range found {
				bad = bad || x.Level == queue.LevelFail
				list.Body = append(list.Body, restapi.FindingOf(x))
			}

			if err := output.List(p, list, "no findings", findingColumns()); err != nil {
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

// reportInterval is the time between two reports of progress. A shorter examination reports nothing.
const reportInterval = 2 * time.Second

// logEachStep returns a function that writes at intervals how many rows of a table were examined.
func logEachStep(w io.Writer) func(table string, rows int64) {
	last := time.Now()
	return func(table string, rows int64) {
		if time.Since(last) < reportInterval {
			return
		}

		last = time.Now()
		fmt.Fprintf(w, "examined for contradictions: %d rows of table %s\n", rows, table)
	}
}

func findingColumns() []output.Column[restapi.Finding] {
	return []output.Column[restapi.Finding]{
		{Head: "CHECK", Cell: func(x restapi.Finding) string { return x.Name }},
		{Head: "LEVEL", Cell: func(x restapi.Finding) string { return x.Level }, Style: func(x restapi.Finding) iostreams.Style {
			switch queue.Level(x.Level) {
			case queue.LevelFail:
				return iostreams.Red
			case queue.LevelWarn:
				return iostreams.Yellow
			case queue.LevelOK:
			}

			return iostreams.Green
		}},
		{Head: "FOUND", Cell: func(x restapi.Finding) string { return output.Clean(x.Value) }},
		{Head: "ADVICE", Cell: func(x restapi.Finding) string { return output.Clean(x.Advice) }},
	}
}
