package queue

import (
	"fmt"
	"time"
)

// ReasonCode names a kind of reason. Programs compare codes; the texts are for people and may change.
type ReasonCode string

// The codes of reasons.
const (
	// ReasonFinished: the task has ended.
	ReasonFinished ReasonCode = "finished"
	// ReasonQuarantined: the task has ended by its lost leases alone.
	ReasonQuarantined ReasonCode = "quarantined"
	// ReasonSuspect: the task has lost its lease, and a worker runs one such task at a time.
	ReasonSuspect ReasonCode = "suspect"
	// ReasonRetained: a worker holds the task.
	ReasonRetained ReasonCode = "retained"
	// ReasonCancelRequested: the holder was asked to stop and holds the task still.
	ReasonCancelRequested ReasonCode = "cancel_requested"
	// ReasonRescueLate: a lease ran out and background work has not taken the task back yet.
	ReasonRescueLate ReasonCode = "rescue_late"
	// ReasonExpireLate: the ttl of the task is over and background work has not ended it yet.
	ReasonExpireLate ReasonCode = "expire_late"
	// ReasonDelayed: the task was created for a later time.
	ReasonDelayed ReasonCode = "delayed"
	// ReasonBackoff: an attempt ended before, and the next one is due later.
	ReasonBackoff ReasonCode = "backoff"
	// ReasonPromoteLate: the task is due and background work has not made it ready yet.
	ReasonPromoteLate ReasonCode = "promote_late"
	// ReasonNoBackground: due work is late by a minute or more, so no process does background work, or too few do.
	ReasonNoBackground ReasonCode = "no_background"
	// ReasonPaused: the queue is paused.
	ReasonPaused ReasonCode = "paused"
	// ReasonConcurrency: as many tasks are retained as the queue allows.
	ReasonConcurrency ReasonCode = "concurrency"
	// ReasonPausedUntil: the queue is paused until a time.
	ReasonPausedUntil ReasonCode = "paused_until"
	// ReasonRate: as many tasks have started as the rate of the queue allows.
	ReasonRate ReasonCode = "rate"
	// ReasonGroupPaused: the group of the task is paused until a time.
	ReasonGroupPaused ReasonCode = "group_paused"
	// ReasonGroupRate: as many tasks have started as the rate of the group allows.
	ReasonGroupRate ReasonCode = "group_rate"
	// ReasonGroupConcurrency: as many tasks of the group are retained as it allows.
	ReasonGroupConcurrency ReasonCode = "group_concurrency"
	// ReasonGroupOrder: an earlier task of the group has not ended, and the queue runs them one after the other.
	ReasonGroupOrder ReasonCode = "group_order"
	// ReasonGroupBlocked: a task of the group failed, and the queue blocks the group until an operator acts.
	ReasonGroupBlocked ReasonCode = "group_blocked"
	// ReasonNoHolder: tasks are ready and no worker holds a task of the queue.
	ReasonNoHolder ReasonCode = "no_holder"
	// ReasonReady: the task is ready and waits for its turn.
	ReasonReady ReasonCode = "ready"
	// ReasonExpires: the task expires soon, or before its next attempt is due.
	ReasonExpires ReasonCode = "expires"
	// ReasonEmpty: no task of the queue waits.
	ReasonEmpty ReasonCode = "empty"
)

const (
	// BackgroundLate is the lateness from which on due work shows that background work as a whole is behind. Processes look
	// at least every few seconds.
	BackgroundLate = time.Minute
	// expiresSoon is the rest of a ttl that is worth a reason of its own.
	expiresSoon = 5 * time.Minute
)

// Reason is one reason why a task or a queue does not proceed.
type Reason struct {
	Code ReasonCode
	// Text says in one sentence how it is. It contains no payload, no error and no name of a worker.
	Text string
	// Advice says what an operator can do; "" where nothing needs to be done.
	Advice string
	// Since is the beginning of this state; zero where it is not known.
	Since time.Time
	// Until is the time at which the state ends by itself; zero where it does not, or where the time is not known.
	Until time.Time
	// Hold is the hold in the way, or of the task; nil without one.
	Hold *Hold
}

// Hold is one task under the lease of a worker.
type Hold struct {
	Task      int64
	Worker    string
	Since     time.Time
	ExpiresAt time.Time
}

// Explanation says why a task or a queue does not proceed.
type Explanation struct {
	Namespace string
	Queue     string
	// Task is 0, and Status "", in the explanation of a queue.
	Task   int64
	Status Status
	// At is the time of the facts by the store's clock.
	At time.Time
	// Reasons has at least one element; the one that decides comes first.
	Reasons []Reason
}

// Facts decide why a task or a queue does not proceed. They are read one after the other, so under load they may differ by a
// moment.
type Facts struct {
	Queue *Queue
	Stats *QueueStats
	// Task is nil for an explanation of the queue.
	Task *Task
	StoreFacts
}

// StoreFacts are the facts that only a store knows.
type StoreFacts struct {
	// Now by the store's clock.
	Now time.Time
	// Oldest is the hold of the queue that began first; nil when no worker holds a task of it.
	Oldest *Hold
	// Present is the hold of the task; nil when no worker holds it.
	Present *Hold
	// DueAt is when the first delayed task of the queue is due: in the past for one that background work has not promoted.
	// Zero when none is delayed, or none is among the MaxExamined next ones of all queues.
	DueAt time.Time
	// ExpiredAt is when the first lease of the queue ran out that background work has not ended; zero without one. As DueAt it
	// is about the first MaxExamined leases.
	ExpiredAt time.Time
	// Unpromoted says that the task is due and not ready yet.
	Unpromoted bool
	// NextStart is when the rate of the queue, or its pause until a time, lets the next task start; zero = now.
	NextStart time.Time
	// Group is the group of the task; nil when it has none, or when nothing limits the group.
	Group *Group
}

// MaxExamined bounds the rows of all queues that a store reads for StoreFacts, for each kind of work.
const MaxExamined = 1_000

// Explain returns the reasons why the task of f, or its queue when f has no task, does not proceed. It is a pure function.
func Explain(f Facts) Explanation {
	e := Explanation{Namespace: f.Queue.Namespace, Queue: f.Queue.Name, At: f.Now}
	if f.Task == nil {
		e.Reasons = f.explainQueue()
		return e
	}

	e.Task = f.Task.ID
	e.Status = f.Task.Status
	switch {
	case f.Task.Status.Finished():
		e.Reasons = []Reason{f.explainEnd()}
	case f.Task.Status == StatusRetained:
		e.Reasons = f.explainHold()
	default:
		e.Reasons = f.explainWait()
	}
	return e
}

// explainEnd is the reason of a finished task.
func (f Facts) explainEnd() Reason {
	t := f.Task
	r := Reason{
		Code: ReasonFinished, Text: fmt.Sprintf("The task ended as %s at %s.", t.Status, formatMoment(t.FinishedAt)),
		Since: t.FinishedAt, Until: t.FinishedAt.Add(f.Queue.FinishedStay()),
	}
	if t.Status == StatusFailed && t.lastErrorKind() == ErrorKindQuarantined {
		r.Code = ReasonQuarantined
		r.Text = fmt.Sprintf("The task was quarantined at %s: its last %d leases in a row were lost.", formatMoment(t.FinishedAt), f.Queue.MaxLeaseLosses)
		r.Advice = "Look for a payload that ends its worker, as by a lack of memory. A retry makes the task new again."
		return r
	}
	if t.Status != StatusReleased {
		r.Advice = "Retry the task to make it new again; until then it stays as it is, and is deleted after its retention."
	}
	return r
}

// explainHold has the reasons of a retained task.
func (f Facts) explainHold() []Reason {
	h := f.Present
	if h == nil { // it was released between two reads
		return []Reason{{Code: ReasonRetained, Text: "A worker held the task a moment ago.", Since: f.Task.StartedAt, Advice: "Ask again."}}
	}

	if !f.Now.Before(h.ExpiresAt) {
		// A release is accepted until the rescuer has taken the task back, so the task still counts as held.
		late := f.makeLate(ReasonRescueLate, h.ExpiresAt, "The lease ran out at %s, and the task was not taken back yet.")
		for i := range late {
			late[i].Hold = h
		}
		return late
	}

	r := Reason{
		Code: ReasonRetained, Since: h.Since, Until: h.ExpiresAt, Hold: h,
		Text: fmt.Sprintf("A worker has held the task since %s. Its lease lasts until %s, and heartbeats extend it.", formatMoment(h.Since), formatMoment(h.ExpiresAt)),
	}
	if f.Task.CancelRequested {
		r.Code = ReasonCancelRequested
		r.Text = fmt.Sprintf("The worker was asked to stop and holds the task still. Its lease lasts until %s.", formatMoment(h.ExpiresAt))
		r.Advice = "Wait for the release by the worker, or stop the worker: the task ends cancelled when its lease runs out."
	}
	return []Reason{r}
}

// explainWait has the reasons of a waiting task: its own first, then those of its queue.
func (f Facts) explainWait() []Reason {
	t := f.Task
	// No other reason matters then: the next step of the expirer ends the task.
	if Expired(t.Life(), f.Now) {
		return f.makeLate(ReasonExpireLate, t.DiesAt, "The ttl of the task was over at %s, and the task was not ended yet.")
	}

	var reasons []Reason
	due := !f.Now.Before(t.DelayedAt)
	switch {
	case !due && t.Status == StatusRetry:
		reasons = append(reasons, Reason{
			Code: ReasonBackoff, Until: t.DelayedAt,
			Text: fmt.Sprintf("Attempt %d has ended. The task waits for its next attempt until %s.", t.Attempt, formatMoment(t.DelayedAt)),
		})
	case !due:
		reasons = append(reasons, Reason{
			Code: ReasonDelayed, Until: t.DelayedAt, Text: fmt.Sprintf("The task is delayed until %s.", formatMoment(t.DelayedAt)),
		})
	case f.Unpromoted:
		reasons = f.makeLate(ReasonPromoteLate, t.DelayedAt, "The task was due at %s, and was not made ready yet.")
	}
	if r, ok := f.explainExpiry(); ok {
		reasons = append(reasons, r)
	}

	reasons = append(reasons, f.explainGates()...)
	// A task that is not ready cannot be held up by its group or its turn.
	if !due || f.Unpromoted {
		return reasons
	}
	// Without max_lease_losses a lost lease is a failed attempt, and makes no suspect.
	if f.Queue.MaxLeaseLosses > 0 && t.lastErrorKind() == ErrorKindLeaseLost {
		reasons = append(reasons, Reason{
			Code: ReasonSuspect, Text: "The task has lost its lease. It may be what ended its worker, so a worker runs one such task at a time.",
		})
	}
	if r, held := f.explainGroup(); held {
		return append(reasons, r)
	}
	if !f.hasGate() {
		reasons = append(reasons, f.explainTurn()...)
	}
	return reasons
}

// explainExpiry is the reason of a waiting task that expires soon, or before it is due.
func (f Facts) explainExpiry() (Reason, bool) {
	t := f.Task
	r := Reason{Code: ReasonExpires, Until: t.DiesAt, Advice: "Raise the ttl of the queue for later tasks; a retry of the expired task gives it a new ttl."}
	switch {
	case t.DiesAt.IsZero():
		return r, false
	case !t.DiesAt.After(t.DelayedAt):
		r.Text = fmt.Sprintf("The task expires at %s, before it is due.", formatMoment(t.DiesAt))
	case t.DiesAt.Sub(f.Now) < expiresSoon:
		r.Text = fmt.Sprintf("The task expires at %s unless it is finished by then.", formatMoment(t.DiesAt))
	default:
		return r, false
	}
	return r, true
}

// hasGate reports whether the queue gives no task now.
func (f Facts) hasGate() bool { return f.Queue.Paused || f.isFull() || !f.NextStart.IsZero() }

// isFull reports whether as many tasks are retained as the queue allows.
func (f Facts) isFull() bool {
	return f.Queue.Concurrency > 0 && f.Stats.Counts[StatusRetained] >= int64(f.Queue.Concurrency)
}

// explainGates has the reasons for which the queue gives no task now.
func (f Facts) explainGates() []Reason {
	var reasons []Reason
	if f.Queue.Paused {
		reasons = append(reasons, Reason{Code: ReasonPaused, Text: "The queue is paused: nothing is retained from it.", Advice: "Resume the queue."})
	}
	if !f.NextStart.IsZero() {
		reasons = append(reasons, f.explainTime())
	}
	if f.isFull() {
		r := Reason{
			Code: ReasonConcurrency, Hold: f.Oldest,
			Text:   fmt.Sprintf("The number of retained tasks is %d, and the concurrency of the queue is %d.", f.Stats.Counts[StatusRetained], f.Queue.Concurrency),
			Advice: "Wait for a release, look at the oldest hold, or raise the concurrency of the queue.",
		}
		if f.Oldest != nil {
			r.Text += fmt.Sprintf(" The oldest hold began at %s.", formatMoment(f.Oldest.Since))
		}
		reasons = append(reasons, r)
	}
	if !f.ExpiredAt.IsZero() && (f.Task == nil || f.isFull()) { // else it is not in the way of the task
		reasons = append(reasons, f.makeLate(ReasonRescueLate, f.ExpiredAt, "A lease ran out at %s, and its task was not taken back yet.")...)
	}
	return reasons
}

// explainTurn has the reasons of ready tasks of a queue that gives tasks.
func (f Facts) explainTurn() []Reason {
	since := time.Time{}
	if f.Stats.OldestReadyAge > 0 {
		since = f.Now.Add(-f.Stats.OldestReadyAge)
	}

	if f.Oldest == nil {
		return []Reason{{
			Code: ReasonNoHolder, Since: since,
			Text:   fmt.Sprintf("%s, and no worker holds a task of the queue.", describeReady(f.Stats)),
			Advice: "Start a worker that retains from this queue, or look why the present ones do not.",
		}}
	}
	return []Reason{{
		Code: ReasonReady, Since: since, Hold: f.Oldest,
		Text:   fmt.Sprintf("%s. Workers hold %d tasks of the queue; a free one retains the next by priority and turn.", describeReady(f.Stats), f.Stats.Counts[StatusRetained]),
		Advice: "Add workers when the oldest task waits too long.",
	}}
}

// explainQueue has the reasons of a queue.
func (f Facts) explainQueue() []Reason {
	reasons := f.explainGates()
	if f.isPromoteLate() {
		reasons = append(reasons, f.makeLate(ReasonPromoteLate, f.DueAt, "A task was due at %s, and was not made ready yet.")...)
	}

	switch {
	case f.Stats.Ready > 0 && !f.hasGate():
		reasons = append(reasons, f.explainTurn()...)
	// The facts are read one after the other, so a difference of two counts may be below 0 for a moment.
	case f.Stats.Ready <= 0 && f.Stats.Delayed > 0 && !f.isPromoteLate():
		r := Reason{Code: ReasonDelayed, Text: fmt.Sprintf("All waiting tasks (%d) are due later.", f.Stats.Delayed), Until: f.DueAt}
		if !f.DueAt.IsZero() {
			r.Text += fmt.Sprintf(" The first is due at %s.", formatMoment(f.DueAt))
		}
		reasons = append(reasons, r)
	case f.Stats.Ready+f.Stats.Delayed <= 0:
		reasons = append(reasons, Reason{
			Code: ReasonEmpty, Hold: f.Oldest,
			Text: fmt.Sprintf("No task waits in the queue; workers hold %d.", f.Stats.Counts[StatusRetained]),
		})
	}
	return reasons
}

// isPromoteLate reports whether a delayed task of the queue is due.
func (f Facts) isPromoteLate() bool { return !f.DueAt.IsZero() && !f.DueAt.After(f.Now) }

// makeLate returns the reason of background work that was due at a time, and a second one when it is late by BackgroundLate.
func (f Facts) makeLate(code ReasonCode, due time.Time, format string) []Reason {
	reasons := []Reason{{Code: code, Since: due, Text: fmt.Sprintf(format, formatMoment(due))}}
	if late := f.Now.Sub(due); late >= BackgroundLate {
		reasons = append(reasons, Reason{
			Code: ReasonNoBackground, Since: due,
			Text:   fmt.Sprintf("Background work is late by %v: no process does it, or it cannot keep up.", late.Truncate(time.Second)),
			Advice: "See that a server, or a manager with Run, is running, and look at its log and at pgqueue doctor.",
		})
	}
	return reasons
}

// describeReady is the beginning of a sentence about the ready tasks.
func describeReady(s *QueueStats) string {
	if s.OldestReadyAge <= 0 {
		return fmt.Sprintf("%d tasks are ready", s.Ready)
	}
	return fmt.Sprintf("%d tasks are ready, the oldest for %v", s.Ready, s.OldestReadyAge.Truncate(time.Second))
}

// formatMoment formats a time to the second in UTC.
func formatMoment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// WithoutHolds returns e without tasks and workers in its reasons, for callers that may not see tasks.
func (e Explanation) WithoutHolds() Explanation {
	bare := e
	bare.Reasons = make([]Reason, len(e.Reasons))
	for i, r := range e.Reasons {
		r.Hold = nil
		bare.Reasons[i] = r
	}
	return bare
}
