package memory

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateQueue stores q as it is.
func (s *Store) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	sp := s.openNamespace(q.Namespace)
	if sp.queues[q.Name] != nil {
		return nil, &queue.Error{Kind: queue.KindAlreadyExists, Subject: "queue " + q.Name, Msg: "a queue of that name exists; choose another name or update it"}
	}

	if err := q.CheckDeadLetter(sp.readQueue); err != nil {
		return nil, err
	}
	q.CreatedAt, q.UpdatedAt = now, now
	sp.queues[q.Name] = newQueueState(q, sp)
	sp.names = insertSorted(sp.names, q.Name)
	return &q, nil
}

// GetQueue returns a queue, or KindNotFound.
func (s *Store) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	l, err := s.findNamespace(namespace).findQueue(name)
	if err != nil {
		return nil, err
	}
	q := l.queue
	return &q, nil
}

// readQueue returns the settings of the queue called name.
func (sp *namespaceState) readQueue(name string) (*queue.Queue, error) {
	l, err := sp.findQueue(name)
	if err != nil {
		return nil, err
	}
	return &l.queue, nil
}

// findQueue returns the queue called name, if it has the required version.
func (sp *namespaceState) findQueue(name string, only ...queue.IfVersion) (*queueState, error) {
	l := sp.queues[name]
	if l == nil {
		return nil, queue.NotFoundQueue(name)
	}
	return l, queue.CheckVersion("queue "+name, l.queue.Version, only...)
}

// ListQueues returns a page in the order of names.
func (s *Store) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	p, err := p.Normalize()
	if err != nil {
		return queue.QueuePage{}, err
	}

	if _, err := s.lockStore(ctx); err != nil {
		return queue.QueuePage{}, err
	}

	defer s.mu.Unlock()

	sp := s.findNamespace(namespace)
	page := queue.QueuePage{Queues: []*queue.Queue{}, Count: int64(len(sp.names))}
	names := p.Skip(sp.names)
	for _, name := range names[:p.Cut(len(names), func(int) int { return 0 })] {
		q := sp.queues[name].queue
		page.Queues = append(page.Queues, &q)
	}

	if n := len(page.Queues); n > 0 && n < len(names) {
		page.Next = names[n-1]
	}

	return page, nil
}

// UpdateQueue applies meta to the present queue.
func (s *Store) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	l, err := s.findNamespace(namespace).findQueue(name, queue.IfVersion(meta.IfVersion))
	if err != nil {
		return nil, err
	}

	q, err := l.queue.With(meta)
	if err == nil {
		err = q.CheckDeadLetter(l.space.readQueue)
	}
	if err != nil {
		return nil, err
	}

	q.Version++
	q.UpdatedAt = now
	s.changeFlow(l, q)
	if l.ready.countItems() > 0 && l.isRetainable(now) {
		s.wakeListeners(l)
	}

	return &q, nil
}

// changeFlow gives l new settings. Tasks that wait for a group are ready again, and the next search holds up those that the
// new settings hold up.
func (s *Store) changeFlow(l *queueState, q queue.Queue) {
	before := l.queue.Flow
	if before == q.Flow {
		l.queue = q
		return
	}

	s.reviewGroups(l)
	l.queue = q
	l.rebuildFairShares()
	if before.KeepsPlaces() != q.KeepsPlaces() || before.Order != q.Order {
		s.countPlaces(l)
	}
	if !q.IsFIFO() {
		return
	}
	for _, r := range slices.Clone(l.ready.order.items) {
		s.waitForGroup(r, l.findGroup(r.task.Group))
	}
	for _, g := range l.groups {
		s.offerNext(g, q.UpdatedAt)
	}
}

// countPlaces gives each task in hand a place of its group, in the order of ids, and ends all other places.
func (s *Store) countPlaces(l *queueState) {
	for _, g := range l.groups {
		g.state.Holders = nil
	}
	if !l.queue.KeepsPlaces() {
		return
	}

	for _, r := range s.leased.order.items {
		if r.lane == l && (r.task.Group != "" || l.queue.IsFIFO()) {
			g := l.findGroup(r.task.Group)
			g.state.Holders = append(g.state.Holders, r.task.ID)
			slices.Sort(g.state.Holders)
		}
	}
}

// DeleteQueue takes the queue and its tasks out of sight at once; ChorePrune deletes the tasks.
func (s *Store) DeleteQueue(ctx context.Context, namespace, name string, only ...queue.DeleteCondition) (*queue.Queue, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	versions, empty := queue.SplitDeleteConditions(only)
	sp := s.findNamespace(namespace)
	l, err := sp.findQueue(name, versions...)
	if err != nil {
		return nil, err
	}
	if empty {
		if err := queue.CheckEmpty(name, l.counts[queue.StatusNew]+l.counts[queue.StatusRetry]+l.counts[queue.StatusRetained]); err != nil {
			return nil, err
		}
	}

	for _, other := range sp.names {
		if sp.queues[other].queue.DeadLetter == name {
			return nil, queue.IsDeadLetterTarget(name, other)
		}
	}

	l.gone = true
	delete(sp.queues, name)
	delete(sp.busy, l)
	sp.names = removeSorted(sp.names, name)
	s.dropped = append(s.dropped, l)
	q := l.queue
	return &q, nil
}

// CleanQueue deletes the finished tasks of a queue.
func (s *Store) CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return queue.Cleaned{}, err
	}

	defer s.mu.Unlock()

	l, err := s.findNamespace(namespace).findQueue(name, only...)
	if err != nil {
		return queue.Cleaned{}, err
	}

	var out queue.Cleaned
	began, done := time.Now(), 0
	for r, ok := l.done.earliest(); ok; r, ok = l.done.earliest() {
		if within > 0 && done > 0 && done%bulkStep == 0 && time.Since(began) >= within {
			out.More = true
			break
		}
		done++
		if !l.isPastRetention(r, now) {
			out.Count++
		}
		s.removeTask(r)
	}

	return out, nil
}

func insertSorted(names []string, name string) []string {
	i, _ := slices.BinarySearch(names, name)
	return slices.Insert(names, i, name)
}

func removeSorted(names []string, name string) []string {
	if i, there := slices.BinarySearch(names, name); there {
		return slices.Delete(names, i, i+1)
	}
	return names
}
