package memory

import (
	"context"
	"slices"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateQueue stores q as it is.
func (s *Store) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	sp := s.space(q.Namespace)
	if sp.lanes[q.Name] != nil {
		return nil, &queue.Error{Kind: queue.KindAlreadyExists, Subject: "queue " + q.Name, Msg: "a queue of this name is there"}
	}
	q.CreatedAt, q.UpdatedAt = now, now
	sp.lanes[q.Name] = newLane(q, sp)
	sp.names = insertSorted(sp.names, q.Name)
	return &q, nil
}

// GetQueue returns a queue, or KindNotFound.
func (s *Store) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	if _, err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	l := s.find(namespace).lanes[name]
	if l == nil {
		return nil, noQueue(name)
	}
	q := l.queue
	return &q, nil
}

// ListQueues returns a page in the order of names.
func (s *Store) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	p, err := offsetPage(p)
	if err != nil {
		return queue.QueuePage{}, err
	}
	if _, err := s.begin(ctx); err != nil {
		return queue.QueuePage{}, err
	}
	defer s.mu.Unlock()
	sp := s.find(namespace)
	page := queue.QueuePage{Queues: []*queue.Queue{}, Count: int64(len(sp.names))}
	for _, name := range cutPage(sp.names, p) {
		q := sp.lanes[name].queue
		page.Queues = append(page.Queues, &q)
	}
	return page, nil
}

// UpdateQueue applies meta to the present queue.
func (s *Store) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	l := s.find(namespace).lanes[name]
	if l == nil {
		return nil, noQueue(name)
	}
	if meta.IfVersion != 0 && meta.IfVersion != l.queue.Version {
		return nil, stale("queue "+name, meta.IfVersion, l.queue.Version)
	}
	q, err := l.queue.With(meta)
	if err != nil {
		return nil, err
	}
	q.Version++
	q.UpdatedAt = now
	l.queue = q
	if l.ready.len() > 0 && l.open() {
		s.wake(l)
	}
	return &q, nil
}

// DeleteQueue takes the queue and its tasks out of sight at once; ChorePrune deletes the tasks.
func (s *Store) DeleteQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	if _, err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	sp := s.find(namespace)
	l := sp.lanes[name]
	if l == nil {
		return nil, noQueue(name)
	}
	l.gone = true
	delete(sp.lanes, name)
	delete(sp.busy, l)
	sp.names = removeSorted(sp.names, name)
	s.dropped = append(s.dropped, l)
	q := l.queue
	return &q, nil
}

// CleanQueue deletes the finished tasks of a queue.
func (s *Store) CleanQueue(ctx context.Context, namespace, name string) (int64, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	l := s.find(namespace).lanes[name]
	if l == nil {
		return 0, noQueue(name)
	}
	var n int64
	for r, ok := l.done.top(); ok; r, ok = l.done.top() {
		if !l.past(r, now) {
			n++
		}
		s.remove(r)
	}
	return n, nil
}

func stale(subject string, given, present int64) error {
	return &queue.Error{
		Kind: queue.KindPrecondition, Subject: subject, Field: "version",
		Msg: "version " + decimal(given) + " was expected, it is " + decimal(present) + "; read it again",
	}
}

// offsetPage is p for a list that has no cursor.
func offsetPage(p queue.Page) (queue.Page, error) {
	p, err := p.Normalize()
	if err == nil && p.Cursor != "" {
		return p, badCursor()
	}
	return p, err
}

func cutPage(names []string, p queue.Page) []string {
	names = names[min(p.Offset, len(names)):]
	return names[:min(p.Limit, len(names))]
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
