package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/retry"
)

// HandBackTimeout bounds HandBack. Tasks that are not back by then come back when their leases run out.
const HandBackTimeout = 10 * time.Second

// The pauses of HandBack before it repeats releases that were not possible.
const (
	firstHandBackPause = 20 * time.Millisecond
	mostHandBackPause  = 500 * time.Millisecond
)

// Releaser is the part of a Consumer that HandBack needs.
type Releaser interface {
	ReleaseTasks(ctx context.Context, releases []Release) ([]Released, error)
}

// HandBack gives back, at no cost of an attempt, retained tasks that could not be delivered. It carries on when ctx is
// over, because that is often why they could not. It repeats what fails by a passing fault, as while another transaction has
// locked a task, the pool is full or the database restarts, and with KindIndeterminate: a second hand back of the same token
// changes nothing. The error says that some of them stay held until their leases run out.
func HandBack(ctx context.Context, consumer Releaser, tasks []*Task) error {
	if len(tasks) == 0 {
		return nil
	}

	// The caller is often gone already, and the tasks must come back all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), HandBackTimeout)
	defer cancel()

	var errs []error
	for part := range slices.Chunk(tasks, MaxBatch) {
		back := make([]Release, 0, len(part))
		for _, t := range part {
			if t != nil && t.Lease != nil { // without its token it could be another's hold by now
				back = append(back, Release{ID: t.ID, Token: t.Lease.Token, Outcome: OutcomeHandBack, Quiet: true})
			}
		}
		if err := repeatReleases(ctx, consumer, back); err != nil {
			errs = append(errs, err)
		}
	}

	return errors.Join(errs...)
}

// WithoutLarge takes those of the retained tasks out that are larger than r allows, and hands them back, with those that come
// behind them in order. When no other is left it fails with KindTooLarge.
func (r RetainRequest) WithoutLarge(ctx context.Context, consumer Consumer, tasks []*Task) ([]*Task, error) {
	isLarge := func(t *Task) bool { return r.MaxTaskBytes > 0 && t.Bytes() > r.MaxTaskBytes }
	first := slices.IndexFunc(tasks, isLarge)
	if first < 0 {
		return tasks, nil
	}

	var fit, large []*Task
	for _, t := range tasks {
		// In a FIFO batch a task must not run before one that went back.
		if isLarge(t) || t.isBehind(large) {
			large = append(large, t)
		} else {
			fit = append(fit, t)
		}
	}

	err := HandBack(ctx, consumer, large)
	if len(fit) > 0 {
		return fit, nil // the leases of tasks that are not back end by themselves
	}
	t := tasks[first]
	return nil, &Error{
		Kind: KindTooLarge, Subject: fmt.Sprintf("task %d of queue %s", t.ID, t.Queue), Field: "max_task_bytes",
		Msg: fmt.Sprintf("must be at least the %d bytes of the task, got %d; raise the limit of the client's messages",
			t.Bytes(), r.MaxTaskBytes),
		Err: err,
	}
}

// isBehind reports whether t must not run before one of the tasks of its answer.
func (t *Task) isBehind(tasks []*Task) bool {
	return t.Lease != nil && t.Lease.InOrder &&
		slices.ContainsFunc(tasks, func(first *Task) bool { return first.Queue == t.Queue && first.Group == t.Group })
}

// repeatReleases releases, and repeats those releases that are not possible now, until ctx ends.
func repeatReleases(ctx context.Context, consumer Releaser, releases []Release) error {
	for pause := firstHandBackPause; ; pause = min(2*pause, mostHandBackPause) {
		released, err := consumer.ReleaseTasks(ctx, releases)
		if len(released) == len(releases) {
			err = nil // each release has its own answer
		}
		// A refusal, as of a denied caller, would come again: the leases run out instead.
		if err != nil && !canRepeatRelease(err) {
			return err
		}

		// A call that failed as a whole repeats all; else the elements that failed for a passing cause repeat.
		var left []Release
		if err != nil {
			left = releases
		}
		for i, r := range released {
			if canRepeatRelease(r.Err) {
				left, err = append(left, releases[i]), r.Err
			}
		}
		if len(left) == 0 {
			return nil
		}
		releases = left

		if !retry.Sleep(ctx, pause) {
			return err
		}
	}
}

// isPassing reports whether a call failed before its commit for a cause that passes: the database or a pooler is not
// reachable, a failover, a full pool, a lock, or a timeout that is shorter than the deadline of the caller.
func isPassing(err error) bool {
	kind := KindOf(err)
	return kind == KindUnavailable || kind == KindDeadline
}

// canRepeatRelease says that the same hand back may succeed later and does no harm.
func canRepeatRelease(err error) bool { return isPassing(err) || KindOf(err) == KindIndeterminate }
