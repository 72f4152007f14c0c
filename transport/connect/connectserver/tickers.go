package connectserver

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

type tickers struct{ *Server }

// tickerWrite is a request with the settings of a ticker.
type tickerWrite interface {
	GetNamespace() string
	GetMeta() *pb.TickerMeta
}

func (s tickers) CreateTicker(ctx context.Context, req *pb.CreateTickerRequest) (*pb.CreateTickerResponse, error) {
	t, err := s.writeTicker(ctx, req, queue.Service.CreateTicker)
	return &pb.CreateTickerResponse{Ticker: t}, err
}

func (s tickers) RegisterTicker(ctx context.Context, req *pb.RegisterTickerRequest) (*pb.RegisterTickerResponse, error) {
	t, err := s.writeTicker(ctx, req, queue.Service.RegisterTicker)
	return &pb.RegisterTickerResponse{Ticker: t}, err
}

func (s tickers) UpdateTicker(ctx context.Context, req *pb.UpdateTickerRequest) (*pb.UpdateTickerResponse, error) {
	t, err := s.writeTicker(ctx, req,
		func(svc queue.Service, ctx context.Context, m queue.TickerMeta) (*queue.Ticker, error) {
			return svc.UpdateTicker(ctx, req.GetTicker(), m)
		})
	return &pb.UpdateTickerResponse{Ticker: t}, err
}

func (s tickers) writeTicker(
	ctx context.Context, req tickerWrite,
	do func(queue.Service, context.Context, queue.TickerMeta) (*queue.Ticker, error),
) (*pb.Ticker, error) {
	var r wire.Reader
	m := r.TickerMeta(req.GetMeta())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	t, err := do(svc, ctx, m)
	return s.boundTicker(ctx, t), err
}

// boundTicker takes the bytes of the ticker of a change from the budget for large answers. Where they do not become free in time
// the answer lacks its payload, because the change is done.
func (s tickers) boundTicker(ctx context.Context, t *queue.Ticker) *pb.Ticker {
	if t == nil {
		return nil
	}
	answer := *t
	deliveryOf(ctx).runAfterAnswer(s.large.TakePayload(ctx, &answer.Payload))
	return wire.Ticker(&answer)
}

func (s tickers) GetTicker(ctx context.Context, req *pb.GetTickerRequest) (*pb.GetTickerResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	t, err := svc.GetTicker(ctx, req.GetTicker())
	if err != nil {
		return nil, err
	}
	if err := s.boundRead(ctx, t.Bytes()); err != nil {
		return nil, err
	}
	return &pb.GetTickerResponse{Ticker: wire.Ticker(t)}, nil
}

func (s tickers) ListTickers(ctx context.Context, req *pb.ListTickersRequest) (*pb.ListTickersResponse, error) {
	var r wire.Reader
	page := r.Page(req.GetPage())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	p, err := svc.ListTickers(ctx, page)
	if err != nil {
		return nil, err
	}
	if err := s.boundRead(ctx, queue.TickerBytes(p.Tickers)); err != nil {
		return nil, err
	}
	return &pb.ListTickersResponse{Tickers: wire.Each(p.Tickers, wire.Ticker), Count: p.Count, Next: p.Next}, nil
}

func (s tickers) DeleteTicker(ctx context.Context, req *pb.DeleteTickerRequest) (*pb.DeleteTickerResponse, error) {
	var r wire.Reader
	r.RequireKnown("request", req)
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	t, err := svc.DeleteTicker(ctx, req.GetTicker(), queue.IfVersion(req.GetIfVersion()))
	return &pb.DeleteTickerResponse{Ticker: s.boundTicker(ctx, t)}, err
}

func (s tickers) PreviewTicker(ctx context.Context, req *pb.PreviewTickerRequest) (*pb.PreviewTickerResponse, error) {
	var r wire.Reader
	n := r.Int("n", req.GetN())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	times, err := svc.PreviewTicker(ctx, req.GetTicker(), n)
	return &pb.PreviewTickerResponse{Times: wire.Times(times)}, err
}

func (s tickers) RunTicker(ctx context.Context, req *pb.RunTickerRequest) (*pb.RunTickerResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	t, err := svc.RunTicker(ctx, req.GetTicker(), queue.IfVersion(req.GetIfVersion()))
	if err != nil {
		return nil, err
	}
	tick := *t
	deliveryOf(ctx).runAfterAnswer(s.large.TakePayload(ctx, &tick.Payload))
	return &pb.RunTickerResponse{Tick: wire.Tick(tick)}, nil
}

func (s tickers) ListTicks(ctx context.Context, req *pb.ListTicksRequest) (*pb.ListTicksResponse, error) {
	var r wire.Reader
	limit := r.Int("limit", req.GetLimit())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	ts, err := svc.ListTicks(ctx, req.GetTicker(), limit)
	if err != nil {
		return nil, err
	}
	if err := s.boundRead(ctx, queue.TickBytes(ts)); err != nil {
		return nil, err
	}
	return &pb.ListTicksResponse{Ticks: wire.Each(ts, wire.Tick)}, nil
}
