package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// storedQueue is the settings and the identity of a queue as stored.
type storedQueue struct {
	id int32
	queue.Queue
	pausedUntil *time.Time // in place of the time of the queue, which is zero without one
}

// queueColumns are the columns of a queue.
var queueColumns = table.Of[storedQueue]()

// queueSettings are the columns that a caller sets.
var queueSettings = queueColumns.Only("ttl", "retries", "retry_delay", "backoff", "retry_max_delay", "lease", "concurrency", "retention",
	"paused", "events", "paused_until", "fair", "rate_limit", "rate_period", "rate_burst", "group_concurrency", "group_rate_limit",
	"group_rate_period", "group_rate_burst", "order", "fifo_batch", "group_on_failure", "max_waiting", "non_retryable", "max_lease_losses", "dead_letter")

// scanQueueRow reads the columns of a queue, followed by the columns of more.
func (q *storedQueue) scanQueueRow(rows pgx.Rows, more ...any) error {
	if err := rows.Scan(append(queueColumns.Targets(nil, q), more...)...); err != nil {
		return err
	}
	q.CreatedAt, q.UpdatedAt, q.PausedUntil = q.CreatedAt.UTC(), q.UpdatedAt.UTC(), timeFromPointer(q.pausedUntil)
	return nil
}

// The statements on queues.
var (
	listQueues     = statement("queue.list")
	readQueueRows  = statement("queue.read")
	readQueueMarks = statement("queue.marks")
	pageQueues     = statement("queue.page")
	countQueues    = statement("queue.count")
	lockQueueRow   = statement("queue.lock")
	lockQueueTable = statement("queue.lock.all")
	insertQueue    = statement("queue.insert")
	updateQueue    = statement("queue.update")
	deleteQueue    = statement("queue.delete")
	findSource     = statement("queue.sources")
	listNamespaces = statement("queue.namespaces")
)

// CreateQueue implements queue.Store.
func (s *Store) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	const op = "create queue"
	made := false
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		made = false
		if err := checkDeadLetter(ctx, t, &q); err != nil {
			return err
		}
		args := []sqltext.Arg{arg("namespace", q.Namespace), arg("name", q.Name)}

		return t.Query(ctx, insertQueue, func(rows pgx.Rows) error {
			made = true
			var id int32
			return rows.Scan(&id, &q.Version, &q.CreatedAt, &q.UpdatedAt)
		}, queueSettings.Values(args, &storedQueue{Queue: q})...)
	})
	if err != nil {
		return nil, err
	}
	// The insert returns no row if the name is taken.
	if !made {
		return nil, &queue.Error{Op: op, Kind: queue.KindAlreadyExists, Subject: "queue " + q.Name, Msg: "a queue of that name exists; choose another name or update it"}
	}
	s.catalog.forgetNamespace(q.Namespace)
	q.CreatedAt, q.UpdatedAt = q.CreatedAt.UTC(), q.UpdatedAt.UTC()
	return &q, nil
}

// GetQueue implements queue.Store.
func (s *Store) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	const op = "get queue"
	var q *storedQueue
	err := s.db.Query(ctx, op, listQueues, func(rows pgx.Rows) error {
		q = &storedQueue{}
		return q.scanQueueRow(rows)
	}, arg("namespace", namespace), arg("names", []string{name}))
	if err != nil {
		return nil, err
	}
	if q == nil {
		return nil, queue.WithOp(op, queue.NotFoundQueue(name))
	}
	return &q.Queue, nil
}

// ListQueues implements queue.Store. The cursor is the last name of the previous page.
func (s *Store) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	const op = "list queues"
	page := queue.QueuePage{Queues: []*queue.Queue{}}
	p, err := p.Normalize()
	if err != nil {
		return page, queue.WithOp(op, err)
	}

	err = s.db.Query(ctx, op, pageQueues, func(rows pgx.Rows) error {
		q := &storedQueue{}
		page.Queues = append(page.Queues, &q.Queue)
		return q.scanQueueRow(rows, nil)
	}, arg("namespace", namespace), arg("offset", p.Offset), arg("limit", p.Limit+1), arg("after", p.Cursor))
	if err != nil {
		return page, err
	}

	if len(page.Queues) > p.Limit {
		page.Queues = page.Queues[:p.Limit]
		page.Next = page.Queues[p.Limit-1].Name
	}

	err = s.db.Query(ctx, op, countQueues, func(rows pgx.Rows) error { return rows.Scan(&page.Count) }, arg("namespace", namespace))
	return page, err
}

// UpdateQueue implements queue.Store.
func (s *Store) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	const op = "update queue"
	var out *queue.Queue
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		q, err := lockQueueByName(ctx, t, namespace, name)
		if err != nil {
			return err
		}

		if err := queue.CheckVersion("queue "+name, q.Version, queue.IfVersion(meta.IfVersion)); err != nil {
			return err
		}

		next, err := q.With(meta)
		if err == nil && next.DeadLetter != q.DeadLetter {
			// An unchanged target is still there, because the deletion of a target is refused.
			err = checkDeadLetter(ctx, t, &next)
		}
		if err != nil {
			return err
		}

		out = &next
		q.queueFlowChange(t, next)
		args := queueSettings.Values([]sqltext.Arg{arg("id", q.id)}, &storedQueue{Queue: next, pausedUntil: timePointer(next.PausedUntil)})
		t.QueueQuery(updateQueue, func(rows pgx.Rows) error { return rows.Scan(&next.Version, &next.UpdatedAt) }, args...)
		return nil
	})
	if err != nil {
		return nil, err
	}

	// This process must not use the old settings from its catalog.
	out.UpdatedAt = out.UpdatedAt.UTC()
	s.catalog.forgetNamespace(namespace)
	return out, nil
}

// emptyPatience bounds the wait of a deletion of an empty queue for the transactions that have read queues. All later readers of
// queues wait behind it. The call makes maxTries such attempts, with pauses between them.
const emptyPatience = "50ms"

// excludeCreates queues the lock by which no other transaction can add a task to any queue until t has ended. Each transaction that
// adds tasks, those of the SQL API included, has read the table of queues and keeps that lock to its end. It comes before all
// other locks of t.
func excludeCreates(t *txn.Tx) {
	t.Queue(setLockTimeout, arg("patience", emptyPatience))
	t.Queue(lockQueueTable)
}

// checkEmpty returns an error when q has unfinished tasks. The counts are exact, because each move writes them in its transaction.
func (q *storedQueue) checkEmpty(ctx context.Context, t *txn.Tx) error {
	var unfinished int64
	err := t.Query(ctx, readCounts, scanRows(queueCountColumns, func(k queueCounts) {
		unfinished = k.byStatus[statusNew] + k.byStatus[statusRetry] + k.byStatus[statusRetained]
	}), arg("namespace", q.Namespace), arg("name", q.Name))
	if err != nil {
		return err
	}
	return queue.CheckEmpty(q.Name, unfinished)
}

// DeleteQueue implements queue.Store.
func (s *Store) DeleteQueue(ctx context.Context, namespace, name string, only ...queue.DeleteCondition) (*queue.Queue, error) {
	var out *queue.Queue
	versions, empty := queue.SplitDeleteConditions(only)
	err := s.db.Run(ctx, "delete queue", func(ctx context.Context, t *txn.Tx) error {
		if empty {
			excludeCreates(t)
		}
		q, err := lockQueueByName(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		if err := queue.CheckVersion("queue "+name, q.Version, versions...); err != nil {
			return err
		}
		if empty {
			if err := q.checkEmpty(ctx, t); err != nil {
				return err
			}
		}
		source := ""
		if err := t.Query(ctx, findSource, scanEach(func(of string) { source = of }), arg("namespace", namespace), arg("name", name)); err != nil {
			return err
		}
		if source != "" {
			return queue.IsDeadLetterTarget(name, source)
		}
		out = &q.Queue
		t.Queue(deleteQueue, arg("id", q.id))
		return nil
	})

	// A failed call may have committed nevertheless, so the catalog is read again.
	s.catalog.forgetNamespace(namespace)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && empty && pg.Code == sqlstate.LockNotAvailable {
		err = &queue.Error{
			Op: "delete queue", Kind: queue.KindUnavailable, Subject: "queue " + name, Field: "if_empty", Err: err,
			Msg: "open transactions may add tasks; nothing was changed; repeat the call when they have ended",
		}
	}
	if err != nil {
		return nil, err
	}

	return out, nil
}

// CleanQueue implements queue.Store. It removes finished tasks in steps until within has passed; 0 = no limit.
func (s *Store) CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	const op = "clean queue"
	var out queue.Cleaned
	versioned := queue.RequiredVersion(only) != 0
	if versioned {
		s.catalog.forgetNamespace(namespace) // the version belongs to the queue that has the name now
	}
	queues, err := s.findQueues(ctx, namespace, []string{name})
	if err != nil {
		return out, queue.WithOp(op, err)
	}

	// Each step checks the version again, because the queue may change or be replaced between two steps.
	var check func(context.Context, *txn.Tx) error
	if versioned {
		check = func(ctx context.Context, t *txn.Tx) error {
			q, err := lockQueueByName(ctx, t, namespace, name)
			switch {
			case err != nil:
				return err
			case q.id != queues[0].id:
				return queue.NotFoundQueue(name)
			}
			return queue.CheckVersion("queue "+name, q.Version, only...)
		}
	}

	// A step below its limit was the last one.
	for began := time.Now(); ; {
		n, err := s.eraseDone(ctx, op, check, cleanFinished, arg("queue_id", queues[0].id), arg("limit", pruneStep))
		out.Count += int64(n)
		if out.More = err != nil || n >= pruneStep; !out.More || err != nil {
			return out, err
		}
		if within > 0 && time.Since(began) >= within {
			return out, nil
		}
	}
}

// lockQueueByName reads a queue and excludes concurrent changes until the transaction ends.
func lockQueueByName(ctx context.Context, t *txn.Tx, namespace, name string) (*storedQueue, error) {
	var q *storedQueue
	err := t.Query(ctx, lockQueueRow, func(rows pgx.Rows) error {
		q = &storedQueue{}
		return q.scanQueueRow(rows)
	}, arg("namespace", namespace), arg("name", name))
	if err == nil && q == nil {
		err = queue.NotFoundQueue(name)
	}
	return q, err
}

// readQueuesByName returns the queues of those names within t. findQueues would ask for a second connection of the pool.
// The answer is there after the next flush; names without a queue are missing from it.
func readQueuesByName(t *txn.Tx, namespace string, names []string) map[string]*storedQueue {
	queues := make(map[string]*storedQueue, len(names))
	t.QueueQuery(listQueues, func(rows pgx.Rows) error {
		q := &storedQueue{}
		err := q.scanQueueRow(rows)
		queues[q.Name] = q
		return err
	}, arg("namespace", namespace), arg("names", names))
	return queues
}

// knownQueues remembers the rows of queues that creates, releases and heartbeats have read. These read only the mark of a row, and
// the whole row after it changed. It is safe for concurrent use. Its queues are shared: callers must not change them.
type knownQueues struct {
	mu   sync.Mutex
	rows map[queueMark]knownQueue
	// generation counts the calls of forgetAll: what an earlier generation began to read is not remembered.
	generation int
}

type knownQueue struct {
	*storedQueue
	until time.Time
}

// knownAge bounds the age of a known row. A restored database, or a standby that lost the last commits, may give the mark of a lost
// row to another one. A store notices both by its new connections; a pool of the caller makes them unseen.
const knownAge = 10 * time.Second

// queueMark identifies the content of the row of a queue. Each transaction that changes the row gives it another xmin, and each
// change within one transaction another ctid. A change of settings by hand does so too, without a new version.
type queueMark struct {
	id      int32
	xmin    uint32
	ctid    pgtype.TID
	version int64
}

var queueMarkColumns = table.Of[queueMark]()

// findQueue returns the queue with the mark, or nil.
func (k *knownQueues) findQueue(mark queueMark) *storedQueue {
	k.mu.Lock()
	defer k.mu.Unlock()
	if q, ok := k.rows[mark]; ok && time.Now().Before(q.until) {
		return q.storedQueue
	}
	return nil
}

// rememberQueue keeps a row that a generation has read. Rows of old marks leave with all others: a forgotten queue costs one reading.
func (k *knownQueues) rememberQueue(mark queueMark, q *storedQueue, generation int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if generation != k.generation {
		return
	}
	if k.rows == nil || len(k.rows) >= 10_000 {
		k.rows = map[queueMark]knownQueue{}
	}
	k.rows[mark] = knownQueue{q, time.Now().Add(knownAge)}
}

// forgetAll begins a new generation.
func (k *knownQueues) forgetAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.generation++
	clear(k.rows)
}

func (k *knownQueues) currentGeneration() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.generation
}

// readQueues reads the whole rows of the queues with these ids, remembers them, and passes each to found.
func (k *knownQueues) readQueues(ctx context.Context, t *txn.Tx, ids []int32, found func(*storedQueue)) error {
	if len(ids) == 0 {
		return nil
	}
	generation := k.currentGeneration()
	return t.Query(ctx, readQueueRows, func(rows pgx.Rows) error {
		q := &storedQueue{}
		var mark queueMark
		if err := q.scanQueueRow(rows, queueMarkColumns.Targets(nil, &mark)...); err != nil {
			return err
		}
		k.rememberQueue(mark, q, generation)
		found(q)
		return nil
	}, arg("ids", ids))
}

// queueReading reads queues by their names within a transaction.
type queueReading struct {
	queues  map[string]*storedQueue // names without a queue are missing
	changed []int32                 // queues of which the whole row must be read
}

// queueMarkReading queues the reading of the marks of queues. After the next flush, readChanged completes it.
func (k *knownQueues) queueMarkReading(t *txn.Tx, namespace string, names []string) *queueReading {
	r := &queueReading{queues: make(map[string]*storedQueue, len(names))}
	var mark queueMark
	targets := queueMarkColumns.Targets(nil, &mark)

	t.QueueQuery(readQueueMarks, func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if q := k.findQueue(mark); q != nil {
			r.queues[q.Name] = q
		} else {
			r.changed = append(r.changed, mark.id)
		}
		return nil
	}, arg("namespace", namespace), arg("names", names))
	return r
}

// readChanged reads the whole rows of the changed queues, and returns all queues by their names.
func (k *knownQueues) readChanged(ctx context.Context, t *txn.Tx, r *queueReading) (map[string]*storedQueue, error) {
	return r.queues, k.readQueues(ctx, t, r.changed, func(q *storedQueue) { r.queues[q.Name] = q })
}

// ListNamespaces implements queue.Store.
func (s *Store) ListNamespaces(ctx context.Context) ([]string, error) {
	out := []string{}
	err := s.db.Query(ctx, "list namespaces", listNamespaces, scanEach(func(name string) { out = append(out, name) }))
	return out, err
}

// catalogAge bounds the age of the catalog of a namespace. The catalog only selects the queues to search. The
// statements themselves check the settings that take effect at once: paused, deleted and limited.
const catalogAge = time.Second

// catalog caches the queues of namespaces.
type catalog struct {
	mu         sync.Mutex
	namespaces map[string]*namespaceQueues
}

type namespaceQueues struct {
	loaded time.Time
	all    []*storedQueue
	byName map[string]*storedQueue
	byID   map[int32]*storedQueue
	ids    []int32
}

func (c *catalog) init() { c.namespaces = map[string]*namespaceQueues{} }

// forgetNamespace makes the next call read the queues of a namespace again.
func (c *catalog) forgetNamespace(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.namespaces, namespace)
}

// loadCatalog returns the queues of a namespace, at most catalogAge old.
func (s *Store) loadCatalog(ctx context.Context, namespace string) (*namespaceQueues, error) {
	s.catalog.mu.Lock()
	n := s.catalog.namespaces[namespace]
	s.catalog.mu.Unlock()
	if n != nil && time.Since(n.loaded) < catalogAge {
		return n, nil
	}

	// The time is taken before the read, so that the age is never underestimated.
	n = &namespaceQueues{loaded: time.Now(), byName: map[string]*storedQueue{}, byID: map[int32]*storedQueue{}}
	err := s.db.Query(ctx, "", listQueues, func(rows pgx.Rows) error {
		q := &storedQueue{}
		if err := q.scanQueueRow(rows); err != nil {
			return err
		}
		n.all = append(n.all, q)
		n.ids = append(n.ids, q.id)
		n.byName[q.Name], n.byID[q.id] = q, q
		return nil
	}, arg("namespace", namespace), arg("names", []string{}))
	if err != nil {
		return nil, err
	}

	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	if len(s.catalog.namespaces) > 10_000 { // bounds the memory; real systems have few namespaces
		clear(s.catalog.namespaces)
	}

	s.catalog.namespaces[namespace] = n
	return n, nil
}

// findQueues returns the queues with the given names in that order, or all queues for an empty list. It returns
// KindNotFound for an unknown name.
func (s *Store) findQueues(ctx context.Context, namespace string, names []string) ([]*storedQueue, error) {
	for fresh := false; ; fresh = true {
		n, err := s.loadCatalog(ctx, namespace)
		if err != nil {
			return nil, err
		}

		if len(names) == 0 {
			return n.all, nil
		}

		out := make([]*storedQueue, 0, len(names))
		missing := ""
		for _, name := range names {
			if q := n.byName[name]; q != nil {
				out = append(out, q)
			} else {
				missing = name
			}
		}

		// A name that the catalog lacks may be new, so the second try reads the database.
		switch {
		case missing == "":
			return out, nil
		case fresh:
			return nil, queue.NotFoundQueue(missing)
		}

		s.catalog.forgetNamespace(namespace)
	}
}
