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
		// A task that is not there is left out: the answer lists those that are.
		case err != nil:
		case withErrors:
			tasks = append(tasks, r.copyTaskWithErrors())
		default:
			tasks = append(tasks, r.copyTask())
		}
	}

	return tasks, nil
}

// QueuesOfTasks returns the names of the queues of tasks.
func (s *Store) QueuesOfTasks(ctx context.Context, namespace string, ids []int64) (map[int64]string, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	queues := make(map[int64]string, len(ids))
	for _, id := range ids {
		if r, err := s.findTask(namespace, id, now); err == nil {
			queues[id] = r.task.Queue
		}
	}
	return queues, nil
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

	last, err := parseTaskCursor(p.Cursor, q.OldestFirst)
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
		// The roster yields the newest first, so the other order needs all of them at once.
		all := slices.Collect(matches)
		slices.Reverse(all)
		matches = slices.Values(all)
	}

	page := queue.TaskPage{Tasks: []*queue.Task{}}
	// The loop goes on behind a full page, because Count is that of the whole list.
	skip, bytes := p.Offset, 0
	for r := range matches {
		page.Count++
		switch id := r.task.ID; {
		case p.Cursor != "" && !isBehind(id, last, q.OldestFirst):
		case skip > 0:
			skip--
		case page.Next != "": // the page is full; the rest is only counted
		default:
			t := r.copyTask()
			if q.Brief {
				t = t.Brief()
			}
			bytes += t.Bytes()
			// A page has at least one task, also where that one exceeds the bound on bytes.
			if n := len(page.Tasks); n == p.Limit || n > 0 && bytes > queue.MaxPageBytes {
				page.Next = formatTaskCursor(page.Tasks[n-1].ID, q.OldestFirst)
				continue
			}
			page.Tasks = append(page.Tasks, t)
		}
	}

	return page, nil
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
	// The comparison with the formatted id refuses cursors of the other order, signs and leading zeros.
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
		qs := sp.queues[f.Queue]
		if qs == nil {
			return func(func(*record) bool) {}
		}
		from = &qs.roster
	}

	return func(yield func(*record) bool) {
		for r := range from.eachNewestFirst() {
			if !r.queue.gone && !r.queue.isPastRetention(r, now) && f.Matches(&r.task) && r.hasKey(f.Key) && !yield(r) {
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
	return s.applyToSelection(ctx, namespace, sel, "", func(r *record, now time.Time) error {
		if r.task.Status == queue.StatusRetained {
			return &queue.Error{
				Kind: queue.KindConflict, Subject: taskSubject(r.task.ID), Msg: "a held task cannot be deleted; cancel it first",
			}
		}
		s.removeTask(r, now)
		return nil
	})
}

// applyToSelection applies do to the selected tasks. A dry run only checks whether move ("" = a delete) is allowed.
func (s *Store) applyToSelection(ctx context.Context, namespace string, sel queue.Selection, move queue.Move,
	do func(*record, time.Time) error,
) (b queue.Bulk, err error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return b, err
	}
	defer s.mu.Unlock()

	last, err := queue.ReadBulkCursor(sel.Cursor)
	if err != nil {
		return b, err
	}

	// Retries go from the oldest task on, so that revived tasks keep their order.
	oldestFirst := sel.Filter == nil || move == queue.MoveRetry
	began, done := time.Now(), 0
	for _, id := range s.listSelected(namespace, sel, oldestFirst, now) {
		if sel.Cursor != "" && !isBehind(id, last, oldestFirst) {
			continue
		}

		switch err := s.applyToTask(namespace, id, sel.DryRun, move, do, now, &b); {
		case err == nil:
		// A call with ids reports each refused task. A filter passes over those that cannot take part, as its
		// selection is of the present.
		case sel.Filter == nil:
			if b.Errs == nil {
				b.Errs = map[int64]error{}
			}
			b.Errs[id] = err
		case !errors.Is(err, queue.ErrConflict):
			return b, err
		}

		// A full step behind the end of the time, or the limit, sets the cursor of the next call.
		done++
		if done == sel.Limit || sel.Within > 0 && done%bulkStep == 0 && time.Since(began) >= sel.Within {
			b.Next = queue.BulkCursor(id)
			break
		}
	}
	return b, nil
}

// listSelected returns the ids of the selected tasks in the order of the bulk operation.
func (s *Store) listSelected(namespace string, sel queue.Selection, oldestFirst bool, now time.Time) []int64 {
	if sel.Filter == nil {
		return sortUnique(sel.IDs)
	}

	var ids []int64
	for r := range s.matchTasks(namespace, *sel.Filter, now) {
		ids = append(ids, r.task.ID)
	}
	if oldestFirst {
		slices.Reverse(ids)
	}
	return ids
}

// applyToTask applies do to one task of a bulk operation and counts it in b.
func (s *Store) applyToTask(namespace string, id int64, dryRun bool, move queue.Move,
	do func(*record, time.Time) error, now time.Time, b *queue.Bulk,
) error {
	r, err := s.findTask(namespace, id, now)
	if err != nil {
		return err
	}

	was := r.task.Status
	if dryRun {
		// The caller of a dry run never sees this error: it only keeps the task out of the count.
		if move == "" && was == queue.StatusRetained || move != "" && !queue.Allowed(was, move) {
			return queue.ErrConflict
		}
		b.Matched++
		return nil
	}

	if err := do(r, now); err != nil {
		return err
	}
	b.Matched++
	b.Moved++

	// A deleted task has no status.
	is := r.task.Status
	if move == "" {
		is = ""
	}
	if was != is {
		b.Tallies.Add(namespace, r.task.Queue, was, is, 1)
	}
	return nil
}

// isBehind reports whether the task id comes behind the task last in this order.
func isBehind(id, last int64, oldestFirst bool) bool {
	if oldestFirst {
		return id > last
	}
	return id < last
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
	// The order of the heap is of no use here; names sort the answer below.
	for _, r := range s.leased.order.items {
		if r.queue.gone || r.task.Namespace != namespace {
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
	var room queue.ListRoom
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		w := byName[name]
		// The list of queues is cut to keep the answer small; the count is that of all.
		w.QueueCount = len(w.Queues)
		w.Queues = w.Queues[:min(len(w.Queues), queue.MaxWorkerQueues)]
		if err := room.Add(w.Bytes(), queue.RemedyWorkers); err != nil {
			return nil, err
		}
		workers = append(workers, *w)
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
	return slices.Compact(slices.Sorted(slices.Values(v)))
}
