package run

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// startLogin starts a server with a sign-in at an issuer, of which the group sre operates the namespace billing.
func startLogin(t *testing.T, issuer *oidctest.Issuer) *page {
	t.Helper()
	rules := filepath.Join(t.TempDir(), "access.yaml")
	content := fmt.Sprintf("issuers:\n  - {issuer: %[1]s, audience: machines}\nrules:\n  - {issuer: %[1]s, claim: groups, is: sre, grant: [operator@billing]}\n", issuer.URL())
	if err := os.WriteFile(rules, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, urls := startClosed(t, 0, func(c *Config) {
		c.AccessFile, c.OIDCIssuer, c.OIDCClientID, c.OIDCClientSecret = rules, issuer.URL(), "pgqueue", "s3cret"
	})
	issuer.SetClient(oidctest.Client{ID: "pgqueue", Secret: "s3cret", RedirectURI: urls[0] + "/api/session/oidc/callback"})
	issuer.SetUser(map[string]any{"sub": "ann", "name": "Ann", "groups": []string{"dev", "sre"}})
	p := &page{T: t, url: urls[0]}

	redirects := client.CheckRedirect
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() { client.CheckRedirect = redirects })
	return p
}

// navigation are the headers of a browser that comes from another site.
var navigation = []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}

// begin starts a sign-in, lets the provider answer, and returns the path of the callback. The page has the cookie.
func (p *page) begin(query string) string {
	p.Helper()
	a := p.want(http.StatusSeeOther, "GET", "/api/session/oidc"+query, "")
	if len(a.Cookies()) != 1 {
		p.Fatalf("the start sets %v", a.Cookies())
	}
	p.cookies = a.Cookies()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, a.Header.Get("Location"), http.NoBody)
	if err != nil {
		p.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	_ = resp.Body.Close()
	back := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || !strings.HasPrefix(back, p.url) {
		p.Fatalf("the provider answers %d %s", resp.StatusCode, back)
	}
	return strings.TrimPrefix(back, p.url)
}

// TestLogin signs in at an identity provider by the code flow with PKCE.
func TestLogin(t *testing.T) {
	issuer := oidctest.Start(t)
	p := startLogin(t, issuer)

	t.Run("the rules of the access file give a session its rights", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		callback := p.begin("?return=" + url.QueryEscape("/ui/queue/mail?tab=tasks"))
		if c := p.cookies[0]; !strings.Contains(c.Name, "-login-") || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.MaxAge > 600 {
			t.Errorf("the cookie is %+v", c)
		}
		a := p.want(http.StatusSeeOther, "GET", callback, "", navigation...)
		if a.Header.Get("Location") != "/ui/queue/mail?tab=tasks" || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("the callback answers %v", a.Header)
		}
		var session []*http.Cookie
		for _, c := range a.Cookies() {
			if strings.Contains(c.Name, "-login-") != (c.MaxAge < 0) {
				t.Errorf("the callback sets %v", c)
			}
			if c.MaxAge > 0 {
				session = append(session, c)
			}
		}
		login := p.cookies
		p.cookies = session
		var who restapi.Identity
		if err := json.Unmarshal([]byte(p.want(http.StatusOK, "GET", "/api/whoami", "").text), &who); err != nil {
			t.Fatal(err)
		}
		if who.Kind != "session" || who.Name != "Ann" || fmt.Sprint(who.Grants) != "[operator@billing]" {
			t.Errorf("the session is %+v", who)
		}

		// A second use of the answer, with the cookie that a thief kept: the provider knows the code no longer.
		p.cookies = login
		if a := p.want(http.StatusUnauthorized, "GET", callback, "", navigation...); !strings.Contains(a.text, "sign in again") {
			t.Errorf("a replay gets %s", a.text)
		}
	})

	t.Run("two tabs of a browser sign in at once", func(t *testing.T) {
		first, second := &page{T: t, url: p.url}, &page{T: t, url: p.url}
		callbacks := []string{first.begin(""), second.begin("?return=/ui/tasks")}
		browser := &page{T: t, url: p.url, cookies: append(first.cookies, second.cookies...)}
		for _, callback := range callbacks {
			browser.want(http.StatusSeeOther, "GET", callback, "", navigation...)
		}
	})

	t.Run("an answer that this browser did not ask for opens no session", func(t *testing.T) {
		attacker, victim := &page{T: t, url: p.url}, &page{T: t, url: p.url}
		callback := attacker.begin("")
		victim.want(http.StatusUnauthorized, "GET", callback, "", navigation...) // without a sign-in
		victim.begin("")
		a := victim.want(http.StatusUnauthorized, "GET", callback, "", navigation...) // during another one
		for _, c := range a.Cookies() {
			if c.MaxAge > 0 {
				t.Errorf("the callback sets %v", c)
			}
		}
		for _, change := range []string{"state=x", "state=", "iss=https://evil.example", "code=", "code=x"} {
			p := &page{T: t, url: p.url}
			path, query, _ := strings.Cut(p.begin(""), "?")
			values, _ := url.ParseQuery(query)
			name, value, _ := strings.Cut(change, "=")
			values.Set(name, value)
			p.want(http.StatusUnauthorized, "GET", path+"?"+values.Encode(), "", navigation...)
		}
	})

	t.Run("a sign-in leads to a page of this server alone", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		for _, to := range []string{
			"https://evil.example/ui", "//evil.example/ui", "/\\evil.example", "/ui/../api/token", "/ui//evil.example", "\\ui", "/api/token", "/uix",
			"javascript:alert(1)", "/ui/\r\nSet-Cookie: a=b", "/ui/%2e%2e/%2e%2e/api", "/ui?" + strings.Repeat("x", 1000), "ui", "",
		} {
			a := p.ask("GET", "/api/session/oidc?return="+url.QueryEscape(to), "")
			if a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" || len(a.Cookies()) != 0 {
				t.Errorf("%q: %d %v", to, a.StatusCode, a.Header)
			}
		}
	})

	t.Run("faults of the provider are plain text", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		path, query, _ := strings.Cut(p.begin(""), "?")
		values, _ := url.ParseQuery(query)
		values.Set("error", "<script>alert(1)</script>")
		a := p.want(http.StatusUnauthorized, "GET", path+"?"+values.Encode(), "", navigation...)
		if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("the answer is %v", a.Header)
		}

		issuer.SetUser(nil) // it refuses
		if a := p.want(http.StatusUnauthorized, "GET", p.begin(""), "", navigation...); !strings.Contains(a.text, "access_denied") {
			t.Errorf("a refusal gets %s", a.text)
		}
		issuer.SetUser(map[string]any{"sub": "bob", "groups": []string{"dev"}})
		if a := p.want(http.StatusForbidden, "GET", p.begin(""), "", navigation...); !strings.Contains(a.text, "access file") {
			t.Errorf("a user without a rule gets %s", a.text)
		}
		for name, claims := range map[string]map[string]any{
			"another audience": {"sub": "ann", "groups": "sre", "aud": "other"},
			"another nonce":    {"sub": "ann", "groups": "sre", "nonce": "x"},
			"an expired token": {"sub": "ann", "groups": "sre", "iat": 1000, "exp": 2000},
			"another issuer":   {"sub": "ann", "groups": "sre", "iss": "https://evil.example"},
			"another client":   {"sub": "ann", "groups": "sre", "azp": "other"},
		} {
			issuer.SetUser(claims)
			if a := p.ask("GET", p.begin(""), "", navigation...); a.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
			}
		}
	})

	t.Run("a frame, a script and a form of another site do not reach it", func(t *testing.T) {
		p := &page{T: t, url: p.url}
		issuer.SetUser(map[string]any{"sub": "ann", "groups": "sre"})
		callback := p.begin("")
		p.want(http.StatusForbidden, "GET", callback, "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe")
		p.want(http.StatusForbidden, "GET", callback, "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty")
		p.want(http.StatusForbidden, "GET", "/api/session/oidc", "", navigation...)
	})
}

// TestLoginWithoutItsProvider: a server starts while the provider is down, and says so to the browser.
func TestLoginWithoutItsProvider(t *testing.T) {
	issuer := oidctest.Start(t)
	issuer.SetDown(true)
	p := startLogin(t, issuer)
	if a := p.want(http.StatusServiceUnavailable, "GET", "/api/session/oidc", ""); !strings.Contains(a.text, "repeat the sign-in") || len(a.Cookies()) != 0 {
		t.Errorf("%s %v", a.text, a.Cookies())
	}
}

// TestLoginSettings refuses incomplete settings before anything starts.
func TestLoginSettings(t *testing.T) {
	for want, cfg := range map[string]Config{
		"oidc-client-id":          {OIDCIssuer: "https://id.example.com"},
		"oidc-issuer":             {OIDCClientID: "pgqueue"},
		"access-file":             {OIDCIssuer: "https://id.example.com", OIDCClientID: "pgqueue"},
		"must be a URL":           {OIDCIssuer: "http://id.example.com", OIDCClientID: "pgqueue", AccessFile: "a"},
		"oidc-client-secret-file": {OIDCIssuer: "https://id.example.com", OIDCClientID: "pgqueue", AccessFile: "a", OIDCClientSecret: "x", OIDCClientSecretFile: "y"},
	} {
		if err := cfg.Validate(); queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a refusal with %q", err, want)
		}
	}
}
