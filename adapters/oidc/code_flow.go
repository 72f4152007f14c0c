package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4/json" // case-sensitive, and refuses repeated names

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// maxExchanges bounds the exchanges of codes at one time. access.Lookups bounds those of one address, so that a flood of
	// made-up codes waits for itself.
	maxExchanges = 4
	// maxCodeBytes bounds the code of a provider.
	maxCodeBytes = 4 << 10
)

// Client is this installation at an identity provider.
type Client struct {
	access.Issuer
	// ID is the client_id, which is the audience of ID tokens. Issuer.Audience is not used.
	ID string
	// Secret is the client_secret; "" for a public client.
	Secret string
	// RedirectURL is the address to which the provider sends browsers back.
	RedirectURL string
}

// CodeFlow signs users of browsers in by the authorization code flow with PKCE. No token of the provider is kept. It is safe
// for concurrent use.
type CodeFlow struct {
	client    Client
	verifier  *Verifier
	lookups   access.Lookups // of codes
	exchanges chan struct{}  // one element for each exchange under way

	mu      sync.Mutex
	present endpoints
	readAt  time.Time // of present, or of the last failure
	fault   error
}

// endpoints are the parts of the discovery of a provider that the flow uses.
type endpoints struct {
	Authorize string   `json:"authorization_endpoint"`
	Token     string   `json:"token_endpoint"`
	Methods   []string `json:"token_endpoint_auth_methods_supported"`
}

// NewCodeFlow returns the sign-in of a client. It makes no request, so a provider that is down does not stop a server. Close
// ends it.
func NewCodeFlow(c Client, log *slog.Logger) *CodeFlow {
	c.Audience = c.ID
	f := &CodeFlow{client: c, verifier: New(log), exchanges: make(chan struct{}, maxExchanges)}
	f.verifier.Replace([]access.Issuer{c.Issuer})
	return f
}

// Close ends the requests to the provider for its keys.
func (f *CodeFlow) Close() { f.verifier.Close() }

// Digests is that of [Verifier] for the provider.
func (f *CodeFlow) Digests() []string { return f.verifier.Digests() }

// Begin returns the address of the provider to which the browser goes. KindUnavailable when the provider does not answer.
func (f *CodeFlow) Begin(ctx context.Context, l access.Login) (string, error) {
	at, err := f.discover(ctx)
	if err != nil {
		return "", err
	}
	address, err := url.Parse(at.Authorize)
	if err != nil {
		return "", f.unavailable(err)
	}

	query := address.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": f.client.ID, "redirect_uri": f.client.RedirectURL, "scope": "openid profile email",
		"state": l.State, "nonce": l.Nonce, "code_challenge": l.Challenge(), "code_challenge_method": "S256",
	} {
		query.Set(name, value)
	}
	address.RawQuery = query.Encode()
	return address.String(), nil
}

// Finish exchanges the code of a sign-in for its ID token, and returns the identity that this proves. KindUnauthenticated for a
// code or an ID token that does not belong to the sign-in, KindUnavailable when the provider does not answer.
func (f *CodeFlow) Finish(ctx context.Context, code string, l access.Login) (access.Proof, error) {
	if code == "" || len(code) > maxCodeBytes {
		return access.Proof{}, refuseCode(fmt.Errorf("the code must be 1 to %d bytes, got %d", maxCodeBytes, len(code)))
	}
	at, err := f.discover(ctx)
	if err != nil {
		return access.Proof{}, err
	}
	text, err := f.exchange(ctx, at, code, l)
	if err != nil {
		return access.Proof{}, err
	}

	proof, err := f.verifier.Verify(ctx, text)
	switch {
	case err != nil:
		return access.Proof{}, err
	case !slices.Equal(proof.Claims["nonce"], []string{l.Nonce}):
		return access.Proof{}, refuseCode(errors.New("the ID token must have the nonce of the sign-in, got another"))
	case len(proof.Claims["azp"]) > 0 && !slices.Equal(proof.Claims["azp"], []string{f.client.ID}):
		return access.Proof{}, refuseCode(errors.New("the ID token must be made for this client, got another in azp"))
	}
	return proof, nil
}

func refuseCode(cause error) error {
	return &queue.Error{Kind: queue.KindUnauthenticated, Field: "code", Msg: "must be that of this sign-in, got another; sign in again", Err: cause}
}

func (f *CodeFlow) unavailable(cause error) error {
	return &queue.Error{Kind: queue.KindUnavailable, Subject: "issuer " + f.client.URL, Msg: "must answer for a sign-in, got no usable answer; repeat the sign-in", Err: cause}
}

// discover returns the endpoints of the provider, at most [KeyAge] old. After a failure it asks again once in [AskInterval].
func (f *CodeFlow) discover(ctx context.Context) (endpoints, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	age := time.Since(f.readAt)
	if !f.readAt.IsZero() && (f.fault == nil && age < KeyAge || f.fault != nil && age < AskInterval) {
		return f.present, f.fault
	}

	// A caller that leaves must not fail the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	found, err := f.readEndpoints(ctx)
	f.readAt = time.Now()
	switch {
	case err == nil:
		f.present, f.fault = found, nil
	// Known endpoints stay good while the provider is down.
	case f.present.Token == "":
		f.fault = f.unavailable(err)
	}
	return f.present, f.fault
}

func (f *CodeFlow) readEndpoints(ctx context.Context) (endpoints, error) {
	client, err := newClient(f.client.Issuer, "")
	if err != nil {
		return endpoints{}, err
	}
	provider, err := goidc.NewProvider(goidc.ClientContext(ctx, client), f.client.URL)
	if err != nil {
		return endpoints{}, err
	}
	var found endpoints
	if err := provider.Claims(&found); err != nil {
		return endpoints{}, err
	}
	for name, address := range map[string]string{"authorization_endpoint": found.Authorize, "token_endpoint": found.Token} {
		if !maySupplyKeys(f.client.Issuer, address) {
			return endpoints{}, fmt.Errorf("%s of the issuer must be a URL with https, got %.200q; correct its settings", name, address)
		}
	}
	return found, nil
}

// exchange returns the ID token of a code.
func (f *CodeFlow) exchange(ctx context.Context, at endpoints, code string, l access.Login) (string, error) {
	leave, err := f.lookups.Enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	select {
	case f.exchanges <- struct{}{}:
		defer func() { <-f.exchanges }()
	case <-ctx.Done():
		return "", queue.ContextError(ctx.Err())
	}

	r, err := f.newExchange(ctx, at, code, l)
	if err != nil {
		return "", f.unavailable(err)
	}
	client, err := newClient(f.client.Issuer, "")
	if err != nil {
		return "", f.unavailable(err)
	}
	// A redirect would send the code and the secret on.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := client.Do(r)
	if err != nil {
		return "", f.unavailable(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", f.unavailable(err)
	}

	var parts struct {
		IDToken string `json:"id_token"`
		Error   string `json:"error"`
	}
	fault := json.Unmarshal(body, &parts)
	switch {
	case answer.StatusCode == http.StatusOK && fault == nil && parts.IDToken != "":
		return parts.IDToken, nil
	case parts.Error == "invalid_grant":
		return "", refuseCode(errors.New("the provider does not know the code: invalid_grant"))
	}
	return "", f.unavailable(fmt.Errorf("an exchange of a code must be answered with an ID token, got status %d and the error %.100q; check client_id, client_secret and redirect_uri", answer.StatusCode, parts.Error))
}

// newExchange returns the request that exchanges a code. The secret goes by HTTP Basic, unless the provider takes it in the body
// alone.
func (f *CodeFlow) newExchange(ctx context.Context, at endpoints, code string, l access.Login) (*http.Request, error) {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.client.RedirectURL}, "code_verifier": {l.Verifier},
	}
	basic := f.client.Secret != "" && (len(at.Methods) == 0 || slices.Contains(at.Methods, "client_secret_basic"))
	if !basic {
		form.Set("client_id", f.client.ID)
		if f.client.Secret != "" {
			form.Set("client_secret", f.client.Secret)
		}
	}

	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if basic {
		// RFC 6749 section 2.3.1 demands form encoding of both within HTTP Basic.
		r.SetBasicAuth(url.QueryEscape(f.client.ID), url.QueryEscape(f.client.Secret))
	}
	return r, nil
}
