package postgres

import (
	"context"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/migrate"
)

// Migration is one numbered step of the schema: its Version, Name and State, and the Checksum of its text (SHA-256 in
// hex). Programs from the schema version CompatibleFrom on still work after it. AppliedAt is a time of the database's
// clock; it is zero while the migration is pending.
type Migration = migrate.Migration

// MigrationState is the relation between a migration of the program and one of the database.
type MigrationState = migrate.State

// The states of a migration.
const (
	MigrationApplied = migrate.Applied
	MigrationPending = migrate.Pending
	// MigrationChanged is a migration that was applied with another text than this program has.
	MigrationChanged = migrate.Changed
	// MigrationUnknown is a migration that a newer program applied.
	MigrationUnknown = migrate.Unknown
)

// SchemaVersion returns the version of the schema that this program works with: the version of its last migration.
func SchemaVersion() int { return migrate.SchemaVersion() }

// MigrateOption changes how MigrateUp and MigrateDown work.
type MigrateOption func(*migrateOptions)

type migrateOptions struct{ dryRun bool }

// DryRun makes a call check all conditions and return the migrations that it would run. The call changes nothing.
func DryRun() MigrateOption { return func(o *migrateOptions) { o.dryRun = true } }

func isDryRun(opts []MigrateOption) bool {
	var o migrateOptions
	for _, opt := range opts {
		opt(&o)
	}
	return o.dryRun
}

// MigrateUp brings the schema to this program's version and returns the migrations that it applied. It creates a
// missing schema. Each migration is one transaction under an advisory lock, so any number of installers may run
// concurrently. A failure leaves the schema at the version before. A migration waits at most 3 s for the locks of
// running work, and MigrateUp tries it at most 20 times.
//
// ErrDenied names the missing grant. ErrUnavailable reports a newer schema with migrations that exclude this program;
// MigrateUp changes nothing then. A newer schema that this program can work with also stays unchanged, without an
// error. ErrConflict reports an applied migration that differs from this program's (see ValidateMigrations).
func (s *Store) MigrateUp(ctx context.Context, opts ...MigrateOption) ([]Migration, error) {
	if isDryRun(opts) {
		return s.migrator.PlanUp(ctx)
	}
	return s.migrator.Up(ctx)
}

// MigrateDown reverts the schema to toVersion and returns the reverted migrations, newest first. Version 0 leaves only
// the empty schema. The data of the reverted migrations is lost. Each step is one transaction, with the errors of
// MigrateUp.
func (s *Store) MigrateDown(ctx context.Context, toVersion int, opts ...MigrateOption) ([]Migration, error) {
	if isDryRun(opts) {
		return s.migrator.PlanDown(ctx, toVersion)
	}
	return s.migrator.Down(ctx, toVersion)
}

// MigrationStatus returns all migrations of the program and of the database, in the order of their versions.
func (s *Store) MigrationStatus(ctx context.Context) ([]Migration, error) {
	return s.migrator.Status(ctx)
}

// ValidateMigrations checks that the database has exactly the migrations of this program, with identical texts. It
// returns ErrConflict for a changed migration and ErrUnavailable for an older or newer schema.
func (s *Store) ValidateMigrations(ctx context.Context) error { return s.migrator.Validate(ctx) }

// MigrationSQL returns the statements of MigrateUp on an empty database as a script for psql; with up = false, those of
// MigrateDown to version 0. An operator can read the script or run it under a role with the rights. It needs no
// database.
func (s *Store) MigrationSQL(up bool) string { return s.migrator.Script(up) }

// RolesSQL returns a psql script that makes roles with the least privileges on the schema. It needs no database.
func (s *Store) RolesSQL() string { return s.migrator.RolesScript() }

// AfterRestore repairs the state of the schema after a restore to an earlier moment or into another cluster; see
// docs/operations.md. The operator runs it once as the owner of the schema, while no program uses the schema.
func (s *Store) AfterRestore(ctx context.Context) error { return s.migrator.AfterRestore(ctx) }

// AfterRestoreSQL returns the statements of AfterRestore as a script for psql. It needs no database.
func (s *Store) AfterRestoreSQL() string { return s.migrator.AfterRestoreScript() }
