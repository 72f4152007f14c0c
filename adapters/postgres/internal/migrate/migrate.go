// Package migrate brings the schema of a store to the version of the program, and repairs it after a restore.
//
// # Migrations
//
// The files migrations/NNNN_name.up.sql and .down.sql are the two directions of a migration. Versions run from 1 without a
// gap. The table "migration" of the schema records each applied migration with the checksum of its text. Migrations are
// append-only: an applied one with another text is an error.
//
// Each migration is one transaction under an advisory lock, so any number of installers may run concurrently, and a failure
// leaves the version before. A migration waits at most 3 s for the locks of running work and tries at most 20 times.
//
// # Restores
//
// A restore without data, or to an earlier moment, leaves out rows and sequences that the program relies on. [Migrator.Up]
// fills these [Gaps]; [Migrator.AfterRestore] also repairs the state after a restore to an earlier moment.
package migrate

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// State is the relation between a migration of the program and one of the database.
type State string

// The states of a migration.
const (
	Applied State = "applied"
	Pending State = "pending"
	// Changed is a migration that was applied with another text than this program has.
	Changed State = "changed"
	// Unknown is a migration that a newer program applied.
	Unknown State = "unknown"
)

// Migration is one numbered step of the schema.
type Migration struct {
	Version int
	Name    string
	// Checksum is the SHA-256 of the migration's text in hex. It comes from the database for an applied migration, and
	// from this program otherwise.
	Checksum string
	State    State
	// CompatibleFrom is the oldest schema version at which programs still work after this migration. It is 1 if the
	// migration only adds.
	CompatibleFrom int
	// AppliedAt is a time of the database's clock; zero while the migration is pending.
	AppliedAt time.Time
}

// SchemaVersion returns the version of the schema that this program works with: the version of its last migration.
func SchemaVersion() int { return len(scripts()) }

// Migrator migrates one schema. It is safe for concurrent use.
type Migrator struct {
	DB     *txn.Database // its Text has [Statements]
	Schema string
	Logger *slog.Logger
}

//go:embed migrate.sql restore.sql
var statementFiles embed.FS

//go:embed attached.sql
var attachedPartitions string

// Statements are the statements of this package, for tools and tests.
var Statements = sqltext.Parse(statementFiles, "*.sql", sqltext.Lists{
	"attached": func(string) string { return sqltext.StripComments(attachedPartitions) },
})

var (
	clearSession   = Statements.Named("migrate.session")
	lockInstallers = Statements.Named("migrate.lock")
	readRights     = Statements.Named("migrate.rights")
	createTable    = Statements.Named("migrate.table")
	findTable      = Statements.Named("migrate.exists")
	readGround     = Statements.Named("migrate.ground")
	listApplied    = Statements.Named("migrate.applied")
	recordApplied  = Statements.Named("migrate.record")
	forgetApplied  = Statements.Named("migrate.forget")
	dropTable      = Statements.Named("migrate.leave")
	readVersion    = Statements.Named("migrate.version")
)

// PlanUp returns the migrations that Up would apply. It checks the conditions of Up and changes nothing.
func (m *Migrator) PlanUp(ctx context.Context) ([]Migration, error) {
	var pending []Migration
	err := m.readOnly(ctx, "migrate up", func(ctx context.Context, t pgx.Tx) error {
		all, err := m.examineSchema(ctx, t)
		pending = slices.DeleteFunc(all, func(each Migration) bool { return each.State != Pending })
		if err != nil || len(pending) == 0 {
			return err
		}
		_, err = m.checkRights(ctx, t)
		return err
	})
	return pending, err
}

// Up applies the pending migrations, each in a transaction of its own, and returns them. It then fills the gaps of a
// restore. A failure keeps all migrations before it.
func (m *Migrator) Up(ctx context.Context) (done []Migration, err error) {
	const op = "migrate up"
	for {
		var applied *Migration
		err := m.underLock(ctx, op, func(ctx context.Context, t pgx.Tx) (err error) {
			applied, err = m.applyNext(ctx, t)
			return err
		})
		if err != nil {
			return done, err
		}
		if applied == nil {
			// After the last migration, because the gaps are about the newest tables.
			return done, m.fillGaps(ctx, op)
		}
		done = append(done, *applied)
	}
}

// PlanDown returns the migrations that Down would revert, newest first. It checks the conditions of Down and changes
// nothing.
func (m *Migrator) PlanDown(ctx context.Context, toVersion int) ([]Migration, error) {
	const op = "migrate down"
	if err := checkTarget(op, toVersion); err != nil {
		return nil, err
	}

	var undo []Migration
	err := m.readOnly(ctx, op, func(ctx context.Context, t pgx.Tx) error {
		all, err := m.examineSchema(ctx, t)
		// This program has no scripts for the migrations of a newer one.
		if n := versionOf(all); err == nil && n > SchemaVersion() {
			return m.VersionFault(n, n)
		}

		undo = slices.DeleteFunc(all, func(each Migration) bool { return each.State == Pending || each.Version <= toVersion })
		slices.Reverse(undo)
		return err
	})
	return undo, err
}

// Down reverts the migrations above toVersion, each in a transaction of its own, and returns them, newest first.
func (m *Migrator) Down(ctx context.Context, toVersion int) (done []Migration, err error) {
	const op = "migrate down"
	if err := checkTarget(op, toVersion); err != nil {
		return nil, err
	}

	for {
		var undone *Migration
		err := m.underLock(ctx, op, func(ctx context.Context, t pgx.Tx) (err error) {
			undone, err = m.revertLast(ctx, t, toVersion)
			return err
		})
		if err != nil || undone == nil {
			return done, err
		}
		done = append(done, *undone)
	}
}

// checkTarget returns an error for a version that Down cannot reach.
func checkTarget(op string, version int) error {
	if version >= 0 && version <= SchemaVersion() {
		return nil
	}
	return &queue.Error{
		Op: op, Kind: queue.KindInvalid, Field: "version",
		Msg: fmt.Sprintf("must be a version from 0 to %d, got %d", SchemaVersion(), version),
	}
}

// Status returns all migrations of the program and of the database, in the order of their versions.
func (m *Migrator) Status(ctx context.Context) ([]Migration, error) {
	var all []Migration
	err := m.readOnly(ctx, "migration status", func(ctx context.Context, t pgx.Tx) (err error) {
		all, err = m.compareWithDatabase(ctx, t)
		return err
	})
	return all, err
}

// Validate returns an error unless the database has exactly the migrations of this program, with identical texts.
func (m *Migrator) Validate(ctx context.Context) error {
	return m.readOnly(ctx, "validate migrations", m.checkComplete)
}

// checkComplete returns an error unless all migrations of this program are applied, and no others.
func (m *Migrator) checkComplete(ctx context.Context, t pgx.Tx) error {
	all, err := m.examineSchema(ctx, t)
	if err != nil {
		return err
	}
	n := versionOf(all)
	return m.VersionFault(n, n)
}

// Script returns the statements of Up on an empty database, or those of Down to version 0, as a script for psql.
func (m *Migrator) Script(up bool) string {
	var b strings.Builder
	all := slices.Clone(scripts())
	if !up {
		slices.Reverse(all)
	}

	for i, each := range all {
		direction, text := "down", each.down
		if up {
			direction, text = "up", each.up
		}

		fmt.Fprintf(&b, "-- migration %d %s, %s\nbegin;\n%s;\n", each.version, each.name, direction,
			strings.TrimSpace(sqltext.StripComments(m.DB.Text.Of(clearSession))))
		if up && i == 0 {
			fmt.Fprintf(&b, "create schema if not exists %s;\n%s;\n", quoteName(m.Schema), strings.TrimSpace(m.DB.Text.Of(createTable)))
		}

		fmt.Fprintf(&b, "%s\n", strings.TrimSpace(sqltext.MoveToSchema(m.Schema, text)))
		switch {
		case up:
			fmt.Fprintf(&b, "insert into %s.migration (version, name, checksum, compatible_from) values (%d, '%s', '%s', %d);\n",
				quoteName(m.Schema), each.version, each.name, each.checksum, each.compatibleFrom)
		case each.version > 1:
			fmt.Fprintf(&b, "delete from %s.migration where version = %d;\n", quoteName(m.Schema), each.version)
		default:
			fmt.Fprintf(&b, "%s;\n", strings.TrimSpace(sqltext.StripComments(m.DB.Text.Of(dropTable))))
		}

		b.WriteString("commit;\n\n")
	}

	return b.String()
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

// distributeSchemas makes a schema that the transaction creates a distributed schema, in a database of Citus.
const distributeSchemas = "select set_config('citus.enable_schema_based_sharding', 'on', true) from pg_extension where extname = 'citus'"

// applyNext applies the next pending migration and returns it, or nil if none is pending.
func (m *Migrator) applyNext(ctx context.Context, t pgx.Tx) (*Migration, error) {
	all, err := m.examineSchema(ctx, t)
	if err != nil {
		return nil, err
	}

	i := slices.IndexFunc(all, func(each Migration) bool { return each.State == Pending })
	if i < 0 {
		return nil, nil
	}

	next := all[i]
	// Before the script: PostgreSQL would name the first statement that failed, and not the grant.
	exists, err := m.checkRights(ctx, t)
	if err != nil {
		return nil, err
	}

	// The first migration also creates the table that records migrations, and a missing schema.
	text := sqltext.MoveToSchema(m.Schema, scripts()[i].up)
	if next.Version == 1 {
		text = m.DB.Text.Of(createTable) + ";\n" + text
		if !exists {
			text = distributeSchemas + ";\ncreate schema " + quoteName(m.Schema) + ";\n" + text
		}
	}

	if err := runScript(ctx, t, text); err != nil {
		return nil, err
	}

	var micros int64
	err = m.queryRow(ctx, t, recordApplied,
		arg("version", next.Version), arg("name", next.Name), arg("checksum", next.Checksum), arg("compatible_from", next.CompatibleFrom),
	).Scan(&micros)
	next.State, next.AppliedAt = Applied, time.UnixMicro(micros).UTC()
	return &next, err
}

// revertLast reverts the last applied migration above toVersion and returns it, or nil if there is none.
func (m *Migrator) revertLast(ctx context.Context, t pgx.Tx, toVersion int) (*Migration, error) {
	all, err := m.examineSchema(ctx, t)
	if err != nil {
		return nil, err
	}

	version := versionOf(all)
	if version <= toVersion {
		return nil, nil
	}
	if version > SchemaVersion() { // only the program that applied it has the script that reverts it
		return nil, m.VersionFault(version, version)
	}

	last := all[version-1]
	if err := runScript(ctx, t, sqltext.MoveToSchema(m.Schema, scripts()[version-1].down)); err != nil {
		return nil, err
	}

	if last.Version == 1 {
		err = m.exec(ctx, t, dropTable)
	} else {
		err = m.exec(ctx, t, forgetApplied, arg("version", last.Version))
	}
	last.State, last.AppliedAt = Pending, time.Time{}
	return &last, err
}
