package access_test

import (
	"context"
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// noTokens is a store without tokens.
type noTokens struct{ access.Tokens }

func (noTokens) FindToken(context.Context, [32]byte) (access.Token, error) {
	return access.Token{}, access.NoToken("")
}

func (noTokens) GetToken(_ context.Context, id string) (access.Token, error) {
	return access.Token{}, access.NoToken(id)
}

// TestStaticTokens holds the tokens of a file to the suite of authenticators.
func TestStaticTokens(t *testing.T) {
	queuetest.TestAuthenticator(t, func(*testing.T) queuetest.Authenticator {
		a := access.NewAuthenticator(noTokens{})
		var file []access.StaticToken
		return queuetest.Authenticator{
			Kind: access.KindToken, Authenticate: a.Authenticate, Confirm: a.Confirm,
			Issue: func(_ *testing.T, grants ...access.Grant) string {
				file = append(file, access.StaticToken{Secret: access.NewSecret(), Grants: grants})
				a.AcceptStatic(file...)
				return file[len(file)-1].Secret.Reveal()
			},
			End: func(_ *testing.T, credential string) {
				file = slices.DeleteFunc(file, func(t access.StaticToken) bool { return t.Secret.Reveal() == credential })
				a.AcceptStatic(file...)
			},
		}
	})
}

// TestMappedProofs holds the rules of an access file to the suite of authenticators, for JWTs that a verifier has proved.
func TestMappedProofs(t *testing.T) {
	queuetest.TestAuthenticator(t, func(*testing.T) queuetest.Authenticator {
		v := provedTexts{}
		var rules access.Mapping
		var present []access.Rule
		a := access.NewJWTAuthenticator(v, &rules)
		return queuetest.Authenticator{
			Kind: access.KindJWT, Authenticate: a.Authenticate,
			Confirm: func(_ context.Context, p *access.Principal) error { return a.Confirm(p) },
			Issue: func(_ *testing.T, grants ...access.Grant) string {
				text := access.NewSecret().Reveal() + ".claims.signature"
				subject := access.NewSecret().ID()
				v[text] = access.Proof{Kind: access.KindJWT, Issuer: "https://id.example", Subject: subject, Claims: map[string][]string{"sub": {subject}}}
				present = append(present, access.Rule{Issuer: "https://id.example", Claim: "sub", Is: subject, Grants: grants})
				rules.Replace(present)
				return text
			},
			End: func(_ *testing.T, credential string) {
				delete(v, credential)
				rules.Replace(present) // so that the verifier is asked again
			},
		}
	})
}

// provedTexts proves the texts that it has.
type provedTexts map[string]access.Proof

func (v provedTexts) Verify(_ context.Context, text string) (access.Proof, error) {
	proof, ok := v[text]
	if !ok {
		return access.Proof{}, &queue.Error{Kind: queue.KindUnauthenticated, Msg: "must be a valid JWT, got another; ask for a new one"}
	}
	return proof, nil
}
