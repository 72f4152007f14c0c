package connectclient

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// CreateTicker implements queue.Tickers.
func (c *Client) CreateTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	res, err := sendCall(ctx, c, queue.OpCreateTicker, c.tickers.CreateTicker, &pb.CreateTickerRequest{
		Namespace: c.namespace, Meta: wire.TickerMeta(meta),
	})
	return readAnswer(res.GetTicker(), err, (*wire.Reader).Ticker)
}

// RegisterTicker implements queue.Tickers.
func (c *Client) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	res, err := sendRepeated(ctx, c, queue.OpRegisterTicker, repeatable, c.tickers.RegisterTicker,
		&pb.RegisterTickerRequest{Namespace: c.namespace, Meta: wire.TickerMeta(meta)})
	return readAnswer(res.GetTicker(), err, (*wire.Reader).Ticker)
}

// GetTicker implements queue.Tickers.
func (c *Client) GetTicker(ctx context.Context, name string) (*queue.Ticker, error) {
	res, err := sendCall(ctx, c, queue.OpGetTicker, c.tickers.GetTicker, &pb.GetTickerRequest{
		Namespace: c.namespace, Ticker: name,
	})
	return readAnswer(res.GetTicker(), err, (*wire.Reader).Ticker)
}

// ListTickers implements queue.Tickers.
func (c *Client) ListTickers(ctx context.Context, p queue.Page) (queue.TickerPage, error) {
	res, err := sendCall(ctx, c, queue.OpListTickers, c.tickers.ListTickers, &pb.ListTickersRequest{
		Namespace: c.namespace, Page: wire.Page(p),
	})
	tickers, err := readEach(res.GetTickers(), err, (*wire.Reader).Ticker)
	return queue.TickerPage{Tickers: tickers, Count: res.GetCount(), Next: res.GetNext()}, err
}

// UpdateTicker implements queue.Tickers.
func (c *Client) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	res, err := sendCall(ctx, c, queue.OpUpdateTicker, c.tickers.UpdateTicker, &pb.UpdateTickerRequest{
		Namespace: c.namespace, Ticker: name, Meta: wire.TickerMeta(meta),
	})
	return readAnswer(res.GetTicker(), err, (*wire.Reader).Ticker)
}

// DeleteTicker implements queue.Tickers.
func (c *Client) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	res, err := sendCall(ctx, c, queue.OpDeleteTicker, c.tickers.DeleteTicker, &pb.DeleteTickerRequest{
		Namespace: c.namespace, Ticker: name, IfVersion: queue.RequiredVersion(only),
	})
	return readAnswer(res.GetTicker(), err, (*wire.Reader).Ticker)
}

// PreviewTicker implements queue.TickerRuns.
func (c *Client) PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error) {
	res, err := sendCall(ctx, c, queue.OpPreviewTicker, c.tickers.PreviewTicker, &pb.PreviewTickerRequest{
		Namespace: c.namespace, Ticker: name, N: int64(n),
	})
	return readAnswer(res.GetTimes(), err, (*wire.Reader).Times)
}

// UpcomingTicks implements queue.TickerRuns.
func (c *Client) UpcomingTicks(ctx context.Context, q queue.UpcomingQuery) (*queue.Upcoming, error) {
	res, err := sendCall(ctx, c, queue.OpUpcomingTicks, c.tickers.UpcomingTicks, &pb.UpcomingTicksRequest{
		Namespace: c.namespace, Until: wire.Time(q.Until), Limit: int64(q.Limit), PerTicker: int64(q.PerTicker),
	})
	return readAnswer(res, err, (*wire.Reader).Upcoming)
}

// RunTicker implements queue.TickerRuns.
func (c *Client) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	res, err := sendCall(ctx, c, queue.OpRunTicker, c.tickers.RunTicker, &pb.RunTickerRequest{
		Namespace: c.namespace, Ticker: name, IfVersion: queue.RequiredVersion(only),
	})
	return readAnswer(res.GetTick(), err, func(r *wire.Reader, t *pb.Tick) *queue.Tick { return new(r.Tick(t)) })
}

// ListTicks implements queue.TickerRuns.
func (c *Client) ListTicks(ctx context.Context, name string, limit int) ([]queue.Tick, error) {
	res, err := sendCall(ctx, c, queue.OpListTicks, c.tickers.ListTicks, &pb.ListTicksRequest{
		Namespace: c.namespace, Ticker: name, Limit: int64(limit),
	})
	return readEach(res.GetTicks(), err, (*wire.Reader).Tick)
}
