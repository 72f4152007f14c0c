package run

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/oidc"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// The values of Config.Auth.
const (
	// AuthAuto closes the server once a credential exists.
	AuthAuto = "auto"
	// AuthOn closes the server in every case.
	AuthOn = "on"
	// AuthOff lets requests without a credential pass.
	AuthOff = "off"
)

// portAccess is the state of access of a server: closed to requests without a credential, or open to them as the local principal.
// Contract section 11 has its table.
type portAccess struct {
	open bool
	// untilCredential closes an open port at the first credential.
	untilCredential bool
}

// decideAccess decides by the settings, by the address of the port, and by whether a credential exists. The error of a
// refused start is KindInvalid.
func decideAccess(cfg *Config, loopback, exists bool) (portAccess, error) {
	switch {
	case cfg.Auth == AuthOn && cfg.InsecureOpen:
		return portAccess{}, queue.Invalid("insecure-open", "must not come with --auth on, which closes the server; leave one out")
	case cfg.InsecureOpen:
		return portAccess{open: true}, nil
	case !loopback && cfg.Auth == AuthOff:
		return portAccess{}, queue.Invalid("auth", fmt.Sprintf("must be auto or on at an address that other machines reach, got off at %.64q; add --insecure-open to open the server to all of them", cfg.Addr))
	case !loopback && !exists:
		remedy := "create a token (pgqueue create-token admin --grant system@* --database-url URL), give"
		if cfg.URL == "" && cfg.Store == nil { // the embedded PostgreSQL does not run before the server
			remedy = "give"
		}
		return portAccess{}, queue.Invalid("addr", fmt.Sprintf(
			"must be a loopback address as long as no credential exists, got %.64q, which would be open to every machine; %s "+
				"--admin-token-file (pgqueue generate-token makes a token), or add --insecure-open", cfg.Addr, remedy))
	case cfg.Auth == AuthOff:
		return portAccess{open: true}, nil
	case cfg.Auth == AuthOn || exists:
		return portAccess{}, nil
	}
	return portAccess{open: true, untilCredential: true}, nil
}

// watchAccessEvery is the interval at which an open server looks for the first token, which another process may have made, and
// at which the files of settings are read again. With access.ConfirmInterval it bounds the time from the change of a file to the
// end of open streams, which is at most 10 s.
const watchAccessEvery = 3 * time.Second

// accessControl decides which principal a request has. It is safe for concurrent use.
type accessControl struct {
	log    *slog.Logger
	tokens access.Tokens
	auth   *access.Authenticator
	admin  access.Admin

	rules   []access.Rule                   // those of mapping; only reads of setting files use it
	mapping access.Mapping                  // the rules of the access file
	issuers atomic.Pointer[[]access.Issuer] // those of the access file; nil = none
	proofs  *oidc.Verifier
	jwts    *access.JWTAuthenticator

	sessions *access.SessionKeeper
	cookie   httpaccess.Cookie
	login    *httpaccess.Login // nil without an identity provider
	flow     *oidc.CodeFlow    // that of login
	refusals httpaccess.Refusals

	changed chan struct{} // holds one item after a change of tokens by any server

	hasStatic   atomic.Bool // a static token exists
	hasClientCA bool        // client certificates prove callers

	watchEvery time.Duration // [watchAccessEvery]

	insecure           bool
	open               atomic.Bool
	closesAtCredential atomic.Bool // close at the first credential
}

// startAccess decides about access by the settings and the credentials that exist, and starts to watch both.
func (s *Server) startAccess(ctx context.Context, store queue.Store) error {
	tokens, ok := queue.StoreAs[access.Tokens](store)
	sessions, hasSessions := queue.StoreAs[access.SessionStore](store)
	if !ok || !hasSessions {
		return &queue.Error{Op: "start", Kind: queue.KindInvalid, Field: "store", Msg: "must store tokens and sessions, got a store without them; use another store"}
	}

	g := &accessControl{
		log: s.log, tokens: tokens, auth: access.NewAuthenticator(tokens), changed: make(chan struct{}, 1), insecure: s.cfg.InsecureOpen,
		hasClientCA: s.cfg.TLSClientCAFile != "", watchEvery: cmp.Or(s.cfg.watchEvery, watchAccessEvery),
	}
	g.auth.Doubt(func(ctx context.Context) bool { return g.refusals.Exceeds(access.CallerFrom(ctx).Remote, time.Now()) })
	g.proofs = oidc.New(s.log)
	g.jwts = access.NewJWTAuthenticator(g.proofs, &g.mapping)
	s.prependStep("end requests to issuers", func(context.Context) error {
		g.proofs.Close()
		return nil
	})
	// Before the parts that record entries.
	s.startAudit(store)
	if err := s.startSessions(g, sessions); err != nil {
		return err
	}
	g.admin = s.tel.Admin(access.NewAdmin(tokens, access.AdminOptions{Changed: g.noticeChange, OtherCredential: g.hasOtherCredential, Audit: s.audit}))
	if err := s.readStatic(g); err != nil {
		return err
	}
	if err := s.readRules(g); err != nil {
		return err
	}
	if err := s.startLogin(g); err != nil {
		return err
	}

	// After the files: a static token or an issuer closes the server as a stored token does.
	exists, err := g.hasCredential(ctx)
	if err != nil {
		return err
	}
	loopback := isLoopback(s.ln.Addr())
	d, err := decideAccess(&s.cfg, loopback, exists)
	if err != nil {
		return err
	}
	g.open.Store(d.open)
	g.closesAtCredential.Store(d.untilCredential)
	g.logAccess(ctx, &s.cfg, s.APIURL(), loopback, exists)

	s.health.AddNotice("settings", s.files.check)
	s.health.AddNotice("issuers", g.proofs.Check)
	s.control = g
	if s.tls != nil {
		// Open streams of a removed authority end.
		s.tls.changed = func() { s.replaceRules(g, g.rules) }
	}
	s.watchAccess(ctx)
	return s.tel.WatchTokens(tokens)
}

// isLoopback reports whether only this machine reaches the address.
func isLoopback(addr net.Addr) bool {
	at, err := netip.ParseAddrPort(addr.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// The names of the settings of access that are files.
const (
	adminTokenField = "admin-token-file"
	accessFileField = "access-file"
)

// checkAccess refuses wrong settings and files of access before a database starts, which takes seconds. The parts that use them
// read them again.
func (s *Server) checkAccess() error {
	const exists = true // the store decides about that later
	if _, err := decideAccess(&s.cfg, isLoopback(s.ln.Addr()), exists); err != nil {
		return err
	}
	if _, err := s.cfg.readAdminToken(); err != nil {
		return err
	}
	if s.cfg.AdminTokenFile != "" {
		content, err := program.ReadSecret(adminTokenField, s.cfg.AdminTokenFile)
		if err != nil {
			return err
		}
		if _, err := access.ParseStaticTokens(adminTokenField, content); err != nil {
			return err
		}
	}
	if s.cfg.AccessFile != "" {
		content, err := s.cfg.readAccessFile()
		if err != nil {
			return err
		}
		if _, err := checkAccessFile(content); err != nil {
			return err
		}
	}
	return s.checkLogin()
}

// readAdminToken returns the admin token of the environment.
func (c *Config) readAdminToken() ([]access.StaticToken, error) {
	if c.AdminToken == "" {
		return nil, nil
	}
	return access.ParseStaticTokens(program.Variable("admin-token"), c.AdminToken)
}

func (c *Config) readAccessFile() (string, error) {
	return program.ReadFile(accessFileField, c.AccessFile, maxAccessFileBytes)
}

// checkAccessFile parses the content of an access file, and checks the files that it names.
func checkAccessFile(content string) (accessFile, error) {
	file, err := parseAccessFile(content)
	if err != nil {
		return file, err
	}
	for _, i := range file.issuers {
		if err := oidc.CheckFiles(i); err != nil {
			return file, queue.At(accessFileField, err)
		}
	}
	return file, nil
}

// readStatic reads the admin token of the environment, and the tokens of the file now and at each reload.
func (s *Server) readStatic(g *accessControl) error {
	fixed, err := s.cfg.readAdminToken()
	if err != nil {
		return err
	}
	g.acceptStatic(fixed)
	if s.cfg.AdminTokenFile == "" {
		return nil
	}

	var present string
	return s.files.add(adminTokenField, s.cfg.AdminTokenFile, func() (bool, error) {
		content, err := program.ReadSecret(adminTokenField, s.cfg.AdminTokenFile)
		if err != nil || content == present {
			return false, err
		}
		tokens, err := access.ParseStaticTokens(adminTokenField, content)
		if err != nil {
			return false, err
		}
		g.acceptStatic(slices.Concat(tokens, fixed))
		present = content
		return true, nil
	})
}

// readRules reads the access file now and at each reload.
func (s *Server) readRules(g *accessControl) error {
	if s.cfg.AccessFile == "" {
		return nil
	}

	present := ""
	isRead := false // an empty file at the start differs from one that was not read
	return s.files.add(accessFileField, s.cfg.AccessFile, func() (bool, error) {
		content, err := s.cfg.readAccessFile()
		if err != nil || isRead && content == present && !g.proofs.HasNewCertificates() {
			return false, err
		}
		file, err := checkAccessFile(content)
		if err != nil {
			return false, err
		}
		g.issuers.Store(&file.issuers)
		// The issuers before the rules, so that no rule names an issuer that is not there.
		g.proofs.Replace(file.issuers)
		s.replaceRules(g, file.rules)
		present = content
		isRead = true
		return true, nil
	})
}

// replaceRules makes rules and the present authorities, of certificates and of JWTs, the ones of principals.
func (s *Server) replaceRules(g *accessControl, rules []access.Rule) {
	authorities := g.proofs.Digests()
	if g.flow != nil {
		authorities = append(authorities, g.flow.Digests()...)
	}
	if s.tls != nil {
		if clients := s.tls.clients.Load(); clients != nil {
			authorities = append(authorities, clients.digests...)
		}
	}
	g.rules = rules
	g.mapping.Replace(rules, authorities...)
}

// acceptStatic makes the static tokens valid in place of the former ones.
func (g *accessControl) acceptStatic(tokens []access.StaticToken) {
	g.auth.AcceptStatic(tokens...)
	g.hasStatic.Store(len(tokens) > 0)
}

// trustedIssuers returns the issuers of JWTs that the access file has at present. The caller must not change them.
func (g *accessControl) trustedIssuers() []access.Issuer {
	if issuers := g.issuers.Load(); issuers != nil {
		return *issuers
	}
	return nil
}

// authenticate returns the principal of a bearer token: of a JWT while the server trusts an issuer, else of a token of pgqueue.
func (g *accessControl) authenticate(ctx context.Context, text string) (*access.Principal, error) {
	if access.IsJWT(text) && len(g.trustedIssuers()) > 0 {
		return g.jwts.Authenticate(ctx, text)
	}
	return g.auth.Authenticate(ctx, text)
}

// confirm returns an error when the credential of p is no longer valid.
func (g *accessControl) confirm(ctx context.Context, p *access.Principal) error {
	switch {
	case p.Kind == access.KindJWT || p.Kind == access.KindCertificate:
		return g.mapping.Confirm(p, time.Now())
	case p.Kind == access.KindLocal && !g.open.Load():
		return &queue.Error{Kind: queue.KindUnauthenticated, Msg: "must come with a valid credential since this server is closed, got none; send a token"}
	}
	return g.auth.Confirm(ctx, p)
}

// hasCredential reports whether any credential exists: a token, an issuer of JWTs, or an authority of client certificates.
func (g *accessControl) hasCredential(ctx context.Context) (bool, error) {
	if g.hasOtherCredential() {
		return true, nil
	}
	return g.tokens.HasTokens(ctx)
}

// hasOtherCredential is hasCredential without the tokens of the store.
func (g *accessControl) hasOtherCredential() bool {
	return g.hasStatic.Load() || g.login != nil || g.hasClientCA || len(g.trustedIssuers()) > 0
}

// logAccess logs how the server with an API at url is open or closed.
func (g *accessControl) logAccess(ctx context.Context, cfg *Config, url string, loopback, exists bool) {
	const create = "pgqueue create-token admin --grant 'system@*'"
	at := ""
	if url != program.DefaultServerURL {
		at = " --url " + url
	}

	flag := "--insecure-open"
	if !cfg.InsecureOpen {
		flag = "--auth off"
	}

	switch {
	case g.closesAtCredential.Load():
		g.log.WarnContext(ctx, "open to every program on this machine; the first token closes it", "addr", cfg.Addr,
			"command", create+at)
	case g.open.Load() && loopback:
		g.log.WarnContext(ctx, "open to every program on this machine: requests without a credential have every right", "addr", cfg.Addr, "flag", flag)
	case g.open.Load():
		g.log.WarnContext(ctx, "open to every machine that reaches the address: requests without a credential have every right", "addr", cfg.Addr, "flag", flag)
	case !exists:
		g.log.WarnContext(ctx, "closed, and no credential exists", "command", create+databaseFlag(cfg))
	case !loopback && cfg.TLSCertFile == "" && len(cfg.TrustedProxies) == 0:
		g.log.WarnContext(ctx, "closed; credentials travel without encryption, unless a proxy in front adds TLS", "addr", cfg.Addr)
	default:
		g.log.InfoContext(ctx, "closed: each request needs a credential", "addr", cfg.Addr)
	}
}

// databaseFlag returns the flag by which a command works on the database of the server.
func databaseFlag(cfg *Config) string {
	dir := cfg.DataDir
	if cfg.URL != "" {
		return " --database-url URL"
	}
	if dir == "" {
		dir, _ = embedded.DefaultDataDir() // the server has started in it
	}
	return " --data-dir " + dir
}

// noticeReport follows the report of a change of tokens, which another server or the command line may have made.
func (g *accessControl) noticeReport() {
	g.auth.Forget()
	select {
	case g.changed <- struct{}{}:
	default: // the look is due already
	}
}

// noticeChange follows a change of tokens through this server at once.
func (g *accessControl) noticeChange() {
	g.auth.Forget()
	g.closeOpen()
}

// closeOpen closes a server that is open until the first credential.
func (g *accessControl) closeOpen() {
	if g.closesAtCredential.CompareAndSwap(true, false) {
		g.open.Store(false)
		g.log.Info("closed from now on: a credential exists, so each request needs one")
	}
}

// watchAccess reads changed files of settings and looks for the first credential until the server stops.
func (s *Server) watchAccess(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopReports := func() {}
	if watcher, ok := s.control.tokens.(access.TokenWatcher); ok {
		stopReports = watcher.WatchTokens(s.control.noticeReport)
	}

	var watching sync.WaitGroup
	watching.Go(func() {
		for s.control.awaitLook(ctx) {
			s.files.read(ctx)
			// A server that is closed, or open for good, has nothing to look for.
			if !s.control.closesAtCredential.Load() {
				continue
			}
			// A failed look is repeated; it neither opens nor closes.
			look, done := context.WithTimeout(ctx, s.control.watchEvery)
			if exists, err := s.control.hasCredential(look); err == nil && exists {
				s.control.closeOpen()
			}
			done()
		}
	})
	s.prependStep("end the watch of access", func(context.Context) error {
		// In this order: no report may come once the watch has ended, and the watch uses the store.
		stopReports()
		cancel()
		watching.Wait()
		return nil
	})
}

// awaitLook waits until the next look at files and tokens is due, at a report or after the interval. It returns false at the end
// of ctx.
func (g *accessControl) awaitLook(ctx context.Context) bool {
	interval := time.NewTimer(g.watchEvery)
	defer interval.Stop()
	select {
	case <-g.changed:
	case <-interval.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// admits reports whether a request without a credential passes.
func (g *accessControl) admits(r *http.Request) bool {
	if !g.open.Load() {
		return false
	}
	if g.insecure {
		g.log.LogAttrs(r.Context(), slog.LevelWarn, "request without a credential", slog.String("path", access.HideSecrets(r.URL.Path)),
			slog.String("client", access.HideSecrets(r.UserAgent())), slog.String("remote", r.RemoteAddr), attrRequestID(r.Context()))
	}
	return true
}

// credentials returns the check of the credential of each request.
func (s *Server) credentials() httpaccess.Credentials {
	return httpaccess.Credentials{
		Authenticate: s.control.authenticate, Open: s.control.admits, Public: s.isPublic, Refuse: s.refuse, Audit: s.audit,
		Session: s.control.auth.AuthenticateSession, Cookie: s.control.cookie, Consumes: restserver.IsTickStream, Refusals: &s.control.refusals,
		Certificate: s.certificatePrincipal,
	}
}

// startAudit makes the recorder of a store with an audit.
func (s *Server) startAudit(store queue.Store) {
	log, ok := queue.StoreAs[access.AuditLog](store)
	if !ok {
		return
	}
	s.audit = access.NewAuditRecorder(access.AuditSettings{Log: log, Logger: s.log, Failed: s.tel.AuditFailed, Refused: s.tel.AccessRefused})
	s.files.audit = s.audit
	s.prependStep("write the counts of the audit", func(ctx context.Context) error {
		s.audit.Close(ctx)
		return nil
	})
}

// guard returns the service with a decision before each operation.
func (s *Server) guard(store queue.Store) queue.Service {
	queues, _ := queue.StoreAs[access.TaskQueues](store)
	return access.Guard(s.service, access.Guarding{Queues: queues, Confirm: s.control.confirm, ConfirmEvery: s.cfg.confirmEvery, Audit: s.audit})
}
