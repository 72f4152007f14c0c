package postgres

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// The tables task and done have partitions by the same ranges of ids. A range wholly past retention leaves by dropping
// two tables. The store makes a partition before it uses the first id; the size of a partition follows the rate of
// tasks.

const (
	partMax    = 1 << 26          // largest number of ids in a partition
	partSoon   = 10 * time.Minute // a partition that fills faster than this makes the next one twice as large
	partLong   = 24 * time.Hour   // a partition that lasts longer than this makes the next one half as large
	ddlTimeout = "200ms"          // limits the wait for a lock; a later call tries again
	asideMost  = 10 * time.Second // bounds one extension on a connection of its own
	asideRest  = 5 * time.Second  // delay between a failed extension ahead of need and the next one
)

// An attempt to drop a partition waits dropPatience for each lock, while other sessions queue behind it. After a failed
// attempt the next one waits between dropRestLeast and dropRestMost.
const (
	dropPatience  = "20ms"
	dropRestLeast = 10 * time.Second
	dropRestMost  = 5 * time.Minute
)

// The statements of the partition keeper. createPart, closePartTable, freezePart and dropPartTables change tables, and
// several statements are about the tables of one partition.
var (
	listParts      = statement("part.list")
	lockParts      = statement("part.lock")
	insertPart     = statement("part.insert")
	createPart     = statement("part.create")
	walkPart       = statement("part.walk")
	stripPartKeys  = statement("part.strip.keys")
	stripPartRows  = statement("part.strip")
	findPartChange = statement("part.changed")
	closePartTable = statement("part.close")
	lockDrop       = statement("part.drop.lock")
	freezePart     = statement("part.freeze")
	dropPartTables = statement("part.drop")
)

// partitions records the upper end of the partitions and the progress of dropping the oldest.
type partitions struct {
	upper atomic.Int64 // ids below have a partition; 0 = unknown
	soon  atomic.Int64 // from this id on the store makes the next partition ahead of need

	mu      sync.Mutex
	running *extension // at most one at a time
	rested  time.Time  // earliest time of the next extension ahead of need
	ending  context.Context
	end     context.CancelFunc
	done    sync.WaitGroup

	cursor   partCursor
	closed   int64 // lower end of the partition that this process has closed
	dropRest time.Duration
	nextDrop time.Time
}

// extension is one run of runExtension, shared by all callers that wait for it.
type extension struct {
	over chan struct{}
	err  error // valid once over is closed
}

func (p *partitions) init() { p.ending, p.end = context.WithCancel(context.Background()) }

// close ends a running extension and waits for its goroutine.
func (p *partitions) close() {
	p.mu.Lock()
	// Under the lock of startExtension, so that none starts behind the Wait below.
	p.end()
	p.mu.Unlock()
	p.done.Wait()
}

// covers reports whether the partition of an id is known.
func (p *partitions) covers(id int64) bool { return id < p.upper.Load() }

// learn records the last partition. The next one is due after three quarters of its ids.
func (p *partitions) learn(last partition) {
	p.soon.Store(last.lower + (last.upper-last.lower)/4*3)
	p.upper.Store(last.upper)
}

// errNeedPartition ends a create with ids that have no partition yet. The create has written nothing.
const errNeedPartition = txn.StopError("no partition for these ids yet")

// repeatWithPartition runs a transaction that creates tasks, and runs it again after it made a missing partition for maxID, the
// highest id that the transaction took.
func (s *Store) repeatWithPartition(ctx context.Context, op string, do func(context.Context, *txn.Tx) error, maxID func() int64) error {
	for {
		err := s.db.Run(ctx, op, do)
		if !needPartition(err) {
			return err
		}
		if err := s.extendTo(ctx, maxID()); err != nil {
			return err
		}
	}
}

// needPartition reports whether a create failed because a partition is missing.
func needPartition(err error) bool {
	return errors.Is(err, errNeedPartition) || noPartition(err)
}

// noPartition reports whether PostgreSQL found no partition for a row. The database then lost partitions that this
// process remembers, for example by a restore, or it has closed the partition before its removal. A row that violates
// another check has the same SQLSTATE, but names that check.
func noPartition(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == sqlstate.CheckViolation && (pg.ConstraintName == "" || pg.ConstraintName == "closed")
}

type partition struct {
	lower, upper int64
	createdAt    time.Time
	isCounting   bool `col:"-"` // its tasks are counted for its drop
}

var partColumns = table.Of[partition]()

// partitionList is the answer of part.list.
type partitionList struct {
	all    []partition // by their bounds
	now    time.Time   // of the database
	lastID int64       // the last id that a create has taken
}

// scanPart adds a row of part.list.
func (l *partitionList) scanPart(rows pgx.Rows) error {
	var one partition
	err := rows.Scan(append(partColumns.Targets(nil, &one), &one.isCounting, &l.now, &l.lastID)...)
	l.all = append(l.all, one)
	return err
}

// lastPart returns the last partition, or an empty one.
func (l *partitionList) lastPart() partition {
	if len(l.all) == 0 {
		return partition{}
	}
	return l.all[len(l.all)-1]
}

// learnParts reads the upper end of the partitions, once, and makes the first partition. It uses up no id.
func (s *Store) learnParts(ctx context.Context) error {
	if s.partitions.upper.Load() > 0 {
		return nil
	}
	var parts partitionList
	err := s.db.Query(ctx, "list partitions", listParts, parts.scanPart)
	if err != nil {
		return err
	}
	if len(parts.all) == 0 {
		return s.extendTo(ctx, 1)
	}
	s.partitions.learn(parts.lastPart())
	return nil
}

// learnPartsIn is learnParts within a transaction of the caller: it uses no other connection and makes no partition.
func (s *Store) learnPartsIn(ctx context.Context, t *txn.Tx) error {
	var parts partitionList
	if err := t.Query(ctx, listParts, parts.scanPart); err != nil {
		return err
	}
	// Another goroutine may have learned a later one; an older snapshot must not undo that.
	if last := parts.lastPart(); last.upper > s.partitions.upper.Load() {
		s.partitions.learn(last)
	}
	return nil
}

// extendTo makes partitions until id is covered.
func (s *Store) extendTo(ctx context.Context, id int64) error {
	var last partition
	err := s.db.Run(ctx, "extend partitions", func(ctx context.Context, t *txn.Tx) (err error) {
		last, err = s.extendIn(ctx, t, id)
		return err
	})
	if err == nil {
		s.partitions.learn(last)
	}
	return err
}

// extendIn makes partitions within t until id is covered, and returns the last one.
func (s *Store) extendIn(ctx context.Context, t *txn.Tx, id int64) (partition, error) {
	var parts partitionList
	t.Queue(lockParts) // excludes concurrent changes until the transaction ends
	if err := t.Query(ctx, listParts, parts.scanPart); err != nil {
		return partition{}, err
	}

	// The size doubles after a partition that filled quickly and halves after a slow one.
	// The ids of a cell begin at its own number, so its first partition does too.
	last := partition{upper: queue.FirstID(queue.CellOfID(id)) + 1}
	size := s.opt.partitionMin
	if n := len(parts.all); n > 0 {
		last = parts.lastPart()
		size = last.upper - last.lower
		switch age := parts.now.Sub(last.createdAt); {
		case age < partSoon && n > 1:
			size = min(2*size, partMax)
		case age > partLong:
			size = max(size/2, s.opt.partitionMin)
		}
	}

	// The short lock timeout keeps the hot path from queueing behind the new partition.
	for last.upper <= id {
		last.lower, last.upper = last.upper, last.upper+size
		err := s.changeTables(ctx, t, func(t *txn.Tx) {
			t.QueueText("set local lock_timeout = '" + ddlTimeout + "'")
			queueDDL(t, createPart, last.lower, last.upper)
			t.Queue(insertPart, partColumns.Only("lower", "upper").Values(nil, &last)...)
		})
		if err != nil {
			return partition{}, err
		}
	}

	return last, nil
}

// changeTables queues commands that change tables in t. Where they need another server (WithDDLURL) it runs them there, in a
// transaction of their own.
func (s *Store) changeTables(ctx context.Context, t *txn.Tx, queueCommands func(*txn.Tx)) error {
	if s.opt.ddlURL == "" {
		queueCommands(t)
		return nil
	}

	cfg, err := pgx.ParseConfig(s.opt.ddlURL)
	if err != nil {
		return &queue.Error{Kind: queue.KindInvalid, Field: "ddl_url", Msg: "must be a PostgreSQL connection string; use a URL such as postgres://user@host/database", Err: err}
	}
	connector := s.opt.connectorTo(s.opt.ddlURL)
	connector.Home = "" // it is another server by intent
	connector.Prepare(cfg, false)
	conn, err := txn.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer txn.Disconnect(ctx, conn)
	return s.db.TryOn(ctx, conn, func(_ context.Context, t *txn.Tx) error {
		queueCommands(t)
		return nil
	})
}

// extendAside is extendTo on a connection of its own, outside of the pool. It serves callers with a transaction, which
// holds a connection of the pool already. Concurrent callers share one connection. The partition stays if the caller's
// transaction fails, and its locks end before that transaction.
func (s *Store) extendAside(ctx context.Context, id int64) error {
	for !s.partitions.covers(id) {
		e := s.startExtension(id)
		if e == nil {
			return &queue.Error{Op: "extend partitions", Kind: queue.KindUnavailable, Msg: "the store is closed; open another one"}
		}
		select {
		case <-e.over:
			if e.err != nil {
				return e.err
			}
		case <-ctx.Done():
			return txn.Translate("extend partitions", ctx.Err())
		}
	}
	return nil
}

// extendSoon starts to make the next partition ahead of need if id is near the end of the last one. It never waits.
func (s *Store) extendSoon(id int64) {
	p := &s.partitions
	if id < p.soon.Load() {
		return
	}
	p.mu.Lock()
	resting := time.Now().Before(p.rested)
	p.mu.Unlock()
	if !resting {
		s.startExtension(p.upper.Load())
	}
}

// startExtension returns the running extension, or starts one that covers id. It returns nil once the store is closed.
func (s *Store) startExtension(id int64) *extension {
	p := &s.partitions
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending.Err() != nil {
		return nil
	}
	if p.running == nil {
		e := &extension{over: make(chan struct{})}
		p.running = e
		p.done.Go(func() { s.runExtension(e, id) })
	}
	return p.running
}

// runExtension is the goroutine of e. It tries again after transient faults, for at most asideMost.
func (s *Store) runExtension(e *extension, id int64) {
	p := &s.partitions
	ctx, cancel := context.WithTimeout(p.ending, asideMost)
	defer cancel()
	last, err := s.extendOnce(ctx, id)
	// A lock of another session, or a restart, passes within seconds.
	for err != nil && txn.IsTransient(err) && retry.Sleep(ctx, txn.FirstBackoff) {
		last, err = s.extendOnce(ctx, id)
	}

	// The result must be complete before over closes, because waiting callers read it then.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	if err == nil {
		p.learn(last)
	} else {
		e.err = txn.Translate("extend partitions", err)
		p.rested = time.Now().Add(asideRest)
		if ctx.Err() == nil || p.ending.Err() == nil {
			s.opt.logger.Warn("could not make the next partition", "error", e.err)
		}
	}
	close(e.over)
}

// extendOnce makes one attempt on a new connection.
func (s *Store) extendOnce(ctx context.Context, id int64) (last partition, err error) {
	cfg, err := s.db.ExtraConfig(ctx, "pgqueue extend")
	if err != nil {
		return last, err
	}
	conn, err := txn.Connect(ctx, cfg)
	if err != nil {
		return last, err
	}
	defer txn.Disconnect(ctx, conn)
	err = s.db.TryOn(ctx, conn, func(ctx context.Context, t *txn.Tx) error {
		last, err = s.extendIn(ctx, t, id)
		return err
	})
	return last, err
}

// ofPart returns a statement about the partition [lower, upper), with the bounds in the names of its tables.
func ofPart(text string, lower, upper int64) string {
	return strings.NewReplacer("{lower}", strconv.FormatInt(lower, 10), "{upper}", strconv.FormatInt(upper, 10)).Replace(text)
}

// queueDDL queues the statements of a text about one partition.
func queueDDL(t *txn.Tx, s sqltext.Statement, lower, upper int64) {
	for _, command := range sqltext.SplitCommands(ofPart(t.Text().Of(s), lower, upper)) {
		t.QueueText(command)
	}
}

// keepAhead makes the first partition. It makes the next one when more than half of the last is used.
func (s *Store) keepAhead(ctx context.Context) error {
	var parts partitionList
	if err := s.db.Query(ctx, "extend partitions", listParts, parts.scanPart); err != nil {
		return err
	}

	if len(parts.all) == 0 {
		return s.extendTo(ctx, 1)
	}

	last := parts.lastPart()
	// At half, so that this agent comes before the creates, which start an extension at three quarters.
	if parts.lastID > last.lower+(last.upper-last.lower)/2 {
		return s.extendTo(ctx, last.upper)
	}
	return nil
}

// dropPast drops the oldest partition if all of its tasks are finished and past retention. It first removes their rows
// from other tables, then counts them, each in bounded steps, and then drops the partition itself. It returns the number
// of removed rows and whether another step is due at once.
func (s *Store) dropPast(ctx context.Context) (int, bool, error) {
	const op = "drop partition"
	var parts partitionList
	err := s.db.Query(ctx, op, listParts, parts.scanPart)
	if err != nil || len(parts.all) < 2 || parts.all[0].upper > parts.lastID { // the partition in use stays
		return 0, false, err
	}

	p := parts.all[0]
	if !p.isCounting {
		moved, rest, err := s.stripPart(ctx, op, p)
		if err != nil || rest != partStripped {
			return moved, err == nil && rest == partHasMore, err
		}
		began, err := s.beginPartCount(ctx, op, p)
		return moved, began, err
	}

	rest, err := s.countPartStep(ctx, op, p)
	if err != nil || rest != partCounted {
		return 0, err == nil && rest == partHasMore, err
	}
	if dropped, err := s.dropPart(ctx, op, p); !dropped {
		return 0, false, err
	}
	return 1, true, nil
}

// partRest is the state of a partition after one step of its removal.
type partRest int

const (
	partHasMore  partRest = iota // other tables still have rows of its tasks
	partOpen                     // the partition may get new rows
	partNeeded                   // at least one task is unfinished or within its retention
	partStripped                 // only the partition itself is left
	partCounted                  // its count is whole
)

// askPart queues a statement on the tables of the partition p and calls each for every row.
func askPart(t *txn.Tx, s sqltext.Statement, p partition, each func(pgx.Rows) error, args ...sqltext.Arg) {
	t.QueueTextQuery(ofPart(t.Text().Of(s), p.lower, p.upper), each, t.Text().Values(s, args)...)
}

// partStep is the result of one step of the walk over the tasks of a partition.
type partStep struct {
	needed bool       // a task of the step is unfinished or within its retention; next is unset
	end    bool       // no task follows
	next   partCursor // cursor of the last task
}

// walkPartStep reads at most size tasks of p after the cursor at. It ends at the first task that p still needs.
func walkPartStep(ctx context.Context, t *txn.Tx, p partition, at partCursor, size int) (step partStep, err error) {
	askPart(t, walkPart, p, func(rows pgx.Rows) error {
		var q *int32
		var id *int64
		if err := rows.Scan(&step.needed, &q, &id); err != nil {
			return err
		}
		if step.end = !step.needed && id == nil; id != nil {
			step.next = partCursor{p.lower, *q, *id}
		}
		return nil
	}, arg("queue_id", at.queue), arg("task_id", at.id), arg("limit", size))
	return step, t.Flush(ctx)
}

// stripPart removes the rows of a partition's tasks from other tables, one step per call: first keys, in the order of
// the tasks, then states and errors. The walk stops before a task that the partition still needs, and the next call
// goes on there. A new process starts the walk again and finds no rows.
//
// A walk that has passed all tasks proves that each was finished and past its retention. The walk begins when the
// partition is closed, so no task appears behind its cursor. dropPart finds the tasks that changed since.
func (s *Store) stripPart(ctx context.Context, op string, p partition) (moved int, rest partRest, err error) {
	size, _, _ := s.rowFilters.strip.nextStep()
	at := s.partitions.stripCursor(p.lower)
	next := at
	err = s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		moved, rest, next = 0, partHasMore, at
		step, err := walkPartStep(ctx, t, p, at, size)
		if err != nil {
			return err
		}
		// Partitions leave in their order, so a task that is still needed ends the step.
		if step.needed {
			rest = partNeeded
			return txn.ErrNothing
		}
		if !s.partitions.isClosed(p) {
			rest = partOpen
			return txn.ErrNothing
		}

		addMoved := func(rows pgx.Rows) error {
			var n int
			err := rows.Scan(&n)
			moved += n
			return err
		}

		// The step removes the keys of the tasks between the two cursors.
		if !step.end {
			next = step.next
			askPart(t, stripPartKeys, p, addMoved, arg("queue_id", at.queue), arg("task_id", at.id),
				arg("last_queue_id", next.queue), arg("last_task_id", next.id))
			return t.Flush(ctx)
		}

		askPart(t, stripPartRows, p, addMoved, arg("limit", size))
		if err := t.Flush(ctx); err != nil {
			return err
		}

		if moved < size {
			rest = partStripped
		}
		return nil
	})

	if isPgCode(err, sqlstate.UndefinedTable) { // another process has dropped the partition
		return 0, partNeeded, nil
	}

	if txn.IgnoreNothing(err) != nil {
		if !s.halvePartStep(ctx, err) {
			return 0, partNeeded, err
		}
		return 0, partHasMore, nil
	}
	s.rowFilters.strip.recordPass()

	if rest == partOpen {
		rest, err = s.closePart(ctx, op, p)
		return 0, rest, err
	}
	s.partitions.recordStripped(next)
	return moved, rest, nil
}

// halvePartStep halves the steps over a partition after err. A smaller step may pass where one row fails, or where this
// step exceeds the call timeout. It returns false for other faults and for a failure with one row. The caller reports
// that failure: the row keeps its partition and affects no other.
func (s *Store) halvePartStep(ctx context.Context, err error) bool {
	smaller := isFaultOfRows(ctx, err) || ctx.Err() == nil && queue.KindOf(err) == queue.KindDeadline
	return smaller && s.rowFilters.strip.halveStep()
}

// closePart closes a partition to new rows, because a transaction may still hold ids of it.
func (s *Store) closePart(ctx context.Context, op string, p partition) (partRest, error) {
	closed, err := s.changePart(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		err := s.changeTables(ctx, t, func(t *txn.Tx) {
			t.QueueText("set local lock_timeout = '" + dropPatience + "'")
			queueDDL(t, closePartTable, p.lower, p.upper)
		})
		return errors.Join(err, t.Flush(ctx))
	})
	if !closed {
		return partNeeded, err
	}

	s.partitions.setClosed(p)
	return partHasMore, nil
}

// dropPart drops a partition with a whole count, unless one of its tasks changed since. Such a task waits again, and then
// it has a state row; or the retention of its queue is longer now, and then the newest finish shows that; or a step has
// deleted it, and then the count is discarded. The time under the lock does not grow with the tasks. Statements of the
// hot path wait only while the two tables are dropped.
func (s *Store) dropPart(ctx context.Context, op string, p partition) (bool, error) {
	isDropped := false
	done, err := s.changePart(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		isDropped = false
		queueDDL(t, freezePart, p.lower, p.upper)
		count, err := lockPartCount(ctx, t, p)
		if err != nil {
			return err
		}
		if count == nil || !count.IsWhole {
			return txn.ErrNothing
		}
		// An attempt before this one has committed the counts, and only the tables are left.
		if count.IsSubtracted {
			isDropped = true
			return txn.ErrNothing
		}

		needed := false
		var queues []int32 // that still exist
		askPart(t, findPartChange, p, func(rows pgx.Rows) error { return rows.Scan(&needed, &queues) },
			partSumColumns.Arrays(nil, count.Sums)...)
		if err := t.Flush(ctx); err != nil {
			return err
		}
		if needed {
			s.partitions.recordStripped(firstOfPart(p.lower))
			t.Queue(discardCount, arg("task_id", p.lower))
			return nil
		}

		// The counts lose the tasks of the partition in the transaction that drops it.
		var changes []eventChange
		var tasks []int32
		for _, sum := range count.Sums {
			if slices.Contains(queues, sum.QueueID) {
				changes = append(changes, eventChange{queue: sum.QueueID, was: sum.Status})
				tasks = append(tasks, sum.Tasks)
			}
		}
		events{}.insertCounts(t, changes, tasks)
		isDropped = true
		if s.opt.ddlURL != "" {
			t.Queue(saveCount, arg("counted", &partCount{IsWhole: true, IsSubtracted: true}), arg("lower", p.lower))
			return nil
		}
		queueDDL(t, dropPartTables, p.lower, p.upper)
		return nil
	})
	if done && isDropped && s.opt.ddlURL != "" {
		return s.dropSubtracted(ctx, op, p)
	}
	return isDropped && err == nil, err
}

// dropSubtracted drops a partition by the server of WithDDLURL. The counts have lost its tasks in a transaction before, which
// the row of the partition records: a process that ends in between leaves a partition that the next one only drops.
func (s *Store) dropSubtracted(ctx context.Context, op string, p partition) (bool, error) {
	err := s.changeTables(ctx, nil, func(t *txn.Tx) {
		t.QueueText("set local lock_timeout = '" + ddlTimeout + "'")
		queueDDL(t, dropPartTables, p.lower, p.upper)
	})
	if isPgCode(err, sqlstate.LockNotAvailable) || isPgCode(err, sqlstate.UndefinedTable) {
		s.partitions.dropLater()
		return false, nil
	}
	return err == nil, txn.Translate(op, err)
}

// changePart runs a change of a partition's tables in a transaction; one process at a time changes any. The change needs
// a lock that blocks all later sessions, so it waits only dropPatience for it. A session that reads the tables for long,
// such as pg_dump, therefore delays no other. The delay before the next attempt doubles each time, also after an attempt
// that the end of the step has cut off: the other kinds of removal then have their time.
func (s *Store) changePart(ctx context.Context, op string, change func(context.Context, *txn.Tx) error) (done bool, err error) {
	if !s.partitions.mayDrop() {
		return false, nil
	}

	err = s.db.Try(ctx, func(ctx context.Context, t *txn.Tx) error {
		locked := false
		err := t.Query(ctx, lockDrop, func(rows pgx.Rows) error { return rows.Scan(&locked) })
		if err != nil {
			return err
		}
		if !locked {
			return txn.ErrNothing
		}

		// From here on a wait for a lock delays other sessions.
		t.QueueText("set local lock_timeout = '" + dropPatience + "'")
		return change(ctx, t)
	})

	// A missing table means that another process has dropped the partition.
	locked := isPgCode(err, sqlstate.LockNotAvailable) || isPgCode(err, sqlstate.UndefinedTable)
	if locked || ctx.Err() != nil {
		s.partitions.dropLater()
	} else {
		s.partitions.dropSoon()
	}

	if locked {
		return false, nil
	}
	return err == nil, txn.Translate(op, txn.IgnoreNothing(err))
}

// isPgCode reports whether err is an error of PostgreSQL with the given SQLSTATE.
func isPgCode(err error, code string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == code
}

// partCursor is a position in the walk over the tasks of the partition that begins at lower.
type partCursor struct {
	lower int64
	queue int32
	id    int64
}

// firstOfPart returns the cursor before the first task.
func firstOfPart(lower int64) partCursor { return partCursor{lower: lower, queue: math.MinInt32} }

// stripCursor returns the position at which the walk over a partition goes on.
func (p *partitions) stripCursor(lower int64) partCursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cursor.lower != lower {
		p.cursor = firstOfPart(lower)
	}
	return p.cursor
}

// recordStripped records the position that the walk has reached.
func (p *partitions) recordStripped(at partCursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor = at
}

// isClosed reports whether this process has closed the partition p.
func (p *partitions) isClosed(part partition) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed == part.lower
}

// setClosed records that this process has closed the partition p.
func (p *partitions) setClosed(part partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = part.lower
}

// mayDrop reports whether the delay after a failed drop is over.
func (p *partitions) mayDrop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !time.Now().Before(p.nextDrop)
}

// dropLater doubles the delay before the next drop, from dropRestLeast to at most dropRestMost.
func (p *partitions) dropLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropRest = min(max(2*p.dropRest, dropRestLeast), dropRestMost)
	p.nextDrop = time.Now().Add(p.dropRest)
}

// dropSoon clears the delay: the next partition may be dropped at once.
func (p *partitions) dropSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropRest, p.nextDrop = 0, time.Time{}
}
