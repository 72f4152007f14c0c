package run

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// page is a page of a server in a browser, which sends its cookies and says where requests come from.
type page struct {
	*testing.T
	url     string
	cookies []*http.Cookie
}

// answer is a response that was read.
type answer struct {
	*http.Response
	text string
}

// ask sends a request as a script of the page does; header are pairs, and an empty value removes one.
func (p *page) ask(method, path, body string, header ...string) answer {
	p.Helper()
	// A stream that should be refused would not end.
	ctx, cancel := context.WithTimeout(p.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method != http.MethodGet {
		r.Header.Set("Origin", p.url)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, c := range p.cookies {
		r.AddCookie(c)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		switch {
		case header[i] == "Host":
			r.Host = header[i+1]
		case header[i+1] == "":
			r.Header.Del(header[i])
		}
	}

	resp, err := client.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		p.Fatal(err)
	}
	return answer{resp, string(text)}
}

// want checks the status of an answer.
func (p *page) want(status int, method, path, body string, header ...string) answer {
	p.Helper()
	a := p.ask(method, path, body, header...)
	if a.StatusCode != status {
		p.Errorf("%s %s %v: %d %s, want %d", method, path, header, a.StatusCode, a.text, status)
	}
	return a
}

// signIn opens a session by a token and keeps its cookie.
func (p *page) signIn(token string) *http.Cookie {
	p.Helper()
	a := p.want(http.StatusCreated, "POST", "/api/session", `{"token":"`+token+`"}`)
	if len(a.Cookies()) != 1 {
		p.Fatalf("the answer sets %v", a.Cookies())
	}
	p.cookies = a.Cookies()
	return a.Cookies()[0]
}

// startClosed starts a closed server with an admin token, and n servers more over its store.
func startClosed(t *testing.T, n int, change ...func(*Config)) (token string, urls []string) {
	t.Helper()
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.AdminToken = access.NewSecret().Reveal()
	for _, f := range change {
		f(&cfg)
	}
	urls = append(urls, start(t, cfg).URL())
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	for range n {
		urls = append(urls, start(t, cfg).URL())
	}
	return cfg.AdminToken, urls
}

// TestSessions signs in over HTTP and uses the session on each way in that a page has.
func TestSessions(t *testing.T) {
	token, urls := startClosed(t, 0)
	p := &page{T: t, url: urls[0]}
	address, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a token opens a session with a cookie that scripts and other sites do not get", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		a := p.want(http.StatusCreated, "POST", "/api/session", `{"token":"`+token+`"}`)
		c := a.Cookies()[0]
		if c.Name != "pgqueue-"+address.Port() || !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 12*3600 {
			t.Errorf("the cookie is %+v", c)
		}
		if strings.Contains(a.text, c.Value) || strings.Contains(a.text, token) || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("the answer is %s with %v", a.text, a.Header)
		}
	})

	t.Run("a code opens one session", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		var code restapi.Code
		a := p.want(http.StatusCreated, "POST", "/api/session/code", "", "Authorization", "Bearer "+token)
		if err := json.Unmarshal([]byte(a.text), &code); err != nil || a.Header.Get("Cache-Control") != "no-store" {
			t.Fatal(err, a.Header)
		}
		for _, wrong := range []string{`{"code":"` + spoilChecksum(code.Code) + `"}`, `{"token":"` + spoilChecksum(token) + `"}`} {
			if a := p.want(http.StatusUnauthorized, "POST", "/api/session", wrong); strings.Contains(a.text, "pgq_") || strings.Contains(a.text, code.Code[:12]) {
				t.Errorf("a wrong checksum gets %s", a.text)
			}
		}
		a = p.want(http.StatusCreated, "POST", "/api/session", `{"code":"`+code.Code+`"}`)
		p.cookies = a.Cookies()
		p.want(http.StatusOK, "GET", "/api/queue", "")
		p.want(http.StatusUnauthorized, "POST", "/api/session", `{"code":"`+code.Code+`"}`)
		p.want(http.StatusForbidden, "POST", "/api/session/code", "") // a session makes none
	})

	t.Run("it works over REST, server-sent events and Connect", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		p.signIn(token)
		if a := p.want(http.StatusOK, "GET", "/api/whoami", ""); !strings.Contains(a.text, `"kind":"session"`) || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("the caller is %s with %v", a.text, a.Header)
		}
		p.want(http.StatusCreated, "POST", "/api/queue", `{"queue":"mail"}`)
		p.want(http.StatusOK, "GET", "/api/event", "", "Accept", "application/json")
		p.want(http.StatusOK, "POST", "/pgqueue.v1.QueueService/ListQueues", `{}`)
		if a := p.want(http.StatusOK, "GET", "/api/session", ""); !strings.Contains(a.text, `"live":true`) {
			t.Errorf("the list is %s", a.text)
		}
	})

	t.Run("a change needs a page of this server", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		p.signIn(token)
		for name, header := range map[string][]string{
			"no header of a browser":      {"Origin", "", "Sec-Fetch-Site", ""},
			"an address that was typed":   {"Origin", "", "Sec-Fetch-Site", "none"},
			"another site":                {"Origin", "https://evil.example"},
			"another port":                {"Origin", "http://127.0.0.1:1"},
			"a page without an origin":    {"Origin", "null"},
			"a neighbour without Origin":  {"Origin", "", "Sec-Fetch-Site", "same-site"},
			"another site without Origin": {"Origin", "", "Sec-Fetch-Site", "cross-site"},
		} {
			for _, path := range []string{"/api/queue", "/pgqueue.v1.QueueService/CreateQueue"} {
				if a := p.ask("POST", path, `{"queue":"stolen"}`, header...); a.StatusCode != http.StatusForbidden {
					t.Errorf("%s, %s: %d %s", name, path, a.StatusCode, a.text)
				}
			}
		}
		p.want(http.StatusForbidden, "GET", "/api/ticker/next", "", "Sec-Fetch-Site", "") // a GET that takes ticks
		p.want(http.StatusNotFound, "GET", "/api/queue/stolen", "")
		p.want(http.StatusCreated, "POST", "/api/queue", `{"queue":"own"}`, "Origin", "") // Sec-Fetch-Site alone
	})

	t.Run("two credentials are refused, and two cookies", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		c := p.signIn(token)
		p.want(http.StatusBadRequest, "GET", "/api/queue", "", "Authorization", "Bearer "+token)
		p.want(http.StatusOK, "GET", "/api/queue", "", "Authorization", "Basic YTpi") // of a proxy
		p.cookies = []*http.Cookie{c, {Name: c.Name, Value: "x"}}
		p.want(http.StatusBadRequest, "GET", "/api/queue", "")
		p.cookies = []*http.Cookie{{Name: c.Name, Value: "x"}, c}
		p.want(http.StatusBadRequest, "GET", "/api/queue", "")
		p.cookies = []*http.Cookie{{Name: "pgqueue-1", Value: "x"}, {Name: "__Host-pgqueue", Value: "x"}, {Name: "pgqueue", Value: "x"}, c}
		p.want(http.StatusOK, "GET", "/api/queue", "") // those of other servers
	})

	t.Run("a wrong cookie is refused and removed", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		c := p.signIn(token)
		name := c.Name
		for _, value := range []string{token, "pgs_" + token[4:], spoilChecksum(c.Value), "x", strings.Repeat("x", 4096), "%00"} {
			p.cookies = []*http.Cookie{{Name: name, Value: value}}
			a := p.want(http.StatusUnauthorized, "GET", "/api/queue", "")
			if cleared := a.Cookies(); len(cleared) != 1 || cleared[0].Name != name || cleared[0].MaxAge >= 0 || cleared[0].Value != "" {
				t.Errorf("the answer sets %v", cleared)
			}
			if strings.Contains(a.text, token) {
				t.Error("the answer shows the cookie")
			}
		}
		p.cookies = []*http.Cookie{{Name: name, Value: ""}}
		if a := p.want(http.StatusUnauthorized, "GET", "/api/queue", ""); !strings.Contains(a.text, "got none") {
			t.Errorf("an empty cookie gets %s", a.text)
		}
		p.cookies = []*http.Cookie{{Name: name, Value: strings.Repeat("x", 100_000)}}
		if a := p.ask("GET", "/api/queue", ""); a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a huge cookie gets %d", a.StatusCode)
		}
	})

	t.Run("a session that the browser had before the sign-in is not taken over", func(t *testing.T) {
		attacker, victim := &page{T: t, url: p.url}, &page{T: t, url: p.url}
		fixed := attacker.signIn(token)
		victim.cookies = []*http.Cookie{fixed}
		if own := victim.signIn(token); own.Value == fixed.Value {
			t.Error("the sign-in keeps the session of the browser")
		}
	})

	t.Run("no secret travels over http to another machine", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		a := p.ask("POST", "/api/session", `{"token":"`+token+`"}`, "Host", "queue.example.com", "Origin", "")
		if a.StatusCode < 400 || len(a.Cookies()) != 0 {
			t.Errorf("%d %v", a.StatusCode, a.Cookies())
		}
	})
}

// TestSignInsAreLimited: wrong codes and tokens in bodies count as wrong ones in headers do.
func TestSignInsAreLimited(t *testing.T) {
	token, urls := startClosed(t, 0)
	p := &page{T: t, url: urls[0]}
	for range 20 {
		p.want(http.StatusUnauthorized, "POST", "/api/session", `{"code":"x"}`)
	}
	if a := p.want(http.StatusTooManyRequests, "POST", "/api/session", `{"token":"x"}`); a.Header.Get("Retry-After") == "" || a.Header.Get("Retry-After") == "1" {
		t.Errorf("one more has Retry-After %q", a.Header.Get("Retry-After"))
	}
	p.signIn(token) // a valid one is never refused

	// Any caller may send it, so a body that no token fills is not read.
	p.want(http.StatusRequestEntityTooLarge, "POST", "/api/session", `{"token":"`+strings.Repeat("x", 17<<10)+`"}`)
}

// TestEachFailedSignInCounts: sign-ins that fail in other ways than by a wrong token count for the limit of their address, and one
// with a valid token passes all the same.
func TestEachFailedSignInCounts(t *testing.T) {
	issuer := oidctest.Start(t)
	for name, fail := range map[string]func(p *page) int{
		"neither a code nor a token": func(p *page) int { return p.ask("POST", "/api/session", `{}`).StatusCode },
		"a made-up code":             func(p *page) int { return p.ask("POST", "/api/session", `{"code":"x"}`).StatusCode },
		"a JWT without a rule": func(p *page) int {
			return p.ask("POST", "/api/session", `{"token":"`+issuer.Mint(issuer.Claims("machines", "bob"))+`"}`).StatusCode
		},
		"a JWT for another": func(p *page) int {
			return p.ask("POST", "/api/session", `{"token":"`+issuer.Mint(issuer.Claims("other", "bob"))+`"}`).StatusCode
		},
		"a state of another": func(p *page) int {
			return p.ask("GET", "/api/session/oidc/callback?state=x&code=x", "", navigation...).StatusCode
		},
		"a code that the provider does not know": func(p *page) int {
			path, query, _ := strings.Cut(p.begin(""), "?")
			values, _ := url.ParseQuery(query)
			values.Set("code", "x")
			return p.ask("GET", path+"?"+values.Encode(), "", navigation...).StatusCode
		},
		"a user without a rule": func(p *page) int {
			issuer.SetUser(map[string]any{"sub": "bob"})
			return p.ask("GET", p.begin(""), "", navigation...).StatusCode
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startLogin(t, issuer)
			p.T = t
			for i := range 20 {
				if status := fail(p); status == http.StatusTooManyRequests || status < 400 {
					t.Fatalf("sign-in %d gets %d", i, status)
				}
			}
			if status := fail(p); status != http.StatusTooManyRequests {
				t.Errorf("one more gets %d", status)
			}
			if a := p.want(http.StatusTooManyRequests, "POST", "/api/session", `{"token":"x"}`); a.Header.Get("Retry-After") == "" {
				t.Error("the refusal has no Retry-After")
			}
			claims := issuer.Claims("machines", "ann")
			claims["groups"] = []string{"sre"}
			p.signIn(issuer.Mint(claims))
		})
	}
}

// TestSignOut: a sign-out at one server ends the session at the other, and its open stream there.
func TestSignOut(t *testing.T) {
	token, urls := startClosed(t, 1)
	first, second := &page{T: t, url: urls[0]}, &page{T: t, url: urls[1]}
	c := first.signIn(token)
	port := second.url[strings.LastIndexByte(second.url, ':')+1:]
	second.cookies = []*http.Cookie{{Name: "pgqueue-" + port, Value: c.Value}}
	second.want(http.StatusOK, "GET", "/api/whoami", "")

	// The page of the second server follows the events and the stats.
	follow := func(path string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, second.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(second.cookies[0])
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		stream, err := client.Do(r)
		if err != nil || stream.StatusCode != http.StatusOK {
			t.Fatal(stream, err)
		}
		t.Cleanup(func() { _ = stream.Body.Close() })
		return stream
	}
	stream, stats := follow("/api/event"), follow("/api/stats")

	a := first.want(http.StatusNoContent, "DELETE", "/api/session", "")
	if cleared := a.Cookies(); len(cleared) != 1 || cleared[0].MaxAge >= 0 {
		t.Errorf("the sign-out sets %v", cleared)
	}
	first.want(http.StatusUnauthorized, "GET", "/api/whoami", "")     // its replay, here at once
	first.want(http.StatusUnauthorized, "DELETE", "/api/session", "") // a second sign-out

	// The end of the stream is the event that the test waits for: it comes within 10 s.
	if _, err := io.Copy(io.Discard, stream.Body); err != nil {
		t.Log("the stream ended with", err)
	}
	if err := readStats(stats, nil); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("the stream of stats ended with %v", err)
	}
	second.want(http.StatusUnauthorized, "GET", "/api/whoami", "")
}

// TestEndOfSessions: an administrator ends the session of another principal, and the end of a token ends its sessions.
func TestEndOfSessions(t *testing.T) {
	token, urls := startClosed(t, 0)
	p := &page{T: t, url: urls[0]}
	bearer := []string{"Authorization", "Bearer " + token, "Origin", ""}
	var issued restapi.IssuedToken
	a := p.want(http.StatusCreated, "POST", "/api/token", `{"name":"viewer","grants":["viewer@default"]}`, bearer...)
	if err := json.Unmarshal([]byte(a.text), &issued); err != nil {
		t.Fatal(err)
	}

	open := func() (*page, string) {
		viewer := &page{T: t, url: p.url}
		viewer.signIn(issued.Secret)
		var who restapi.Identity
		if err := json.Unmarshal([]byte(viewer.want(http.StatusOK, "GET", "/api/whoami", "").text), &who); err != nil {
			t.Fatal(err)
		}
		return viewer, who.ID
	}
	viewer, id := open()
	viewer.want(http.StatusForbidden, "GET", "/api/session", "")
	viewer.want(http.StatusForbidden, "DELETE", "/api/session/"+id, "")
	viewer.want(http.StatusForbidden, "POST", "/api/queue", `{"queue":"x"}`)
	p.want(http.StatusOK, "DELETE", "/api/session/"+id, "", bearer...)
	viewer.want(http.StatusUnauthorized, "GET", "/api/queue", "")
	p.want(http.StatusNotFound, "DELETE", "/api/session/unknown1", "", bearer...)
	p.want(http.StatusUnprocessableEntity, "DELETE", "/api/session", "", bearer...) // a token does not sign out

	viewer, _ = open()
	p.want(http.StatusOK, "DELETE", "/api/token/"+issued.ID, "", bearer...)
	viewer.want(http.StatusUnauthorized, "GET", "/api/queue", "")
}

// TestSessionsBehindAProxy: over https the name of the cookie has a prefix, and its path is that of the proxy.
func TestSessionsBehindAProxy(t *testing.T) {
	for public, want := range map[string]struct{ name, path string }{
		"https://queue.example.com":       {"__Host-pgqueue", "/"},
		"https://example.com/tools/queue": {"__Secure-pgqueue", "/tools/queue"},
	} {
		token, urls := startClosed(t, 0, func(c *Config) { c.PublicURL = public })
		p := &page{T: t, url: urls[0]}
		origin, _, _ := strings.Cut(strings.TrimPrefix(public, "https://"), "/")
		proxied := []string{"Host", origin, "Origin", "https://" + origin}
		c := p.want(http.StatusCreated, "POST", "/api/session", `{"token":"`+token+`"}`, proxied...).Cookies()
		if len(c) != 1 || c[0].Name != want.name || c[0].Path != want.path || !c[0].Secure || !c[0].HttpOnly || c[0].Domain != "" {
			t.Fatalf("%s: the cookie is %+v", public, c)
		}
		p.cookies = c
		p.want(http.StatusCreated, "POST", "/api/queue", `{"queue":"mail"}`, proxied...)
		p.cookies = []*http.Cookie{{Name: "pgqueue", Value: c[0].Value}}
		p.want(http.StatusUnauthorized, "GET", "/api/queue", "", proxied...) // a name without the prefix
	}

	for _, public := range []string{"http://queue.example.com", "queue.example.com", "https://u:p@example.com", "https://example.com/?a=b", "ftp://example.com"} {
		cfg := Config{PublicURL: public}
		if err := cfg.Validate(); queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), "public-url") {
			t.Errorf("%s: %v", public, err)
		}
	}
}

// TestSessionOfAnOpenServer: an open server makes no code, and a cookie of another server is removed.
func TestSessionOfAnOpenServer(t *testing.T) {
	store := newSlow()
	close(store.leave)
	p := &page{T: t, url: start(t, store.config(io.Discard)).URL()}
	p.want(http.StatusConflict, "POST", "/api/session/code", "")
	port := p.url[strings.LastIndexByte(p.url, ':')+1:]
	p.cookies = []*http.Cookie{{Name: "pgqueue-" + port, Value: "x"}}
	if a := p.want(http.StatusUnauthorized, "GET", "/api/queue", ""); len(a.Cookies()) != 1 {
		t.Error("the cookie stays")
	}
	p.cookies = nil
	p.want(http.StatusOK, "GET", "/api/queue", "")
}

// TestJWTSignsIn: a pasted JWT opens a session with the grants of its rules, which ends with the JWT at the latest. One that is
// wrong, or that no rule names, opens none.
func TestJWTSignsIn(t *testing.T) {
	issuer := oidctest.Start(t)
	log := &lines{}
	s, _, _ := startWithIssuer(t, issuer, log)
	claims := issuer.Claims("pgqueue", "ann")
	claims["groups"] = []string{"sre"}
	p := &page{T: t, url: s.URL()}

	p.signIn(issuer.Mint(claims))
	var who restapi.Identity
	if err := json.Unmarshal([]byte(p.want(http.StatusOK, "GET", "/api/whoami", "").text), &who); err != nil || who.Kind != "session" || len(who.Grants) != 1 || who.Grants[0] != "admin@*" {
		t.Errorf("the session is %+v: %v", who, err)
	}
	p.want(http.StatusCreated, "POST", "/api/queue", `{"queue":"own"}`)
	p.want(http.StatusForbidden, "GET", "/api/session", "")

	sessions, err := s.control.sessions.Store.ListSessions(t.Context())
	ends, ok := claims["exp"].(int64)
	if err != nil || !ok || len(sessions) != 1 || sessions[0].ExpiresAt.After(time.Unix(ends+1, 0)) || sessions[0].Issuer != issuer.URL() {
		t.Errorf("the sessions are %+v, and the JWT ends at %v: %v", sessions, claims["exp"], err)
	}

	for name, c := range map[string]struct {
		change func(map[string]any)
		status int
	}{
		"a JWT that no rule names": {func(c map[string]any) { delete(c, "groups") }, http.StatusForbidden},
		"an expired JWT":           {func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }, http.StatusUnauthorized},
		"a JWT for another":        {func(c map[string]any) { c["aud"] = "other" }, http.StatusUnauthorized},
	} {
		wrong := maps.Clone(claims)
		wrong["sub"] = "bob"
		c.change(wrong)
		p := &page{T: t, url: s.URL()}
		if a := p.ask("POST", "/api/session", `{"token":"`+issuer.Mint(wrong)+`"}`); a.StatusCode != c.status || len(a.Cookies()) != 0 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
		}
	}
	if !log.contains(`"principal":"bob@` + issuer.URL() + `"`) {
		t.Error("the audit does not name the claims of a refused JWT")
	}

	// Without issuers a text with dots is a token of another form.
	_, urls := startClosed(t, 0)
	(&page{T: t, url: urls[0]}).want(http.StatusUnauthorized, "POST", "/api/session", `{"token":"`+issuer.Mint(claims)+`"}`)
}

// TestAnEndedSessionGetsASignIn: a browser with an ended session is asked for a new sign-in, and gets it, while the programs
// behind its address have used up the refusals of their wrong tokens.
func TestAnEndedSessionGetsASignIn(t *testing.T) {
	token, urls := startClosed(t, 0)
	p := &page{T: t, url: urls[0]}
	ended := p.signIn(token)
	p.want(http.StatusNoContent, "DELETE", "/api/session", "")

	wrong := access.NewSecret().Reveal()
	worker := &page{T: t, url: urls[0]}
	for range 20 {
		worker.want(http.StatusUnauthorized, "GET", "/api/queue", "", "Authorization", "Bearer "+wrong)
	}
	worker.want(http.StatusTooManyRequests, "GET", "/api/queue", "", "Authorization", "Bearer "+wrong)

	p.cookies = []*http.Cookie{ended}
	refused := p.want(http.StatusUnauthorized, "GET", "/api/queue", "")
	if len(refused.Cookies()) != 1 || refused.Cookies()[0].MaxAge >= 0 {
		t.Errorf("the refusal of an ended session must remove its cookie, got %v", refused.Cookies())
	}
	p.cookies = nil
	p.want(http.StatusUnauthorized, "GET", "/api/queue", "")
	p.signIn(token)
	p.want(http.StatusOK, "GET", "/api/queue", "")
}

// TestAFaultOfTheProviderCountsAsNoSignIn: a provider that refuses the client, or does not answer, says nothing about a code.
func TestAFaultOfTheProviderCountsAsNoSignIn(t *testing.T) {
	issuer := oidctest.Start(t)
	p := startLogin(t, issuer)
	issuer.SetClient(oidctest.Client{ID: "pgqueue", Secret: "other", RedirectURI: p.url + "/api/session/oidc/callback"})
	for i := range 25 {
		if a := p.ask("GET", p.begin(""), "", navigation...); a.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("sign-in %d gets %d", i, a.StatusCode)
		}
	}
	p.cookies = nil
	p.want(http.StatusUnauthorized, "POST", "/api/session", `{"token":"x"}`)
}
