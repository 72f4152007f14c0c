package run

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// load is what flags, environment and file come to.
func load(t *testing.T, args []string, env map[string]string, file string) (*config, error) {
	t.Helper()
	if file != "" {
		name := filepath.Join(t.TempDir(), "worker.yaml")
		if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", name)
	}
	c := &config{}
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	c.addFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c, c.loadSettings(f, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
}

func TestAServerOrADatabase(t *testing.T) {
	const db, other = "postgres://app@db/app", "http://queue/api"
	task := []string{"-q", "mail", "--exec", "x"}
	for _, c := range []struct {
		args         []string
		env          map[string]string
		file         string
		url, problem string
	}{
		{args: []string{"--database-url", db, "--pooler", "--listen-url", db, "--wait", "1m", "--max-conns", "7"}, url: db},
		{args: []string{"--database", db}, url: db},
		{env: map[string]string{"PGQUEUE_DATABASE_URL": db, "PGQUEUE_POOLER": "true"}, url: db},
		{env: map[string]string{"PGQUEUE_DATABASE_URL": "postgres://else", "PGQUEUE_WORKER_DATABASE_URL": db}, url: db},
		{file: "database_url: " + db + "\npooler: true\nwait: 5s\n", url: db},
		{args: []string{"--url", other}, env: map[string]string{"PGQUEUE_DATABASE_URL": db}},
		{args: []string{"--database-url", db}, env: map[string]string{"PGQUEUE_URL": other}, url: db},
		{args: []string{"--database-url", db, "--url", other}, problem: "must not come with"},
		{env: map[string]string{"PGQUEUE_DATABASE_URL": db, "PGQUEUE_URL": other}, problem: "must not come with"},
		{args: []string{"--database-url", "mysql://u:s3cret@h/d"}, problem: "unknown scheme"},
		{args: []string{"--database-url", ""}, problem: "must not be empty"},
		{args: []string{"--database-url", db, "--wait", "2h"}, problem: "wait"},
		{file: "drain-time: 1s\ndrain_time: 2s\n", problem: "each setting once"},
		{file: "namespace: a\n---\nnamespace: b\n", problem: "one YAML document"},
		{file: "namespace: a\nnamespace: b\n", problem: "already defined"},
		{file: "lease: 90\n", problem: "lease"},
		{file: "concurrency: true\n", problem: "concurrency"},
		{file: "queues: [{queue: a, exec: x, kill-after: 30}]\n", problem: "queues[0]"},
		{file: "queues: [{queue: a, exec: x, concurency: 3}]\n", problem: "concurency"},
		{file: "conncurrency: 3\n", problem: "must have settings"},
	} {
		got, err := load(t, append(append([]string{}, task...), c.args...), c.env, c.file)
		switch {
		case c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem) || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%v %v %q: %v should say %q", c.args, c.env, c.file, err, c.problem)
		case c.problem == "" && (err != nil || got.database.URL != c.url):
			t.Errorf("%v %v %q: %v, database %q", c.args, c.env, c.file, err, got.database.URL)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Run("flags come before the environment, the environment before the file", func(t *testing.T) {
		c, err := load(t, []string{"--concurrency", "3"}, map[string]string{
			"PGQUEUE_WORKER_CONCURRENCY": "4", "PGQUEUE_WORKER_NAMESPACE": "own", "PGQUEUE_NAMESPACE": "all",
			"PGQUEUE_DRAIN_TIME": "7s", "PGQUEUE_WORKER_SECRET": "a, b", "PGQUEUE_URL": "http://env/api",
		}, `
concurrency: 5
namespace: file
drain_time: 9s
lease: 90s
queue: [mail, sms]
exec: ./send.sh
env: PATH
url: http://file/api
`)
		if err != nil {
			t.Fatal(err)
		}
		if c.concurrency != 3 || c.server.Namespace != "own" || c.drain != 7*time.Second || c.lease != 90*time.Second || c.server.URL != "http://env/api" {
			t.Errorf("%+v", c)
		}
		if len(c.jobs) != 2 || c.jobs[1].Queue != "sms" || c.jobs[0].Exec != "./send.sh" || c.jobs[0].Env[0] != "PATH" {
			t.Errorf("%+v", c.jobs)
		}
		if s := c.job.Secret; len(s) != 2 || s[1] != "b" {
			t.Errorf("%q", s)
		}
	})

	t.Run("an entry of queues has what it says, and the rest as the others", func(t *testing.T) {
		c, err := load(t, []string{"-q", "mail", "--exec", "./all.sh", "--request-timeout", "5s"}, nil, `
queues:
  - queue: hooks
    http: https://example.com/
    concurrency: 4
    allow_private: true
  - {queue: sms, kill-after: 1s, env: []}
`)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.jobs) != 3 {
			t.Fatalf("%+v", c.jobs)
		}
		if h := c.jobs[1]; h.Exec != "" || h.HTTP != "https://example.com/" || h.Concurrency != 4 || !h.AllowPrivate || h.RequestTimeout != 5*time.Second {
			t.Errorf("%+v", h)
		}
		if s := c.jobs[2]; s.Exec != "./all.sh" || s.KillAfter != time.Second || s.Env == nil || s.AllowPrivate {
			t.Errorf("%+v", s)
		}
	})

	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		file string
	}{
		"no queue":                                {args: []string{"--exec", "x"}},
		"nothing to run":                          {args: []string{"-q", "mail"}},
		"both exec and http":                      {args: []string{"-q", "mail", "--exec", "x", "--http", "http://x"}},
		"an unknown protocol":                     {args: []string{"-q", "mail", "--exec", "x", "--protocol", "smtp"}},
		"a bad queue name":                        {args: []string{"-q", "9 lives", "--exec", "x"}},
		"a queue twice":                           {args: []string{"-q", "mail", "-q", " Mail", "--exec", "x"}},
		"no concurrency":                          {args: []string{"-q", "mail", "--exec", "x", "-c", "0"}},
		"a bad concurrency of a queue":            {file: "queues: [{queue: mail, exec: x, concurrency: -1}]"},
		"a bad variable":                          {args: []string{"-q", "mail", "--exec", "x"}, env: map[string]string{"PGQUEUE_WORKER_LEASE": "soon"}},
		"an unknown key of the file":              {args: []string{"-q", "mail", "--exec", "x"}, file: "concurency: 4"},
		"an unknown key of an entry":              {file: "queues: [{queue: mail, exec: x, concurency: 3}]"},
		"a file that is not YAML":                 {file: "{"},
		"a bad duration in the file":              {args: []string{"-q", "mail", "--exec", "x"}, file: "lease: soon"},
		"a file that names a file":                {args: []string{"-q", "mail", "--exec", "x"}, file: "config: other.yaml"},
		"a list where one value is to":            {args: []string{"-q", "mail", "--exec", "x"}, file: "lease: [1s]"},
		"a list for a text":                       {args: []string{"-q", "mail", "--exec", "x"}, file: "namespace: [prod]"},
		"an empty text in the file":               {args: []string{"-q", "mail", "--exec", "x"}, file: "namespace:"},
		"an empty URL in the file":                {args: []string{"-q", "mail", "--exec", "x"}, file: "database-url: \"\""},
		"a setting of URLs, with a command alone": {args: []string{"-q", "mail", "--exec", "x", "--request-timeout", "30s"}},
		"a setting of commands, with a URL alone": {args: []string{"-q", "mail", "--http", "https://example.com/", "--dir", "/tmp"}},
		"such a setting in the file":              {args: []string{"-q", "mail", "--exec", "x"}, file: "secret: whsec_eA=="},
		"such a setting in an entry":              {file: "queues: [{queue: mail, exec: x, request-timeout: 30s}]"},
		"a payload limit without a database":      {args: []string{"-q", "mail", "--exec", "x", "--max-payload", "4000000"}},
		"an output above the payload limit": {args: []string{
			"-q", "mail", "--exec", "x", "--database-url", "postgres://app@db/app", "--max-output", "4000000",
		}},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if c, err := load(t, c.args, c.env, c.file); err == nil {
				t.Errorf("taken: %+v", c)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--nonsense"},
		{"stray", "-q", "mail", "--exec", "x"},
		{"-q", "mail", "--exec", "x", "--log-level", "loud"},
		{"-q", "mail", "--http", "http://x", "--secret", "short"},
		{"-q", "mail", "--http", "http://x", "--header", "x"},
		{"-q", "mail", "--http", "no-url"},
		{"-q", "mail", "--http", "http://localhost:1/hook"},
		{"-q", "mail", "--exec", "true", "--lease", "1ms"},
		{"-q", "mail", "--exec", "true", "--drain-time", "-1s"},
		{"-q", "mail", "--exec", "true", "--kill-after", "-1s"},
		{"-q", "mail", "--exec", "true", "--max-output", "-1"},
		{"-q", "mail", "--exec", "true", "--exit-kinds", "65"},
		{"-q", "mail", "--exec", "true", "--exit-kinds", "0=fine"},
		{"-q", "mail", "--http", "https://example.org/", "--exit-kinds", "65=bad"},
		{"-q", "mail", "--exec", "true", "--env", "A=b"},
		{"-q", "mail", "--exec", "true", "--dir", "/nowhere/at/all"},
		{"-q", "mail", "--exec", "./nothere.sh"},
		{"-q", "mail", "--http", "https://example.org/", "--header", "Content-Length: 5"},
		{"-q", "mail", "--http", "https://example.org/", "--header", "X Y: 5"},
		{"-q", "mail", "--http", "https://example.org/", "--header", "Pgqueue-Task-Id: 99"},
		{"-q", "mail", "--http", "https://example.org/#here"},
		{"-q", "mail", "--http", "https://example.org/", "--request-timeout", "-1s"},
		{"-q", "mail", "--http", "https://example.org/", "--permanent-status", "forty"},
	} {
		t.Run("exit code 2: "+strings.Join(args, " "), func(t *testing.T) {
			if code := Main("pgqueue-worker", "test", args, io.Discard, io.Discard); code != program.ExitUsage {
				t.Errorf("exit code %d", code)
			}
		})
	}
	t.Run("exit code 1 when the database cannot be reached", func(t *testing.T) {
		if code := Main("pgqueue-worker", "test", []string{"-q", "mail", "--exec", "true", "--database-url", "postgres://127.0.0.1:1/x?connect_timeout=2"}, io.Discard, io.Discard); code != program.ExitFailed {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("help and version are printed on standard output", func(t *testing.T) {
		for _, arg := range []string{"--help", "--version"} {
			var out strings.Builder
			if code := Main("pgqueue-worker", "v1.2.3", []string{arg}, &out, io.Discard); code != program.ExitDone || !strings.Contains(out.String(), "pgqueue-worker") {
				t.Errorf("%s: exit code %d\n%s", arg, code, out.String())
			}
		}
	})
}
