package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Worker is a worker that holds tasks at present.
type Worker struct {
	Worker     string    `json:"worker" doc:"The worker's name" example:"w1"`
	Held       int64     `json:"held" doc:"How many tasks it holds" example:"2"`
	Since      time.Time `json:"since" doc:"When it retained the one it has held the longest" example:"2026-01-02T15:04:05Z"`
	Queues     []string  `json:"queues" doc:"The first 1000 queues of the held tasks by name" example:"[\"mail\"]"`
	QueueCount int       `json:"queue_count,omitempty" doc:"How many queues the held tasks are of, where that is more than the list has" example:"1200"`
	ExpiresAt  time.Time `json:"expires_at" doc:"When the first of its leases runs out" example:"2026-01-02T15:09:05Z"`
}

// WorkerOf converts w for the wire.
func WorkerOf(w queue.Worker) Worker {
	out := Worker{Worker: w.Name, Held: w.Held, Since: w.Since.UTC(), Queues: w.Queues, ExpiresAt: w.ExpiresAt.UTC()}
	if w.QueueCount > len(w.Queues) {
		out.QueueCount = w.QueueCount
	}
	return out
}

// Domain returns the worker that w describes.
func (w Worker) Domain() queue.Worker {
	return queue.Worker{Name: w.Worker, Held: w.Held, Since: w.Since, Queues: w.Queues, QueueCount: max(w.QueueCount, len(w.Queues)), ExpiresAt: w.ExpiresAt}
}
