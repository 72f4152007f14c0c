package run

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
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
	if want := (access.AuditChange{Field: "grants", New: "system@*"}); !slices.Contains(created.Changes, want) {
		t.Errorf("the new token has the changes %+v, want %+v among them", created.Changes, want)
	}
	refusal, change := page.Entries[3], page.Entries[4]
	if refusal.PrincipalID != unknown.ID() || refusal.Outcome != string(queue.KindUnauthenticated) || refusal.Remote == "" {
		t.Errorf("the refusal is %+v", refusal)
	}
	if change.Operation != "create_queue" || change.Queue != "mail" || change.PrincipalKind != access.KindLocal || change.Via != access.ViaREST {
		t.Errorf("the change is %+v", change)
	}
}

// auditedConfig returns the settings of a server over a new store in memory with an audit, with access closed to all but admin.
func auditedConfig(log io.Writer, admin access.Secret) (Config, *auditedStore) {
	store := &auditedStore{memory.New(), memory.NewAudit(nil)}
	slow := &slow{Store: store, entered: make(chan struct{}, 8), leave: make(chan struct{}), closed: make(chan struct{})}
	close(slow.leave)
	cfg := slow.config(log)
	cfg.AdminToken = admin.Reveal()
	return cfg, store
}

// newestEntry returns the newest entry of the audit of store.
func newestEntry(t *testing.T, store *auditedStore) access.AuditEntry {
	t.Helper()
	page, err := store.ListAudit(t.Context(), access.AuditFilter{Limit: 1})
	if err != nil || len(page.Entries) == 0 {
		t.Fatal(page, err)
	}
	return page.Entries[0]
}

// answers keeps the header of the last answer.
type answers struct {
	http.RoundTripper

	header http.Header
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(r)
	if err == nil {
		a.header = resp.Header
	}
	return resp, err
}

// TestRequestIDIsOneEverywhere: the answer, the audit and the log of a call have the same id over each way in, whether the call
// succeeds, fails or is refused.
func TestRequestIDIsOneEverywhere(t *testing.T) {
	log, secret := &lines{}, access.NewSecret()
	cfg, store := auditedConfig(log, secret)
	s := start(t, cfg)
	plain := &http.Transport{Protocols: new(http.Protocols)}
	plain.Protocols.SetUnencryptedHTTP2(true)
	defer plain.CloseIdleConnections()
	seen := &answers{RoundTripper: plain}
	h := &http.Client{Transport: seen}

	for _, way := range []struct {
		via  access.Via
		line string
		dial func(token, id string) (queue.Service, error)
	}{
		{access.ViaREST, "request", func(token, id string) (queue.Service, error) {
			return restclient.New(s.URL()+"/api", restclient.WithHTTPClient(h), restclient.WithToken(func() string { return token }), restclient.WithHeader("X-Request-Id", id))
		}},
		{access.ViaConnect, "call", dialer(s, h, connectclient.Connect)},
		{access.ViaGRPC, "call", dialer(s, h, connectclient.GRPC)},
		{access.ViaGRPCWeb, "call", dialer(s, h, connectclient.GRPCWeb)},
	} {
		for name, call := range map[string]struct {
			token, id string
			line      string
			want      queue.Kind
		}{
			"chosen by the client": {secret.Reveal(), "mine-" + string(way.via), way.line, queue.KindNotFound},
			"made by the server":   {secret.Reveal(), "", way.line, queue.KindNotFound},
			"of a refused token":   {access.NewSecret().Reveal(), "", "refused", queue.KindUnauthenticated},
		} {
			client, err := way.dial(call.token, call.id)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.DeleteQueue(t.Context(), "nothing")
			if queue.KindOf(err) != call.want {
				t.Fatalf("%s over %s: %v, want %s", name, way.via, err, call.want)
			}
			id, e := seen.header.Get("X-Request-Id"), newestEntry(t, store)
			if id == "" || call.id != "" && id != call.id || e.RequestID != id || e.Via != way.via || e.Outcome != string(call.want) {
				t.Errorf("%s over %s: the answer has the id %q, the audit %+v", name, way.via, id, e)
				continue
			}
			logged := func(r map[string]any) bool { return r["request_id"] == id }
			for !slices.ContainsFunc(log.all(t, call.line), logged) { // the line follows the answer
				time.Sleep(time.Millisecond)
			}
			if !slices.ContainsFunc(log.all(t, "audit entry"), logged) {
				t.Errorf("%s over %s: the line of the audit must have the id %q", name, way.via, id)
			}
		}
	}

	// A problem has the id in its body too, also that of a check in front of all routes.
	r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
	r.Host = "evil.example"
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	if id := w.Header().Get("X-Request-Id"); w.Code != http.StatusMisdirectedRequest || id == "" || !strings.Contains(w.Body.String(), `"request_id":"`+id+`"`) {
		t.Errorf("the answer of a check is %d with the id %q: %s", w.Code, id, w.Body)
	}
}

// dialer returns a function that connects to s by a protocol.
func dialer(s *Server, h *http.Client, p connectclient.Protocol) func(token, id string) (queue.Service, error) {
	return func(token, id string) (queue.Service, error) {
		return connectclient.New(s.URL(), connectclient.WithHTTPClient(h), connectclient.WithProtocol(p),
			connectclient.WithToken(func() string { return token }), connectclient.WithHeader("X-Request-Id", id))
	}
}

// TestRefusedRequestsOutsideOfServicesAreAudited: the metrics, the verbose readiness and the settling of ticks.
func TestRefusedRequestsOutsideOfServicesAreAudited(t *testing.T) {
	admin := access.NewSecret()
	cfg, store := auditedConfig(io.Discard, admin)
	s := start(t, cfg)
	viewer := issueThrough(t, s, admin.Reveal())
	get := func(method, path string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+viewer.Secret.Reveal())
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}

	for _, c := range []struct {
		method, path, namespace string
		action                  queue.Action
		entries                 int // after the request
	}{
		{http.MethodGet, "/api/metrics", "", queue.ActionSystemRead, 1},
		{http.MethodGet, "/readyz?verbose", "", queue.ActionSystemRead, 0}, // as the first, so counted
		{http.MethodPost, "/api/ticker/ack", "default", queue.ActionTickerListen, 1},
	} {
		before := countEntries(t, store)
		if code := get(c.method, c.path); code != http.StatusForbidden {
			t.Errorf("%s gets %d", c.path, code)
		}
		if more := countEntries(t, store) - before; more != c.entries {
			t.Errorf("%s leaves %d entries, want %d", c.path, more, c.entries)
		}
		if e := newestEntry(t, store); c.entries > 0 && (e.Action != c.action || e.Namespace != c.namespace ||
			e.Outcome != string(queue.KindDenied) || e.PrincipalID != viewer.ID || e.RequestID == "") {
			t.Errorf("%s leaves %+v", c.path, e)
		}
	}

	// The end of the server writes the count.
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := newestEntry(t, store); e.Action != queue.ActionSystemRead || e.Calls != 1 {
		t.Errorf("the counted refusal is %+v", e)
	}
}

func countEntries(t *testing.T, store *auditedStore) int {
	t.Helper()
	page, err := store.ListAudit(t.Context(), access.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Entries)
}

// TestSecretsOfTokensAreInOneAnswerAlone makes tokens over each way in, with the log at its most verbose level.
func TestSecretsOfTokensAreInOneAnswerAlone(t *testing.T) {
	log, secret := &lines{}, access.NewSecret()
	cfg, store := auditedConfig(log, secret)
	s := start(t, cfg)

	secrets := []string{secret.Reveal()}
	for _, way := range []string{"rest", "connect", "grpc", "grpcweb"} {
		admin := dialAs(t, s, way, secret.Reveal()).(access.Admin)
		issued, err := admin.CreateToken(t.Context(), access.TokenRequest{Name: way, Grants: []string{"system@*"}})
		if err != nil {
			t.Fatal(err)
		}
		next, err := admin.RotateToken(t.Context(), issued.ID, access.Rotation{})
		if err != nil {
			t.Fatal(err)
		}
		// A whole token where its id belongs, and a token that has ended.
		if _, err := admin.RevokeToken(t.Context(), next.Secret.Reveal()); queue.KindOf(err) != queue.KindInvalid {
			t.Error(err)
		}
		if _, err := dialAs(t, s, way, issued.Secret.Reveal()).(access.Admin).WhoAmI(t.Context()); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Error(err)
		}
		secrets = append(secrets, issued.Secret.Reveal(), next.Secret.Reveal())
	}

	admin := dialAs(t, s, "connect", secret.Reveal()).(access.Admin)
	list, err := admin.ListTokens(t.Context())
	if err != nil || len(list) != 8 {
		t.Fatal(list, err)
	}
	page, err := store.ListAudit(t.Context(), access.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	families, err := s.tel.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	if metrics := fmt.Sprint(families); !strings.Contains(metrics, "rotate_token") {
		t.Error("the operations on tokens are not measured")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	everything := fmt.Sprint(list, page, families) + log.buf.String()
	for _, text := range secrets {
		// The random letters alone too, as an escaped text would have them.
		if strings.Contains(everything, text[len("pgq_12345678_"):]) {
			t.Errorf("the secret of token %s is in a log, a metric, a list or the audit", text[4:12])
		}
	}
}

// TestAuditOfAQueueShowsItsChanges: over REST and Connect the audit of one queue shows each change of its settings with the
// values before and after, and nothing of another queue.
func TestAuditOfAQueueShowsItsChanges(t *testing.T) {
	secret := access.NewSecret()
	cfg, _ := auditedConfig(io.Discard, secret)
	s := start(t, cfg)
	svc := dialAs(t, s, "rest", secret.Reveal())
	for _, name := range []string{"mail", "other"} {
		if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: name, Concurrency: new(1)}); err != nil {
			t.Fatal(err)
		}
		if _, err := svc.UpdateQueue(t.Context(), name, queue.QueueMeta{Concurrency: new(5), Paused: new(true)}); err != nil {
			t.Fatal(err)
		}
	}
	issued, err := svc.(access.Admin).CreateToken(t.Context(), access.TokenRequest{Name: "a", Grants: []string{"viewer@default"}, Never: true})
	if err != nil {
		t.Fatal(err)
	}
	next, err := svc.(access.Admin).RotateToken(t.Context(), issued.ID, access.Rotation{})
	if err != nil {
		t.Fatal(err)
	}

	for _, way := range []string{"rest", "connect"} {
		admin := dialAs(t, s, way, secret.Reveal()).(access.Admin)
		page, err := admin.ListAudit(t.Context(), access.AuditFilter{Queue: "mail"})
		if err != nil || len(page.Entries) != 2 {
			t.Fatalf("%s: got %+v, %v; want the create and the update", way, page, err)
		}
		want := []access.AuditChange{{Field: "concurrency", Old: "1", New: "5"}, {Field: "paused", Old: "false", New: "true"}}
		if got := page.Entries[0]; !slices.Equal(got.Changes, want) || got.Queue != "mail" {
			t.Errorf("%s: the update is %+v, want the changes %+v", way, got, want)
		}
		if !slices.Contains(page.Entries[1].Changes, access.AuditChange{Field: "concurrency", New: "1"}) {
			t.Errorf("%s: the create is %+v", way, page.Entries[1])
		}

		rotated, err := admin.ListAudit(t.Context(), access.AuditFilter{Limit: 1})
		wanted := []access.AuditChange{{Field: "token", Old: issued.ID, New: next.ID}, {Field: "name", New: "a"}, {Field: "grants", New: "viewer@default"}}
		if err != nil || !slices.Equal(rotated.Entries[0].Changes, wanted) {
			t.Errorf("%s: the rotation is %+v, %v; want the changes %+v", way, rotated, err, wanted)
		}
	}
}
