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
	qs, _, err := s.lockQueue(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	q := qs.settings
	return &q, nil
}

// readQueue returns the settings of the queue called name.
func (sp *namespaceState) readQueue(name string) (*queue.Queue, error) {
	qs, err := sp.findQueue(name)
	if err != nil {
		return nil, err
	}
	return &qs.settings, nil
}

// findQueue returns the queue called name, if it has the required version.
func (sp *namespaceState) findQueue(name string, only ...queue.IfVersion) (*queueState, error) {
	qs := sp.queues[name]
	if qs == nil {
		return nil, queue.NotFoundQueue(name)
	}
	return qs, queue.CheckVersion("queue "+name, qs.settings.Version, only...)
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
		q := sp.queues[name].settings
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

	qs, err := s.findNamespace(namespace).findQueue(name, queue.IfVersion(meta.IfVersion))
	if err != nil {
		return nil, err
	}

	q, err := qs.settings.With(meta)
	if err == nil {
		err = q.CheckDeadLetter(qs.namespace.readQueue)
	}
	if err != nil {
		return nil, err
	}

	q.Version++
	q.UpdatedAt = now
	s.changeFlow(qs, q)
	if qs.ready.countItems() > 0 && qs.isWithinLimits(now) {
		s.wakeListeners(qs)
	}

	return &q, nil
}

// changeFlow gives l new settings. Tasks that wait for a group are ready again, and the next search holds up those that the
// new settings hold up.
func (s *Store) changeFlow(qs *queueState, q queue.Queue) {
	before := qs.settings.Flow
	if before == q.Flow {
		qs.settings = q
		return
	}

	s.reviewGroups(qs)
	qs.settings = q
	qs.rebuildFairShares()
	if before.KeepsPlaces() != q.KeepsPlaces() || before.Order != q.Order {
		for _, g := range qs.groups {
			g.state.Holders = nil
		}
		s.countPlaces(qs, func(string) bool { return true })
	}
	if !q.IsFIFO() {
		return
	}
	// A FIFO queue offers one task of a group at a time; without FIFO all of them were ready.
	for _, r := range slices.Clone(qs.ready.order.items) {
		s.waitForGroup(r, qs.ensureGroup(r.task.Group))
	}
	for _, g := range qs.groups {
		s.offerNext(g, q.UpdatedAt)
	}
}

// countPlaces gives the tasks in hand of some groups, which have no places yet, their places in the order of ids. A group without a
// limit of the tasks in hand gets none.
func (s *Store) countPlaces(qs *queueState, among func(group string) bool) {
	for _, r := range s.leased.order.items {
		if r.queue != qs || r.task.Group == "" && !qs.settings.IsFIFO() || !among(r.task.Group) {
			continue
		}
		if g := qs.ensureGroup(r.task.Group); qs.settings.LimitsOf(g.policy).KeepPlaces() {
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
	qs, err := sp.findQueue(name, versions...)
	if err != nil {
		return nil, err
	}
	if empty {
		if err := queue.CheckEmpty(name, qs.counts[queue.StatusNew]+qs.counts[queue.StatusRetry]+qs.counts[queue.StatusRetained]); err != nil {
			return nil, err
		}
	}

	for _, other := range sp.names {
		// Tasks that fail for good would have no place to go.
		if sp.queues[other].settings.DeadLetter == name {
			return nil, queue.IsDeadLetterTarget(name, other)
		}
	}

	// The tasks stay in the heaps of the store until the pruner removes them: gone hides them meanwhile.
	qs.gone = true
	delete(sp.queues, name)
	delete(sp.busy, qs)
	sp.names = removeSorted(sp.names, name)
	s.dropped = append(s.dropped, qs)
	q := qs.settings
	return &q, nil
}

// CleanQueue deletes the finished tasks of a queue.
func (s *Store) CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return queue.Cleaned{}, err
	}

	defer s.mu.Unlock()

	qs, err := s.findNamespace(namespace).findQueue(name, only...)
	if err != nil {
		return queue.Cleaned{}, err
	}

	var out queue.Cleaned
	began, done := time.Now(), 0
	for r, ok := qs.done.earliest(); ok; r, ok = qs.done.earliest() {
		// At least one step is made, so that repeats of a call with a short time end.
		if within > 0 && done > 0 && done%bulkStep == 0 && time.Since(began) >= within {
			out.More = true
			break
		}
		done++
		// A task past its retention was out of sight already, so a caller does not count it.
		if !qs.isPastRetention(r, now) {
			out.Count++
		}
		s.removeTask(r, now)
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
