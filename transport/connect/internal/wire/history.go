package wire

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// HistoryRequest converts a query for the history of a queue for the wire.
func HistoryRequest(namespace, name string, q queue.HistoryQuery) *pb.GetQueueHistoryRequest {
	return &pb.GetQueueHistoryRequest{
		Namespace: namespace, Queue: name, Step: historySteps.numberOfWord(q.Step), After: Time(q.After), Before: Time(q.Before),
	}
}

// HistoryQuery reads the query of a request.
func (r *Reader) HistoryQuery(m *pb.GetQueueHistoryRequest) queue.HistoryQuery {
	return queue.HistoryQuery{
		Step:  historySteps.wordOfNumber(m.GetStep()),
		After: r.readFilterTime("after", m.GetAfter()), Before: r.readFilterTime("before", m.GetBefore()),
	}
}

// QueueHistory converts h for the wire; nil stays nil.
func QueueHistory(h *queue.QueueHistory) *pb.GetQueueHistoryResponse {
	if h == nil {
		return nil
	}
	return &pb.GetQueueHistoryResponse{
		Namespace: h.Namespace, Queue: h.Queue, Step: historySteps.numberOfWord(h.Step),
		Points: Each(h.Points, func(p queue.HistoryPoint) *pb.HistoryPoint {
			return &pb.HistoryPoint{
				At: Time(p.At), Created: p.Created, Released: p.Released, Failed: p.Failed, Retried: p.Retried, Ready: p.Ready,
				OldestReadyAge: Duration(p.OldestReadyAge),
			}
		}),
	}
}

// QueueHistory reads h from the wire; nil stays nil.
func (r *Reader) QueueHistory(h *pb.GetQueueHistoryResponse) *queue.QueueHistory {
	if h == nil {
		return nil
	}
	return &queue.QueueHistory{
		Namespace: h.GetNamespace(), Queue: h.GetQueue(), Step: historySteps.wordOfNumber(h.GetStep()),
		Points: Each(h.GetPoints(), func(p *pb.HistoryPoint) queue.HistoryPoint {
			return queue.HistoryPoint{
				At: r.Time("at", p.GetAt()), Created: p.GetCreated(), Released: p.GetReleased(), Failed: p.GetFailed(),
				Retried: p.GetRetried(), Ready: p.GetReady(), OldestReadyAge: r.Duration("oldest_ready_age", p.GetOldestReadyAge()),
			}
		}),
	}
}
