//go:build linux

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// hostilePayload has everything that a careless page would change or run.
const hostilePayload = `{"html":"<script>window.hacked=1</script>","img":"<img src=x onerror=window.hacked=1>","big":9223372036854775807,` +
	`"exact":12345678901234567890.000,"huge":1e400,"__proto__":{"polluted":true},"rtl":"\u202eabc","mark":"` + "\u202e" + `abc","zero":"\u0000",` +
	`"twice":1,"twice":2,"deep":[[[[[[[[]]]]]]]]}`

const hostileWorker = "<img src=x onerror=window.hacked=1>"

// dashboardInput is what walk.mjs gets.
type dashboardInput struct {
	Open       string            `json:"open"`
	Closed     string            `json:"closed"`
	Proxy      string            `json:"proxy"`
	Issuer     string            `json:"issuer"`
	Chromium   string            `json:"chromium"`
	Payload    string            `json:"payload"`
	Failed     int               `json:"failed"`
	IDs        map[string]int64  `json:"ids"`
	Tokens     map[string]string `json:"tokens"`
	Full       bool              `json:"full"`
	Screenshot string            `json:"screenshot,omitempty"`
}

// TestDashboard walks through the dashboard in Chromium: each screen in light and dark, wide and narrow, without a finding of
// axe, a breach of the policy, an error in the console or a request to another origin; then the actions of an operator.
// PGQUEUE_TEST_FULL shows every screen in every look. PGQUEUE_TEST_SCREENSHOT names a file for the picture of the README.
func TestDashboard(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	tools := queuetest.FindTools(t, "chromium", "npm", "nginx")
	chromium, npm, nginx := tools[0], tools[1], tools[2]
	modules := nodeModules(t, npm, "dashboard")
	dsn := postgrestest.Empty(t)
	address := closedPort(t)
	open := startNodeAt(t, dsn, "--addr", address, "--auth", "off")
	issuer := oidctest.Start(t)
	rules := filepath.Join(t.TempDir(), "access.yaml")
	writeText(t, rules, fmt.Sprintf("issuers:\n  - {issuer: %[1]s, audience: machines}\nrules:\n  - {issuer: %[1]s, claim: groups, is: sre, grant: [operator@shop]}\n", issuer.URL()))
	secret := filepath.Join(t.TempDir(), "secret")
	writeText(t, secret, "s3cret")
	closed := startNodeAt(t, dsn, "--auth", "on", "--prefix", "/kept/api", "--ui-path", "/kept/ui", "--background=false",
		"--access-file", rules, "--oidc-issuer", issuer.URL(), "--oidc-client-id", "pgqueue", "--oidc-client-secret-file", secret)
	issuer.SetClient(oidctest.Client{ID: "pgqueue", Secret: "s3cret", RedirectURI: closed.url + "/session/oidc/callback"})
	issuer.SetUser(map[string]any{"sub": "ann", "name": "Ann <Lee>", "groups": []string{"sre"}})

	in := seedDashboard(t, open.url, closed.url)
	in.Open, in.Closed, in.Chromium, in.Payload = strings.TrimSuffix(open.url, "/api"), strings.TrimSuffix(closed.url, "/api"), chromium, hostilePayload
	in.Issuer = issuer.URL()
	in.Proxy = startProxy(t, nginx, in.Open, in.Closed)
	in.Full = os.Getenv("PGQUEUE_TEST_FULL") != ""
	if file := os.Getenv("PGQUEUE_TEST_SCREENSHOT"); file != "" {
		path, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		in.Screenshot = path
	}

	walk(t, modules, "walk.mjs", in, map[string]func() string{
		"kill": func() string {
			_ = open.cmd.Process.Kill() // fails when it has ended
			_ = open.cmd.Wait()         // the state has the result
			return ""
		},
		"start": func() string {
			open = startNodeAt(t, dsn, "--addr", address, "--auth", "off")
			return ""
		},
		"create": func() string {
			callAPI(t, "POST", open.url+"/task", "", `{"queue":"webhooks"}`)
			return ""
		},
		"refuse": func() string {
			issuer.SetUser(nil)
			return ""
		},
		// The command finds the path of the dashboard by itself.
		"link": func() string {
			cmd := exec.CommandContext(t.Context(), filepath.Join(programs(t), "pgqueue"), "dashboard", "--no-open", "--jq", ".url", "--url", closed.url)
			cmd.Env = append(os.Environ(), "PGQUEUE_AUTH_TOKEN="+in.Tokens["operator"])
			out, err := cmd.Output()
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSpace(string(out))
		},
		"code": func() string {
			code, _ := callAPI(t, "POST", closed.url+"/session/code", in.Tokens["operator"], "")["code"].(string)
			return code
		},
	})
}

// TestTypesOfTheDashboard checks the types of its sources, which the bundler ignores.
func TestTypesOfTheDashboard(t *testing.T) {
	modules := nodeModules(t, findNpm(t), "dashboard")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "transport", "web", "ui"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, filepath.Join(modules, ".bin", "tsc"), "-p", ".")
}

// callAPI sends a request in the namespace shop and returns the answer, which must be a success.
func callAPI(t *testing.T, method, address, token, body string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Pgqueue-Namespace", "shop")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s %s: got %d %s", method, address, res.StatusCode, text)
	}
	answer := map[string]any{}
	if len(text) > 0 {
		// A number of the hostile payload is too large for a float64.
		numbers := json.NewDecoder(bytes.NewReader(text))
		numbers.UseNumber()
		if err := numbers.Decode(&answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer
}

func readInteger(t *testing.T, value any) int64 {
	t.Helper()
	number, _ := value.(json.Number)
	n, err := number.Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// seedDashboard fills the namespace shop with tasks in every status, and makes tokens.
// The first token closes; the others need it.
func seedDashboard(t *testing.T, api, closed string) dashboardInput {
	t.Helper()
	call := func(method, path, body string) map[string]any { return callAPI(t, method, api+path, "", body) }
	for _, body := range []string{
		`{"queue":"mail","retries":0,"concurrency":20}`, `{"queue":"orders","retries":0}`, `{"queue":"reports","concurrency":2}`,
		`{"queue":"thumbs"}`, `{"queue":"webhooks"}`, `{"queue":"imports","group_concurrency":1,"group_rate_limit":100}`,
	} {
		call("POST", "/queue", body)
	}
	create := func(name, rest string, n int) (last int64) {
		for i := range n {
			last = readInteger(t, call("POST", "/task", fmt.Sprintf(`{"queue":%q%s}`, name, strings.ReplaceAll(rest, "#", strconv.Itoa(i))))["id"])
		}
		return last
	}
	// fail retains n tasks of a queue and ends them with an error.
	fail := func(name, worker, fault string, n int) (last int64) {
		tasks, _ := call("PUT", fmt.Sprintf("/task/%s?worker=%s&limit=%d&wait=10s", name, worker, n), "")["body"].([]any)
		for _, one := range tasks {
			task := one.(map[string]any)
			last = readInteger(t, task["id"])
			token := readInteger(t, task["lease"].(map[string]any)["token"])
			call("PATCH", fmt.Sprintf("/task/%d", last), fmt.Sprintf(`{"fail":true,"token":%d,"result":%s}`, token, fault))
		}
		return last
	}

	ids := map[string]int64{}
	create("mail", `,"key":"order-#","payload":{"to":"ann#@example.org","order":12345678901234567890,"template":"receipt"}`, 40)
	ids["failed"] = fail("mail", "w-2", `{"type":"TimeoutError","message":"timeout after 30000 ms at smtp-2"}`, 7)
	fail("mail", "w-5", `"smtp 550: mailbox unavailable"`, 5)
	create("orders", `,"payload":{"order":#}`, 12)
	fail("orders", "w-1", `"the shop is closed"`, 1)
	create("reports", `,"payload":{"month":#}`, 64)
	held := call("PUT", "/task/reports?worker=w-3&limit=2&lease=1h", "")
	ids["retained"] = readInteger(t, held["body"].([]any)[0].(map[string]any)["id"])
	create("thumbs", `,"payload":{"image":"#.jpg"}`, 30)
	create("thumbs", `,"payload":{"image":"#.jpg"},"delay":"2h"`, 9)
	ids["hostile"] = create("thumbs", `,"headers":{"x-name":"<b>bold</b>"},"key":"<i>key</i>","payload":`+hostilePayload, 1)
	call("POST", "/queue/thumbs/pause", "")
	create("webhooks", `,"payload":{"url":"https://example.com/#"}`, 3)
	call("PUT", "/task/webhooks?worker="+url.QueryEscape(hostileWorker)+"&limit=1&lease=1h", "")
	create("imports", `,"group":"tenant-#"`, 3)
	create("imports", `,"group":"<b>a/b</b> ü"`, 4)
	call("PUT", "/task/imports?worker=w-4&limit=10&lease=1h", "")
	call("POST", "/ticker", `{"ticker":"nightly","cron":"30 3 * * *","timezone":"Europe/Berlin","queue":"reports"}`)
	call("POST", "/ticker", `{"ticker":"sweep","period":"5m","queue":"orders"}`)
	call("POST", "/ticker/sweep/run", "")

	tokens := map[string]string{}
	for _, grant := range []string{"system@*", "operator@shop", "observer@shop"} {
		role, _, _ := strings.Cut(grant, "@")
		from := api
		if tokens["system"] != "" {
			from = closed
		}
		tokens[role], _ = callAPI(t, "POST", from+"/token", tokens["system"], fmt.Sprintf(`{"name":"<%s>","grants":[%q]}`, role, grant))["token"].(string)
	}
	return dashboardInput{IDs: ids, Tokens: tokens, Failed: 5}
}

// startProxy starts an nginx that strips the path /stripped of one server, and keeps the path /kept of another.
func startProxy(t *testing.T, nginx, stripped, kept string) string {
	t.Helper()
	dir, address := t.TempDir(), closedPort(t)
	kept = strings.TrimSuffix(kept, "/kept")
	headers := "proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_buffering off;"
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n"
	}
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config := fmt.Sprintf("%sdaemon off;\nworker_processes 1;\npid %s;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n%s"+
		"server { listen %s;\nlocation /stripped/ { proxy_pass %s/; %s }\nlocation /kept/ { proxy_pass %s; %s }\n}\n}\n",
		user, filepath.Join(dir, "nginx.pid"), temporary, address, stripped, headers, kept, headers)
	file := filepath.Join(dir, "nginx.conf")
	writeText(t, file, config)

	var log syncBuffer
	cmd := exec.Command(nginx, "-p", dir, "-c", file, "-e", "stderr")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // fails when it has ended
		_ = cmd.Wait()                       // the log has the reason
		if t.Failed() {
			t.Logf("nginx:\n%s", log.String())
		}
	})
	return "http://" + address
}

// walk runs a script of testdata/dashboard. Each of its checks is a sub-test; asked are the actions for which it asks.
func walk(t *testing.T, modules, script string, in any, asked map[string]func() string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "dashboard"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script, string(input))
	cmd.Dir = dir
	var log syncBuffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	done, checks := false, 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var line struct {
			Check, Fault, Ask, Note string
			Done                    bool
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("the script must print JSON, got %q", lines.Text())
			continue
		}
		switch {
		case line.Ask != "":
			answer := asked[line.Ask]()
			if _, err := io.WriteString(answers, answer+"\n"); err != nil {
				t.Error(err)
			}
		case line.Note != "":
			t.Log(line.Note)
		case line.Done:
			done = true
		default:
			checks++
			t.Run(line.Check, func(t *testing.T) {
				if line.Fault != "" {
					t.Error(line.Fault)
				}
			})
		}
	}
	if err := cmd.Wait(); err != nil || !done {
		t.Errorf("%s ended after %d checks with %v:\n%s", script, checks, err, log.String())
	}
}
