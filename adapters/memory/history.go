package memory

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// history has the points of a queue, and the numbers of the present minute.
type history struct {
	minutes []queue.HistoryPoint
	hours   []queue.HistoryPoint
	now     queue.HistoryPoint
}

// countMove counts a move that left a task in status is.
func (h *history) countMove(m queue.Move, is queue.Status) {
	switch {
	case is == queue.StatusReleased:
		h.now.Released++
	case is == queue.StatusFailed:
		h.now.Failed++
	case is == queue.StatusRetry && (m == queue.MoveFail || m == queue.MoveLeaseLost):
		h.now.Retried++
	}
}

// closeMinute adds the numbers so far as the point of the minute at, unless nothing happened, and forgets old points.
func (h *history) closeMinute(at, now time.Time) {
	if h.now != (queue.HistoryPoint{}) {
		p := h.now
		p.At = at
		h.now = queue.HistoryPoint{}
		h.minutes = append(h.minutes, p)

		hour := at.Truncate(time.Hour)
		// The hour grows with each of its minutes, so the present hour is in the answer too.
		if n := len(h.hours); n > 0 && h.hours[n-1].At.Equal(hour) {
			h.hours[n-1].Add(p)
		} else {
			p.At = hour
			h.hours = append(h.hours, p)
		}
	}

	h.minutes = dropOldPoints(h.minutes, now.Add(-queue.HistoryMinutesKept))
	h.hours = dropOldPoints(h.hours, now.Add(-queue.HistoryHoursKept))
}

// dropOldPoints returns points from the first one on that is not before oldest.
func dropOldPoints(points []queue.HistoryPoint, oldest time.Time) []queue.HistoryPoint {
	for len(points) > 0 && points[0].At.Before(oldest) {
		points = points[1:]
	}
	return points
}

// writeHistory closes the last minute of every queue, once a minute.
func (s *Store) writeHistory(now time.Time) {
	minute := now.Truncate(time.Minute)
	// Also after the clock went back: a minute is written once.
	if !minute.After(s.sampledAt) {
		return
	}
	s.sampledAt = minute

	for _, sp := range s.spaces {
		for _, qs := range sp.queues {
			st := s.readQueueStats(qs, now)
			qs.history.now.Ready = st.Ready
			if st.Ready > 0 {
				qs.history.now.OldestReadyAge = st.OldestReadyAge
			}
			qs.history.closeMinute(minute.Add(-time.Minute), now)
		}
	}
}

// QueueHistory returns the points of a queue.
func (s *Store) QueueHistory(ctx context.Context, namespace, name string, q queue.HistoryQuery) (*queue.QueueHistory, error) {
	qs, now, err := s.lockQueue(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	points := qs.history.minutes
	if q.Step == queue.HistoryHour {
		points = qs.history.hours
	}
	out := &queue.QueueHistory{Namespace: namespace, Queue: name, Step: q.Step, Points: []queue.HistoryPoint{}}
	for _, p := range dropOldPoints(points, now.Add(-q.Step.Kept())) {
		if (q.After.IsZero() || p.At.After(q.After)) && (q.Before.IsZero() || p.At.Before(q.Before)) {
			out.Points = append(out.Points, p)
		}
	}
	return out, nil
}
