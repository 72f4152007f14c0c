// Package memory is the queue's Store in Go maps: the executable specification of what every other store does,
// and the store of unit tests and examples. It keeps nothing when the process ends.
//
// Every method is one step under one mutex. The pure rules of package queue decide the moves of a task
// alone (Queue.Born, Queue.Moved, Schedule.Due); this package keeps the results where they are found fast: ready,
// delayed, leased and finished tasks in heaps, so that no hot path scans.
//
// Like every Store it does nothing by itself: delayed tasks become ready, leases run out and tickers fire when
// a caller calls Maintain.
//
//	store := memory.New()                            // the process's clock
//	store := memory.New(memory.WithClock(clock.Now)) // a test's
package memory
