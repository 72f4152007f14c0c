package memory

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// history has the minute and hour points of a queue, and the counts since the last closed minute.
type history struct {
	minutes []queue.HistoryPoint
	hours   []queue.HistoryPoint
	current queue.HistoryPoint
}

// addMove counts a move by the status that it led to.
func (h *history) addMove(m queue.Move, after queue.Status) {
	switch {
	case after == queue.StatusReleased:
		h.current.Released++
	case after == queue.StatusFailed:
		h.current.Failed++
	case after == queue.StatusRetry && (m == queue.MoveFail || m == queue.MoveLeaseLost):
		h.current.Retried++
	}
}

// closeMinute appends the current counts as the point of the minute that begins at at, and deletes points past their time. It appends
// none when nothing happened and no task is ready. After a pause of several minutes, all counts go to the last of them.
func (h *history) closeMinute(at, now time.Time) {
	if h.current != (queue.HistoryPoint{}) {
		p := h.current
		p.At = at
		h.current = queue.HistoryPoint{}
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

// closeMinutes closes the last minute of each queue. A minute is closed once, also when the clock goes back.
func (s *Store) closeMinutes(now time.Time) {
	minute := now.Truncate(time.Minute)
	if !minute.After(s.sampledAt) {
		return
	}
	s.sampledAt = minute

	for _, sp := range s.spaces {
		for _, qs := range sp.queues {
			st := s.readQueueStats(qs, now)
			qs.history.current.Ready, qs.history.current.OldestReadyAge = st.Ready, st.OldestReadyAge
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
