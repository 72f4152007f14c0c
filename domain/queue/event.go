package queue

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// EventKind is what happened to a task.
type EventKind string

// The kinds of events. Rescue shows as what became of the task: retry, failed, expired, cancelled or quarantined.
const (
	EventCreated   EventKind = "created"
	EventRetained  EventKind = "retained"
	EventReleased  EventKind = "released"
	EventRetry     EventKind = "retry"
	EventFailed    EventKind = "failed"
	EventExpired   EventKind = "expired"
	EventCancelled EventKind = "cancelled"
	EventReturned  EventKind = "returned" // handed back or snoozed
	EventRevived   EventKind = "revived"  // an operator's retry
	EventProgress  EventKind = "progress" // the holder reported progress
	// EventQuarantined: the task failed by its lost leases alone, see FailurePolicy.MaxLeaseLosses.
	EventQuarantined EventKind = "quarantined"
)

// EventKinds lists every kind.
func EventKinds() []EventKind {
	return []EventKind{
		EventCreated, EventRetained, EventReleased, EventRetry, EventFailed, EventExpired, EventCancelled,
		EventReturned, EventRevived, EventProgress, EventQuarantined,
	}
}

// Status is the status of the task after the event; "" for progress, which changes none.
func (k EventKind) Status() Status {
	switch k {
	case EventCreated, EventRevived:
		return StatusNew
	case EventRetained:
		return StatusRetained
	case EventReleased, EventRetry, EventFailed, EventExpired, EventCancelled:
		return Status(k)
	case EventQuarantined:
		return StatusFailed
	case EventReturned, EventProgress:
	}
	return ""
}

// Event is one thing that happened to one task.
type Event struct {
	// Cursor resumes the feed behind this event. It is opaque, and has at most MaxEventCursor bytes.
	Cursor    string
	Kind      EventKind
	Namespace string
	Queue     string
	TaskID    int64
	// Worker that retained or released; "" for other events.
	Worker string
	// At by the database's clock.
	At time.Time
}

// Bytes is about how many bytes e takes in an answer.
func (e Event) Bytes() int { return 2*taskFrame + TextBytes(e.Worker) }

// EventFilter selects events of a namespace. Zero fields do not filter.
type EventFilter struct {
	Queue  string
	TaskID int64
	Kinds  []EventKind
	// Statuses selects the events that leave a task in one of these.
	Statuses []Status
	Worker   string
	// After resumes behind the event with this cursor; "" = from now on.
	After string
}

// Matches reports whether e passes the filter; After is not looked at.
func (f EventFilter) Matches(e Event) bool {
	return (f.Queue == "" || f.Queue == e.Queue) &&
		(f.TaskID == 0 || f.TaskID == e.TaskID) &&
		(f.Worker == "" || f.Worker == e.Worker) &&
		matchesSet(f.Kinds, e.Kind) && matchesSet(f.Statuses, e.Kind.Status())
}

// Normalize checks f and normalises its queue's name.
func (f EventFilter) Normalize() (EventFilter, error) {
	tf, err := TaskFilter{Queue: f.Queue, Statuses: f.Statuses, Worker: f.Worker}.Normalize()
	if err != nil {
		return f, err
	}

	f.Queue = tf.Queue
	for _, k := range f.Kinds {
		if !matchesSet(EventKinds(), k) {
			return f, Invalid("kind", fmt.Sprintf("must be one of %s, got %.64q", joinKinds(), k))
		}
	}

	if f.TaskID < 0 {
		return f, Invalid("task", fmt.Sprintf("must be a task id above 0, got %d", f.TaskID))
	}

	return f, nil
}

// EventPage is a piece of the feed, in its order.
type EventPage struct {
	Events []Event
	// Next resumes behind the last event looked at, whether it matched or not.
	Next string
	// More says that there is more right now.
	More bool
}

// joinKinds returns all kinds of events, for messages.
func joinKinds() string {
	var b strings.Builder
	for i, k := range EventKinds() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(k))
	}
	return b.String()
}

// matchesSet reports whether v is in set; an empty set selects everything.
func matchesSet[T comparable](set []T, v T) bool {
	if len(set) == 0 {
		return true
	}
	return slices.Contains(set, v)
}
