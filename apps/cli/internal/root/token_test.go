package root

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
)

// TestCanHasAnExitCodeForEachAnswer: the exit code alone distinguishes yes, no and no answer.
func TestCanHasAnExitCodeForEachAnswer(t *testing.T) {
	url := startServer(t)
	admin := newShell(t, url)
	admin.env["PGQUEUE_AUTH_TOKEN"] = strings.TrimSpace(admin.must("create-token", "admin", "--grant", "system@*", "--jq", ".token"))
	viewer := newShell(t, url)
	viewer.env["PGQUEUE_AUTH_TOKEN"] = strings.TrimSpace(admin.must("create-token", "viewer", "--grant", "viewer@default", "--jq", ".token"))
	stranger := newShell(t, url)
	stranger.env["PGQUEUE_AUTH_TOKEN"] = access.NewSecret().Reveal()
	nobody := newShell(t, url)
	elsewhere := newShell(t, url+"/x")
	elsewhere.env["PGQUEUE_AUTH_TOKEN"] = viewer.env["PGQUEUE_AUTH_TOKEN"]

	noTokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"status":404,"kind":"not_found","detail":"this server keeps no tokens and has no such route; use one of pgqueue run"}`))
	}))
	defer noTokens.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()

	for what, c := range map[string]struct {
		shell *shell
		args  []string
		code  int
		out   string
	}{
		"yes":                               {viewer, []string{"task.read"}, 0, "true"},
		"yes for a queue":                   {viewer, []string{"task.read", "default/mail"}, 0, "true"},
		"no":                                {viewer, []string{"task.create"}, 3, "false"},
		"no for another namespace":          {viewer, []string{"task.read", "billing"}, 3, "false"},
		"a refused token":                   {stranger, []string{"task.read"}, 1, ""},
		"no token":                          {nobody, []string{"task.read"}, 1, ""},
		"an unknown action":                 {viewer, []string{"task.fly"}, 2, ""},
		"a wrong namespace":                 {viewer, []string{"task.read", "a/"}, 2, ""},
		"a server that keeps no tokens":     {newShell(t, noTokens.URL), []string{"task.read"}, 1, ""},
		"another program at the address":    {newShell(t, other.URL), []string{"task.read"}, 1, ""},
		"another path of the server":        {elsewhere, []string{"task.read"}, 2, ""},
		"no server":                         {newShell(t, "http://127.0.0.1:1"), []string{"task.read", "--timeout", "1s"}, 5, ""},
		"an answer with a filter of fields": {viewer, []string{"task.create", "--jq", ".allowed"}, 3, "false"},
	} {
		code, out, errs := c.shell.run(false, "", append([]string{"can"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || (c.out == "") != (errs != "") {
			t.Errorf("%s: exit code %d, want %d; stdout %q, stderr %q", what, code, c.code, out, errs)
		}
	}
}

// TestCreateTokenNamesBothWaysToTheDatabase: the help leads to the embedded PostgreSQL too.
func TestCreateTokenNamesBothWaysToTheDatabase(t *testing.T) {
	help := newShell(t, "http://127.0.0.1:1").must("create-token", "--help")
	for _, flag := range []string{"--database-url", "--data-dir ./data"} {
		if text, _, _ := strings.Cut(help, "Flags:"); !strings.Contains(text, flag) {
			t.Errorf("the text and the examples of create-token must name %s: %s", flag, text)
		}
	}
}
