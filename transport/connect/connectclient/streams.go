package connectclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

const (
	// aliveEvery is the interval at which each side of a stream sends a sign of life, as the proto requires.
	aliveEvery = 15 * time.Second
	// streamPatience is the time during which the client tries to open a broken stream again.
	streamPatience = time.Minute
)

// RunTickerLoop implements queue.TickerRuns over a bidirectional stream, which needs HTTP/2. The client opens a
// broken stream again for up to one minute.
func (c *Client) RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error {
	return c.keepStreaming(ctx, queue.OpRunTickerLoop, func(ctx context.Context, heard func()) error {
		return c.handleTicks(ctx, heard, handle)
	})
}

// SubscribeEvents implements queue.Events. The client opens a broken stream again for up to one minute and continues
// after the last event. Before the first event it continues from the cursor that the server sends at the beginning.
func (c *Client) SubscribeEvents(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	first := true
	return c.keepStreaming(ctx, queue.OpSubscribeEvents, func(ctx context.Context, heard func()) error {
		if !first && f.After == "" {
			return &final{&queue.Error{Kind: queue.KindUnavailable, Msg: "the stream broke before its first event; subscribe again"}}
		}

		req := &pb.SubscribeEventsRequest{Namespace: c.namespace, Filter: wire.EventFilter(f)}
		stream, err := c.events.SubscribeEvents(ctx, req)
		if err != nil {
			return translateError(ctx, req, err)
		}

		shut := closeAtEnd(ctx, stream.Close)
		defer shut()
		for {
			m, err := receiveWithin(ctx, c.silence, stream.Close, stream.Receive)
			if err != nil {
				return translateError(ctx, req, err)
			}

			heard()
			first = false

			// The first message carries the cursor from which a stream without events can continue.
			if m.GetCursor() != "" && f.After == "" {
				f.After = m.GetCursor()
			}

			if m.GetEvent() == nil {
				continue
			}

			e, err := readAnswer(m.GetEvent(), nil, (*wire.Reader).Event)
			if err != nil {
				return err
			}

			if err := handle(e); err != nil {
				return &final{err}
			}

			f.After = e.Cursor
		}
	})
}

// final is an error that ends a stream without another try, independent of its kind.
type final struct{ error }

func (f *final) Unwrap() error { return f.error }

// keepStreaming runs open again after each broken stream. It ends with a final error, with ctx, or when no message
// arrived for streamPatience. open calls heard for each received message.
func (c *Client) keepStreaming(ctx context.Context, op queue.Op, open func(ctx context.Context, heard func()) error) error {
	n, last := 0, time.Now()
	for {
		sub, cancel := context.WithCancel(ctx)
		err := open(sub, func() { n, last = 0, time.Now() })
		cancel()

		if f, ok := errors.AsType[*final](err); ok {
			return f.error
		}

		if cause := ctx.Err(); cause != nil {
			return queue.WithOp(op.String(), queue.ContextError(cause))
		}

		// Only a broken connection is worth another try: the server would repeat every other error.
		lost := errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrIndeterminate)
		if !lost || c.retries == 0 || time.Since(last) > streamPatience {
			return queue.WithOp(op.String(), err)
		}

		if !queue.WaitToRepeat(ctx, retryDelay(n)) {
			return queue.WithOp(op.String(), queue.ContextError(ctx.Err()))
		}

		n++
		c.dropIdleConnections()
	}
}

// receiveWithin receives one message. After the time silence without one it closes the stream, so that receive fails.
func receiveWithin[M any](ctx context.Context, silence time.Duration, shut func() error, receive func() (M, error)) (M, error) {
	watch := time.AfterFunc(silence, func() { _ = shut() })
	m, err := receive()
	if !watch.Stop() && err != nil && ctx.Err() == nil {
		err = fmt.Errorf("nothing was heard for %v: %w", silence, err)
	}
	return m, err
}

// closeAtEnd closes a stream when ctx ends. The end of ctx alone does not interrupt a Receive while the sending side is
// open. The returned function closes the stream at once. A stream that also sends has sent its headers before: its first
// Send writes them, and Close beside it reads them.
func closeAtEnd(ctx context.Context, shut func() error) func() {
	stop := context.AfterFunc(ctx, func() { _ = shut() })
	return func() {
		stop()
		_ = shut()
	}
}

// sendSignsOfLife calls send at each interval, until it fails or ctx ends. The receiving side returns the reason of a failure.
func sendSignsOfLife(ctx context.Context, interval time.Duration, send func() error) {
	alive := time.NewTicker(interval)
	defer alive.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			if send() != nil {
				return
			}
		}
	}
}

// handleTicks handles the ticks of one stream and returns its error.
func (c *Client) handleTicks(ctx context.Context, heard func(), handle func(context.Context, queue.Tick) error) error {
	ctx, info := connect.NewClientContext(ctx)
	stream, err := c.tickers.HandleTicks(ctx)
	if err != nil {
		return translateError(ctx, &pb.HandleTicksRequest{}, err)
	}

	if err := stream.SendHeaders(); err != nil {
		return translateError(ctx, &pb.HandleTicksRequest{}, err)
	}

	shut := closeAtEnd(ctx, stream.Close)
	defer shut()

	// Outcomes and signs of life come from two goroutines, but a stream allows one Send at a time.
	var mu sync.Mutex
	send := func(m *pb.HandleTicksRequest) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(m)
	}

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if err := send(&pb.HandleTicksRequest{Namespace: c.namespace}); err != nil && !errors.Is(err, io.EOF) {
		return translateError(ctx, &pb.HandleTicksRequest{}, err)
	}

	wg.Go(func() { sendSignsOfLife(ctx, c.silence/6, func() error { return send(&pb.HandleTicksRequest{}) }) })

	for {
		m, err := receiveWithin(ctx, c.silence, stream.Close, stream.Receive)
		if err != nil {
			if missing := http2Missing(info); missing != nil {
				return missing
			}
			return translateError(ctx, &pb.HandleTicksRequest{}, err)
		}

		heard()
		if m.GetTick() == nil {
			continue
		}

		t, err := readAnswer(m.GetTick(), nil, (*wire.Reader).Tick)
		if err != nil {
			return err
		}

		failed := handle(ctx, t) != nil
		err = send(&pb.HandleTicksRequest{Outcome: &pb.TickOutcome{Id: t.ID, Failed: failed}})
		if err != nil && !errors.Is(err, io.EOF) {
			return translateError(ctx, &pb.HandleTicksRequest{}, err)
		}
	}
}

// ListEvents implements queue.Events.
func (c *Client) ListEvents(ctx context.Context, f queue.EventFilter, limit int) (queue.EventPage, error) {
	res, err := sendCall(ctx, c, queue.OpListEvents, c.events.ListEvents, &pb.ListEventsRequest{
		Namespace: c.namespace, Filter: wire.EventFilter(f), Limit: int64(limit),
	})
	events, err := readEach(res.GetEvents(), err, (*wire.Reader).Event)
	return queue.EventPage{Events: events, Next: res.GetNext(), More: res.GetMore()}, err
}
