package run

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// TestDecideAccess goes over the whole table of contract section 11.
func TestDecideAccess(t *testing.T) {
	type row struct {
		auth             string
		insecure         bool
		loopback, exists bool
	}
	open, untilFirst := portAccess{open: true}, portAccess{open: true, untilCredential: true}
	const refused = "refused"
	for c, want := range map[row]any{
		{AuthAuto, false, true, false}:  untilFirst,
		{AuthAuto, false, true, true}:   portAccess{},
		{AuthAuto, false, false, false}: refused,
		{AuthAuto, false, false, true}:  portAccess{},
		{AuthAuto, true, true, false}:   open,
		{AuthAuto, true, true, true}:    open,
		{AuthAuto, true, false, false}:  open,
		{AuthAuto, true, false, true}:   open,
		{AuthOn, false, true, false}:    portAccess{},
		{AuthOn, false, true, true}:     portAccess{},
		{AuthOn, false, false, false}:   refused,
		{AuthOn, false, false, true}:    portAccess{},
		{AuthOn, true, true, true}:      refused,
		{AuthOn, true, false, false}:    refused,
		{AuthOff, false, true, false}:   open,
		{AuthOff, false, true, true}:    open,
		{AuthOff, false, false, false}:  refused,
		{AuthOff, false, false, true}:   refused,
		{AuthOff, true, true, true}:     open,
		{AuthOff, true, false, false}:   open,
	} {
		got, err := decideAccess(&Config{Auth: c.auth, InsecureOpen: c.insecure, Addr: "h:1"}, c.loopback, c.exists)
		if want == refused {
			if queue.KindOf(err) != queue.KindInvalid {
				t.Errorf("%+v: %+v %v, want a refused start", c, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%+v: %+v %v, want %+v", c, got, err, want)
		}
	}
}

// writeTokens writes a file of static tokens and returns its path.
func writeTokens(t *testing.T, lines ...string) string {
	t.Helper()
	return writeFile(t, strings.Join(lines, "\n"))
}

// writeFile writes a file of settings and returns its path.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings")
	replaceFile(t, path, content)
	return path
}

// replaceFile puts another file in place of the one at path, as a deployment does.
func replaceFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

const issuersAlone = "issuers: [{issuer: https://id.example.com, audience: pgqueue}]"

// TestStartOfAccess starts servers at real addresses with real credentials.
func TestStartOfAccess(t *testing.T) {
	token := access.NewSecret().Reveal()
	for name, c := range map[string]struct {
		addr    string
		change  func(*Config)
		refused string // a part of the message of a refused start
		closed  bool
		late    bool // only the store can decide
	}{
		"loopback without a credential is open":     {addr: "127.0.0.1:0"},
		"loopback by name without a credential":     {addr: "localhost:0"},
		"loopback with an admin token is closed":    {addr: "127.0.0.1:0", change: func(c *Config) { c.AdminToken = token }, closed: true},
		"loopback with a file is closed":            {addr: "127.0.0.1:0", change: func(c *Config) { c.AdminTokenFile = writeTokens(t, token) }, closed: true},
		"loopback with auth on is closed":           {addr: "127.0.0.1:0", change: func(c *Config) { c.Auth = AuthOn }, closed: true},
		"any address without a credential":          {addr: "0.0.0.0:0", refused: "pgqueue create-token admin", late: true},
		"no host without a credential":              {addr: ":0", refused: "--insecure-open", late: true},
		"any address with auth off":                 {addr: "0.0.0.0:0", change: func(c *Config) { c.Auth = AuthOff }, refused: "--insecure-open"},
		"any address with an admin token is closed": {addr: "0.0.0.0:0", change: func(c *Config) { c.AdminToken = token }, closed: true},
		"any address that is opened":                {addr: "0.0.0.0:0", change: func(c *Config) { c.InsecureOpen = true }},
		"loopback with an issuer is closed":         {addr: "127.0.0.1:0", change: func(c *Config) { c.AccessFile = writeFile(t, issuersAlone) }, closed: true},
		"loopback with rules of no issuer is open":  {addr: "127.0.0.1:0", change: func(c *Config) { c.AccessFile = writeFile(t, "rules: []") }},
		"any address with an issuer is closed":      {addr: "0.0.0.0:0", change: func(c *Config) { c.AccessFile = writeFile(t, issuersAlone) }, closed: true},
		"any address with rules of no issuer":       {addr: "0.0.0.0:0", change: func(c *Config) { c.AccessFile = writeFile(t, "rules: []") }, refused: "--insecure-open", late: true},
		"auth off with an issuer":                   {addr: "127.0.0.1:0", change: func(c *Config) { c.AccessFile, c.Auth = writeFile(t, issuersAlone), AuthOff }},
		"a wrong access file":                       {addr: "127.0.0.1:0", change: func(c *Config) { c.AccessFile = writeFile(t, "rules: []\nusers: []") }, refused: "access-file, line 2"},
		"an empty access file":                      {addr: "127.0.0.1:0", change: func(c *Config) { c.AccessFile = writeFile(t, "") }, refused: "rules: []"},
		"an access file that does not exist":        {addr: "127.0.0.1:0", change: func(c *Config) { c.AccessFile = "/nowhere/access.yaml" }, refused: "check the path"},
		"an access file without an end":             {addr: "127.0.0.1:0", change: func(c *Config) { c.AccessFile = "/dev/zero" }, refused: "at most 1048576 bytes"},
		"an admin token of another form":            {addr: "127.0.0.1:0", change: func(c *Config) { c.AdminToken = "s3cret-s3cret" }, refused: "pgqueue generate-token"},
		"an empty file of tokens":                   {addr: "127.0.0.1:0", change: func(c *Config) { c.AdminTokenFile = writeTokens(t, "") }, refused: "write the secret into it"},
		"a file with an unknown role":               {addr: "127.0.0.1:0", change: func(c *Config) { c.AdminTokenFile = writeTokens(t, token+" root@*") }, refused: "line 1"},
		"a file that does not exist":                {addr: "127.0.0.1:0", change: func(c *Config) { c.AdminTokenFile = "/nowhere/tokens" }, refused: "check the path"},
		"a secret of a client that is missing": {addr: "127.0.0.1:0", change: func(c *Config) {
			c.OIDCIssuer, c.OIDCClientID, c.OIDCClientSecretFile = "https://id.example.com", "pgqueue", "/nowhere/secret"
			c.AccessFile = writeFile(t, "rules: []")
		}, refused: "check the path"},
		"a sign-in without an address for browsers": {addr: "0.0.0.0:0", change: func(c *Config) {
			c.OIDCIssuer, c.OIDCClientID, c.OIDCClientSecret = "https://id.example.com", "pgqueue", "x"
			c.AccessFile = writeFile(t, "rules: []")
		}, refused: "public-url"},
		"a certificate that does not exist": {addr: "127.0.0.1:0", change: func(c *Config) {
			c.TLSCertFile, c.TLSKeyFile = "/nowhere/tls.crt", "/nowhere/tls.key"
		}, refused: "check the path"},
		"an unknown mode":           {addr: "127.0.0.1:0", change: func(c *Config) { c.Auth = "maybe" }, refused: "must be auto, on or off"},
		"opened and closed at once": {addr: "127.0.0.1:0", change: func(c *Config) { c.Auth, c.InsecureOpen = AuthOn, true }, refused: "leave one out"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newSlow()
			close(store.leave)
			cfg := store.config(io.Discard)
			cfg.Addr = c.addr
			open, opened := cfg.Store, false
			cfg.Store = func(ctx context.Context) (queue.Store, func(context.Context) error, error) {
				opened = true
				return open(ctx)
			}
			if c.change != nil {
				c.change(&cfg)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, err := Start(ctx, cfg)
			if c.refused != "" {
				if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), c.refused) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%v, want a refused start with %q", err, c.refused)
				}
				if opened != c.late {
					t.Errorf("the store was opened: %v, want %v; a database takes seconds to start", opened, c.late)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Stop(ctx) }()

			code, _ := do(t, "GET", s.URL()+"/api/queue", "")
			if (code == http.StatusUnauthorized) != c.closed {
				t.Errorf("a request without a credential gets %d", code)
			}
			if code, _ := do(t, "GET", s.URL()+"/readyz", ""); code != http.StatusOK {
				t.Errorf("a probe gets %d", code)
			}
		})
	}
}

// accessLines are the lines of the log that say how a server is open or closed.
var accessLines = map[string]struct{ level, message string }{
	"open until a token": {"WARN", "open to every program on this machine; the first token closes it"},
	"open here":          {"WARN", "open to every program on this machine: requests without a credential have every right"},
	"open":               {"WARN", "open to every machine that reaches the address: requests without a credential have every right"},
	"closed for all":     {"WARN", "closed, and no credential exists"},
	"closed, plain":      {"WARN", "closed; credentials travel without encryption, unless a proxy in front adds TLS"},
	"closed":             {"INFO", "closed: each request needs a credential"},
}

// TestStartLinesOfAccess: each start over the table of contract section 11 writes the one line of its row.
func TestStartLinesOfAccess(t *testing.T) {
	const here, everywhere = "127.0.0.1:0", "0.0.0.0:0"
	credential := func(c *Config) { c.AdminToken = access.NewSecret().Reveal() }
	insecure := func(c *Config) { c.InsecureOpen = true }
	auth := func(mode string) func(*Config) { return func(c *Config) { c.Auth = mode } }
	encrypted := func(c *Config) {
		withTLS, _ := tlsConfig(t, io.Discard)
		c.TLSCertFile, c.TLSKeyFile = withTLS.TLSCertFile, withTLS.TLSKeyFile
	}
	proxied := func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8"} }

	for name, c := range map[string]struct {
		addr    string
		changes []func(*Config)
		want    string
		attr    string // a part of the line beside the address
	}{
		"loopback, no credential":                        {here, nil, "open until a token", `"command":"pgqueue create-token admin --grant 'system@*' --url http`},
		"loopback, a credential":                         {here, []func(*Config){credential}, "closed", ""},
		"loopback, no credential, auth on":               {here, []func(*Config){auth(AuthOn)}, "closed for all", `"command":"pgqueue create-token admin --grant 'system@*' --data-dir `},
		"loopback, no credential, auth off":              {here, []func(*Config){auth(AuthOff)}, "open here", `"flag":"--auth off"`},
		"loopback, a credential, auth off":               {here, []func(*Config){credential, auth(AuthOff)}, "open here", `"flag":"--auth off"`},
		"loopback, no credential, opened":                {here, []func(*Config){insecure}, "open here", `"flag":"--insecure-open"`},
		"loopback, a credential, opened":                 {here, []func(*Config){credential, insecure}, "open here", `"flag":"--insecure-open"`},
		"elsewhere, no credential, opened":               {everywhere, []func(*Config){insecure}, "open", `"flag":"--insecure-open"`},
		"elsewhere, a credential, opened":                {everywhere, []func(*Config){credential, insecure}, "open", `"flag":"--insecure-open"`},
		"elsewhere, a credential, opened, auth off":      {everywhere, []func(*Config){credential, insecure, auth(AuthOff)}, "open", `"flag":"--insecure-open"`},
		"elsewhere, a credential":                        {everywhere, []func(*Config){credential}, "closed, plain", ""},
		"elsewhere, a credential, auth on":               {everywhere, []func(*Config){credential, auth(AuthOn)}, "closed, plain", ""},
		"elsewhere, a credential and TLS":                {everywhere, []func(*Config){credential, encrypted}, "closed", ""},
		"elsewhere, a credential behind a trusted proxy": {everywhere, []func(*Config){credential, proxied}, "closed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			store, log := newSlow(), &lines{}
			close(store.leave)
			cfg := store.config(log)
			cfg.Addr = c.addr
			for _, change := range c.changes {
				change(&cfg)
			}
			start(t, cfg)

			for kind, line := range accessLines {
				records := log.all(t, line.message)
				if (len(records) == 1) != (kind == c.want) || len(records) > 1 {
					t.Errorf("the log has %d lines %q", len(records), line.message)
				}
				if kind == c.want && len(records) == 1 && records[0]["level"] != line.level {
					t.Errorf("the line is %v, want the level %s", records[0], line.level)
				}
			}
			if !log.contains(c.attr) {
				t.Errorf("the log has no %s: %s", c.attr, log.text())
			}
			if cfg.AdminToken != "" && log.contains(cfg.AdminToken) {
				t.Error("the log has the token")
			}
		})
	}
}

// TestCredentialsOverTransports sends each wrong credential over each way in, and expects the same kind for the same reason.
func TestCredentialsOverTransports(t *testing.T) {
	admin, worker, unknown := access.NewSecret().Reveal(), access.NewSecret().Reveal(), access.NewSecret().Reveal()
	for name, c := range map[string]struct {
		token   string
		prepare func(s *Server) (token, cookie string) // in place of token
		want    queue.Kind
		says    string
	}{
		"none":                       {"", nil, queue.KindUnauthenticated, "must be a bearer token"},
		"garbage":                    {"garbage", nil, queue.KindUnauthenticated, "must have the form of a token"},
		"a letter of no token":       {unknown[:len(unknown)-1] + "~", nil, queue.KindUnauthenticated, "must have the form of a token"},
		"bad checksum":               {spoilChecksum(unknown), nil, queue.KindUnauthenticated, "must have the checksum of its letters"},
		"bad checksum of a live one": {spoilChecksum(admin), nil, queue.KindUnauthenticated, "must have the checksum of its letters"},
		"unknown":                    {unknown, nil, queue.KindUnauthenticated, "one that is unknown, expired or revoked"},
		"expired":                    {"", func(s *Server) (string, string) { return issueExpired(t, s), "" }, queue.KindUnauthenticated, "one that is unknown, expired or revoked"},
		"revoked": {"", func(s *Server) (string, string) {
			revoked := issueThrough(t, s, admin)
			if _, err := dialAs(t, s, "rest", admin).(access.Admin).RevokeToken(t.Context(), revoked.ID); err != nil {
				t.Fatal(err)
			}
			return revoked.Secret.Reveal(), ""
		}, queue.KindUnauthenticated, "one that is unknown, expired or revoked"},
		"two that differ":  {"", func(s *Server) (string, string) { return worker, sessionCookie(t, s, admin) }, queue.KindInvalid, "must not come with the cookie of a session"},
		"two of one owner": {"", func(s *Server) (string, string) { return admin, sessionCookie(t, s, admin) }, queue.KindInvalid, "must not come with the cookie of a session"},
		"other rights":     {worker, nil, queue.KindDenied, "must have the right"},
		"admin":            {admin, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			store := newSlow()
			close(store.leave)
			cfg := store.config(io.Discard)
			cfg.AdminTokenFile = writeTokens(t, admin, worker+" worker@default/mail*")
			s := start(t, cfg) // one for each credential, because wrong ones are limited
			if _, err := dialAs(t, s, "rest", admin).CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
				t.Fatal(err)
			}

			token := c.token
			var header []string
			if c.prepare != nil {
				var cookie string
				if token, cookie = c.prepare(s); cookie != "" {
					header = []string{"Cookie", cookie}
				}
			}
			for _, way := range []string{"rest", "connect", "grpc", "grpcweb"} {
				svc := dialAs(t, s, way, token, header...)
				_, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{})
				if queue.KindOf(err) != c.want || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("over %s: %v, want %q with %q", way, err, c.want, c.says)
				}
				if err != nil && token != "" && strings.Contains(err.Error(), token) {
					t.Errorf("over %s: the error shows the token", way)
				}
				if c.want != "" {
					checkStreamsRefused(t, svc, way, c.want, c.says)
				}
			}
		})
	}
}

// checkStreamsRefused checks that a stream of events, and one of a worker where the way has it, are refused as a call is. The token
// of a worker has a right to the latter.
func checkStreamsRefused(t *testing.T, svc queue.Service, way string, want queue.Kind, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a stream that is not refused would not end
	defer cancel()
	err := svc.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return errDone })
	if queue.KindOf(err) != want || !strings.Contains(err.Error(), says) {
		t.Errorf("a stream of events over %s: %v, want %q with %q", way, err, want, says)
	}
	if way != "connect" && way != "grpc" || want == queue.KindDenied {
		return
	}
	stream := connectclient.NewStream(svc.(*connectclient.Client))
	defer stream.Close()
	_, err = stream.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 1})
	if queue.KindOf(err) != want || !strings.Contains(err.Error(), says) {
		t.Errorf("a stream of a worker over %s: %v, want %q with %q", way, err, want, says)
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

// issueExpired makes a token in the store of a server that has expired.
func issueExpired(t *testing.T, s *Server) string {
	t.Helper()
	secret := access.NewSecret()
	grants, err := access.ParseGrants([]string{"system@*"})
	if err != nil {
		t.Fatal(err)
	}
	n := access.NewToken{ID: secret.ID(), Digest: secret.Digest(), Name: "expired", Grants: grants, Life: time.Nanosecond}
	if _, err := s.control.tokens.CreateToken(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

// sessionCookie signs in with a token and returns the cookie.
func sessionCookie(t *testing.T, s *Server, token string) string {
	t.Helper()
	c := (&page{T: t, url: s.URL()}).signIn(token)
	return c.Name + "=" + c.Value
}

var errDone = errors.New("enough")

// TestRefusedStreamsSayWhy: a stream that reaches no transport ends with the reason that a call gets, in each protocol.
func TestRefusedStreamsSayWhy(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.AdminTokenFile = writeTokens(t, access.NewSecret().Reveal())
	s := start(t, cfg)
	for _, way := range []string{"rest", "connect", "grpc", "grpcweb"} {
		svc := dialAs(t, s, way, "garbage")
		_, call := svc.GetQueue(t.Context(), "mail")
		unary, _ := errors.AsType[*queue.Error](call)
		stream, _ := errors.AsType[*queue.Error](svc.SubscribeEvents(t.Context(), queue.EventFilter{}, func(queue.Event) error { return errDone }))
		if unary == nil || stream == nil || unary.Kind != queue.KindUnauthenticated || stream.Kind != unary.Kind || stream.Msg != unary.Msg {
			t.Errorf("%s: a call ends with %v, a stream with %v", way, unary, stream)
		}
	}
}

// TestTooManyRefusalsKeepTheirKind: beyond the limit of its address a wrong credential is refused as one before it, at once, so that
// no client and no worker repeats it as after an outage.
func TestTooManyRefusalsKeepTheirKind(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.AdminTokenFile = writeTokens(t, access.NewSecret().Reveal())
	s := start(t, cfg)
	token := access.NewSecret().Reveal()
	for status := http.StatusUnauthorized; status != http.StatusTooManyRequests; {
		status, _ = doAs(t, token, "GET", s.URL()+"/api/queue", "")
	}
	for _, way := range []string{"rest", "connect", "grpc", "grpcweb"} {
		svc := dialAs(t, s, way, token)
		begin := time.Now()
		_, err := svc.GetQueue(t.Context(), "mail")
		if took := time.Since(begin); queue.KindOf(err) != queue.KindUnauthenticated || !strings.Contains(err.Error(), "must be valid, got another one") || took > time.Second {
			t.Errorf("over %s: %v after %v", way, err, took)
		}
		checkStreamsRefused(t, svc, way, queue.KindUnauthenticated, "must be valid, got another one")
	}
}

// issueThrough makes a token of a viewer through the server.
func issueThrough(t *testing.T, s *Server, admin string) access.IssuedToken {
	t.Helper()
	issued, err := dialAs(t, s, "rest", admin).(access.Admin).CreateToken(t.Context(), access.TokenRequest{Name: "viewer", Grants: []string{"viewer@default"}})
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// dialAs returns a client of a server by a protocol and a token. header are pairs of names and values.
func dialAs(t *testing.T, s *Server, way, token string, header ...string) queue.Service {
	t.Helper()
	if way == "rest" {
		var opts []restclient.Option
		if token != "" {
			opts = append(opts, restclient.WithToken(func() string { return token }))
		}
		for i := 0; i < len(header); i += 2 {
			opts = append(opts, restclient.WithHeader(header[i], header[i+1]))
		}
		c, err := restclient.New(s.URL()+"/api", opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}

	protocol := map[string]connectclient.Protocol{"connect": connectclient.Connect, "grpc": connectclient.GRPC, "grpcweb": connectclient.GRPCWeb}[way]
	opts := []connectclient.Option{connectclient.WithProtocol(protocol)}
	if token != "" {
		opts = append(opts, connectclient.WithToken(func() string { return token }))
	}
	for i := 0; i < len(header); i += 2 {
		opts = append(opts, connectclient.WithHeader(header[i], header[i+1]))
	}
	c, err := connectclient.New(s.URL(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestFirstTokenClosesTheServer: the token that a caller of an open server makes, and one that another process makes.
func TestFirstTokenClosesTheServer(t *testing.T) {
	store, log := newSlow(), &lines{}
	close(store.leave)
	s := start(t, store.config(log))
	admin := dialAs(t, s, "rest", "").(access.Admin)
	if _, err := admin.CreateToken(t.Context(), access.TokenRequest{Name: "w", Grants: []string{"worker@default"}}); queue.KindOf(err) != queue.KindInvalid {
		t.Fatalf("a first token without every right: %v", err)
	}

	const closing = "closed from now on: a credential exists, so each request needs one"
	if n := countLines(t, log, closing); n != 0 {
		t.Errorf("the log says %d times that an open server closes", n)
	}
	issued, err := admin.CreateToken(t.Context(), access.TokenRequest{Name: "admin", Grants: []string{"system@*"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := countLines(t, log, closing); n != 1 {
		t.Errorf("the log says %d times that the server closes", n)
	}
	if code, _ := do(t, "GET", s.URL()+"/api/queue", ""); code != http.StatusUnauthorized {
		t.Errorf("after the first token a request without one gets %d", code)
	}
	identity, err := dialAs(t, s, "rest", issued.Secret.Reveal()).(access.Admin).WhoAmI(t.Context())
	if err != nil || identity.ID != issued.ID {
		t.Errorf("the token proves %+v: %v", identity, err)
	}
}

// TestAServerThatIsBeingClosedKeepsItsTokens: beside --insecure-open and any credential, also one without the role system, a request
// without a credential has every right but those on tokens and sessions.
func TestAServerThatIsBeingClosedKeepsItsTokens(t *testing.T) {
	admin := access.NewSecret().Reveal()
	for name, credential := range map[string]func(*Config){
		"a token with every right": func(c *Config) { c.AdminToken = admin },
		"a file with the token of a worker": func(c *Config) {
			c.AdminTokenFile = writeFile(t, access.NewSecret().Reveal()+" worker@default")
		},
		"an issuer of JWTs": func(c *Config) {
			c.AccessFile = writeFile(t, "issuers: [{issuer: https://id.example.com, audience: pgqueue}]")
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newSlow()
			close(store.leave)
			cfg := store.config(io.Discard)
			cfg.InsecureOpen = true
			credential(&cfg)
			s := start(t, cfg)
			for _, way := range []string{"rest", "connect"} {
				open := dialAs(t, s, way, "").(access.Admin)
				_, created := open.CreateToken(t.Context(), access.TokenRequest{Name: "backdoor", Grants: []string{"system@*"}})
				_, rotated := open.RotateToken(t.Context(), "abcdefgh", access.Rotation{})
				_, revoked := open.RevokeToken(t.Context(), "abcdefgh")
				for what, err := range map[string]error{"create": created, "rotate": rotated, "revoke": revoked} {
					if queue.KindOf(err) != queue.KindDenied {
						t.Errorf("%s over %s without a credential: %v, want it denied", what, way, err)
					}
				}
			}
		})
	}
}

// TestOpenRequestsAreLogged: a server that is opened beside credentials logs each request without one, with its client, and
// without the secret that a client puts in a wrong place.
func TestOpenRequestsAreLogged(t *testing.T) {
	log := &lines{}
	store := newSlow()
	close(store.leave)
	cfg := store.config(log)
	cfg.AdminToken, cfg.InsecureOpen = access.NewSecret().Reveal(), true
	s := start(t, cfg)
	code, _, _ := send(t, wireClient(t), "GET", s.URL()+"/api/queue/"+cfg.AdminToken, "", nil, "User-Agent", "reports/1 "+cfg.AdminToken)
	if code != http.StatusNotFound && code != http.StatusUnprocessableEntity {
		t.Errorf("an open server answers %d", code)
	}
	if !log.contains(`"level":"WARN","msg":"request without a credential"`) || !log.contains(`"client":"reports/1 pgq_`) || !log.contains(`"remote":"127.0.0.1:`) {
		t.Errorf("the log is %s", log.text())
	}
	if log.contains(cfg.AdminToken) {
		t.Error("the log has the token")
	}
}

// TestPublicRoutesAreExact: queues with the names of public routes need a credential.
func TestPublicRoutesAreExact(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.AdminToken = access.NewSecret().Reveal()
	s := start(t, cfg)
	for path, public := range map[string]bool{
		"/livez": true, "/readyz": true, "/openapi.json": true, "/openapi.yaml": true, "/docs": true, "/docs/init.js": true,
		"/": false, "/readyz?verbose": false, "/readyz?verbose=0": false, "/livez/": false, "//livez": false, "/api/queue/livez": false, "/api/queue/health": false,
		"/api/task/readyz": false, "/api/metrics": false, "/api/whoami": false, "/docs/../api/queue": false, "/nothing": false,
	} {
		if code, _ := do(t, "GET", s.URL()+path, ""); (code != http.StatusUnauthorized) != public {
			t.Errorf("GET %s gets %d", path, code)
		}
	}
	if code, _ := do(t, "POST", s.URL()+"/livez", ""); code != http.StatusUnauthorized {
		t.Errorf("POST /livez gets %d", code)
	}
}

// TestRevocationEndsStreams: a revocation through one server ends the open streams and the waiting calls of another one within
// 10 s, over each way in, and a stream of another token stays open.
func TestRevocationEndsStreams(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.AdminToken = access.NewSecret().Reveal()
	cfg.confirmEvery = 100 * time.Millisecond
	first := start(t, cfg)
	shared := cfg
	shared.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	second := start(t, shared)
	admin := dialAs(t, first, "rest", cfg.AdminToken)
	if _, err := admin.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	issued, err := admin.(access.Admin).CreateToken(t.Context(), access.TokenRequest{Name: "a", Grants: []string{"admin@default"}})
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := admin.CreateTask(t.Context(), "mail", queue.TaskMeta{DelayedAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}

	calls := map[string]func(s queue.Service) error{
		"events": func(s queue.Service) error {
			return s.SubscribeEvents(t.Context(), queue.EventFilter{}, func(queue.Event) error { return nil })
		},
		"ticks": func(s queue.Service) error {
			return s.RunTickerLoop(t.Context(), func(context.Context, queue.Tick) error { return nil })
		},
		"a waiting retain": func(s queue.Service) error {
			_, err := s.RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Wait: time.Minute})
			return err
		},
		"an await": func(s queue.Service) error {
			_, err := s.AwaitTask(t.Context(), waiting.ID, time.Minute)
			return err
		},
	}
	type end struct {
		name string
		err  error
	}
	ended, expected := make(chan end, 20), 0
	for _, way := range []string{"rest", "connect", "grpc", "grpcweb"} { // over REST these are server-sent events
		for name, call := range calls {
			if way == "grpcweb" && name == "ticks" {
				continue // it needs a stream in both directions
			}
			client := dialAs(t, second, way, issued.Secret.Reveal())
			expected++
			go func() { ended <- end{name + " over " + way, call(client)} }()
		}
	}
	for _, way := range streamWays {
		stream := consumerAs(t, second, way, issued.Secret.Reveal()).(queue.Service)
		expected++
		go func() { ended <- end{"a retain of a " + way, calls["a waiting retain"](stream)} }()
	}
	expected++
	go func() { ended <- end{"the stream of stats", followStats(t.Context(), second, issued.Secret.Reveal())} }()
	open, cancel := context.WithCancel(t.Context())
	defer cancel()
	other := make(chan error, 2)
	go func() {
		other <- dialAs(t, second, "connect", cfg.AdminToken).SubscribeEvents(open, queue.EventFilter{}, func(queue.Event) error { return nil })
	}()
	go func() { other <- followStats(open, second, cfg.AdminToken) }()

	time.Sleep(time.Second) // so that all of them are open
	begin := time.Now()
	if _, err := admin.(access.Admin).RevokeToken(t.Context(), issued.ID); err != nil {
		t.Fatal(err)
	}
	for range expected {
		select {
		case e := <-ended:
			if took := time.Since(begin); queue.KindOf(e.err) != queue.KindUnauthenticated || took > 10*time.Second {
				t.Errorf("%s ended after %v with %v", e.name, took, e.err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("a call of a revoked token goes on")
		}
	}
	select {
	case err := <-other:
		t.Errorf("a stream of another token ended with %v", err)
	default:
	}
	cancel()
	for range cap(other) {
		if err := <-other; err == nil {
			t.Error("a canceled stream must end with an error")
		}
	}
}

// followStats reads the stream of stats to its end, and returns the error of its last event, or that of its connection.
func followStats(ctx context.Context, s *Server, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/api"+restapi.ListStats.Path, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", restapi.MediaEventStream)
	return readStats(client.Do(req))
}

// readStats reads an answer that must be a stream of stats to its end, and returns the error of its last event.
func readStats(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	at := bytes.LastIndex(text, []byte("event: error\ndata: "))
	if at < 0 || !bytes.Contains(text[:at], []byte("event: stats\n")) {
		return fmt.Errorf("the stream must have stats, and an error at its end, got %d %.500q", resp.StatusCode, text)
	}
	var p problem
	if err := json.Unmarshal(text[at+len("event: error\ndata: "):], &p); err != nil {
		return err
	}
	return &queue.Error{Kind: queue.Kind(p.Code), Msg: p.Detail}
}

// TestChangesOfTokensReachOtherServersAtOnce: a server asks its store again after a change through another server, long before
// its cache ends. An open one closes at the first token of another one.
func TestChangesOfTokensReachOtherServersAtOnce(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	first, second := start(t, cfg), start(t, cfg)
	if code, _ := do(t, "GET", second.URL()+"/api/queue", ""); code != http.StatusOK {
		t.Fatalf("an open server answers %d", code)
	}

	admin, err := dialAs(t, first, "rest", "").(access.Admin).CreateToken(t.Context(), access.TokenRequest{Name: "admin", Grants: []string{"system@*"}})
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) { // another goroutine closes it
		if code, _ := do(t, "GET", second.URL()+"/api/queue", ""); code == http.StatusUnauthorized {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("the other server stays open")
		}
	}

	for range 20 {
		issued := issueThrough(t, first, admin.Secret.Reveal())
		used := dialAs(t, second, "connect", issued.Secret.Reveal())
		if _, err := used.ListQueues(t.Context(), queue.Page{}); err != nil {
			t.Fatal(err)
		}
		if _, err := dialAs(t, first, "grpc", admin.Secret.Reveal()).(access.Admin).RevokeToken(t.Context(), issued.ID); err != nil {
			t.Fatal(err)
		}
		// Within the time of the cache, because no time passes here.
		if _, err := used.ListQueues(t.Context(), queue.Page{}); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Fatalf("a revoked token gets %v through the other server", err)
		}
	}
}

// heldTokens is a store in which the look-up of a made-up token waits for the end of held.
type heldTokens struct {
	*memory.Store
	known   sync.Map // of digests
	entered chan struct{}
	held    chan struct{}
}

func (h *heldTokens) FindToken(ctx context.Context, digest [sha256.Size]byte) (access.Token, error) {
	if _, known := h.known.Load(digest); !known {
		h.entered <- struct{}{}
		<-h.held
	}
	return h.Store.FindToken(ctx, digest)
}

// TestAFloodOfMadeUpTokensDelaysNoOthers: while one address floods a server with made-up tokens, a token that it has seen passes
// also from that address, and one that it has not seen passes from another one.
func TestAFloodOfMadeUpTokensDelaysNoOthers(t *testing.T) {
	const flooding, quiet = "127.0.0.2", "127.0.0.1"
	if probe, err := net.Listen("tcp", flooding+":0"); err != nil {
		t.Skip("this system has one loopback address: " + err.Error())
	} else {
		_ = probe.Close()
	}

	store := newSlow()
	close(store.leave)
	held := &heldTokens{Store: store.Store.(*memory.Store), entered: make(chan struct{}, 1000), held: make(chan struct{})}
	cfg := store.config(io.Discard)
	cfg.AdminToken = access.NewSecret().Reveal()
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return held, func(context.Context) error { return nil }, nil
	}
	s := start(t, cfg)
	issue := func() string {
		t.Helper()
		var issued restapi.IssuedToken
		if _, text := doAs(t, cfg.AdminToken, "POST", s.URL()+"/api/token", `{"name":"w","grants":["viewer@default"]}`); json.Unmarshal([]byte(text), &issued) != nil {
			t.Fatal(text)
		}
		held.known.Store(sha256.Sum256([]byte(issued.Secret)), true)
		return issued.Secret
	}

	ask := func(address, token string) int {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		transport := &http.Transport{DialContext: dialer.DialContext}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/api/queue", http.NoBody)
		if err != nil {
			t.Error(err)
			return 0
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(r)
		if err != nil {
			t.Logf("from %s: %v", address, err)
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	seen, unseen := issue(), issue()
	if status := ask(quiet, seen); status != http.StatusOK {
		t.Fatal("the token gets", status)
	}
	for want := http.StatusUnauthorized; want == http.StatusUnauthorized; {
		want = ask(flooding, "wrong") // until the address has exceeded its limit
	}

	var flood sync.WaitGroup
	for range 60 {
		flood.Go(func() { ask(flooding, access.NewSecret().Reveal()) })
	}
	<-held.entered
	s.control.auth.Forget() // so that the seen one is read again
	if status := ask(flooding, seen); status != http.StatusOK {
		t.Errorf("a seen token from the address of the flood gets %d", status)
	}
	if status := ask(quiet, unseen); status != http.StatusOK {
		t.Errorf("a new token from another address gets %d", status)
	}
	close(held.held)
	flood.Wait()
}
