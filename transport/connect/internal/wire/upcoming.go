package wire

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// UpcomingQuery reads the query of a request.
func (r *Reader) UpcomingQuery(m *pb.UpcomingTicksRequest) queue.UpcomingQuery {
	return queue.UpcomingQuery{Until: r.readFilterTime("until", m.GetUntil()), Limit: r.Int("limit", m.GetLimit()), PerTicker: r.Int("per_ticker", m.GetPerTicker())}
}

// Upcoming converts u for the wire; nil stays nil.
func Upcoming(u *queue.Upcoming) *pb.UpcomingTicksResponse {
	if u == nil {
		return nil
	}
	return &pb.UpcomingTicksResponse{
		Until: Time(u.Until), More: u.More,
		Ticks: Each(u.Ticks, func(t queue.UpcomingTick) *pb.UpcomingTick {
			return &pb.UpcomingTick{Ticker: t.Ticker, Queue: t.Queue, At: Time(t.At)}
		}),
	}
}

// Upcoming reads u from the wire; nil stays nil.
func (r *Reader) Upcoming(u *pb.UpcomingTicksResponse) *queue.Upcoming {
	if u == nil {
		return nil
	}
	return &queue.Upcoming{
		Until: r.Time("until", u.GetUntil()), More: u.GetMore(),
		Ticks: Each(u.GetTicks(), func(t *pb.UpcomingTick) queue.UpcomingTick {
			return queue.UpcomingTick{Ticker: t.GetTicker(), Queue: t.GetQueue(), At: r.Time("at", t.GetAt())}
		}),
	}
}
