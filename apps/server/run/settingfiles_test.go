package run

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// countLines returns the number of lines of the log with the message.
func countLines(t *testing.T, log *lines, message string) int {
	t.Helper()
	return len(log.all(t, message))
}

// TestReloadOfTheAccessFile changes an access file while a server runs: a right file takes effect, a wrong one leaves the
// former in use, says so once in the log, and turns a check of the health red.
func TestReloadOfTheAccessFile(t *testing.T) {
	const wrong, right, changed = "a file of settings is wrong, so its former content stays in use", "a file of settings is right again", "a file of settings has changed and is in use"
	store, log := newSlow(), &lines{}
	close(store.leave)
	cfg := store.config(log)
	cfg.AdminToken = access.NewSecret().Reveal()
	cfg.AccessFile = writeFile(t, "rules: [{cert: a, grant: [viewer@default]}]")
	s := start(t, cfg)
	grants := func() int {
		return len(s.control.mapping.GrantsOf(access.Proof{Kind: access.KindCertificate, Subject: "a"}))
	}
	well := func() bool { return s.files.check(t.Context()) == nil }
	if grants() != 1 || !well() {
		t.Fatal("the file of the start is not in use")
	}

	replaceFile(t, cfg.AccessFile, "rules: [{cert: a, grant: [viewer@default, worker@default]}]")
	s.Reload(t.Context())
	if grants() != 2 || !well() || countLines(t, log, changed) != 1 {
		t.Errorf("after a change: %d grants, well %v", grants(), well())
	}
	s.Reload(t.Context())
	if n := countLines(t, log, changed); n != 1 {
		t.Errorf("%d changes are in the log, want 1: the file has not changed again", n)
	}

	for _, c := range []struct {
		fault   string
		replace func()
	}{
		{"a wrong rule", func() { replaceFile(t, cfg.AccessFile, "rules: [{cert: a, grant: [root@default]}]") }},
		{"an empty file", func() { replaceFile(t, cfg.AccessFile, "") }},
		{"a file that is too large", func() { replaceFile(t, cfg.AccessFile, "#"+strings.Repeat("x", maxAccessFileBytes)) }},
		{"no file", func() { _ = os.Remove(cfg.AccessFile) }},
	} {
		before := countLines(t, log, wrong)
		c.replace()
		s.Reload(t.Context())
		s.Reload(t.Context())
		if n := countLines(t, log, wrong) - before; n != 1 || grants() != 2 || well() {
			t.Errorf("%s: %d lines in the log, want 1; %d grants, well %v", c.fault, n, grants(), well())
		}
	}
	if _, metrics := doAs(t, cfg.AdminToken, "GET", s.URL()+"/api/metrics", ""); !strings.Contains(metrics, `pgqueue_health_check{check="settings"} 0`) {
		t.Error("the metrics must show the fault")
	}
	if code, _ := do(t, "GET", s.URL()+"/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz gets %d: a wrong file must not end the work of all servers", code)
	}

	replaceFile(t, cfg.AccessFile, "rules: [{cert: a, grant: [viewer@default, worker@default]}]")
	s.Reload(t.Context())
	if grants() != 2 || !well() || countLines(t, log, right) != 1 {
		t.Errorf("after the repair: %d grants, well %v", grants(), well())
	}
}

// TestReloadsAreAudited: each reload that changes the access, and each distinct one that is refused, is an entry of the server.
func TestReloadsAreAudited(t *testing.T) {
	cfg, store := auditedConfig(io.Discard, access.NewSecret())
	cfg.AccessFile = writeFile(t, "rules: [{cert: a, grant: [viewer@default]}]")
	s := start(t, cfg)
	reload := func(content string) {
		replaceFile(t, cfg.AccessFile, content)
		s.Reload(t.Context())
		s.Reload(t.Context())
	}
	reload("rules: [{cert: a, grant: [admin@default]}]")
	reload("rules: [{cert: a, grant: [root@default]}]")
	reload("")
	reload("rules: [{cert: a, grant: [admin@default]}]")

	page, err := store.ListAudit(t.Context(), access.AuditFilter{Limit: queue.MaxPage, Principal: "server"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(page.Entries) {
		if e.Operation != "reload_settings" || e.Action != queue.ActionAccessManage || e.Filter != "setting=access-file" {
			t.Errorf("the entry is %+v", e)
		}
		got = append(got, e.Outcome)
	}
	if want := "[ok invalid invalid ok]"; fmt.Sprint(got) != want {
		t.Errorf("the reloads are %v, want %v", got, want)
	}
}

// TestReloadWithoutFiles: there is nothing to read, and the log says so.
func TestReloadWithoutFiles(t *testing.T) {
	store, log := newSlow(), &lines{}
	close(store.leave)
	s := start(t, store.config(log))
	s.Reload(t.Context())
	if countLines(t, log, "no setting is in a file, so there is nothing to read again") != 1 {
		t.Error("the log does not say that nothing was read")
	}
}

// TestReloadOfAdminTokens: a token of the file is valid after the reload that follows, and a removed one is not.
func TestReloadOfAdminTokens(t *testing.T) {
	former, next := access.NewSecret().Reveal(), access.NewSecret().Reveal()
	store, log := newSlow(), &lines{}
	close(store.leave)
	cfg := store.config(log)
	cfg.AdminTokenFile = writeTokens(t, former)
	s := start(t, cfg)

	replaceFile(t, cfg.AdminTokenFile, next)
	s.Reload(t.Context())
	for token, want := range map[string]queue.Kind{former: queue.KindUnauthenticated, next: ""} {
		if _, err := dialAs(t, s, "rest", token).ListQueues(t.Context(), queue.Page{}); queue.KindOf(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}

	replaceFile(t, cfg.AdminTokenFile, "no token of ours")
	s.Reload(t.Context())
	if _, err := dialAs(t, s, "rest", next).ListQueues(t.Context(), queue.Page{}); err != nil {
		t.Errorf("a wrong file must leave the former tokens valid: %v", err)
	}
	for _, line := range log.all(t, "a file of settings is wrong, so its former content stays in use") {
		if text, _ := line["error"].(string); strings.Contains(text, "no token of ours") {
			t.Errorf("the log shows the content of a file of secrets: %v", line)
		}
	}
}

// TestIssuerClosesAnOpenServer: the first issuer of a changed access file counts as a credential.
func TestIssuerClosesAnOpenServer(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(&lines{})
	cfg.AccessFile = writeFile(t, "rules: []")
	s := start(t, cfg)
	if code, _ := do(t, "GET", s.URL()+"/api/queue", ""); code != http.StatusOK {
		t.Fatalf("an open server answers %d", code)
	}

	replaceFile(t, cfg.AccessFile, issuersAlone)
	for {
		if code, _ := do(t, "GET", s.URL()+"/api/queue", ""); code == http.StatusUnauthorized {
			return
		}
		time.Sleep(20 * time.Millisecond) // until the server looks again
	}
}
