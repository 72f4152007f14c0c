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

// TestCallbackCountsWrongCodesAlone: a provider that does not answer, and too many sign-ins of the address at once, use up no limit;
// the latter answers 429, so that the browser comes back.
func TestCallbackCountsWrongCodesAlone(t *testing.T) {
	var fault error
	refusals := &httpaccess.Refusals{}
	login := httpaccess.Login{
		Begin:   func(context.Context, access.Login) (string, error) { return "https://issuer.example", nil },
		Finish:  func(context.Context, string, access.Login) (access.Proof, error) { return access.Proof{}, fault },
		Refused: func(context.Context, error) {}, Issuer: "https://issuer.example", Home: "/ui", Refusals: refusals,
	}
	callback := func() *httptest.ResponseRecorder {
		begun := httptest.NewRecorder()
		login.Start(begun, httptest.NewRequest(http.MethodGet, "http://localhost/api/session/oidc", nil))
		cookie := begun.Result().Cookies()[0]
		secret, _, _ := strings.Cut(cookie.Value, ".")
		r := httptest.NewRequest(http.MethodGet, "http://localhost/callback?code=x&state="+access.LoginOf(secret).State, nil)
		r.RemoteAddr = "192.0.2.1:1000"
		r.AddCookie(cookie)
		w := httptest.NewRecorder()
		login.Callback(w, r)
		return w
	}

	for _, c := range []struct {
		fault  error
		status int
		retry  string
	}{
		{&queue.Error{Kind: queue.KindUnavailable, Err: access.ErrLookups, Msg: "must wait"}, http.StatusTooManyRequests, "1"},
		{&queue.Error{Kind: queue.KindUnavailable, Msg: "no provider"}, http.StatusServiceUnavailable, ""},
		{&queue.Error{Kind: queue.KindDeadline, Msg: "no provider"}, http.StatusServiceUnavailable, ""},
	} {
		fault = c.fault
		for range 25 {
			if w := callback(); w.Code != c.status || w.Header().Get("Retry-After") != c.retry {
				t.Fatalf("%v: %d, Retry-After %q", c.fault, w.Code, w.Header().Get("Retry-After"))
			}
		}
	}
	fault = &queue.Error{Kind: queue.KindUnauthenticated, Msg: "wrong"}
	for i := range 21 {
		want := http.StatusUnauthorized
		if i == 20 {
			want = http.StatusTooManyRequests
		}
		if w := callback(); w.Code != want {
			t.Fatalf("wrong code %d gets %d, want %d", i, w.Code, want)
		}
	}
}
