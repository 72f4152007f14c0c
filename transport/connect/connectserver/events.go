package connectserver

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

type events struct{ *Server }

func (s events) ListEvents(ctx context.Context, req *pb.ListEventsRequest) (*pb.ListEventsResponse, error) {
	var r wire.Reader
	limit := r.Int("limit", req.GetLimit())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	p, err := svc.ListEvents(ctx, wire.ReadEventFilter(req.GetFilter()), limit)
	err = boundRows(ctx, s.Server, p.Events, err)
	return &pb.ListEventsResponse{Events: wire.Each(p.Events, wire.Event), Next: p.Next, More: p.More}, err
}

func (s events) SubscribeEvents(
	ctx context.Context, req *pb.SubscribeEventsRequest, stream pgqueuev1connect.EventServiceSubscribeEventsServerStream,
) error {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return err
	}

	f, hello := wire.ReadEventFilter(req.GetFilter()), &pb.SubscribeEventsResponse{}
	if end, ok := queue.ServiceAs[queue.FeedEnd](svc); ok && f.After == "" {
		if f.After, err = s.readLastEvent(ctx, end); err != nil {
			return err
		}
		hello.Cursor = f.After
	}

	return serveStream(ctx, s.Server, stream.Send, hello, &pb.SubscribeEventsResponse{}, func(ctx context.Context, send func(*pb.SubscribeEventsResponse) error) error {
		return svc.SubscribeEvents(ctx, f, func(e queue.Event) error {
			return send(&pb.SubscribeEventsResponse{Event: wire.Event(e)})
		})
	})
}

// readLastEvent returns the cursor behind the newest event.
func (s *Server) readLastEvent(ctx context.Context, end queue.FeedEnd) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.callTimeout)
	defer cancel()
	return end.LastEvent(ctx)
}
