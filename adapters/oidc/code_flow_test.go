package oidc_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/oidc"
	"github.com/pgqueue/pgqueue/domain/access"
)

// TestExchangesOfOneAddress: at most two codes of one address are exchanged at one time, so that a slow provider answers another
// address beside them.
func TestExchangesOfOneAddress(t *testing.T) {
	entered, held := make(chan string, 100), make(chan struct{})
	mux := http.NewServeMux()
	issuer := httptest.NewServer(mux)
	defer issuer.Close()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": issuer.URL, "authorization_endpoint": issuer.URL + "/authorize", "token_endpoint": issuer.URL + "/token", "jwks_uri": issuer.URL + "/keys",
		})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		entered <- r.FormValue("code")
		<-held
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
	})
	flow := oidc.NewCodeFlow(oidc.Client{Issuer: access.Issuer{URL: issuer.URL}, ID: "pgqueue", RedirectURL: "http://localhost/callback"}, slog.New(slog.DiscardHandler))
	defer flow.Close()

	var all sync.WaitGroup
	finish := func(remote, code string) {
		ctx := access.WithCaller(t.Context(), access.Caller{Remote: remote})
		all.Go(func() { _, _ = flow.Finish(ctx, code, access.LoginOf(access.NewLoginSecret())) })
	}
	for range 20 {
		finish("192.0.2.1:1000", "flood")
	}
	for range 2 {
		if code := <-entered; code != "flood" {
			t.Fatal(code)
		}
	}
	finish("192.0.2.2:1000", "other")
	if code := <-entered; code != "other" {
		t.Errorf("a third code of the address is exchanged before that of another")
	}
	select {
	case code := <-entered:
		t.Errorf("a further exchange of %q is under way", code)
	default:
	}
	close(held)
	all.Wait()
}
