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
	handler := httpaccess.Credentials{
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
	}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { caller = access.CallerFrom(r.Context()) }))

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
		handler.ServeHTTP(httptest.NewRecorder(), r)

		if len(log.entries) != c.entries {
			t.Errorf("%s: %d entries, want %d", c.path, len(log.entries), c.entries)
			continue
		}
		for _, e := range log.entries {
			if e.PrincipalID != c.id || e.Via != c.via || e.Remote != r.RemoteAddr || e.Outcome != string(queue.KindUnauthenticated) ||
				strings.Contains(e.Reason, unknown.Reveal()) || !strings.Contains(e.Reason, "[redacted]") {
				t.Errorf("%s: got %+v", c.path, e)
			}
		}
	}
	if caller.Via != access.ViaConnect || caller.Remote == "" || !strings.HasPrefix(caller.Reason, "with ") {
		t.Errorf("the service sees the caller %+v", caller)
	}
}
