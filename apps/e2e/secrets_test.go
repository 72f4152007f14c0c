package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
)

// outputs are the texts that programs wrote, by the command line without its secrets.
type outputs map[string]string

// runAs runs a program to its end, at most 10 s long, and keeps its output. keepOut is false for a command that shows a secret
// on its standard output by design.
func (o outputs) runAs(t *testing.T, keepOut bool, env []string, line ...string) (stdout string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs(t), line[0]), line[1:]...)
	cmd.Env = append(append(os.Environ(), "NO_COLOR=1"), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	_ = cmd.Run() // the state has the result
	name := fmt.Sprintf("%d: %s %s", len(o), line[0], line[min(1, len(line)-1)])
	o[name+", stderr"] = stderr.String()
	if keepOut {
		o[name+", stdout"] = out.String()
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// findForm returns the form in which text has secret: plain, in a URL, in hex, or in base64 at any offset; "" for none.
func findForm(text, secret string) string {
	forms := map[string]string{"plain": secret, "a URL": url.QueryEscape(secret), "hex": hex.EncodeToString([]byte(secret))}
	for offset := range 3 {
		// The first and the last letters depend on the bytes around.
		form := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + secret))
		forms[fmt.Sprint("base64 at offset ", offset)] = form[4*min(offset, 1) : len(form)-4]
	}
	for name, form := range forms {
		if strings.Contains(text, form) {
			return name
		}
	}
	return ""
}

// TestSecretsStayOutOfTheOutputOfPrograms runs a server, workers and commands with good and bad secrets, in each place where
// they belong and in places of a slip, and searches everything that the programs wrote. Only create-token, rotate-token,
// generate-token and dashboard show a secret, on standard output.
func TestSecretsStayOutOfTheOutputOfPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	isFull := os.Getenv("PGQUEUE_TEST_FULL") != ""
	dsn := postgrestest.URL(t)
	secrets := map[string]string{
		"the admin token": access.NewSecret().Reveal(), "the worker's token": access.NewSecret().Reveal(), "an unknown token": access.NewSecret().Reveal(),
		"a password of the database": "PasswordOfTheDatabase0123456789", "a password of a proxy": "PasswordOfTheProxy0123456789",
		"the secret of webhooks": "whsec_" + base64.StdEncoding.EncodeToString([]byte("SecretOfTheWebhooks0123456789abc")),
		"a header of webhooks":   "HeaderOfTheWebhooks0123456789", "the secret of the client": "SecretOfTheClient0123456789",
	}
	admin, worker, unknown := secrets["the admin token"], secrets["the worker's token"], secrets["an unknown token"]
	badChecksum, garbage := spoilChecksum(unknown), unknown[:len(unknown)-1]+"~"
	wrote := outputs{}

	rules := writeSecret(t, "rules: []")
	s := startServer(t, nil, []string{"PGQUEUE_OIDC_CLIENT_SECRET=" + secrets["the secret of the client"]}, "pgqueue-server", dsn, "--log-level", "debug",
		"--admin-token-file", writeSecret(t, admin, worker+" worker@default"),
		"--access-file", rules, "--oidc-issuer", "https://127.0.0.1:1", "--oidc-client-id", "pgqueue")
	api := "http://" + s.addr + "/api"
	asAdmin := []string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN=" + admin}
	must := func(keepOut bool, line ...string) string {
		t.Helper()
		out, code := wrote.runAs(t, keepOut, asAdmin, append([]string{"pgqueue"}, line...)...)
		if code != 0 {
			t.Fatalf("pgqueue %s: exit code %d: %v", line[0], code, wrote)
		}
		return strings.TrimSpace(out)
	}

	// The work of a day.
	must(true, "create-queue", "mail")
	must(true, "create-task", "mail", "--payload", "1")
	issued := must(false, "create-token", "a", "--grant", "admin@default", "--jq", ".token")
	id := issued[len("pgq_") : len("pgq_")+8]
	secrets["a created token"] = issued
	secrets["a rotated token"] = must(false, "rotate-token", id, "--jq", ".token")
	secrets["a generated token"] = must(false, "generate-token")
	link := must(false, "dashboard", "--no-open", "--jq", ".url")
	_, code, _ := strings.Cut(link, "#code=")
	secrets["the code of the dashboard"] = code
	secrets["a session"] = openSession(t, s.addr, code)
	must(true, "revoke-token", id)
	forms := []string{"table", "wide", "json", "yaml"}
	for i, command := range []string{"audit", "sessions", "tokens", "whoami", "queues", "workers", "tasks"} {
		for j, form := range forms {
			// Without PGQUEUE_TEST_FULL the first commands print one form each.
			if isFull || i == j {
				must(true, command, "-o", form)
			}
		}
	}
	for _, line := range [][]string{{"doctor", dsn}, {"tasks", "--queue", admin}, {"audit", "--principal", admin}} {
		wrote.runAs(t, true, asAdmin, append([]string{"pgqueue"}, line...)...) // some fail, which does not matter here
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	must(true, "config", "set-context", "prod", "--url", "http://user:"+secrets["a password of a proxy"]+"@"+s.addr+"/api", "--config", config)
	for _, form := range []string{"json", "yaml"} {
		must(true, "config", "view", "--config", config, "-o", form)
	}

	// A worker of each way, which works the task or finds nothing.
	for i, way := range ways {
		for j, token := range []string{worker, unknown} {
			if !isFull && i != j {
				continue
			}
			tokenFile := writeSecret(t, token)
			wrote.runWorker(t, []string{"PGQUEUE_WORKER_SECRET=" + secrets["the secret of webhooks"]}, "--url", api, "--protocol", way, "--auth-token-file", tokenFile,
				"--queue", "mail", "--http", "http://user:"+secrets["a password of a proxy"]+"@127.0.0.1:1/", "--allow-private", "--header", "Authorization: Bearer "+secrets["a header of webhooks"])
		}
	}

	// Slips: secrets in the wrong place, wrong ones in the right place, and targets that do not answer.
	badURL := "postgres://app:" + secrets["a password of the database"] + "@127.0.0.1:1/app"
	proxied := "http://user:" + secrets["a password of a proxy"] + "@127.0.0.1:1/api"
	for _, c := range []struct {
		env  []string
		line []string
	}{
		{asAdmin, []string{"pgqueue", "revoke-token", admin}},
		{asAdmin, []string{"pgqueue", "rotate-token", issued}},
		{asAdmin, []string{"pgqueue", "end-session", secrets["a session"]}},
		{asAdmin, []string{"pgqueue", "queue", admin}},
		{asAdmin, []string{"pgqueue", "create-task", admin}},
		{asAdmin, []string{"pgqueue", "queues", "--auth-token", admin}},
		{asAdmin, []string{"pgqueue", "queues", "--auth-token=" + admin}},
		{asAdmin, []string{"pgqueue", "can", admin}},
		{asAdmin, []string{"pgqueue", "create-token", "x", "--grant", admin}},
		{asAdmin, []string{"pgqueue", "create-task", "mail", "-n", admin}},
		{asAdmin, []string{"pgqueue", admin}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN=" + unknown}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN=" + badChecksum}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN=" + badChecksum, "PGQUEUE_PROTOCOL=connect"}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN=" + garbage}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN=" + admin + " " + unknown}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN=" + unknown, "PGQUEUE_PROTOCOL=connect"}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN_FILE=" + writeSecret(t, admin, unknown)}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + api, "PGQUEUE_AUTH_TOKEN_FILE=" + admin}, []string{"pgqueue", "queues"}},
		{[]string{"PGQUEUE_URL=" + proxied, "PGQUEUE_AUTH_TOKEN=" + admin}, []string{"pgqueue", "queues", "--timeout", "100ms"}},
		{[]string{"PGQUEUE_URL=" + proxied, "PGQUEUE_PROTOCOL=connect", "PGQUEUE_AUTH_TOKEN=" + admin}, []string{"pgqueue", "queues", "--timeout", "100ms"}},
		{nil, []string{"pgqueue", "queues", "--url", badURL}},
		{nil, []string{"pgqueue", "create-token", "x", "--grant", "system@*", "--database-url", badURL, "--wait", "0"}},
		{nil, []string{"pgqueue", "doctor", badURL, "--wait", "0"}},
		{nil, []string{"pgqueue", "migrate", "up", badURL, "--wait", "0"}},
		{nil, []string{"pgqueue", "migrate", "up", badURL + "?sslmode=never"}},
		{nil, []string{"pgqueue-server", badURL, "--addr", "127.0.0.1:0", "--wait", "0"}},
		{nil, []string{"pgqueue-server", dsn, "--addr", "127.0.0.1:0", "--admin-token", admin}},
		{[]string{"PGQUEUE_ADMIN_TOKEN=" + garbage}, []string{"pgqueue-server", dsn, "--addr", "0.0.0.0:0"}}, // such a token needs no checksum
		{nil, []string{"pgqueue-server", dsn, "--addr", "0.0.0.0:0", "--admin-token-file", writeSecret(t, admin+" root@*")}},
		{nil, []string{"pgqueue-worker", "--queue", "mail", "--exec", "true", "--database-url", badURL, "--wait", "0"}},
		{nil, []string{"pgqueue-worker", "--queue", "mail", "--exec", "true", "--url", proxied, "--auth-token", admin}},
		{nil, []string{"pgqueue-worker", "--queue", "mail", "--http", "http://127.0.0.1:1", "--secret", secrets["the secret of webhooks"] + "~", "--url", api}},
		{nil, []string{"pgqueue-worker", "--queue", "mail", "--http", "http://127.0.0.1:1", "--header", "Authorization Bearer " + secrets["a header of webhooks"], "--url", api}},
	} {
		if _, code := wrote.runAs(t, true, c.env, c.line...); code == 0 {
			t.Errorf("%v does not fail", c.line)
		}
	}

	// Our programs send tokens alone; another client sends any text.
	if status, _ := getAs(t, api+"/queue", garbage); status != http.StatusUnauthorized {
		t.Errorf("garbage gets %d", status)
	}

	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	s.ends()
	wrote["the server, stderr"] = s.log.String()
	for _, reason := range []string{"must have the checksum of its letters", "must have the form of a token"} {
		if !strings.Contains(wrote["the server, stderr"], reason) {
			t.Errorf("the server refuses no token since it %s", reason)
		}
	}
	if !strings.Contains(wrote["the server, stderr"], `"level":"DEBUG"`) || len(wrote) < 70 {
		t.Fatalf("%d texts and the log are too few for a proof", len(wrote))
	}
	for name, secret := range secrets {
		private := secret
		if rest, ok := strings.CutPrefix(secret, "pg"); ok && len(secret) == len(admin) {
			private = rest[len("q_12345678_"):][:32] // without the checksum, which some of them miss
		}
		for where, text := range wrote {
			if form := findForm(text, private); form != "" {
				at := max(strings.Index(text, private)-100, 0)
				t.Errorf("%s is in the output of %s as %s: %.250q", name, where, form, text[at:])
			}
		}
	}
}

// spoilChecksum returns a secret with another last letter, which has the form of a secret and a wrong checksum.
func spoilChecksum(secret string) string {
	letter := "0"
	if strings.HasSuffix(secret, letter) {
		letter = "1"
	}
	return secret[:len(secret)-1] + letter
}

// runWorker runs a worker program at the debug level until it has made some calls, and keeps its output.
func (o outputs) runWorker(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs(t), "pgqueue-worker"), append(args, "--log-level", "debug", "--log-format", "json")...)
	cmd.Env = append(os.Environ(), env...)
	var log syncBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the log has what it says
	}()
	for over := time.Now().Add(time.Minute); strings.Count(log.String(), "\n") < 2 && time.Now().Before(over); {
		time.Sleep(5 * time.Millisecond)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	<-ended
	o[fmt.Sprintf("%d: worker", len(o))] = log.String()
}

// openSession opens a session by a code and returns its secret.
func openSession(t *testing.T, addr, code string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+addr+"/api/session", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusCreated || len(resp.Cookies()) != 1 {
		t.Fatalf("the sign-in: %d %s %v", resp.StatusCode, text, err)
	}
	return resp.Cookies()[0].Value
}
