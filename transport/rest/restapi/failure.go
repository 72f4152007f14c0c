package restapi

import (
	"encoding/json"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Failures are the newest failed tasks of a queue in groups.
type Failures struct {
	Namespace string         `json:"namespace" doc:"The tenant" example:"default"`
	Queue     string         `json:"queue" doc:"The queue's name" example:"mail"`
	Version   int            `json:"version" doc:"The version of the rules that make fingerprints" example:"1"`
	Examined  int64          `json:"examined" doc:"The number of failed tasks in the groups, at most 10000" example:"42"`
	More      bool           `json:"more,omitempty" doc:"There are older failed tasks, or may be" example:"true"`
	Count     int64          `json:"count" doc:"The number of groups; the body has at most 1000 of them" example:"1"`
	Body      []FailureGroup `json:"body" doc:"The groups, those with the most tasks first"`
}

// FailureGroup has the failed tasks with one fingerprint. Fingerprint and errors are there only for callers that may read content.
type FailureGroup struct {
	Fingerprint string        `json:"fingerprint,omitempty" doc:"16 hexadecimal digits; equal for errors that differ in ids, numbers, times and other data alone" example:"9e107d9d372bb682"`
	Kind        string        `json:"kind,omitempty" doc:"The type or code that the error names" example:"TimeoutError"`
	Message     string        `json:"message,omitempty" doc:"The text of the error with placeholders in the place of data" example:"no answer within <duration>"`
	Count       int64         `json:"count" doc:"The number of tasks" example:"42"`
	FirstAt     time.Time     `json:"first_at" doc:"When the first of them ended" example:"2026-01-02T15:04:05Z"`
	LastAt      time.Time     `json:"last_at" doc:"When the last of them ended" example:"2026-01-02T16:04:05Z"`
	Sample      FailureSample `json:"sample" doc:"The newest of them"`
	IDs         []int64       `json:"ids" doc:"The tasks, newest first" example:"[7,5]"`
}

// FailureSample is one failed task.
type FailureSample struct {
	Task  int64           `json:"task" doc:"The task's id" example:"7"`
	At    time.Time       `json:"at" doc:"When it ended" example:"2026-01-02T16:04:05Z"`
	Error json.RawMessage `json:"error,omitempty" doc:"Its last error, cut to 2048 bytes" example:"{\"error\":\"no answer within 30s\"}"`
}

// FailuresOf converts f for the wire.
func FailuresOf(f *queue.Failures) Failures {
	return Failures{
		Namespace: f.Namespace, Queue: f.Queue, Version: f.Version, Examined: f.Examined, More: f.More, Count: f.Count,
		Body: Each(f.Groups, func(g queue.FailureGroup) FailureGroup {
			return FailureGroup{
				Fingerprint: g.ID, Kind: g.Kind, Message: g.Message, Count: g.Count, FirstAt: g.FirstAt.UTC(), LastAt: g.LastAt.UTC(),
				Sample: FailureSample{Task: g.Sample.Task, At: g.Sample.At.UTC(), Error: g.Sample.Error}, IDs: g.IDs,
			}
		}),
	}
}

// Domain returns the groups that f describes.
func (f Failures) Domain() *queue.Failures {
	return &queue.Failures{
		Namespace: f.Namespace, Queue: f.Queue, Version: f.Version, Examined: f.Examined, More: f.More, Count: f.Count,
		Groups: Each(f.Body, func(g FailureGroup) queue.FailureGroup {
			return queue.FailureGroup{
				Fingerprint: queue.Fingerprint{ID: g.Fingerprint, Kind: g.Kind, Message: g.Message}, Count: g.Count, FirstAt: g.FirstAt, LastAt: g.LastAt,
				Sample: queue.Failure{Task: g.Sample.Task, At: g.Sample.At, Error: g.Sample.Error}, IDs: g.IDs,
			}
		}),
	}
}
