package httpaccess_test

import (
	"context"
	"encoding/base64"
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

// newGate returns a handler that answers the id of the principal, behind credentials of which "good" is the only valid one.
func newGate(open bool) http.Handler {
	return httpaccess.Credentials{
		Authenticate: func(_ context.Context, token string) (*access.Principal, error) {
			switch token {
			case "good":
				return access.NewPrincipal("good-id", "good", access.KindToken, nil), nil
			case "down":
				return nil, &queue.Error{Kind: queue.KindUnavailable, Msg: "no database"}
			}
			return nil, &queue.Error{Kind: queue.KindUnauthenticated, Msg: "must be valid, got another"}
		},
		Open:   func(*http.Request) bool { return open },
		Public: func(r *http.Request) bool { return r.URL.Path == "/livez" },
		Refuse: func(w http.ResponseWriter, _ *http.Request, status int, reason *queue.Error) {
			w.Header().Set("Kind", string(reason.Kind))
			w.WriteHeader(status)
			_, _ = w.Write([]byte(reason.Field + ": " + reason.Msg))
		},
	}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := access.From(r.Context()); p != nil {
			_, _ = w.Write([]byte(p.ID))
		}
	}))
}

func request(h http.Handler, path, remote string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, nil)
	r.RemoteAddr = remote
	for _, value := range authorization {
		r.Header.Add("Authorization", value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// basic returns a header of the scheme Basic.
func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func TestCredentials(t *testing.T) {
	token := access.NewSecret().Reveal()
	const (
		jwt     = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
		carried = "must be Bearer and a token, got a token in another form"
	)
	for name, c := range map[string]struct {
		open   bool
		path   string
		header []string
		status int
		body   string
	}{
		"a valid token passes":                        {false, "/api/task", []string{"Bearer good"}, 200, "good-id"},
		"the scheme has any case":                     {false, "/api/task", []string{"bearer  good"}, 200, "good-id"},
		"a valid token names its owner when open":     {true, "/api/task", []string{"Bearer good"}, 200, "good-id"},
		"no credential is refused":                    {false, "/api/task", nil, 401, "Authorization: must be a bearer token"},
		"no credential is local when open":            {true, "/api/task", nil, 200, "local"},
		"a wrong token is refused":                    {false, "/api/task", []string{"Bearer bad"}, 401, "Authorization: must be valid"},
		"a wrong token is refused when open":          {true, "/api/task", []string{"Bearer bad"}, 401, "Authorization: must be valid"},
		"a public route needs none":                   {false, "/livez", nil, 200, ""},
		"a route that ends alike is not public":       {false, "/api/queue/livez", nil, 401, "Authorization"},
		"a public route looks at no token":            {false, "/livez", []string{"Bearer bad"}, 200, ""},
		"two headers are refused":                     {true, "/api/task", []string{"Bearer good", "Bearer good"}, 400, "must be one header, got 2"},
		"another scheme counts as none":               {false, "/api/task", []string{"Basic Z29vZA=="}, 401, "must be a bearer token, got none"},
		"another scheme passes when open":             {true, "/api/task", []string{"Basic Z29vZA=="}, 200, "local"},
		"Basic with a password passes when open":      {true, "/api/task", []string{basic("ann", "pgq")}, 200, "local"},
		"Digest passes when open":                     {true, "/api/task", []string{`Digest username="ann"`}, 200, "local"},
		"a token without a scheme is refused":         {true, "/api/task", []string{token}, 401, carried},
		"a JWT without a scheme is refused":           {true, "/api/task", []string{jwt}, 401, carried},
		"a token behind Token is refused":             {true, "/api/task", []string{"Token " + token}, 401, carried},
		"a JWT behind JWT is refused":                 {true, "/api/task", []string{"JWT " + jwt}, 401, carried},
		"a token in a field is refused":               {true, "/api/task", []string{`Token token="` + token + `"`}, 401, carried},
		"a token as a password is refused":            {true, "/api/task", []string{basic("x", token)}, 401, carried},
		"a token as a name is refused":                {true, "/api/task", []string{basic(token, "")}, 401, carried},
		"a JWT as a password is refused":              {true, "/api/task", []string{basic("oauth2", jwt)}, 401, carried},
		"a session as a password is refused":          {false, "/api/task", []string{basic("x", "pgs"+token[3:])}, 401, carried},
		"a token behind Bearer: is refused":           {true, "/api/task", []string{"Bearer: " + token}, 401, carried},
		"no token behind the scheme is refused":       {true, "/api/task", []string{"Bearer "}, 400, "must be Bearer and one token"},
		"an empty header counts as none":              {false, "/api/task", []string{""}, 401, "got none"},
		"two tokens in one header are refused":        {true, "/api/task", []string{"Bearer good, Bearer bad"}, 400, "must be Bearer and one token"},
		"a database that is down refuses for a while": {false, "/api/task", []string{"Bearer down"}, 503, "repeat the request"},
	} {
		t.Run(name, func(t *testing.T) {
			w := request(newGate(c.open), c.path, "192.0.2.1:1000", c.header...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
			if strings.Contains(w.Body.String(), token) || strings.Contains(w.Body.String(), jwt) {
				t.Errorf("the answer has the credential: %q", w.Body)
			}
			if got := w.Header().Get("WWW-Authenticate"); (got != "") != (c.status == 401) {
				t.Errorf("status %d has WWW-Authenticate %q", w.Code, got)
			}
		})
	}
}

// TestRefusedCredentialsAreLimited: by network; a valid credential passes all the same.
func TestRefusedCredentialsAreLimited(t *testing.T) {
	gate := newGate(false)
	for i := range 20 {
		if w := request(gate, "/x", "192.0.2.1:1000", "Bearer bad"); w.Code != 401 {
			t.Fatalf("request %d gets %d", i, w.Code)
		}
	}

	w := request(gate, "/x", "192.0.2.1:2000", "Bearer bad")
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "must be valid, got another one") {
		t.Errorf("one more gets %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	for range 500 {
		if w := request(gate, "/x", "192.0.2.1:3000", "Bearer good"); w.Code != 200 {
			t.Fatalf("a valid token from that address gets %d", w.Code)
		}
	}
	if w := request(gate, "/x", "192.0.2.2:1000", "Bearer bad"); w.Code != 401 {
		t.Errorf("another address gets %d", w.Code)
	}

	// The addresses of one /64 share a count.
	for range 20 {
		request(gate, "/x", "[2001:db8::1]:1000", "Bearer bad")
	}
	if w := request(gate, "/x", "[2001:db8::2]:1000", "Bearer bad"); w.Code != 429 {
		t.Errorf("another address of the network gets %d", w.Code)
	}
	if w := request(gate, "/x", "[2001:db8:0:1::1]:1000", "Bearer bad"); w.Code != 401 {
		t.Errorf("another network gets %d", w.Code)
	}
}

// TestManyAddressesEndNoCount: a flood from more addresses than have counts of their own shares one, and the others go on.
func TestManyAddressesEndNoCount(t *testing.T) {
	var refusals httpaccess.Refusals
	now := time.Unix(0, 0)
	count := func(remote string) bool {
		_, exceeded := refusals.Count(remote, "Authorization", now)
		return exceeded
	}
	const known = "192.0.2.1:1000"
	for range 21 {
		count(known)
	}
	for i := range 10_000 {
		count(fmt.Sprintf("10.0.%d.%d:1000", i/256, i%256))
	}

	if !count(known) || !refusals.Exceeds(known, now) {
		t.Error("an address has lost its count")
	}
	exceeded := 0
	for i := range 100 {
		if count(fmt.Sprintf("10.1.0.%d:1000", i)) {
			exceeded++
		}
	}
	if exceeded < 75 || exceeded == 100 {
		t.Errorf("%d of 100 new addresses exceed the limit that they share", exceeded)
	}
	if _, exceeded := refusals.Count("10.1.0.1:1000", "Cookie", now); exceeded {
		t.Error("another kind of credential shares that count")
	}
	now = now.Add(time.Minute)
	if count(known) {
		t.Error("a count lasts for more than its minute")
	}
}

// TestRefusedCertificatesAreLimited: as other credentials, and a valid certificate passes all the same.
func TestRefusedCertificatesAreLimited(t *testing.T) {
	log := &auditList{}
	gate := httpaccess.Credentials{
		Certificate: func(r *http.Request) (*access.Principal, error) {
			if r.URL.Path == "/valid" {
				return access.NewPrincipal("spiffe://a/b", "", access.KindCertificate, []access.Grant{{Role: access.RoleViewer, Namespace: "*"}}), nil
			}
			return nil, &queue.Error{Kind: queue.KindUnauthenticated, Msg: "must be valid, got another"}
		},
		Open:   func(*http.Request) bool { return true },
		Public: func(*http.Request) bool { return false },
		Refuse: func(w http.ResponseWriter, _ *http.Request, status int, _ *queue.Error) { w.WriteHeader(status) },
		Audit:  access.NewAuditRecorder(access.AuditSettings{Log: log}),
	}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i := range 20 {
		if w := request(gate, "/x", "192.0.2.1:1000"); w.Code != 401 {
			t.Fatalf("request %d gets %d", i, w.Code)
		}
	}
	if w := request(gate, "/x", "192.0.2.1:1000"); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more gets %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if w := request(gate, "/valid", "192.0.2.1:1000"); w.Code != 200 {
		t.Errorf("a valid certificate gets %d", w.Code)
	}
	if len(log.entries) != 1 || log.entries[0].PrincipalKind != access.KindCertificate || log.entries[0].Outcome != string(queue.KindUnauthenticated) {
		t.Errorf("the audit has %+v", log.entries)
	}

	log.entries = nil
	if w := request(gate, "/valid", "192.0.2.1:1000", "Bearer good"); w.Code != 400 {
		t.Errorf("a certificate and a token get %d", w.Code)
	}
	if len(log.entries) != 1 || log.entries[0].PrincipalID != "spiffe://a/b" || log.entries[0].Outcome != string(queue.KindInvalid) {
		t.Errorf("the audit has %+v", log.entries)
	}
}
