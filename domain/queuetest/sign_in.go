package queuetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// signIn is a server's part of the sign-in over a store.
type signIn struct {
	SessionStore

	auth  *access.Authenticator
	keep  *access.SessionKeeper
	rules *access.Mapping
	audit *entries
}

// entries keeps the audit of one goroutine.
type entries struct {
	access.AuditLog
	all []access.AuditEntry
}

func (e *entries) RecordAudit(_ context.Context, entry access.AuditEntry) error {
	e.all = append(e.all, entry)
	return nil
}

// TestSignIn holds the sign-in over the stores that open returns to the contract of [access.Sessions].
func TestSignIn(t *testing.T, open func(t *testing.T) SessionStore) {
	for name, test := range map[string]func(*testing.T, *signIn){
		"a code opens one session with the rights of its caller":                 testSignInByCode,
		"a token opens a session, and its revocation ends it":                    testSignInByToken,
		"a session of a token of a file ends when the file loses it or a right":  testSignInByStaticToken,
		"a sign-out ends the session, here and at another server":                testSignOut,
		"an administrator lists and ends sessions, and nothing else may":         testSessionAdmin,
		"a proved principal opens a session if it has a right":                   testSignInByProof,
		"a session ends with a rule or an authority that gave its rights":        testSessionBasis,
		"neither an open server nor a session makes codes or sessions":           testSignInRefused,
		"a code, a token and a session do not pass as one another":               testSecretsAreApart,
		"a request is a use of a session, and the look of an open stream is not": testSessionUse,
		"each sign-in and sign-out is in the audit, and no secret":               testSignInAudit,
	} {
		t.Run(name, func(t *testing.T) { test(t, newSignIn(open(t))) })
	}
	t.Run("authenticator", func(t *testing.T) {
		TestAuthenticator(t, func(t *testing.T) Authenticator { return sessionAuthenticatorOf(open(t)) })
	})
}

// newSignIn returns the sign-in of one more server over the store.
func newSignIn(store SessionStore) *signIn {
	s := &signIn{SessionStore: store, auth: access.NewAuthenticator(store.Tokens), rules: &access.Mapping{}, audit: &entries{}}
	s.auth.AcceptSessions(store.SessionStore, s.rules)
	s.keep = access.NewSessionKeeper(access.SessionSettings{
		Store: store.SessionStore, Authenticate: s.auth.Authenticate, Ended: s.auth.ForgetSession,
		Audit: access.NewAuditRecorder(access.AuditSettings{Log: s.audit}),
	})
	return s
}

// issue stores a token, and returns it with its secret.
func (s *signIn) issue(t *testing.T, grants ...string) access.IssuedToken {
	t.Helper()
	issued, err := access.NewAdmin(s.Tokens, access.AdminOptions{Changed: s.auth.Forget}).
		CreateToken(access.With(t.Context(), access.Owner()), access.TokenRequest{Name: "ann", Grants: grants})
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// as returns a context of a call with a token.
func (s *signIn) as(t *testing.T, token access.Secret) context.Context {
	t.Helper()
	p, err := s.auth.Authenticate(t.Context(), token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return access.With(t.Context(), p)
}

// openBy opens a session by a token.
func (s *signIn) openBy(t *testing.T, token access.Secret) access.OpenedSession {
	t.Helper()
	opened, err := s.keep.OpenSession(t.Context(), access.SignIn{Token: token.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// proves reports whether the secret of a session is accepted now, without a cached answer.
func (s *signIn) proves(t *testing.T, opened access.OpenedSession) bool {
	t.Helper()
	s.auth.Forget()
	p, err := s.auth.AuthenticateSession(t.Context(), opened.Secret.Reveal())
	if err != nil && queue.KindOf(err) != queue.KindUnauthenticated {
		t.Fatal(err)
	}
	confirmed := s.auth.Confirm(t.Context(), access.NewPrincipal(opened.ID, "", access.KindSession, nil))
	if (confirmed == nil) != (err == nil) {
		t.Errorf("a request gets %v, an open stream %v", err, confirmed)
	}
	return err == nil && p.ID == opened.ID && p.Kind == access.KindSession
}

func testSignInByCode(t *testing.T, s *signIn) {
	token := s.issue(t, "viewer@billing")
	code, err := s.keep.CreateCode(s.as(t, token.Secret))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := s.keep.OpenSession(t.Context(), access.SignIn{Code: code.Secret.Reveal()})
	if err != nil || !s.proves(t, opened) || opened.PrincipalID != token.ID {
		t.Fatalf("opened %+v, %v", opened, err)
	}
	p, err := s.auth.AuthenticateSession(t.Context(), opened.Secret.Reveal())
	if err != nil || !p.May(queue.ActionTaskRead, "billing", "") || p.May(queue.ActionTaskOperate, "billing", "") || p.Name != "ann" {
		t.Errorf("the session is %+v, %v", p, err)
	}
	if _, err := s.keep.OpenSession(t.Context(), access.SignIn{Code: code.Secret.Reveal()}); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("a second use of the code gives %v", err)
	}
}

func testSignInByToken(t *testing.T, s *signIn) {
	token := s.issue(t, "viewer@billing")
	opened := s.openBy(t, token.Secret)
	if !s.proves(t, opened) {
		t.Error("the session does not pass")
	}
	if _, err := s.RevokeToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	if s.proves(t, opened) {
		t.Error("the session of a revoked token passes")
	}
	if _, err := s.keep.OpenSession(t.Context(), access.SignIn{Token: token.Secret.Reveal()}); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("a revoked token opens a session: %v", err)
	}
}

func testSignInByStaticToken(t *testing.T, s *signIn) {
	static := access.StaticToken{Secret: access.NewSecret(), Grants: []access.Grant{{Role: access.RoleAdmin, Namespace: "*"}}}
	s.auth.AcceptStatic(static)
	opened := s.openBy(t, static.Secret)
	if !s.proves(t, opened) {
		t.Error("the session does not pass")
	}

	static.Grants = []access.Grant{{Role: access.RoleViewer, Namespace: "*"}}
	s.auth.AcceptStatic(static)
	if s.proves(t, opened) {
		t.Error("the session has more rights than its token has now")
	}
	static.Grants = []access.Grant{{Role: access.RoleSystem, Namespace: "*"}}
	s.auth.AcceptStatic(static)
	if !s.proves(t, opened) {
		t.Error("the session of a token with more rights does not pass")
	}
	replaced, err := access.ParseStaticSecret(static.Secret.Reveal()[:13] + access.NewSecret().Reveal()[13:])
	if err != nil || replaced.ID() != static.Secret.ID() {
		t.Fatal(replaced, err)
	}
	s.auth.AcceptStatic(access.StaticToken{Secret: replaced, Grants: static.Grants})
	if s.proves(t, opened) {
		t.Error("the session of a token with another secret under its id passes")
	}
	s.auth.AcceptStatic(static)
	if !s.proves(t, opened) {
		t.Error("the session of the token that is back does not pass")
	}
	s.auth.AcceptStatic()
	if s.proves(t, opened) {
		t.Error("the session of a removed token passes")
	}
}

func testSignOut(t *testing.T, s *signIn) {
	token := s.issue(t, "viewer@billing")
	opened, other := s.openBy(t, token.Secret), s.openBy(t, token.Secret)
	if opened.ID == other.ID {
		t.Error("two sign-ins share a session")
	}
	p, err := s.auth.AuthenticateSession(t.Context(), opened.Secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keep.SignOut(access.With(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.auth.AuthenticateSession(t.Context(), opened.Secret.Reveal()); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("after the sign-out the session gets %v", err)
	}
	second := newSignIn(s.SessionStore)
	if second.proves(t, opened) || !second.proves(t, other) {
		t.Error("another server does not see the sign-out, or sees one too many")
	}
	if err := s.keep.SignOut(s.as(t, token.Secret)); queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("the sign-out of a token gives %v", err)
	}
}

func testSessionAdmin(t *testing.T, s *signIn) {
	admin, viewer := s.issue(t, "system@*"), s.issue(t, "admin@*")
	opened := s.openBy(t, viewer.Secret)
	for _, token := range []access.Secret{viewer.Secret, {}} {
		ctx := t.Context()
		want := queue.KindUnauthenticated
		if token != (access.Secret{}) {
			ctx, want = s.as(t, token), queue.KindDenied
		}
		if _, err := s.keep.ListSessions(ctx); queue.KindOf(err) != want {
			t.Errorf("a list gives %v, want %s", err, want)
		}
		if _, err := s.keep.EndSession(ctx, opened.ID); queue.KindOf(err) != want {
			t.Errorf("an end gives %v, want %s", err, want)
		}
	}

	ctx := s.as(t, admin.Secret)
	if list, err := s.keep.ListSessions(ctx); err != nil || len(list) != 1 || list[0].ID != opened.ID {
		t.Errorf("listed %+v, %v", list, err)
	}
	for id, want := range map[string]queue.Kind{"": queue.KindInvalid, opened.Secret.Reveal(): queue.KindInvalid, "unknown1": queue.KindNotFound} {
		if _, err := s.keep.EndSession(ctx, id); queue.KindOf(err) != want || id != "" && strings.Contains(err.Error(), opened.Secret.Reveal()) {
			t.Errorf("the end of %q gives %v, want %s", id, err, want)
		}
	}
	if ended, err := s.keep.EndSession(ctx, opened.ID); err != nil || ended.Live() || s.proves(t, opened) {
		t.Errorf("ended %+v, %v", ended, err)
	}
}

func testSignInByProof(t *testing.T, s *signIn) {
	s.rules.Replace([]access.Rule{ruleOfGroup("sre", access.RoleOperator)})
	prove := func(group string) *access.Principal {
		p, err := s.rules.Principal(access.Proof{
			Kind: access.KindJWT, Issuer: "https://id.example", Subject: "ann", Name: "Ann", Claims: map[string][]string{"groups": {group}},
			Expires: time.Now().Add(time.Minute),
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}

	opened, err := s.keep.OpenFor(t.Context(), prove("sre"))
	if err != nil || opened.Subject != "ann" || opened.ExpiresAt.Sub(opened.CreatedAt) != access.DefaultSessionLife || !s.proves(t, opened) {
		t.Errorf("opened %+v, %v; the life of the proof must not bound that of the session", opened, err)
	}
	if _, err := s.keep.OpenFor(t.Context(), prove("other")); queue.KindOf(err) != queue.KindDenied {
		t.Errorf("a principal without a right gets %v", err)
	}

	// A code of a caller with such a credential bounds its session by it.
	code, err := s.keep.CreateCode(access.With(t.Context(), prove("sre")))
	if err != nil {
		t.Fatal(err)
	}
	bounded, err := s.keep.OpenSession(t.Context(), access.SignIn{Code: code.Secret.Reveal()})
	if err != nil || bounded.ExpiresAt.Sub(bounded.CreatedAt) > time.Minute {
		t.Errorf("opened %+v, %v; want at most the life of the credential", bounded, err)
	}
}

// ruleOfGroup returns the rule that gives a group of an issuer a role.
func ruleOfGroup(group string, role access.Role) access.Rule {
	return access.Rule{Issuer: "https://id.example", Claim: "groups", Is: group, Grants: []access.Grant{{Role: role, Namespace: "billing"}}}
}

// issuerOfSessions returns the digest of an issuer.
func issuerOfSessions(audience, certificates string) string {
	return access.Issuer{URL: "https://id.example", Audience: audience, CAFile: "ca.crt"}.Digest(certificates)
}

func testSessionBasis(t *testing.T, s *signIn) {
	const authority = "authority of clients"
	issuer := issuerOfSessions("pgqueue", "")
	certificates := access.Rule{Certificate: "billing.example", Grants: []access.Grant{{Role: access.RoleProducer, Namespace: "billing"}}}
	groups := []access.Rule{ruleOfGroup("dev", access.RoleViewer), ruleOfGroup("sre", access.RoleOperator), certificates}
	s.rules.Replace(groups, authority, issuer)
	proofs := map[string]access.Proof{
		"a JWT": {
			Kind: access.KindJWT, Issuer: "https://id.example", Subject: "ann", Authority: issuer, Claims: map[string][]string{"groups": {"dev", "sre"}},
		},
		"a certificate": {
			Kind: access.KindCertificate, Subject: "billing.example", Authority: authority, Expires: time.Now().Add(time.Hour),
		},
	}

	// By a sign-in that proves the principal, and by a code.
	opened := map[string][]access.OpenedSession{}
	for name, proof := range proofs {
		p, err := s.rules.Principal(proof)
		if err != nil {
			t.Fatal(err)
		}
		proved, err := s.keep.OpenFor(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		code, err := s.keep.CreateCode(access.With(t.Context(), p))
		if err != nil {
			t.Fatal(err)
		}
		redeemed, err := s.keep.OpenSession(t.Context(), access.SignIn{Code: code.Secret.Reveal()})
		if err != nil {
			t.Fatal(err)
		}
		opened[name] = []access.OpenedSession{proved, redeemed}
	}

	more := slices.Concat(groups, []access.Rule{ruleOfGroup("ops", access.RoleAdmin)})
	for _, c := range []struct {
		change            string
		rules             []access.Rule
		authorities       []string
		jwt, certificates bool
	}{
		{"another rule and another authority", more, []string{authority, "another", issuer}, true, true},
		{"the other order of the rules", []access.Rule{groups[2], groups[1], groups[0]}, []string{issuer, authority}, true, true},
		{"one rule of two is gone", groups[1:], []string{authority, issuer}, false, true},
		{"a rule gives less", []access.Rule{groups[0], ruleOfGroup("sre", access.RoleObserver), certificates}, []string{authority, issuer}, false, true},
		{"a rule gives its grants to others", []access.Rule{groups[0], ruleOfGroup("root", access.RoleOperator), certificates}, []string{authority, issuer}, false, true},
		{"the authority is gone", groups, []string{"another", issuer}, true, false},
		{"the issuer has another audience", groups, []string{authority, issuerOfSessions("other", "")}, false, true},
		{"the certificates of the issuer are others", groups, []string{authority, issuerOfSessions("pgqueue", "other")}, false, true},
		{"the issuer is gone", groups, []string{authority}, false, true},
		{"no rule", nil, []string{authority, issuer}, false, false},
	} {
		s.rules.Replace(c.rules, c.authorities...)
		for name, want := range map[string]bool{"a JWT": c.jwt, "a certificate": c.certificates} {
			for _, one := range opened[name] {
				if got := s.proves(t, one); got != want {
					t.Errorf("%s: the session of %s passes %v, want %v", c.change, name, got, want)
				}
			}
		}
	}
}

func testSignInRefused(t *testing.T, s *signIn) {
	opened := s.openBy(t, s.issue(t, "system@*").Secret)
	session, err := s.auth.AuthenticateSession(t.Context(), opened.Secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		principal *access.Principal
		want      queue.Kind
	}{
		"no principal":                 {nil, queue.KindUnauthenticated},
		"the caller of an open server": {access.Local(), queue.KindConflict},
		"a session":                    {session, queue.KindDenied},
	} {
		if _, err := s.keep.CreateCode(access.With(t.Context(), c.principal)); queue.KindOf(err) != c.want {
			t.Errorf("a code of %s gives %v, want %s", name, err, c.want)
		}
	}

	for name, c := range map[string]struct {
		sign access.SignIn
		want queue.Kind
	}{
		"nothing":          {access.SignIn{}, queue.KindInvalid},
		"both":             {access.SignIn{Code: "x", Token: "y"}, queue.KindInvalid},
		"an unknown code":  {access.SignIn{Code: "pgc_x"}, queue.KindUnauthenticated},
		"an unknown token": {access.SignIn{Token: access.NewSecret().Reveal()}, queue.KindUnauthenticated},
		"a long text":      {access.SignIn{Token: strings.Repeat("x", 1<<20)}, queue.KindUnauthenticated},
	} {
		if _, err := s.keep.OpenSession(t.Context(), c.sign); queue.KindOf(err) != c.want {
			t.Errorf("a sign-in by %s gives %v, want %s", name, err, c.want)
		}
	}
}

func testSecretsAreApart(t *testing.T, s *signIn) {
	token := s.issue(t, "system@*")
	opened := s.openBy(t, token.Secret)
	code, err := s.keep.CreateCode(s.as(t, token.Secret))
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]access.Secret{"token": token.Secret, "code": code.Secret} {
		if _, err := s.auth.AuthenticateSession(t.Context(), secret.Reveal()); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("a %s as a session gives %v", name, err)
		}
	}
	for name, secret := range map[string]access.Secret{"session": opened.Secret, "code": code.Secret} {
		if _, err := s.auth.Authenticate(t.Context(), secret.Reveal()); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("a %s as a token gives %v", name, err)
		}
		if _, err := s.keep.OpenSession(t.Context(), access.SignIn{Token: secret.Reveal()}); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("a sign-in by a %s as a token gives %v", name, err)
		}
	}
	for name, secret := range map[string]access.Secret{"session": opened.Secret, "token": token.Secret} {
		if _, err := s.keep.OpenSession(t.Context(), access.SignIn{Code: secret.Reveal()}); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("a sign-in by a %s as a code gives %v", name, err)
		}
	}
}

func testSessionUse(t *testing.T, s *signIn) {
	opened := s.openBy(t, s.issue(t, "viewer@billing").Secret)
	usedAt := func() time.Time {
		t.Helper()
		got, err := s.GetSession(t.Context(), opened.ID)
		if err != nil {
			t.Fatal(err)
		}
		return got.UsedAt
	}
	if !s.proves(t, opened) {
		t.Error("the session does not pass")
	}

	s.Advance(30 * time.Minute)
	before := usedAt()
	s.auth.Forget()
	if err := s.auth.Confirm(t.Context(), access.NewPrincipal(opened.ID, "", access.KindSession, nil)); err != nil {
		t.Error(err)
	}
	if !usedAt().Equal(before) {
		t.Error("the look of an open stream is a use")
	}
	// One server records a use once in a minute of its own clock.
	if other := newSignIn(s.SessionStore); !other.proves(t, opened) || !usedAt().After(before) {
		t.Error("a request does not count as a use")
	}
}

func testSignInAudit(t *testing.T, s *signIn) {
	token := s.issue(t, "system@*")
	ctx := s.as(t, token.Secret)
	code, err := s.keep.CreateCode(ctx)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := s.keep.OpenSession(t.Context(), access.SignIn{Code: code.Secret.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.keep.OpenSession(t.Context(), access.SignIn{Code: code.Secret.Reveal()}); err == nil {
		t.Error("a used code opens a session")
	}
	p, err := s.auth.AuthenticateSession(t.Context(), opened.Secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keep.SignOut(access.With(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.keep.EndSession(ctx, opened.Secret.Reveal()); err == nil {
		t.Error("a secret in place of an id is accepted")
	}

	var got []string
	for _, e := range s.audit.all {
		got = append(got, strings.Join([]string{e.Operation, e.PrincipalID, e.Token, e.Outcome}, " "))
	}
	want := []string{
		"create_code " + token.ID + " " + code.Secret.ID() + " ok",
		"open_session " + token.ID + " " + opened.ID + " ok",
		"open_session " + code.Secret.ID() + "  unauthenticated",
		"sign_out " + opened.ID + " " + opened.ID + " ok",
		"end_session " + token.ID + "  invalid",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the audit has\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, secret := range []access.Secret{token.Secret, code.Secret, opened.Secret} {
		if strings.Contains(fmt.Sprintf("%+v", s.audit.all), secret.Reveal()) {
			t.Errorf("the audit shows %v", secret)
		}
	}
}
