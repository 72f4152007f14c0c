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
	return c.sendTicker(ctx, request{route: restapi.CreateTicker}, "", meta)
}

// RegisterTicker creates a ticker, or updates the present one.
func (c *Client) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return createOrUpdate(
		func() (*queue.Ticker, error) { return c.CreateTicker(ctx, meta) },
		func() (*queue.Ticker, error) { return c.UpdateTicker(ctx, meta.Name, meta) })
}

// GetTicker returns a ticker.
func (c *Client) GetTicker(ctx context.Context, name string) (*queue.Ticker, error) {
	return c.sendForTicker(ctx, request{route: restapi.GetTicker}, name)
}

// ListTickers returns a page of tickers in the order of their names.
func (c *Client) ListTickers(ctx context.Context, p queue.Page) (queue.TickerPage, error) {
	var out restapi.List[restapi.Ticker]
	if err := c.sendRequest(ctx, request{route: restapi.ListTickers, query: pageQuery(p)}, &out); err != nil {
		return queue.TickerPage{}, err
	}
	return queue.TickerPage{Tickers: mapSlice(out.Body, restapi.Ticker.Domain), Count: out.Count, Next: out.Next}, nil
}

// UpdateTicker changes the fields that are set in meta. It is not repeated, because a new schedule counts from the
// time of its update.
func (c *Client) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	meta.Name = ""
	return c.sendTicker(ctx, request{route: restapi.UpdateTicker, version: meta.IfVersion}, name, meta)
}

// DeleteTicker deletes a ticker.
func (c *Client) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return c.sendForTicker(ctx, request{route: restapi.DeleteTicker, version: queue.RequiredVersion(only)}, name)
}

func (c *Client) sendTicker(ctx context.Context, q request, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	if len(meta.Payload) > 0 {
		// A malformed payload must not break the body.
		if err := queue.CheckJSON("payload", meta.Payload, math.MaxInt); err != nil {
			return nil, queue.WithOp(q.opName(), err)
		}
	}
	q.body = restapi.TickerMetaOf(meta)
	if q.route == restapi.CreateTicker {
		var out restapi.Ticker
		if err := c.sendRequest(ctx, q, &out); err != nil {
			return nil, err
		}
		return out.Domain(), nil
	}
	return c.sendForTicker(ctx, q, name)
}

func (c *Client) sendForTicker(ctx context.Context, q request, name string) (*queue.Ticker, error) {
	var out restapi.Ticker
	if err := c.sendNamedTicker(ctx, q, name, &out); err != nil {
		return nil, err
	}
	return out.Domain(), nil
}

func (c *Client) sendNamedTicker(ctx context.Context, q request, name string, out any) error {
	name, err := queue.TickerName(name)
	if err != nil {
		return queue.WithOp(q.opName(), err)
	}
	q.args = []string{name}
	return c.sendRequest(ctx, q, out)
}

// PreviewTicker returns the next n nominal times.
func (c *Client) PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error) {
	var out restapi.List[time.Time]
	q := request{route: restapi.PreviewTicker, query: url.Values{"n": {strconv.Itoa(n)}}}
	err := c.sendNamedTicker(ctx, q, name, &out)
	return out.Body, err
}

// RunTicker fires a ticker now.
func (c *Client) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	var out restapi.Tick
	if err := c.sendNamedTicker(ctx, request{route: restapi.RunTicker, version: queue.RequiredVersion(only)}, name, &out); err != nil {
		return nil, err
	}
	t := out.Domain()
	return &t, nil
}

// ListTicks returns the last ticks of a ticker, newest first.
func (c *Client) ListTicks(ctx context.Context, name string, limit int) ([]queue.Tick, error) {
	var out restapi.List[restapi.Tick]
	q := request{route: restapi.ListTicks, query: pageQuery(queue.Page{Limit: limit})}
	if err := c.sendNamedTicker(ctx, q, name, &out); err != nil {
		return nil, err
	}
	return mapSlice(out.Body, restapi.Tick.Domain), nil
}
