package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// storedQueue is policy and identity of a queue as stored.
type storedQueue struct {
	id int32
	queue.Queue
}

func (q *storedQueue) scan(rows pgx.Rows, more ...any) error {
	dst := append([]any{
		&q.id, &q.Namespace, &q.Name, &q.TTL, &q.Retries, &q.RetryDelay, &q.Backoff, &q.RetryMaxDelay, &q.Lease,
		&q.Concurrency, &q.Retention, &q.Paused, &q.Events, &q.Version, &q.CreatedAt, &q.UpdatedAt,
	}, more...)
	if err := rows.Scan(dst...); err != nil {
		return err
	}
	q.CreatedAt, q.UpdatedAt = q.CreatedAt.UTC(), q.UpdatedAt.UTC()
	return nil
}

func noQueue(name string) error {
	return &queue.Error{Kind: queue.KindNotFound, Subject: "queue " + name, Msg: "no such queue; create it first"}
}

// CreateQueue implements queue.Store.
func (s *Store) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	const op = "create queue"
	made := false
	err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		made = false
		return t.read(ctx, "queue.insert", func(rows pgx.Rows) error {
			made = true
			var id int32
			return rows.Scan(&id, &q.Version, &q.CreatedAt, &q.UpdatedAt)
		}, q.Namespace, q.Name, q.TTL, q.Retries, q.RetryDelay, q.Backoff, q.RetryMaxDelay, q.Lease, q.Concurrency,
			q.Retention, q.Paused, q.Events)
	})
	if err != nil {
		return nil, err
	}
	if !made {
		return nil, &queue.Error{Op: op, Kind: queue.KindAlreadyExists, Subject: "queue " + q.Name, Msg: "a queue of that name exists"}
	}
	s.catalog.forget(q.Namespace)
	q.CreatedAt, q.UpdatedAt = q.CreatedAt.UTC(), q.UpdatedAt.UTC()
	return &q, nil
}

// GetQueue implements queue.Store.
func (s *Store) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	const op = "get queue"
	var q *storedQueue
	err := s.query(ctx, op, "queue.list", func(rows pgx.Rows) error {
		q = &storedQueue{}
		return q.scan(rows)
	}, namespace, []string{name})
	if err != nil {
		return nil, err
	}
	if q == nil {
		return nil, queue.WithOp(op, noQueue(name))
	}
	return &q.Queue, nil
}

// ListQueues implements queue.Store. The cursor is the last name of the page before.
func (s *Store) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	const op = "list queues"
	page := queue.QueuePage{Queues: []*queue.Queue{}}
	p, err := p.Normalize()
	if err != nil {
		return page, queue.WithOp(op, err)
	}
	err = s.query(ctx, op, "queue.page", func(rows pgx.Rows) error {
		q := &storedQueue{}
		page.Queues = append(page.Queues, &q.Queue)
		return q.scan(rows, nil)
	}, namespace, p.Offset, p.Limit+1, p.Cursor)
	if err != nil {
		return page, err
	}
	if len(page.Queues) > p.Limit {
		page.Queues = page.Queues[:p.Limit]
		page.Next = page.Queues[p.Limit-1].Name
	}
	err = s.query(ctx, op, "queue.count", func(rows pgx.Rows) error { return rows.Scan(&page.Count) }, namespace)
	return page, err
}

// UpdateQueue implements queue.Store.
func (s *Store) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	const op = "update queue"
	var out *queue.Queue
	err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		q, err := lockQueue(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		if err := queue.CheckVersion("queue "+name, q.Version, queue.IfVersion(meta.IfVersion)); err != nil {
			return err
		}
		next, err := q.With(meta)
		if err != nil {
			return err
		}
		out = &next
		t.queueRows("queue.update", func(rows pgx.Rows) error { return rows.Scan(&next.Version, &next.UpdatedAt) },
			q.id, next.TTL, next.Retries, next.RetryDelay, next.Backoff, next.RetryMaxDelay, next.Lease, next.Concurrency,
			next.Retention, next.Paused, next.Events)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.UpdatedAt = out.UpdatedAt.UTC()
	s.catalog.forget(namespace)
	return out, nil
}

// DeleteQueue implements queue.Store.
func (s *Store) DeleteQueue(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Queue, error) {
	var out *queue.Queue
	err := s.inTx(ctx, "delete queue", func(ctx context.Context, t *tx) error {
		q, err := lockQueue(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		if err := queue.CheckVersion("queue "+name, q.Version, only...); err != nil {
			return err
		}
		out = &q.Queue
		t.queue("queue.delete", q.id)
		return nil
	})
	s.catalog.forget(namespace)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// lockQueue reads a queue and keeps others from changing it until the transaction ends.
func lockQueue(ctx context.Context, t *tx, namespace, name string) (*storedQueue, error) {
	var q *storedQueue
	err := t.read(ctx, "queue.lock", func(rows pgx.Rows) error {
		q = &storedQueue{}
		return q.scan(rows)
	}, namespace, name)
	if err == nil && q == nil {
		err = noQueue(name)
	}
	return q, err
}

// ListNamespaces implements queue.Store.
func (s *Store) ListNamespaces(ctx context.Context) ([]string, error) {
	out := []string{}
	err := s.query(ctx, "list namespaces", "queue.namespaces", func(rows pgx.Rows) error {
		var n string
		err := rows.Scan(&n)
		out = append(out, n)
		return err
	})
	return out, err
}

// catalogAge is how old a remembered list of a namespace's queues may be. It only says which queues to look at: policy
// that must hold at once (paused, deleted, limited) is checked by the statements themselves.
const catalogAge = time.Second

// catalog remembers the queues of namespaces.
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

func (c *catalog) forget(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.namespaces, namespace)
}

// queues gives the queues of a namespace, at most catalogAge old.
func (s *Store) queues(ctx context.Context, namespace string) (*namespaceQueues, error) {
	s.catalog.mu.Lock()
	n := s.catalog.namespaces[namespace]
	s.catalog.mu.Unlock()
	if n != nil && time.Since(n.loaded) < catalogAge {
		return n, nil
	}
	n = &namespaceQueues{loaded: time.Now(), byName: map[string]*storedQueue{}, byID: map[int32]*storedQueue{}}
	err := s.query(ctx, "", "queue.list", func(rows pgx.Rows) error {
		q := &storedQueue{}
		if err := q.scan(rows); err != nil {
			return err
		}
		n.all = append(n.all, q)
		n.ids = append(n.ids, q.id)
		n.byName[q.Name], n.byID[q.id] = q, q
		return nil
	}, namespace, []string{})
	if err != nil {
		return nil, err
	}
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	if len(s.catalog.namespaces) > 10_000 { // a bound, not a policy: namespaces are few
		clear(s.catalog.namespaces)
	}
	s.catalog.namespaces[namespace] = n
	return n, nil
}

// named gives the queues of those names, or all for none, in the order of names; KindNotFound for an unknown one.
func (s *Store) named(ctx context.Context, namespace string, names []string) ([]*storedQueue, error) {
	for fresh := false; ; fresh = true {
		n, err := s.queues(ctx, namespace)
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
		switch {
		case missing == "":
			return out, nil
		case fresh:
			return nil, noQueue(missing)
		}
		s.catalog.forget(namespace)
	}
}
