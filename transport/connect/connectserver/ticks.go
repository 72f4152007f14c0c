package connectserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// ReceiveTicks sends ticks. A tick is delivered when its Send returns and the client is still connected.
func (s tickers) ReceiveTicks(
	ctx context.Context, req *pb.ReceiveTicksRequest, stream pgqueuev1connect.TickerServiceReceiveTicksServerStream,
) error {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return err
	}
	if err := decideTicks(ctx, svc); err != nil {
		return err
	}
	return serveStream(ctx, s.Server, stream.Send, &pb.ReceiveTicksResponse{}, &pb.ReceiveTicksResponse{}, func(ctx context.Context, send func(*pb.ReceiveTicksResponse) error) error {
		return svc.RunTickerLoop(ctx, func(_ context.Context, t queue.Tick) error {
			if err := send(&pb.ReceiveTicksResponse{Tick: wire.Tick(t)}); err != nil {
				return err
			}
			// A client that disconnects during the send may have missed the tick.
			return ctx.Err()
		})
	})
}

// decideTicks decides about a stream of ticks before its greeting. The loop decides again, and ends with the credential.
func decideTicks(ctx context.Context, svc queue.Service) error {
	_, stop, err := access.Watch(ctx, svc, queue.OpRunTickerLoop)
	stop()
	return err
}

// serveStream runs a stream that only sends. It sends hello at once, and then signs of life between the messages of
// work. It ends with work, with the first failed send and with Drain.
func serveStream[M any](
	ctx context.Context, s *Server, send func(M) error, hello, alive M, work func(context.Context, func(M) error) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	out := &outlet[M]{send: send, timeout: s.sendTimeout, line: lifelineOf(ctx)}
	if err := out.Send(hello); err != nil {
		// The client learns at once that the subscription exists.
		cancel(err)
		return err
	}

	var wg sync.WaitGroup
	wg.Go(func() { out.sendAliveSigns(ctx, s.aliveEvery, alive, cancel) })
	wg.Go(func() { s.watchShutdown(ctx, cancel) })
	err := work(ctx, func(m M) error {
		err := out.Send(m)
		if err != nil {
			cancel(err)
		}
		return err
	})

	// The cause names the first failure; the error of work is only its consequence.
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}

	cancel(err)
	wg.Wait()
	return err
}

// watchShutdown cancels with errDraining if Drain is called before ctx ends.
func (s *Server) watchShutdown(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
	case <-s.draining:
		cancel(errDraining)
	}
}

// HandleTicks sends one tick at a time and waits for the outcome of each.
func (s tickers) HandleTicks(ctx context.Context, stream pgqueuev1connect.TickerServiceHandleTicksServerStream) error {
	line := lifelineOf(ctx)
	ear := &ear{line: line, silence: 3 * s.aliveEvery}
	first, err := receiveWithin(ear, stream.Receive)
	if err != nil {
		return err
	}

	svc, err := s.serviceInNamespace(first.GetNamespace())
	if err != nil {
		return err
	}

	if err := decideTicks(ctx, svc); err != nil {
		return err
	}

	outcomes := make(chan *pb.TickOutcome)
	return serveStream(ctx, s.Server, stream.Send, &pb.HandleTicksResponse{}, &pb.HandleTicksResponse{}, func(ctx context.Context, send func(*pb.HandleTicksResponse) error) error {
		ctx, cancel := context.WithCancelCause(ctx)
		heard := make(chan struct{})

		// The reader receives outcomes and signs of life while the loop sends ticks.
		go func() {
			defer close(heard)
			for {
				m, err := receiveWithin(ear, stream.Receive)
				if err != nil {
					cancel(err)
					return
				}

				if m.GetOutcome() == nil {
					continue
				}

				select {
				case outcomes <- m.GetOutcome():
				case <-ctx.Done():
					return
				}
			}
		}()

		err := svc.RunTickerLoop(ctx, func(_ context.Context, t queue.Tick) error {
			if err := send(&pb.HandleTicksResponse{Tick: wire.Tick(t)}); err != nil {
				return err
			}
			return awaitOutcome(ctx, t.ID, outcomes)
		})
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}

		cancel(err)
		// Without an interruption the Receive ends only after the handler has returned.
		if line.stopReading() {
			<-heard
		}

		if errors.Is(err, io.EOF) {
			return nil
		}

		return err
	})
}

// awaitOutcome waits for the outcome of tick id.
func awaitOutcome(ctx context.Context, id int64, outcomes <-chan *pb.TickOutcome) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-outcomes:
			switch {
			// This is the late outcome of an earlier tick.
			case o.GetId() != id:
			case o.GetFailed():
				return fmt.Errorf("tick %d: its listener could not handle it", id)
			default:
				return nil
			}
		}
	}
}

// ear receives from a peer that must send signs of life.
type ear struct {
	line    *lifeline
	silence time.Duration
}

// receiveWithin receives one message. It fails when the peer stays silent longer than e.silence.
func receiveWithin[M any](e *ear, receive func() (M, error)) (M, error) {
	silent := make(chan struct{})
	watch := time.AfterFunc(e.silence, func() {
		close(silent)
		e.line.stopReading()
	})
	m, err := receive()
	if !watch.Stop() && err != nil {
		<-silent
		err = &queue.Error{Kind: queue.KindUnavailable, Msg: fmt.Sprintf("no message came for %v; open another stream", e.silence), Err: err}
	}
	return m, err
}
