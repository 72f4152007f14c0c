package httpaccess_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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

// TestMalformedCredentialsAreAudited: a request with a credential of the wrong form or with two, which is none of them, leaves an
// entry without the credential.
func TestMalformedCredentialsAreAudited(t *testing.T) {
	secret := access.NewSecret()
	for name, c := range map[string]struct {
		header  []string
		cookie  string
		status  int
		outcome queue.Kind
		id      string
	}{
		"two headers":           {[]string{"Bearer " + secret.Reveal(), "Bearer x"}, "", 400, queue.KindInvalid, ""},
		"a header without one":  {[]string{"Bearer "}, "", 400, queue.KindInvalid, ""},
		"a token and a session": {[]string{"Bearer " + secret.Reveal()}, "x", 400, queue.KindInvalid, ""},
		"a token as a password": {[]string{basic("x", secret.Reveal())}, "", 401, queue.KindUnauthenticated, secret.ID()},
	} {
		t.Run(name, func(t *testing.T) {
			log := &auditList{}
			credentials := httpaccess.Credentials{
				Open:    func(*http.Request) bool { return true },
				Public:  func(*http.Request) bool { return false },
				Session: func(context.Context, string) (*access.Principal, error) { return access.Local(), nil },
				Refuse:  func(w http.ResponseWriter, _ *http.Request, status int, _ *queue.Error) { w.WriteHeader(status) },
				Audit:   access.NewAuditRecorder(access.AuditSettings{Log: log}),
			}
			r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
			for _, value := range c.header {
				r.Header.Add("Authorization", value)
			}
			if c.cookie != "" {
				w := httptest.NewRecorder()
				credentials.Cookie.Set(w, r, access.OpenedSession{Session: access.Session{ExpiresAt: time.Unix(60, 0), Now: time.Unix(0, 0)}, Secret: secret})
				r.Header.Set("Cookie", w.Result().Cookies()[0].String())
			}
			w := httptest.NewRecorder()
			httpaccess.Identify(credentials.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request passes") }))).ServeHTTP(w, r)

			if w.Code != c.status || len(log.entries) != 1 {
				t.Fatalf("%d, and the audit has %+v", w.Code, log.entries)
			}
			if e := log.entries[0]; e.Outcome != string(c.outcome) || e.PrincipalID != c.id || e.Remote == "" || strings.Contains(fmt.Sprint(e), secret.Reveal()) {
				t.Errorf("the entry is %+v", e)
			}
		})
	}
}
