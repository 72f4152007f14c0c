package queuetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Authenticator is an authenticator under test, with a source of its credentials. A credential is a text, or the name under which
// the test keeps one of another form, as a certificate.
type Authenticator struct {
	// Kind is the kind of its principals.
	Kind access.Kind
	// Authenticate returns the principal of a credential, and Confirm an error once that credential is no longer valid.
	Authenticate func(ctx context.Context, credential string) (*access.Principal, error)
	Confirm      func(ctx context.Context, p *access.Principal) error
	// Issue makes a credential with grants; each has another owner.
	Issue func(t *testing.T, grants ...access.Grant) string
	// End ends a credential, and perhaps others. It takes effect at once, so it empties caches too.
	End func(t *testing.T, credential string)
}

// TestAuthenticator holds the authenticators that open returns to what servers expect of each kind of credential.
func TestAuthenticator(t *testing.T, open func(t *testing.T) Authenticator) {
	for name, test := range map[string]func(*testing.T, Authenticator){
		"a credential proves a principal with its grants and no others":      testAuthenticate,
		"another text is refused, and the refusal does not repeat it":        testAuthenticateWrong,
		"an ended credential proves nothing, and is no longer confirmed":     testAuthenticateEnded,
		"calls at once get the same principal":                               testAuthenticateAtOnce,
		"an ended context answers KindCanceled, and the next call passes":    testAuthenticateCanceled,
		"a change of the grants by a caller changes no right of a principal": testAuthenticateAliasing,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var (
	billingViewer = access.Grant{Role: access.RoleViewer, Namespace: "billing"}
	mailWorker    = access.Grant{Role: access.RoleWorker, Namespace: "default", Queue: "mail*"}
)

// prove returns the principal of a credential that must pass.
func (a Authenticator) prove(t *testing.T, credential string) *access.Principal {
	t.Helper()
	p, err := a.Authenticate(t.Context(), credential)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Confirm(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func testAuthenticate(t *testing.T, a Authenticator) {
	one, other := a.Issue(t, billingViewer), a.Issue(t, mailWorker, billingViewer)
	p, q := a.prove(t, one), a.prove(t, other)
	if p.Kind != a.Kind || p.ID == "" || p.ID == q.ID || p.ID != a.prove(t, one).ID {
		t.Errorf("the principals are %s %q and %s %q, want %s with an id of their own", p.Kind, p.ID, q.Kind, q.ID, a.Kind)
	}
	for _, c := range []struct {
		p    *access.Principal
		want []access.Grant
	}{{p, []access.Grant{billingViewer}}, {q, []access.Grant{mailWorker, billingViewer}}} {
		if got := c.p.Grants(); len(got) != len(c.want) || slices.ContainsFunc(c.want, func(g access.Grant) bool { return !slices.Contains(got, g) }) {
			t.Errorf("%s has the grants %v, want %v", c.p.ID, got, c.want)
		}
	}
	if !q.May(queue.ActionTaskWork, "default", "mail-high") || p.May(queue.ActionTaskWork, "default", "mail-high") || q.May(queue.ActionTaskOperate, "billing", "") {
		t.Error("the rights are not those of the grants")
	}
	if text := fmt.Sprintf("%q %q %q %q", p.ID, p.Name, p.Issuer, p.Subject); strings.Contains(text, one) {
		t.Errorf("the principal shows its credential: %s", text)
	}
}

func testAuthenticateWrong(t *testing.T, a Authenticator) {
	good := a.Issue(t, billingViewer)
	a.prove(t, good)
	for _, wrong := range []string{
		"", "x", "pgq_", "a.b.c", good[:len(good)-1], good + "x", good[1:], strings.ToUpper(good), strings.ToLower(good) + "\x00", " " + good,
		strings.Repeat("x", 1<<20), access.NewSecret().Reveal(),
	} {
		p, err := a.Authenticate(t.Context(), wrong)
		if queue.KindOf(err) != queue.KindUnauthenticated || p != nil {
			t.Errorf("%.64q gets %v, %v; want a refusal", wrong, p, err)
		}
		if err != nil && len(wrong) > 5 && strings.Contains(err.Error(), strings.TrimSpace(wrong)) {
			t.Errorf("the refusal repeats its credential: %.200v", err)
		}
	}
	a.prove(t, good)
}

func testAuthenticateEnded(t *testing.T, a Authenticator) {
	credential := a.Issue(t, billingViewer)
	p := a.prove(t, credential)
	a.End(t, credential)
	if got, err := a.Authenticate(t.Context(), credential); queue.KindOf(err) != queue.KindUnauthenticated || got != nil {
		t.Errorf("an ended credential gets %v, %v", got, err)
	}
	if err := a.Confirm(t.Context(), p); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("the principal of an ended credential: %v", err)
	}
}

func testAuthenticateAtOnce(t *testing.T, a Authenticator) {
	credential := a.Issue(t, billingViewer)
	var ids sync.Map
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			p, err := a.Authenticate(t.Context(), credential)
			if err != nil {
				t.Error(err)
				return
			}
			ids.Store(p.ID, true)
		})
		all.Go(func() { _, _ = a.Authenticate(t.Context(), access.NewSecret().Reveal()) })
	}
	all.Wait()
	n := 0
	for range ids.Range {
		n++
	}
	if n != 1 {
		t.Errorf("one credential has %d principals", n)
	}
}

func testAuthenticateCanceled(t *testing.T, a Authenticator) {
	credential := a.Issue(t, billingViewer)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	// One that asks nothing may answer.
	if _, err := a.Authenticate(ended, credential); err != nil && queue.KindOf(err) != queue.KindCanceled {
		t.Errorf("a call that has ended gets %v", err)
	}
	a.prove(t, credential)
}

func testAuthenticateAliasing(t *testing.T, a Authenticator) {
	credential := a.Issue(t, billingViewer)
	p := a.prove(t, credential)
	p.Grants()[0].Role = access.RoleAdmin
	if again := a.prove(t, credential); again.Grants()[0].Role != access.RoleViewer || again.May(queue.ActionQueueManage, "billing", "") {
		t.Errorf("the grants are %v", again.Grants())
	}
}

// authenticatorOf returns the authenticator of the tokens of a store.
func authenticatorOf(s TokenStore) Authenticator {
	in := newSignIn(SessionStore{Tokens: s.Tokens})
	return Authenticator{
		Kind: access.KindToken, Authenticate: in.auth.Authenticate, Confirm: in.auth.Confirm,
		Issue: func(t *testing.T, grants ...access.Grant) string {
			t.Helper()
			return in.issue(t, access.FormatGrants(grants)...).Secret.Reveal()
		},
		End: func(t *testing.T, credential string) {
			t.Helper()
			secret, err := access.ParseSecret(credential)
			if err == nil {
				_, err = s.RevokeToken(t.Context(), secret.ID())
			}
			if err != nil {
				t.Fatal(err)
			}
			in.auth.Forget()
		},
	}
}

// sessionAuthenticatorOf returns the authenticator of the sessions of a store.
func sessionAuthenticatorOf(s SessionStore) Authenticator {
	in := newSignIn(s)
	return Authenticator{
		Kind: access.KindSession, Authenticate: in.auth.AuthenticateSession, Confirm: in.auth.Confirm,
		Issue: func(t *testing.T, grants ...access.Grant) string {
			t.Helper()
			return in.openBy(t, in.issue(t, access.FormatGrants(grants)...).Secret).Secret.Reveal()
		},
		End: func(t *testing.T, credential string) {
			t.Helper()
			p, err := in.auth.AuthenticateSession(t.Context(), credential)
			if err == nil {
				err = in.keep.SignOut(access.With(t.Context(), p))
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}
}
