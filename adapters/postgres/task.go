package postgres

import (
	"bytes"
	"context"
	"encoding/base64"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements that read single tasks.
var (
	readPresent    = statement("task.now")
	findPresent    = statement("task.now.any")
	findStates     = statement("task.state")
	findLives      = statement("task.life")
	findTasks      = statement("task.there")
	findQueues     = statement("task.queues")
	findEnded      = statement("task.ended")
	readPage       = statement("task.page")
	readBriefPage  = statement("task.page.brief")
	readTaskErrors = statement("task.errors")
	listWorkers    = statement("worker.list")
)

// taskPlace names a task by its queue and its id, which is the key of most tables.
type taskPlace struct {
	queueID int32
	id      int64
}

var placeColumns = table.Of[taskPlace]()

// nowRows holds tasks as they are now, by id.
type nowRows map[int64]*nowRow

// readPresentTasks reads the present state of tasks of a namespace, within t.
func readPresentTasks(ctx context.Context, t *txn.Tx, namespace string, ids []int64) (nowRows, error) {
	rows := make(nowRows, len(ids))
	return rows, t.Query(ctx, findPresent, scanPresent(presentColumns, rows.add), arg("namespace", namespace), arg("ids", ids))
}

// readTaskStates reads tasks of a namespace without payload, headers, key, result and progress, within t.
func readTaskStates(ctx context.Context, t *txn.Tx, namespace string, ids []int64) (nowRows, error) {
	rows := make(nowRows, len(ids))
	return rows, t.Query(ctx, findStates, scanPresent(presentStateColumns, rows.add), arg("namespace", namespace), arg("ids", ids))
}

func (r nowRows) add(n *nowRow) { r[n.task.ID] = n }

// wantedTask is a task that a call wants back.
type wantedTask struct {
	queueID int32
	id      int64
	call    int32
}

var wantedColumns = table.Of[wantedTask]()

// readWantedTasks reads the present state of tasks within t. For each call it reads up to queue.MaxPageBytes of
// content, and the content of the first task in any case.
func readWantedTasks(ctx context.Context, t *txn.Tx, wanted []wantedTask) (map[int64]*queue.Task, error) {
	tasks := make(map[int64]*queue.Task, len(wanted))
	return tasks, readWantedRows(ctx, t, wanted, func(n *nowRow) { tasks[n.task.ID] = n.task })
}

// readWantedRows is readWantedTasks with the places of the narrow rows.
func readWantedRows(ctx context.Context, t *txn.Tx, wanted []wantedTask, each func(*nowRow)) error {
	return t.Query(ctx, readPresent, scanPresent(presentColumns, each), wantedColumns.Arrays([]sqltext.Arg{arg("bytes", queue.MaxPageBytes)}, wanted)...)
}

// readTaskLives reads tasks of a namespace without payload, headers, key and progress, within t. It reads tasks from
// the front of ids until their results reach most bytes, and returns their number as fit.
func readTaskLives(ctx context.Context, t *txn.Tx, namespace string, ids []int64, most int64) (there nowRows, fit int, err error) {
	there, fit = make(nowRows, len(ids)), len(ids)
	err = t.Query(ctx, findLives, scanPresent(presentLifeColumns, there.add, &fit),
		arg("namespace", namespace), arg("ids", ids), arg("bytes", most))
	return there, fit, err
}

// GetTasks implements queue.Store.
func (s *Store) GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error) {
	const op = "get tasks"
	if len(ids) == 0 {
		return nil, nil
	}

	var rowsNow []*nowRow
	err := s.db.Query(ctx, op, findPresent, scanPresent(presentColumns, func(n *nowRow) { rowsNow = append(rowsNow, n) }),
		arg("namespace", namespace), arg("ids", ids))
	if err != nil {
		return nil, err
	}

	out := make([]*queue.Task, len(rowsNow))
	byID := make(map[int64]*queue.Task, len(rowsNow))
	places := make([]taskPlace, len(rowsNow))
	for i, n := range rowsNow {
		out[i] = n.task
		places[i] = taskPlace{n.queue, n.task.ID}
		byID[n.task.ID] = n.task
	}

	// Errors come from a table of their own, in a round trip that most callers do not need.
	if !withErrors || len(out) == 0 {
		return out, nil
	}

	return out, s.db.Query(ctx, op, readTaskErrors, scanRows(attemptErrorColumns, func(r errorRow) {
		t := byID[r.taskID]
		t.Errors = append(t.Errors, queue.AttemptError{
			Attempt: int(r.attempt), At: r.at.UTC(), Worker: r.worker, Error: r.error,
			Kind: textFromPointer(r.kind), Fingerprint: textFromPointer(r.fingerprint),
		})
	}), placeColumns.Arrays(nil, places)...)
}

// QueuesOfTasks implements access.TaskQueues.
func (s *Store) QueuesOfTasks(ctx context.Context, namespace string, ids []int64) (map[int64]string, error) {
	queues := make(map[int64]string, len(ids))
	err := s.db.Query(ctx, "queues of tasks", findQueues, func(rows pgx.Rows) error {
		var id int64
		var name string
		err := rows.Scan(&id, &name)
		queues[id] = name
		return err
	}, arg("namespace", namespace), arg("ids", ids))
	return queues, err
}

// EndedTasks implements queue.Store.
func (s *Store) EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error) {
	var ended []int64
	err := s.db.Query(ctx, "get tasks", findEnded, scanEach(func(id int64) { ended = append(ended, id) }), arg("namespace", namespace), arg("ids", ids))
	return ended, err
}

// ListTasks implements queue.Store.
func (s *Store) ListTasks(ctx context.Context, namespace string, q queue.TaskQuery) (queue.TaskPage, error) {
	const op = "list tasks"
	page := queue.TaskPage{Tasks: []*queue.Task{}}
	var err error
	if q.Page, err = q.Page.Normalize(); err != nil {
		return page, queue.WithOp(op, err)
	}

	l, behind, err := s.planTaskPage(ctx, op, namespace, q)
	if err != nil || len(l.queues) == 0 {
		return page, queue.WithOp(op, err)
	}

	found, examined, err := s.findPage(ctx, op, l, behind, q.Offset, q.Limit+1)
	page.Examined = examined
	if err != nil {
		return page, err
	}

	// The walk read one task above the limit: it shows whether another page follows.
	whole := len(found.tasks) <= q.Limit
	if !whole {
		found.tasks = found.tasks[:q.Limit]
	}
	seen := len(found.tasks)
	var fit int
	if page.Tasks, fit, err = s.readTaskPage(ctx, op, found.tasks, q.Brief); err != nil {
		return page, err
	}

	if last := found.lastOfPage(fit, whole); last != 0 {
		page.Next = encodeCursor(last, q.OldestFirst)
	}

	// A page that holds the whole list already shows the count. To count the rest of a search would be another search.
	isFirst := q.Cursor == "" && q.Offset == 0
	present := int64(len(page.Tasks))
	switch {
	case l.searchesText():
		page.Count, page.AtLeast = present, page.Next != "" || !isFirst
	case !l.counted && isFirst && whole:
		page.Count, page.AtLeast = int64(seen-fit)+present, found.more
	default:
		page.Count, page.AtLeast, err = s.countRows(ctx, op, l)
		page.Count = max(page.Count, present)
	}
	return page, err
}

// planTaskPage prepares the walk of a page, and returns the id behind which it goes on.
func (s *Store) planTaskPage(ctx context.Context, op, namespace string, q queue.TaskQuery) (l *listing, behind int64, err error) {
	if behind, err = decodeCursor(q.Cursor, q.OldestFirst); err != nil {
		return nil, 0, err
	}
	l, err = s.planListing(ctx, op, namespace, q.TaskFilter, q.OldestFirst)
	return l, behind, err
}

// lastOfPage returns the id behind which the next page starts; 0 = there is none. It is that of the last of the fit tasks that
// the page has, or of the last row of a bounded walk. whole says that no task was left out by the limit.
func (f found) lastOfPage(fit int, whole bool) int64 {
	switch {
	case fit < len(f.tasks) || !whole:
		return f.tasks[fit-1].id
	case f.more:
		return f.end
	}
	return 0
}

// findPage finds at most limit tasks of a list behind an id, and returns how many payloads a search for a text looked at.
func (s *Store) findPage(ctx context.Context, op string, l *listing, behind int64, offset, limit int) (out found, examined int64, err error) {
	if l.searchesText() {
		return s.searchText(ctx, op, l, behind, offset, limit, queue.MaxTextTime)
	}
	out, err = s.walkRows(ctx, op, l, behind, offset, limit)
	return out, 0, err
}

// readTaskPage reads tasks in the order of places, from the front up to the bytes of a page. It returns the number of
// these places as fit. The result omits tasks that were deleted meanwhile. Brief tasks always fit.
func (s *Store) readTaskPage(ctx context.Context, op string, places []taskPlace, brief bool) (tasks []*queue.Task, fit int, err error) {
	tasks, fit = make([]*queue.Task, 0, len(places)), len(places)
	if len(places) == 0 {
		return tasks, fit, nil
	}
	if brief {
		err = s.db.Query(ctx, op, readBriefPage, scanPresent(presentColumns, func(n *nowRow) { tasks = append(tasks, n.task.Brief()) }),
			placeColumns.Arrays([]sqltext.Arg{arg("letters", queue.MaxBriefResult), arg("bytes", 8*queue.MaxBriefResult)}, places)...)
		return tasks, fit, err
	}
	err = s.db.Query(ctx, op, readPage, scanPresent(presentColumns, func(n *nowRow) { tasks = append(tasks, n.task) }, &fit),
		placeColumns.Arrays([]sqltext.Arg{arg("bytes", queue.MaxPageBytes)}, places)...)
	return tasks, fit, err
}

// maxID is above every id.
const maxID = int64(math.MaxInt64)

// encodeCursor returns the cursor behind an id. Its first letter is the order, so a list in the other order refuses it.
func encodeCursor(id int64, oldestFirst bool) string {
	return base64.RawURLEncoding.EncodeToString(append(cursorOrder(oldestFirst), strconv.FormatInt(id, 36)...))
}

func cursorOrder(oldestFirst bool) []byte {
	if oldestFirst {
		return []byte("o")
	}
	return []byte("t")
}

func decodeCursor(c string, oldestFirst bool) (int64, error) {
	switch {
	case c == "" && oldestFirst:
		return 0, nil
	case c == "":
		return maxID, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(c)
	if digits, ok := bytes.CutPrefix(b, cursorOrder(oldestFirst)); err == nil && ok {
		if id, err := strconv.ParseInt(string(digits), 36, 64); err == nil && id >= 0 {
			return id, nil
		}
	}
	return 0, queue.Invalid("cursor", "must be the cursor of the page before, in the same order; start again without it")
}

// ListWorkers implements queue.Store.
func (s *Store) ListWorkers(ctx context.Context, namespace string) ([]queue.Worker, error) {
	out := []queue.Worker{}
	var room queue.ListRoom
	err := s.db.Query(ctx, "list workers", listWorkers, func(rows pgx.Rows) error {
		var w queue.Worker
		if err := rows.Scan(&w.Name, &w.Held, &w.Since, &w.Queues, &w.QueueCount, &w.ExpiresAt); err != nil {
			return err
		}
		w.Since, w.ExpiresAt = w.Since.UTC(), w.ExpiresAt.UTC()
		out = append(out, w)
		return room.Add(w.Bytes(), queue.RemedyWorkers)
	}, arg("namespace", namespace), arg("queues", queue.MaxWorkerQueues))
	if err != nil {
		return nil, err
	}
	return out, nil
}
