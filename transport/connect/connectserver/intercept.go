package connectserver

import (
	"context"
	"errors"
	"io"
	"strings"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// translateErrors turns the error of every call into one of the table in package wire.
func (s *Server) translateErrors(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		err := next(ctx, spec, stream)
		if err == nil {
			// The caller's deadline passed before the answer left.
			deliveryOf(ctx).recordFailure(ctx.Err())
			return nil
		}
		// The answer is this error.
		deliveryOf(ctx).recordFailure(err)
		err = domainError(err)
		if queue.KindOf(err) == queue.KindInternal && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "call failed", "procedure", spec.Procedure, "request_id", access.CallerFrom(ctx).RequestID, "error", err)
		}
		return wire.ConnectError(err)
	}
}

// domainError returns err as an error of the domain. An error of connect gets the kind of its code. Every other error
// stays.
func domainError(err error) error {
	if errors.Is(err, io.EOF) {
		return &queue.Error{Kind: queue.KindInvalid, Msg: "must have a first message, got the end of the stream; send the request first", Err: err}
	}
	c, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return err
	}
	if d, ok := errors.AsType[*queue.Error](err); ok {
		return d
	}
	return &queue.Error{Kind: wire.KindOfCode(c.Code()), Msg: c.Message(), Err: c.Unwrap()}
}

// decodedStream is a unary call with a compressed message, which takes the bytes of its decoded form from the budget too.
type decodedStream struct {
	connect.ServerStream

	ctx context.Context //nolint:containedctx // of the call
	d   *delivery
}

// Receive implements connect.ServerStream.
func (s decodedStream) Receive(msg any) error {
	if err := s.ServerStream.Receive(msg); err != nil {
		return err
	}

	m, ok := msg.(proto.Message)
	if !ok {
		return nil
	}
	return s.d.claim.CoverRead(s.ctx, s.d.bodies, proto.Size(m))
}

// boundDuration sets a deadline for unary calls without one.
func (s *Server) boundDuration(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if spec.StreamType != connect.StreamTypeUnary {
			lifelineOf(ctx).extendDeadline(0)
			return next(ctx, spec, stream)
		}

		d := deliveryOf(ctx)
		d.boundArrival()
		if d != nil && d.compressed {
			stream = decodedStream{stream, ctx, d}
		}

		if _, ok := ctx.Deadline(); ok {
			return next(ctx, spec, stream)
		}

		// These two calls may wait for a task.
		limit := s.callTimeout
		switch spec.Procedure {
		case pgqueuev1connect.WorkServiceRetainTasksProcedure, pgqueuev1connect.TaskServiceAwaitTaskProcedure:
			limit += queue.MaxWait
		}

		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return next(ctx, spec, stream)
	}
}

// requireAdmin refuses the operations on tokens and rights when this server has none.
func (s *Server) requireAdmin(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if s.admin == nil && strings.HasPrefix(spec.Procedure, "/"+pgqueuev1connect.AccessServiceName+"/") {
			return access.ErrNoAdmin
		}
		return next(ctx, spec, stream)
	}
}
