package connectclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgqueue/pgqueue/domain/pace"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// repeat reports whether the client may send a call again after an unknown result.
type repeat bool

const (
	repeatable repeat = true
	once       repeat = false
)

// firstPause and lastPause bound the delay between two repeats.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// sendCall sends req. A call that only reads is repeated after an unknown result.
func sendCall[Req, Res proto.Message](
	ctx context.Context, c *Client, op queue.Op, send func(context.Context, Req) (Res, error), req Req,
) (Res, error) {
	return sendWaiting(ctx, c, op, repeat(op.Reads()), 0, send, req)
}

// sendRepeated is sendCall for a change, which again says whether to repeat.
func sendRepeated[Req, Res proto.Message](
	ctx context.Context, c *Client, op queue.Op, again repeat, send func(context.Context, Req) (Res, error), req Req,
) (Res, error) {
	return sendWaiting(ctx, c, op, again, 0, send, req)
}

// sendWaiting is sendRepeated for a request that waits on the server for the duration wait. Without a deadline in ctx,
// the call ends when no bytes move for wait plus the client's timeout.
func sendWaiting[Req, Res proto.Message](
	ctx context.Context, c *Client, op queue.Op, again repeat, wait time.Duration,
	send func(context.Context, Req) (Res, error), req Req,
) (Res, error) {
	return repeatSafely(ctx, c.shared, op, again, func(ctx context.Context) (Res, error) {
		// The pace counts the bytes of this one request, so each repeat starts a new one.
		if _, bounded := ctx.Deadline(); !bounded {
			var stop func()
			ctx, stop = pace.Start(ctx, wait, c.timeout)
			defer stop()
		}

		res, err := send(ctx, req)
		if err != nil {
			return res, translateError(ctx, req, err)
		}
		return res, nil
	})
}

// attemptWithTimeout runs repeatSafely within the client's timeout plus wait. Streams use it, because many calls share the bytes
// of a stream and the pace of one call cannot be measured.
func attemptWithTimeout[T any](
	ctx context.Context, c *shared, op queue.Op, again repeat, wait time.Duration, do func(context.Context) (T, error),
) (T, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(wait, 0)+c.timeout)
		defer cancel()
	}
	return repeatSafely(ctx, c, op, again, do)
}

// repeatSafely runs do until it succeeds, the retries are used up or ctx ends. A call that did not reach the server
// is always repeated; a call with an unknown result is repeated only if again allows it.
func repeatSafely[T any](
	ctx context.Context, c *shared, op queue.Op, again repeat, do func(context.Context) (T, error),
) (T, error) {
	for n := 0; ; n++ {
		v, err := do(ctx)
		if err == nil {
			return v, nil
		}

		if f, ok := errors.AsType[*final](err); ok {
			var none T
			return none, queue.WithOp(op.String(), f.error)
		}

		safe := errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrIndeterminate) && bool(again)
		if n >= c.retries || !safe || !queue.WaitToRepeat(ctx, retryDelay(n)) {
			var none T
			return none, queue.WithOp(op.String(), err)
		}

		// The repeat must not use the connection that just failed.
		c.dropIdleConnections()
	}
}

// retryDelay returns the delay before the nth repeat, with jitter.
func retryDelay(n int) time.Duration {
	d := min(firstPause<<min(n, 16), lastPause)
	return d/2 + rand.N(d)
}

// translateError returns the error of a call of req as a *queue.Error.
func translateError(ctx context.Context, req proto.Message, err error) error {
	c, ok := errors.AsType[*connect.Error](err)
	if ok && c.IsRemote() {
		return wire.RemoteError(c)
	}

	// The caller's own context explains the failure better than the connection's error.
	switch cause := ctx.Err(); {
	case cause != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return &queue.Error{Kind: queue.KindDeadline, Err: context.DeadlineExceeded}
	case cause != nil:
		return &queue.Error{Kind: queue.KindCanceled, Err: cause}
	}

	// A failed dial proves that the server has not received the request.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return &queue.Error{Kind: queue.KindUnavailable, Msg: "the server cannot be reached; check the URL and retry later", Err: err}
	}

	if fault := refusedHandshake(err); fault != nil {
		return fault
	}
	if !ok {
		return brokenConnection(err)
	}

	if fault := translateForeignCode(req, c); fault != nil {
		return fault
	}
	// The library has no type for this error. Its text names the one frame header that is the beginning of an HTTP/1.1 answer, so
	// the other end has not understood the request.
	if strings.Contains(err.Error(), "looked like an HTTP/1.1 header") {
		return queue.Invalid("url", "must be a server with HTTP/2 without TLS, got HTTP/1.1; use https or REST")
	}
	return brokenConnection(err)
}

// translateForeignCode returns the error for a code that the client library, a proxy or another server gave; nil for a code that
// means a broken connection.
func translateForeignCode(req proto.Message, c *connect.Error) error {
	switch code := c.Code(); code { //nolint:exhaustive // all other codes mean a broken connection
	case connect.CodeResourceExhausted:
		return &queue.Error{Kind: queue.KindTooLarge, Msg: c.Message()}
	case connect.CodeInternal:
		if field := findInvalidText(req.ProtoReflect()); field != "" {
			return queue.Invalid(field, "must be valid UTF-8; encode the text as UTF-8")
		}
	case connect.CodePermissionDenied, connect.CodeUnauthenticated:
		// The error comes from a proxy.
		return &queue.Error{Kind: wire.KindOfCode(code), Msg: c.Message()}
	case connect.CodeUnimplemented, connect.CodeNotFound:
		return &queue.Error{Kind: queue.KindInternal, Msg: "the answer is not one of pgqueue; is this the URL of its root? " + c.Message()}
	}
	return nil
}

// refusedHandshake returns the error of a TLS handshake that one side refused, or nil. The server has not acted on the call.
func refusedHandshake(err error) error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &queue.Error{Kind: queue.KindDenied, Msg: "the server's certificate is not accepted; check the URL and the authorities", Err: err}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return &queue.Error{Kind: queue.KindDenied, Msg: "the server refuses the TLS connection; check the client certificate", Err: err}
	}
	return nil
}

// http2Missing returns the error of a bidirectional stream over HTTP/1.1, or nil for every other failure.
func http2Missing(info *connect.CallInfo) error {
	h, ok := info.TransportInfo.(*connecthttp.ClientInfo)
	if !ok || h.ResponseStatus() != http.StatusHTTPVersionNotSupported {
		return nil
	}
	return &final{queue.Invalid("http_client", "must speak HTTP/2 for streams that go both ways, got HTTP/1.1; allow HTTP/2, or use REST")}
}

// brokenConnection returns the error of a connection that broke after the request had left.
func brokenConnection(err error) error {
	return &queue.Error{Kind: queue.KindIndeterminate, Msg: "the connection broke before the answer; check the state before a repeat", Err: err}
}

// findInvalidText returns the path of the first text in m that is not valid UTF-8, or "". Protobuf cannot carry such text.
func findInvalidText(m protoreflect.Message) string {
	found := ""
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(f.Name())
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if isInvalidText(k.Interface()) || isInvalidText(v.Interface()) {
					found = name
				}
				return found == ""
			})

		case f.IsList():
			for i := 0; i < v.List().Len() && found == ""; i++ {
				found = findInListElement(f, name, i, v.List().Get(i))
			}

		case f.Message() != nil:
			// A single message only wraps fields of the domain.
			found = findInvalidText(v.Message())
		case isInvalidText(v.Interface()):
			found = name
		}

		return found == ""
	})

	return found
}

// findInListElement returns the path of the first invalid text in element i of the list called name, or "".
func findInListElement(f protoreflect.FieldDescriptor, name string, i int, v protoreflect.Value) string {
	switch {
	case f.Message() != nil:
		if inner := findInvalidText(v.Message()); inner != "" {
			return fmt.Sprintf("%s[%d].%s", name, i, inner)
		}
	case isInvalidText(v.Interface()):
		return name
	}
	return ""
}

// isInvalidText reports whether a value of a field is text that is not valid UTF-8.
func isInvalidText(value any) bool {
	text, ok := value.(string)
	return ok && !utf8.ValidString(text)
}
