package restclient

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// RunTickerLoop calls handle with each tick of the namespace's tickers without a queue. It settles each tick with the
// server after handle has returned; a tick that handle failed goes to the next listener. If the settle request does
// not reach the server of the stream (a balancer without affinity), a tick counts as delivered when it is sent.
func (c *Client) RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error {
	l := tickLoop{c: c, handle: handle, ack: true}
	return c.keepStreaming(ctx, func(opened func()) error { return l.followStream(ctx, opened) })
}

var opTickerLoop = queue.OpRunTickerLoop.String()

type tickLoop struct {
	c      *Client
	handle func(context.Context, queue.Tick) error
	ack    bool
	stream string
}

func (l *tickLoop) followStream(ctx context.Context, opened func()) error {
	q := request{route: restapi.NextTicker}
	if l.ack {
		q.query = url.Values{"ack": {"true"}}
	}

	return l.c.openStream(ctx, q, opened, func(f frame) error {
		switch f.event {
		case restapi.EventStream:
			var s restapi.Stream
			if err := json.Unmarshal(f.data, &s); err != nil {
				return unreadableEvent(err)
			}
			l.stream = s.Stream
		case restapi.EventTicker:
			var t restapi.Tick
			if err := json.Unmarshal(f.data, &t); err != nil {
				return unreadableEvent(err)
			}
			return l.handleTick(ctx, t.Domain())
		}

		return ctx.Err()
	})
}

func (l *tickLoop) handleTick(ctx context.Context, t queue.Tick) error {
	delivered := l.handle(ctx, t) == nil
	if ctx.Err() != nil && !delivered {
		// The end of the stream hands the unsettled tick back.
		return ctx.Err()
	}
	if !l.ack {
		return ctx.Err()
	}
	// A handled tick is settled even after the end of ctx.
	settle := context.WithoutCancel(ctx)
	err := l.c.sendRequest(settle, request{
		route: restapi.AckTick, body: restapi.Ack{Stream: l.stream, ID: t.ID, Delivered: &delivered},
	}, nil)
	switch {
	case errors.Is(err, queue.ErrNotFound):
		l.ack = false
		return &queue.Error{Op: opTickerLoop, Kind: queue.KindUnavailable, Msg: "the tick could not be settled; it goes to the next listener", Err: err}
	case errors.Is(err, queue.ErrConflict):
		// Its time was over, and another listener has the tick.
		return ctx.Err()
	case err != nil:
		return &queue.Error{Op: opTickerLoop, Kind: queue.KindUnavailable, Msg: "the tick could not be settled; it goes to the next listener", Err: err}
	}
	return ctx.Err()
}

func unreadableEvent(err error) error {
	return &queue.Error{Op: opTickerLoop, Kind: queue.KindInternal, Msg: "the server sent a tick that is not understood", Err: err}
}
