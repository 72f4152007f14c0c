package run

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
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

// TestSessionsLoseTheirIssuer: a session of a JWT ends with a change of what the trust in its issuer rests on: audience, place of the
// keys, certificates, also inside of their file. It passes again when that is back, so its cookie stays in the browser.
func TestSessionsLoseTheirIssuer(t *testing.T) {
	issuer := oidctest.StartTLS(t, "localhost")
	issuer.SetURL("https://localhost" + issuer.Addr()[strings.LastIndexByte(issuer.Addr(), ':'):])
	certificates, err := os.ReadFile(issuer.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	ca := writeFile(t, string(certificates))
	contentOf := func(settings string) string {
		return fmt.Sprintf("issuers: [{issuer: %[1]q, %s}]\nrules: [{issuer: %[1]q, claim: groups, is: sre, grant: [admin@*]}]\n", issuer.URL(), settings)
	}
	first := contentOf(fmt.Sprintf("audience: pgqueue, ca_file: %q", ca))
	cfg, _ := auditedConfig(io.Discard, access.NewSecret())
	cfg.AccessFile = writeFile(t, first)
	s := start(t, cfg)
	claims := issuer.Claims("pgqueue", "ann")
	claims["groups"] = []string{"sre"}
	p := &page{T: t, url: s.URL()}
	p.signIn(issuer.Mint(claims))

	check := func(when string, want int) {
		t.Helper()
		s.Reload(t.Context())
		if a := p.ask("GET", "/api/whoami", ""); a.StatusCode != want || len(a.Cookies()) != 0 {
			t.Errorf("%s the session gets %d %s, and the cookies %v; want %d and none", when, a.StatusCode, a.text, a.Cookies(), want)
		}
	}
	check("at first", http.StatusOK)
	for when, content := range map[string]string{
		"with another audience":              contentOf(fmt.Sprintf("audience: other, ca_file: %q", ca)),
		"with another place of the keys":     contentOf(fmt.Sprintf("audience: pgqueue, ca_file: %q, keys_url: %q", ca, issuer.URL()+"/other")),
		"without the file of certificates":   contentOf("audience: pgqueue"),
		"with another file of certificates":  contentOf(fmt.Sprintf("audience: pgqueue, ca_file: %q", writeFile(t, newAuthority(t).pem()))),
		"without the issuer and its rules":   "rules: []",
		"with the rules of the other issuer": strings.ReplaceAll(first, issuer.URL(), "https://id.example.com"),
	} {
		replaceFile(t, cfg.AccessFile, content)
		check(when, http.StatusUnauthorized)
		replaceFile(t, cfg.AccessFile, first)
		check("after the time "+when, http.StatusOK)
	}

	replaceFile(t, ca, newAuthority(t).pem())
	check("with other certificates in the file", http.StatusUnauthorized)
	replaceFile(t, ca, string(certificates))
	check("with its certificates", http.StatusOK)
	replaceFile(t, ca, "x")
	check("with a file of another form, so that the former settings stay in use", http.StatusOK)
}

// TestStaleSettingsKeepCookies: a server that could not read the access file of the others refuses their sessions for now, and leaves
// them in the browsers.
func TestStaleSettingsKeepCookies(t *testing.T) {
	issuer := oidctest.Start(t)
	s, _, file := startWithIssuer(t, issuer, io.Discard)
	claims := issuer.Claims("pgqueue", "ann")
	claims["groups"] = []string{"sre"}
	p := &page{T: t, url: s.URL()}
	p.signIn(issuer.Mint(claims))

	// The state of a server that has read none of the rules, and cannot read them now.
	content := accessFileOf(issuer, "worker@default/mail*")
	replaceFile(t, file, content[:strings.LastIndex(content, "  - ")])
	s.Reload(t.Context())
	replaceFile(t, file, "rules: [")
	s.Reload(t.Context())
	if s.files.check(t.Context()) == nil {
		t.Fatal("the file is not refused")
	}
	if a := p.want(http.StatusUnauthorized, "GET", "/api/whoami", ""); len(a.Cookies()) != 0 {
		t.Errorf("the refusal sets %v", a.Cookies())
	}
	replaceFile(t, file, content)
	s.Reload(t.Context())
	p.want(http.StatusOK, "GET", "/api/whoami", "")
}
