package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// Login has the values of one sign-in at an identity provider. They follow from a secret that only the browser which began
// the sign-in has, so a server keeps nothing of it, and every server of an installation can finish it.
type Login struct {
	// State comes back from the provider with the browser, Nonce in its ID token.
	State string
	Nonce string
	// Verifier is the PKCE code_verifier. The provider gets its digest first, and the text with the code.
	Verifier string
}

// loginLetters is the number of letters of the secret of a sign-in: 256 bits.
const loginLetters = 43

// NewLoginSecret makes the secret of a sign-in.
func NewLoginSecret() string { return makeLetters(loginLetters) }

// LoginOf returns the values of the sign-in with a secret.
func LoginOf(secret string) Login {
	derive := func(use string) string {
		sum := sha256.Sum256([]byte("pgqueue login " + use + " " + secret))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return Login{State: derive("state"), Nonce: derive("nonce"), Verifier: derive("verifier")}
}

// HasState reports whether state is that of the sign-in.
func (l Login) HasState(state string) bool {
	return subtle.ConstantTimeCompare([]byte(l.State), []byte(state)) == 1
}

// Challenge returns the PKCE code_challenge of the method S256.
func (l Login) Challenge() string {
	sum := sha256.Sum256([]byte(l.Verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
