package restserver

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// IsTickStream reports whether r asks for the stream of ticks, the only GET that changes state: a tick goes to exactly
// one stream.
func IsTickStream(r *http.Request) bool {
	return strings.HasSuffix(r.URL.Path, restapi.NextTicker.Path) ||
		strings.HasSuffix(r.URL.Path, restapi.ListTickers.Path) && acceptsMedia(r, restapi.MediaEventStream)
}

// nextTicker streams ticks. A tick is delivered when it is written. With ack=true it is delivered when the client has
// settled it, and the stream sends no other tick before.
func nextTicker(c *call, in *input.TickStream) (*huma.StreamResponse, error) {
	// A refusal is a plain answer, not the end of a stream.
	if err := c.authorize(queue.ActionTickerListen, c.svc.Namespace()); err != nil {
		return nil, err
	}

	st, err := c.openStream()
	if err != nil {
		return nil, err
	}
	return streamOutput(func() {
		defer st.closeStream()
		if in.Ack.Value {
			c.streamSettledTicks(st)
			return
		}
		st.sendEnd(c.svc.RunTickerLoop(st.ctx, func(_ context.Context, t queue.Tick) error { return st.sendTick(t) }))
	}), nil
}

// streamSettledTicks sends one tick at a time; the client settles each.
func (c *call) streamSettledTicks(st *stream) {
	settled := c.acks.openStream(c.svc.Namespace())
	defer c.acks.closeStream(settled)
	if err := st.sendEvent(restapi.EventStream, "", restapi.Stream{Stream: settled.name}, true); err != nil {
		// The client has disconnected.
		return
	}

	st.sendEnd(c.svc.RunTickerLoop(st.ctx, func(ctx context.Context, t queue.Tick) error {
		settled.expectTick(t.ID)
		if err := st.sendTick(t); err != nil {
			return err
		}
		return settled.awaitSettled(ctx)
	}))
}

// sendTick sends t. It fails when the listener has not received t; then the tick goes to another one.
func (st *stream) sendTick(t queue.Tick) error {
	if err := st.sendEvent(restapi.EventTicker, strconv.FormatInt(t.ID, 10), restapi.TickOf(t), true); err != nil {
		return err
	}
	// A client that disconnects during the send may have missed the tick.
	return st.client.Err()
}

func ackTick(c *call, in *input.With[restapi.Ack, restapi.Ack]) (*noOutput, error) {
	return nil, c.acks.settleTick(c.svc.Namespace(), in.Body.Value)
}

// acks holds the tick streams in which clients settle each tick.
type acks struct {
	mu      sync.Mutex
	streams map[string]*settledStream
}

// settledStream is one stream of acks.
type settledStream struct {
	name      string
	namespace string

	mu      sync.Mutex
	tick    int64 // sent but not settled; 0 = none
	settled chan bool
}

func (a *acks) openStream(namespace string) *settledStream {
	l := &settledStream{name: strconv.FormatUint(rand.Uint64()|1<<63, 16), namespace: namespace, settled: make(chan bool, 1)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams == nil {
		a.streams = map[string]*settledStream{}
	}
	a.streams[l.name] = l
	return l
}

func (a *acks) closeStream(l *settledStream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, l.name)
}

func (a *acks) settleTick(namespace string, in restapi.Ack) error {
	a.mu.Lock()
	l := a.streams[in.Stream]
	a.mu.Unlock()
	if l == nil || l.namespace != namespace {
		return &queue.Error{Kind: queue.KindNotFound, Subject: "stream", Field: "stream", Msg: "no such stream on this server; settle ticks where they were received"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tick == 0 || l.tick != in.ID {
		return &queue.Error{Kind: queue.KindConflict, Subject: "tick " + strconv.FormatInt(in.ID, 10), Field: "id", Msg: "must be the last tick of the stream, and not settled; wait for the next tick"}
	}
	l.tick = 0
	l.settled <- in.Delivered == nil || *in.Delivered
	return nil
}

func (l *settledStream) expectTick(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tick = id
	select {
	// This removes the late settle of a tick that has timed out.
	case <-l.settled:
	default:
	}
}

// awaitSettled waits until the client has settled the tick or disconnected.
func (l *settledStream) awaitSettled(ctx context.Context) error {
	select {
	case delivered := <-l.settled:
		if !delivered {
			return &queue.Error{Kind: queue.KindConflict, Msg: "the listener gave the tick back; it goes to the next listener"}
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
