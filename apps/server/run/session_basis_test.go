package run

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
)

// TestSessionsLoseTheirRules: a session of a JWT ends with the rule that gave it its rights, as do its open stream and its
// waiting retain, and another session goes on.
func TestSessionsLoseTheirRules(t *testing.T) {
	issuer := oidctest.Start(t)
	log := &lines{}
	s, _, file := startWithIssuer(t, issuer, log)
	claims := issuer.Claims("pgqueue", "ann")
	claims["groups"] = []string{"sre"}
	lost, kept := &page{T: t, url: s.URL()}, &page{T: t, url: s.URL()}
	lost.signIn(issuer.Mint(claims))
	kept.signIn(issuer.Mint(projectedToken(issuer, "mail", "sender")))

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a stream that goes on would not end
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/api/event", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(lost.cookies[0])
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	stream, err := client.Do(r)
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatal(stream, err)
	}
	t.Cleanup(func() { _ = stream.Body.Close() })
	retain := make(chan answer, 1)
	parked := &page{T: t, url: s.URL(), cookies: lost.cookies}
	go func() { retain <- parked.ask("PUT", "/api/task/mail?worker=w&wait=18s", "") }()

	changed := time.Now()
	content := accessFileOf(issuer, "worker@default/mail*")
	replaceFile(t, file, content[:strings.LastIndex(content, "  - ")])
	if _, err := io.Copy(io.Discard, stream.Body); err != nil {
		t.Log("the stream ended with", err)
	}
	a := <-retain
	if took := time.Since(changed); a.StatusCode != http.StatusUnauthorized || took > 10*time.Second {
		t.Errorf("the retain and the stream ended after %v, the retain with %d %s", took, a.StatusCode, a.text)
	}
	lost.want(http.StatusUnauthorized, "GET", "/api/whoami", "")
	kept.want(http.StatusOK, "GET", "/api/whoami", "")
	if !log.contains("has rights of a rule or an authority that has changed or is gone") {
		t.Error("the log does not say why the session is refused")
	}
}

// TestSessionsLoseTheirAuthority: a session of a client certificate ends with the rule, and with the authority, that gave it its
// rights.
func TestSessionsLoseTheirAuthority(t *testing.T) {
	cfg, ca := tlsConfig(t, &lines{})
	clients := newAuthority(t)
	const rules = "rules: [{cert: ann.example.org, grant: [viewer@default]}]"
	cfg.TLSClientCAFile = writeFile(t, clients.pem())
	cfg.AccessFile = writeFile(t, rules)
	s := start(t, cfg)

	ask := func(pair *tls.Certificate, method, path, body string, cookies ...*http.Cookie) (*http.Response, string) {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: ca.trust(pair)}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		for _, c := range cookies {
			r.AddCookie(c)
		}
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(text)
	}

	var code struct{ Code string }
	if _, text := ask(clients.clientPairOf(forClient("ann.example.org")), "POST", "/api/session/code", ""); json.Unmarshal([]byte(text), &code) != nil || code.Code == "" {
		t.Fatal("no code: " + text)
	}
	signedIn, text := ask(nil, "POST", "/api/session", fmt.Sprintf(`{"code":%q}`, code.Code))
	if len(signedIn.Cookies()) != 1 {
		t.Fatal("no session: " + text)
	}
	check := func(when string, want int) {
		t.Helper()
		s.Reload(t.Context())
		if resp, text := ask(nil, "GET", "/api/queue", "", signedIn.Cookies()...); resp.StatusCode != want {
			t.Errorf("%s the session gets %d %s, want %d", when, resp.StatusCode, text, want)
		}
	}

	check("at first", http.StatusOK)
	replaceFile(t, cfg.AccessFile, "rules: []")
	check("without its rule", http.StatusUnauthorized)
	replaceFile(t, cfg.AccessFile, rules)
	check("with its rule", http.StatusOK)
	replaceFile(t, cfg.TLSClientCAFile, clients.pem()+newAuthority(t).pem())
	check("with an authority more", http.StatusOK)
	replaceFile(t, cfg.TLSClientCAFile, newAuthority(t).pem())
	check("without its authority", http.StatusUnauthorized)
}
