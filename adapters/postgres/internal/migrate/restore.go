package migrate

import (
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

// These scripts are for operators and use the default schema. Copies are in deploy/sql, the place where operators look
// for them.
var (
	//go:embed scripts/after-restore.sql
	afterRestoreScript string
	//go:embed scripts/roles.sql
	rolesScript string
)

var (
	findGaps       = Statements.Named("migrate.restored.look")
	fillParts      = Statements.Named("migrate.restored.parts")
	fillSequences  = Statements.Named("migrate.restored.sequences")
	lockForCounts  = Statements.Named("migrate.restored.lock")
	readNow        = Statements.Named("migrate.restored.now")
	countFromTasks = Statements.Named("migrate.restored.count")
)

// bareSchema matches the name of the schema where no dot follows it.
var bareSchema = regexp.MustCompile(`\b(schema|exists) ` + sqltext.DefaultSchema + `\b`)

// moveScript returns a script for operators with another schema than the default one.
func (m *Migrator) moveScript(text string) string {
	if m.Schema == sqltext.DefaultSchema {
		return text
	}
	return bareSchema.ReplaceAllString(sqltext.MoveToSchema(m.Schema, text), "$1 "+quoteName(m.Schema))
}

// RolesScript returns a psql script that makes roles with the least privileges on the schema.
func (m *Migrator) RolesScript() string { return m.moveScript(rolesScript) }

// AfterRestoreScript returns the statements of AfterRestore as a script for psql.
func (m *Migrator) AfterRestoreScript() string { return m.moveScript(afterRestoreScript) }

// AfterRestore repairs the state of the schema after a restore to an earlier moment or into another cluster.
func (m *Migrator) AfterRestore(ctx context.Context) error {
	return m.underLock(ctx, "after restore", func(ctx context.Context, t pgx.Tx) error {
		if err := m.checkComplete(ctx, t); err != nil {
			return err
		}

		// The missing rows come first: the script continues the counts from the row of fold.
		if err := m.fillGapsIn(ctx, t); err != nil {
			return err
		}
		return runScript(ctx, t, m.AfterRestoreScript())
	})
}

// Gaps are the rows and sequences that a restore has left out.
type Gaps struct {
	fold      bool     // the row of fold is missing
	parts     int      // number of rows of part that are missing or superfluous
	sequences []string // behind the ids in use, or not a multiple of their step
}

// Any reports whether there is a gap.
func (g Gaps) Any() bool { return g.fold || g.parts > 0 || len(g.sequences) > 0 }

// String describes the gaps; it is empty without a gap.
func (g Gaps) String() string {
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

// Queryer is a transaction, a connection or a pool.
type Queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// FindGaps finds the gaps of a restore without changing the database.
func (m *Migrator) FindGaps(ctx context.Context, on Queryer) (g Gaps, err error) {
	err = on.QueryRow(ctx, m.DB.Text.Of(findGaps)).Scan(&g.fold, &g.parts, &g.sequences)
	return g, err
}

// fillGapsIn finds and fills the gaps of a restore within t.
func (m *Migrator) fillGapsIn(ctx context.Context, t pgx.Tx) error {
	g, err := m.FindGaps(ctx, t)
	if err != nil {
		return err
	}

	var fills []sqltext.Statement
	if g.parts > 0 {
		fills = append(fills, fillParts)
	}
	if len(g.sequences) > 0 {
		fills = append(fills, fillSequences)
	}
	if g.fold { // the lock keeps events from changing while they are counted
		fills = append(fills, lockForCounts)
	}

	for _, fill := range fills {
		if _, err := t.Exec(ctx, m.DB.Text.Of(fill)); err != nil {
			return err
		}
	}
	if !g.fold {
		return nil
	}

	var now string
	if err := m.queryRow(ctx, t, readNow).Scan(&now); err != nil {
		return err
	}
	return m.exec(ctx, t, countFromTasks, arg("now", now))
}

// fillGaps finds the gaps of a restore and fills them in a transaction of its own.
func (m *Migrator) fillGaps(ctx context.Context, op string) error {
	var found Gaps
	err := m.readOnly(ctx, op, func(ctx context.Context, t pgx.Tx) (err error) {
		found, err = m.FindGaps(ctx, t)
		return err
	})
	if err != nil || !found.Any() {
		return err
	}

	m.Logger.WarnContext(ctx, "rows or sequences are missing, as after a restore without data; putting them right", "found", found.String())
	return m.underLock(ctx, op, m.fillGapsIn) // it finds the gaps again: another program may have filled them
}
