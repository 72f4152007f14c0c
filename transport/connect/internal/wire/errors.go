package wire

import (
	"context"
	"errors"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// kinds is the only table of errors. Several kinds may share a code, and the detail distinguishes them. An error
// without a detail gets the first kind of its code.
var kinds = []struct {
	kind queue.Kind
	wire pb.Kind
	code connect.Code
}{
	{queue.KindInvalid, pb.Kind_KIND_INVALID, connect.CodeInvalidArgument},
	{queue.KindTooLarge, pb.Kind_KIND_TOO_LARGE, connect.CodeResourceExhausted},
	{queue.KindNotFound, pb.Kind_KIND_NOT_FOUND, connect.CodeNotFound},
	{queue.KindAlreadyExists, pb.Kind_KIND_ALREADY_EXISTS, connect.CodeAlreadyExists},
	{queue.KindConflict, pb.Kind_KIND_CONFLICT, connect.CodeFailedPrecondition},
	{queue.KindLeaseLost, pb.Kind_KIND_LEASE_LOST, connect.CodeAborted},
	{queue.KindKeyReused, pb.Kind_KIND_KEY_REUSED, connect.CodeFailedPrecondition},
	{queue.KindPrecondition, pb.Kind_KIND_PRECONDITION_FAILED, connect.CodeFailedPrecondition},
	{queue.KindExhausted, pb.Kind_KIND_EXHAUSTED, connect.CodeResourceExhausted},
	{queue.KindCursorExpired, pb.Kind_KIND_CURSOR_EXPIRED, connect.CodeOutOfRange},
	{queue.KindSlowReader, pb.Kind_KIND_SLOW_READER, connect.CodeAborted},
	{queue.KindUnavailable, pb.Kind_KIND_UNAVAILABLE, connect.CodeUnavailable},
	{queue.KindIndeterminate, pb.Kind_KIND_INDETERMINATE, connect.CodeUnknown},
	{queue.KindDeadline, pb.Kind_KIND_DEADLINE_EXCEEDED, connect.CodeDeadlineExceeded},
	{queue.KindCanceled, pb.Kind_KIND_CANCELED, connect.CodeCanceled},
	{queue.KindDenied, pb.Kind_KIND_PERMISSION_DENIED, connect.CodePermissionDenied},
	{queue.KindUnauthenticated, pb.Kind_KIND_UNAUTHENTICATED, connect.CodeUnauthenticated},
	{queue.KindInternal, pb.Kind_KIND_INTERNAL, connect.CodeInternal},
}

// KindOfCode returns the kind of an error without a detail.
func KindOfCode(c connect.Code) queue.Kind {
	for _, k := range kinds {
		if k.code == c {
			return k.kind
		}
	}
	return queue.KindInternal
}

// CodeOfKind returns the code for errors of kind k.
func CodeOfKind(k queue.Kind) connect.Code {
	for _, row := range kinds {
		if row.kind == k {
			return row.code
		}
	}
	return connect.CodeInternal
}

// Detail converts err for the wire; nil stays nil. Causes stay behind, because they may contain internals of the
// server.
func Detail(err error) *pb.ErrorDetail {
	if err == nil {
		return nil
	}

	d := &pb.ErrorDetail{Kind: pb.Kind_KIND_INTERNAL}
	kind := queue.KindOf(err)
	if e, ok := errors.AsType[*queue.Error](err); ok {
		// These texts are made for callers. The cause may have names of hosts and tables.
		d.Op, d.Subject, d.Field, d.Message = e.Op, e.Subject, e.Field, e.Msg
		// An error of the runtime, as of a context, has no kind of the domain.
	} else if kind == queue.KindInternal {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			kind = queue.KindDeadline
		case errors.Is(err, context.Canceled):
			kind = queue.KindCanceled
		}
	}

	for _, row := range kinds {
		if row.kind == kind {
			d.Kind = row.wire
			break
		}
	}

	return d
}

// Err returns the error that d describes; nil stays nil. A kind unknown to this program becomes internal.
func Err(d *pb.ErrorDetail) error {
	if d == nil {
		return nil
	}
	return domainError(d, queue.KindInternal)
}

// domainError returns the error of d. The kind is fallback if this program does not know the kind of d.
func domainError(d *pb.ErrorDetail, fallback queue.Kind) *queue.Error {
	e := &queue.Error{Kind: fallback, Op: d.GetOp(), Subject: d.GetSubject(), Field: d.GetField(), Msg: d.GetMessage()}
	for _, row := range kinds {
		if row.wire == d.GetKind() {
			e.Kind = row.kind
			break
		}
	}
	return e
}

// ConnectError returns err as the end of a call: the code of its kind, its text without causes, and the detail.
func ConnectError(err error) *connect.Error {
	d := Detail(err)
	e := domainError(d, queue.KindInternal)
	// The cause stays in this process, for the log; it never travels.
	c := connect.NewError(CodeOfKind(e.Kind), e.Error()).WithCause(err)
	if detail, derr := connectproto.NewErrorDetail(d); derr == nil {
		c = c.WithDetail(detail)
	}
	return c
}

// RemoteError returns the error with which the peer ended a call. Its kind comes from the detail, or else from the
// code.
func RemoteError(err *connect.Error) *queue.Error {
	for _, detail := range err.Details() {
		m, derr := connectproto.UnmarshalErrorDetail(detail)
		// Other details, as of a proxy, say nothing about the kind.
		if d, ok := m.(*pb.ErrorDetail); ok && derr == nil {
			return domainError(d, KindOfCode(err.Code()))
		}
	}
	kind := KindOfCode(err.Code())
	if err.Code() == connect.CodeUnknown {
		// Without a detail of pgqueue, the code does not prove that a request reached the server.
		kind = queue.KindInternal
	}
	return &queue.Error{Kind: kind, Msg: err.Message()}
}
