package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
)

// startedServer is what a start of a server program came to.
type startedServer struct {
	code   int    // the exit code
	stderr string // the log
	// none and wrong are the statuses of a request without a credential and of one with a wrong token; 0 = the program ended
	// before it answered anything but that it is starting.
	none, wrong int
}

// listenHosts are hosts of addresses to listen on, and whether other machines reach them.
var listenHosts = []struct {
	host   string
	remote bool
}{{"127.0.0.1", false}, {"[::1]", false}, {"localhost", false}, {"0.0.0.0", true}, {"", true}, {"[::]", true}}

// accessSettings are the ways to say when a server is closed.
var accessSettings = []struct {
	args []string
	// closed reports whether a server is closed, and refused whether it does not start; the rows of contract section 11.
	closed, refused func(remote, exists bool) bool
}{
	{nil, func(_, exists bool) bool { return exists }, func(remote, exists bool) bool { return remote && !exists }},
	{[]string{"--auth", "on"}, always, func(remote, exists bool) bool { return remote && !exists }},
	{[]string{"--auth", "off"}, never, func(remote, _ bool) bool { return remote }},
	{[]string{"--insecure-open"}, never, never},
	{[]string{"--insecure-open", "--auth", "on"}, never, always},
}

func always(_, _ bool) bool { return true }
func never(_, _ bool) bool  { return false }

// credentialKind is one way in which a server has credentials, or none.
type credentialKind struct {
	name   string
	dsn    string
	args   []string
	env    []string
	exists bool
}

// credentialKinds returns each kind of credential, with a database that holds the tokens of this kind.
func credentialKinds(t *testing.T, pair tls.Certificate) []credentialKind {
	t.Helper()
	dsns := map[string]string{}
	for _, name := range []string{"none", "live", "revoked"} {
		dsns[name] = postgrestest.URL(t)
	}
	create := func(dsn string) string {
		return strings.TrimSpace(runCommand(t, "create-token", "admin", "--grant", "system@*", "--database-url", dsn, "--jq", ".id"))
	}
	create(dsns["live"])
	runCommand(t, "revoke-token", create(dsns["revoked"]), "--database-url", dsns["revoked"])

	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := write("tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	keyFile := write("tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	issuers := write("issuers.yaml", "issuers: [{issuer: https://id.example.com, audience: pgqueue}]")
	rules := write("rules.yaml", "rules: []")
	tlsArgs := []string{"--tls-cert-file", cert, "--tls-key-file", keyFile}
	token := access.NewSecret().Reveal()
	none := dsns["none"]

	return []credentialKind{
		{name: "none", dsn: none},
		{name: "a token in the database", dsn: dsns["live"], exists: true},
		{name: "a revoked token in the database", dsn: dsns["revoked"], exists: true},
		{name: "a file of tokens", dsn: none, args: []string{"--admin-token-file", write("tokens", token)}, exists: true},
		{name: "a token in the environment", dsn: none, env: []string{"PGQUEUE_ADMIN_TOKEN=" + token}, exists: true},
		{name: "an issuer of JWTs", dsn: none, args: []string{"--access-file", issuers}, exists: true},
		{name: "rules without an issuer", dsn: none, args: []string{"--access-file", rules}},
		{name: "TLS alone", dsn: none, args: tlsArgs},
		{name: "authorities of client certificates", dsn: none, args: append(tlsArgs, "--tls-client-ca-file", cert), exists: true},
		{
			name: "a sign-in at an identity provider", dsn: none, exists: true, env: []string{"PGQUEUE_OIDC_CLIENT_SECRET=s3cret"},
			args: []string{"--access-file", rules, "--oidc-issuer", "https://id.example.com", "--oidc-client-id", "pgqueue", "--public-url", "https://queue.example.com"},
		},
	}
}

// runCommand runs a pgqueue command without a server and returns its standard output.
func runCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs(t), "pgqueue"), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pgqueue %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// startOnce starts a server program, asks it all the time until it answers or has ended, and stops it.
func startOnce(t *testing.T, client *http.Client, run, base string, env []string, args ...string) (s startedServer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	words := strings.Fields(run)
	cmd := exec.CommandContext(ctx, filepath.Join(programs(t), words[0]), append(words[1:], args...)...)
	cmd.Env = append(os.Environ(), env...)
	var log syncBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the state has the result
	}()

	ask := func(token string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/queue", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	// A request without a rest between them finds a port that is open for a moment.
	for s.none == 0 || s.none == http.StatusServiceUnavailable {
		s.none = ask("")
		select {
		case <-ended:
			if s.none == http.StatusServiceUnavailable {
				s.none = 0
			}
			s.code, s.stderr = cmd.ProcessState.ExitCode(), log.String()
			return s
		default:
		}
	}
	s.wrong = ask(access.NewSecret().Reveal())
	_ = cmd.Process.Signal(syscall.SIGTERM)
	<-ended
	s.code, s.stderr = cmd.ProcessState.ExitCode(), log.String()
	return s
}

// TestStartTable starts the real programs over the table of contract section 11: kinds of credentials, addresses, and settings. A
// refused start has exit code 2, says in one line how to mend it, and answers no request on the way. A server that runs refuses
// a wrong token in every case. PGQUEUE_TEST_FULL tries each combination; without it each
// kind meets each setting once, at addresses in turn.
func TestStartTable(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	// The certificate of this package is for example.com and the loopback addresses.
	authority := httptest.NewTLSServer(http.NotFoundHandler())
	defer authority.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.Certificate())
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "example.com", MinVersion: tls.VersionTLS12},
	}}
	kinds := credentialKinds(t, authority.TLS.Certificates[0])
	isFull := os.Getenv("PGQUEUE_TEST_FULL") != ""

	for k, kind := range kinds {
		for h, listen := range listenHosts {
			for s, setting := range accessSettings {
				if !isFull && h != (k+s)%len(listenHosts) {
					continue
				}
				name := strings.Join(append([]string{kind.name, "at", listen.host + ":"}, setting.args...), " ")
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run := []string{"pgqueue run", "pgqueue-server"}[(k+h+s)%2]
					scheme := "http"
					if slices.Contains(kind.args, "--tls-cert-file") {
						scheme = "https"
					}

					var got startedServer
					for range 3 {
						_, port, err := net.SplitHostPort(closedPort(t))
						if err != nil {
							t.Fatal(err)
						}
						base := scheme + "://127.0.0.1:" + port
						if strings.HasPrefix(listen.host, "[::1") {
							base = scheme + "://[::1]:" + port
						}
						args := append([]string{kind.dsn, "--addr", listen.host + ":" + port, "--log-format", "json"}, kind.args...)
						got = startOnce(t, client, run, base, kind.env, append(args, setting.args...)...)
						// Another test may have taken the port since it was found.
						if !strings.Contains(got.stderr, "the port is in use") {
							break
						}
					}

					if setting.refused(listen.remote, kind.exists) {
						checkRefusedStart(t, got, "insecure-open")
						return
					}
					want := http.StatusOK
					if setting.closed(listen.remote, kind.exists) {
						want = http.StatusUnauthorized
					}
					if got.none != want || got.wrong != http.StatusUnauthorized || got.code != program.ExitDone {
						t.Errorf("without a credential %d, want %d; with a wrong one %d; exit code %d\n%s", got.none, want, got.wrong, got.code, got.stderr)
					}
					hasTLS := scheme == "https"
					if line := startLine(want == http.StatusOK, len(setting.args) > 0, listen.remote, kind.exists, hasTLS); strings.Count(got.stderr, `"msg":"`+line) != 1 {
						t.Errorf("the log must say once %q, got\n%s", line, got.stderr)
					}
				})
			}
		}
	}
}

// startLine returns the line of the log for a row of contract section 11. isSet reports whether a flag opens the server.
func startLine(isOpen, isSet, remote, exists, hasTLS bool) string {
	switch {
	case isOpen && remote:
		return "open to every machine that reaches the address: requests without a credential have every right"
	case isOpen && isSet:
		return "open to every program on this machine: requests without a credential have every right"
	case isOpen:
		return "open to every program on this machine; the first token closes it"
	case !exists:
		return "closed, and no credential exists"
	case remote && !hasTLS:
		return "closed; credentials travel without encryption, unless a proxy in front adds TLS"
	}
	return "closed: each request needs a credential"
}

// checkRefusedStart checks a start that was refused, and that its message has a part.
func checkRefusedStart(t *testing.T, got startedServer, remedy string) {
	t.Helper()
	if got.none != 0 {
		t.Errorf("a request gets %d before the end of the start", got.none)
	}
	// Lines of the log may precede the error, as those about the settings of the database.
	lines := strings.Split(strings.TrimSuffix(got.stderr, "\n"), "\n")
	said := lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("the error has a second line: %s", line)
		}
	}
	if got.code != program.ExitUsage || !strings.HasPrefix(said, "pgqueue") || !strings.Contains(said, remedy) || strings.Contains(got.stderr, "s3cret") {
		t.Errorf("exit code %d, want %d and a last line with %q:\n%s", got.code, program.ExitUsage, remedy, got.stderr)
	}
}

// TestBadCredentialsAreRefusedAtTheStart: a start with a credential that cannot work ends with exit code 2 and names the
// setting and the remedy, so that no server runs with other credentials than its operator believes.
func TestBadCredentialsAreRefusedAtTheStart(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn, dir := postgrestest.URL(t), t.TempDir()
	write := func(content string) string {
		f, err := os.CreateTemp(dir, "setting-")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	token := access.NewSecret().Reveal()
	login := []string{"--oidc-issuer", "https://id.example.com", "--oidc-client-id", "pgqueue"}
	for name, c := range map[string]struct {
		args, env []string
		remedy    string
	}{
		"a token of another form":                   {env: []string{"PGQUEUE_ADMIN_TOKEN=s3cret-s3cret"}, remedy: "pgqueue generate-token"},
		"a file of a token of another form":         {args: []string{"--admin-token-file", write("s3cret-s3cret")}, remedy: "pgqueue generate-token"},
		"an empty file of tokens":                   {args: []string{"--admin-token-file", write("")}, remedy: "write the secret into it"},
		"a file of spaces":                          {args: []string{"--admin-token-file", write(" \n\n")}, remedy: "write the secret into it"},
		"a file of tokens that does not exist":      {args: []string{"--admin-token-file", "/nowhere/tokens"}, remedy: "check the path"},
		"a file of tokens without an end":           {args: []string{"--admin-token-file", "/dev/zero"}, remedy: "at most"},
		"a folder in place of a file":               {args: []string{"--admin-token-file", dir}, remedy: "admin-token-file"},
		"an unknown role":                           {args: []string{"--admin-token-file", write(token + " root@*")}, remedy: "line 1"},
		"a grant without a namespace":               {args: []string{"--admin-token-file", write(token + " worker")}, remedy: "line 1"},
		"the same token twice":                      {args: []string{"--admin-token-file", write(token + "\n" + token + " worker@default")}, remedy: "line 2"},
		"a token as a flag":                         {args: []string{"--admin-token", token}, remedy: "PGQUEUE_ADMIN_TOKEN"},
		"an access file with an unknown key":        {args: []string{"--access-file", write("rules: []\nusers: []")}, remedy: "access-file, line 2"},
		"an access file that is not YAML":           {args: []string{"--access-file", write("rules: [")}, remedy: "line 1"},
		"an empty access file":                      {args: []string{"--access-file", write("")}, remedy: "rules: []"},
		"an issuer over http":                       {args: []string{"--access-file", write("issuers: [{issuer: http://id.example.com, audience: a}]")}, remedy: "https://id.example.com"},
		"an issuer without an audience":             {args: []string{"--access-file", write("issuers: [{issuer: https://id.example.com}]")}, remedy: "audience"},
		"a rule without an issuer in the list":      {args: []string{"--access-file", write("rules: [{issuer: https://id.example.com, claim: sub, is: a, grant: [viewer@default]}]")}, remedy: "issuer"},
		"a rule that matches every user by mistake": {args: []string{"--access-file", write("rules: [{cert: '', grant: [viewer@default]}]")}, remedy: "line 1"},
		"a certificate without its key":             {args: []string{"--tls-cert-file", write("x")}, remedy: "--tls-key-file"},
		"a certificate that is none":                {args: []string{"--tls-cert-file", write("x"), "--tls-key-file", write("x")}, remedy: "tls-cert-file"},
		"authorities without TLS":                   {args: []string{"--tls-client-ca-file", write("x")}, remedy: "--tls-cert-file"},
		"a demand for certificates without any":     {args: []string{"--tls-client-auth", "required"}, remedy: "--tls-client-ca-file"},
		"a sign-in without rules":                   {args: login, env: []string{"PGQUEUE_OIDC_CLIENT_SECRET=s3cret"}, remedy: "access-file"},
		"an unknown mode":                           {args: []string{"--auth", "maybe"}, remedy: "auto, on or off"},
		"a trusted proxy of another form":           {args: []string{"--trusted-proxy", "10.0.0.0/99"}, remedy: "trusted-proxy"},
		"every origin":                              {args: []string{"--cors-origin", "*"}, remedy: "cors-origin"},
		"sessions without an end":                   {args: []string{"--session-ttl", "9999h"}, remedy: "session"},
		"an audit that forgets at once":             {args: []string{"--audit-retention", "1h"}, remedy: "audit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			addr := closedPort(t)
			args := append([]string{dsn, "--addr", addr, "--log-format", "json"}, c.args...)
			checkRefusedStart(t, startOnce(t, client, "pgqueue-server", "http://"+addr, c.env, args...), c.remedy)
		})
	}
}
