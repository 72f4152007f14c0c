package root

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// verified are the tests, and that they leave no goroutine.
type verified struct{ *testing.M }

func (v verified) Run() int { return queuetest.VerifyGoroutines(v.M.Run) }

func TestMain(m *testing.M) {
	testscript.Main(verified{m}, map[string]func(){"pgqueue": func() { os.Exit(Main(os.Args[1:], "test")) }})
}

// startServer runs a server over memory and gives the URL of its API.
func startServer(t testing.TB, opts ...memory.Option) string {
	t.Helper()
	return startServerIn(t, "", opts...)
}

// startServerIn is startServer with a namespace for requests that name none.
func startServerIn(t testing.TB, namespace string, opts ...memory.Option) string {
	t.Helper()
	s, err := run.Start(context.Background(), run.Config{
		Addr: "127.0.0.1:0", Namespace: namespace, Log: slog.New(slog.DiscardHandler), Version: "test",
		Store: func(context.Context) (queue.Store, func(context.Context) error, error) {
			return memory.New(opts...), func(context.Context) error { return nil }, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	return s.URL() + "/api"
}

// moment is when everything happens in the golden tests.
var moment = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// shell runs command lines against one server, at a time of its own.
type shell struct {
	t   *testing.T
	env map[string]string
	now time.Time
}

func newShell(t *testing.T, url string) *shell {
	return &shell{t: t, env: map[string]string{"PGQUEUE_URL": url, "HOME": t.TempDir()}, now: moment}
}

func (s *shell) run(terminal bool, stdin string, args ...string) (code int, stdout, stderr string) {
	streams, out, errOut := iostreams.Test(stdin)
	if terminal {
		streams.Terminal()
	}
	f := &factory.Factory{
		IO: streams, Version: "test", Now: func() time.Time { return s.now },
		Lookup: func(k string) (string, bool) { v, ok := s.env[k]; return v, ok },
	}
	code = Run(s.t.Context(), f, args)
	return code, out.String(), errOut.String()
}

// must runs a command line that has to go well.
func (s *shell) must(args ...string) string {
	s.t.Helper()
	code, out, errOut := s.run(false, "", args...)
	if code != 0 {
		s.t.Fatalf("pgqueue %s: exit code %d: %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

// golden compares with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if got != string(want) {
		line, rest := 1, got
		for w := range strings.Lines(string(want)) {
			var same bool
			if rest, same = strings.CutPrefix(rest, w); !same {
				break
			}
			line++
		}
		t.Errorf("%s is not up to date (go test -update writes it); from line %d on it is:\n%.2000s", name, line, rest)
	}
}

// each calls do with cmd and all commands below it.
func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, c := range cmd.Commands() {
		each(c, do)
	}
}

func TestHelp(t *testing.T) {
	streams, _, _ := iostreams.Test("")
	root, _ := New(&factory.Factory{IO: streams, Version: "test", Lookup: func(string) (string, bool) { return "", false }})
	t.Run("every command has a short description and examples", func(t *testing.T) {
		each(root, func(c *cobra.Command) {
			if c.Name() == "help" {
				return
			}
			if c.Short == "" || c.Example == "" {
				t.Errorf("%s lacks its description or its examples", c.CommandPath())
			}
			for line := range strings.Lines(c.Example) {
				if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "pgqueue ") {
					t.Errorf("%s: example %q", c.CommandPath(), line)
				}
			}
		})
	})
	t.Run("the help is as it was agreed", func(t *testing.T) {
		var all strings.Builder
		global := "Global Flags:\n" + root.PersistentFlags().FlagUsages()
		each(root, func(c *cobra.Command) {
			if c.Name() == "help" {
				return
			}
			var b bytes.Buffer
			c.SetOut(&b)
			if err := c.Help(); err != nil {
				t.Fatal(err)
			}
			// They are on every page; the first has them as its own.
			text := strings.Replace(b.String(), global, "Global Flags: as above\n", 1)
			fmt.Fprintf(&all, "$ %s --help\n%s\n", c.CommandPath(), text)
		})
		golden(t, "help.txt", all.String())
	})
}

// world is a server with one of everything, at moment.
func world(t *testing.T) *shell {
	t.Helper()
	clock := atomic.Pointer[time.Time]{}
	clock.Store(&moment)
	s := newShell(t, startServer(t, memory.WithClock(func() time.Time { return *clock.Load() }), memory.WithJitter(func() float64 { return 0.5 })))
	s.must("create-queue", "mail", "--retries", "2", "--ttl", "7d", "--concurrency", "5")
	s.must("create-queue", "sms", "--paused")
	s.must("create-task", "mail", "--key", "k1", "--payload", `{"to":"a@b.c"}`, "--priority", "-3", "--header", "lang=de")
	s.must("create-task", "mail", "--key", "k2", "--payload", `{"n":12345678901234567890,"text":"ünï \u0000"}`)
	s.must("create-task", "mail", "--key", "k3", "--delay", "1h30m")
	s.must("create-task", "mail", "--key", "k4", "--priority", "9", "--payload", `"`+strings.Repeat("long ", 30)+`"`)
	s.must("retain-task", "mail", "--worker", "w1")
	s.must("retain-task", "mail", "--worker", "w2")
	s.must("complete-task", "1", "--error", `{"msg":"no route to host"}`)
	s.must("create-ticker", "nightly", "--cron", "30 3 * * *", "--timezone", "Europe/Berlin", "--queue", "mail", "--payload", `{"kind":"report"}`)
	s.must("create-ticker", "pulse", "--period", "90s", "--paused")
	later := moment.Add(95 * time.Second)
	s.now = later
	clock.Store(&later)
	return s
}

func TestOutput(t *testing.T) {
	s := world(t)
	for name, args := range map[string][]string{
		"namespaces": {"namespaces"}, "queues": {"queues"}, "queue": {"queue", "mail"}, "tasks": {"tasks"}, "task": {"task", "1"},
		"tickers": {"tickers"}, "ticker": {"ticker", "nightly"}, "workers": {"workers"}, "stats": {"stats"}, "preview": {"preview-ticker", "nightly", "-N", "2"},
		"none": {"tasks", "--queue", "sms"}, "not-found": {"task", "99"},
	} {
		for kind, terminal := range map[string]bool{"terminal": true, "piped": false} {
			t.Run(name+" "+kind, func(t *testing.T) {
				code, out, errOut := s.run(terminal, "", args...)
				golden(t, name+"."+kind+".txt", fmt.Sprintf("$ pgqueue %s\n%s--- stderr\n%s--- exit code %d\n", strings.Join(args, " "), out, errOut, code))
			})
		}
	}
	for _, format := range []string{"wide", "yaml", "ndjson"} {
		t.Run("-o "+format, func(t *testing.T) {
			golden(t, "tasks."+format+".txt", s.must("tasks", "-o", format))
		})
	}
	t.Run("colours only where they are welcome", func(t *testing.T) {
		if _, out, _ := s.run(true, "", "tasks"); !strings.Contains(out, "\x1b[") {
			t.Error("no colours on a terminal")
		}
		if _, out, _ := s.run(false, "", "tasks", "-o", "table"); strings.Contains(out, "\x1b[") {
			t.Error("colours in a pipe")
		}
	})
	t.Run("a payload cannot move the cursor", func(t *testing.T) {
		s.must("create-task", "mail", "--payload", `"\u001b[2J"`, "--key", "esc")
		s.must("create-task", "mail", "--payload", "\"\x7f\u009b2J\"", "--key", "csi")
		_, out, _ := s.run(true, "", "tasks", "-o", "wide")
		if strings.ContainsAny(out, "\x7f\u009b") || strings.Contains(out, "\x1b[2J") {
			t.Errorf("%q", out)
		}
	})
	t.Run("jq keeps large numbers exact and writes texts as they are", func(t *testing.T) {
		if out := s.must("task", "2", "--jq", ".payload.n, .queue"); out != "12345678901234567890\nmail\n" {
			t.Error(out)
		}
	})
}

func TestExitCodes(t *testing.T) {
	url := startServer(t)
	s := newShell(t, url)
	s.must("create-queue", "mail")
	s.must("create-task", "mail", "--key", "a")
	other := httptest.NewServer(http.NotFoundHandler()) // is not pgqueue's
	defer other.Close()
	lost := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // a proxy without its server
		http.Error(w, "bad gateway", http.StatusBadGateway)
	}))
	defer lost.Close()
	type want struct {
		code int
		says string
	}
	for line, w := range map[string]want{
		"queues":                               {0, ""},
		"create-queue mail":                    {4, "mail"},
		"create-queue 9x":                      {2, "letter"},
		"create-queue":                         {2, "must have a queue's name"},
		"queue a b":                            {2, `unexpected argument "b"`},
		"queue nix":                            {3, "no such queue"},
		"task 99":                              {3, "no such task"},
		"why 99":                               {3, "no such task"},
		"task why 99":                          {3, "no such task"},
		"why --queue nix":                      {3, "no such queue"},
		"history nix":                          {3, "no such queue"},
		"history nix --step day":               {2, "must be minute or hour"},
		"upcoming-ticks --limit 1001":          {2, "must be a number from 1 to 1000"},
		"upcoming-ticks mail":                  {2, "unexpected argument"},
		"failures nix":                         {3, "no such queue"},
		"failures":                             {2, "a queue's name"},
		"why":                                  {2, "must be a task id or --queue, got none"},
		"why 1 --queue a":                      {2, "got both"},
		"tasks --text ann":                     {2, "name the queue"},
		"task x":                               {2, "task id: must be a number above 0"},
		"tasks --statsu x":                     {2, "did you mean --status?"},
		"tasks --status lost":                  {2, "must be new, retry"},
		"taskss":                               {2, "did you mean tasks?"},
		"enqueue mail":                         {2, "did you mean create-task?"},
		"frobnicate":                           {2, "see pgqueue --help"},
		"config veiw":                          {2, "did you mean pgqueue config view?"},
		"migrate sideways":                     {2, "see pgqueue migrate --help"},
		"task lst":                             {2, "did you mean pgqueue task list?"},
		"tasks mail":                           {2, `unexpected argument "mail"; did you mean --queue mail?`},
		`create-task mail {"a":1}`:             {2, `did you mean --payload '{"a":1}'?`},
		"complete-task 1 2":                    {2, "did you mean --result 2?"},
		"queues --json":                        {2, "did you mean --output json?"},
		"run --port 80":                        {2, "did you mean --addr?"},
		"queues --port 80":                     {2, "see pgqueue queues --help"},
		"describe":                             {2, "did you mean task?"},
		"get":                                  {2, "did you mean tasks?"},
		"task ls":                              {0, ""},
		"queue get mail":                       {0, ""},
		"queue rm nix":                         {3, "no such queue"},
		"tasks --limit x":                      {2, `--limit: must be a whole number, got "x"`},
		"tasks --limit 99999999999999999999":   {2, "must fit 64 bits"},
		"create-task mail --priority 40000":    {2, `--priority: must fit 16 bits, got "40000"`},
		"tasks --limit 0":                      {2, `--limit: must be a whole number of 1 or more, got "0"`},
		"retain-task --worker w --limit 0":     {2, `--limit: must be a whole number of 1 or more, got "0"`},
		"ticker-history t --limit -1":          {2, ""},
		"stats --config /nonexistent/c.yaml":   {2, `--config: must be a file that exists, got "/nonexistent/c.yaml"`},
		"tasks --limit":                        {2, "--limit: must have a value"},
		"tasks --timeout soon":                 {2, "must be a duration from 0"},
		"queue pause":                          {2, "arguments: must have a queue's name, got 0; see pgqueue queue pause --help"},
		"tasks -o xml":                         {2, "table, wide, json"},
		"tasks --jq .[":                        {2, "--jq"},
		"create-task mail --payload {":         {2, "payload"},
		"create-task mail --payload hello":     {2, "quotes"},
		"create-task mail --payload @missing":  {2, "missing"},
		"create-task mail --delay 5":           {2, "unit"},
		"create-task mail --header x":          {2, "NAME=VALUE"},
		"create-task nix":                      {3, "no such queue"},
		"create-task mail --key a --payload 1": {4, "key"},
		"retain-task mail":                     {2, "--worker: must be the name"},
		"complete-task 1":                      {4, ""},
		"complete-task 1 --permanent":          {2, "--error"},
		"update-queue mail":                    {2, "must be at least one"},
		"delete-task":                          {2, "filter"},
		"delete-task 1 --queue mail":           {2, "got both"},
		"retry-task 1":                         {4, "new"},
		"queues --url http://127.0.0.1:1/api":  {5, "pgqueue run"},
		"queues --url nonsense":                {2, "url"},
		"queues --url " + strings.TrimSuffix(url, "/api"):          {2, "is not the URL of the server's API"},
		"queues --url " + lost.URL:                                 {5, "try again in a while"},
		"create-queue a --url " + lost.URL:                         {1, "check the state before a repeat"},
		"queues --url " + other.URL:                                {1, "is this the URL of its API?"},
		"queues --protocol connect --url " + other.URL:             {2, "HTTP/2"},
		"queues --protocol connect --url " + url + "/api":          {1, "is this the URL of its root?"},
		"queues --protocol soap":                                   {2, "rest or connect"},
		"queues --context prod":                                    {3, "set-context"},
		"import /does/not/exist":                                   {2, "no such file"},
		"import /":                                                 {2, "got the folder"},
		"import - --on-error ignore":                               {2, "stop or skip"},
		"import - --payloads":                                      {2, "--queue"},
		"import - --label a --no-keys":                             {2, "must not come with"},
		"import - --batch 0":                                       {2, "--batch"},
		"bench --tasks 0":                                          {2, "--tasks"},
		"stats --watch --every 1ms":                                {2, "at least 100ms"},
		"create-task mail --delayed-at soon":                       {2, "must be a time, got \"soon\""},
		"complete-task 1 --error 1 --result 2":                     {2, "must not come with"},
		"heartbeat-task 1":                                         {2, "--token: must be the token"},
		"migrate sql sideways":                                     {2, "up, down"},
		"run mysql://h/d":                                          {2, "unknown scheme"},
		"run postgres://127.0.0.1:1/x --wait 0 --addr 127.0.0.1:0": {5, "127.0.0.1"},
		"migrate down postgres://127.0.0.1:1/x":                    {5, ""},
		"migrate up":                                               {2, "PGQUEUE_DATABASE_URL"},
		"migrate up --data-dir /does/not/exist":                    {2, "pgqueue: --data-dir: must be the folder of a running pgqueue run, got \"/does/not/exist\""},
		"doctor --data-dir /does/not/exist":                        {2, "no PostgreSQL runs there; start it, or give --database-url"},
		"doctor postgres://h/d --data-dir /x":                      {2, "must not come with"},
		"completion tcsh":                                          {2, "bash, zsh, fish"},
		"create-ticker t":                                          {2, "--period, --cron: must be one of them"},
		"create-ticker t --cron nonsense":                          {2, "cron"},
		"create-ticker next --period 1h":                           {2, "reserved"},
	} {
		t.Run(line, func(t *testing.T) {
			code, out, errOut := s.run(false, "", strings.Fields(line)...)
			if code != w.code || !strings.Contains(errOut, w.says) {
				t.Errorf("exit code %d, want %d; stderr %q should say %q; stdout %q", code, w.code, errOut, w.says, out)
			}
			if code != 0 && !strings.HasPrefix(errOut, "pgqueue: ") {
				t.Errorf("stderr %q", errOut)
			}
			if code != 0 && strings.Count(errOut, "\n") != 1 {
				t.Errorf("not one line: %q", errOut)
			}
		})
	}
	t.Run("lease lost", func(t *testing.T) {
		s.must("retain-task", "mail", "--worker", "w1")
		if code, _, errOut := s.run(false, "", "complete-task", "1", "--token", "999999"); code != 4 || !strings.Contains(errOut, "pgqueue task") {
			t.Error(code, errOut)
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		if code, out, _ := s.run(false, "", "retain-task", "mail", "--worker", "w1"); code != 3 || out != "" {
			t.Error(code, out)
		}
		if code, out, _ := s.run(false, "", "retain-task", "mail", "--worker", "w1", "--limit", "5"); code != 3 || out != `{"count":0,"body":[]}`+"\n" {
			t.Error(code, out)
		}
	})
}

// TestRunHearsSignals holds that the end of the context, which comes with a signal, does not act as a second signal on a server.
func TestRunHearsSignals(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	streams, _, _ := iostreams.Test("")
	f := &factory.Factory{IO: streams, Version: "test", Now: time.Now, Lookup: func(string) (string, bool) { return "", false }}
	// It tries to reach its database all the same, and reports that it did not.
	if code := Run(ended, f, strings.Fields("run postgres://127.0.0.1:1/x --wait 0 --addr 127.0.0.1:0")); code != program.ExitUnreachable {
		t.Error("exit code", code)
	}
}

// TestFields pins the names of JSON: scripts are built on them.
func TestFields(t *testing.T) {
	s := world(t)
	for name, want := range map[string]string{
		"queue mail": "backoff concurrency created_at events fair fifo_batch group_concurrency group_on_failure group_policies group_rate_burst group_rate_limit " +
			"group_rate_period lease max_lease_losses max_waiting namespace order paused queue rate_burst rate_limit rate_period retries retry_delay retry_max_delay ttl updated_at version",
		"task 1":         "attempt created_at delayed_at dies_at errors headers id key namespace payload priority queue result retries started_at status worker",
		"ticker nightly": "anchor created_at cron misfire misfire_limit namespace next_at overlap paused payload queue ticker timezone updated_at version",
		"stats mail":     "concurrency counts created_per_second delayed finished_per_second group_waiting namespace oldest_ready_age paused queue ready starts_per_second",
		"workers":        "body count",
		"version":        "arch go os version",
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.TrimSpace(s.must(append(strings.Fields(name), "--jq", `keys | join(" ")`)...))
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	t.Run("a worker", func(t *testing.T) {
		if got := s.must("workers", "--jq", `.body[0] | keys | join(" ")`); got != "expires_at held queues since worker\n" {
			t.Error(got)
		}
	})
}

func TestConfig(t *testing.T) {
	s := newShell(t, startServer(t))
	url := s.env["PGQUEUE_URL"]
	delete(s.env, "PGQUEUE_URL")
	s.must("config", "set-context", "prod", "--url", strings.Replace(url, "http://", "http://bob:secret@", 1), "--namespace", "shop")
	s.must("config", "set-context", "dev", "--url", "http://127.0.0.1:1/api")
	// No command writes a token itself into the file; its owner may.
	path := filepath.Join(s.env["HOME"], ".config", "pgqueue", "config.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), "url: http://127.0.0.1:1/api", "url: http://127.0.0.1:1/api\n        token: hush", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("the first context is in use", func(t *testing.T) {
		if ns := s.must("create-queue", "mail", "--jq", ".namespace"); ns != "shop\n" {
			t.Error(ns)
		}
	})
	t.Run("environment is stronger than the file, and a flag than both", func(t *testing.T) {
		s.env["PGQUEUE_NAMESPACE"] = "other"
		defer delete(s.env, "PGQUEUE_NAMESPACE")
		if ns := s.must("create-queue", "mail", "--jq", ".namespace"); ns != "other\n" {
			t.Error(ns)
		}
		if ns := s.must("create-queue", "mail", "--jq", ".namespace", "-n", "third"); ns != "third\n" {
			t.Error(ns)
		}
	})
	t.Run("secrets are never shown", func(t *testing.T) {
		for _, args := range [][]string{{"config", "view"}, {"config", "view", "-o", "json"}, {"config", "get-contexts"}} {
			if out := s.must(args...); strings.Contains(out, "secret") || strings.Contains(out, "hush") || !strings.Contains(out, "bob") {
				t.Error(out)
			}
		}
	})
	t.Run("nor in what is said of a server that is not there", func(t *testing.T) {
		for _, protocol := range []string{"rest", "connect"} {
			s.env["PGQUEUE_AUTH_TOKEN"] = "hush"
			code, out, errOut := s.run(false, "", "queues", "--protocol", protocol, "--url", "http://bob:secret@127.0.0.1:1/api")
			delete(s.env, "PGQUEUE_AUTH_TOKEN")
			if code != 5 || strings.Contains(out+errOut, "secret") || strings.Contains(out+errOut, "hush") {
				t.Errorf("exit code %d: %s%s", code, out, errOut)
			}
		}
	})
	t.Run("the file is for its owner alone", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(s.env["HOME"], ".config", "pgqueue", "config.yaml"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info.Mode(), err)
		}
	})
	t.Run("another context is used", func(t *testing.T) {
		if code, _, errOut := s.run(false, "", "queues", "--context", "dev"); code != 5 {
			t.Error(code, errOut)
		}
		s.must("config", "use-context", "dev")
		if code, _, errOut := s.run(false, "", "queues"); code != 5 {
			t.Error(code, errOut)
		}
	})
}

func TestProtocols(t *testing.T) {
	url := startServer(t)
	for _, protocol := range []string{"rest", "connect"} {
		t.Run("the commands are the same over "+protocol, func(t *testing.T) {
			s := newShell(t, url)
			s.env["PGQUEUE_PROTOCOL"], s.env["PGQUEUE_NAMESPACE"] = protocol, "by-"+protocol
			s.must("create-queue", "mail")
			id := strings.TrimSpace(s.must("create-task", "mail", "--payload", `{"a":1}`, "--jq", ".id"))
			token := strings.TrimSpace(s.must("retain-task", "mail", "--worker", "w", "--jq", ".lease.token"))
			s.must("heartbeat-task", id, "--token", token, "--progress", "1")
			if got := s.must("complete-task", id, "--token", token, "--result", "2", "--jq", "[.status, .result] | @csv"); got != "\"released\",2\n" {
				t.Error(got)
			}
			if code, _, _ := s.run(false, "", "complete-task", id, "--token", token+"1"); code != 4 {
				t.Error("a wrong token:", code)
			}
			if got := s.must("tasks", "--jq", ".count"); got != "1\n" {
				t.Error(got)
			}
			if got := s.must("events", "--follow=false", "--jq", ".kind"); got != "created\nretained\nprogress\nreleased\n" {
				t.Error(got)
			}
		})
	}
	shop := newShell(t, startServerIn(t, "shop"))
	for _, protocol := range []string{"rest", "connect"} {
		t.Run("without --namespace it is the server's over "+protocol, func(t *testing.T) {
			shop.env["PGQUEUE_PROTOCOL"] = protocol
			shop.must("create-queue", "by-"+protocol)
			if got := shop.must("queue", "by-"+protocol, "--jq", ".namespace"); got != "shop\n" {
				t.Error(got)
			}
			if got := shop.must("queues", "-n", "default", "--jq", ".count"); got != "0\n" {
				t.Error(got)
			}
		})
	}
	t.Run("a path in the URL is kept over both", func(t *testing.T) {
		target, err := neturl.Parse(strings.TrimSuffix(url, "/api"))
		if err != nil {
			t.Fatal(err)
		}
		proxy := httptest.NewUnstartedServer(http.StripPrefix("/team/queue", httputil.NewSingleHostReverseProxy(target)))
		proxy.Config.Protocols = new(http.Protocols)
		proxy.Config.Protocols.SetHTTP1(true)
		proxy.Config.Protocols.SetUnencryptedHTTP2(true)
		proxy.Start()
		defer proxy.Close()
		s := newShell(t, "")
		for base, protocols := range map[string][]string{"/team/queue/api": {"rest", "connect"}, "/team/queue/api/": {"rest", "connect"}, "/team/queue": {"connect"}} {
			for _, protocol := range protocols {
				if got := s.must("namespaces", "--jq", ".body[0]", "--protocol", protocol, "--url", proxy.URL+base); got != "by-connect\n" {
					t.Errorf("%s over %s: %s", base, protocol, got)
				}
			}
		}
	})
}

// TestToken looks at what a server is sent.
func TestToken(t *testing.T) {
	var got atomic.Pointer[string]
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		got.Store(&token)
		http.Error(w, "no", http.StatusForbidden)
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	for _, protocol := range []string{"rest", "connect"} {
		t.Run(protocol, func(t *testing.T) {
			s := newShell(t, srv.URL+"/api")
			s.env["PGQUEUE_AUTH_TOKEN"], s.env["PGQUEUE_PROTOCOL"] = "hush", protocol
			code, out, errOut := s.run(false, "", "queues")
			if token := got.Swap(nil); token == nil || *token != "Bearer hush" {
				t.Errorf("the server was sent %v: %s", token, errOut)
			}
			if code != 1 || strings.Contains(out+errOut, "hush") {
				t.Errorf("exit code %d: %s %s", code, out, errOut)
			}
		})
	}
}

// remember keeps what the last command wrote as a variable. apps/e2e plays the scripts too, and has it as well.
func remember(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"remember": remember},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PGQUEUE_URL", startServer(env.T().(testing.TB)))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

func TestTasksInPieces(t *testing.T) {
	// A service with pages by worker that come in pieces, and that ends its counts.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		next := map[string]string{
			"":  `{"count":1,"at_least":true,"body":[{"id":9}],"next":"a"}`,
			"a": `{"count":1,"at_least":true,"body":[],"next":"b"}`,
			"b": `{"count":1,"at_least":true,"body":[{"id":2}]}`,
		}
		fmt.Fprintln(w, next[r.URL.Query().Get("cursor")])
	}))
	defer srv.Close()
	s := newShell(t, srv.URL)
	for want, args := range map[string][]string{
		`[2,false,[9,2],null]`: {"tasks", "--worker", "w", "--jq", "[.count, .at_least // false, [.body[].id], .next]"},
		`[1,true,[9],"a"]`:     {"tasks", "--worker", "w", "--limit", "1", "--jq", "[.count, .at_least // false, [.body[].id], .next]"},
	} {
		if code, out, errs := s.run(false, "", args...); code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("%v: %d, %s %s, want %s", args, code, out, errs, want)
		}
	}
	if _, _, errs := s.run(true, "", "tasks", "--worker", "w", "--limit", "1"); !strings.Contains(errs, "1 of at least 1; the next page: --cursor a") {
		t.Error(errs)
	}
}

func TestBadTickers(t *testing.T) {
	s := world(t)
	for _, c := range []struct {
		says string
		args []string
	}{
		{"must not come with cron", []string{"--period", "1h", "--cron", "@daily"}},
		{"100ms", []string{"--period", "99ms"}},
		{"period", []string{"--period", "-1h"}},
		{"Mars/Olympus", []string{"--cron", "@daily", "--timezone", "Mars/Olympus"}},
		{"must fire at some time", []string{"--cron", "0 0 30 2 *"}},
		{"cron", []string{"--cron", strings.Repeat("0,", 5000) + "0 * * * *"}},
		{"timezone", []string{"--cron", "TZ=UTC 0 0 * * *"}},
		{"timezone", []string{"--cron", "CRON_TZ=UTC 0 0 * * *"}},
	} {
		code, _, errs := s.run(false, "", append([]string{"create-ticker", "bad"}, c.args...)...)
		if code != 2 || !strings.Contains(errs, c.says) || len(errs) > 1000 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%.60q: exit code %d, stderr should say %q: %.300q", c.args, code, c.says, errs)
		}
	}
	if code, _, errs := s.run(false, "", "ticker", "bad"); code != 3 {
		t.Error(code, errs)
	}
}
