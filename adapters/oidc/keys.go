package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/pgqueue/pgqueue/domain/access"
)

const (
	// KeyAge is the age at which the keys of an issuer are fetched again. A key that the issuer has withdrawn is refused
	// after that time, and after a request to the issuer.
	KeyAge = 10 * time.Minute
	// AskInterval is the least time between two requests for the keys of an issuer.
	AskInterval = 10 * time.Second
	// maxKeys bounds the keys of an issuer.
	maxKeys = 100
	// The sizes of RSA keys in bits: smaller ones are weak, and a signature of larger ones costs too much to check.
	minRSA = 2048
	maxRSA = 8192
)

// remote is a trusted issuer with its keys.
type remote struct {
	access.Issuer
	digest   string // of Issuer
	verifier *Verifier

	mu      sync.Mutex
	keys    []jose.JSONWebKey // nil before the first fetch; replaced as a whole
	fetched time.Time         // the time of keys
	asked   time.Time         // the start of the last fetch
	running *fetch
	fault   error // of the last fetch
}

// fetch is a fetch of keys under way.
type fetch struct {
	done  chan struct{} // closed at the end
	keys  []jose.JSONWebKey
	fault error
}

// present returns the known keys. It starts to fetch them again when they are old.
func (r *remote) present() []jose.JSONWebKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys != nil && r.verifier.now().Sub(r.fetched) >= KeyAge {
		r.start()
	}
	return r.keys
}

// ask returns the keys of the issuer from a fetch that is at most AskInterval old. All callers wait for one fetch.
func (r *remote) ask(ctx context.Context) ([]jose.JSONWebKey, error) {
	r.mu.Lock()
	f := r.start()
	keys, fault := r.keys, r.fault
	r.mu.Unlock()
	if f == nil {
		return keys, fault
	}

	select {
	case <-f.done:
		return f.keys, f.fault
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start returns the fetch under way, or starts one; nil within AskInterval of the last, and after the end of the verifier.
// r.mu is held. No caller's end ends the fetch, because other callers wait for it.
func (r *remote) start() *fetch {
	if r.running != nil {
		return r.running
	}
	if !r.asked.IsZero() && r.verifier.now().Sub(r.asked) < AskInterval {
		return nil
	}

	f := &fetch{done: make(chan struct{})}
	if !r.verifier.goFetch(func(ctx context.Context) { r.run(ctx, f) }) {
		return nil
	}
	r.asked = r.verifier.now()
	r.running = f
	return f
}

// run fetches the keys for f. After a fault the former keys stay.
func (r *remote) run(ctx context.Context, f *fetch) {
	defer close(f.done)
	f.keys, f.fault = r.fetchKeys(ctx)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = nil
	before := r.fault
	r.fault = f.fault
	if f.fault != nil {
		// The callers of this fetch go on with the last keys, as the log line says.
		f.keys = r.keys
		if before == nil && ctx.Err() == nil {
			r.verifier.log.LogAttrs(ctx, slog.LevelWarn, "the keys of an issuer of JWTs cannot be fetched; its last keys stay valid",
				slog.String("issuer", r.URL), slog.Int("keys", len(r.keys)), slog.String("err", trim(f.fault.Error())))
		}
		return
	}
	if before != nil || r.keys == nil {
		r.verifier.log.LogAttrs(ctx, slog.LevelInfo, "fetched the keys of an issuer of JWTs", slog.String("issuer", r.URL), slog.Int("keys", len(f.keys)))
	}
	r.keys = f.keys
	r.fetched = r.verifier.now()
}

// trim returns the text of a fault, which may hold a page of an issuer, in one short line.
func trim(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	return fmt.Sprintf("%.*s", most, text)
}

// fetchKeys asks the issuer for the place of its keys, which may change, and for the keys.
func (r *remote) fetchKeys(ctx context.Context) ([]jose.JSONWebKey, error) {
	token, err := readToken(r.Issuer)
	if err != nil {
		return nil, err
	}
	client, err := newClient(r.Issuer, token)
	if err != nil {
		return nil, err
	}

	place := r.KeysURL
	if place == "" {
		if place, err = r.discover(ctx, client); err != nil {
			return nil, err
		}
	}
	body, err := readKeys(ctx, client, place)
	if err != nil {
		return nil, err
	}
	return parseKeys(body)
}

// discover returns the place of the keys that the issuer names.
func (r *remote) discover(ctx context.Context, client *http.Client) (string, error) {
	provider, err := goidc.NewProvider(goidc.ClientContext(ctx, client), r.URL)
	if err != nil {
		return "", err
	}
	var found struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&found); err != nil {
		return "", err
	}
	if !maySupplyKeys(r.Issuer, found.Keys) {
		return "", fmt.Errorf("jwks_uri of the issuer must be a URL with https, got %.200q; correct its settings", found.Keys)
	}
	return found.Keys, nil
}

// parseKeys returns the usable keys of a JWKS. It passes over keys of other forms, as the standard demands.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("the keys of the issuer must be a JWKS: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the issuer must publish at most %d keys, got %d", maxKeys, len(set.Keys))
	}

	var keys []jose.JSONWebKey
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(text, &key); err == nil && isUsable(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the issuer must publish a public key for signatures, got none")
	}
	return keys, nil
}

// isUsable reports whether a key checks signatures of an asymmetric algorithm.
func isUsable(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" || !key.IsPublic() || !key.Valid() {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		size := public.N.BitLen()
		return size >= minRSA && size <= maxRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// candidates returns the keys that may have made a signature with these headers. Without a kid the issuer must have one key
// for the algorithm: a search through all keys would cost as many checks.
func candidates(keys []jose.JSONWebKey, kid, algorithm string) []jose.JSONWebKey {
	var fit []jose.JSONWebKey
	for _, key := range keys {
		if (kid == "" || key.KeyID == kid) && (key.Algorithm == "" || key.Algorithm == algorithm) && signs(key, algorithm) {
			fit = append(fit, key)
		}
	}
	if kid == "" && len(fit) > 1 {
		return nil
	}
	return fit
}

// signs reports whether a key is of the type of an algorithm.
func signs(key jose.JSONWebKey, algorithm string) bool {
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == map[int]string{256: goidc.ES256, 384: goidc.ES384, 521: goidc.ES512}[public.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return algorithm == goidc.EdDSA
	}
	return false
}

// has reports whether the issuer still publishes a key.
func (r *remote) has(key jose.JSONWebKey) bool {
	for _, present := range r.present() {
		if equal, ok := key.Key.(interface{ Equal(crypto.PublicKey) bool }); ok && present.KeyID == key.KeyID && equal.Equal(present.Key) {
			return true
		}
	}
	return false
}
