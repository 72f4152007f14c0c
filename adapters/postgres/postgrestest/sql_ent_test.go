package postgrestest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
)

// TestEntClient generates a client of ent with the feature sql/execquery, and creates tasks in its transactions. The client has 3,000
// lines, so it is not kept. Its modules are those of testdata/ent alone.
func TestEntClient(t *testing.T) {
	needsDatabase(t)
	if os.Getenv("PGQUEUE_TEST_FULL") == "" {
		t.Skip("downloads and builds ent; runs with PGQUEUE_TEST_FULL=1")
	}
	t.Parallel()
	dsn := postgrestest.URL(t)
	s := open(t, dsn)
	firstPartition(t, s)
	mustQueue(t, s, "mail")

	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "ent"))); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
		}
		return strings.TrimSpace(string(out))
	}
	for _, module := range []string{"adapters/sqltx", "domain"} {
		run("mod", "edit", "-replace", "github.com/pgqueue/pgqueue/"+module+"="+filepath.Join(root, module))
	}
	run("tool", "ent", "generate", "--feature", "sql/execquery", "./ent/schema")
	if got, want := run("run", ".", dsn), "orders 1 tasks 1 refused true"; got != want {
		t.Errorf("a commit and a rollback give %q, want %q", got, want)
	}
}
