package wire

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// Explanation converts e for the wire; nil stays nil.
func Explanation(e *queue.Explanation) *pb.Explanation {
	if e == nil {
		return nil
	}
	return &pb.Explanation{
		Namespace: e.Namespace, Queue: e.Queue, Task: e.Task, Status: statuses.numberOfWord(e.Status), At: Time(e.At),
		Reasons: Each(e.Reasons, func(r queue.Reason) *pb.Reason {
			return &pb.Reason{
				Code: string(r.Code), Text: r.Text, Advice: r.Advice, Since: Time(r.Since), Until: Time(r.Until), Hold: holdMessage(r.Hold),
			}
		}),
	}
}

func holdMessage(h *queue.Hold) *pb.Hold {
	if h == nil {
		return nil
	}
	return &pb.Hold{Task: h.Task, Worker: h.Worker, Since: Time(h.Since), ExpiresAt: Time(h.ExpiresAt)}
}

// Explanation reads e from the wire; nil stays nil.
func (r *Reader) Explanation(e *pb.Explanation) *queue.Explanation {
	if e == nil {
		return nil
	}
	return &queue.Explanation{
		Namespace: e.GetNamespace(), Queue: e.GetQueue(), Task: e.GetTask(), Status: statuses.wordOfNumber(e.GetStatus()),
		At: r.Time("at", e.GetAt()),
		Reasons: Each(e.GetReasons(), func(m *pb.Reason) queue.Reason {
			return queue.Reason{
				Code: queue.ReasonCode(m.GetCode()), Text: m.GetText(), Advice: m.GetAdvice(),
				Since: r.Time("since", m.GetSince()), Until: r.Time("until", m.GetUntil()), Hold: r.readHold(m.GetHold()),
			}
		}),
	}
}

func (r *Reader) readHold(h *pb.Hold) *queue.Hold {
	if h == nil {
		return nil
	}
	return &queue.Hold{
		Task: h.GetTask(), Worker: h.GetWorker(), Since: r.Time("since", h.GetSince()), ExpiresAt: r.Time("expires_at", h.GetExpiresAt()),
	}
}
