package queue

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Task is one unit of work: an immutable payload and a lifecycle (contract section 4). A time that is not set is zero.
// Tasks that a port returned belong to the caller.
type Task struct {
	ID        int64
	Namespace string
	Queue     string
	Payload   json.RawMessage
	// Result is the last result or error; nil until there is one.
	Result   json.RawMessage
	Status   Status
	Worker   string // last holder
	Priority int16  // smaller first

	CreatedAt  time.Time
	DelayedAt  time.Time // not before this
	StartedAt  time.Time // last retained
	FinishedAt time.Time
	DiesAt     time.Time // expires when not finished by then

	// Retries left.
	Retries int
	// Attempt counts from 1 the times the task was retained; 0 before the first. A hand back or snooze takes its one back.
	Attempt int
	// Lease is set for the holder alone: in what a retain returns.
	Lease *Lease
	// Key is the idempotency key, "" when none.
	Key string
	// Group is that of TaskMeta.
	Group   string
	Headers map[string]string
	// Errors of the failed attempts, oldest first, the newest MaxErrors of them; only GetTask fills it.
	Errors []AttemptError
	// CancelRequested says that the holder was asked to stop.
	CancelRequested bool
	// Progress is what the holder last reported; nil when nothing.
	Progress json.RawMessage
	// Replayed says that a create found this task under its idempotency key instead of making one.
	Replayed bool
}

// lastErrorKind returns the kind of the error of the last failed attempt.
func (t *Task) lastErrorKind() string {
	if len(t.Errors) == 0 {
		return ""
	}
	return t.Errors[len(t.Errors)-1].Kind
}

// taskFrame is about what a task takes beside its variable parts: ids, times, names, and the framing of a transport.
// MaxBatch tasks without a payload stay below DefaultRetainBytes.
const taskFrame = 256

// Bytes is about how many bytes t takes in an answer. Payload, result and progress are JSON, and are sent as they are.
func (t *Task) Bytes() int {
	n := taskFrame + len(t.Payload) + len(t.Result) + len(t.Progress) + TextBytes(t.Key) + TextBytes(t.Group) + TextBytes(t.Worker)
	for name, value := range t.Headers {
		n += TextBytes(name) + TextBytes(value) + 8
	}
	for _, e := range t.Errors {
		n += len(e.Error) + TextBytes(e.Worker) + TextBytes(e.Kind) + TextBytes(e.Fingerprint) + 64
	}
	return n
}

// TextBytes is the length of s as a JSON text, at the most: control characters become six bytes each.
func TextBytes(s string) int {
	n := len(s)
	for i := range len(s) {
		// An escape as \u0001 has six bytes for one, \" two for one.
		switch c := s[i]; {
		case c < ' ':
			n += 5
		case c == '"' || c == '\\':
			n++
		}
	}
	return n
}

// Lease is the time-bounded exclusive right to a retained task.
type Lease struct {
	// Token is the fencing value: every retain of a task gives a larger one.
	Token int64
	// ExpiresAt is when the lease runs out by the database's clock.
	ExpiresAt time.Time
	// Duration is what was granted; a holder measures it on its own monotonic clock from before its call.
	Duration time.Duration
	// InOrder, in the answer of a retain: the tasks of this group in the answer run one after the other, in the order of the
	// answer. When one does not succeed, hand back the rest.
	InOrder bool
}

// AttemptError is one failed attempt of a task.
type AttemptError struct {
	Attempt int
	At      time.Time
	Worker  string
	Error   json.RawMessage
	// Kind of the error, as the worker reported it, or as the queue set it: ErrorKindLeaseLost, ErrorKindQuarantined; "" = none.
	Kind string
	// Fingerprint that the worker gave; "" = none.
	Fingerprint string
}

// TaskMeta is what a caller says of a new task.
type TaskMeta struct {
	// Payload is any JSON; nil means {}.
	Payload json.RawMessage
	// DelayedAt keeps the task waiting until then; zero or past means at once. It excludes Delay.
	DelayedAt time.Time
	// Delay is the same counted from now by the database's clock.
	Delay    time.Duration
	Priority int16
	// Key makes the create idempotent: unique in the queue while the task exists, unless KeyRule asks for another behaviour.
	Key string
	KeyRule
	// Group is what the task has in common with others, as a tenant, an account or an ordering key; "" = none. The flow of the
	// queue says what groups share, and how they are limited.
	Group   string
	Headers map[string]string
}

// NewTask is a task to be created in a queue.
type NewTask struct {
	Queue string
	TaskMeta
	// Call is as in Release: it bounds the content of tasks that are there under their keys.
	Call int
}

// Normalize checks t against the names and limits and returns it with its queue's name normalised and its payload
// filled in.
func (t NewTask) Normalize(maxPayloadBytes int) (NewTask, error) {
	var err error
	if t.Queue, err = QueueName(t.Queue); err != nil {
		return t, err
	}

	if len(t.Payload) == 0 {
		t.Payload = EmptyJSON
	} else if err := CheckJSON("payload", t.Payload, maxPayloadBytes); err != nil {
		return t, err
	}

	if err := CheckDuration("delay", t.Delay, 0); err != nil {
		return t, err
	}
	if t.Delay > 0 && !t.DelayedAt.IsZero() {
		return t, Invalid("delay", "must not come with delayed_at; leave one out")
	}
	if err := cmp.Or(CheckTime("delayed_at", t.DelayedAt), CheckKey(t.Key), CheckGroup(t.Group), CheckHeaders(t.Headers)); err != nil {
		return t, err
	}
	return t.normalizeKeyRule()
}

// MakeTask returns the task that t creates in q, as far as t describes it: its life follows from [Queue.Born]. It shares
// the content of t.
func (t *NewTask) MakeTask(id int64, q *Queue, now time.Time) Task {
	return Task{
		ID: id, Namespace: q.Namespace, Queue: q.Name, CreatedAt: now,
		Payload: t.Payload, Priority: t.Priority, Key: t.Key, Group: t.Group, Headers: t.Headers,
	}
}

// CheckTime refuses times that RFC 3339 or PostgreSQL cannot hold; zero means unset and is fine.
func CheckTime(field string, t time.Time) error {
	if !t.IsZero() && (t.Year() < 1 || t.Year() > 9999) {
		return Invalid(field, fmt.Sprintf("must be a time from 1 to 9999 AD, got the year %d", t.Year()))
	}
	return nil
}

// CheckGivenTime refuses a zero time that a request states: read as absent, created_before would select every task.
func CheckGivenTime(field string, t time.Time) error {
	if t.IsZero() {
		return Invalid(field, "must be a time after 0001-01-01T00:00:00Z, got that time; leave it out when it is not meant")
	}
	return nil
}

// RetainRequest asks for tasks.
type RetainRequest struct {
	// Worker names the holder.
	Worker string
	// Queues to take from, none starving another; empty = any queue of the namespace.
	Queues []string
	// Limit is the most tasks to take; 0 = 1.
	Limit int
	// Wait blocks until a task is there or the time is over; 0 = answer at once.
	Wait time.Duration
	// Lease overrides the queue's lease; 0 = the queue's.
	Lease time.Duration
	// MaxBytes is about how many bytes the tasks may have together, encoded; 0 = DefaultRetainBytes. The first task always
	// fits, the first that does not ends the answer and stays available.
	MaxBytes int
	// MaxTaskBytes is the most bytes of one task, by Task.Bytes, that the caller can receive; 0 = any. Larger tasks are handed
	// back at no cost of an attempt; when the retain has no other task it fails with KindTooLarge, which names one of them.
	MaxTaskBytes int
	// RequestID, of the namespace and worker, makes the retain repeatable: within RequestTime, and the leases, the same
	// request gives the same tasks and tokens, as far as they are still held. Other arguments under it are KindInvalid. "" =
	// not repeatable.
	RequestID string
}

// Normalize checks r and fills in its defaults. Queues come back sorted, without repeats.
func (r RetainRequest) Normalize() (RetainRequest, error) {
	r.Limit = cmp.Or(r.Limit, 1)
	r.MaxBytes = cmp.Or(r.MaxBytes, DefaultRetainBytes)

	if err := cmp.Or(CheckWorker(r.Worker), CheckInt("limit", r.Limit, 1, MaxBatch)); err != nil {
		return r, err
	}
	if r.Wait < 0 || r.Wait > MaxWait {
		return r, Invalid("wait", fmt.Sprintf("must be a duration from 0 to %v, got %v", MaxWait, r.Wait))
	}
	err := cmp.Or(
		checkLease(r.Lease),
		CheckInt("max_bytes", r.MaxBytes, 1, MaxRetainBytes),
		CheckInt("max_task_bytes", r.MaxTaskBytes, 0, math.MaxInt32),
		CheckRequestID(r.RequestID),
	)
	if err != nil {
		return r, err
	}

	if len(r.Queues) > MaxQueuesPerRetain {
		return r, Invalid("queue", fmt.Sprintf("must be at most %d queues, got %d", MaxQueuesPerRetain, len(r.Queues)))
	}

	// The caller's slice stays as it is: another goroutine of it may read it.
	names := make([]string, len(r.Queues))
	for i, q := range r.Queues {
		n, err := QueueName(q)
		if err != nil {
			return r, err
		}
		names[i] = n
	}

	slices.Sort(names)
	r.Queues = slices.Compact(names)
	return r, nil
}

// checkLease checks the length of a lease that a caller may give; 0 = not given.
func checkLease(lease time.Duration) error {
	if lease == 0 {
		return nil
	}
	return CheckDuration("lease", lease, MinLease)
}

// Outcome is the result of an attempt.
type Outcome string

// The outcomes of a release.
const (
	// OutcomeSuccess: done; the task is released.
	OutcomeSuccess Outcome = "success"
	// OutcomeFailure: failed; retried while retries are left.
	OutcomeFailure Outcome = "failure"
	// OutcomePermanent: failed for good, without the retries that are left.
	OutcomePermanent Outcome = "permanent"
	// OutcomeHandBack: not started (drain); attempt and retries as before, available at once.
	OutcomeHandBack Outcome = "handback"
	// OutcomeSnooze: not now; attempt and retries as before, available after Delay.
	OutcomeSnooze Outcome = "snooze"
)

// Move is the move of the lifecycle that o makes.
func (o Outcome) Move() Move {
	switch o {
	case OutcomeSuccess:
		return MoveRelease
	case OutcomeHandBack:
		return MoveHandBack
	case OutcomeSnooze:
		return MoveSnooze
	case OutcomeFailure, OutcomePermanent:
		return MoveFail
	}
	return ""
}

// Scope says how much a delay holds up: the other side of a handler asked to wait for this task, for all of its group, or for all
// of its queue.
type Scope string

// The scopes of a delay.
const (
	ScopeTask Scope = "task"
	// ScopeGroup: no task of the group starts before the end of the delay. For a task without a group it is ScopeTask.
	ScopeGroup Scope = "group"
	// ScopeQueue: no task of the queue starts before the end of the delay.
	ScopeQueue Scope = "queue"
)

// Release ends one hold.
type Release struct {
	ID int64
	// Token of the lease; 0 = the present lease of any worker (the predecessor's REST clients send none).
	Token int64
	// Outcome of the attempt; "" = OutcomeSuccess.
	Outcome Outcome
	// Result is the result of a success or the error of a failure: any JSON; nil = none.
	Result json.RawMessage
	// ErrorKind of a failure, as "invalid_input", at most MaxErrorKindBytes; "" = none.
	ErrorKind string
	// Fingerprint of a failure that the worker gives in place of that of its error, at most MaxFingerprintBytes; "" = none.
	Fingerprint string
	// Delay: of a snooze, how long; of a failure, the delay instead of the backoff (0 = the backoff).
	Delay time.Duration
	// Scope says what waits for Delay: the task alone, its group, or its queue; "" = ScopeTask.
	Scope Scope
	// Quiet: the caller does not need the task in the answer, so it need not be read back.
	Quiet bool
	// Call numbers the call that a release came with, where several calls share a Store call: each has a bound of its own for
	// the bytes of its answer. The manager sets it; not part of the wire.
	Call int
}

// Normalize returns r with its defaults.
func (r Release) Normalize() Release {
	r.Outcome = cmp.Or(r.Outcome, OutcomeSuccess)
	r.Scope = cmp.Or(r.Scope, ScopeTask)
	return r
}

// Check checks r, after Normalize, against the limits.
func (r Release) Check(maxPayloadBytes int) error {
	switch {
	case r.ID <= 0:
		return Invalid("id", fmt.Sprintf("must be a task id above 0, got %d", r.ID))
	case r.Token < 0:
		return Invalid("token", fmt.Sprintf("must be a token above 0, got %d", r.Token))
	case r.Outcome.Move() == "":
		return Invalid("outcome", fmt.Sprintf("must be success, failure, permanent, handback or snooze, got %.64q", r.Outcome))
	}

	if err := CheckDuration("delay", r.Delay, 0); err != nil {
		return err
	}

	if r.Delay > 0 && r.Outcome != OutcomeSnooze && r.Outcome != OutcomeFailure {
		return Invalid("delay", fmt.Sprintf("must be 0 unless the outcome is snooze or failure, got %v; leave it out", r.Delay))
	}

	if r.Outcome == OutcomeSnooze && r.Delay == 0 {
		return Invalid("delay", "must be above 0 for a snooze, got 0")
	}

	if err := cmp.Or(r.checkScope(), r.checkKind()); err != nil || len(r.Result) == 0 {
		return err
	}

	if r.Outcome == OutcomeHandBack || r.Outcome == OutcomeSnooze {
		return Invalid("result", "must be absent for a hand-back or a snooze; leave it out")
	}

	return CheckJSON("result", r.Result, maxPayloadBytes)
}

// checkScope refuses an unknown scope, and one without a delay.
func (r Release) checkScope() error {
	switch {
	case r.Scope == "" || r.Scope == ScopeTask:
		return nil
	case r.Scope != ScopeGroup && r.Scope != ScopeQueue:
		return Invalid("scope", fmt.Sprintf("must be task, group or queue, got %.64q", r.Scope))
	case r.Delay == 0:
		return Invalid("scope", fmt.Sprintf("must come with a delay, got %.64q without one; give a delay, or leave the scope out", r.Scope))
	}
	return nil
}

// WithoutContent is a copy of t without payload, headers, result and progress.
func (t *Task) WithoutContent() *Task {
	bare := *t
	bare.Payload, bare.Headers = nil, nil
	bare.Result, bare.Progress = nil, nil
	return &bare
}

// MaxBriefResult bounds the result of a task in a brief list, in bytes.
const MaxBriefResult = 2_048

// Brief is a copy of t without payload, headers and progress. A result above MaxBriefResult becomes a text with its beginning; a
// store may leave out one above eight times as much.
func (t *Task) Brief() *Task {
	bare := t.WithoutContent()
	bare.Result = slices.Clone(t.Result)
	if len(t.Result) > MaxBriefResult {
		// A text of valid UTF-8 always has a form in JSON.
		bare.Result, _ = json.Marshal(string(bytes.ToValidUTF8(t.Result[:MaxBriefResult], nil)))
	}
	return bare
}

// Clone returns a copy of t that shares nothing with it.
func (t *Task) Clone() *Task {
	c := *t
	c.Payload = slices.Clone(t.Payload)
	c.Result = slices.Clone(t.Result)
	c.Progress = slices.Clone(t.Progress)
	c.Headers = maps.Clone(t.Headers)

	c.Errors = slices.Clone(t.Errors)
	for i := range c.Errors {
		c.Errors[i].Error = slices.Clone(c.Errors[i].Error)
	}

	if t.Lease != nil {
		lease := *t.Lease
		c.Lease = &lease
	}
	return &c
}

// Released answers one Release.
type Released struct {
	// Task as it is after it; nil when Err is set. The tasks of a call come with their content (payload, headers, result,
	// progress) up to MaxPageBytes, the first in any case. Of a Quiet release Task is nil, or lacks its content and its key.
	Task *Task
	// Err is ErrLeaseLost (stale token), ErrConflict (no worker holds it), ErrNotFound, or ErrInvalid. A release that
	// repeats an accepted one succeeds.
	Err error
	// Replayed says that the release repeats an accepted one and changed nothing. Not part of the wire.
	Replayed bool
	// Queue, Status and Held describe the ended lease even when Task is nil: the queue, the new status, how
	// long it was held by the store's clock. A store that returns the task may leave them out. Not part of the wire.
	Queue  string
	Status Status
	Held   time.Duration
}

// Heartbeat extends the lease of one task. Heartbeats of one call, and of calls that share a Store call, act in their order.
type Heartbeat struct {
	ID    int64
	Token int64
	// Lease from now on, which may shorten the present one. 0 keeps what was granted: the end is the later of the present end
	// and now + the length that the retain, or the last heartbeat with a lease, was granted.
	Lease time.Duration
	// Progress to keep with the task; nil = leave it as it is.
	Progress json.RawMessage
}

// Check checks h against the limits.
func (h Heartbeat) Check() error {
	switch {
	case h.ID <= 0:
		return Invalid("id", fmt.Sprintf("must be a task id above 0, got %d", h.ID))
	case h.Token <= 0:
		return Invalid("token", fmt.Sprintf("must be the token of the lease, got %d; give the token of the retain", h.Token))
	}

	if err := checkLease(h.Lease); err != nil || len(h.Progress) == 0 {
		return err
	}
	return CheckJSON("progress", h.Progress, MaxProgressBytes)
}

// Beat answers one Heartbeat.
type Beat struct {
	Lease Lease
	// CancelRequested asks the worker to stop: release the task with any outcome and it ends cancelled.
	CancelRequested bool
	// Err is ErrLeaseLost, ErrNotFound or ErrInvalid.
	Err error
}

// TaskFilter selects tasks of a namespace. Zero fields do not filter.
type TaskFilter struct {
	Queue         string
	Statuses      []Status
	Worker        string
	CreatedAfter  time.Time // exclusive
	CreatedBefore time.Time // exclusive
	// Key is the idempotency key of the tasks: at most one of each queue.
	Key string
	// FinishedAfter and FinishedBefore, both exclusive, select finished tasks alone.
	FinishedAfter  time.Time
	FinishedBefore time.Time
	// Text occurs in the payload, byte by byte in the JSON as it was sent. It needs a Queue, because it reads payloads.
	Text string
}

// Normalize checks f and normalises its queue's name.
func (f TaskFilter) Normalize() (TaskFilter, error) {
	if f.Queue != "" {
		n, err := QueueName(f.Queue)
		if err != nil {
			return f, err
		}
		f.Queue = n
	}

	for _, s := range f.Statuses {
		if !s.Valid() {
			return f, Invalid("status", fmt.Sprintf("must be new, retry, retained, released, failed, expired or cancelled, got %.64q", s))
		}
	}

	if f.Worker != "" {
		if err := CheckWorker(f.Worker); err != nil {
			return f, err
		}
	}

	if f.Text != "" && f.Queue == "" {
		return f, Invalid("text", fmt.Sprintf("must come with a queue, got %.64q without one; name the queue", f.Text))
	}

	return f, cmp.Or(
		CheckTime("created_after", f.CreatedAfter), CheckTime("created_before", f.CreatedBefore),
		CheckTime("finished_after", f.FinishedAfter), CheckTime("finished_before", f.FinishedBefore),
		CheckKey(f.Key), checkFilterText(f.Text),
	)
}

// checkFilterText checks the text of a filter.
func checkFilterText(s string) error {
	if len(s) > MaxFilterTextBytes {
		return Invalid("text", fmt.Sprintf("must have at most %d bytes, got %d", MaxFilterTextBytes, len(s)))
	}
	return checkStorableText("text", s)
}

// selectsFinished reports whether f selects finished tasks alone, by their end.
func (f TaskFilter) selectsFinished() bool {
	return !f.FinishedAfter.IsZero() || !f.FinishedBefore.IsZero()
}

// SelectsByState reports whether f selects by queue and status alone, which kept counts answer.
func (f TaskFilter) SelectsByState() bool {
	return f.Worker == "" && f.CreatedAfter.IsZero() && f.CreatedBefore.IsZero() && f.Key == "" && !f.selectsFinished() && f.Text == ""
}

// Matches reports whether f selects t, except for its queue.
func (f TaskFilter) Matches(t *Task) bool {
	return (len(f.Statuses) == 0 || slices.Contains(f.Statuses, t.Status)) &&
		(f.Worker == "" || f.Worker == t.Worker) &&
		(f.Key == "" || f.Key == t.Key) &&
		isBetween(t.CreatedAt, f.CreatedAfter, f.CreatedBefore) &&
		(!f.selectsFinished() || t.Status.Finished() && isBetween(t.FinishedAt, f.FinishedAfter, f.FinishedBefore)) &&
		(f.Text == "" || strings.Contains(string(t.Payload), f.Text))
}

// isBetween reports whether t is later than after and earlier than before, where these are set.
func isBetween(t, after, before time.Time) bool {
	return (after.IsZero() || t.After(after)) && (before.IsZero() || t.Before(before))
}

// IsEmpty reports whether f selects every task.
func (f TaskFilter) IsEmpty() bool {
	return f.Queue == "" && len(f.Statuses) == 0 && f.SelectsByState()
}

// TaskQuery is a TaskFilter and which page of it.
type TaskQuery struct {
	TaskFilter
	Page
	// OldestFirst lists the smallest ids first, in the order in which tasks were created; else the newest come first.
	OldestFirst bool
	// Brief leaves out what a list of rows does not show, as [Task.Brief] does: a page has as many tasks as it may, however large
	// their payloads are.
	Brief bool
}

// TaskPage is a page of tasks.
type TaskPage struct {
	Tasks []*Task
	// Count is how many tasks match in all.
	Count int64
	// AtLeast says that more tasks than Count may match: counting them all would take long. It is so only of filters by
	// worker, times or text that many tasks match, or that take a look at many.
	AtLeast bool
	// Examined is how many tasks a search for a text has looked at to make this page, at most MaxTextExamined; the search goes
	// on with Next. 0 without a text.
	Examined int64
	// Next is the cursor of the next page, "" at the end. Only that marks the end: a page may be shorter than its limit,
	// because it reached MaxPageBytes. Where no index serves the filter (by worker, finish time or text, or waiting tasks the oldest first), a
	// page may even be empty, because many other tasks lie between.
	Next string
}
