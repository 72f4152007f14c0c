// Package worker is the runtime that people write handlers for. It works tasks over any [queue.Consumer]: the manager
// in process, or a client of a server; the handlers do not see the difference.
//
//	w := worker.New(svc, worker.WithConcurrency(100))
//	w.Handle("mail", worker.Typed(func(ctx context.Context, m Mail) (Receipt, error) { return send(ctx, m) }))
//	err := w.Run(ctx) // until ctx ends and everything held has been ended or handed back
//
// # What a handler's return says
//
//	return v, nil                   done; v is the result
//	return nil, err                 failed; tried again while the queue's retries last
//	return nil, Permanent(err)      failed for good
//	return nil, RetryIn(err, d)     failed; tried again after d instead of the queue's backoff
//	return nil, Snooze(d)           not now; again after d, at no cost of an attempt
//	return nil, Cancel(err)         the task ends cancelled
//	return nil, NotStarted(err)     the worker's own trouble: handed back, and the worker rests from the queue
//	return nil, Systemic(err)       as err, and the queue's other tasks would fail alike: after some the worker rests
//
// A panic is a failure with its stack. Odd bytes in a result are made storable, never a reason for a task not to end.
//
// # When a handler's context ends
//
// [context.Cause] says why: [ErrCancelRequested], [ErrDeadline], [ErrLeaseLost] or [ErrDraining]. The outcome is
// recorded all the same (not after ErrLeaseLost, when it would be refused), and never on the context that ended. A
// plain error after ErrDraining hands the task back at no cost of an attempt.
//
// # How it keeps busy
//
// A lane is a set of queues that share slots: all queues that have no [Concurrency] of their own share one, each other
// queue has its own. A lane retains again as soon as a sensible batch has room, or a slot is free and nothing is on
// its way; with a backlog it also holds tasks beyond its slots, as many as it starts within about two round trips, or
// 50 ms when that is longer, by the run times it measures. Goroutines exist only while there is a task to run.
//
// The package imports the standard library only. It is API.
package worker
