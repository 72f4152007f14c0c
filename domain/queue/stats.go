package queue

import "time"

// QueueStats is how a queue is doing. It is kept, not counted: reading it scans no tasks.
type QueueStats struct {
	Namespace string
	Queue     string
	// Counts of tasks by status; every status is there.
	Counts map[Status]int64
	// Ready is how many waiting tasks could be retained now, Delayed how many are waiting for their time.
	Ready   int64
	Delayed int64
	// GroupWaiting is how many are due and wait for a limit of their group.
	GroupWaiting int64
	// OldestReadyAge is how long the task that is ready the longest has been so; 0 when none is.
	OldestReadyAge time.Duration
	// CreatedPerSecond and FinishedPerSecond over the last minute.
	CreatedPerSecond  float64
	FinishedPerSecond float64
	Paused            bool
	// Concurrency is the most tasks that may be retained at once; 0 = no limit.
	Concurrency int
	// PausedUntil is the end of a pause that ends by itself; zero = there is none now.
	PausedUntil time.Time
	// StartsPerSecond is the most tasks that may start a second by the rate limit of the queue, its burst apart; 0 = no limit.
	StartsPerSecond float64
}

// Worker is a process that holds tasks now.
type Worker struct {
	Name string
	// Held is how many tasks it holds.
	Held int64
	// Since is when it retained the one it has held the longest.
	Since time.Time
	// Queues of the held tasks, sorted: the first MaxWorkerQueues of them.
	Queues []string
	// QueueCount is how many queues the held tasks are of.
	QueueCount int
	// ExpiresAt is when the first of its leases runs out.
	ExpiresAt time.Time
}

// Bytes is about how many bytes w takes in an answer.
func (w Worker) Bytes() int {
	n := taskFrame + TextBytes(w.Name)
	for _, name := range w.Queues {
		n += len(name) + 3
	}
	return n
}

// Bytes is about how many bytes s takes in an answer.
func (s *QueueStats) Bytes() int { return RowBytes }

// QueuePage is a page of queues.
type QueuePage struct {
	Queues []*Queue
	Count  int64
	// Next is the cursor of the next page, "" at the end, and only there.
	Next string
}
