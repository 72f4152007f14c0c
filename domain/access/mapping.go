package access

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The limits of a mapping.
const (
	// MaxRules is the largest number of rules of a mapping, and MaxIssuers that of issuers.
	MaxRules   = 1000
	MaxIssuers = 20
	// MaxMatch is the largest number of bytes of a text that a rule compares.
	MaxMatch = 1000
	// MaxSubject is the largest number of bytes of the subject of an identity.
	MaxSubject = 255
)

// Issuer is an issuer of JWTs that a server trusts.
type Issuer struct {
	// URL equals the claim iss of its JWTs.
	URL string
	// Audience is the name of this installation, which a JWT must have in its claim aud.
	Audience string
	// Name is the claim with a name for people; "" = the subject.
	Name string
	// CAFile has the PEM certificates that vouch for the hosts of the issuer, in place of those of the system; "" = those.
	CAFile string
	// TokenFile has a token that the requests for the keys send, as API servers of Kubernetes demand; "" = none. It comes
	// with a CAFile, so that no other host gets the token.
	TokenFile string
	// KeysURL is the place of the keys; "" = the one that the issuer names by discovery, which may be out of reach.
	KeysURL string
}

// Validate reports the first wrong field of i as KindInvalid. The URL has the scheme https; over http only this machine may
// vouch for callers.
func (i Issuer) Validate() error { return firstFault(i.Faults()) }

// Faults returns each broken rule of i; each is KindInvalid. A field has one at most.
func (i Issuer) Faults() []error {
	var faults []error
	if !isIssuerURL(i.URL) {
		faults = append(faults, queue.Invalid("issuer", fmt.Sprintf("must be a URL such as https://id.example.com, got %.64q; copy the claim iss of a JWT", i.URL)))
	}
	if i.KeysURL != "" && !isIssuerURL(i.KeysURL) {
		faults = append(faults, queue.Invalid("keys_url", fmt.Sprintf("must be a URL such as https://id.example.com/keys, got %.64q; copy jwks_uri of the issuer", i.KeysURL)))
	}
	if i.TokenFile != "" && i.CAFile == "" {
		faults = append(faults, queue.Invalid("token_file", fmt.Sprintf("must come with ca_file, got %.64q alone, which any host with a public certificate could get; name the certificates of the issuer", i.TokenFile)))
	}

	for _, field := range []struct{ name, text string }{
		{"issuer", i.URL},
		{"audience", i.Audience},
		{"name", i.Name},
		{"ca_file", i.CAFile},
		{"token_file", i.TokenFile},
		{"keys_url", i.KeysURL},
	} {
		if field.name != "audience" && field.text == "" || hasFault(faults, field.name) {
			continue
		}
		if err := validateWhole(field.name, field.text); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

// Digest returns a digest of what the trust in i rests on: its URL, the audience, and the certificates and the place by which its
// keys come. certificates is the content of CAFile.
func (i Issuer) Digest(certificates string) string {
	return "issuer " + digestText(fmt.Sprintf("%q", []string{i.URL, i.Audience, i.KeysURL, i.CAFile, certificates}))
}

// firstFault returns the first of faults; nil without any.
func firstFault(faults []error) error {
	if len(faults) == 0 {
		return nil
	}
	return faults[0]
}

// hasFault reports whether a fault is of the field called name.
func hasFault(faults []error, name string) bool {
	return slices.ContainsFunc(faults, func(fault error) bool {
		e, ok := errors.AsType[*queue.Error](fault)
		return ok && e.Field == name
	})
}

// isIssuerURL reports whether text is a URL with https, or one of this machine.
func isIssuerURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && IsLocalHost(u.Hostname())
}

// IsLocalHost reports whether the host of a URL or of a request is this machine.
func IsLocalHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Proof names a caller that an issuer of JWTs or a certificate authority vouches for.
type Proof struct {
	// Kind is KindJWT or KindCertificate.
	Kind Kind
	// Issuer is the URL of the issuer; "" for a certificate.
	Issuer string
	// Subject identifies the caller at its issuer: the claim sub, or the name in the certificate.
	Subject string
	// Name is for people; "" = Subject.
	Name string
	// Authority is the [AuthorityDigest] of a certificate, or the [Issuer.Digest] of a JWT.
	Authority string
	// Claims has the texts of each claim of a JWT.
	Claims map[string][]string
	// Expires is the end of the credential by the clock of this process.
	Expires time.Time
	// Trusted reports whether the issuer and its key are still trusted; nil = they are until Expires.
	Trusted func() bool
}

// Rule gives grants to the identities that it matches: those of an issuer by a claim, or certificates by their name. A
// text matches when it is equal, or when it starts with the text before a final "*".
type Rule struct {
	Issuer, Claim, Is string
	Certificate       string
	Grants            []Grant
}

// Validate reports the first wrong field of r as KindInvalid. An empty text is refused: it would match a claim that an
// issuer left empty.
func (r Rule) Validate() error { return firstFault(r.Faults()) }

// Faults returns each broken rule of r; each is KindInvalid. A field has one at most.
func (r Rule) Faults() []error {
	var faults []error
	report := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	switch {
	case r.Certificate != "" && (r.Issuer != "" || r.Claim != "" || r.Is != ""):
		report(queue.Invalid("cert", fmt.Sprintf("must not come with issuer, claim and is, got %.64q; make two rules", r.Certificate)))
	case r.Certificate != "":
		report(validateMatch("cert", r.Certificate))
	default:
		report(validateWhole("issuer", r.Issuer))
		report(validateWhole("claim", r.Claim))
		report(validateMatch("is", r.Is))
	}
	if len(r.Grants) == 0 || len(r.Grants) > MaxGrants {
		report(queue.Invalid("grant", fmt.Sprintf("must be 1 to %d grants, got %d; name at least one role", MaxGrants, len(r.Grants))))
	}
	return faults
}

// validateWhole is [validateMatch] for a text that is compared as a whole.
func validateWhole(field, text string) error {
	if err := validateMatch(field, text); err != nil {
		return err
	}
	if strings.Contains(text, "*") {
		return queue.Invalid(field, fmt.Sprintf("must be a whole text, got %.64q; leave out the *", text))
	}
	return nil
}

// validateMatch refuses a text that a rule cannot compare.
func validateMatch(field, text string) error {
	start, _ := strings.CutSuffix(text, "*")
	switch {
	case strings.TrimSpace(text) == "":
		return queue.Invalid(field, fmt.Sprintf("must be a text, got %.64q; name the value, or * for every value", text))
	case len(text) > MaxMatch:
		return queue.Invalid(field, fmt.Sprintf("must be at most %d bytes, got %d; shorten it with a final *", MaxMatch, len(text)))
	case strings.Contains(start, "*"):
		return queue.Invalid(field, fmt.Sprintf("must have a * at its end alone, got %.64q; make one rule for each value", text))
	case !utf8.ValidString(text) || strings.ContainsFunc(text, isControl):
		return queue.Invalid(field, fmt.Sprintf("must be text without control characters, got %.64q; leave them out", text))
	}
	return nil
}

// matches reports whether r gives its grants to id.
func (r Rule) matches(id Proof) bool {
	if r.Certificate != "" {
		return id.Kind == KindCertificate && matchesPattern(r.Certificate, id.Subject)
	}
	if id.Kind != KindJWT || r.Issuer != id.Issuer || r.Claim == "email" && !id.hasVerifiedEmail() {
		return false
	}
	// The rule * matches each value, but an empty claim proves nothing of its holder.
	return slices.ContainsFunc(id.Claims[r.Claim], func(value string) bool { return value != "" && matchesPattern(r.Is, value) })
}

// hasVerifiedEmail reports whether the issuer has checked the address. At some issuers each user can enter any address.
func (id Proof) hasVerifiedEmail() bool {
	return slices.Equal(id.Claims["email_verified"], []string{"true"})
}

// Mapping is a set of rules, which may be replaced while it is used. The zero Mapping has no rules. It is safe for
// concurrent use.
type Mapping struct{ present atomic.Pointer[ruleSet] }

// ruleSet is one state of the rules. Its address is its identity.
type ruleSet struct {
	rules []mappedRule
	// basis has the digests of the rules and of the authorities.
	basis map[string]bool
}

// mappedRule is a rule with its digest.
type mappedRule struct {
	Rule
	digest string
}

// Replace makes rules the rules from now on, and authorities those of certificates and JWTs, by their digests. The principals
// of the former rules are no longer confirmed, so their open streams end and their next calls get the new rights. Sessions that
// a former rule or authority gave rights are refused.
func (m *Mapping) Replace(rules []Rule, authorities ...string) {
	set := &ruleSet{basis: map[string]bool{}}
	for _, r := range rules {
		digest := digestText(fmt.Sprintf("%q", append(FormatGrants(r.Grants), r.Issuer, r.Claim, r.Is, r.Certificate)))
		set.rules = append(set.rules, mappedRule{r, digest})
		set.basis[digest] = true
	}
	for _, authority := range authorities {
		set.basis[authority] = true
	}
	m.present.Store(set)
}

// AuthorityDigest returns the digest of the DER bytes of the certificate of an authority.
func AuthorityDigest(der []byte) string { return "authority " + digestText(string(der)) }

func digestText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// has reports whether each part of a basis is present.
func (m *Mapping) has(basis []string) bool {
	set := m.present.Load()
	return set != nil && len(basis) > 0 && !slices.ContainsFunc(basis, func(part string) bool { return !set.basis[part] })
}

// GrantsOf returns the grants of each rule that matches id, without repetition.
func (m *Mapping) GrantsOf(id Proof) []Grant {
	grants, _, _ := m.findGrants(id)
	return grants
}

// findGrants returns the grants of id, their basis and the present rules.
func (m *Mapping) findGrants(id Proof) (grants []Grant, basis []string, set *ruleSet) {
	if set = m.present.Load(); set == nil {
		return nil, nil, nil
	}
	if id.Authority != "" {
		basis = append(basis, id.Authority)
	}

	for _, r := range set.rules {
		if !r.matches(id) {
			continue
		}
		basis = append(basis, r.digest)
		for _, g := range r.Grants {
			if !slices.Contains(grants, g) {
				grants = append(grants, g)
			}
		}
	}
	return grants, basis, set
}

// Principal returns the principal of id. Without a rule that matches it has no rights. KindUnauthenticated for an identity
// without a subject that a log can show.
func (m *Mapping) Principal(id Proof) (*Principal, error) {
	if id.Subject == "" || len(id.Subject) > MaxSubject || !utf8.ValidString(id.Subject) || strings.ContainsFunc(id.Subject, isControl) {
		return nil, &queue.Error{
			Kind: queue.KindUnauthenticated, Field: "sub",
			Msg: fmt.Sprintf("must be 1 to %d bytes of text without control characters, got %.64q; choose another name", MaxSubject, id.Subject),
		}
	}

	grants, basis, set := m.findGrants(id)
	name, key := id.Name, id.Subject
	if name == "" || len(name) > MaxSubject || !utf8.ValidString(name) || strings.ContainsFunc(name, isControl) {
		name = id.Subject
	}
	// Two issuers may use the same subject for different callers.
	if id.Issuer != "" {
		key = JWTPrincipalID(id.Issuer, id.Subject)
	}

	p := NewPrincipal(key, name, id.Kind, grants)
	p.Issuer, p.Subject, p.basis = id.Issuer, id.Subject, basis
	p.expires, p.mapped, p.trusted = id.Expires, set, id.Trusted
	return p, nil
}

// errEnded is the cause of the refusal of a principal that was proved before.
var errEnded = errors.New("must be within its time and of the present rules, got a credential that was proved before; send a new one")

// Confirm returns an error when the credential of p has expired at now, when its issuer or key is no longer trusted, or when
// the rules have changed since p was made.
func (m *Mapping) Confirm(p *Principal, now time.Time) error {
	if p.mapped != m.present.Load() || !p.expires.IsZero() && !now.Before(p.expires) || p.trusted != nil && !p.trusted() {
		return refuse(errEnded)
	}
	return nil
}
