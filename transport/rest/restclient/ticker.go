package restclient

import (
	"context"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// CreateTicker creates a ticker.
func (c *Client) CreateTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return c.sendTicker(ctx, request{route: restapi.CreateTicker}, meta)
}

// RegisterTicker creates a ticker, or updates the present one.
func (c *Client) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return createOrUpdate(
		func() (*queue.Ticker, error) { return c.CreateTicker(ctx, meta) },
		func() (*queue.Ticker, error) { return c.UpdateTicker(ctx, meta.Name, meta) })
}

// GetTicker returns a ticker.
func (c *Client) GetTicker(ctx context.Context, name string) (*queue.Ticker, error) {
	return fetch[restapi.Ticker](ctx, c, tickerRequest(restapi.GetTicker, name))
}

// ListTickers returns a page of tickers in the order of their names.
func (c *Client) ListTickers(ctx context.Context, p queue.Page) (queue.TickerPage, error) {
	tickers, list, err := fetchList[restapi.Ticker](ctx, c, request{route: restapi.ListTickers, query: pageQuery(p)})
	return queue.TickerPage{Tickers: tickers, Count: list.Count, Next: list.Next}, err
}

// UpdateTicker changes the fields that are set in meta. It is not repeated, because a new schedule counts from the
// time of its update.
func (c *Client) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	meta.Name = ""
	q := tickerRequest(restapi.UpdateTicker, name)
	q.version = meta.IfVersion
	return c.sendTicker(ctx, q, meta)
}

// DeleteTicker deletes a ticker.
func (c *Client) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	q := tickerRequest(restapi.DeleteTicker, name)
	q.version = queue.RequiredVersion(only)
	return fetch[restapi.Ticker](ctx, c, q)
}

func (c *Client) sendTicker(ctx context.Context, q request, meta queue.TickerMeta) (*queue.Ticker, error) {
	if len(meta.Payload) > 0 {
		// A malformed payload must not break the body.
		if err := queue.CheckJSON("payload", meta.Payload, math.MaxInt); err != nil {
			return nil, queue.WithOp(q.opName(), err)
		}
	}
	q.body = restapi.TickerMetaOf(meta)
	return fetch[restapi.Ticker](ctx, c, q)
}

// PreviewTicker returns the next n nominal times.
func (c *Client) PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error) {
	q := tickerRequest(restapi.PreviewTicker, name)
	q.query = url.Values{"n": {strconv.Itoa(n)}}
	var out restapi.List[time.Time]
	err := c.sendRequest(ctx, q, &out)
	return out.Body, err
}

// UpcomingTicks returns the next fires of all tickers, in the order of their times.
func (c *Client) UpcomingTicks(ctx context.Context, q queue.UpcomingQuery) (*queue.Upcoming, error) {
	v := pageQuery(queue.Page{Limit: q.Limit})
	setTimeValue(v, "until", q.Until)
	if q.PerTicker != 0 {
		v.Set("per_ticker", strconv.Itoa(q.PerTicker))
	}
	return fetch[restapi.Upcoming](ctx, c, request{route: restapi.UpcomingTicks, query: v})
}

// RunTicker fires a ticker now.
func (c *Client) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	q := tickerRequest(restapi.RunTicker, name)
	q.version = queue.RequiredVersion(only)
	t, err := fetch[restapi.Tick](ctx, c, q)
	if err != nil {
		return nil, err
	}
	return &t, nil
}

// ListTicks returns the last ticks of a ticker, newest first.
func (c *Client) ListTicks(ctx context.Context, name string, limit int) ([]queue.Tick, error) {
	q := tickerRequest(restapi.ListTicks, name)
	q.query = pageQuery(queue.Page{Limit: limit})
	ticks, _, err := fetchList[restapi.Tick](ctx, c, q)
	return ticks, err
}
