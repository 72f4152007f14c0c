package postgres

import (
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// These scripts are for operators and use the default schema. Copies are in deploy/sql, the place where operators look
// for them.
var (
	//go:embed scripts/after-restore.sql
	afterRestoreScript string
	//go:embed scripts/roles.sql
	rolesScript string
)

// bareSchema matches the name of the schema where no dot follows it.
var bareSchema = regexp.MustCompile(`\b(schema|exists) ` + DefaultSchema + `\b`)

// scriptInSchema returns a script for another schema than the default one.
func scriptInSchema(schema, text string) string {
	if schema == DefaultSchema {
		return text
	}
	return bareSchema.ReplaceAllString(inSchema(schema, text), "$1 "+pgx.Identifier{schema}.Sanitize())
}

// RolesSQL returns a psql script that makes roles with the least privileges on the schema. It needs no database.
func (s *Store) RolesSQL() string { return scriptInSchema(s.opt.schema, rolesScript) }

// AfterRestoreSQL returns the statements of AfterRestore as a script for psql. It needs no database.
func (s *Store) AfterRestoreSQL() string { return scriptInSchema(s.opt.schema, afterRestoreScript) }

// AfterRestore repairs the state of the schema after a restore to an earlier moment or into another cluster; see
// docs/operations.md. The operator runs it once as the owner of the schema, while no program uses the schema.
func (s *Store) AfterRestore(ctx context.Context) error {
	return s.runMigrationStep(ctx, "after restore", false, func(ctx context.Context, t pgx.Tx) error {
		all, err := s.examineSchema(ctx, t)
		if err != nil {
			return err
		}
		if n := countApplied(all); n != SchemaVersion() {
			return s.versionFault(n, n)
		}

		gaps, err := s.lookRestored(ctx, t)
		if err != nil {
			return err
		}
		// The missing rows come first: the script continues the counts from the row of fold.
		if gaps.isAnyMissing() {
			if err := s.fillGapsOfRestore(ctx, t, gaps); err != nil {
				return err
			}
		}
		return runMigrationScript(ctx, t, s.AfterRestoreSQL())
	})
}

// gaps are the rows and sequences that a restore has left out.
type gaps struct {
	fold      bool     // the row of fold is missing
	parts     int      // number of rows of part that are missing or superfluous
	sequences []string // behind the ids in use, or not a multiple of their step
}

func (g gaps) isAnyMissing() bool { return g.fold || g.parts > 0 || len(g.sequences) > 0 }

// String describes the gaps; it is empty without a gap.
func (g gaps) String() string {
	var words []string
	if g.fold {
		words = append(words, "the row of fold is missing, so that nothing is counted")
	}
	if g.parts > 0 {
		words = append(words, fmt.Sprintf("%d rows of part do not fit the partitions", g.parts))
	}
	if len(g.sequences) > 0 {
		words = append(words, "sequences are behind, or no multiple of their step: "+strings.Join(g.sequences, ", "))
	}
	return strings.Join(words, "; ")
}

// queryer is a transaction or a connection.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// lookRestored finds the gaps of a restore without changing the database.
func (s *Store) lookRestored(ctx context.Context, on queryer) (g gaps, err error) {
	err = on.QueryRow(ctx, s.sql.get("migrate.restored.look")).Scan(&g.fold, &g.parts, &g.sequences)
	return g, err
}

// fillGapsOfRestore repairs the gaps g within t.
func (s *Store) fillGapsOfRestore(ctx context.Context, t pgx.Tx, g gaps) error {
	if g.parts > 0 {
		if _, err := t.Exec(ctx, s.sql.get("migrate.restored.parts")); err != nil {
			return err
		}
	}

	if len(g.sequences) > 0 {
		if _, err := t.Exec(ctx, s.sql.get("migrate.restored.sequences")); err != nil {
			return err
		}
	}

	// The lock keeps events from changing while they are counted.
	if g.fold {
		if _, err := t.Exec(ctx, s.sql.get("migrate.restored.lock")); err != nil {
			return err
		}
		if _, err := t.Exec(ctx, s.sql.get("migrate.restored.count")); err != nil {
			return err
		}
	}
	return nil
}

// repairRestored finds the gaps of a restore and fills them in a transaction of its own.
func (s *Store) repairRestored(ctx context.Context, op string) error {
	var found gaps
	err := s.runMigrationStep(ctx, op, true, func(ctx context.Context, t pgx.Tx) (err error) {
		found, err = s.lookRestored(ctx, t)
		return err
	})

	if err != nil || !found.isAnyMissing() {
		return err
	}

	s.opt.logger.WarnContext(ctx, "rows or sequences are missing, as after a restore without data; putting them right", "found", found.String())
	return s.runMigrationStep(ctx, op, false, func(ctx context.Context, t pgx.Tx) error {
		found, err := s.lookRestored(ctx, t) // another program may have filled them first
		if err != nil {
			return err
		}
		return s.fillGapsOfRestore(ctx, t, found)
	})
}

// restored adds the check of lookRestored to the diagnosis of doctor.
func (d *diagnosis) restored(ctx context.Context) error {
	const name = "restored_rows"
	g, err := d.store.lookRestored(ctx, d.conn)
	if err != nil {
		return d.unknown(name, err)
	}
	if !g.isAnyMissing() {
		d.say(name, queue.LevelOK, "all there", "")
		return nil
	}
	d.say(name, queue.LevelFail, g.String(), "run: pgqueue migrate up; after a restore to an earlier moment: pgqueue migrate after-restore")
	return nil
}
