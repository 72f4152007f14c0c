package connectserver

import (
	"context"

	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

func (s tickers) UpcomingTicks(ctx context.Context, req *pb.UpcomingTicksRequest) (*pb.UpcomingTicksResponse, error) {
	var r wire.Reader
	q := r.UpcomingQuery(req)
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	u, err := svc.UpcomingTicks(ctx, q)
	return wire.Upcoming(u), err
}
