package memory

import (
	"context"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// feed keeps the newest events. An event's cursor is its number, counted from 1.
type feed struct {
	events []queue.Event // a ring when full
	last   int64         // number of the newest event
	most   int
}

func (f *feed) appendEvent(e queue.Event) {
	f.last++
	e.Cursor = formatNumber(f.last)
	if len(f.events) < f.most {
		f.events = append(f.events, e)
		return
	}
	f.events[(f.last-1)%int64(f.most)] = e
}

func (f *feed) eventNumber(number int64) queue.Event { return f.events[(number-1)%int64(f.most)] }

// oldestNumber is the number of the oldest event kept.
func (f *feed) oldestNumber() int64 { return f.last - int64(len(f.events)) + 1 }

// recordEvent adds an event to the feed when the queue keeps them.
func (s *Store) recordEvent(r *record, kind queue.EventKind, worker string, now time.Time) {
	if !r.queue.settings.Events {
		return
	}
	s.feed.appendEvent(queue.Event{
		Kind: kind, Namespace: r.task.Namespace, Queue: r.task.Queue, TaskID: r.task.ID, Worker: worker, At: now,
	})
}

// ListEvents returns events behind f.After, oldest first.
func (s *Store) ListEvents(ctx context.Context, namespace string, f queue.EventFilter, limit int) (queue.EventPage, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return queue.EventPage{}, err
	}

	defer s.mu.Unlock()

	next := s.feed.oldestNumber()
	if f.After != "" {
		after, err := strconv.ParseInt(f.After, 10, 64)
		switch {
		case err != nil || after < 0:
			return queue.EventPage{}, errUnknownCursor()
		// A number of the future comes from a process before a restart: this feed began anew at 1.
		case after+1 < next || after > s.feed.last:
			return queue.EventPage{}, &queue.Error{
				Kind: queue.KindCursorExpired, Field: "cursor", Msg: "is older than what is kept; start again without it",
			}
		}
		next = after + 1
	}

	page := queue.EventPage{Events: []queue.Event{}}
	// The cursor passes over events that the filter leaves out, so the next page does not read them again.
	for ; next <= s.feed.last && len(page.Events) < limit; next++ {
		if e := s.feed.eventNumber(next); e.Namespace == namespace && f.Matches(e) {
			page.Events = append(page.Events, e)
		}
	}

	page.Next = formatNumber(next - 1)
	page.More = next <= s.feed.last
	return page, nil
}

// LastEvent is the cursor of now.
func (s *Store) LastEvent(ctx context.Context, _ string) (string, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	return formatNumber(s.feed.last), nil
}

func formatNumber(n int64) string { return strconv.FormatInt(n, 10) }
