package memory

import (
	"bytes"
	"cmp"
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// HeartbeatTasks extends leases, one after the other; one that ran out is good until the task has been rescued.
func (s *Store) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	out := make([]queue.Beat, len(beats))
	for i, h := range beats {
		out[i] = s.extendLease(namespace, h, now)
	}
	return out, nil
}

func (s *Store) extendLease(namespace string, h queue.Heartbeat, now time.Time) queue.Beat {
	r, err := s.findTask(namespace, h.ID, now)
	if err != nil {
		return queue.Beat{Err: err}
	}

	if r.task.Status != queue.StatusRetained || r.lease.Token != h.Token {
		return queue.Beat{Err: errLeaseLost(h.ID)}
	}

	// A heartbeat without a length repeats the last one, and never makes a lease shorter.
	end := now.Add(cmp.Or(h.Lease, r.lease.Duration))
	if h.Lease == 0 && r.lease.ExpiresAt.After(end) {
		end = r.lease.ExpiresAt
	}

	// The heap is ordered by ExpiresAt, so the task must be out of it while that changes.
	s.leased.removeItem(r)
	r.lease.ExpiresAt, r.lease.Duration = end, cmp.Or(h.Lease, r.lease.Duration)
	s.leased.pushItem(r)
	if len(h.Progress) > 0 {
		r.task.Progress = bytes.Clone(h.Progress)
		s.recordEvent(r, queue.EventProgress, r.task.Worker, now)
	}

	return queue.Beat{Lease: r.lease, CancelRequested: r.task.CancelRequested}
}

// ReleaseTasks ends holds; a lease that ran out is good until the task has been rescued.
func (s *Store) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	out := make([]queue.Released, len(releases))
	contents := contentBytes{}
	for i, rel := range releases {
		r, replayed, err := s.releaseTask(namespace, rel, now)
		if err != nil {
			out[i].Err = err
			continue
		}
		t := r.copyTask()
		if rel.Quiet {
			t = t.WithoutContent()
			t.Key = ""
		} else {
			t = contents.boundContent(rel.Call, t)
		}
		out[i].Task, out[i].Replayed = t, replayed
	}

	return out, nil
}

// contentBytes counts, by call, the bytes of tasks in an answer.
type contentBytes map[int]int

// boundContent is t without its content when the tasks of its call have more than queue.MaxPageBytes with it; the first keeps it.
func (c contentBytes) boundContent(call int, t *queue.Task) *queue.Task {
	before := c[call]
	if c[call] += t.Bytes(); before > 0 && c[call] > queue.MaxPageBytes {
		return t.WithoutContent()
	}
	return t
}

// releaseTask ends one hold; replayed says that it had ended so already.
func (s *Store) releaseTask(namespace string, rel queue.Release, now time.Time) (r *record, replayed bool, err error) {
	r, err = s.findTask(namespace, rel.ID, now)
	if err != nil {
		return nil, false, err
	}

	// A release without a token ends the present lease: the predecessor's clients send none.
	if rel.Token != 0 {
		switch held := r.task.Status == queue.StatusRetained; {
		case held && rel.Token == r.lease.Token:
		case !held && rel.Token == r.releasedToken:
			return r, true, nil // a repeat of an accepted release
		default:
			return nil, false, errLeaseLost(rel.ID)
		}
	}

	err = s.moveTask(r, rel.Outcome.Move(), queue.Circumstances{
		Now: now, Permanent: rel.Outcome == queue.OutcomePermanent, ErrorKind: rel.ErrorKind,
		Delay: rel.Delay, Jitter: s.jitter(),
	})
	if err != nil {
		return nil, false, err
	}

	// After the move: a release that is refused pauses nothing.
	if rel.Delay > 0 {
		s.pauseFor(r, rel.Scope, now.Add(rel.Delay))
	}

	// A repeat of this release finds the token, and gets the same answer.
	r.releasedToken = r.lease.Token
	kind := queue.EventReturned
	switch rel.Outcome {
	case queue.OutcomeFailure, queue.OutcomePermanent:
		r.appendAttemptError(queue.AttemptError{Error: rel.Result, Kind: rel.ErrorKind, Fingerprint: rel.Fingerprint}, now)
		fallthrough
	case queue.OutcomeSuccess:
		r.task.Result = nil
		if len(rel.Result) > 0 {
			r.task.Result = bytes.Clone(rel.Result)
		}
		kind = queue.EventKind(r.task.Status)
	case queue.OutcomeHandBack, queue.OutcomeSnooze:
		if r.task.Status == queue.StatusCancelled {
			kind = queue.EventCancelled
		}
	}

	s.recordEvent(r, kind, r.task.Worker, now)
	s.writeDeadLetter(r, rel.ErrorKind, now)
	return r, false, nil
}

func errLeaseLost(id int64) error {
	return &queue.Error{
		Kind: queue.KindLeaseLost, Subject: taskSubject(id), Msg: "the token must be that of the present lease; another worker may hold the task",
	}
}
