package run

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// Flags defines the flags of a server on to and binds them to c. The present values of c are the defaults.
func Flags(to *pflag.FlagSet, c *Config) {
	// A set of its own, so that FromEnvironment binds the flags of the server alone.
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Addr, c.Prefix, c.Schema, c.Namespace = DefaultAddr, DefaultPrefix, program.DefaultSchema, queue.DefaultNamespace
	c.UIPath = DefaultUIPath
	c.Wait, c.StopTimeout, c.MaxPayloadBytes = program.DefaultWait, DefaultStopTimeout, queue.DefaultMaxPayloadBytes
	c.IdleTimeout = restserver.DefaultIdle
	fs.StringVar(&c.Addr, "addr", c.Addr, "listen on this `host:port`; port 0 takes a free one")
	fs.StringVar(&c.Prefix, "prefix", c.Prefix, "`path` in front of the REST routes")
	fs.Var((*negated)(&c.NoUI), "ui", "serve the dashboard, a page for browsers")
	fs.Lookup("ui").NoOptDefVal = "true"
	fs.StringVar(&c.UIPath, "ui-path", c.UIPath, "`path` of the dashboard")
	c.Database.Flags(fs)
	fs.StringVar(&c.DataDir, "data-dir", c.DataDir, "`folder` of the embedded PostgreSQL (default: in the user's data folder)")
	fs.Var((*negated)(&c.NoMigrate), "migrate", "create and upgrade the tables at start")
	fs.Lookup("migrate").NoOptDefVal = "true"
	fs.Var((*negated)(&c.NoBackground), "background", "do background work: promote, rescue, expire, prune, tick")
	fs.Lookup("background").NoOptDefVal = "true"
	program.TimeoutVar(fs, &c.IdleTimeout, "idle-timeout", "how long an unused connection stays; longer than the load balancer's")
	program.TimeoutVar(fs, &c.StopTimeout, "stop-timeout", "how long a graceful stop may take")
	program.DurationVar(fs, &c.DrainDelay, "drain-delay", "how long /readyz is off before requests are refused")
	fs.IntVar(&c.MaxPayloadBytes, "max-payload", c.MaxPayloadBytes, "most `bytes` of a payload or a result")
	fs.StringSliceVar(&c.CORSOrigins, "cors-origin", c.CORSOrigins, "`origins` of web pages that may call, as https://app.example.com")
	program.AllowedHostFlag(fs, &c.AllowedHosts)
	fs.StringSliceVar(&c.TrustedProxies, "trusted-proxy", c.TrustedProxies, "`networks` of proxies that may name the address of their client, as 10.0.0.0/8")
	fs.StringVar(&c.TLSCertFile, certField, "", "`file` of the certificate of the port, with its chain; it is read again when it changes")
	fs.StringVar(&c.TLSKeyFile, keyField, "", "`file` of the key of the certificate")
	fs.StringVar(&c.TLSClientCAFile, clientCAField, "", "`file` of the authorities of client certificates, which the access file gives grants; it is read again when it changes")
	fs.StringVar(&c.TLSClientAuth, "tls-client-auth", "", "`whether` clients need a certificate: optional (the default), or required (for all but public routes such as probes)")
	fs.StringVar(&c.Auth, "auth", AuthAuto, "`when` requests need a credential: auto (once one exists), on, or off (only at a loopback address)")
	fs.BoolVar(&c.InsecureOpen, "insecure-open", false, "let requests without a credential do everything, at any address")
	fs.StringVar(&c.AdminTokenFile, "admin-token-file", "", "`file` with a token on each line, and its grants behind it, else every right; it is read again when it changes")
	program.SecretVar(fs, &c.AdminToken, "admin-token", "a `token` that has every right")
	fs.StringVar(&c.AccessFile, "access-file", "", "YAML `file` of issuers and of rules that give grants to JWTs and certificates; it is read again when it changes")
	c.SessionLife, c.SessionIdle = access.DefaultSessionLife, access.DefaultSessionIdle
	program.DurationVar(fs, &c.SessionLife, "session-ttl", "how long a session of the dashboard may last, 5m to 30d")
	program.DurationVar(fs, &c.SessionIdle, "session-idle", "how long a session lasts without a request, at least 5m")
	fs.StringVar(&c.PublicURL, "public-url", "", "`URL` of this server for browsers, as https://queue.example.com")
	fs.StringVar(&c.OIDCIssuer, "oidc-issuer", "", "`URL` of the identity provider at which users of the dashboard sign in")
	fs.StringVar(&c.OIDCClientID, "oidc-client-id", "", "client `id` of this server at the identity provider")
	program.SecretVar(fs, &c.OIDCClientSecret, "oidc-client-secret", "client `secret` of this server at the identity provider")
	fs.StringVar(&c.OIDCClientSecretFile, "oidc-client-secret-file", "", "`file` with the client secret of this server at the identity provider")
	program.InPlaceOf(fs, "oidc-client-secret-file", "oidc-client-secret")
	c.AuditRetention = new(access.DefaultAuditRetention)
	program.DurationVar(fs, c.AuditRetention, "audit-retention", "age at which entries of the audit are removed, at least 30d; 0 = never")
	program.ProfilesFlag(fs, &c.ProfilesAddr)
	program.FromEnvironment(fs)
	to.AddFlagSet(fs)
}

// negated is a flag with the opposite value of its variable, so that the zero Config holds the defaults.
type negated bool

func (n *negated) String() string {
	if *n {
		return "false"
	}
	return "true"
}

func (n *negated) Set(s string) error {
	switch s {
	case "true", "1", "yes", "on":
		*n = false
	case "false", "0", "no", "off":
		*n = true
	default:
		return fmt.Errorf("must be true or false, got %.64q", s)
	}
	return nil
}

func (*negated) Type() string { return "bool" }
