package oidc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4/json" // case-sensitive, and refuses repeated names

	"github.com/pgqueue/pgqueue/domain/access"
)

const (
	// MaxTokenBytes is the largest number of bytes of a JWT.
	MaxTokenBytes = 8 << 10
	// MaxLifetime is the longest time from iat to exp of a JWT.
	MaxLifetime = 24 * time.Hour
	// leeway is how far the clock of an issuer may be ahead.
	leeway = 30 * time.Second
	// maxTexts bounds the texts of all claims of a JWT.
	maxTexts = 1000
)

// algorithms are the accepted ones. Those with a shared secret are out: the secret would have to be a public key.
var algorithms = []string{
	goidc.RS256, goidc.RS384, goidc.RS512, goidc.PS256, goidc.PS384, goidc.PS512, goidc.ES256, goidc.ES384, goidc.ES512, goidc.EdDSA,
}

// token is a JWT before its signature is checked.
type token struct {
	header
	claims
}

// header has the parts of a JWS header that count.
type header struct {
	algorithm string
	kid       string
}

// claims has the registered claims of a JWT, and the texts of all claims.
type claims struct {
	issuer, subject         string
	audience                []string
	issued, begins, expires time.Time // zero without the claim
	texts                   map[string][]string
}

// parseToken reads a JWT. The size comes first: nothing is decoded of a larger text.
func parseToken(text string) (token, error) {
	if len(text) > MaxTokenBytes {
		return token{}, fmt.Errorf("the JWT must have at most %d bytes, got %d", MaxTokenBytes, len(text))
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 || slices.Contains(parts, "") {
		return token{}, errors.New("a JWT must have three parts")
	}

	first, err := decodePart(parts[0])
	if err != nil {
		return token{}, fmt.Errorf("the header of the JWT: %w", err)
	}
	second, err := decodePart(parts[1])
	if err != nil {
		return token{}, fmt.Errorf("the claims of the JWT: %w", err)
	}

	var t token
	if t.claims, err = parseClaims(second); err != nil {
		return t, err
	}
	t.header, err = parseHeader(first)
	return t, err
}

// decodePart returns the members of a JSON object.
func decodePart(part string) (map[string]json.RawMessage, error) {
	// Strict refuses spare bits at the end, so each token has exactly one text.
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, errors.New("must be base64url without padding")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return nil, errors.New("must be a JSON object with unique names")
	}
	return members, nil
}

// parseHeader reads the header of a JWT. Headers that name a key or a place of keys, as jku, jwk, x5u and x5c, have no effect.
func parseHeader(members map[string]json.RawMessage) (header, error) {
	var h header
	var kind string
	for name, to := range map[string]*string{"alg": &h.algorithm, "kid": &h.kid, "typ": &kind} {
		if text := members[name]; text != nil && json.Unmarshal(text, to) != nil {
			return h, fmt.Errorf("the header %s of the JWT must be a text", name)
		}
	}

	switch kind = strings.ToLower(kind); {
	case members["crit"] != nil:
		return h, errors.New("the JWT must not have the header crit: an extension that must be understood is not")
	case !slices.Contains(algorithms, h.algorithm):
		return h, fmt.Errorf("the header alg of the JWT must be an asymmetric algorithm, got %.20q", h.algorithm)
	case kind != "" && strings.TrimPrefix(kind, "application/") != "jwt" && strings.TrimPrefix(kind, "application/") != "at+jwt":
		// A JWT for another purpose, as the notice of a logout.
		return h, fmt.Errorf("the header typ of the JWT must be JWT or at+jwt, got %.40q", kind)
	}
	return h, nil
}

// parseClaims reads the claims of a JWT.
func parseClaims(members map[string]json.RawMessage) (claims, error) {
	c := claims{texts: map[string][]string{}}
	count := 0
	for name, value := range members {
		texts := textsOf(value)
		// The rules look at each text, so their number bounds the work of a sign-in.
		count += len(texts)
		if len(texts) > 0 {
			c.texts[name] = texts
		}
	}
	if count > maxTexts {
		return c, fmt.Errorf("the claims of the JWT must be at most %d texts, got %d", maxTexts, count)
	}
	// A logout token or another security event is signed by the same key, for the same audience.
	if members["events"] != nil {
		return c, errors.New("the JWT must not have the claim events: it is a notice, and not a credential")
	}

	for name, to := range map[string]*string{"iss": &c.issuer, "sub": &c.subject} {
		if value := members[name]; value != nil && json.Unmarshal(value, to) != nil {
			return c, fmt.Errorf("the claim %s of the JWT must be a text", name)
		}
	}
	for name, to := range map[string]*time.Time{"iat": &c.issued, "nbf": &c.begins, "exp": &c.expires} {
		at, err := parseTime(members[name])
		if err != nil {
			return c, fmt.Errorf("the claim %s of the JWT %w", name, err)
		}
		*to = at
	}

	var one string
	if value := members["aud"]; value != nil && json.Unmarshal(value, &one) == nil {
		c.audience = []string{one}
	} else if value != nil && json.Unmarshal(value, &c.audience) != nil {
		return c, errors.New("the claim aud of the JWT must be a text or a list of texts")
	}
	return c, nil
}

// parseTime reads seconds since 1970; the zero time without them.
func parseTime(value json.RawMessage) (time.Time, error) {
	if value == nil {
		return time.Time{}, nil
	}
	var seconds float64
	if err := json.Unmarshal(value, &seconds); err != nil || string(value) == "null" || math.Abs(seconds) > 1e11 {
		return time.Time{}, errors.New("must be a number of seconds since 1970")
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), nil
}

// textsOf returns the texts of a claim: of a text, a number, a truth value, or a list of these. An object has none. Texts
// that are too long for a rule are left out.
func textsOf(value json.RawMessage) []string {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil {
		list = []json.RawMessage{value}
	}

	var texts []string
	for _, element := range list {
		var text string
		switch element[0] {
		case '{', '[', 'n':
			continue
		case '"':
			if json.Unmarshal(element, &text) != nil {
				continue
			}
		default:
			text = string(element)
		}
		if len(text) <= access.MaxMatch {
			texts = append(texts, text)
		}
	}
	return texts
}

// check returns the first rule that the claims of a JWT of issuer i break at now.
func (c claims) check(i access.Issuer, now time.Time) error {
	switch {
	case c.issuer != i.URL:
		return errors.New("the claim iss of the JWT must be its issuer")
	case !slices.Contains(c.audience, i.Audience):
		return fmt.Errorf("the claim aud of the JWT must have %.64q, got %.200q", i.Audience, c.audience)
	case c.subject == "":
		return errors.New("the claim sub of the JWT must be a text, got none")
	case c.expires.IsZero() || c.issued.IsZero():
		return errors.New("the JWT must have the claims exp and iat")
	case !now.Before(c.expires):
		return fmt.Errorf("the JWT has expired at %s", c.expires.UTC().Format(time.RFC3339))
	case c.expires.Sub(c.issued) > MaxLifetime:
		return fmt.Errorf("the JWT must live for at most %v, got %v; ask for a shorter one", MaxLifetime, c.expires.Sub(c.issued))
	case c.issued.After(now.Add(leeway)), c.begins.After(now.Add(leeway)):
		return errors.New("the JWT is not valid yet; compare the clocks")
	}
	return nil
}
