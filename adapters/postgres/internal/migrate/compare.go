package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// This file compares the schema with the program. Nothing in it changes the database.

// Version is the record of a schema about itself.
type Version struct {
	// Applied is the version of the last migration; 0 for a schema with tables and without a record.
	Applied int
	// CompatibleFrom is the oldest version at which programs still work with the schema.
	CompatibleFrom int
	// CountsEvents is false after a restore that left out the row of the table fold.
	CountsEvents bool
}

// ReadVersion reads the record in a single statement. Without the table of migrations PostgreSQL returns an error; see
// [IsMissing].
func (m *Migrator) ReadVersion(ctx context.Context, on Queryer) (v Version, err error) {
	err = on.QueryRow(ctx, m.DB.Text.Of(readVersion)).Scan(&v.Applied, &v.CompatibleFrom, &v.CountsEvents)
	return v, err
}

// IsMissing reports whether err means that the schema, or its table of migrations, does not exist.
func IsMissing(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == sqlstate.UndefinedTable || pg.Code == sqlstate.UndefinedSchema)
}

// Check returns an error if this program cannot work with the schema. It reads a single row.
func (m *Migrator) Check(ctx context.Context) error {
	v, err := m.ReadVersion(ctx, m.DB.Pool)
	switch {
	case IsMissing(err):
		// A missing table reads as version 0, so that the message names the command that creates it.
		return m.VersionFault(0, 0)
	case err != nil:
		return txn.Translate("check schema version", err)
	case v.Applied == 0:
		return m.UnrecordedFault()
	}

	if err := m.VersionFault(v.Applied, v.CompatibleFrom); err != nil {
		return err
	}
	if !v.CountsEvents {
		return &queue.Error{
			Kind: queue.KindUnavailable, Subject: "schema " + m.Schema,
			Msg: Gaps{fold: true}.String() + ", as after a restore without data; run: pgqueue migrate up",
		}
	}
	return nil
}

// UnrecordedFault returns the error for tables that lack a record of their version.
func (m *Migrator) UnrecordedFault() *queue.Error {
	return &queue.Error{
		Kind: queue.KindConflict, Subject: "schema " + m.Schema,
		Msg: "has tables of pgqueue and no record of their version, as after a restore without data; restore the rows of its table " +
			"migration too, or drop the schema and run: pgqueue migrate up",
	}
}

// VersionFault returns the error of this program on a schema of the given version, or nil if it can work with it.
// Programs from the version compatibleFrom on can work with that schema. A newer schema is compatible while its
// migrations only added: a rolling upgrade runs programs of both versions, and may even start an old one again.
func (m *Migrator) VersionFault(version, compatibleFrom int) error {
	e := &queue.Error{Kind: queue.KindUnavailable, Subject: "schema " + m.Schema}
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

// examineSchema returns the result of compareWithDatabase. It returns an error for a database that this program must
// not change.
func (m *Migrator) examineSchema(ctx context.Context, t pgx.Tx) ([]Migration, error) {
	all, err := m.compareWithDatabase(ctx, t)
	if err != nil {
		return nil, err
	}

	// A compatible newer schema passes: its migrations only added.
	if n, from := versionOf(all), compatibleFrom(all); n > SchemaVersion() && from > SchemaVersion() {
		return nil, m.VersionFault(n, from)
	}
	if versionOf(all) == 0 {
		if err := m.checkGround(ctx, t); err != nil {
			return nil, err
		}
	}

	// A pending migration below an applied one shows that the table migration was edited.
	pending := 0
	for _, each := range all {
		switch {
		case each.State == Changed:
			return nil, &queue.Error{
				Kind: queue.KindConflict, Subject: fmt.Sprintf("migration %d %s", each.Version, each.Name),
				Msg: fmt.Sprintf("was applied to schema %s with another text (checksum %.12s…, here %.12s…); "+
					"migrations are append-only: use the program that applied it, or restore the schema",
					m.Schema, each.Checksum, scripts()[each.Version-1].checksum),
			}

		case each.State == Pending:
			pending = each.Version

		case pending > 0:
			return nil, &queue.Error{
				Kind: queue.KindConflict, Subject: fmt.Sprintf("migration %d", pending),
				Msg: fmt.Sprintf("is missing in schema %s although %d is applied; its table migration was changed by hand", m.Schema, each.Version),
			}
		}
	}

	return all, nil
}

// checkGround returns an error for a database that cannot carry the first migration.
func (m *Migrator) checkGround(ctx context.Context, t pgx.Tx) error {
	var encoding string
	var hasTables bool
	err := m.queryRow(ctx, t, readGround, arg("schema", m.Schema)).Scan(&encoding, &hasTables)
	if err != nil {
		return err
	}
	if hasTables {
		return m.UnrecordedFault()
	}
	if advice := EncodingAdvice(encoding); advice != "" && encoding != "SQL_ASCII" {
		return &queue.Error{Kind: queue.KindConflict, Subject: "encoding " + encoding, Msg: advice}
	}
	return nil
}

// EncodingAdvice returns the advice for the encoding of a database; "" for UTF8.
func EncodingAdvice(encoding string) string {
	switch encoding {
	case "UTF8":
		return ""
	case "SQL_ASCII":
		return "texts of others are not checked to be UTF-8; a database with encoding UTF8 is safer"
	default:
		return "cannot hold all texts; use a database of encoding UTF8: create database … encoding 'UTF8' template template0"
	}
}

// versionOf returns the version of a schema with these migrations.
func versionOf(all []Migration) int {
	version := 0
	for _, each := range all {
		if each.State != Pending {
			version = each.Version
		}
	}
	return version
}

// compatibleFrom returns the oldest schema version at which programs work with all applied migrations.
func compatibleFrom(all []Migration) int {
	from := 0
	for _, each := range all {
		if each.State != Pending {
			from = max(from, each.CompatibleFrom)
		}
	}
	return from
}

// compareWithDatabase returns the migrations of the program and of the database in one list, with their states.
func (m *Migrator) compareWithDatabase(ctx context.Context, t pgx.Tx) ([]Migration, error) {
	all := make([]Migration, 0, SchemaVersion())
	for _, s := range scripts() {
		all = append(all, Migration{
			Version: s.version, Name: s.name, Checksum: s.checksum, State: Pending, CompatibleFrom: s.compatibleFrom,
		})
	}

	// Without the table of migrations all of them are pending.
	var exists bool
	if err := m.queryRow(ctx, t, findTable, arg("schema", m.Schema)).Scan(&exists); err != nil || !exists {
		return all, err
	}

	// Without a prepared statement, because the table may change its columns with a migration.
	rows, err := t.Query(ctx, m.DB.Text.Of(listApplied), pgx.QueryExecModeExec)
	if err != nil {
		return nil, err
	}

	applied := Migration{State: Applied}
	var micros int64
	_, err = pgx.ForEachRow(rows, []any{&applied.Version, &applied.Name, &applied.Checksum, &micros, &applied.CompatibleFrom}, func() error {
		found := applied
		found.AppliedAt = time.UnixMicro(micros).UTC()
		if found.Version > SchemaVersion() {
			found.State = Unknown
			all = append(all, found)
			return nil
		}

		if found.Checksum != all[found.Version-1].Checksum {
			found.State = Changed
		}
		all[found.Version-1] = found
		return nil
	})
	return all, err
}

// checkRights reports whether the schema exists. It returns an error with the missing grant if the role may not create
// tables in it.
func (m *Migrator) checkRights(ctx context.Context, t pgx.Tx) (exists bool, err error) {
	var owner, role, database string
	var mayBuild, mayCreate bool
	err = m.queryRow(ctx, t, readRights, arg("schema", m.Schema)).Scan(&exists, &owner, &role, &database, &mayBuild, &mayCreate)
	if err != nil {
		return false, err
	}

	// The advice quotes identifiers, so that an operator can paste it.
	schema, grantee := quoteName(m.Schema), quoteName(role)
	e := &queue.Error{Kind: queue.KindDenied, Subject: "schema " + m.Schema}
	switch {
	case exists && !mayBuild:
		e.Msg = fmt.Sprintf("role %s may not create tables in it; as %s run: grant create, usage on schema %s to %s",
			grantee, quoteName(owner), schema, grantee)
	case !exists && !mayCreate:
		e.Msg = fmt.Sprintf("is not there and role %s may not create it; as a superuser or the owner of database %s run: "+
			"create schema %s authorization %s", grantee, quoteName(database), schema, grantee)
	default:
		return exists, nil
	}
	return exists, e
}
