package queue

import (
	"context"
	"errors"
	"slices"
	"time"
)

// HandBackTimeout bounds HandBack. Tasks that are not back by then come back when their leases run out.
const HandBackTimeout = 10 * time.Second

// Pauses of HandBack before it tries tasks again that another transaction has locked.
const (
	firstHandBackPause = 20 * time.Millisecond
	mostHandBackPause  = 500 * time.Millisecond
)

// HandBack gives back, at no cost of an attempt, retained tasks that could not be delivered. It carries on when ctx is
// over, because that is often why they could not, and tries those again that another transaction has locked. The error says
// that some of them stay held until their leases run out.
func HandBack(ctx context.Context, consumer Consumer, tasks []*Task) error {
	if len(tasks) == 0 {
		return nil
	}

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
		if err := releaseUnlocked(ctx, consumer, back); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// releaseUnlocked releases, and repeats those releases that another transaction keeps from happening, until ctx ends.
func releaseUnlocked(ctx context.Context, consumer Consumer, releases []Release) error {
	for pause := firstHandBackPause; ; pause = min(2*pause, mostHandBackPause) {
		released, err := consumer.ReleaseTasks(ctx, releases)
		if err != nil {
			return err
		}

		var locked []Release
		for i, r := range released {
			if KindOf(r.Err) == KindUnavailable { // Locked, also after its way over a wire: nothing was changed
				locked, err = append(locked, releases[i]), r.Err
			}
		}
		if len(locked) == 0 {
			return nil
		}
		releases = locked

		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
