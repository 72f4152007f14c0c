package root

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

func TestAConfigurationThatIsALinkStaysOne(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "dotfiles.yaml"), filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	s := newShell(t, "http://127.0.0.1:1/api")
	s.must("config", "set-context", "prod", "--url", "http://q/api", "--config", link)
	if at, err := os.Readlink(link); err != nil || at != target {
		t.Error(at, err)
	}
	if b, err := os.ReadFile(target); err != nil || !strings.Contains(string(b), "http://q/api") {
		t.Error(string(b), err)
	}
}

func TestATokenWithALineEnd(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		http.NotFound(w, r)
	}))
	defer server.Close()
	s := newShell(t, server.URL+"/api")
	s.env["PGQUEUE_AUTH_TOKEN"] = "s3cret\r\n"
	s.run(false, "", "queues")
	if len(got) != 1 || got[0] != "Bearer s3cret" {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{"s3cr\net", "s3cr et", "s3cr\u200bet", "s3cr\x00et"} {
		s.env["PGQUEUE_AUTH_TOKEN"] = bad
		for _, protocol := range []string{"rest", "connect"} {
			if code, out, errOut := s.run(false, "", "queues", "--protocol", protocol); code != program.ExitUsage || out != "" || strings.Contains(errOut, "s3cr") || !strings.Contains(errOut, "PGQUEUE_AUTH_TOKEN") {
				t.Errorf("%q: %d %s", bad, code, errOut)
			}
		}
	}
	if len(got) != 1 {
		t.Errorf("%d requests", len(got))
	}
}

func TestADumbTerminalGetsLinesAlone(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "q")
	streams, out, errOut := iostreams.Test(strings.Repeat("{\"queue\":\"q\"}\n", 500))
	streams.Terminal()
	streams.Dumb, streams.Color = true, false
	f := &factory.Factory{IO: streams, Version: "test", Now: func() time.Time { return moment }, Lookup: func(k string) (string, bool) { v, ok := s.env[k]; return v, ok }}
	if code := Run(t.Context(), f, []string{"import", "-", "--batch", "10"}); code != 0 || strings.ContainsAny(out.String()+errOut.String(), "\x1b\r") {
		t.Errorf("%d %q", code, out.String()+errOut.String())
	}
}

func TestAnIDBelowZeroIsNamed(t *testing.T) {
	s := newShell(t, startServer(t))
	for _, args := range [][]string{{"task", "-1"}, {"delete-task", "-5"}, {"delete-task", "--", "-5"}, {"complete-task", "--", "-1"}} {
		if code, out, errOut := s.run(false, "", args...); code != program.ExitUsage || out != "" || !strings.Contains(errOut, "-") {
			t.Error(args, code, errOut)
		}
	}
}
