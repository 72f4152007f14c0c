package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// contradictRows is how many rows of each table the check looks at.
const contradictRows = 20_000

// startRows is the same for the start of a server, which waits for the look: 100,000 look-ups where leases hold 200 tasks.
const startRows = 500

// repairPatience is how long the repair of a queue waits for the transactions that are under way. All others of the schema wait
// behind it meanwhile.
const repairPatience = "5s"

// Contradiction is a task whose rows contradict each other: it is finished and waits, say, or is under two leases. No
// transaction of pgqueue leaves that behind; a defect or a change by hand does.
type Contradiction struct {
	// What, as "leased and finished".
	What             string
	Namespace, Queue string
	// TaskID; 0 = it is about a lease and not one task.
	TaskID int64

	queueID int32
}

// FindContradictions looks at the first rows of each table, 20,000 of each, and returns up to 1,000 contradictions.
func (s *Store) FindContradictions(ctx context.Context) ([]Contradiction, error) {
	return s.findContradictions(ctx, contradictRows)
}

func (s *Store) findContradictions(ctx context.Context, rows int64) ([]Contradiction, error) {
	var found []Contradiction
	err := s.query(ctx, "find contradictions", "contradict.find", func(r pgx.Rows) error {
		var c Contradiction
		err := r.Scan(&c.What, &c.Namespace, &c.Queue, &c.queueID, &c.TaskID)
		found = append(found, c)
		return err
	}, rows)
	return found, err
}

// RepairContradictions settles every contradiction: a finished task stays finished, a held one stays with the newest token, and
// one that waits waits once. It corrects the counts of the queues concerned and returns what it found. Nothing else is
// changed. Each queue is one transaction that keeps all others from writing for as long as it takes.
func (s *Store) RepairContradictions(ctx context.Context) ([]Contradiction, error) {
	const everything = 1 << 40
	var all []Contradiction
	for {
		found, err := s.findContradictions(ctx, everything)
		if err != nil || len(found) == 0 {
			return all, err
		}
		if slices.ContainsFunc(found, func(c Contradiction) bool { return slices.Contains(all, c) }) {
			return all, &queue.Error{
				Op: "repair contradictions", Kind: queue.KindInternal, Subject: "queue " + found[0].Queue,
				Msg: fmt.Sprintf("task %d is %s still; report this", found[0].TaskID, found[0].What),
			}
		}
		all = append(all, found...)

		tasks := map[int32][]int64{}
		of := map[int32]Contradiction{}
		for _, c := range found {
			tasks[c.queueID] = append(tasks[c.queueID], c.TaskID)
			of[c.queueID] = c
		}
		for id, ids := range tasks {
			if err := s.repairQueue(ctx, of[id], ids); err != nil {
				return all, err
			}
		}
	}
}

// repairQueue settles the contradictions of tasks of one queue and corrects its counts.
func (s *Store) repairQueue(ctx context.Context, of Contradiction, ids []int64) error {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return s.inTx(ctx, "repair contradictions", func(ctx context.Context, t *tx) error {
		t.queue("tx.hurry", repairPatience)
		t.queue("contradict.lock")
		t.queue("contradict.lease", of.queueID, ids)
		t.queue("contradict.held", of.queueID)
		t.queue("contradict.empty", of.queueID)
		t.queue("contradict.ready", of.queueID, ids)
		t.queue("contradict.delayed", of.queueID, ids)
		if err := t.flush(ctx); err != nil {
			return err
		}
		return s.correctCounts(ctx, t, of)
	})
}

// correctCounts makes the kept counts of a queue what its rows say.
func (s *Store) correctCounts(ctx context.Context, t *tx, of Contradiction) error {
	var counted, there []int64
	var countedLate, late int64
	t.queueRows("counts", func(r pgx.Rows) error {
		var id int32
		var namespace, name string
		var paused bool
		var created, finished, seconds float64
		return r.Scan(&id, &namespace, &name, &paused, &counted, &countedLate, &created, &finished, &seconds)
	}, of.Namespace, of.Queue)
	if err := t.read(ctx, "contradict.recount", func(r pgx.Rows) error { return r.Scan(&there, &late) }, of.queueID); err != nil {
		return err
	}

	var was, is []int16
	var n, delayed []int32
	add := func(from, to int16, by, grew int64) {
		was, is, n, delayed = append(was, from), append(is, to), append(n, int32(by)), append(delayed, int32(grew))
	}
	for i := range there {
		status := int16(i) + statusNew
		switch off := there[i] - counted[i]; {
		case off > 0:
			add(0, status, off, 0)
		case off < 0:
			add(status, 0, -off, 0)
		}
	}
	if late != countedLate {
		add(0, 0, 0, late-countedLate)
	}
	if len(n) > 0 {
		t.queue("contradict.correct", of.queueID, was, is, n, delayed)
	}
	return nil
}

// contradictions is the finding of a diagnosis.
func (s *Store) contradictions(ctx context.Context, rows int64) (queue.Finding, error) {
	found, err := s.findContradictions(ctx, rows)
	if err != nil {
		return queue.Finding{}, err
	}
	f := queue.Finding{Name: "contradictions", Level: queue.LevelOK, Value: fmt.Sprintf("none in the first %d rows of each table", rows)}
	if len(found) == 0 {
		return f, nil
	}
	var some []string
	for _, c := range found[:min(len(found), 3)] {
		some = append(some, fmt.Sprintf("%s/%s task %d is %s", c.Namespace, c.Queue, c.TaskID, c.What))
	}
	f.Level, f.Value = queue.LevelFail, fmt.Sprintf("%d or more: %s", len(found), strings.Join(some, ", "))
	f.Advice = "tasks may run again or be stuck; settle them with: pgqueue doctor --repair"
	return f, nil
}

// CheckContradictions is that finding alone, for the start of a server: it looks at 500 rows of each table.
func (s *Store) CheckContradictions(ctx context.Context) (queue.Finding, error) {
	return s.contradictions(ctx, startRows)
}
