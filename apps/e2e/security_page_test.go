package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// blockWith returns the shell block of a page that has a text.
func blockWith(t *testing.T, page, text string) string {
	t.Helper()
	for _, f := range docs(t)[page].code {
		if f.language == "sh" && strings.Contains(f.code, text) {
			return f.code
		}
	}
	t.Fatalf("%s has no block of shell commands with %q", page, text)
	return ""
}

// TestSecurityPageClosesAServer runs the three commands of docs/security.md on an open server: afterwards it is closed, the worker
// works with its token, and that token has the rights of a worker alone.
func TestSecurityPageClosesAServer(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	commands := blockWith(t, "docs/security.md", "create-token admin")
	if n := strings.Count(commands, "\n"); n != 3 {
		t.Fatalf("the page closes a server in %d commands, want 3", n)
	}
	base, dir := serveMemory(t), t.TempDir()
	send := "#!/bin/sh\ncat\n"
	if err := os.WriteFile(filepath.Join(dir, "send"), []byte(send), 0o700); err != nil { //nolint:gosec // a program must be executable
		t.Fatal(err)
	}

	// The worker of the third command runs until the end of the script.
	script := `pgqueue create-queue mail
id=$(pgqueue create-task mail --payload '{"to":"a@b.c"}' --jq .id)
test "$(curl -s -o /dev/null -w '%{http_code}' $PGQUEUE_URL/queue)" = 200
` + strings.TrimSuffix(commands, "\n") + ` &
test "$(curl -s -o /dev/null -w '%{http_code}' $PGQUEUE_URL/queue)" = 401
pgqueue await-task "$id" --wait 1m --jq .status
test "$(PGQUEUE_AUTH_TOKEN=$(cat worker-token) pgqueue whoami --jq '.grants[]')" = 'worker@default/mail*'
if PGQUEUE_AUTH_TOKEN=$(cat worker-token) pgqueue create-task mail; then exit 1; fi
kill %1 && wait %1
`
	queuetest.FindTools(t, "bash", "curl")
	env := append(os.Environ(), "PGQUEUE_URL="+base+"/api", "PATH="+programs(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
	runDoc(t, dir, env, "bash", "-euxo", "pipefail", "-c", script)

	resp, err := http.Get(base + "/api/queue")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the commands a request without a token gets %d", resp.StatusCode)
	}
}
