package oidctest

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// The paths of an issuer below its URL.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/keys"
	AuthorizePath = "/authorize"
	TokenPath     = "/token"
)

// Issuer is an issuer of JWTs. It is safe for concurrent use.
type Issuer struct {
	t      testing.TB
	server *httptest.Server

	mu       sync.Mutex
	url      string // the claim iss
	keys     []Key  // the published ones
	signer   Key
	made     int // keys
	down     bool
	requests map[string]int
	answer   func(http.ResponseWriter, *http.Request) bool
	client   Client
	user     map[string]any
	codes    map[string]grantedCode
}

// Start starts an issuer on plain http, which ends with the test. It signs with ES256.
func Start(t testing.TB) *Issuer {
	t.Helper()
	return start(t, (*httptest.Server).Start)
}

// StartTLS starts an issuer on https with a certificate for loopback and for names, which [Issuer.CAFile] vouches for.
func StartTLS(t testing.TB, names ...string) *Issuer {
	t.Helper()
	return start(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{makeCertificate(t, names)}}
		s.StartTLS()
	})
}

// makeCertificate returns a certificate that vouches for itself.
func makeCertificate(t testing.TB, names []string) tls.Certificate {
	t.Helper()
	key := NewKey(t, "tls", ES256)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.private}
}

func start(t testing.TB, listen func(*httptest.Server)) *Issuer {
	t.Helper()
	i := &Issuer{t: t, requests: map[string]int{}, user: map[string]any{"sub": "alice"}, codes: map[string]grantedCode{}}
	i.server = httptest.NewUnstartedServer(i)
	listen(i.server)
	t.Cleanup(i.server.Close)
	i.url = i.server.URL
	i.Rotate(ES256)
	return i
}

// URL returns the URL of the issuer, which is the claim iss of its JWTs.
func (i *Issuer) URL() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.url
}

// SetURL makes url the URL of the issuer. It still listens where it did, so a proxy must bring the requests to Addr.
func (i *Issuer) SetURL(url string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.url = url
}

// Addr returns the host and port on which the issuer listens.
func (i *Issuer) Addr() string { return i.server.Listener.Addr().String() }

// CAFile writes the certificate of an issuer on https into a file and returns its path.
func (i *Issuer) CAFile() string {
	i.t.Helper()
	path := filepath.Join(i.t.TempDir(), "ca.crt")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw})
	if err := os.WriteFile(path, content, 0o600); err != nil {
		i.t.Fatal(err)
	}
	return path
}

// Rotate publishes a new key beside the former ones and signs with it from now on.
func (i *Issuer) Rotate(algorithm string) Key {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.made++
	key := NewKey(i.t, "key-"+strconv.Itoa(i.made), algorithm)
	i.keys = append(i.keys, key)
	i.signer = key
	return key
}

// Publish makes these the published keys. The key that signs stays.
func (i *Issuer) Publish(keys ...Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = slices.Clone(keys)
}

// Key returns the key that signs.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.signer
}

// Claims returns the claims of a JWT for an audience, valid for an hour.
func (i *Issuer) Claims(audience, subject string) map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": i.URL(), "aud": audience, "sub": subject, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
}

// Mint returns a JWT with claims, signed by the present key.
func (i *Issuer) Mint(claims map[string]any) string {
	i.t.Helper()
	return i.Key().Mint(i.t, claims)
}

// SetDown makes the issuer break each connection, until it is called with false.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Requests returns how many requests have come to a path, those of an issuer that is down included.
func (i *Issuer) Requests(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

// SetAnswer makes answer see each request first; it returns whether it has answered. nil removes it.
func (i *Issuer) SetAnswer(answer func(http.ResponseWriter, *http.Request) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

// ServeHTTP answers the requests of a client of the issuer.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests[r.URL.Path]++
	down, answer := i.down, i.answer
	i.mu.Unlock()

	if down {
		panic(http.ErrAbortHandler) // breaks the connection
	}
	if answer != nil && answer(w, r) {
		return
	}

	switch r.URL.Path {
	case DiscoveryPath:
		url := i.URL()
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer": url, "jwks_uri": url + KeysPath, "authorization_endpoint": url + AuthorizePath, "token_endpoint": url + TokenPath,
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{RS256, ES256}, "code_challenge_methods_supported": []string{"S256"},
		})
	case KeysPath:
		i.mu.Lock()
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
		for _, k := range i.keys {
			set.Keys = append(set.Keys, k.JWK())
		}
		i.mu.Unlock()
		writeJSON(w, http.StatusOK, set)
	case AuthorizePath:
		i.authorize(w, r)
	case TokenPath:
		i.exchangeCode(w, r)
	default:
		http.NotFound(w, r)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
