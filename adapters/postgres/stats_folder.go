package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements of the stats folder.
var (
	lockFold       = statement("fold.lock")
	readFoldNow    = statement("fold.now")
	foldEvents     = statement("fold")
	listFoldQueues = statement("fold.queues")
	findNextFold   = statement("fold.next")
)

const opFold = "fold counts"

// errNoRefusedQueue goes with the error of a step that fails although the database refuses the rows of no single queue.
var errNoRefusedQueue = errors.New("the database refuses the rows of no single queue")

// errOtherFolds ends the search for a refused queue, because another process has the lock and finds the queue itself.
var errOtherFolds = errors.New("another process folds")

// fold adds new event rows to the counts of their queues. It does nothing while another process folds. It passes over a
// queue with refused counts for refusedRest: the event rows of that queue stay, so its counts stay correct.
func (s *Store) fold(ctx context.Context) (queue.Maintained, error) {
	_, _, passed := s.rowFilters.fold.nextStep()
	folded, state, err := s.foldWithout(ctx, passed, false)
	if err == nil && state.historyDue {
		return s.addHistory(ctx, folded)
	}
	if err == nil {
		return queue.Maintained{Moved: folded}, nil
	}

	done, err := s.rowFilters.fold.retryRefused(ctx, err, func() (refusedRow, error) {
		suspects, err := s.listSuspectsOfFold(ctx, passed)
		if err != nil {
			return refusedRow{}, err
		}
		return findRefusedQueue(ctx, suspects, passed, func(without []int32) (bool, error) {
			_, state, err := s.foldWithout(ctx, without, true)
			return state.locked, err
		})
	})
	if errors.Is(err, errOtherFolds) {
		return queue.Maintained{}, nil
	}
	return done, err
}

// addHistory writes the history behind a fold. The counts are folded, so a failure of the history is a fault beside them.
func (s *Store) addHistory(ctx context.Context, folded int) (queue.Maintained, error) {
	const subject = "history"
	done, err := s.writeHistory(ctx)
	done.Moved = folded
	s.knownFaults.clearFault(subject, err)
	if err == nil || !canGoOn(ctx, err) {
		return done, err
	}
	done.Faults = append(done.Faults, queue.Fault{Subject: subject, Err: err, Known: s.knownFaults.recordFault(subject, err)})
	return done, nil
}

// foldState is the row of fold as the fold met it.
type foldState struct {
	locked     bool // this process got the lock
	historyDue bool // the last minute has no history yet
}

// foldWithout folds the event rows of all queues except passed. It returns the number of queues, and the state of the lock. A
// trial changes nothing.
func (s *Store) foldWithout(ctx context.Context, passed []int32, trial bool) (folded int, state foldState, err error) {
	err = s.db.Run(ctx, opFold, func(ctx context.Context, t *txn.Tx) error {
		folded = 0
		state = foldState{}
		err := t.Query(ctx, lockFold, func(rows pgx.Rows) error {
			state.locked = true
			return rows.Scan(&state.historyDue)
		})
		if err != nil {
			return err
		}
		// Another process holds the lock and does the same work.
		if !state.locked {
			return txn.ErrNothing
		}

		var now, own string
		if err := t.Query(ctx, readFoldNow, func(rows pgx.Rows) error { return rows.Scan(&now, &own) }); err != nil {
			return err
		}

		t.QueueQuery(foldEvents, func(rows pgx.Rows) error { return rows.Scan(&folded, nil) },
			arg("now", now), arg("own", own), arg("passed_queue_ids", passed))
		if !trial {
			return nil
		}
		if err := t.Flush(ctx); err != nil {
			return err
		}
		return txn.ErrNothing
	})
	return folded, state, txn.IgnoreNothing(err)
}

// listSuspectsOfFold returns the queues with events that a fold would add.
func (s *Store) listSuspectsOfFold(ctx context.Context, passed []int32) (suspects []refusedRow, err error) {
	err = s.db.Query(ctx, opFold, listFoldQueues, func(rows pgx.Rows) error {
		row := refusedRow{whole: true}
		var name string
		err := rows.Scan(&row.queue, &row.space, &name)
		row.subject = "counts of queue " + name
		suspects = append(suspects, row)
		return err
	}, arg("passed_queue_ids", passed))
	return suspects, err
}

// findRefusedQueue finds one queue with rows that the database refuses. It halves the suspects, so the number of trials is the
// logarithm of the number of queues. A trial works without some queues and changes nothing; it returns false when another process
// does the work, and then the error is errOtherFolds.
func findRefusedQueue(ctx context.Context, suspects []refusedRow, passed []int32, trial func(without []int32) (bool, error)) (refusedRow, error) {
	// A trial without the second half of the suspects shows which half contains the refused queue.
	var cleared []refusedRow
	for len(suspects) > 0 {
		half := len(suspects) / 2
		without := slices.Clone(passed)
		for _, row := range slices.Concat(cleared, suspects[half:]) {
			without = append(without, row.queue)
		}
		if half == 0 { // the last suspect takes part in the trial
			without = without[:len(without)-1]
		}

		first, err := trial(without)
		switch {
		case err != nil && !isFaultOfRows(ctx, err):
			return refusedRow{}, err
		case err == nil && !first:
			return refusedRow{}, errOtherFolds
		case err == nil && half == 0:
			return refusedRow{}, errNoRefusedQueue
		case half == 0:
			return suspects[0], nil
		case err == nil:
			cleared, suspects = append(cleared, suspects[:half]...), suspects[half:]
		default:
			cleared, suspects = append(cleared, suspects[half:]...), suspects[:half]
		}
	}
	// The step as a whole fails, as by a timeout, and its halves pass. An immediate repeat would fail as well.
	return refusedRow{}, errNoRefusedQueue
}
