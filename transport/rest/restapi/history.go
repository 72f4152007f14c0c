package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// QueueHistory is the history of a queue.
type QueueHistory struct {
	Namespace string         `json:"namespace" doc:"The tenant" example:"default"`
	Queue     string         `json:"queue" doc:"The queue's name" example:"mail"`
	Step      string         `json:"step" enum:"minute,hour" doc:"The length of a point" example:"minute"`
	Points    []HistoryPoint `json:"points" doc:"The oldest first. A point is missing where nothing happened and no task was ready"`
}

// HistoryPoint is one minute or hour of a history.
type HistoryPoint struct {
	At             time.Time `json:"at" doc:"The beginning of the minute or hour" example:"2026-01-02T15:04:00Z"`
	Created        int64     `json:"created" doc:"Tasks that were created" example:"12"`
	Released       int64     `json:"released" doc:"Tasks that succeeded" example:"10"`
	Failed         int64     `json:"failed" doc:"Tasks that failed for good" example:"1"`
	Retried        int64     `json:"retried" doc:"Attempts that failed and are tried again" example:"2"`
	Ready          int64     `json:"ready" doc:"Ready tasks at the end of the minute; of an hour, the most of these" example:"3"`
	OldestReadyAge int64     `json:"oldest_ready_age" doc:"How long the task that was ready the longest had been so, nanoseconds; of an hour, the most" example:"1500000000"`
}

// QueueHistoryOf converts h for the wire.
func QueueHistoryOf(h *queue.QueueHistory) QueueHistory {
	return QueueHistory{
		Namespace: h.Namespace, Queue: h.Queue, Step: string(h.Step),
		Points: Each(h.Points, func(p queue.HistoryPoint) HistoryPoint {
			return HistoryPoint{
				At: p.At.UTC(), Created: p.Created, Released: p.Released, Failed: p.Failed, Retried: p.Retried, Ready: p.Ready,
				OldestReadyAge: int64(p.OldestReadyAge),
			}
		}),
	}
}

// Domain returns the history that h describes.
func (h QueueHistory) Domain() *queue.QueueHistory {
	return &queue.QueueHistory{
		Namespace: h.Namespace, Queue: h.Queue, Step: queue.HistoryStep(h.Step),
		Points: Each(h.Points, func(p HistoryPoint) queue.HistoryPoint {
			return queue.HistoryPoint{
				At: p.At, Created: p.Created, Released: p.Released, Failed: p.Failed, Retried: p.Retried, Ready: p.Ready,
				OldestReadyAge: time.Duration(p.OldestReadyAge),
			}
		}),
	}
}
