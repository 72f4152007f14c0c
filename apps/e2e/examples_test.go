package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestExamples runs each example of the documentation against a server.
func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.Empty(t)
	n := startNodeAt(t, dsn)
	c := connect(t, n)
	if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: "psql-mail"}); err != nil {
		t.Fatal(err)
	}

	folder, err := filepath.Abs(filepath.Join(root, "docs", "examples"))
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, example := range []struct {
		name, needs string
		command     []string
		says, again string // texts of the first run and of the second one, which finds its queue empty
	}{
		{"shell", "curl", []string{"sh", "orders.sh"}, `{"sent":true}`, "no task"},
		{"psql", "psql", []string{"psql", "--no-psqlrc", dsn, "-f", "orders.sql"}, "psql-order-17", ""},
		{"python", "python3", []string{"python3", "orders.py", n.url}, `"status": "released"`, "null"},
		{"node", "npm", []string{"node", "orders.js", dsn, n.url}, `"status":"released"`, "no task"},
		{"go", "go", []string{"go", "run", filepath.Join(folder, "go", "main.go"), dsn, n.url}, `released {"sent":17}`, ""},
	} {
		tried[example.name] = true
		t.Run(example.name, func(t *testing.T) {
			tool := queuetest.FindTools(t, example.needs)[0]
			dir := filepath.Join(folder, example.name)
			switch example.name {
			case "node":
				dir = copyNodeExample(t, tool, dir)
			case "go":
				dir = "." // the module with the versions of its imports
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			for _, says := range []string{example.says, example.again} {
				if says == "" {
					continue
				}
				cmd := exec.CommandContext(ctx, example.command[0], example.command[1:]...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "PGQUEUE_URL="+n.url)
				if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), says) {
					t.Errorf("%v, want %s\n%s", err, says, out)
				}
			}
		})
	}

	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() && !tried[entry.Name()] {
			t.Errorf("no test runs the example %s", entry.Name())
		}
	}
}

// copyNodeExample returns a folder with the example of Node.js and its packages.
func copyNodeExample(t *testing.T, npm, from string) string {
	t.Helper()
	modules := nodeModules(t, npm, "node-producer") // the same package
	dir := t.TempDir()
	for _, name := range []string{"package.json", "orders.js"} {
		copyInto(t, filepath.Join(from, name), filepath.Join(dir, name))
	}
	linkModules(t, modules, dir)
	return dir
}
