package queue

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"
)

// Selection names tasks for a bulk operation: IDs, or a Filter that names at least one thing.
type Selection struct {
	IDs    []int64
	Filter *TaskFilter
	// DryRun counts and changes nothing.
	DryRun bool
	// Cursor goes on where an answer with that Next ended; "" begins. The rest of the selection must be the same.
	Cursor string
	// Within is how long the call works before it answers with what it did and Next. 0 works until all is done.
	Within time.Duration
	// Limit is the most tasks that the call looks at before it answers so; at most MaxSelection, 0 = no limit. Callers
	// show progress with it, and stop between two calls.
	Limit int
}

// Normalize checks s: either ids or a filter, at most MaxBatch ids.
func (s Selection) Normalize() (Selection, error) {
	switch {
	case len(s.IDs) > 0 && s.Filter != nil:
		return s, Invalid("ids", "must be ids or a filter, got both; leave one out")
	case len(s.IDs) == 0 && s.Filter == nil:
		return s, Invalid("ids", "must be ids or a filter, got none")
	case len(s.IDs) > MaxBatch:
		return s, Invalid("ids", fmt.Sprintf("must be at most %d ids, got %d", MaxBatch, len(s.IDs)))
	}

	for _, id := range s.IDs {
		if id <= 0 {
			return s, Invalid("ids", fmt.Sprintf("must be task ids above 0, got %d", id))
		}
	}

	if s.Filter != nil {
		f, err := s.Filter.Normalize()
		if err != nil {
			return s, err
		}
		if f.IsEmpty() {
			// It would select every task of the namespace.
			return s, Invalid("ids", "must be ids or a filter, got an empty filter; list all statuses to select every task")
		}
		s.Filter = &f
	}

	if _, err := ReadBulkCursor(s.Cursor); err != nil {
		return s, err
	}

	return s, cmp.Or(CheckDuration("within", s.Within, 0), CheckInt("limit", s.Limit, 0, MaxSelection))
}

// Bulk answers a bulk operation.
type Bulk struct {
	// Matched is how many tasks the selection names and the move is allowed for.
	Matched int64
	// Moved is how many were moved (for a cancel of held tasks: asked); 0 after a dry run.
	Moved int64
	// Errs has, for a selection by ids, the error of each id that was not moved: ErrNotFound, ErrConflict, or ErrUnavailable
	// for a task that another transaction has locked for longer than the call may take.
	Errs map[int64]error
	// Next is the Cursor to go on with; "" when all is done, and only then.
	Next string
	// Tallies count the moved tasks by queue; requested cancels are not among them. Not part of the
	// wire.
	Tallies Tallies
}

// Add counts in what a later step did.
func (b *Bulk) Add(step Bulk) {
	b.Matched += step.Matched
	b.Moved += step.Moved
	b.Tallies.Merge(step.Tallies)
	b.Next = step.Next
	for id, err := range step.Errs {
		if b.Errs == nil {
			b.Errs = map[int64]error{}
		}
		b.Errs[id] = err
	}
}

// InSteps has step work off s, each call at most within long, until nothing is left, step fails or ctx ends, and counts
// up. The answer beside an error counts the steps before it, and its Next continues behind them. When s has a Within or a Limit,
// one step is all that its caller wants.
func InSteps(ctx context.Context, s Selection, within time.Duration, step func(context.Context, Selection) (Bulk, error)) (Bulk, error) {
	if s.Within != 0 || s.Limit != 0 {
		s.Within = min(cmp.Or(s.Within, within), within)
		return step(ctx, s)
	}

	s.Within = within
	total := Bulk{Next: s.Cursor}
	for {
		b, err := step(ctx, s)
		if err != nil {
			return total, err
		}
		if total.Add(b); b.Next == "" {
			return total, nil
		}
		s.Cursor = b.Next
	}
}

// BulkCursor returns the cursor of a bulk operation behind the task id: for stores.
func BulkCursor(id int64) string { return "b" + strconv.FormatInt(id, 36) }

// ReadBulkCursor gives the id of a cursor; 0 for "", the beginning.
func ReadBulkCursor(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(cursor[1:], 36, 64)
	if err != nil || id <= 0 || BulkCursor(id) != cursor {
		return 0, Invalid("cursor", "must be the cursor of the step before; start again without it")
	}
	return id, nil
}

// Cleaned answers a step of a clean.
type Cleaned struct {
	// Count is how many tasks were deleted.
	Count int64
	// More says that the queue may have finished tasks left: repeat the call.
	More bool
}
