// Package doctor examines a database: its server, its settings, the state of the schema, and rows that contradict each
// other, which it can also repair.
//
// # Findings
//
// [Doctor.Diagnose] returns one or more findings for each check. A fact that it cannot read, for lack of a privilege for
// example, is a finding too; only a fault of the connection is an error. A diagnosis changes nothing. Each check has a
// deadline of 10 s, and each step of the search for contradictions the deadline of a call.
//
// # Contradictions
//
// No transaction of pgqueue leaves a task in two places. A defect, or a change by hand, does.
// [Doctor.FindContradictions] searches the keys of the tables in steps; a step is one statement, so its result is true of
// one moment. [Doctor.RepairContradictions] repairs each queue in one transaction that locks the tables.
package doctor

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/migrate"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Doctor examines the database of one store. It is safe for concurrent use.
type Doctor struct {
	DB       *txn.Database
	Schema   string
	Migrator *migrate.Migrator
	// AroundPooler means that the options name a pooler, and a direct connection for LISTEN.
	AroundPooler bool
	// Listen opens a connection that receives the notifications of the schema.
	Listen func(ctx context.Context) (*pgx.Conn, error)
	// Notify sends a notification that no other process obeys, and returns its payload.
	Notify func(ctx context.Context, nonce string) (payload string, err error)
	// Tokens lists the tokens of callers.
	Tokens func(ctx context.Context) ([]access.Token, error)
	// QueueCounts adds a read of the kept counts of a queue to t: the tasks by status, in the order of the codes, those
	// that wait for their group behind them, and the delayed ones.
	QueueCounts func(t *txn.Tx, namespace, name string, into func(byStatus []int64, delayed int64))
}

//go:embed *.sql
var statementFiles embed.FS

// Statements are the statements of this package, for tools and tests.
var Statements = sqltext.Parse(statementFiles, "*.sql", sqltext.Lists{"covering_done": table.CoveringDone})

// examineTimeout bounds one check.
const examineTimeout = 10 * time.Second

// Ping returns an error unless the database is writable and has no setting of the role that would break each call, and
// the program can work with the schema.
func (doc *Doctor) Ping(ctx context.Context) error {
	const op = "ping store"
	ctx, cancel := doc.DB.WithTimeout(ctx)
	defer cancel()

	var recovery bool
	values := make([]string, len(txn.RefusedSettings))
	err := doc.DB.Pool.QueryRow(ctx, doc.DB.Text.Of(readRefused)).Scan(&recovery, &values[0], &values[1], &values[2])
	if err != nil {
		return txn.Translate(op, err)
	}

	if recovery {
		return &queue.Error{Op: op, Kind: queue.KindUnavailable, Msg: "the database is read-only (a standby?); connect to the primary"}
	}
	for i, setting := range txn.RefusedSettings {
		if txn.RefusesSetting(setting.Name, values[i]) {
			return &queue.Error{
				Op: op, Kind: queue.KindUnavailable, Subject: "setting " + setting.Name,
				Msg: "is " + values[i] + " for this role or database, which pgqueue cannot work with; run: alter role … reset " + setting.Name,
			}
		}
	}
	return doc.Migrator.Check(ctx)
}

// Diagnose runs all checks. An error means that the database cannot be reached. It reads all rows of waiting and held
// tasks, in steps: some seconds for a million.
func (doc *Doctor) Diagnose(ctx context.Context) ([]queue.Finding, error) {
	const op = "diagnose"
	d, err := doc.begin(ctx)
	if err != nil {
		return nil, txn.Translate(op, err)
	}

	err = d.run(ctx, d.server, d.encoding, d.settings, d.schema, d.restored, d.clock, d.snapshot, d.tables, d.notifyQueue,
		d.connections, d.partitions, d.tickers, d.background, d.timesAhead, d.groups, d.triggers)
	d.conn.Release() // the next checks use the pool
	if err == nil {
		err = d.addContradictions(ctx) // each of its steps has a deadline
	}
	if err == nil {
		// Last: listen opens a connection of its own, which a full server may refuse.
		err = d.run(ctx, d.tokens, d.listen)
	}

	if err != nil {
		return nil, txn.Translate(op, err)
	}
	return d.found, nil
}

// CheckDurability reports whether an acknowledged write survives a crash of PostgreSQL: the settings fsync,
// full_page_writes and synchronous_commit.
func (doc *Doctor) CheckDurability(ctx context.Context) ([]queue.Finding, error) {
	const op = "check durability"
	d, err := doc.begin(ctx)
	if err != nil {
		return nil, txn.Translate(op, err)
	}
	defer d.conn.Release()

	if err := d.run(ctx, d.server); err != nil {
		return nil, txn.Translate(op, err)
	}
	return slices.DeleteFunc(d.found, func(f queue.Finding) bool {
		return f.Name != "fsync" && f.Name != "full_page_writes" && f.Name != "synchronous_commit"
	}), nil
}

// diagnosis collects the findings of one call.
type diagnosis struct {
	*Doctor
	conn  *pgxpool.Conn
	found []queue.Finding
}

// begin takes a connection of the pool, within the timeout of a call.
func (doc *Doctor) begin(ctx context.Context) (*diagnosis, error) {
	ctx, cancel := doc.DB.WithTimeout(ctx)
	defer cancel()
	conn, err := doc.DB.Pool.Acquire(ctx)
	if err != nil {
		return nil, &txn.ConnectError{Err: err}
	}
	return &diagnosis{Doctor: doc, conn: conn}, nil
}

// run runs checks in their order, each with the timeout examineTimeout.
func (d *diagnosis) run(ctx context.Context, checks ...func(context.Context) error) error {
	for _, check := range checks {
		ctx, cancel := context.WithTimeout(ctx, examineTimeout)
		err := check(ctx)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// report adds a finding. A finding without a fault gets no advice.
func (d *diagnosis) report(name string, level queue.Level, value, advice string) {
	if level == queue.LevelOK {
		advice = ""
	}
	d.found = append(d.found, queue.Finding{Name: name, Level: level, Value: value, Advice: advice})
}

// reportUnless is report for a fact that is a failure when ok is false.
func (d *diagnosis) reportUnless(ok bool, name, value, advice string) {
	level := queue.LevelFail
	if ok {
		level = queue.LevelOK
	}
	d.report(name, level, value, advice)
}

// reportUnknown turns a refusal of the server into a finding. It returns all other errors.
func (d *diagnosis) reportUnknown(name string, err error) error {
	if !txn.IsSentByServer(err) {
		return err
	}
	d.report(name, queue.LevelWarn, "not known: "+err.Error(),
		"the role may lack a privilege: grant pg_monitor to it, or run the diagnosis as another")
	return nil
}

// readRow reads one row. A refusal of the server becomes the finding name, and ok is false. Only a fault of the
// connection is an error.
func (d *diagnosis) readRow(ctx context.Context, name string, s sqltext.Statement, dst []any, args ...sqltext.Arg) (ok bool, err error) {
	err = d.conn.QueryRow(ctx, d.DB.Text.Of(s), d.DB.Text.Values(s, args)...).Scan(dst...)
	return err == nil, d.reportUnknown(name, err)
}

// readRows scans each row into dst and calls each after it. Refusals of the server are as in readRow.
func (d *diagnosis) readRows(
	ctx context.Context, name string, s sqltext.Statement, dst []any, each func() error, args ...sqltext.Arg,
) (ok bool, err error) {
	rows, err := d.conn.Query(ctx, d.DB.Text.Of(s), d.DB.Text.Values(s, args)...)
	if err == nil {
		_, err = pgx.ForEachRow(rows, dst, each)
	}
	return err == nil, d.reportUnknown(name, err)
}

// arg returns a named parameter with its value.
func arg(name string, value any) sqltext.Arg { return sqltext.Arg{Name: name, Value: value} }

// grade returns the level of a value with the bounds of a warning and of a failure.
func grade(value, warn, fail float64) queue.Level {
	switch {
	case value > fail:
		return queue.LevelFail
	case value > warn:
		return queue.LevelWarn
	default:
		return queue.LevelOK
	}
}

// formatBytes formats n bytes for people, in steps of 1,000.
func formatBytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/1000, []string{"kB", "MB", "GB", "TB"}
	for value >= 1000 && len(units) > 1 {
		value, units = value/1000, units[1:]
	}
	return fmt.Sprintf("%.1f %s", value, units[0])
}

// formatSeconds formats a number of seconds as a duration, rounded to seconds.
func formatSeconds(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
