package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
)

// The algorithms of keys.
const (
	RS256 = "RS256"
	PS256 = "PS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

// Key is a pair of keys that signs JWTs.
type Key struct {
	// ID is the kid of the key, Algorithm its alg.
	ID        string
	Algorithm string
	private   crypto.Signer
}

// NewKey makes a key of one of the algorithms above.
func NewKey(t testing.TB, id, algorithm string) Key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case RS256, PS256:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("the algorithm must be one of this package, got %q", algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Key{id, algorithm, private}
}

// Public returns the public key.
func (k Key) Public() crypto.PublicKey { return k.private.Public() }

// JWK returns the public key as an element of a JWKS.
func (k Key) JWK() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.Public(), KeyID: k.ID, Algorithm: k.Algorithm, Use: "sig"}
}

// Header returns the header of a JWT that k signs.
func (k Key) Header() map[string]any {
	return map[string]any{"alg": k.Algorithm, "kid": k.ID, "typ": "JWT"}
}

// Sign returns a JWT with exactly this header and these claims. The signature is that of the key's algorithm, also under a
// header that names another.
func (k Key) Sign(t testing.TB, header, claims string) string {
	t.Helper()
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	var err error
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		var opts crypto.SignerOpts = crypto.SHA256
		if k.Algorithm == PS256 {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		}
		signature, err = private.Sign(rand.Reader, sum[:], opts)
	case *ecdsa.PrivateKey:
		r, s, fault := ecdsa.Sign(rand.Reader, private, sum[:])
		if fault != nil {
			t.Fatal(fault)
		}
		signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, []byte(text))
	default:
		err = fmt.Errorf("a key of type %T does not sign", private)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(signature)
}

// Mint returns a JWT with claims as JSON and the header of k.
func (k Key) Mint(t testing.TB, claims map[string]any) string {
	t.Helper()
	return k.Sign(t, Text(t, k.Header()), Text(t, claims))
}

// Text returns v as JSON.
func Text(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
