package wire

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// FailuresRequest converts a query for the failed tasks of a queue for the wire.
func FailuresRequest(namespace, name string, q queue.FailureQuery) *pb.ListFailuresRequest {
	return &pb.ListFailuresRequest{Namespace: namespace, Queue: name, After: Time(q.After), Before: Time(q.Before)}
}

// FailureQuery reads the query of a request.
func (r *Reader) FailureQuery(m *pb.ListFailuresRequest) queue.FailureQuery {
	return queue.FailureQuery{After: r.readFilterTime("after", m.GetAfter()), Before: r.readFilterTime("before", m.GetBefore())}
}

// Failures converts f for the wire; nil stays nil.
func Failures(f *queue.Failures) *pb.ListFailuresResponse {
	if f == nil {
		return nil
	}
	return &pb.ListFailuresResponse{
		Namespace: f.Namespace, Queue: f.Queue, Version: int64(f.Version), Examined: f.Examined, More: f.More, Count: f.Count,
		Groups: Each(f.Groups, func(g queue.FailureGroup) *pb.FailureGroup {
			return &pb.FailureGroup{
				Fingerprint: g.ID, Kind: g.Kind, Message: g.Message, Count: g.Count, FirstAt: Time(g.FirstAt), LastAt: Time(g.LastAt),
				Sample: &pb.FailureSample{Task: g.Sample.Task, At: Time(g.Sample.At), Error: g.Sample.Error}, Ids: g.IDs,
			}
		}),
	}
}

// Failures reads f from the wire; nil stays nil.
func (r *Reader) Failures(f *pb.ListFailuresResponse) *queue.Failures {
	if f == nil {
		return nil
	}
	return &queue.Failures{
		Namespace: f.GetNamespace(), Queue: f.GetQueue(), Version: r.Int("version", f.GetVersion()), Examined: f.GetExamined(),
		More: f.GetMore(), Count: f.GetCount(),
		Groups: Each(f.GetGroups(), func(g *pb.FailureGroup) queue.FailureGroup {
			return queue.FailureGroup{
				Fingerprint: queue.Fingerprint{ID: g.GetFingerprint(), Kind: g.GetKind(), Message: g.GetMessage()}, Count: g.GetCount(),
				FirstAt: r.Time("first_at", g.GetFirstAt()), LastAt: r.Time("last_at", g.GetLastAt()), IDs: g.GetIds(),
				Sample: queue.Failure{
					Task: g.GetSample().GetTask(), At: r.Time("at", g.GetSample().GetAt()), Error: readPayload(g.GetSample().GetError()),
				},
			}
		}),
	}
}
