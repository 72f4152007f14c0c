package httpaccess_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

// auditList keeps the entries of one goroutine.
type auditList struct {
	access.AuditLog
	entries []access.AuditEntry
}

func (l *auditList) RecordAudit(_ context.Context, e access.AuditEntry) error {
	l.entries = append(l.entries, e)
	return nil
}

// TestRefusedCredentialsAreAudited: each request without a valid credential leaves an entry without the credential, and a
// passed one brings its caller to the service.
func TestRefusedCredentialsAreAudited(t *testing.T) {
	known, unknown := access.NewSecret(), access.NewSecret()
	log := &auditList{}
	var caller access.Caller
	handler := httpaccess.Identify(httpaccess.Credentials{
		Authenticate: func(_ context.Context, text string) (*access.Principal, error) {
			if text == known.Reveal() {
				return access.Local(), nil
			}
			return nil, &queue.Error{Kind: queue.KindUnauthenticated, Msg: "unknown"}
		},
		Open:   func(*http.Request) bool { return false },
		Public: func(*http.Request) bool { return false },
		Refuse: func(w http.ResponseWriter, _ *http.Request, status int, _ *queue.Error) { w.WriteHeader(status) },
		Audit:  access.NewAuditRecorder(access.AuditSettings{Log: log}),
	}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { caller = access.CallerFrom(r.Context()) })))

	for _, c := range []struct {
		path, token, id string
		via             access.Via
		entries         int
	}{
		{"/api/queue", "", "", access.ViaREST, 1},
		{"/api/queue", unknown.Reveal(), unknown.ID(), access.ViaREST, 1},
		{"/pgqueue.v1.QueueService/ListQueues", access.NewSecret().Reveal() + "x", "", access.ViaConnect, 0}, // as the first, so counted
		{"/pgqueue.v1.QueueService/ListQueues", known.Reveal(), "", access.ViaConnect, 0},
	} {
		log.entries = nil
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header.Set("Pgqueue-Reason", "with "+unknown.Reveal())
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)

		if len(log.entries) != c.entries {
			t.Errorf("%s: %d entries, want %d", c.path, len(log.entries), c.entries)
			continue
		}
		for _, e := range log.entries {
			if e.PrincipalID != c.id || e.Via != c.via || e.Remote != r.RemoteAddr || e.Outcome != string(queue.KindUnauthenticated) ||
				e.RequestID == "" || e.RequestID != w.Header().Get("X-Request-Id") ||
				strings.Contains(e.Reason, unknown.Reveal()) || !strings.Contains(e.Reason, "[redacted]") {
				t.Errorf("%s: got %+v", c.path, e)
			}
		}
	}
	if caller.Via != access.ViaConnect || caller.Remote == "" || !strings.HasPrefix(caller.Reason, "with ") {
		t.Errorf("the service sees the caller %+v", caller)
	}
}

// TestIdentify: each request has its way in, and one id that the client may choose unless it cannot be logged.
func TestIdentify(t *testing.T) {
	const rpc = "/pgqueue.v1.QueueService/ListQueues"
	token := access.NewSecret().Reveal()
	for _, c := range []struct {
		path, media, id string
		via             access.Via
		kept            bool // the id of the client
	}{
		{"/api/queue", "application/json", "mine-1", access.ViaREST, true},
		{"/api/queue", "application/grpc", "", access.ViaREST, false},
		{"/pgqueue", "", strings.Repeat("x", 128), access.ViaREST, true},
		{rpc, "", strings.Repeat("x", 129), access.ViaConnect, false},
		{rpc, "application/proto", "two words", access.ViaConnect, false},
		{rpc, "application/connect+json", "\u00fc", access.ViaConnect, false},
		{rpc, "application/grpc+proto", token, access.ViaGRPC, false},
		{rpc, "application/grpc", "my-" + token, access.ViaGRPC, false},
		{rpc, "application/grpc-web+proto", "mine", access.ViaGRPCWeb, true},
	} {
		var got access.Caller
		handler := httpaccess.Identify(httpaccess.Credentials{
			Authenticate: func(context.Context, string) (*access.Principal, error) { return access.Local(), nil },
			Public:       func(*http.Request) bool { return false },
		}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = access.CallerFrom(r.Context()) })))
		r := httptest.NewRequest(http.MethodPost, c.path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", c.media)
		r.Header.Set("X-Request-Id", c.id)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)

		id := w.Header().Get("X-Request-Id")
		if got.Via != c.via || got.RequestID != id || (id == c.id) != c.kept || len(id) < 4 {
			t.Errorf("%+v: the caller is %+v, and the answer has the id %q", c, got, id)
		}
	}
}
