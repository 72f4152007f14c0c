// Package worker is the runtime for task handlers. It works the tasks of any [queue.Consumer]: the manager in process,
// or a client of a server. Handlers see no difference between the two.
//
//	w := worker.New(svc, worker.WithConcurrency(100))
//	w.Handle("mail", worker.Typed(func(ctx context.Context, m Mail) (Receipt, error) { return send(ctx, m) }))
//	err := w.Run(ctx) // until ctx ends and every held task has been released
//
// # Outcomes
//
//	return v, nil                   done; v is the result
//	return nil, err                 failed; tried again while the queue's retries last
//	return nil, Permanent(err)      failed for good
//	return nil, RetryIn(err, d)     failed; tried again after d instead of the queue's backoff
//	return nil, Snooze(d)           not now; again after d, at no cost of an attempt
//	return nil, Cancel(err)         the task ends cancelled
//	return nil, NotStarted(err)     a fault of the worker: handed back, and the worker pauses the queue
//	return nil, Systemic(err)       as err, and other tasks of the queue would fail too: several in a row pause the queue
//
// A panic is a failure with its stack. The worker replaces bytes of a result that cannot be stored, so a task always
// ends.
//
// # End of a handler's context
//
// [context.Cause] returns the reason: [ErrCancelRequested], [ErrDeadline], [ErrLeaseLost] or [ErrDraining]. The worker
// still records the outcome, on a context that has not ended. After ErrLeaseLost it sends none, because the service
// would refuse it. A plain error after ErrDraining hands the task back at no cost of an attempt.
//
// # Retains
//
// A slot pool is a set of queues that share slots. All queues without a [Concurrency] of their own share one pool; each
// other queue has its own. A pool retains again as soon as it can take a batch of useful size. It also retains when a
// slot is free and no other retain is under way. With a backlog, a pool holds more tasks than it has slots: as many as
// it starts within two round trips, or within 50 ms when that is longer. It measures the run times for this. Goroutines
// exist only while there is a task to run.
//
// # Order
//
// A FIFO queue with batches gives several tasks of a group at once (queue.Lease.InOrder). The worker runs them one after the
// other, at any concurrency: a task begins when the handler of the one before it has succeeded, in the same slot. When one ends
// otherwise, or its lease is lost, the worker hands back the rest of its group. Tasks that wait so take no slot.
//
// # Profiles
//
// The goroutine of a handler, and those that it starts, have the label pgqueue.queue with the name of the queue. A profile
// of the CPU then answers which queue uses it: go tool pprof -tagfocus pgqueue.queue=mail.
//
// The package imports the standard library only. Its API is stable.
package worker
