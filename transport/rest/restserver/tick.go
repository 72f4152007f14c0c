package restserver

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	nextTickerInput struct{ input.TickStream }
	ackTickInput    struct {
		Body input.Body[restapi.Ack, restapi.Ack]
	}
)

// nextTicker streams ticks. A tick is delivered once it is written; with ack=true only when the client settled it, and
// until then the stream hands out no other.
func nextTicker(c *call, in *nextTickerInput) (*huma.StreamResponse, error) {
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

// streamSettledTicks sends ticks one by one, each settled by the client.
func (c *call) streamSettledTicks(st *stream) {
	settled := c.acks.openStream(c.svc.Namespace())
	defer c.acks.closeStream(settled)
	if err := st.sendEvent(restapi.EventStream, "", restapi.Stream{Stream: settled.name}, true); err != nil {
		return // the client went away
	}

	st.sendEnd(c.svc.RunTickerLoop(st.ctx, func(ctx context.Context, t queue.Tick) error {
		settled.expectTick(t.ID)
		if err := st.sendTick(t); err != nil {
			return err
		}
		return settled.awaitSettled(ctx)
	}))
}

// sendTick sends t. It fails when the listener has not got it: then the tick goes to another.
func (st *stream) sendTick(t queue.Tick) error {
	if err := st.sendEvent(restapi.EventTicker, strconv.FormatInt(t.ID, 10), restapi.TickOf(t), true); err != nil {
		return err
	}
	return st.client.Err() // a client that leaves while a tick is sent may not have got it
}

func ackTick(c *call, in *ackTickInput) (*noOutput, error) {
	ack, err := in.Body.Value()
	if err != nil {
		return nil, err
	}
	return nil, c.acks.settleTick(c.svc.Namespace(), ack)
}

// acks are the streams whose ticks are settled by their clients.
type acks struct {
	mu      sync.Mutex
	streams map[string]*settledStream
}

// settledStream is one such stream.
type settledStream struct {
	name      string
	namespace string

	mu      sync.Mutex
	tick    int64 // handed out, not settled; 0 = none
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
		return &queue.Error{Kind: queue.KindNotFound, Subject: "stream", Field: "stream", Msg: "no such stream on this server"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tick == 0 || l.tick != in.ID {
		return &queue.Error{Kind: queue.KindConflict, Subject: "tick " + strconv.FormatInt(in.ID, 10), Field: "id", Msg: "must be the tick that the stream sent last and that is not settled"}
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
	case <-l.settled: // of a tick whose time was over before it was settled
	default:
	}
}

// awaitSettled ends when the client settled the tick, or is gone.
func (l *settledStream) awaitSettled(ctx context.Context) error {
	select {
	case delivered := <-l.settled:
		if !delivered {
			return &queue.Error{Kind: queue.KindConflict, Msg: "the listener gave the tick back"}
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
