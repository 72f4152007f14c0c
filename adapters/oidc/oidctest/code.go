package oidctest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// Client is a program that signs its users in by the code flow.
type Client struct {
	ID, Secret  string
	RedirectURI string
}

// grantedCode is a code that was not exchanged yet.
type grantedCode struct {
	client    Client
	challenge string
	nonce     string
	claims    map[string]any
}

// SetClient makes c the one client of the code flow.
func (i *Issuer) SetClient(c Client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.client = c
}

// SetUser makes claims those of the user that signs in, in place of {"sub": "alice"}. They replace the usual claims of an ID
// token of the same names. nil stands for a user that refuses.
func (i *Issuer) SetUser(claims map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.user = maps.Clone(claims)
}

// authorize sends the browser back with a code: the user is always signed in. A wrong client or redirect_uri gets 400, and
// other faults go back to the client, as the standard says.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	i.mu.Lock()
	client, refuses := i.client, i.user == nil
	i.mu.Unlock()
	back, err := url.Parse(client.RedirectURI)
	if r.Method != http.MethodGet || client.ID == "" || query.Get("client_id") != client.ID || query.Get("redirect_uri") != client.RedirectURI || err != nil {
		http.Error(w, "client_id and redirect_uri must be those of the client", http.StatusBadRequest)
		return
	}

	answer := url.Values{"state": {query.Get("state")}, "iss": {i.URL()}}
	switch {
	case query.Get("response_type") != "code" || query.Get("scope") == "" || query.Get("state") == "" || query.Get("nonce") == "":
		answer.Set("error", "invalid_request")
	case query.Get("code_challenge") == "" || query.Get("code_challenge_method") != "S256":
		answer.Set("error", "invalid_request")
		answer.Set("error_description", "PKCE with S256 is required")
	case refuses:
		answer.Set("error", "access_denied")
	default:
		code := rand.Text()
		i.mu.Lock()
		i.codes[code] = grantedCode{client, query.Get("code_challenge"), query.Get("nonce"), maps.Clone(i.user)}
		i.mu.Unlock()
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// exchangeCode returns the ID token of a code, once. It checks the client, its secret, redirect_uri and code_verifier.
func (i *Issuer) exchangeCode(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	i.mu.Lock()
	code, known := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	i.mu.Unlock()

	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	refuse := func(status int, name string) { writeJSON(w, status, map[string]string{"error": name}) }
	switch {
	case r.Method != http.MethodPost || r.PostFormValue("grant_type") != "authorization_code":
		refuse(http.StatusBadRequest, "unsupported_grant_type")
	case !known:
		refuse(http.StatusBadRequest, "invalid_grant")
	case id != code.client.ID || subtle.ConstantTimeCompare([]byte(secret), []byte(code.client.Secret)) != 1:
		refuse(http.StatusUnauthorized, "invalid_client")
	case r.PostFormValue("redirect_uri") != code.client.RedirectURI || encode(challenge[:]) != code.challenge:
		refuse(http.StatusBadRequest, "invalid_grant")
	default:
		claims := i.Claims(id, "")
		claims["nonce"] = code.nonce
		maps.Copy(claims, code.claims)
		writeJSON(w, http.StatusOK, map[string]any{
			"access_token": rand.Text(), "token_type": "Bearer", "expires_in": int(time.Hour.Seconds()), "id_token": i.Mint(claims),
		})
	}
}
