package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Names of SSE events.
const (
	EventTask   = "task"
	EventStats  = "stats"
	EventTicker = "ticker"
	// EventStream is the first event of a tick stream with ack=true. Its data is a Stream.
	EventStream = "stream"
	// EventError is the last event of a stream that the server ends. Its data is a Problem.
	EventError = "error"
)

// Event is one change of one task. It is also the data of an SSE event "task", which has the cursor as its id and not
// in its data.
type Event struct {
	Kind      string    `json:"kind" enum:"created,retained,released,retry,failed,expired,cancelled,returned,revived,progress,quarantined" doc:"The kind of change" example:"created"`
	Task      int64     `json:"task" doc:"The task" example:"1"`
	Queue     string    `json:"queue" doc:"The task's queue" example:"mail"`
	Namespace string    `json:"namespace" doc:"The tenant" example:"default"`
	Status    string    `json:"status,omitempty" doc:"The task's status after it; absent for progress" example:"new"`
	Worker    string    `json:"worker,omitempty" doc:"The worker that retained or released" example:"w1"`
	At        time.Time `json:"at" doc:"When, by the database's clock" example:"2026-01-02T15:04:05Z"`
	Cursor    string    `json:"cursor,omitempty" doc:"Resumes the feed behind this event; absent in a stream, where the id of the event is the cursor" example:"42"`
}

// EventOf converts e for the wire.
func EventOf(e queue.Event) Event {
	return Event{
		Kind: string(e.Kind), Task: e.TaskID, Queue: e.Queue, Namespace: e.Namespace, Status: string(e.Kind.Status()),
		Worker: e.Worker, At: e.At, Cursor: e.Cursor,
	}
}

// Domain returns the event that e describes.
func (e Event) Domain() queue.Event {
	return queue.Event{
		Cursor: e.Cursor, Kind: queue.EventKind(e.Kind), Namespace: e.Namespace, Queue: e.Queue, TaskID: e.Task,
		Worker: e.Worker, At: e.At,
	}
}

// EventPage is a part of the feed, oldest first.
type EventPage struct {
	Body []Event `json:"body" doc:"The events"`
	Next string  `json:"next" doc:"Resumes behind the last event looked at" example:"42"`
	More bool    `json:"more" doc:"There is more right now" example:"false"`
}

// EventPageOf converts p for the wire.
func EventPageOf(p queue.EventPage) EventPage {
	return EventPage{Body: Each(p.Events, EventOf), Next: p.Next, More: p.More}
}

// Domain returns the page that p describes.
func (p EventPage) Domain() queue.EventPage {
	out := queue.EventPage{Next: p.Next, More: p.More}
	for _, e := range p.Body {
		out.Events = append(out.Events, e.Domain())
	}
	return out
}

// Stream names a tick stream, for Ack.
type Stream struct {
	Stream string `json:"stream" doc:"The stream" example:"8f14e45fceea167a"`
}

// Ack settles the tick that a stream has sent. A tick without an Ack goes to another listener at the end of the
// stream.
type Ack struct {
	Stream    string `json:"stream" doc:"The stream, from its first event" example:"8f14e45fceea167a"`
	ID        int64  `json:"id" doc:"The tick" example:"9"`
	Delivered *bool  `json:"delivered,omitempty" doc:"False gives the tick back; default true" example:"true"`
}

// Domain returns a itself, because the domain has no such object.
func (a Ack) Domain() (Ack, error) { return a, nil }
