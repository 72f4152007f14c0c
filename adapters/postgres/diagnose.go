package postgres

import (
	"context"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/doctor"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.Diagnoser = (*Store)(nil)

// Ping reports whether the store can work now: the database is reachable and writable, and this program can work with
// its schema.
func (s *Store) Ping(ctx context.Context) error { return s.doctor.Ping(ctx) }

// Diagnose implements queue.Diagnoser. A fact that it cannot read, for lack of a privilege for example, is a finding
// too. An error means that the database cannot be reached. It changes nothing. It reads all rows of waiting and held
// tasks, in steps: some seconds for a million.
func (s *Store) Diagnose(ctx context.Context) ([]queue.Finding, error) { return s.doctor.Diagnose(ctx) }

// CheckDurability reports whether an acknowledged write survives a crash of PostgreSQL: the settings fsync,
// full_page_writes and synchronous_commit. A server calls it at its start and logs each setting that is off.
func (s *Store) CheckDurability(ctx context.Context) ([]queue.Finding, error) {
	return s.doctor.CheckDurability(ctx)
}

// Contradiction is a task with rows that contradict each other, such as a finished task that still waits, or a task
// under two leases. No transaction of pgqueue leaves this state behind. A defect or a manual change does. What names the
// contradiction, such as "leased and finished"; Namespace, Queue and TaskID name the task. TaskID is 0 when the
// contradiction is about a lease row and not one task.
type Contradiction = doctor.Contradiction

// WithProgress returns a context for progress reports of Diagnose, FindContradictions and RepairContradictions. They
// call report after each step, in the caller's goroutine, with the number of rows of a table that they have read so
// far.
func WithProgress(ctx context.Context, report func(table string, rows int64)) context.Context {
	return doctor.WithProgress(ctx, report)
}

// FindContradictions searches all rows and returns the first 1,000 contradictions, and whether there are more. It reads
// in steps of bounded size, each with the timeout of a call. Beside running work it finds only rows that contradict each
// other within the snapshot of one step.
func (s *Store) FindContradictions(ctx context.Context) (all []Contradiction, more bool, err error) {
	return s.doctor.FindContradictions(ctx)
}

// RepairContradictions repairs every contradiction and returns the list of them. A finished task stays finished, a
// held task stays under its newest token, and a waiting task waits once. It also corrects the counts of the affected
// queues and changes nothing else. It searches like FindContradictions. The repair of one queue is one transaction of
// at most 10 minutes; no other transaction of the schema can write meanwhile.
func (s *Store) RepairContradictions(ctx context.Context) ([]Contradiction, error) {
	return s.doctor.RepairContradictions(ctx)
}

// CheckContradictions searches 500 rows of each table, for the start of a server.
func (s *Store) CheckContradictions(ctx context.Context) (queue.Finding, error) {
	return s.doctor.CheckContradictions(ctx)
}
