package queue

import "slices"

// Status is where a task is in its life.
type Status string

// The statuses of the contract, section 4.
const (
	// StatusNew waits, also when delayed.
	StatusNew Status = "new"
	// StatusRetry failed before and waits for its backoff.
	StatusRetry Status = "retry"
	// StatusRetained is held by a worker under a lease.
	StatusRetained Status = "retained"
	// StatusReleased succeeded.
	StatusReleased Status = "released"
	// StatusFailed is out of retries, or failed for good.
	StatusFailed Status = "failed"
	// StatusExpired passed its ttl before it was finished.
	StatusExpired Status = "expired"
	// StatusCancelled was cancelled.
	StatusCancelled Status = "cancelled"
)

// Statuses lists every status in the order of a task's life.
func Statuses() []Status {
	return []Status{
		StatusNew, StatusRetry, StatusRetained, StatusReleased, StatusFailed, StatusExpired, StatusCancelled,
	}
}

// Waiting says that the task may still be retained: new or retry.
func (s Status) Waiting() bool { return s == StatusNew || s == StatusRetry }

// Finished says that only an operator's retry, or retention, moves the task from here.
func (s Status) Finished() bool {
	return s == StatusReleased || s == StatusFailed || s == StatusExpired || s == StatusCancelled
}

// Valid says that s is one of the seven.
func (s Status) Valid() bool { return s.Waiting() || s == StatusRetained || s.Finished() }

// Move is what moves a task from one status to another.
type Move string

// The moves of the contract's table, section 4.
const (
	MoveCreate    Move = "create"
	MoveRetain    Move = "retain"
	MoveRelease   Move = "release"       // the holder reports success
	MoveFail      Move = "fail"          // the holder reports failure
	MoveHandBack  Move = "handback"      // the holder gives the task back unstarted
	MoveSnooze    Move = "snooze"        // the holder gives it back with a delay
	MoveLeaseLost Move = "lease_expired" // the lease ran out (rescue)
	MoveExpire    Move = "expire"        // dies_at passed
	MoveCancel    Move = "cancel"
	MoveRetry     Move = "retry" // an operator's
	MovePrune     Move = "prune" // retention passed
)

// isReport reports whether the holder of a task makes the move.
func (m Move) isReport() bool {
	return m == MoveRelease || m == MoveFail || m == MoveHandBack || m == MoveSnooze
}

// Transition is one row of the lifecycle: in From, Move may lead to To; When says under which condition.
type Transition struct {
	From Status // "" before create
	Move Move
	To   Status // "" after prune
	When string
}

//go:generate go run ../internal/lifecycledoc ../../docs/lifecycle.md

// Transitions is the lifecycle of a task, the single source of every other description: the rules in lifecycle.go are held to
// it by a test over all pairs, the stores by the conformance suite, and docs/lifecycle.md is generated from it.
// A (From, Move) pair that is not here is refused with ErrConflict and changes nothing.
func Transitions() []Transition { return slices.Clone(transitions) }

// transitions is never changed. Every move of every task looks into it.
var transitions = buildTransitions()

func buildTransitions() []Transition {
	const (
		due     = "due, not expired, queue not paused, under its concurrency"
		left    = "retries left"
		none    = "no retries left, or permanent"
		asked   = "a cancel was requested"
		held    = "right token"
		ranOut  = "dies_at passed"
		pruneIf = "retention passed"
	)
	t := []Transition{
		{"", MoveCreate, StatusNew, ""},
		{StatusNew, MoveRetain, StatusRetained, due},
		{StatusRetry, MoveRetain, StatusRetained, due},
		{StatusRetained, MoveRelease, StatusReleased, held},
		{StatusRetained, MoveRelease, StatusCancelled, asked},
		{StatusRetained, MoveFail, StatusRetry, left},
		{StatusRetained, MoveFail, StatusFailed, none},
		{StatusRetained, MoveFail, StatusCancelled, asked},
		{StatusRetained, MoveHandBack, StatusNew, "no attempt failed before"},
		{StatusRetained, MoveHandBack, StatusRetry, "an attempt failed before"},
		{StatusRetained, MoveHandBack, StatusCancelled, asked},
		{StatusRetained, MoveSnooze, StatusNew, "no attempt failed before"},
		{StatusRetained, MoveSnooze, StatusRetry, "an attempt failed before"},
		{StatusRetained, MoveSnooze, StatusCancelled, asked},
		{StatusRetained, MoveLeaseLost, StatusRetry, left},
		{StatusRetained, MoveLeaseLost, StatusFailed, "no retries left, or max_lease_losses reached"},
		{StatusRetained, MoveLeaseLost, StatusExpired, ranOut},
		{StatusRetained, MoveLeaseLost, StatusCancelled, asked},
		{StatusNew, MoveExpire, StatusExpired, ranOut},
		{StatusRetry, MoveExpire, StatusExpired, ranOut},
		{StatusNew, MoveCancel, StatusCancelled, ""},
		{StatusRetry, MoveCancel, StatusCancelled, ""},
		{StatusRetained, MoveCancel, StatusRetained, "the holder is asked; the task ends cancelled when the holder releases it or the lease runs out"},
	}

	for _, s := range []Status{StatusReleased, StatusFailed, StatusExpired, StatusCancelled} {
		t = append(t,
			Transition{s, MoveRetry, StatusNew, "attempts start again"},
			Transition{s, MovePrune, "", pruneIf})
	}

	return t
}

// Allowed reports whether the lifecycle has a row for (from, move).
func Allowed(from Status, move Move) bool {
	for _, t := range transitions {
		if t.From == from && t.Move == move {
			return true
		}
	}
	return false
}
