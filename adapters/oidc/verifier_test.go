package oidc

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// newVerifier returns a verifier of one issuer with a clock that the test moves.
func newVerifier(t *testing.T, issuers ...access.Issuer) (*Verifier, *clock) {
	t.Helper()
	v := New(slog.New(slog.DiscardHandler))
	t.Cleanup(v.Close)
	c := &clock{}
	v.now = c.now
	v.Replace(issuers)
	return v, c
}

// clock is the time of the system and what a test adds.
type clock struct {
	mu    sync.Mutex
	added time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.added)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}

func with(claims map[string]any, name string, value any) map[string]any {
	claims = maps.Clone(claims)
	if value == nil {
		delete(claims, name)
	} else {
		claims[name] = value
	}
	return claims
}

func TestVerify(t *testing.T) {
	issuer := oidctest.Start(t)
	v, _ := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue", Name: "email"})
	claims := issuer.Claims("pgqueue", "alice")
	claims["aud"] = []string{"other", "pgqueue"}
	claims["email"] = "alice@example.com"
	claims["email_verified"] = true
	claims["groups"] = []any{"sre", 7, false, nil, map[string]any{"a": 1}, []string{"b"}, strings.Repeat("x", access.MaxMatch+1)}
	claims["kubernetes.io"] = map[string]any{"namespace": "mail"}
	claims["nothing"] = nil

	for _, algorithm := range []string{oidctest.ES256, oidctest.RS256, oidctest.PS256, oidctest.EdDSA} {
		key := oidctest.NewKey(t, "new-"+algorithm, algorithm)
		issuer.Publish(key)
		v.Replace(nil)
		v.Replace([]access.Issuer{{URL: issuer.URL(), Audience: "pgqueue", Name: "email"}})
		proof, err := v.Verify(t.Context(), key.Mint(t, claims))
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		if proof.Kind != access.KindJWT || proof.Issuer != issuer.URL() || proof.Subject != "alice" || proof.Name != "alice@example.com" || !proof.Trusted() {
			t.Errorf("%s: proof %+v", algorithm, proof)
		}
		if proof.Expires.Unix() != claims["exp"].(int64) {
			t.Errorf("%s: expires %v", algorithm, proof.Expires)
		}
		if got := proof.Claims["groups"]; !slices.Equal(got, []string{"sre", "7", "false"}) {
			t.Errorf("groups %q", got)
		}
		if len(proof.Claims["kubernetes.io"])+len(proof.Claims["nothing"]) != 0 || !slices.Equal(proof.Claims["email_verified"], []string{"true"}) {
			t.Errorf("claims %q", proof.Claims)
		}
	}
}

// TestBadTokens has one broken rule in each JWT.
func TestBadTokens(t *testing.T) {
	issuer, other := oidctest.Start(t), oidctest.Start(t)
	v, _ := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
	key := issuer.Rotate(oidctest.RS256)
	good := issuer.Claims("pgqueue", "alice")
	now := time.Now()
	headers := func(name string, value any) string { return oidctest.Text(t, with(key.Header(), name, value)) }
	sign := func(header string) string { return key.Sign(t, header, oidctest.Text(t, good)) }
	claim := func(name string, value any) string { return key.Mint(t, with(good, name, value)) }
	stranger := oidctest.NewKey(t, key.ID, oidctest.RS256)
	jwk := stranger.JWK()
	whole := key.Mint(t, good)
	parts := strings.Split(whole, ".")

	if _, err := v.Verify(t.Context(), whole); err != nil {
		t.Fatalf("the JWT that the others differ from: %v", err)
	}
	for name, text := range map[string]string{
		"another issuer":                      other.Mint(with(good, "iss", other.URL())),
		"another issuer with this key":        claim("iss", other.URL()),
		"an issuer with a slash behind":       claim("iss", issuer.URL()+"/"),
		"an issuer in other letters":          claim("iss", strings.ToUpper(issuer.URL())),
		"an issuer in a list":                 claim("iss", []string{issuer.URL()}),
		"no issuer":                           claim("iss", nil),
		"another audience":                    claim("aud", "other"),
		"an audience that starts as ours":     claim("aud", "pgqueue2"),
		"an audience in other letters":        claim("aud", "PGQUEUE"),
		"audiences without ours":              claim("aud", []string{"a", "b"}),
		"no audience":                         claim("aud", nil),
		"an empty audience":                   claim("aud", ""),
		"no audiences":                        claim("aud", []string{}),
		"an audience that is an object":       claim("aud", map[string]any{"pgqueue": true}),
		"the algorithm none":                  encode(headers("alg", "none")) + "." + parts[1] + "." + parts[2],
		"the algorithm none, no signature":    encode(headers("alg", "none")) + "." + parts[1] + ".",
		"the algorithm NoNe":                  encode(headers("alg", "NoNe")) + "." + parts[1] + "." + parts[2],
		"no algorithm":                        sign(headers("alg", nil)),
		"the public key as a secret, PEM":     signHMAC(t, headers("alg", "HS256"), parts[1], publicPEM(t, key.Public())),
		"the public key as a secret, JWK":     signHMAC(t, headers("alg", "HS256"), parts[1], []byte(oidctest.Text(t, key.JWK()))),
		"the public key as a secret, number":  signHMAC(t, headers("alg", "HS256"), parts[1], key.Public().(*rsa.PublicKey).N.Bytes()),
		"another algorithm than the key":      sign(headers("alg", "PS256")),
		"an algorithm of another key":         sign(headers("alg", "ES256")),
		"another key with the same kid":       stranger.Mint(t, good),
		"a key in the header jwk":             stranger.Sign(t, headers("jwk", jwk), oidctest.Text(t, good)),
		"keys at the header jku":              stranger.Sign(t, headers("jku", other.URL()+oidctest.KeysPath), oidctest.Text(t, good)),
		"keys at the header x5u":              stranger.Sign(t, headers("x5u", other.URL()+oidctest.KeysPath), oidctest.Text(t, good)),
		"a certificate in the header x5c":     stranger.Sign(t, headers("x5c", []string{"AAAA"}), oidctest.Text(t, good)),
		"a kid of another path":               sign(headers("kid", "../../../../dev/null")),
		"a kid that is a query":               sign(headers("kid", "x' UNION SELECT 'y")),
		"a kid that is a number":              sign(headers("kid", 1)),
		"a critical header":                   sign(oidctest.Text(t, with(with(key.Header(), "crit", []string{"exp"}), "exp", 1))),
		"a critical b64":                      sign(oidctest.Text(t, with(with(key.Header(), "crit", []string{"b64"}), "b64", false))),
		"a critical b64 that changes nothing": sign(oidctest.Text(t, with(with(key.Header(), "crit", []string{"b64"}), "b64", true))),
		"a header twice":                      sign(`{"alg":"RS256","kid":"` + key.ID + `","alg":"none"}`),
		"a type of another purpose":           sign(headers("typ", "logout+jwt")),
		"a notice of a logout":                claim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}),
		"a claim twice":                       key.Sign(t, oidctest.Text(t, key.Header()), strings.Replace(oidctest.Text(t, good), `"sub":`, `"sub":"root","sub":`, 1)),
		"an audience under another spelling":  key.Mint(t, with(with(good, "aud", nil), "AUD", "pgqueue")),
		"an issuer under another spelling":    key.Mint(t, with(with(good, "iss", nil), "ISS", issuer.URL())),
		"an end under another spelling":       key.Mint(t, with(with(good, "exp", nil), "Exp", good["exp"])),
		"another issuer under a spelling":     key.Sign(t, oidctest.Text(t, key.Header()), strings.TrimSuffix(oidctest.Text(t, good), "}")+`,"ISS":"`+other.URL()+`"}`),
		"a subject in look-alike letters":     key.Mint(t, with(with(good, "sub", nil), "\u017fub", "alice")),
		"two subjects in look-alike letters":  key.Sign(t, oidctest.Text(t, key.Header()), strings.TrimSuffix(oidctest.Text(t, good), "}")+`,"\u017fub":"root"}`),
		"expired":                             claim("exp", now.Add(-time.Second).Unix()),
		"no end":                              claim("exp", nil),
		"an end that is null":                 key.Sign(t, oidctest.Text(t, key.Header()), strings.Replace(oidctest.Text(t, with(good, "exp", 7)), `"exp":7`, `"exp":null`, 1)),
		"an end that is a text":               claim("exp", "9999999999"),
		"an end that is too far":              claim("exp", now.Add(24*time.Hour+time.Minute).Unix()),
		"an end beyond all times":             claim("exp", 1e300),
		"no beginning":                        claim("iat", nil),
		"a beginning in the future":           claim("iat", now.Add(time.Minute).Unix()),
		"not valid yet":                       claim("nbf", now.Add(time.Minute).Unix()),
		"no subject":                          claim("sub", nil),
		"an empty subject":                    claim("sub", ""),
		"a subject that is a number":          claim("sub", 7),
		"too many texts":                      claim("groups", make([]int, maxTexts)),
		"too large":                           claim("x", strings.Repeat("x", MaxTokenBytes)),
		"an empty text":                       "",
		"two dots":                            "..",
		"garbage":                             "a.b.c",
		"garbage of the right letters":        encode("{}") + "." + encode("{}") + "." + encode("x"),
		"claims that are a list":              key.Sign(t, oidctest.Text(t, key.Header()), `[]`),
		"claims that are null":                key.Sign(t, oidctest.Text(t, key.Header()), `null`),
		"four parts":                          whole + ".x",
		"five parts, as encrypted":            "a.b.c.d.e",
		"JSON in place of the short form":     `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"a blank inside":                      parts[0] + ". " + parts[1] + "." + parts[2],
		"padding":                             parts[0] + "." + parts[1] + "=." + parts[2],
		"a changed claim":                     parts[0] + "." + encode(oidctest.Text(t, with(good, "sub", "root"))) + "." + parts[2],
		"no signature":                        parts[0] + "." + parts[1] + ".",
	} {
		t.Run(name, func(t *testing.T) {
			proof, err := v.Verify(t.Context(), text)
			if queue.KindOf(err) != queue.KindUnauthenticated || proof.Subject != "" {
				t.Fatalf("proof %+v: %v", proof, err)
			}
			if _, ok := errors.AsType[*access.ClaimError](err); !ok || len(err.Error()) > 500 {
				t.Errorf("the cause is %v", err)
			}
			if len(text) > 100 && strings.Contains(err.Error(), text[len(text)-20:]) {
				t.Errorf("the error shows the JWT: %v", err)
			}
		})
	}
	if n := other.Requests(oidctest.KeysPath); n != 0 {
		t.Errorf("%d requests to a place that a header names", n)
	}
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func publicPEM(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func signHMAC(t *testing.T, header, claims string, secret []byte) string {
	t.Helper()
	text := encode(header) + "." + claims
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestTimes holds the ends of a JWT to the second.
func TestTimes(t *testing.T) {
	at := time.Unix(2_000_000_000, 0)
	good := claims{issuer: "i", subject: "s", audience: []string{"a"}, issued: at, expires: at.Add(MaxLifetime)}
	for name, c := range map[string]struct {
		change func(*claims)
		now    time.Time
		valid  bool
	}{
		"at its beginning":                    {now: at, valid: true},
		"in the second before its end":        {now: at.Add(MaxLifetime - time.Second), valid: true},
		"at its end":                          {now: at.Add(MaxLifetime)},
		"from a clock that is 30 s ahead":     {now: at.Add(-leeway), valid: true},
		"from a clock that is 31 s ahead":     {now: at.Add(-leeway - time.Second)},
		"a nanosecond longer than a day":      {now: at, change: func(c *claims) { c.expires = c.expires.Add(1) }},
		"nbf of a clock that is 30 s ahead":   {now: at, change: func(c *claims) { c.begins = at.Add(leeway) }, valid: true},
		"nbf of a clock that is 31 s ahead":   {now: at, change: func(c *claims) { c.begins = at.Add(leeway + time.Second) }},
		"an end before its beginning":         {now: at, change: func(c *claims) { c.expires = at.Add(-time.Hour) }},
		"a lifetime that overflows, reversed": {now: at, change: func(c *claims) { c.issued = time.Unix(-1e11, 0) }},
	} {
		present := good
		if c.change != nil {
			c.change(&present)
		}
		if err := present.check(access.Issuer{URL: "i", Audience: "a"}, c.now); (err == nil) != c.valid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIssuerIsDown: a JWT of an issuer that never answered cannot be checked; keys that are known stay valid.
func TestIssuerIsDown(t *testing.T) {
	issuer := oidctest.Start(t)
	v, clock := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
	claims := issuer.Claims("pgqueue", "alice")
	claims["exp"] = time.Now().Add(20 * time.Hour).Unix()
	token := issuer.Mint(claims)

	issuer.SetDown(true)
	for range 20 {
		if _, err := v.Verify(t.Context(), token); queue.KindOf(err) != queue.KindUnavailable {
			t.Fatalf("before the first answer: %v", err)
		}
	}
	// A client repeats a request once when the server breaks its connection.
	if n := issuer.Requests(oidctest.DiscoveryPath); n > 2 {
		t.Errorf("%d requests to an issuer that is down", n)
	}
	expired := maps.Clone(claims)
	expired["exp"] = time.Now().Add(-time.Hour).Unix()
	if _, err := v.Verify(t.Context(), issuer.Mint(expired)); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("an expired JWT needs no keys: %v", err)
	}

	issuer.SetDown(false)
	if _, err := v.Verify(t.Context(), token); queue.KindOf(err) != queue.KindUnavailable {
		t.Errorf("within the interval: %v", err)
	}
	clock.add(AskInterval)
	proof, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatalf("after the interval: %v", err)
	}

	issuer.SetDown(true)
	for range 3 {
		clock.add(KeyAge)
		if _, err := v.Verify(t.Context(), token); err != nil || !proof.Trusted() {
			t.Fatalf("the last keys must stay valid: %v", err)
		}
		v.fetches.Wait() // for the fetch in the background
	}
	unknown := issuer.Rotate(oidctest.ES256).Mint(t, claims)
	clock.add(AskInterval)
	if _, err := v.Verify(t.Context(), unknown); queue.KindOf(err) != queue.KindUnavailable {
		t.Errorf("a key that the issuer may have published meanwhile: %v", err)
	}
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("a known key after an unknown one: %v", err)
	}
}

// TestRotation: a new key counts at once, a withdrawn one until the keys are fetched again.
func TestRotation(t *testing.T) {
	issuer := oidctest.Start(t)
	v, clock := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
	claims := issuer.Claims("pgqueue", "alice")
	former := issuer.Mint(claims)
	proof, err := v.Verify(t.Context(), former)
	if err != nil {
		t.Fatal(err)
	}

	clock.add(AskInterval)
	key := issuer.Rotate(oidctest.ES256)
	if _, err := v.Verify(t.Context(), issuer.Mint(claims)); err != nil {
		t.Fatalf("a new key: %v", err)
	}
	if _, err := v.Verify(t.Context(), former); err != nil {
		t.Fatalf("the former key is still published: %v", err)
	}

	issuer.Publish(key)
	clock.add(KeyAge)
	if !proof.Trusted() {
		t.Error("until the answer of the issuer the key stays valid")
	}
	v.fetches.Wait()
	if proof.Trusted() {
		t.Error("a proof by a withdrawn key must lose its trust")
	}
	if _, err := v.Verify(t.Context(), former); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("a withdrawn key: %v", err)
	}

	// An issuer that keeps the kid and changes the key.
	next := oidctest.NewKey(t, key.ID, oidctest.ES256)
	issuer.Publish(next)
	clock.add(AskInterval)
	if _, err := v.Verify(t.Context(), next.Mint(t, claims)); err != nil {
		t.Errorf("a new key with the former kid: %v", err)
	}
}

// TestKidIsOptional: without a kid the issuer must have one key for the algorithm.
func TestKidIsOptional(t *testing.T) {
	issuer := oidctest.Start(t)
	v, clock := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
	key := issuer.Key()
	issuer.Publish(key, oidctest.NewKey(t, "rsa", oidctest.RS256))
	token := key.Sign(t, `{"alg":"ES256"}`, oidctest.Text(t, issuer.Claims("pgqueue", "alice")))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("with one key for the algorithm: %v", err)
	}
	issuer.Publish(key, oidctest.NewKey(t, "second", oidctest.ES256))
	clock.add(KeyAge)
	_, _ = v.Verify(t.Context(), token)
	v.fetches.Wait()
	if _, err := v.Verify(t.Context(), token); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("with two keys for the algorithm: %v", err)
	}
}

// TestFloodOfKids: made-up JWTs of many callers at once make one fetch in an interval.
func TestFloodOfKids(t *testing.T) {
	issuer := oidctest.Start(t)
	v, clock := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
	claims := issuer.Claims("pgqueue", "alice")
	flood := func() {
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				for range 10 {
					if _, err := v.Verify(t.Context(), oidctest.NewKey(t, rand.Text(), oidctest.ES256).Mint(t, claims)); queue.KindOf(err) != queue.KindUnauthenticated {
						t.Errorf("a made-up kid: %v", err)
					}
				}
			})
		}
		callers.Wait()
	}
	flood()
	if d, k := issuer.Requests(oidctest.DiscoveryPath), issuer.Requests(oidctest.KeysPath); d != 1 || k != 1 {
		t.Errorf("%d and %d requests in an interval", d, k)
	}
	clock.add(AskInterval)
	flood()
	if d, k := issuer.Requests(oidctest.DiscoveryPath), issuer.Requests(oidctest.KeysPath); d != 2 || k != 2 {
		t.Errorf("%d and %d requests in two intervals", d, k)
	}
	if _, err := v.Verify(t.Context(), issuer.Mint(claims)); err != nil {
		t.Errorf("a valid JWT in a flood: %v", err)
	}
}

// TestCallerLeaves: a caller that leaves does not end the fetch of the others.
func TestCallerLeaves(t *testing.T) {
	issuer := oidctest.Start(t)
	v, _ := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
	arrived, answer := make(chan struct{}), make(chan struct{})
	issuer.SetAnswer(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == oidctest.DiscoveryPath {
			close(arrived)
			<-answer
		}
		return false
	})
	token := issuer.Mint(issuer.Claims("pgqueue", "alice"))
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := v.Verify(ctx, token)
		first <- err
	}()
	<-arrived
	leave()
	if err := <-first; queue.KindOf(err) != queue.KindCanceled {
		t.Errorf("the caller that leaves gets %v", err)
	}
	close(answer)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("the next caller: %v", err)
	}
	if n := issuer.Requests(oidctest.DiscoveryPath); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestReplace: an issuer that stays keeps its keys, the proofs of the others lose their trust.
func TestReplace(t *testing.T) {
	stays, leaves := oidctest.Start(t), oidctest.Start(t)
	a, b := access.Issuer{URL: stays.URL(), Audience: "pgqueue"}, access.Issuer{URL: leaves.URL(), Audience: "pgqueue"}
	v, _ := newVerifier(t, a, b)
	verify := func(i *oidctest.Issuer) access.Proof {
		t.Helper()
		proof, err := v.Verify(t.Context(), i.Mint(i.Claims("pgqueue", "alice")))
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
	first, second := verify(stays), verify(leaves)

	v.Replace([]access.Issuer{a})
	if !first.Trusted() || second.Trusted() {
		t.Error("the issuer that was removed alone loses its trust")
	}
	if _, err := v.Verify(t.Context(), leaves.Mint(leaves.Claims("pgqueue", "alice"))); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("an issuer that was removed: %v", err)
	}
	verify(stays)
	if n := stays.Requests(oidctest.KeysPath); n != 1 {
		t.Errorf("%d requests for the keys of an issuer that stays", n)
	}
	a.Audience = "other"
	v.Replace([]access.Issuer{a})
	if first.Trusted() {
		t.Error("a proof for the former audience must lose its trust")
	}
}

// TestAnswersOfIssuers: answers by which an issuer must not be trusted, and those that are bounded.
func TestAnswersOfIssuers(t *testing.T) {
	elsewhere := oidctest.Start(t)
	for name, answer := range map[string]func(*oidctest.Issuer, http.ResponseWriter, *http.Request) bool{
		"a redirect to another host": func(_ *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, elsewhere.URL()+r.URL.Path, http.StatusFound)
			return true
		},
		"a redirect to itself": func(_ *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return true
		},
		"another issuer": func(_ *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != oidctest.DiscoveryPath {
				return false
			}
			_, _ = w.Write([]byte(`{"issuer":"https://id.example.com","jwks_uri":"` + elsewhere.URL() + oidctest.KeysPath + `"}`))
			return true
		},
		"keys over http elsewhere": func(i *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != oidctest.DiscoveryPath {
				return false
			}
			_, _ = w.Write([]byte(`{"issuer":"` + i.URL() + `","jwks_uri":"http://id.example.com/keys"}`))
			return true
		},
		"keys in a file": func(i *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != oidctest.DiscoveryPath {
				return false
			}
			_, _ = w.Write([]byte(`{"issuer":"` + i.URL() + `","jwks_uri":"file:///etc/passwd"}`))
			return true
		},
		"no keys": func(_ *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != oidctest.KeysPath {
				return false
			}
			_, _ = w.Write([]byte(`{"keys":[]}`))
			return true
		},
		"keys in an endless answer": func(_ *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != oidctest.KeysPath {
				return false
			}
			_, _ = w.Write([]byte(`{"keys":[],"x":"`))
			for range 100 {
				if _, err := w.Write([]byte(strings.Repeat("x", 64<<10))); err != nil {
					return true
				}
			}
			return true
		},
		"a page in place of keys": func(_ *oidctest.Issuer, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != oidctest.KeysPath {
				return false
			}
			_, _ = w.Write([]byte("<html>sign in"))
			return true
		},
		"an error": func(_ *oidctest.Issuer, w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := oidctest.Start(t)
			v, clock := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
			token := issuer.Mint(issuer.Claims("pgqueue", "alice"))
			issuer.SetAnswer(func(w http.ResponseWriter, r *http.Request) bool { return answer(issuer, w, r) })
			_, err := v.Verify(t.Context(), token)
			if queue.KindOf(err) != queue.KindUnavailable {
				t.Fatalf("got %v", err)
			}
			t.Log(err)
			issuer.SetAnswer(nil)
			clock.add(AskInterval)
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
	if n := elsewhere.Requests(oidctest.DiscoveryPath) + elsewhere.Requests(oidctest.KeysPath); n != 0 {
		t.Errorf("%d requests to another host", n)
	}
}

// TestOtherKeys: keys of other uses and unknown forms are passed over.
func TestOtherKeys(t *testing.T) {
	key := oidctest.NewKey(t, "a", oidctest.ES256)
	own := oidctest.Text(t, key.JWK())
	const secret = `{"kty":"oct","kid":"a","k":"c2VjcmV0"}`
	keys, err := parseKeys([]byte(`{"keys":[` + secret + `,{"kty":"OKP","crv":"Ed448","x":"AA"},{"kty":"XYZ"},{"kty":"AKP","alg":"ML-DSA-65","kid":"a","pub":"AAAA"},[],{"kty":7},{"kty":"RSA","n":"AQAB","e":"AQAB"},` +
		strings.Replace(own, `"use":"sig"`, `"use":"enc"`, 1) + `,` + own + `]}`))
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys %v: %v", keys, err)
	}
	for _, text := range []string{`{}`, `[]`, ``, `{"keys":[` + secret + `]}`, `{"keys":[` + strings.Repeat(own+",", maxKeys) + own + `]}`} {
		if keys, err := parseKeys([]byte(text)); err == nil {
			t.Errorf("%.60s gives %d keys", text, len(keys))
		}
	}
}

// TestPrivateAuthority: an issuer with a certificate of its own, and a token for its keys, as the API server of Kubernetes.
func TestPrivateAuthority(t *testing.T) {
	issuer := oidctest.StartTLS(t)
	pod := filepath.Join(t.TempDir(), "token")
	issuer.SetAnswer(func(w http.ResponseWriter, r *http.Request) bool {
		if content, _ := os.ReadFile(pod); r.Header.Get("Authorization") == "Bearer "+strings.TrimSpace(string(content)) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	if err := os.WriteFile(pod, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := access.Issuer{URL: issuer.URL(), Audience: "pgqueue", CAFile: issuer.CAFile(), TokenFile: pod}
	token := issuer.Mint(issuer.Claims("pgqueue", "alice"))
	for name, change := range map[string]func(*access.Issuer){
		"without its certificate":   func(i *access.Issuer) { i.CAFile = "" },
		"with another file":         func(i *access.Issuer) { i.CAFile = pod },
		"with a file that is not":   func(i *access.Issuer) { i.CAFile = "/nowhere" },
		"without the token":         func(i *access.Issuer) { i.TokenFile = "" },
		"with a token that is not":  func(i *access.Issuer) { i.TokenFile = "/nowhere" },
		"with a token of two lines": func(i *access.Issuer) { i.TokenFile = i.CAFile },
	} {
		i := whole
		change(&i)
		v, _ := newVerifier(t, i)
		if _, err := v.Verify(t.Context(), token); queue.KindOf(err) != queue.KindUnavailable || strings.Contains(err.Error(), "first") {
			t.Errorf("%s: %v", name, err)
		}
	}

	v, clock := newVerifier(t, whole)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	// The token of a pod is replaced each hour.
	if err := os.WriteFile(pod, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	clock.add(AskInterval)
	if _, err := v.Verify(t.Context(), issuer.Rotate(oidctest.RS256).Mint(t, issuer.Claims("pgqueue", "alice"))); err != nil {
		t.Errorf("with the next token: %v", err)
	}
}

// TestKubernetes: the API server of a cluster, behind its usual name, with a private authority, a token for its keys, and a
// place of keys that names a node out of reach. The way there is a proxy, as in some networks.
func TestKubernetes(t *testing.T) {
	const name = "https://kubernetes.default.svc"
	issuer := oidctest.StartTLS(t, "kubernetes.default.svc")
	issuer.SetURL(name)
	proxied.Store(new(issuer.Addr()))
	pod := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(pod, []byte("pod"), 0o600); err != nil {
		t.Fatal(err)
	}
	issuer.SetAnswer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Header.Get("Authorization") != "Bearer pod":
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == oidctest.DiscoveryPath:
			_, _ = w.Write([]byte(`{"issuer":"` + name + `","jwks_uri":"https://node.invalid:6443/openid/v1/jwks"}`))
		case r.URL.Path == "/openid/v1/jwks":
			r.URL.Path = oidctest.KeysPath
			return false
		}
		return r.URL.Path != oidctest.KeysPath
	})
	key := issuer.Rotate(oidctest.RS256)
	claims := issuer.Claims("pgqueue", "system:serviceaccount:mail:sender")
	claims["aud"] = []string{"pgqueue"}
	claims["kubernetes.io"] = map[string]any{"namespace": "mail"}
	token := key.Sign(t, `{"alg":"RS256","kid":"`+key.ID+`"}`, oidctest.Text(t, claims))

	cluster := access.Issuer{URL: name, Audience: "pgqueue", CAFile: issuer.CAFile(), TokenFile: pod}
	v, _ := newVerifier(t, cluster)
	if _, err := v.Verify(t.Context(), token); queue.KindOf(err) != queue.KindUnavailable {
		t.Errorf("keys on a node out of reach: %v", err)
	}
	cluster.KeysURL = name + "/openid/v1/jwks"
	v.Replace([]access.Issuer{cluster})
	proof, err := v.Verify(t.Context(), token)
	if err != nil || proof.Subject != "system:serviceaccount:mail:sender" || proof.Issuer != name {
		t.Errorf("proof %+v: %v", proof, err)
	}
}

// TestClose: a closed verifier makes no request, and works with the known keys.
func TestClose(t *testing.T) {
	issuer := oidctest.Start(t)
	v, clock := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
	token := issuer.Mint(issuer.Claims("pgqueue", "alice"))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	v.Close()
	clock.add(KeyAge)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("with a known key: %v", err)
	}
	if n := issuer.Requests(oidctest.KeysPath); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add(encode(`{"alg":"ES256","typ":"JWT"}`) + "." + encode(`{"iss":"i","aud":["a"],"exp":1e9,"groups":[ 1 , null,[]]}`) + ".x")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseToken(text)
		if err != nil {
			return
		}
		count := 0
		for _, texts := range parsed.texts {
			count += len(texts)
			for _, one := range texts {
				if len(one) > access.MaxMatch {
					t.Errorf("text %q", one)
				}
			}
		}
		if count > maxTexts || !slices.Contains(algorithms, parsed.algorithm) {
			t.Errorf("%d texts, algorithm %q", count, parsed.algorithm)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	issuer := oidctest.Start(b)
	v := New(slog.New(slog.DiscardHandler))
	defer v.Close()
	v.Replace([]access.Issuer{{URL: issuer.URL(), Audience: "pgqueue"}})
	for _, algorithm := range []string{oidctest.ES256, oidctest.RS256} {
		token := issuer.Rotate(algorithm).Mint(b, issuer.Claims("pgqueue", "alice"))
		v.Replace(nil)
		v.Replace([]access.Issuer{{URL: issuer.URL(), Audience: "pgqueue"}})
		b.Run(algorithm, func(b *testing.B) {
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
