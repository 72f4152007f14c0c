package queue

import (
	"fmt"
	"time"
)

// Life is the part of a task that moves.
type Life struct {
	Status  Status
	Attempt int
	Retries int
	// DelayedAt: not before this; zero = at once.
	DelayedAt time.Time
	// DiesAt: expires when not finished by then; zero = never.
	DiesAt time.Time
	// FinishedAt is set when Status is finished.
	FinishedAt time.Time
	// CancelRequested: the holder was asked to stop.
	CancelRequested bool
	// Losses counts the lost leases in a row since a worker released the task last. Stores keep it beside the task. A small type: a
	// life of more bytes costs the maps of stores an allocation for each task.
	Losses int16
}

// IsSuspect reports whether the task has lost its lease and no worker has released it since.
func (l Life) IsSuspect() bool { return l.Losses > 0 }

// Life is the moving part of t.
func (t *Task) Life() Life {
	return Life{
		Status: t.Status, Attempt: t.Attempt, Retries: t.Retries, DelayedAt: t.DelayedAt, DiesAt: t.DiesAt,
		FinishedAt: t.FinishedAt, CancelRequested: t.CancelRequested,
	}
}

// SetLife puts l into t.
func (t *Task) SetLife(l Life) {
	t.Status, t.Attempt, t.Retries = l.Status, l.Attempt, l.Retries
	t.DelayedAt, t.DiesAt, t.FinishedAt, t.CancelRequested = l.DelayedAt, l.DiesAt, l.FinishedAt, l.CancelRequested
}

// Circumstances are what a move depends on beside the life itself.
type Circumstances struct {
	// Now by the database's clock.
	Now time.Time
	// Permanent makes a failure final.
	Permanent bool
	// ErrorKind of a failure; "" = none.
	ErrorKind string
	// Delay of a create or a snooze; of a failure, instead of the backoff when above 0.
	Delay time.Duration
	// Jitter of the backoff: a random number in [0, 1).
	Jitter float64
}

// Born is the life of a new task in q: due at delayedAt, or at once when that is zero or past.
func (q *Queue) Born(now, delayedAt time.Time) Life {
	due := now
	if delayedAt.After(now) {
		due = delayedAt
	}
	l := Life{Status: StatusNew, Retries: q.Retries, DelayedAt: delayedAt}
	if q.TTL > 0 {
		l.DiesAt = due.Add(q.TTL)
	}
	return l
}

// Moved is l after move, or an error of KindConflict where the lifecycle has no such row; then nothing has changed.
// It mirrors Transitions row by row; retain's other conditions (paused, concurrency) are the store's to check.
func (q *Queue) Moved(l Life, move Move, c Circumstances) (Life, error) {
	if !Allowed(l.Status, move) || !isTimeFor(l, move, c.Now) {
		return l, statusConflict(l.Status, move)
	}

	// A worker that reports is alive, so the task has not ended it: the count of losses in a row starts again.
	if move.isReport() {
		l.Losses = 0
	}
	switch move {
	case MoveRetain:
		l.Status = StatusRetained
		// Lost leases cost no retry, so nothing else bounds the count: the column must not overflow.
		l.Attempt = min(l.Attempt+1, MaxAttempt)
	case MoveRelease:
		l = l.finishLife(StatusReleased, c.Now)
	case MoveFail:
		l = q.failAttempt(l, c)
	case MoveHandBack:
		l = l.returnUnstarted(time.Time{}, c.Now)
	case MoveSnooze:
		l = l.returnUnstarted(c.Now.Add(c.Delay), c.Now)
	case MoveLeaseLost:
		l = q.loseLease(l, c)
	case MoveExpire:
		l = l.finishLife(StatusExpired, c.Now)
	case MoveCancel:
		// Only the holder may end a held task. It learns of the request with its next heartbeat.
		if l.Status == StatusRetained {
			l.CancelRequested = true
			return l, nil
		}
		l = l.finishLife(StatusCancelled, c.Now)
	case MoveRetry:
		l = q.Born(c.Now, time.Time{})
	case MoveCreate, MovePrune: // not a move of a living task
		return l, statusConflict(l.Status, move)
	}

	return l, nil
}

// isTimeFor reports whether the times of l allow move at now.
func isTimeFor(l Life, move Move, now time.Time) bool {
	switch move {
	case MoveRetain:
		return !now.Before(l.DelayedAt) && !Expired(l, now)
	case MoveExpire:
		return Expired(l, now)
	default:
		return true
	}
}

// Expired says that l's ttl is over at now.
func Expired(l Life, now time.Time) bool { return !l.DiesAt.IsZero() && !now.Before(l.DiesAt) }

func (q *Queue) loseLease(l Life, c Circumstances) Life {
	// A task that a cancel has named ends as cancelled below, also after its ttl.
	if Expired(l, c.Now) && !l.CancelRequested {
		return l.finishLife(StatusExpired, c.Now)
	}

	// No worker reported this failure, so it is neither permanent nor delayed by choice.
	c.Permanent, c.ErrorKind, c.Delay = false, "", 0
	if q.MaxLeaseLosses > 0 {
		return q.countLoss(l, c)
	}
	l.Losses = 0
	return q.failAttempt(l, c)
}

func (q *Queue) failAttempt(l Life, c Circumstances) Life {
	if l.CancelRequested || q.isFinal(c) || l.Retries == 0 {
		return l.finishLife(StatusFailed, c.Now)
	}
	delay := c.Delay
	if delay == 0 {
		delay = q.Backoff.Delay(q.RetryDelay, q.RetryMaxDelay, l.Attempt, c.Jitter)
	}
	l.Status = StatusRetry
	l.Retries--
	l.DelayedAt = c.Now.Add(delay)
	return l
}

// returnUnstarted ends a hold as if it had not been: the attempt does not count.
func (l Life) returnUnstarted(delayedAt, now time.Time) Life {
	if l.CancelRequested {
		return l.finishLife(StatusCancelled, now)
	}
	l.Attempt--
	l.Status = StatusNew
	if l.Attempt > 0 {
		l.Status = StatusRetry
	}
	l.DelayedAt = delayedAt
	return l
}

// finishLife ends the life; where a cancel was requested it ends cancelled, whichever outcome the worker reports.
func (l Life) finishLife(s Status, now time.Time) Life {
	if l.CancelRequested {
		s = StatusCancelled
	}
	l.Status, l.FinishedAt, l.CancelRequested = s, now, false
	return l
}

func statusConflict(from Status, move Move) error {
	return &Error{Kind: KindConflict, Msg: fmt.Sprintf("a task that is %s cannot %s; read the task again", from, describeMove(move))}
}

func describeMove(m Move) string {
	switch m {
	case MoveRetain:
		return "be retained"
	case MoveRelease, MoveFail:
		return "be released"
	case MoveHandBack:
		return "be handed back"
	case MoveSnooze:
		return "be snoozed"
	case MoveCancel:
		return "be cancelled"
	case MoveRetry:
		return "be retried"
	case MoveCreate, MoveLeaseLost, MoveExpire, MovePrune:
	}

	return string(m)
}
