package run

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// auditedStore is a store in memory with an audit.
type auditedStore struct {
	*memory.Store
	*memory.Audit
}

// TestServerAudits: a server records the changes of operators, and requests with a credential that is not valid.
func TestServerAudits(t *testing.T) {
	store := &auditedStore{memory.New(), memory.NewAudit(nil)}
	slow := &slow{Store: store, entered: make(chan struct{}, 8), leave: make(chan struct{}), closed: make(chan struct{})}
	close(slow.leave)
	cfg := slow.config(io.Discard)
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	s := start(t, cfg)

	if status, body := do(t, http.MethodPost, s.URL()+"/api/queue", `{"queue":"mail"}`); status >= 300 {
		t.Fatal(status, body)
	}
	if status, body := do(t, http.MethodPost, s.URL()+"/api/task", `{"queue":"mail","payload":"MARKED"}`); status >= 300 {
		t.Fatal(status, body)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/api/queue", nil)
	if err != nil {
		t.Fatal(err)
	}
	unknown := access.NewSecret()
	r.Header.Set("Authorization", "Bearer "+unknown.Reveal())
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()

	admin, err := s.control.admin.CreateToken(access.With(t.Context(), access.Local()), access.TokenRequest{Name: "a", Grants: []string{"system@*"}})
	if err != nil {
		t.Fatal(err)
	}
	rest := dialAs(t, s, "rest", admin.Secret.Reveal()).(access.Admin)
	// A whole token in place of its id is refused, and must not reach the audit.
	if _, err := rest.RevokeToken(t.Context(), admin.Secret.Reveal()); queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("a token in place of an id: %v", err)
	}
	if _, err := rest.RevokeToken(t.Context(), admin.ID); err != nil {
		t.Error(err)
	}

	page, err := store.ListAudit(t.Context(), access.AuditFilter{})
	if err != nil || len(page.Entries) != 5 {
		t.Fatalf("got %+v, %v; want the create of the queue, the refusal and three changes of tokens", page, err)
	}
	if strings.Contains(fmt.Sprint(page.Entries), admin.Secret.Reveal()) {
		t.Error("the audit shows a token")
	}
	revoked, slip, created := page.Entries[0], page.Entries[1], page.Entries[2]
	if revoked.Operation != "revoke_token" || revoked.Token != admin.ID || revoked.PrincipalID != admin.ID || revoked.Outcome != access.AuditOK {
		t.Errorf("the revocation is %+v", revoked)
	}
	if slip.Token != "" || slip.Outcome != string(queue.KindInvalid) || created.Operation != "create_token" || created.Token != admin.ID {
		t.Errorf("the other changes are %+v and %+v", slip, created)
	}
	refusal, change := page.Entries[3], page.Entries[4]
	if refusal.PrincipalID != unknown.ID() || refusal.Outcome != string(queue.KindUnauthenticated) || refusal.Remote == "" {
		t.Errorf("the refusal is %+v", refusal)
	}
	if change.Operation != "create_queue" || change.Queue != "mail" || change.PrincipalKind != access.KindLocal || change.Via != access.ViaREST {
		t.Errorf("the change is %+v", change)
	}
}
