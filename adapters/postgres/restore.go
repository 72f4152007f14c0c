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

// The scripts that operators run, written with the default schema. They are in deploy/sql too, where they are looked for.
var (
	//go:embed scripts/after-restore.sql
	afterRestoreScript string
	//go:embed scripts/roles.sql
	rolesScript string
)

// bareSchema finds the schema's name where no dot follows it.
var bareSchema = regexp.MustCompile(`\b(schema|exists) ` + DefaultSchema + `\b`)

func scriptInSchema(schema, text string) string {
	if schema == DefaultSchema {
		return text
	}
	return bareSchema.ReplaceAllString(inSchema(schema, text), "$1 "+pgx.Identifier{schema}.Sanitize())
}

// RolesSQL makes roles with least privileges on the schema, as a script for psql. It needs no database.
func (s *Store) RolesSQL() string { return scriptInSchema(s.opt.schema, rolesScript) }

// AfterRestoreSQL is what AfterRestore runs, as a script for psql. It needs no database.
func (s *Store) AfterRestoreSQL() string { return scriptInSchema(s.opt.schema, afterRestoreScript) }

// AfterRestore puts right what a restore to an earlier moment, or into another cluster, leaves behind: see
// docs/operations.md. It is run once, while no program uses the schema, as the role that owns it.
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
		// First what is missing: the script counts on from the row of fold.
		if gaps.isAnyMissing() {
			if err := s.fillGapsOfRestore(ctx, t, gaps); err != nil {
				return err
			}
		}
		return runMigrationScript(ctx, t, s.AfterRestoreSQL())
	})
}

// gaps are what a restore has left out.
type gaps struct {
	fold      bool     // the row of fold
	parts     int      // rows of part, missing or too many
	sequences []string // behind what was given out, or no multiple
}

func (g gaps) isAnyMissing() bool { return g.fold || g.parts > 0 || len(g.sequences) > 0 }

// String says what is missing.
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

func (s *Store) lookRestored(ctx context.Context, on queryer) (g gaps, err error) {
	err = on.QueryRow(ctx, s.sql.get("migrate.restored.look")).Scan(&g.fold, &g.parts, &g.sequences)
	return g, err
}

// fillGapsOfRestore mends g.
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

// repairRestored looks for gaps of a restore and fills them, in a transaction of its own.
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
		found, err := s.lookRestored(ctx, t) // another program may have been first
		if err != nil {
			return err
		}
		return s.fillGapsOfRestore(ctx, t, found)
	})
}

// restored is doctor's look at the same.
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
