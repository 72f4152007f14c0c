package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgqueue/pgqueue/adapters/embedded"
)

// TestScripts runs the sessions of the command line with the real program on a real server and PostgreSQL. Each
// session has a server with its own tables and runs over both protocols.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	const dir = "../cli/internal/root/testdata/script"
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("there are no scripts", err)
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
	path := programs(t) + string(os.PathListSeparator) + os.Getenv("PATH")
	for _, protocol := range []string{"rest", "connect"} {
		for _, script := range scripts {
			name := strings.TrimSuffix(filepath.Base(script), ".txtar")
			t.Run(protocol+"/"+name, func(t *testing.T) {
				n := startNodeAt(t, pg.DSN(), "--schema", protocol+"_"+name)
				testscript.Run(t, testscript.Params{
					Files: []string{script}, RequireExplicitExec: true,
					Cmds: map[string]func(*testscript.TestScript, bool, []string){
						"remember": func(ts *testscript.TestScript, _ bool, args []string) {
							ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
						},
					},
					Setup: func(env *testscript.Env) error {
						env.Setenv("PATH", path)
						env.Setenv("PGQUEUE_URL", n.url)
						env.Setenv("PGQUEUE_PROTOCOL", protocol)
						env.Setenv("HOME", env.WorkDir)
						return nil
					},
				})
			})
		}
	}
}
