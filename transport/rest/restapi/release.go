package restapi

import (
	"encoding/json"
	"errors"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Release ends the lease of a task. Fail and result are the predecessor's.
type Release struct {
	ID          int64           `json:"id,omitempty" doc:"The task; of a release of many only" example:"1"`
	Fail        *bool           `json:"fail,omitempty" doc:"True for a failure" example:"false"`
	Result      json.RawMessage `json:"result,omitempty" doc:"The result of a success or the error of a failure, any JSON" example:"{\"sent\":true}"`
	Token       *int64          `json:"token,omitempty" doc:"The lease's token; without it, that of the present holder" example:"7"`
	Permanent   *bool           `json:"permanent,omitempty" doc:"Fail for good, whatever retries are left" example:"false"`
	RetryIn     *Duration       `json:"retry_in,omitempty" doc:"The delay of the retry instead of the backoff" example:"30s"`
	Outcome     string          `json:"outcome,omitempty" enum:"success,failure,permanent,handback,snooze" doc:"Instead of fail and permanent, all a holder can say; a snooze lasts retry_in" example:"success"`
	ErrorKind   string          `json:"error_kind,omitempty" doc:"The kind of a failure's error, at most 64 bytes" example:"invalid_input"`
	Fingerprint string          `json:"fingerprint,omitempty" doc:"Of a failure, a name that groups it with others in place of its error, at most 128 bytes" example:"card-declined"`
	Scope       string          `json:"scope,omitempty" enum:"task,group,queue" doc:"What waits for retry_in: the task alone, its group, or its queue; task is the default" example:"task"`
}

// ListName is the name of a list of releases in errors.
func (Release) ListName() string { return "releases" }

// ReleaseOf converts r for the wire.
func ReleaseOf(r queue.Release) Release {
	out := Release{ID: r.ID, Result: r.Result, Outcome: string(r.Outcome), RetryIn: durationOrNil(r.Delay), Scope: string(r.Scope), ErrorKind: r.ErrorKind, Fingerprint: r.Fingerprint}
	if r.Token != 0 {
		out.Token = &r.Token
	}
	return out
}

// DropNulls makes null absent.
func (r *Release) DropNulls() { dropNullValue(&r.Result) }

// Domain returns the release that r asks for.
func (r Release) Domain() (queue.Release, error) {
	out := queue.Release{ID: r.ID, Result: r.Result, Scope: queue.Scope(r.Scope), ErrorKind: r.ErrorKind, Fingerprint: r.Fingerprint}
	if r.Token != nil {
		if *r.Token == 0 {
			return out, queue.Invalid("token", "must be above 0, got 0; leave it out for the present lease")
		}
		out.Token = *r.Token
	}

	var err error
	if out.Outcome, err = r.chooseOutcome(); err != nil {
		return out, err
	}
	if out.Delay, err = r.RetryIn.valueOrZero("retry_in"); err != nil {
		return out, err
	}

	if out.Delay > 0 && out.Outcome != queue.OutcomeFailure && out.Outcome != queue.OutcomeSnooze {
		return out, queue.Invalid("retry_in", "must come with a snooze or a failure that is retried; leave it out")
	}

	return out, nil
}

// chooseOutcome returns the given outcome, or that of fail and permanent. Without any of them a release is a success.
func (r Release) chooseOutcome() (queue.Outcome, error) {
	fail, permanent := r.Fail != nil && *r.Fail, r.Permanent != nil && *r.Permanent
	switch {
	case r.Outcome != "" && (r.Fail != nil || r.Permanent != nil):
		return "", queue.Invalid("outcome", "must not come with fail or permanent; leave one out")
	case r.Outcome != "":
		return queue.Outcome(r.Outcome), nil
	case permanent && !fail:
		return "", queue.Invalid("permanent", "must come with fail; give fail too")
	case permanent:
		return queue.OutcomePermanent, nil
	case fail:
		return queue.OutcomeFailure, nil
	}
	return queue.OutcomeSuccess, nil
}

// Released answers one release of many.
type Released struct {
	Task  *Task    `json:"task,omitempty" doc:"The task as it is after it"`
	Error *Problem `json:"error,omitempty" doc:"Why it was not released"`
}

// ReleasedOf converts r for the wire.
func ReleasedOf(r queue.Released) Released {
	if r.Err != nil {
		p := ProblemOf(r.Err)
		return Released{Error: &p}
	}
	t := TaskOf(r.Task)
	return Released{Task: &t}
}

// Domain returns the answer as a value of the domain. op names the operation in errors.
func (r Released) Domain(op string) queue.Released {
	switch {
	case r.Error != nil:
		return queue.Released{Err: r.Error.Err(op)}
	case r.Task == nil:
		return queue.Released{Err: Incomplete(op)}
	}
	return queue.Released{Task: r.Task.Domain()}
}

// Heartbeat extends a lease.
type Heartbeat struct {
	ID       int64           `json:"id,omitempty" doc:"The task; of many heartbeats only" example:"1"`
	Token    int64           `json:"token" doc:"The lease's token" example:"7"`
	Lease    *Duration       `json:"lease,omitempty" doc:"From now on, may shorten; absent = the granted length" example:"5m"`
	Progress json.RawMessage `json:"progress,omitempty" doc:"Kept with the task, any JSON; absent = as it is" example:"{\"percent\":40}"`
}

// ListName is the name of a list of heartbeats in errors.
func (Heartbeat) ListName() string { return "heartbeats" }

// HeartbeatOf converts h for the wire.
func HeartbeatOf(h queue.Heartbeat) Heartbeat {
	return Heartbeat{ID: h.ID, Token: h.Token, Lease: durationOrNil(h.Lease), Progress: h.Progress}
}

// DropNulls makes null absent.
func (h *Heartbeat) DropNulls() { dropNullValue(&h.Progress) }

// Domain returns the heartbeat that h asks for.
func (h Heartbeat) Domain() (queue.Heartbeat, error) {
	lease, err := h.Lease.valueOrZero("lease")
	return queue.Heartbeat{ID: h.ID, Token: h.Token, Lease: lease, Progress: h.Progress}, err
}

// Beat answers a heartbeat.
type Beat struct {
	Lease           *Lease   `json:"lease,omitempty" doc:"The lease as it is now"`
	CancelRequested bool     `json:"cancel_requested,omitempty" doc:"Stop: release the task with any outcome and it ends cancelled" example:"false"`
	Error           *Problem `json:"error,omitempty" doc:"Why the lease was not extended; of many heartbeats only"`
}

// BeatOf converts b for the wire.
func BeatOf(b queue.Beat) Beat {
	if b.Err != nil {
		p := ProblemOf(b.Err)
		return Beat{Error: &p}
	}
	l := LeaseOf(b.Lease)
	return Beat{Lease: &l, CancelRequested: b.CancelRequested}
}

// Domain returns the answer as a value of the domain. op names the operation in errors.
func (b Beat) Domain(op string) queue.Beat {
	switch {
	case b.Error != nil:
		return queue.Beat{Err: b.Error.Err(op)}
	case b.Lease == nil:
		return queue.Beat{Err: Incomplete(op)}
	}
	return queue.Beat{Lease: b.Lease.Domain(), CancelRequested: b.CancelRequested}
}

// Snooze hands a task back with a delay.
type Snooze struct {
	Token *int64    `json:"token,omitempty" doc:"The lease's token; without it, that of the present holder" example:"7"`
	Delay *Duration `json:"delay" doc:"When it is available again, from now" example:"30s"`
}

// Domain returns the release that s asks for.
func (s Snooze) Domain() (queue.Release, error) {
	r, err := Release{Token: s.Token, RetryIn: s.Delay, Outcome: string(queue.OutcomeSnooze)}.Domain()
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Field == "retry_in" {
		return r, queue.Invalid("delay", e.Msg)
	}
	return r, err
}

// HandBack hands an unstarted task back.
type HandBack struct {
	Token *int64 `json:"token,omitempty" doc:"The lease's token; without it, that of the present holder" example:"7"`
}

// Domain returns the release that h asks for.
func (h HandBack) Domain() (queue.Release, error) {
	return Release{Token: h.Token, Outcome: string(queue.OutcomeHandBack)}.Domain()
}
