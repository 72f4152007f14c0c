package restapi

import (
	"encoding/json"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Task is a task in an answer. The fields up to status are those of the predecessor, in its order.
type Task struct {
	ID              int64             `json:"id" doc:"The task's id" example:"1"`
	Payload         json.RawMessage   `json:"payload" doc:"The payload, any JSON, byte by byte as it came" example:"{\"to\":\"a@b.c\"}"`
	Worker          string            `json:"worker,omitempty" doc:"The last holder" example:"w1"`
	Namespace       string            `json:"namespace" doc:"The tenant" example:"default"`
	Queue           string            `json:"queue" doc:"The queue it is in" example:"mail"`
	CreatedAt       time.Time         `json:"created_at,omitzero" doc:"When it was created" example:"2026-01-02T15:04:05Z"`
	StartedAt       time.Time         `json:"started_at,omitzero" doc:"When it was last retained" example:"2026-01-02T15:04:06Z"`
	DiesAt          time.Time         `json:"dies_at,omitzero" doc:"It expires when not finished by then" example:"2026-01-02T16:04:05Z"`
	DelayedAt       time.Time         `json:"delayed_at,omitzero" doc:"It is not retained before" example:"2026-01-02T15:06:06Z"`
	FinishedAt      time.Time         `json:"finished_at,omitzero" doc:"When it ended" example:"2026-01-02T15:04:07Z"`
	Retries         int               `json:"retries" doc:"Retries left" example:"3"`
	Result          json.RawMessage   `json:"result,omitempty" doc:"The last result or error; absent until there is one" example:"{\"sent\":true}"`
	Status          string            `json:"status" enum:"new,retry,retained,released,failed,expired,cancelled" doc:"Where it is in its life" example:"new"`
	Priority        int16             `json:"priority" doc:"Smaller first" example:"0"`
	Attempt         int               `json:"attempt" doc:"How often it was retained" example:"1"`
	Lease           *Lease            `json:"lease,omitempty" doc:"The holder's right to it; only in the answer of a retain"`
	Key             string            `json:"key,omitempty" doc:"The idempotency key" example:"order-17"`
	Group           string            `json:"group,omitempty" doc:"What it has in common with other tasks, as a tenant" example:"tenant-7"`
	Headers         map[string]string `json:"headers,omitempty" doc:"Texts that travel with it, as traceparent" example:"{\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}"`
	Errors          []AttemptError    `json:"errors,omitempty" doc:"Its failed attempts, oldest first; only when one task is asked for"`
	CancelRequested bool              `json:"cancel_requested,omitempty" doc:"The holder was asked to stop" example:"false"`
	Progress        json.RawMessage   `json:"progress,omitempty" doc:"The last report of the holder" example:"{\"percent\":40}"`
	Replayed        bool              `json:"replayed,omitempty" doc:"The create found this task under its key" example:"false"`
}

// Lease is the time-bounded exclusive right to a retained task.
type Lease struct {
	Token     int64     `json:"token" doc:"The fencing value: show it when releasing" example:"7"`
	ExpiresAt time.Time `json:"expires_at" doc:"When the lease runs out by the database's clock" example:"2026-01-02T15:09:06Z"`
	Duration  int64     `json:"duration" doc:"What was granted, nanoseconds" example:"300000000000"`
	InOrder   bool      `json:"in_order,omitempty" doc:"In the answer of a retain: run the tasks of this group one after the other, in the order of the answer, and hand back the rest when one does not succeed" example:"false"`
}

// AttemptError is one failed attempt.
type AttemptError struct {
	Attempt     int             `json:"attempt" doc:"Which attempt, from 1" example:"1"`
	At          time.Time       `json:"at" doc:"When it failed" example:"2026-01-02T15:04:07Z"`
	Worker      string          `json:"worker,omitempty" doc:"The worker that held it" example:"w1"`
	Error       json.RawMessage `json:"error,omitempty" doc:"The error, any JSON" example:"{\"error\":\"no route to host\"}"`
	ErrorKind   string          `json:"error_kind,omitempty" doc:"The kind of the error, as the worker or the queue set it" example:"invalid_input"`
	Fingerprint string          `json:"fingerprint,omitempty" doc:"The name that the worker gave to group it with others" example:"card-declined"`
}

// TaskOf converts t for the wire.
func TaskOf(t *queue.Task) Task {
	out := Task{
		ID: t.ID, Payload: t.Payload, Worker: t.Worker, Namespace: t.Namespace, Queue: t.Queue, CreatedAt: t.CreatedAt,
		StartedAt: t.StartedAt, DiesAt: t.DiesAt, DelayedAt: t.DelayedAt, FinishedAt: t.FinishedAt, Retries: t.Retries,
		Result: t.Result, Status: string(t.Status), Priority: t.Priority, Attempt: t.Attempt, Key: t.Key, Group: t.Group,
		Headers: t.Headers, CancelRequested: t.CancelRequested, Progress: t.Progress, Replayed: t.Replayed,
	}
	if t.Lease != nil {
		l := LeaseOf(*t.Lease)
		out.Lease = &l
	}
	for _, e := range t.Errors {
		out.Errors = append(out.Errors, AttemptError{Attempt: e.Attempt, At: e.At.UTC(), Worker: e.Worker, Error: e.Error, ErrorKind: e.Kind, Fingerprint: e.Fingerprint})
	}
	return out
}

// Domain returns the task that t describes.
func (t Task) Domain() *queue.Task {
	out := &queue.Task{
		ID: t.ID, Namespace: t.Namespace, Queue: t.Queue, Payload: t.Payload, Result: t.Result,
		Status: queue.Status(t.Status), Worker: t.Worker, Priority: t.Priority, CreatedAt: t.CreatedAt,
		DelayedAt: t.DelayedAt, StartedAt: t.StartedAt, FinishedAt: t.FinishedAt, DiesAt: t.DiesAt, Retries: t.Retries,
		Attempt: t.Attempt, Key: t.Key, Group: t.Group, Headers: t.Headers, CancelRequested: t.CancelRequested, Progress: t.Progress,
		Replayed: t.Replayed,
	}
	if t.Lease != nil {
		l := t.Lease.Domain()
		out.Lease = &l
	}
	for _, e := range t.Errors {
		out.Errors = append(out.Errors, queue.AttemptError{Attempt: e.Attempt, At: e.At, Worker: e.Worker, Error: e.Error, Kind: e.ErrorKind, Fingerprint: e.Fingerprint})
	}
	return out
}

// LeaseOf converts l for the wire.
func LeaseOf(l queue.Lease) Lease {
	return Lease{Token: l.Token, ExpiresAt: l.ExpiresAt, Duration: int64(l.Duration), InOrder: l.InOrder}
}

// Domain returns the lease that l describes.
func (l Lease) Domain() queue.Lease {
	return queue.Lease{Token: l.Token, ExpiresAt: l.ExpiresAt, Duration: time.Duration(l.Duration), InOrder: l.InOrder}
}

// NewTask is a task to create.
type NewTask struct {
	Queue     string            `json:"queue,omitempty" doc:"The queue to put it in" example:"mail"`
	Payload   json.RawMessage   `json:"payload,omitempty" doc:"The payload, any JSON; absent = {}" example:"{\"to\":\"a@b.c\"}"`
	DelayedAt *Time             `json:"delayed_at,omitempty" doc:"Not before this time; absent or past = at once" example:"2026-01-02T15:04:05Z"`
	Delay     *Duration         `json:"delay,omitempty" doc:"The same counted from now; excludes delayed_at" example:"10m"`
	Priority  *int16            `json:"priority,omitempty" doc:"Smaller first" example:"0"`
	Key       string            `json:"key,omitempty" doc:"Makes the create idempotent: unique in the queue while the task exists" example:"order-17"`
	Group     string            `json:"group,omitempty" doc:"What it has in common with other tasks, as a tenant, an account or an ordering key; at most 255 bytes" example:"tenant-7"`
	Headers   map[string]string `json:"headers,omitempty" doc:"Texts that travel with it, as traceparent" example:"{\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}"`

	OnConflict  string    `json:"on_conflict,omitempty" enum:"return,reject,replace" doc:"What happens when a task has the key: return answers with it, reject refuses, replace creates this one and cancels a waiting one; return is the default" example:"return"`
	UniqueUntil string    `json:"unique_until,omitempty" enum:"started,finished,pruned" doc:"How long a task keeps its key from this create; pruned is the default" example:"pruned"`
	Debounce    *Duration `json:"debounce,omitempty" doc:"It waits this long, and each further create with its key replaces it and starts the wait again; excludes delay and delayed_at" example:"10s"`
	DebounceMax *Duration `json:"debounce_max,omitempty" doc:"Bounds that wait, counted from the first of these creates; absent or 0 = no bound" example:"1m"`
}

// ListName is the name of a list of tasks in errors.
func (NewTask) ListName() string { return "tasks" }

// NewTaskOf converts t for the wire.
func NewTaskOf(t queue.NewTask) NewTask {
	out := NewTask{
		Queue: t.Queue, Payload: t.Payload, DelayedAt: TimeOf(t.DelayedAt), Delay: durationOrNil(t.Delay), Key: t.Key, Group: t.Group, Headers: t.Headers,
		OnConflict: string(t.OnConflict), UniqueUntil: string(t.UniqueUntil), Debounce: durationOrNil(t.Debounce), DebounceMax: durationOrNil(t.DebounceMax),
	}
	if t.Debounce > 0 {
		out.Delay = nil // it says the same
	}
	if t.Priority != 0 {
		out.Priority = &t.Priority
	}
	return out
}

// DropNulls makes null absent.
func (t *NewTask) DropNulls() { dropNullValue(&t.Payload) }

// Domain returns the task that t asks for.
func (t NewTask) Domain() (queue.NewTask, error) {
	out := queue.NewTask{Queue: t.Queue, TaskMeta: queue.TaskMeta{Payload: t.Payload, Key: t.Key, Group: t.Group, Headers: t.Headers}}
	if t.Priority != nil {
		out.Priority = *t.Priority
	}
	var err error
	if out.DelayedAt, err = t.DelayedAt.In("delayed_at"); err != nil {
		return out, err
	}
	if out.Delay, err = t.Delay.valueOrZero("delay"); err != nil {
		return out, err
	}

	out.OnConflict, out.UniqueUntil = queue.OnConflict(t.OnConflict), queue.UniqueUntil(t.UniqueUntil)
	if out.Debounce, err = t.Debounce.valueOrZero("debounce"); err != nil {
		return out, err
	}
	out.DebounceMax, err = t.DebounceMax.valueOrZero("debounce_max")
	return out, err
}
