package restserver

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// nextTicker streams ticks. A tick is delivered once it is written; with ack=true only when the client settled it, and
// until then the stream hands out no other.
func nextTicker(c *call) error {
	q := c.query()
	wantAck := q.flag("ack")
	if q.err != nil {
		return q.err
	}
	st, err := c.stream()
	if err != nil {
		return err
	}
	defer st.close()
	deliver := func(_ context.Context, t queue.Tick) error { return st.tick(t) }
	if wantAck {
		line := c.acks.open(c.svc.Namespace())
		defer c.acks.close(line)
		if err := st.send(restapi.EventStream, "", restapi.Stream{Stream: line.name}, true); err != nil {
			return nil // the client went away
		}
		deliver = func(ctx context.Context, t queue.Tick) error {
			line.expect(t.ID)
			if err := st.tick(t); err != nil {
				return err
			}
			return line.wait(ctx)
		}
	}
	st.end(c.svc.RunTickerLoop(st.ctx, deliver))
	return nil
}

// tick sends t. It fails when the listener has not got it: then the tick goes to another.
func (st *stream) tick(t queue.Tick) error {
	if err := st.send(restapi.EventTicker, strconv.FormatInt(t.ID, 10), restapi.TickOf(t), true); err != nil {
		return err
	}
	return st.gone.Err() // a stream never ends by itself: who goes while a tick leaves has not got it for sure
}

func ackTick(c *call) error {
	in, err := decode[restapi.Ack](c)
	if err != nil {
		return err
	}
	if err := c.acks.settle(c.svc.Namespace(), in); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// acks are the streams whose ticks are settled by their clients.
type acks struct {
	mu    sync.Mutex
	lines map[string]*ackLine
}

// ackLine is one such stream.
type ackLine struct {
	name      string
	namespace string

	mu      sync.Mutex
	tick    int64 // handed out, not settled; 0 = none
	settled chan bool
}

func (a *acks) open(namespace string) *ackLine {
	l := &ackLine{name: strconv.FormatUint(rand.Uint64()|1<<63, 16), namespace: namespace, settled: make(chan bool, 1)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lines == nil {
		a.lines = map[string]*ackLine{}
	}
	a.lines[l.name] = l
	return l
}

func (a *acks) close(l *ackLine) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.lines, l.name)
}

func (a *acks) settle(namespace string, in restapi.Ack) error {
	a.mu.Lock()
	l := a.lines[in.Stream]
	a.mu.Unlock()
	if l == nil || l.namespace != namespace {
		return &queue.Error{Kind: queue.KindNotFound, Subject: "stream", Field: "stream", Msg: "no such stream on this server"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tick == 0 || l.tick != in.ID {
		return &queue.Error{Kind: queue.KindConflict, Subject: "tick " + strconv.FormatInt(in.ID, 10), Field: "id", Msg: "the stream does not hold this tick"}
	}
	l.tick = 0
	l.settled <- in.Delivered == nil || *in.Delivered
	return nil
}

func (l *ackLine) expect(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tick = id
	select {
	case <-l.settled: // of a tick whose time was over before it was settled
	default:
	}
}

// wait ends when the client settled the tick, or is gone.
func (l *ackLine) wait(ctx context.Context) error {
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
