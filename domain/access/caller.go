package access

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Via is the way by which a call came in.
type Via string

// The ways in.
const (
	ViaREST    Via = "rest"
	ViaConnect Via = "connect"
	ViaGRPC    Via = "grpc"
	ViaGRPCWeb Via = "grpcweb"
	// ViaUI is a request with a session, as of a browser.
	ViaUI Via = "ui"
	// ViaCLI is the command line on the database itself. Over a server it comes in by the protocol of its settings.
	ViaCLI Via = "cli"
)

// Caller describes the request of a call for the audit. It proves nothing; see [Principal].
type Caller struct {
	// RequestID is the id of the request, as [RequestID] makes it. The answer has it in the header X-Request-Id.
	RequestID string
	Via       Via
	// Remote is the address of the client.
	Remote string
	// Reason is why the principal did it, in its own words, from the header Pgqueue-Reason.
	Reason string
}

// MaxRequestIDBytes bounds the id that a client gives its request.
const MaxRequestIDBytes = 128

// RequestID returns the id that a client gave its request, or a new one when it is empty, longer than [MaxRequestIDBytes], not
// visible ASCII alone, or the text of a token, which must not reach a log.
func RequestID(given string) string {
	invisible := func(c rune) bool { return c <= ' ' || c > '~' }
	if given == "" || len(given) > MaxRequestIDBytes || strings.ContainsFunc(given, invisible) || HideSecrets(given) != given {
		return strconv.FormatUint(rand.Uint64()|1<<63, 16)
	}
	return given
}

// callerKey is the key of the caller in a context.
type callerKey struct{}

// WithCaller returns ctx with the caller of its call.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller of a call; the zero one without it.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
