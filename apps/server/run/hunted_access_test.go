package run

import (
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The tests of this file are reports about the access of other queues and dashboards; docs/field-reports.md lists them.

// TestFailedSignInsDoNotFillTheAudit: strangers with made-up secrets, over each way in, write a bounded number of entries, and the
// entry of a change stays.
func TestFailedSignInsDoNotFillTheAudit(t *testing.T) {
	secret := access.NewSecret()
	cfg, store := auditedConfig(io.Discard, secret)
	s := start(t, cfg)
	if _, err := dialAs(t, s, "rest", secret.Reveal()).CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}

	_, port, _ := strings.Cut(s.ln.Addr().String(), ":")
	for range 100 {
		stranger := access.NewSecret().Reveal()
		do(t, http.MethodPost, s.URL()+"/api/session", `{"token":"`+stranger+`"}`)
		do(t, http.MethodPost, s.URL()+"/api/session", `{"code":"`+strings.Replace(stranger, "pgq_", "pgc_", 1)+`"}`)
		do(t, http.MethodPost, s.URL()+"/api/session", `{"token":"`+stranger[:9]+`"}`)
		do(t, http.MethodPost, s.URL()+"/api/session", `{}`)
		doAs(t, stranger, http.MethodGet, s.URL()+"/api/queue", "")
		p := &page{T: t, url: s.URL(), cookies: []*http.Cookie{{Name: "pgqueue-" + port, Value: strings.Replace(stranger, "pgq_", "pgs_", 1)}}}
		p.ask(http.MethodGet, "/api/queue", "")
	}

	found, err := store.ListAudit(t.Context(), access.AuditFilter{Limit: queue.MaxPage})
	if err != nil {
		t.Fatal(err)
	}
	const most = 30 // 16 claims, and one entry for each action of the others
	changed := found.Entries[len(found.Entries)-1]
	if n := len(found.Entries); n < 3 || n > most || changed.Operation != "create_queue" {
		t.Errorf("600 refusals make %d entries, want at most %d, and the first entry is %+v", n, most, changed)
	}
}

// TestWrongTokensWithAKnownIDHinderNoHolder: the id of a token is public. Wrong tokens with that id, also beyond the limit of their
// address, neither hold up the calls and the stream of the holder nor end its sessions.
func TestWrongTokensWithAKnownIDHinderNoHolder(t *testing.T) {
	admin := access.NewSecret()
	cfg, store := auditedConfig(io.Discard, admin)
	s := start(t, cfg)
	issued := issueThrough(t, s, admin.Reveal())
	holder := &page{T: t, url: s.URL()}
	holder.signIn(issued.Secret.Reveal())

	for range 100 {
		if status, text := doAs(t, forgeToken(issued.ID), http.MethodGet, s.URL()+"/api/queue", ""); status != http.StatusTooManyRequests && (status != http.StatusUnauthorized || !strings.Contains(text, "unknown, expired or revoked")) {
			t.Fatalf("a wrong token gets %d %s", status, text)
		}
	}
	s.control.auth.Forget()
	if status, text := doAs(t, issued.Secret.Reveal(), http.MethodGet, s.URL()+"/api/queue", ""); status != http.StatusOK {
		t.Errorf("the holder gets %d %s", status, text)
	}
	holder.want(http.StatusOK, "GET", "/api/queue", "")
	p, err := s.control.auth.Authenticate(t.Context(), issued.Secret.Reveal())
	if err != nil || s.control.confirm(t.Context(), p) != nil {
		t.Errorf("the stream of the holder ends: %v", err)
	}

	// The audit shows the refusals as such: the id is a claim.
	found, err := store.ListAudit(t.Context(), access.AuditFilter{Limit: queue.MaxPage})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range found.Entries {
		if e.PrincipalID == issued.ID && e.Operation != "open_session" && e.Outcome != "unauthenticated" {
			t.Errorf("a refusal is an entry of the holder: %+v", e)
		}
	}
}

// forgeToken returns a made-up token with an id and the right checksum.
func forgeToken(id string) string {
	text := "pgq_" + id + access.NewSecret().Reveal()[12:45]
	sum := crc32.ChecksumIEEE([]byte(text))
	letters := make([]byte, 6)
	for i := range letters {
		letters[len(letters)-1-i] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[sum%62]
		sum /= 62
	}
	return text + string(letters)
}

// TestAuditOfAManualFireNamesItsTask: the audit leads from a task that a user has caused to that user.
func TestAuditOfAManualFireNamesItsTask(t *testing.T) {
	secret := access.NewSecret()
	cfg, store := auditedConfig(io.Discard, secret)
	s := start(t, cfg)
	svc := dialAs(t, s, "rest", secret.Reveal())
	if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.CreateTicker(t.Context(), queue.TickerMeta{Name: "daily", Cron: new("@daily"), Queue: new("mail")}); err != nil {
		t.Fatal(err)
	}
	tick, err := svc.RunTicker(t.Context(), "daily")
	if err != nil {
		t.Fatal(err)
	}
	if e := newestEntry(t, store); tick.TaskID == 0 || e.Task != tick.TaskID || e.Queue != "mail" || e.Ticker != "daily" || e.PrincipalID != secret.ID() {
		t.Errorf("the fire made the task %d, and its entry is %+v", tick.TaskID, e)
	}
}

// TestATokenInAnAddressIsNone: no parameter of an address is a credential, because addresses are in logs and histories, and a token
// in one is in no log, entry or answer of the server.
func TestATokenInAnAddressIsNone(t *testing.T) {
	log, secret := &lines{}, access.NewSecret()
	cfg, store := auditedConfig(log, secret)
	s := start(t, cfg)
	for _, name := range []string{"token", "access_token", "auth", "api_key", "Authorization"} {
		for _, path := range []string{"/api/queue", "/api/event", "/api/metrics", "/readyz"} {
			query := "?" + name + "=" + secret.Reveal()
			if path == "/readyz" {
				query += "&verbose"
			}
			status, body := do(t, http.MethodGet, s.URL()+path+query, "")
			if status != http.StatusUnauthorized || strings.Contains(body, secret.Reveal()) {
				t.Errorf("%s with a token in %s: %d %s", path, name, status, body)
			}
		}
		status, body := doAs(t, secret.Reveal(), http.MethodGet, s.URL()+"/api/queue?"+name+"="+secret.Reveal(), "")
		if status != http.StatusUnprocessableEntity || strings.Contains(body, secret.Reveal()) {
			t.Errorf("a valid request with a token in %s too: %d %s", name, status, body)
		}
	}

	found, err := store.ListAudit(t.Context(), access.AuditFilter{})
	log.mu.Lock()
	defer log.mu.Unlock()
	if text := log.buf.String() + fmt.Sprintf("%+v", found); err != nil || strings.Contains(text, secret.Reveal()) {
		t.Errorf("the log or the audit has the token: %v, %s", err, text)
	}
}

// TestAViewerOfOneQueueNeedsNoGlobalRight: a caller with a right in one queue can list and read all of it, and sees nothing else.
func TestAViewerOfOneQueueNeedsNoGlobalRight(t *testing.T) {
	secret := access.NewSecret()
	cfg, _ := auditedConfig(io.Discard, secret)
	s := start(t, cfg)
	svc := dialAs(t, s, "rest", secret.Reveal())
	for _, name := range []string{"mail", "other"} {
		if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
		if _, err := svc.CreateTicker(t.Context(), queue.TickerMeta{Name: "t" + name, Cron: new("@hourly"), Queue: &name}); err != nil {
			t.Fatal(err)
		}
		if _, err := svc.CreateTask(t.Context(), name, queue.TaskMeta{}); err != nil {
			t.Fatal(err)
		}
	}
	issued, err := svc.(access.Admin).CreateToken(t.Context(), access.TokenRequest{Name: "a", Grants: []string{"viewer@default/mail"}})
	if err != nil {
		t.Fatal(err)
	}

	for path, status := range map[string]int{
		"/queue": 200, "/namespace": 200, "/ticker": 200, "/ticker/upcoming": 200, "/task?queue=mail": 200, "/queue/mail": 200, "/queue/mail/stats": 200,
		"/queue/mail/history": 200, "/queue/mail/failure": 200, "/queue/mail/why": 200, "/queue/mail/scale": 200, "/ticker/tmail": 200,
		"/queue/other": 403, "/queue/other/history": 403, "/ticker/tother": 404, "/task?queue=other": 403,
		"/task": 403, // it says to name a queue
	} {
		got, body := doAs(t, issued.Secret.Reveal(), http.MethodGet, s.URL()+"/api"+path, "")
		if got != status || status == 200 && (strings.Contains(body, "other") || !strings.Contains(body, "mail") && path != "/namespace" && path != "/queue/mail/scale") {
			t.Errorf("%s: %d %s, want %d and nothing of the other queue", path, got, body, status)
		}
		if path == "/task" && !strings.Contains(body, `must name a queue`) {
			t.Errorf("%s: %s must lead to the queue", path, body)
		}
	}
}
