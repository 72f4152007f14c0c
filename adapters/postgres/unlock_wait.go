package postgres

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// The pauses between two attempts to lock rows of another transaction.
const (
	firstUnlockPause = 5 * time.Millisecond
	maxUnlockPause   = 200 * time.Millisecond
)

// unlockWait waits for the elements of a call with rows that another transaction has locked.
type unlockWait struct {
	// locked are the indexes of these elements.
	locked []int
	// try does the call for the elements at indexes, and returns the indexes of those that are still locked.
	try func(ctx context.Context, indexes []int) (locked []int, err error)
	// fail gives an element the error of a try.
	fail func(index int, err error)
}

// repeatUntilUnlocked tries again, after 5 ms first and 200 ms at most, until no element is locked, until ctx ends, or until the
// timeout of a call. It holds no connection while it waits. When a try fails, its elements get the error. Elements that are still
// locked at the end keep the answer that says so.
func (s *Store) repeatUntilUnlocked(ctx context.Context, w unlockWait) {
	ctx, cancel := s.db.WithTimeout(ctx)
	defer cancel()

	for pause := firstUnlockPause; len(w.locked) > 0 && retry.Sleep(ctx, pause); pause = min(2*pause, maxUnlockPause) {
		locked, err := w.try(ctx, w.locked)
		if err != nil {
			for _, index := range w.locked {
				w.fail(index, err)
			}
			return
		}
		w.locked = locked
	}
}

// selectAt returns the elements of all at indexes. indexes nil selects all.
func selectAt[T any](all []T, indexes []int) []T {
	if indexes == nil {
		return all
	}

	some := make([]T, len(indexes))
	for i, index := range indexes {
		some[i] = all[index]
	}
	return some
}

// collectAnswers copies answers[i] to out[indexes[i]], and returns the indexes in out of the locked elements. indexes nil means that
// answers is out itself.
func collectAnswers[T any](out, answers []T, indexes []int, errOf func(T) error) (locked []int) {
	for i, a := range answers {
		index := i
		if indexes != nil {
			index = indexes[i]
			out[index] = a
		}
		if queue.IsLocked(errOf(a)) {
			locked = append(locked, index)
		}
	}
	return locked
}
