package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// MigrationState is the relation between a migration of the program and one of the database.
type MigrationState string

// The states of a migration.
const (
	MigrationApplied MigrationState = "applied"
	MigrationPending MigrationState = "pending"
	// MigrationChanged is a migration that was applied with another text than this program has.
	MigrationChanged MigrationState = "changed"
	// MigrationUnknown is a migration that a newer program applied.
	MigrationUnknown MigrationState = "unknown"
)

// Migration is one numbered step of the schema.
type Migration struct {
	Version int
	Name    string
	// Checksum is the SHA-256 of the migration's text in hex. It comes from the database for an applied migration, and
	// from this program otherwise.
	Checksum string
	State    MigrationState
	// CompatibleFrom is the oldest schema version at which programs still work after this migration. It is 1 if the
	// migration only adds.
	CompatibleFrom int
	// AppliedAt is a time of the database's clock; zero while the migration is pending.
	AppliedAt time.Time
}

// MigrateOption changes how MigrateUp and MigrateDown work.
type MigrateOption interface{ applyMigrate(*migrateOptions) }

type migrateOptions struct{ dryRun bool }

type migrateOptionFunc func(*migrateOptions)

func (f migrateOptionFunc) applyMigrate(o *migrateOptions) { f(o) }

// DryRun makes a call check all conditions and return the migrations that it would run. The call changes nothing.
func DryRun() MigrateOption { return migrateOptionFunc(func(o *migrateOptions) { o.dryRun = true }) }

// These limits bound a migration step. Other sessions queue behind a step that waits for a table lock, so it waits at
// most stepLockTimeout and tries again.
const (
	stepTimeout     = 10 * time.Minute
	stepTries       = 20
	stepLockTimeout = "3s"
	stepMaxBackoff  = 2 * time.Second
)

// SchemaVersion returns the version of the schema that this program works with: the version of its last migration.
func SchemaVersion() int { return len(scripts()) }

// MigrateUp brings the schema to this program's version and returns the migrations that it applied. It creates a
// missing schema. Each migration is one transaction under an advisory lock, so any number of installers may run
// concurrently. A failure leaves the schema at the version before. A migration waits at most 3 s for the locks of
// running work, and MigrateUp tries it at most 20 times.
//
// ErrDenied names the missing grant. ErrUnavailable reports a newer schema with migrations that exclude this program;
// MigrateUp changes nothing then. A newer schema that this program can work with also stays unchanged, without an
// error. ErrConflict reports an applied migration that differs from this program's (see ValidateMigrations).
func (s *Store) MigrateUp(ctx context.Context, opts ...MigrateOption) ([]Migration, error) {
	const op = "migrate up"
	if collectMigrations(opts).dryRun {
		var pending []Migration
		err := s.runMigrationStep(ctx, op, true, func(ctx context.Context, t pgx.Tx) error {
			all, err := s.examineSchema(ctx, t)
			pending = slices.DeleteFunc(all, func(m Migration) bool { return m.State != MigrationPending })
			if err != nil || len(pending) == 0 {
				return err
			}
			_, err = s.checkRights(ctx, t)
			return err
		})
		return pending, err
	}

	// Each migration commits by itself, so a failure keeps all migrations before it.
	var done []Migration
	for {
		var applied *Migration
		err := s.runMigrationStep(ctx, op, false, func(ctx context.Context, t pgx.Tx) (err error) {
			applied, err = s.applyMigration(ctx, t)
			return err
		})
		if err != nil {
			return done, err
		}
		if applied == nil {
			return done, s.repairRestored(ctx, op)
		}
		done = append(done, *applied)
	}
}

// MigrateDown reverts the schema to toVersion and returns the reverted migrations, newest first. Version 0 leaves only
// the empty schema. The data of the reverted migrations is lost. Each step is one transaction, with the errors of
// MigrateUp.
func (s *Store) MigrateDown(ctx context.Context, toVersion int, opts ...MigrateOption) ([]Migration, error) {
	const op = "migrate down"
	if toVersion < 0 || toVersion > SchemaVersion() {
		return nil, &queue.Error{
			Op: op, Kind: queue.KindInvalid, Field: "version",
			Msg: fmt.Sprintf("must be a version from 0 to %d, got %d", SchemaVersion(), toVersion),
		}
	}

	if collectMigrations(opts).dryRun {
		var undo []Migration
		err := s.runMigrationStep(ctx, op, true, func(ctx context.Context, t pgx.Tx) error {
			all, err := s.examineSchema(ctx, t)
			if n := countApplied(all); err == nil && n > SchemaVersion() {
				return s.versionFault(n, n)
			}
			undo = slices.DeleteFunc(all, func(m Migration) bool { return m.State == MigrationPending || m.Version <= toVersion })
			slices.Reverse(undo)
			return err
		})
		return undo, err
	}

	var done []Migration
	for {
		var undone *Migration
		err := s.runMigrationStep(ctx, op, false, func(ctx context.Context, t pgx.Tx) (err error) {
			undone, err = s.revertMigration(ctx, t, toVersion)
			return err
		})
		if err != nil || undone == nil {
			return done, err
		}
		done = append(done, *undone)
	}
}

// MigrationStatus returns all migrations of the program and of the database, in the order of their versions.
func (s *Store) MigrationStatus(ctx context.Context) ([]Migration, error) {
	var all []Migration
	err := s.runMigrationStep(ctx, "migration status", true, func(ctx context.Context, t pgx.Tx) (err error) {
		all, err = s.compareMigrations(ctx, t)
		return err
	})
	return all, err
}

// ValidateMigrations checks that the database has exactly the migrations of this program, with identical texts. It
// returns ErrConflict for a changed migration and ErrUnavailable for an older or newer schema.
func (s *Store) ValidateMigrations(ctx context.Context) error {
	const op = "validate migrations"
	return s.runMigrationStep(ctx, op, true, func(ctx context.Context, t pgx.Tx) error {
		all, err := s.examineSchema(ctx, t)
		if err != nil {
			return err
		}
		n := countApplied(all)
		return s.versionFault(n, n)
	})
}

// MigrationSQL returns the statements of MigrateUp on an empty database as a script for psql; with up = false, those of
// MigrateDown to version 0. An operator can read the script or run it under a role with the rights. It needs no
// database.
func (s *Store) MigrationSQL(up bool) string {
	var b strings.Builder
	schema := pgx.Identifier{s.opt.schema}.Sanitize()
	all := slices.Clone(scripts())
	if !up {
		slices.Reverse(all)
	}

	for i, m := range all {
		direction, text := "down", m.down
		if up {
			direction, text = "up", m.up
		}

		fmt.Fprintf(&b, "-- migration %d %s, %s\nbegin;\n%s;\n", m.version, m.name, direction, withoutComments(s.sql.get("migrate.session")))
		if up && i == 0 {
			fmt.Fprintf(&b, "create schema if not exists %s;\n%s;\n", schema, strings.TrimSpace(s.sql.get("migrate.table")))
		}

		fmt.Fprintf(&b, "%s\n", strings.TrimSpace(inSchema(s.opt.schema, text)))
		switch {
		case up:
			fmt.Fprintf(&b, "insert into %s.migration (version, name, checksum, compatible_from) values (%d, '%s', '%s', %d);\n",
				schema, m.version, m.name, m.checksum, m.compatibleFrom)
		case m.version > 1:
			fmt.Fprintf(&b, "delete from %s.migration where version = %d;\n", schema, m.version)
		default:
			fmt.Fprintf(&b, "%s;\n", strings.TrimSpace(withoutComments(s.sql.get("migrate.leave"))))
		}

		b.WriteString("commit;\n\n")
	}

	return b.String()
}

// checkVersion returns an error if this program cannot work with the schema. It reads a single row.
func (s *Store) checkVersion(ctx context.Context) error {
	ctx, cancel := s.withCallTimeout(ctx)
	defer cancel()
	var version, compatibleFrom int
	var folded bool
	err := s.pool.QueryRow(ctx, s.sql.get("migrate.version")).Scan(&version, &compatibleFrom, &folded)
	// A missing table or schema is the state before the first migration.
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "42P01" || pg.Code == "3F000") {
		return s.versionFault(0, 0)
	}
	if err != nil {
		return translateError("check schema version", err)
	}

	if version == 0 {
		return s.findUnrecorded()
	}

	if err := s.versionFault(version, compatibleFrom); err != nil {
		return err
	}

	if !folded {
		return &queue.Error{
			Kind: queue.KindUnavailable, Subject: "schema " + s.opt.schema,
			Msg: gaps{fold: true}.String() + ", as after a restore without data; run: pgqueue migrate up",
		}
	}
	return nil
}

// findUnrecorded returns the error for tables that lack a record of their version.
func (s *Store) findUnrecorded() *queue.Error {
	return &queue.Error{
		Kind: queue.KindConflict, Subject: "schema " + s.opt.schema,
		Msg: "has tables of pgqueue and no record of their version, as after a restore without data; restore the rows of its table " +
			"migration too, or drop the schema and run: pgqueue migrate up",
	}
}

// versionFault returns the error of this program on a schema of the given version, or nil if it can work with it.
// Programs from the version compatibleFrom on can work with that schema. A newer schema is compatible while its
// migrations only added: a rolling upgrade runs programs of both versions, and may even start an old one again.
func (s *Store) versionFault(version, compatibleFrom int) error {
	e := &queue.Error{Kind: queue.KindUnavailable, Subject: "schema " + s.opt.schema}
	switch want := SchemaVersion(); {
	case version == want, version > want && compatibleFrom <= want:
		return nil
	case version == 0:
		e.Msg = "there are no tables of pgqueue yet; run: pgqueue migrate up"
	case version < want:
		e.Msg = fmt.Sprintf("schema is older than this program (version %d < %d); run: pgqueue migrate up", version, want)
	default:
		e.Msg = fmt.Sprintf("schema is newer than this program (version %d > %d); upgrade the program", version, want)
	}
	return e
}

func collectMigrations(opts []MigrateOption) (o migrateOptions) {
	for _, opt := range opts {
		opt.applyMigrate(&o)
	}
	return o
}

// applyMigration applies the next pending migration and returns it, or nil if none is pending.
func (s *Store) applyMigration(ctx context.Context, t pgx.Tx) (*Migration, error) {
	all, err := s.examineSchema(ctx, t)
	if err != nil {
		return nil, err
	}

	i := slices.IndexFunc(all, func(m Migration) bool { return m.State == MigrationPending })
	if i < 0 {
		return nil, nil
	}

	m, next := all[i], scripts()[i]
	there, err := s.checkRights(ctx, t)
	if err != nil {
		return nil, err
	}

	// The first migration also creates the table that records migrations, and a missing schema.
	text := inSchema(s.opt.schema, next.up)
	if m.Version == 1 {
		text = s.sql.get("migrate.table") + ";\n" + text
		if !there {
			text = "create schema " + pgx.Identifier{s.opt.schema}.Sanitize() + ";\n" + text
		}
	}

	if err := runMigrationScript(ctx, t, text); err != nil {
		return nil, err
	}

	var at int64
	err = t.QueryRow(ctx, s.sql.get("migrate.record"), pgx.QueryExecModeExec, m.Version, m.Name, m.Checksum, m.CompatibleFrom).Scan(&at)
	m.State, m.AppliedAt = MigrationApplied, time.UnixMicro(at).UTC()
	return &m, err
}

// revertMigration reverts the last applied migration above toVersion and returns it, or nil if there is none.
func (s *Store) revertMigration(ctx context.Context, t pgx.Tx, toVersion int) (*Migration, error) {
	all, err := s.examineSchema(ctx, t)
	if err != nil {
		return nil, err
	}

	last := countApplied(all)
	if last <= toVersion {
		return nil, nil
	}

	if last > SchemaVersion() { // only the program that applied it has the script that reverts it
		return nil, s.versionFault(last, last)
	}

	m := all[last-1]
	if err := runMigrationScript(ctx, t, inSchema(s.opt.schema, scripts()[last-1].down)); err != nil {
		return nil, err
	}

	if m.Version == 1 {
		_, err = t.Exec(ctx, s.sql.get("migrate.leave"), pgx.QueryExecModeExec)
	} else {
		_, err = t.Exec(ctx, s.sql.get("migrate.forget"), pgx.QueryExecModeExec, m.Version)
	}

	m.State, m.AppliedAt = MigrationPending, time.Time{}
	return &m, err
}

// examineSchema returns the result of compareMigrations. It returns an error for a database that this program must not
// change.
func (s *Store) examineSchema(ctx context.Context, t pgx.Tx) ([]Migration, error) {
	all, err := s.compareMigrations(ctx, t)
	if err != nil {
		return nil, err
	}

	// A compatible newer schema passes: its migrations only added.
	if n, from := countApplied(all), compatibleFrom(all); n > SchemaVersion() && from > SchemaVersion() {
		return nil, s.versionFault(n, from)
	}

	if countApplied(all) == 0 {
		if err := s.checkGround(ctx, t); err != nil {
			return nil, err
		}
	}

	// A pending migration below an applied one shows that the table migration was edited.
	pending := 0
	for _, m := range all {
		switch {
		case m.State == MigrationChanged:
			return nil, &queue.Error{
				Kind: queue.KindConflict, Subject: fmt.Sprintf("migration %d %s", m.Version, m.Name),
				Msg: fmt.Sprintf("was applied to schema %s with another text (checksum %.12s…, here %.12s…); "+
					"migrations are append-only: use the program that applied it, or restore the schema", s.opt.schema,
					m.Checksum, scripts()[m.Version-1].checksum),
			}

		case m.State == MigrationPending:
			pending = m.Version

		case pending > 0:
			return nil, &queue.Error{
				Kind: queue.KindConflict, Subject: fmt.Sprintf("migration %d", pending),
				Msg: fmt.Sprintf("is missing in schema %s although %d is applied; its table migration was changed by hand", s.opt.schema, m.Version),
			}
		}
	}

	return all, nil
}

// checkGround returns an error for a database that cannot carry the first migration.
func (s *Store) checkGround(ctx context.Context, t pgx.Tx) error {
	var encoding string
	var tables bool
	err := t.QueryRow(ctx, s.sql.get("migrate.ground"), pgx.QueryExecModeExec, s.opt.schema).Scan(&encoding, &tables)
	if err != nil {
		return err
	}
	if tables {
		return s.findUnrecorded()
	}
	if advice := encodingAdvice(encoding); advice != "" && encoding != "SQL_ASCII" {
		return &queue.Error{Kind: queue.KindConflict, Subject: "encoding " + encoding, Msg: advice}
	}
	return nil
}

// encodingAdvice returns the advice for the encoding of a database; "" for UTF8.
func encodingAdvice(encoding string) string {
	switch encoding {
	case "UTF8":
		return ""
	case "SQL_ASCII":
		return "texts of others are not checked to be UTF-8; a database with encoding UTF8 is safer"
	default:
		return "cannot hold all texts; use a database of encoding UTF8: create database … encoding 'UTF8' template template0"
	}
}

// countApplied returns the version of the schema.
func countApplied(all []Migration) int {
	version := 0
	for _, m := range all {
		if m.State != MigrationPending {
			version = m.Version
		}
	}
	return version
}

// compatibleFrom returns the oldest schema version at which programs work with all applied migrations.
func compatibleFrom(all []Migration) int {
	from := 0
	for _, m := range all {
		if m.State != MigrationPending {
			from = max(from, m.CompatibleFrom)
		}
	}
	return from
}

// compareMigrations returns the migrations of the program and of the database in one list, with their states.
func (s *Store) compareMigrations(ctx context.Context, t pgx.Tx) ([]Migration, error) {
	all := make([]Migration, 0, SchemaVersion())
	for _, m := range scripts() {
		all = append(all, Migration{
			Version: m.version, Name: m.name, Checksum: m.checksum, State: MigrationPending, CompatibleFrom: m.compatibleFrom,
		})
	}

	// Without the table of migrations all of them are pending.
	var there bool
	if err := t.QueryRow(ctx, s.sql.get("migrate.exists"), pgx.QueryExecModeExec, s.opt.schema).Scan(&there); err != nil || !there {
		return all, err
	}

	rows, err := t.Query(ctx, s.sql.get("migrate.applied"), pgx.QueryExecModeExec)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		m := Migration{State: MigrationApplied}
		var at int64
		if err := rows.Scan(&m.Version, &m.Name, &m.Checksum, &at, &m.CompatibleFrom); err != nil {
			return nil, err
		}

		m.AppliedAt = time.UnixMicro(at).UTC()
		if m.Version > SchemaVersion() {
			m.State = MigrationUnknown
			all = append(all, m)
			continue
		}

		if m.Checksum != all[m.Version-1].Checksum {
			m.State = MigrationChanged
		}

		all[m.Version-1] = m
	}

	return all, rows.Err()
}

// checkRights reports whether the schema exists. It returns an error with the missing grant if the role may not create
// tables in it.
func (s *Store) checkRights(ctx context.Context, t pgx.Tx) (there bool, err error) {
	var owner, role, database string
	var mayBuild, mayCreate bool
	err = t.QueryRow(ctx, s.sql.get("migrate.rights"), pgx.QueryExecModeExec, s.opt.schema).
		Scan(&there, &owner, &role, &database, &mayBuild, &mayCreate)
	if err != nil {
		return false, err
	}

	// The advice quotes identifiers, so that an operator can paste it.
	id := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	e := &queue.Error{Kind: queue.KindDenied, Subject: "schema " + s.opt.schema}
	switch {
	case there && !mayBuild:
		e.Msg = fmt.Sprintf("role %s may not create tables in it; as %s run: grant create, usage on schema %s to %s",
			id(role), id(owner), id(s.opt.schema), id(role))
	case !there && !mayCreate:
		e.Msg = fmt.Sprintf("is not there and role %s may not create it; as a superuser or the owner of database %s run: "+
			"create schema %s authorization %s", id(role), id(database), id(s.opt.schema), id(role))
	default:
		return there, nil
	}

	return there, e
}

// runMigrationScript runs text, which may contain many statements, within t.
func runMigrationScript(ctx context.Context, t pgx.Tx, text string) error {
	return t.Conn().PgConn().Exec(ctx, text).Close()
}

// runMigrationStep runs do in one transaction and repeats it after a transient fault, so do may run several times.
// Unless readOnly is set, the transaction holds the lock of installers.
func (s *Store) runMigrationStep(ctx context.Context, op string, readOnly bool, do func(context.Context, pgx.Tx) error) error {
	backoff := 50 * time.Millisecond
	for try := 1; ; try++ {
		err := s.tryMigrationStep(ctx, readOnly, do)
		if err == nil || try == stepTries || ctx.Err() != nil || !isTransient(err) {
			return s.explainStepFault(op, err)
		}

		// Jitter separates installers that started together.
		s.opt.logger.WarnContext(ctx, "a migration had to wait and tries again", "try", try, "error", err)
		if !sleepFor(ctx, time.Duration((0.5+rand.Float64())*float64(backoff))) {
			return s.explainStepFault(op, err)
		}
		backoff = min(2*backoff, stepMaxBackoff)
	}
}

// tryMigrationStep makes one attempt of runMigrationStep, within stepTimeout.
func (s *Store) tryMigrationStep(ctx context.Context, readOnly bool, do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return &connectError{err}
	}
	defer conn.Release()
	// Read committed overrides the role's default: a statement after the lock must see the state at that time.
	o := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	if readOnly {
		o = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	}
	t, err := conn.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	// The rollback has a deadline of its own, because the caller's may have ended. After a commit it has no effect.
	defer func() {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = t.Rollback(rctx)
	}()
	if !readOnly {
		// The wait for other installers may be long, the wait for tables must be short.
		const noTimeouts = "set local lock_timeout = 0; set local statement_timeout = 0; "
		if err := runMigrationScript(ctx, t, noTimeouts+s.sql.get("migrate.session")); err != nil {
			return err
		}
		if _, err := t.Exec(ctx, s.sql.get("migrate.lock"), pgx.QueryExecModeExec, s.installLockKey()); err != nil {
			return err
		}
		if err := runMigrationScript(ctx, t, "set local lock_timeout = '"+stepLockTimeout+"'"); err != nil {
			return err
		}
	}
	if err := do(ctx, t); err != nil {
		return err
	}
	return t.Commit(ctx)
}

// explainStepFault returns the error of translateError, with a remedy if the role lacks a privilege.
func (s *Store) explainStepFault(op string, err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
		return &queue.Error{
			Op: op, Kind: queue.KindDenied, Subject: "schema " + s.opt.schema,
			Msg: "the role may not; run migrations as the role that owns the schema and its tables", Err: err,
		}
	}
	return translateError(op, err)
}
