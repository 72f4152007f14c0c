package feed

import (
	"context"
	"sync"

	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// subscriber has the unread events of one reader of a feed.
type subscriber struct {
	filter queue.EventFilter
	limit  int
	signal chan struct{}

	mu     sync.Mutex
	unread []queue.Event
	err    error
}

// addMatchingEvents adds the events that match. A reader that has more unread events than the limit loses them and gets an error.
func (s *subscriber) addMatchingEvents(events []queue.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.unread)
	for _, e := range events {
		if s.err == nil && s.filter.Matches(e) {
			s.unread = append(s.unread, e)
		}
	}

	// A slow reader must not make the memory of the server grow; the feed itself keeps the events.
	if len(s.unread) > s.limit {
		s.unread = nil
		s.err = &queue.Error{Kind: queue.KindSlowReader, Msg: "the reader did not keep up; resume from the last event's cursor"}
	}
	if s.err != nil || len(s.unread) > before {
		s.wakeEventReader()
	}
}

func (s *subscriber) failSubscriber(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.wakeEventReader()
}

func (s *subscriber) wakeEventReader() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// waitForEvents returns the unread events; an error only when there are none.
func (s *subscriber) waitForEvents(ctx context.Context, closing <-chan struct{}) ([]queue.Event, error) {
	for {
		s.mu.Lock()
		events, err := s.unread, s.err
		s.unread = nil
		s.mu.Unlock()
		if len(events) > 0 {
			return events, nil
		}
		if err != nil {
			return nil, err
		}

		select {
		case <-s.signal:
		case <-ctx.Done():
			return nil, queue.ContextError(ctx.Err())
		case <-closing:
			return nil, owner.ClosedError()
		}
	}
}
