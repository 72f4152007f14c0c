package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
)

// TestStart covers the obstacles to a start of a server. The server reports each in one line with the right exit code
// and leaves no process or file behind.
func TestStart(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	pg, err := embedded.Start(t.Context(), embedded.WithTemporary(), embedded.WithSetting("fsync", "off"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	store, err := postgres.Open(t.Context(), pg.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	exec1 := func(sql string) {
		t.Helper()
		if _, err := store.Pool().Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec1("create role weak login password 'weak-secret'")
	exec1("revoke create on database " + strings.TrimPrefix(mustURL(t, pg.DSN()).Path, "/") + " from public")
	weak := mustURL(t, pg.DSN())
	weak.User = url.UserPassword("weak", "weak-secret")
	wrong := mustURL(t, pg.DSN())
	wrong.User = url.UserPassword("weak", "wrong-secret")
	missing := mustURL(t, pg.DSN())
	missing.Path = "/no_such_database"

	if _, err := store.MigrateUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	newer, err := postgres.Open(t.Context(), pg.DSN(), postgres.WithSchema("newer"))
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	if _, err := newer.MigrateUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec1(fmt.Sprintf("insert into newer.migration (version, name, checksum, compatible_from) values (%d, 'tomorrow', repeat('0', 64), %[1]d)", postgres.SchemaVersion()+1))

	busy := startNode(t, dataDir(t))
	untouched, other := dataDir(t), dataDir(t)
	if err := os.MkdirAll(filepath.Join(other, "data"), 0o700); err != nil { // data of a PostgreSQL that is not installed
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		database string // in the environment, where no other user reads it
		args     []string
		code     int
		says     string
		lines    int // 0: one line
	}{
		"a URL that answers nothing":                 {args: []string{"postgres://127.0.0.1:1/x", "--wait", "500ms"}, code: 5, says: "127.0.0.1:1"},
		"a database that is not there":               {database: missing.String(), code: 5, says: "no_such_database"},
		"a role that may not create a schema":        {database: weak.String(), args: []string{"--schema", "mine"}, code: 1, says: "may not create it"},
		"a wrong password":                           {database: wrong.String(), code: 1, says: "password"},
		"a password in an argument":                  {args: []string{wrong.String()}, code: 1, says: "an argument has a secret", lines: 2},
		"a schema newer than the program":            {database: pg.DSN(), args: []string{"--schema", "newer"}, code: 4, says: "newer than this program"},
		"a schema without tables, and no migrations": {database: pg.DSN(), args: []string{"--schema", "empty", "--migrate=false"}, code: 4, says: "migrate up"},
		"a data folder in use":                       {args: []string{"--data-dir", busy.data}, code: 4, says: "in use"},
		"a data folder of another major version":     {args: []string{"--data-dir", other}, code: 4, says: "was made by PostgreSQL 9"},
		"a port in use":                              {args: []string{"--data-dir", untouched, "--addr", mustURL(t, busy.url).Host}, code: 4, says: "the port is in use"},
	} {
		for _, program := range []string{"pgqueue", "pgqueue-server"} {
			t.Run(name+": "+program, func(t *testing.T) {
				args := append([]string{"--addr", "127.0.0.1:0"}, tc.args...)
				if program == "pgqueue" {
					args = append([]string{"run"}, args...)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, filepath.Join(programs(t), program), args...)
				if tc.database != "" {
					cmd.Env = append(os.Environ(), "PGQUEUE_DATABASE_URL="+tc.database)
				}
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				_ = cmd.Run()
				text := stderr.String()
				if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.Contains(text, tc.says) {
					t.Errorf("exit code %d, want %d; it should say %q:\n%s", code, tc.code, tc.says, text)
				}
				if lines := max(tc.lines, 1); strings.Count(text, "\n") != lines || strings.Contains(text, "-secret") {
					t.Errorf("it should have %d lines without secrets:\n%s", lines, text)
				}
			})
		}
	}
	t.Run("nothing is left half done", func(t *testing.T) {
		var n int
		err := store.Pool().QueryRow(t.Context(), "select count(*) from pg_namespace where nspname in ('mine', 'empty')").Scan(&n)
		if err != nil || n != 0 {
			t.Errorf("%d schemas were made: %v", n, err)
		}
		if _, err := os.Stat(untouched); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a data folder was made: %v", err)
		}
		if made, err := filepath.Glob(filepath.Join(other, "data", "*")); err != nil || len(made) != 1 {
			t.Errorf("the data folder of another version holds %q: %v", made, err)
		}
	})
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
