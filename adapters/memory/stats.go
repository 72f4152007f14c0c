package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// QueueStats returns the counts of one queue, or of every queue of the namespace.
func (s *Store) QueueStats(ctx context.Context, namespace, name string) ([]*queue.QueueStats, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	sp := s.findNamespace(namespace)
	if name != "" {
		qs, err := sp.findQueue(name)
		if err != nil {
			return nil, err
		}
		return []*queue.QueueStats{s.readQueueStats(qs, now)}, nil
	}

	all := make([]*queue.QueueStats, 0, len(sp.names))
	for _, n := range sp.names {
		all = append(all, s.readQueueStats(sp.queues[n], now))
	}

	return all, nil
}

// AllQueueStats returns the counts of every queue of every namespace.
func (s *Store) AllQueueStats(ctx context.Context) ([]*queue.QueueStats, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	all := []*queue.QueueStats{}
	for _, name := range slices.Sorted(maps.Keys(s.spaces)) {
		sp := s.spaces[name]
		for _, n := range sp.names {
			all = append(all, s.readQueueStats(sp.queues[n], now))
		}
	}

	return all, nil
}

func (s *Store) readQueueStats(qs *queueState, now time.Time) *queue.QueueStats {
	for r, ok := qs.done.earliest(); ok && qs.isPastRetention(r, now); r, ok = qs.done.earliest() {
		s.removeTask(r, now) // so that what cannot be seen is not counted either
	}
	st := &queue.QueueStats{
		Namespace: qs.settings.Namespace, Queue: qs.settings.Name, Paused: qs.settings.Paused, Concurrency: qs.settings.Concurrency,
		Counts: make(map[queue.Status]int64, len(qs.counts)),
		Ready:  int64(qs.ready.countItems()),

		StartsPerSecond: qs.settings.StartsPerSecond(),

		CreatedPerSecond: qs.created.averagePerSecond(now), FinishedPerSecond: qs.finished.averagePerSecond(now),
	}
	for _, status := range queue.Statuses() {
		st.Counts[status] = qs.counts[status]
	}
	st.GroupWaiting = qs.groupWaiting
	if now.Before(qs.settings.PausedUntil) {
		st.PausedUntil = qs.settings.PausedUntil
	}
	// Delayed is the rest, so that the numbers of a queue always add up.
	st.Delayed = st.Counts[queue.StatusNew] + st.Counts[queue.StatusRetry] - st.Ready - st.GroupWaiting - int64(qs.overdue.countItems())
	if r, ok := qs.oldest.earliest(); ok {
		st.OldestReadyAge = max(0, now.Sub(r.readyAt))
	}
	return st
}

// rate counts the events of the last minute by seconds.
type rate struct {
	counts [60]int64
	second int64 // the newest in counts
}

func (r *rate) addAt(now time.Time, n int64) {
	r.forgetOldSeconds(now)
	r.counts[r.second%60] += n
}

func (r *rate) averagePerSecond(now time.Time) float64 {
	r.forgetOldSeconds(now)
	var sum int64
	for _, n := range r.counts {
		sum += n
	}
	return float64(sum) / 60
}

// forgetOldSeconds forgets the seconds that are more than a minute ago.
func (r *rate) forgetOldSeconds(now time.Time) {
	sec := now.Unix()
	if sec <= r.second { // also when the clock went back
		return
	}
	// At most 60 steps, also after hours without an event.
	for i := max(r.second+1, sec-59); i <= sec; i++ {
		r.counts[i%60] = 0
	}
	r.second = sec
}
