package access

import "context"

// Via is the way by which a call came in.
type Via string

// The ways in.
const (
	ViaREST    Via = "rest"
	ViaConnect Via = "connect"
	ViaUI      Via = "ui"
	// ViaCLI is the command line on the database itself. Over a server it comes in by REST.
	ViaCLI Via = "cli"
)

// Caller describes the request of a call for the audit. It proves nothing; see [Principal].
type Caller struct {
	RequestID string
	Via       Via
	// Remote is the address of the client.
	Remote string
	// Reason is why the principal did it, in its own words, from the header Pgqueue-Reason.
	Reason string
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
