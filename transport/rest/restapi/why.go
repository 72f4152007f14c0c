package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Explanation says why a task or a queue does not proceed.
type Explanation struct {
	Namespace string    `json:"namespace" doc:"The tenant" example:"default"`
	Queue     string    `json:"queue" doc:"The queue's name" example:"mail"`
	Task      int64     `json:"task,omitempty" doc:"The task's id; absent in the explanation of a queue" example:"1"`
	Status    string    `json:"status,omitempty" enum:"new,retry,retained,released,failed,expired,cancelled" doc:"The status of the task" example:"retry"`
	At        time.Time `json:"at" doc:"The time of the facts by the database's clock" example:"2026-01-02T15:04:05Z"`
	Reasons   []Reason  `json:"reasons" doc:"At least one; the one that decides comes first"`
}

// Reason is one reason why a task or a queue does not proceed.
type Reason struct {
	Code   string    `json:"code" doc:"Stable word for programs; later versions may add words" example:"backoff"`
	Text   string    `json:"text" doc:"One sentence for people" example:"Attempt 1 has ended. The task waits for its next attempt until 2026-01-02T15:06:05Z."`
	Advice string    `json:"advice,omitempty" doc:"What an operator can do; absent when nothing needs to be done" example:"Resume the queue."`
	Since  time.Time `json:"since,omitzero" doc:"The beginning of this state, where it is known" example:"2026-01-02T15:04:05Z"`
	Until  time.Time `json:"until,omitzero" doc:"When the state ends by itself, where it does" example:"2026-01-02T15:06:05Z"`
	Hold   *Hold     `json:"hold,omitempty" doc:"The hold in the way, or of the task; only for callers that may read tasks"`
}

// Hold is one task under the lease of a worker.
type Hold struct {
	Task      int64     `json:"task" doc:"The task's id" example:"1"`
	Worker    string    `json:"worker" doc:"The holder" example:"w1"`
	Since     time.Time `json:"since" doc:"When it was retained" example:"2026-01-02T15:04:05Z"`
	ExpiresAt time.Time `json:"expires_at" doc:"When the lease runs out" example:"2026-01-02T15:09:05Z"`
}

// ExplanationOf converts e for the wire.
func ExplanationOf(e *queue.Explanation) Explanation {
	out := Explanation{
		Namespace: e.Namespace, Queue: e.Queue, Task: e.Task, Status: string(e.Status), At: e.At.UTC(),
		Reasons: make([]Reason, len(e.Reasons)),
	}
	for i, r := range e.Reasons {
		out.Reasons[i] = Reason{Code: string(r.Code), Text: r.Text, Advice: r.Advice, Since: r.Since.UTC(), Until: r.Until.UTC()}
		if h := r.Hold; h != nil {
			out.Reasons[i].Hold = &Hold{Task: h.Task, Worker: h.Worker, Since: h.Since.UTC(), ExpiresAt: h.ExpiresAt.UTC()}
		}
	}
	return out
}

// Domain returns the explanation that e describes.
func (e Explanation) Domain() *queue.Explanation {
	out := &queue.Explanation{
		Namespace: e.Namespace, Queue: e.Queue, Task: e.Task, Status: queue.Status(e.Status), At: e.At,
		Reasons: make([]queue.Reason, len(e.Reasons)),
	}
	for i, r := range e.Reasons {
		out.Reasons[i] = queue.Reason{Code: queue.ReasonCode(r.Code), Text: r.Text, Advice: r.Advice, Since: r.Since, Until: r.Until}
		if h := r.Hold; h != nil {
			out.Reasons[i].Hold = &queue.Hold{Task: h.Task, Worker: h.Worker, Since: h.Since, ExpiresAt: h.ExpiresAt}
		}
	}
	return out
}
