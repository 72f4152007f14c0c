package access_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	company = "https://id.example.com"
	cluster = "https://kubernetes.example.com"
)

// readGrants returns the grants of texts separated by blanks.
func readGrants(t *testing.T, texts string) []access.Grant {
	t.Helper()
	grants, err := access.ParseGrants(strings.Fields(texts))
	if err != nil {
		t.Fatal(err)
	}
	return grants
}

// newMapping returns a mapping with rules of each form.
func newMapping(t *testing.T) *access.Mapping {
	t.Helper()
	rules := []access.Rule{
		{Issuer: company, Claim: "groups", Is: "sre", Grants: readGrants(t, "admin@*")},
		{Issuer: company, Claim: "groups", Is: "team-*", Grants: readGrants(t, "viewer@default viewer@billing")},
		{Issuer: company, Claim: "email", Is: "boss@example.com", Grants: readGrants(t, "system@*")},
		{Issuer: cluster, Claim: "sub", Is: "system:serviceaccount:mail:*", Grants: readGrants(t, "worker@default/mail*")},
		{Certificate: "spiffe://example.org/ns/billing/*", Grants: readGrants(t, "producer@billing")},
		{Certificate: "worker.example.org", Grants: readGrants(t, "worker@billing")},
	}
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	m := &access.Mapping{}
	m.Replace(rules)
	return m
}

func TestMapping(t *testing.T) {
	m := newMapping(t)
	jwt := func(issuer string, claims map[string][]string) access.Proof {
		return access.Proof{Kind: access.KindJWT, Issuer: issuer, Subject: "x", Claims: claims}
	}
	cert := func(name string) access.Proof {
		return access.Proof{Kind: access.KindCertificate, Subject: name}
	}

	for name, c := range map[string]struct {
		id   access.Proof
		want string
	}{
		"a whole text matches":                            {jwt(company, map[string][]string{"groups": {"a", "sre"}}), "admin@*"},
		"a start of a text matches with a final *":        {jwt(company, map[string][]string{"groups": {"team-mail"}}), "viewer@default viewer@billing"},
		"the start alone matches":                         {jwt(company, map[string][]string{"groups": {"team-"}}), "viewer@default viewer@billing"},
		"every rule that matches adds its grants":         {jwt(company, map[string][]string{"groups": {"team-mail", "sre"}}), "admin@* viewer@default viewer@billing"},
		"a grant occurs once":                             {jwt(company, map[string][]string{"groups": {"team-a", "team-b"}}), "viewer@default viewer@billing"},
		"a longer text does not match a whole one":        {jwt(company, map[string][]string{"groups": {"sre2", "xsre", "SRE"}}), ""},
		"a star of the caller is a letter":                {jwt(company, map[string][]string{"groups": {"*", "team*", "s*"}}), ""},
		"an empty text matches nothing":                   {jwt(company, map[string][]string{"groups": {""}, "": {"sre"}}), ""},
		"another claim does not match":                    {jwt(company, map[string][]string{"roles": {"sre"}}), ""},
		"another issuer does not match":                   {jwt(cluster, map[string][]string{"groups": {"sre"}}), ""},
		"a service account matches by its subject":        {jwt(cluster, map[string][]string{"sub": {"system:serviceaccount:mail:sender"}}), "worker@default/mail*"},
		"a service account of another namespace does not": {jwt(cluster, map[string][]string{"sub": {"system:serviceaccount:mail2:sender"}}), ""},
		"an address that the issuer has checked matches":  {jwt(company, map[string][]string{"email": {"boss@example.com"}, "email_verified": {"true"}}), "system@*"},
		"an address that it has not checked does not":     {jwt(company, map[string][]string{"email": {"boss@example.com"}, "email_verified": {"false"}}), ""},
		"an address without a word about it does not":     {jwt(company, map[string][]string{"email": {"boss@example.com"}}), ""},
		"a certificate matches by its start":              {cert("spiffe://example.org/ns/billing/web"), "producer@billing"},
		"a certificate matches by its whole name":         {cert("worker.example.org"), "worker@billing"},
		"a certificate with a longer name does not":       {cert("worker.example.org.evil.com"), ""},
		"a JWT with the name of a certificate does not":   {access.Proof{Kind: access.KindJWT, Subject: "worker.example.org"}, ""},
		"a certificate with the name of a subject does not": {access.Proof{
			Kind: access.KindCertificate, Issuer: cluster, Subject: "system:serviceaccount:mail:x",
			Claims: map[string][]string{"sub": {"system:serviceaccount:mail:x"}},
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, g := range m.GrantsOf(c.id) {
				got = append(got, g.String())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("grants %v, want %q", got, c.want)
			}
		})
	}
}

func TestMappingWithoutRules(t *testing.T) {
	var m access.Mapping
	p, err := m.Principal(access.Proof{Kind: access.KindCertificate, Subject: "a"})
	if err != nil || len(p.Grants()) != 0 || m.Confirm(p, time.Now()) != nil {
		t.Errorf("principal %+v, %v", p, err)
	}
}

func TestMappedPrincipal(t *testing.T) {
	m := newMapping(t)
	now := time.Now()
	p, err := m.Principal(access.Proof{
		Kind: access.KindJWT, Issuer: company, Subject: "u1", Name: "a@example.com", Expires: now.Add(time.Minute),
		Claims: map[string][]string{"groups": {"team-a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != "u1@"+company || p.Name != "a@example.com" || p.Kind != access.KindJWT || p.Issuer != company || p.Subject != "u1" {
		t.Errorf("principal %+v", p)
	}
	if !p.May(queue.ActionTaskRead, "billing", "") || p.May(queue.ActionTaskCreate, "billing", "") {
		t.Error("the principal must have the rights of its grants alone")
	}

	if err := m.Confirm(p, now.Add(59*time.Second)); err != nil {
		t.Errorf("before its end: %v", err)
	}
	if err := m.Confirm(p, now.Add(time.Minute)); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("at its end: %v", err)
	}
	m.Replace(nil)
	if err := m.Confirm(p, now); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("after other rules: %v", err)
	}

	for name, subject := range map[string]string{
		"empty": "", "long": strings.Repeat("x", access.MaxSubject+1), "control": "a\nb", "not UTF-8": "\xff",
	} {
		if _, err := m.Principal(access.Proof{Kind: access.KindJWT, Subject: subject}); !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("a subject that is %s: %v", name, err)
		}
	}
}

func TestRuleValidate(t *testing.T) {
	grants := readGrants(t, "viewer@default")
	for name, c := range map[string]struct {
		rule  access.Rule
		field string
	}{
		"nothing":                     {access.Rule{Grants: grants}, "issuer"},
		"a claim of no issuer":        {access.Rule{Claim: "sub", Is: "a", Grants: grants}, "issuer"},
		"an empty claim":              {access.Rule{Issuer: company, Is: "a", Grants: grants}, "claim"},
		"an empty text":               {access.Rule{Issuer: company, Claim: "sub", Grants: grants}, "is"},
		"a blank text":                {access.Rule{Issuer: company, Claim: "sub", Is: "  ", Grants: grants}, "is"},
		"a star in the middle":        {access.Rule{Issuer: company, Claim: "sub", Is: "a*b", Grants: grants}, "is"},
		"two stars":                   {access.Rule{Issuer: company, Claim: "sub", Is: "a**", Grants: grants}, "is"},
		"a star in the issuer":        {access.Rule{Issuer: "https://*", Claim: "sub", Is: "a", Grants: grants}, "issuer"},
		"a long text":                 {access.Rule{Certificate: strings.Repeat("a", access.MaxMatch+1), Grants: grants}, "cert"},
		"a control character":         {access.Rule{Certificate: "a\x00", Grants: grants}, "cert"},
		"a certificate and an issuer": {access.Rule{Certificate: "a", Issuer: company, Grants: grants}, "cert"},
		"no grants":                   {access.Rule{Certificate: "a"}, "grant"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.rule.Validate()
			e, ok := errors.AsType[*queue.Error](err)
			if !ok || e.Kind != queue.KindInvalid || e.Field != c.field || !strings.Contains(e.Msg, "; ") {
				t.Errorf("%v, want an error of %s with a remedy", err, c.field)
			}
		})
	}
}

func TestIssuerValidate(t *testing.T) {
	for name, c := range map[string]struct {
		issuer access.Issuer
		field  string // "" = valid
	}{
		"whole":                     {access.Issuer{URL: company, Audience: "pgqueue", Name: "email"}, ""},
		"with a path":               {access.Issuer{URL: company + "/realms/a", Audience: "pgqueue"}, ""},
		"on this machine":           {access.Issuer{URL: "http://localhost:8081", Audience: "pgqueue"}, ""},
		"on this machine, by IPv6":  {access.Issuer{URL: "http://[::1]:8081", Audience: "pgqueue"}, ""},
		"elsewhere without TLS":     {access.Issuer{URL: "http://id.example.com", Audience: "pgqueue"}, "issuer"},
		"no URL":                    {access.Issuer{Audience: "pgqueue"}, "issuer"},
		"another scheme":            {access.Issuer{URL: "file:///keys", Audience: "pgqueue"}, "issuer"},
		"a user":                    {access.Issuer{URL: "https://a:b@id.example.com", Audience: "pgqueue"}, "issuer"},
		"a query":                   {access.Issuer{URL: company + "?a=b", Audience: "pgqueue"}, "issuer"},
		"a star":                    {access.Issuer{URL: company + "/*", Audience: "pgqueue"}, "issuer"},
		"long":                      {access.Issuer{URL: company + "/" + strings.Repeat("a", access.MaxMatch), Audience: "pgqueue"}, "issuer"},
		"without an audience":       {access.Issuer{URL: company}, "audience"},
		"for every audience":        {access.Issuer{URL: company, Audience: "*"}, "audience"},
		"an audience with controls": {access.Issuer{URL: company, Audience: "a\n"}, "audience"},
		"a blank name":              {access.Issuer{URL: company, Audience: "pgqueue", Name: " "}, "name"},
		"with files":                {access.Issuer{URL: company, Audience: "pgqueue", CAFile: "/ca.crt", TokenFile: "/token"}, ""},
		"a blank file":              {access.Issuer{URL: company, Audience: "pgqueue", CAFile: " "}, "ca_file"},
		"a file with controls":      {access.Issuer{URL: company, Audience: "pgqueue", CAFile: "/ca.crt", TokenFile: "a\x00"}, "token_file"},
		"a token for any host":      {access.Issuer{URL: company, Audience: "pgqueue", TokenFile: "/token"}, "token_file"},
		"with keys elsewhere":       {access.Issuer{URL: company, Audience: "pgqueue", KeysURL: "https://keys.example.com/a"}, ""},
		"with keys without TLS":     {access.Issuer{URL: company, Audience: "pgqueue", KeysURL: "http://keys.example.com/a"}, "keys_url"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.issuer.Validate()
			if c.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*queue.Error](err)
			if !ok || e.Kind != queue.KindInvalid || e.Field != c.field || !strings.Contains(e.Msg, "; ") {
				t.Errorf("%v, want an error of %s with a remedy", err, c.field)
			}
		})
	}
}
