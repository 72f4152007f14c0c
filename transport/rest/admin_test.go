package rest_test

import (
	"net/http"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// TestAdmin holds the operations on tokens and rights to their contract over REST.
func TestAdmin(t *testing.T) {
	queuetest.TestAdmin(t, func(t *testing.T, p *access.Principal) queuetest.AdminStack {
		t.Helper()
		tokens, audit := memory.NewTokens(nil), memory.NewAudit(nil)
		s := newStack(t, func(cfg *restserver.Config) {
			cfg.Admin = access.NewAdmin(tokens, access.AdminOptions{Audit: access.NewAuditRecorder(access.AuditSettings{Log: audit})})
			cfg.Middleware = func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					next.ServeHTTP(w, r.WithContext(access.With(r.Context(), p)))
				})
			}
		})
		return queuetest.AdminStack{Admin: s.client, Tokens: tokens, Audit: audit}
	})
}
