package queue

import (
	"context"
	"errors"
	"slices"
	"time"
)

// HandBackTimeout bounds HandBack. Tasks that are not back by then come back when their leases run out.
const HandBackTimeout = 10 * time.Second

// HandBack gives back, at no cost of an attempt, retained tasks that could not be delivered. It carries on when ctx is
// over, because that is often why they could not. The error says that some of them stay held until their leases run out.
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
		if _, err := consumer.ReleaseTasks(ctx, back); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
