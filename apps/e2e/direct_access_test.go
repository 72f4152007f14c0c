package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// directAccess runs commands of access on a database directly, and over a server of it.
type directAccess struct {
	t        *testing.T
	node     *node
	database []string // the flags that name the database
	token    string   // for the server
	secrets  []string
}

// answered is what a command wrote and its exit code.
type answered struct {
	stdout, stderr string
	code           int
}

// direct runs a command on the database.
func (d *directAccess) direct(line ...string) answered {
	d.t.Helper()
	// Neither a server nor a token of the environment counts.
	return d.run([]string{"PGQUEUE_URL=http://127.0.0.1:1/api", "PGQUEUE_AUTH_TOKEN=" + access.NewSecret().Reveal()}, append(line, d.database...)...)
}

// over runs a command over the server.
func (d *directAccess) over(line ...string) answered {
	d.t.Helper()
	return d.run([]string{"PGQUEUE_URL=" + d.node.url, "PGQUEUE_AUTH_TOKEN=" + d.token}, line...)
}

func (d *directAccess) run(env []string, line ...string) answered {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), filepath.Join(programs(d.t), "pgqueue"), line...)
	cmd.Env = append(os.Environ(), env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	_ = cmd.Run() // the state has the result
	return answered{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// parse parses the JSON of a command that must succeed.
func parse[T any](t *testing.T, a answered) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.stdout), &value); err != nil || a.code != 0 {
		t.Fatalf("%+v: %v", a, err)
	}
	return value
}

// issue makes a token by a command and returns it.
func (d *directAccess) issue(run func(...string) answered, line ...string) restapi.IssuedToken {
	d.t.Helper()
	issued := parse[restapi.IssuedToken](d.t, run(line...))
	d.secrets = append(d.secrets, issued.Secret)
	return issued
}

// TestAccessDirectlyOnTheDatabase: the commands of tokens, rights and the audit do on the database itself what they do over a
// server, and the audit names the principal.
func TestAccessDirectlyOnTheDatabase(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	for _, flag := range []string{"--database-url", "--data-dir"} {
		t.Run(flag, func(t *testing.T) {
			d := &directAccess{t: t}
			if flag == "--data-dir" {
				dir := dataDir(t)
				d.node, d.database = startNode(t, dir), []string{flag, dir}
			} else {
				dsn := postgrestest.URL(t)
				d.node, d.database = startNodeAt(t, dsn), []string{flag, dsn}
			}

			d.checkFirstToken()
			d.checkEnvironment()
			d.checkSameAnswers()
			d.checkTokens()
			d.checkAudit()
		})
	}
}

// checkFirstToken: the first token, made directly, closes the open server.
func (d *directAccess) checkFirstToken() {
	d.t.Helper()
	if empty := parse[restapi.List[restapi.Token]](d.t, d.direct("tokens")); empty.Count != 0 || len(empty.Body) != 0 {
		d.t.Errorf("a new database has the tokens %+v", empty)
	}
	first := d.issue(d.direct, "create-token", "admin", "--grant", "system@*")
	if _, err := access.ParseSecret(first.Secret); err != nil || d.find(first.ID).CreatedBy != "database" {
		d.t.Errorf("the first token is %+v: %v", d.find(first.ID), err)
	}
	d.token = first.Secret
	d.awaitStatus("", http.StatusUnauthorized)

	direct, over := parse[restapi.Identity](d.t, d.direct("whoami")), parse[restapi.Identity](d.t, d.over("whoami"))
	if direct.ID != "database" || direct.Kind != string(access.KindDatabase) || over.ID != first.ID || over.Kind != string(access.KindToken) {
		d.t.Errorf("the caller is %+v directly, and %+v over the server", direct, over)
	}
	if !reflect.DeepEqual(direct.Grants, []string{"system@*"}) || !reflect.DeepEqual(direct.Grants, over.Grants) {
		d.t.Errorf("the grants are %v directly, and %v over the server", direct.Grants, over.Grants)
	}
}

// checkEnvironment: the environment names the database too, but a server that is named wins.
func (d *directAccess) checkEnvironment() {
	d.t.Helper()
	variable := program.Variable(strings.TrimPrefix(d.database[0], "--"))
	env := []string{variable + "=" + d.database[1], "PGQUEUE_AUTH_TOKEN=" + d.token}
	for kind, line := range map[access.Kind][]string{access.KindDatabase: {"whoami"}, access.KindToken: {"whoami", "--url", d.node.url}} {
		if caller := parse[restapi.Identity](d.t, d.run(env, line...)); caller.Kind != string(kind) {
			d.t.Errorf("with %s pgqueue %v has the principal %+v, want kind %s", variable, line, caller, kind)
		}
	}
}

// awaitStatus waits until the server answers a token with a status, at most 10 s.
func (d *directAccess) awaitStatus(token string, want int) {
	d.t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		code, _ := d.get(token)
		if code == want {
			return
		}
		if time.Since(begin) > 10*time.Second {
			d.t.Fatalf("the server still answers %d, want %d", code, want)
		}
	}
}

// get asks the server for the principal of a token.
func (d *directAccess) get(token string) (int, error) {
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.node.url+"/whoami", http.NoBody)
	if err != nil {
		d.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, resp.Body.Close()
}

// checkSameAnswers: reads, and refused input, have the same answer both ways.
func (d *directAccess) checkSameAnswers() {
	d.t.Helper()
	for _, line := range [][]string{
		{"can", "task.payload"},
		{"can", "access.manage", "other"},
		{"can", "task.work", "default/mail", "-o", "table"},
		{"can", "audit.read", "-o", "yaml"},
		{"can", "task.fly"},
		{"can", "task.read", "a/"},
		{"can", "task.read", "A B"},
		{"create-token", "x"},
		{"create-token", ""},
		{"create-token", "x", "--grant", "root@*"},
		{"create-token", "x", "--grant", "worker"},
		{"create-token", "x", "--grant", "system@default"},
		{"create-token", strings.Repeat("x", 300), "--grant", "viewer@default"},
		{"create-token", "x", "--grant", "viewer@default", "--expires", "0"},
		{"create-token", "x", "--grant", "viewer@default", "--expires", "1s"},
		{"create-token", "x", "--grant", "viewer@default", "--expires", "99999d"},
		{"rotate-token", "ZZZZZZZZ"},
		{"rotate-token", "short"},
		{"rotate-token", d.token},
		{"rotate-token", d.token[4:12], "--overlap", "99999d"},
		{"revoke-token", "ZZZZZZZZ"},
		{"revoke-token", d.token},
		{"audit", "--action", "task.fly"},
		{"audit", "--outcome", "fine"},
		{"audit", "--cursor", "x"},
		{"audit", "--limit", "0"},
		{"audit", "--limit", "1001"},
		{"audit", "--of", "A B"},
		{"audit", "--queue", "A B"},
	} {
		direct, over := d.direct(line...), d.over(line...)
		if direct != over {
			d.t.Errorf("pgqueue %q\n directly: %+v\nby server: %+v", line, direct, over)
		}
	}
}

// checkTokens: tokens of either way are the same, and the other way rotates and revokes them.
func (d *directAccess) checkTokens() {
	d.t.Helper()
	create := []string{"create-token", "mail workers", "--grant", "worker@default/mail*", "--grant", "viewer@other", "--expires", "30d"}
	direct, over := d.issue(d.direct, create...), d.issue(d.over, create...)
	d.compareTokens("a new token", direct.ID, over.ID)
	if life := direct.ExpiresAt.Sub(direct.CreatedAt); life != 30*24*time.Hour {
		d.t.Errorf("the life of a new token is %v", life)
	}
	never := []string{"create-token", "mail workers", "--grant", "producer@*", "--expires", "never"}
	d.compareTokens("an endless token", d.issue(d.direct, never...).ID, d.issue(d.over, never...).ID)

	// Each way rotates the token of the other one.
	rotatedOver := d.issue(d.over, "rotate-token", direct.ID, "--overlap", "1h")
	rotatedDirect := d.issue(d.direct, "rotate-token", over.ID, "--overlap", "1h")
	if rotatedOver.Replaces != direct.ID || rotatedDirect.Replaces != over.ID {
		d.t.Errorf("rotated tokens replace %s and %s", rotatedDirect.Replaces, rotatedOver.Replaces)
	}
	d.compareTokens("a rotated token", rotatedDirect.ID, rotatedOver.ID)
	for _, token := range []string{direct.Secret, over.Secret, rotatedDirect.Secret, rotatedOver.Secret} {
		d.awaitStatus(token, http.StatusOK)
	}

	revokedOver := parse[restapi.Token](d.t, d.over("revoke-token", rotatedDirect.ID, "-o", "json"))
	revokedDirect := parse[restapi.Token](d.t, d.direct("revoke-token", rotatedOver.ID, "-o", "json"))
	d.compareTokens("a revoked token", revokedDirect.ID, revokedOver.ID)
	for _, token := range []string{rotatedDirect.Secret, rotatedOver.Secret} {
		d.awaitStatus(token, http.StatusUnauthorized)
	}
	for _, run := range []func(...string) answered{d.direct, d.over} { // a repeat changes nothing
		if again := parse[restapi.Token](d.t, run("revoke-token", rotatedOver.ID, "-o", "json")); again.RevokedAt != revokedDirect.RevokedAt {
			d.t.Errorf("a repeated revocation answers %+v", again)
		}
	}

	lists := map[string]restapi.List[restapi.Token]{}
	for name, run := range map[string]func(...string) answered{"direct": d.direct, "over": d.over} {
		list := parse[restapi.List[restapi.Token]](d.t, run("tokens"))
		for i := range list.Body {
			list.Body[i].Now = time.Time{}    // that of the answer
			list.Body[i].UsedAt = time.Time{} // the answer itself uses a token
		}
		lists[name] = list
	}
	if lists["direct"].Count != 7 || len(lists["direct"].Body) != 7 || lists["over"].Count != 7 || len(lists["over"].Body) != 7 {
		d.t.Fatalf("the tokens are\n directly: %+v\nby server: %+v", lists["direct"], lists["over"])
	}
	for i, token := range lists["direct"].Body {
		if !reflect.DeepEqual(token, lists["over"].Body[i]) {
			d.t.Errorf("token %d is\n directly: %+v\nby server: %+v", i, token, lists["over"].Body[i])
		}
	}
}

// find returns the token with an id from the list.
func (d *directAccess) find(id string) restapi.Token {
	d.t.Helper()
	list := parse[restapi.List[restapi.Token]](d.t, d.direct("tokens"))
	at := slices.IndexFunc(list.Body, func(t restapi.Token) bool { return t.ID == id })
	if at < 0 {
		d.t.Fatalf("the list has no token %s: %+v", id, list)
	}
	return list.Body[at]
}

// compareTokens compares two tokens of the same request, one made by each way.
func (d *directAccess) compareTokens(what, id, other string) {
	d.t.Helper()
	a, b := d.find(id), d.find(other)
	age := func(t restapi.Token, at time.Time) time.Duration {
		if at.IsZero() {
			return 0
		}
		return at.Sub(t.CreatedAt)
	}
	if a.ID == b.ID || a.Name != b.Name || !reflect.DeepEqual(a.Grants, b.Grants) || a.Live != b.Live ||
		age(a, a.ExpiresAt) != age(b, b.ExpiresAt) || a.RevokedAt.IsZero() != b.RevokedAt.IsZero() || (a.Replaces == "") != (b.Replaces == "") {
		d.t.Errorf("%s is\n%+v and\n%+v", what, a, b)
	}
	if by := map[string]bool{a.CreatedBy: true, b.CreatedBy: true}; !by["database"] || !by[d.token[4:12]] {
		d.t.Errorf("%s is made by %v, want one by each way", what, by)
	}
}

// checkAudit: both ways read the same audit. It has the same entries for both, under different principals.
func (d *directAccess) checkAudit() {
	d.t.Helper()
	list := func(run func(...string) answered) restapi.AuditPage {
		d.t.Helper()
		return parse[restapi.AuditPage](d.t, run("audit", "--limit", "1000"))
	}
	direct, over := list(d.direct), list(d.over)
	for len(direct.Body) < len(over.Body) { // the server writes counts of refusals once a minute
		direct, over = list(d.direct), list(d.over)
	}
	if !reflect.DeepEqual(direct, over) || direct.Next != "" {
		d.t.Errorf("the audit is\n directly: %+v\nby server: %+v", direct, over)
	}

	entries := map[string][]string{}
	for _, e := range direct.Body {
		switch e.PrincipalID {
		case "database":
			if e.Via != string(access.ViaCLI) || e.PrincipalKind != string(access.KindDatabase) || e.Remote != "" {
				d.t.Errorf("an entry of the command line on the database is %+v", e)
			}
		case d.token[4:12]:
			if e.Via != string(access.ViaREST) || e.PrincipalKind != string(access.KindToken) || e.Remote == "" {
				d.t.Errorf("an entry of the command line over the server is %+v", e)
			}
		case "":
			continue // the requests without a token that looked whether the server is closed
		}
		var fields []string
		for _, c := range e.Changes {
			fields = append(fields, c.Field)
		}
		entries[e.PrincipalID] = append(entries[e.PrincipalID], fmt.Sprint(e.Operation, " ", e.Action, " ", e.Outcome, " ", fields, " ", e.Token != ""))
	}
	own := entries["database"]
	if n := len(own); n == 0 || own[n-1] != "create_token access.manage ok [name grants expires_at] true" {
		d.t.Errorf("the first entry must be that of the first token, got %v", own)
		return
	}
	if own = own[:len(own)-1]; !reflect.DeepEqual(own, entries[d.token[4:12]]) {
		d.t.Errorf("the entries are\n directly:\n%s\nby server:\n%s", strings.Join(own, "\n"), strings.Join(entries[d.token[4:12]], "\n"))
	}

	filtered := parse[restapi.AuditPage](d.t, d.direct("audit", "--principal", "database", "--outcome", "ok", "--action", "access.manage"))
	for _, e := range filtered.Body {
		if e.PrincipalID != "database" || e.Outcome != access.AuditOK {
			d.t.Errorf("the filter lets %+v pass", e)
		}
	}
	if len(filtered.Body) != 6 {
		d.t.Errorf("%d entries of successful commands on the database: %+v", len(filtered.Body), filtered)
	}
	text := d.direct("audit", "--limit", "1000", "-o", "wide").stdout + d.direct("tokens", "-o", "wide").stdout
	for _, secret := range d.secrets {
		if findForm(text, secret[len("pgq_12345678_"):][:32]) != "" {
			d.t.Error("the audit or the list of tokens shows a secret")
		}
	}
}

// TestAccessOfAWrongDatabase: each command of access on a database says in one line what is wrong, with the exit code of its
// kind, and asks no server instead.
func TestAccessOfAWrongDatabase(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.URL(t)
	d := &directAccess{t: t}
	weak := mustURL(t, dsn)
	weak.User = url.UserPassword("nobody_of_this_test", "s3cret")
	stored := [][]string{
		{"create-token", "x", "--grant", "system@*"}, {"tokens"}, {"rotate-token", "ZZZZZZZZ"}, {"revoke-token", "ZZZZZZZZ"}, {"audit"},
	}
	all := append([][]string{{"whoami"}, {"can", "task.read"}}, stored...)
	for name, c := range map[string]struct {
		flags []string
		lines [][]string
		code  int
		says  string
	}{
		"nothing listens":     {[]string{"--database-url", "postgres://app:s3cret@127.0.0.1:1/app", "--wait", "0"}, all, program.ExitUnreachable, "127.0.0.1:1"},
		"no tables":           {[]string{"--database-url", postgrestest.Empty(t)}, stored, program.ExitUnreachable, "migrate up"},
		"another schema":      {[]string{"--database-url", dsn, "--schema", "nowhere"}, stored, program.ExitUnreachable, "migrate up"},
		"a wrong password":    {[]string{"--database-url", weak.String()}, all, program.ExitFailed, "nobody_of_this_test"},
		"no URL":              {[]string{"--database-url", "s3cret@x"}, all, program.ExitUsage, "database-url"},
		"a folder of nothing": {[]string{"--data-dir", t.TempDir()}, all, program.ExitUsage, "--data-dir"},
		"a URL and a folder":  {[]string{"--database-url", dsn, "--data-dir", t.TempDir()}, all, program.ExitUsage, "leave one out"},
	} {
		for _, line := range c.lines {
			got := d.run(nil, append(slices.Clone(line), c.flags...)...)
			if got.code != c.code || !strings.Contains(got.stderr, c.says) || got.stdout != "" || strings.Contains(got.stderr, "s3cret") {
				t.Errorf("%s: pgqueue %s: %+v, want exit code %d and %q", name, line[0], got, c.code, c.says)
			}
			if lines := strings.Split(strings.TrimSuffix(got.stderr, "\n"), "\n"); !strings.HasPrefix(lines[len(lines)-1], "pgqueue: ") || len(lines) > 2 {
				t.Errorf("%s: pgqueue %s: %q must be a line about the fault, below one about the audit", name, line[0], got.stderr)
			}
		}
	}
}

// TestDirectAccessWithoutAudit: a change that the audit cannot record is made, and the command says that the entry is lost.
func TestDirectAccessWithoutAudit(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.URL(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), "alter table pgqueue.audit rename to lost"); err != nil {
		t.Fatal(err)
	}

	d := &directAccess{t: t, database: []string{"--database-url", dsn}}
	made := d.direct("create-token", "x", "--grant", "viewer@default")
	issued := parse[restapi.IssuedToken](t, made)
	if !strings.Contains(made.stderr, "the audit has no entry of this command: ") || strings.Count(made.stderr, "\n") != 1 || strings.Contains(made.stderr, issued.Secret) {
		t.Errorf("the command says %q", made.stderr)
	}
	if d.find(issued.ID).Name != "x" {
		t.Error("the token is not there")
	}
}
