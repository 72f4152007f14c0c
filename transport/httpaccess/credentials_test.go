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

func TestCredentials(t *testing.T) {
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
