package memory

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// GetTasks returns the tasks of ids that are there.
func (s *Store) GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	tasks := []*queue.Task{}
	for _, id := range sortUnique(ids) {
		r, err := s.findTask(namespace, id, now)
		switch {
		case err != nil:
		case withErrors:
			tasks = append(tasks, r.copyTaskWithErrors())
		default:
			tasks = append(tasks, r.copyTask())
		}
	}

	return tasks, nil
}

// EndedTasks returns those of ids that are finished, or not there.
func (s *Store) EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var ended []int64
	for _, id := range sortUnique(ids) {
		if r, err := s.findTask(namespace, id, now); err != nil || r.task.Status.Finished() {
			ended = append(ended, id)
		}
	}
	return ended, nil
}

// ListTasks returns a page. Its cursor is the order and the last id of the page before.
func (s *Store) ListTasks(ctx context.Context, namespace string, q queue.TaskQuery) (queue.TaskPage, error) {
	p, err := q.Page.Normalize()
	if err != nil {
		return queue.TaskPage{}, err
	}

	behind, err := parseTaskCursor(p.Cursor, q.OldestFirst)
	if err != nil {
		return queue.TaskPage{}, err
	}

	now, err := s.lockStore(ctx)
	if err != nil {
		return queue.TaskPage{}, err
	}

	defer s.mu.Unlock()

	matches := s.matchTasks(namespace, q.TaskFilter, now)
	if q.OldestFirst {
		matches = slices.Values(collectReversed(matches))
	}

	page := queue.TaskPage{Tasks: []*queue.Task{}}
	skip, bytes := p.Offset, 0
	for r := range matches {
		page.Count++
		switch id := r.task.ID; {
		case p.Cursor != "" && (q.OldestFirst && id <= behind || !q.OldestFirst && id >= behind):
		case skip > 0:
			skip--
		case page.Next != "":
		default:
			t := r.copyTask()
			bytes += t.Bytes()
			if n := len(page.Tasks); n == p.Limit || n > 0 && bytes > queue.MaxPageBytes {
				page.Next = formatTaskCursor(page.Tasks[n-1].ID, q.OldestFirst)
				continue
			}
			page.Tasks = append(page.Tasks, t)
		}
	}

	return page, nil
}

// collectReversed gathers what seq yields, the last first.
func collectReversed(seq iter.Seq[*record]) []*record {
	all := slices.Collect(seq)
	slices.Reverse(all)
	return all
}

// The letters that a cursor begins with: no list goes on in the order of another.
const (
	cursorNewest = "t"
	cursorOldest = "o"
)

func formatTaskCursor(id int64, oldestFirst bool) string {
	order := cursorNewest
	if oldestFirst {
		order = cursorOldest
	}
	return order + strconv.FormatInt(id, 36)
}

// parseTaskCursor gives the id that a cursor goes on behind; 0 for the beginning.
func parseTaskCursor(c string, oldestFirst bool) (int64, error) {
	if c == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(c[1:], 36, 64)
	if err != nil || id < 0 || formatTaskCursor(id, oldestFirst) != c {
		return 0, errUnknownCursor()
	}
	return id, nil
}

func errUnknownCursor() error {
	return queue.Invalid("cursor", "must be the cursor of the page before; start again without it")
}

// matchTasks yields the visible tasks that f selects, newest first.
func (s *Store) matchTasks(namespace string, f queue.TaskFilter, now time.Time) iter.Seq[*record] {
	sp := s.findNamespace(namespace)
	from := &sp.roster
	if f.Queue != "" {
		l := sp.queues[f.Queue]
		if l == nil {
			return func(func(*record) bool) {}
		}
		from = &l.roster
	}

	return func(yield func(*record) bool) {
		for r := range from.eachNewestFirst() {
			t := &r.task
			if !r.lane.gone && !r.lane.isPastRetention(r, now) &&
				(len(f.Statuses) == 0 || slices.Contains(f.Statuses, t.Status)) &&
				(f.Worker == "" || f.Worker == t.Worker) &&
				(f.CreatedAfter.IsZero() || t.CreatedAt.After(f.CreatedAfter)) &&
				(f.CreatedBefore.IsZero() || t.CreatedAt.Before(f.CreatedBefore)) &&
				!yield(r) {
				return
			}
		}
	}
}

// CancelTasks cancels waiting tasks and asks the holders of retained ones.
func (s *Store) CancelTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.applyToSelection(ctx, namespace, sel, queue.MoveCancel, func(r *record, now time.Time) error {
		if err := s.moveTask(r, queue.MoveCancel, queue.Circumstances{Now: now}); err != nil {
			return err
		}
		if r.task.Status == queue.StatusCancelled {
			s.recordEvent(r, queue.EventCancelled, "", now)
		}
		return nil
	})
}

// RetryTasks makes finished tasks new again.
func (s *Store) RetryTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.applyToSelection(ctx, namespace, sel, queue.MoveRetry, func(r *record, now time.Time) error {
		if err := s.moveTask(r, queue.MoveRetry, queue.Circumstances{Now: now}); err != nil {
			return err
		}
		s.recordEvent(r, queue.EventRevived, "", now)
		return nil
	})
}

// DeleteTasks deletes tasks that are not under a lease.
func (s *Store) DeleteTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.applyToSelection(ctx, namespace, sel, "", func(r *record, _ time.Time) error {
		if r.task.Status == queue.StatusRetained {
			return &queue.Error{
				Kind: queue.KindConflict, Subject: taskSubject(r.task.ID), Msg: "a held task cannot be deleted; cancel it first",
			}
		}
		s.removeTask(r)
		return nil
	})
}

// applyToSelection applies do to the selected tasks. A dry run only checks whether move ("" = a delete) is allowed.
func (s *Store) applyToSelection(ctx context.Context, namespace string, sel queue.Selection, move queue.Move,
	do func(*record, time.Time) error,
) (queue.Bulk, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return queue.Bulk{}, err
	}

	defer s.mu.Unlock()

	if sel.DryRun {
		do = func(r *record, _ time.Time) error {
			if move == "" && r.task.Status == queue.StatusRetained || move != "" && !queue.Allowed(r.task.Status, move) {
				return queue.ErrConflict
			}
			return nil
		}
	}

	behind, err := queue.ReadBulkCursor(sel.Cursor)
	if err != nil {
		return queue.Bulk{}, err
	}

	var b queue.Bulk
	one := func(r *record) error {
		was := r.task.Status
		if err := do(r, now); err != nil {
			return err
		}
		b.Matched++
		if sel.DryRun {
			return nil
		}
		b.Moved++
		is := r.task.Status
		if move == "" {
			is = ""
		}
		if was != is {
			b.Tallies.Add(namespace, r.task.Queue, was, is, 1)
		}
		return nil
	}

	began := time.Now()
	// A full step behind the end of the time sets the cursor of the next call.
	ended := func(done int, id int64) bool {
		if sel.Within > 0 && done%bulkStep == 0 && time.Since(began) >= sel.Within {
			b.Next = queue.BulkCursor(id)
			return true
		}
		return false
	}

	if sel.Filter != nil {
		up := move == queue.MoveRetry // the oldest first: revived tasks keep their order
		selected := slices.Collect(s.matchTasks(namespace, *sel.Filter, now))
		if up {
			slices.Reverse(selected)
		}
		done := 0
		for _, r := range selected {
			id := r.task.ID
			if sel.Cursor != "" && (up && id <= behind || !up && id >= behind) {
				continue
			}
			if err := one(r); err != nil && !errors.Is(err, queue.ErrConflict) {
				return b, err
			}
			if done++; ended(done, id) {
				break
			}
		}
		return b, nil
	}

	done := 0
	for _, id := range sortUnique(sel.IDs) {
		if id <= behind {
			continue
		}
		r, err := s.findTask(namespace, id, now)
		if err == nil {
			err = one(r)
		}
		if err != nil {
			if b.Errs == nil {
				b.Errs = map[int64]error{}
			}
			b.Errs[id] = err
		}
		if done++; ended(done, id) {
			break
		}
	}

	return b, nil
}

// bulkStep is after how many tasks a bulk operation looks whether its time is over.
const bulkStep = 500

// ListWorkers returns the workers that hold tasks of the namespace.
func (s *Store) ListWorkers(ctx context.Context, namespace string) ([]queue.Worker, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	byName := map[string]*queue.Worker{}
	for _, r := range s.leased.items {
		if r.lane.gone || r.task.Namespace != namespace {
			continue
		}
		w := byName[r.task.Worker]
		if w == nil {
			w = &queue.Worker{Name: r.task.Worker, Since: r.task.StartedAt, ExpiresAt: r.lease.ExpiresAt}
			byName[w.Name] = w
		}
		w.Held++
		w.Since = earlierTime(w.Since, r.task.StartedAt)
		w.ExpiresAt = earlierTime(w.ExpiresAt, r.lease.ExpiresAt)
		if i, there := slices.BinarySearch(w.Queues, r.task.Queue); !there {
			w.Queues = slices.Insert(w.Queues, i, r.task.Queue)
		}
	}

	workers := []queue.Worker{}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		workers = append(workers, *byName[name])
	}

	return workers, nil
}

func earlierTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// sortUnique is v without repeats, sorted.
func sortUnique[T cmp.Ordered](v []T) []T {
	v = slices.Clone(v)
	slices.Sort(v)
	return slices.Compact(v)
}
