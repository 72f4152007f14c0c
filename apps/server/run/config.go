package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// Defaults of a Config.
const (
	DefaultAddr        = "localhost:8080"
	DefaultPrefix      = program.DefaultPrefix
	DefaultUIPath      = "/ui"
	DefaultStopTimeout = 20 * time.Second
)

// Config configures a server. The zero value is a server on DefaultAddr over an embedded PostgreSQL.
type Config struct {
	// Database configures the connection to PostgreSQL. Without a URL the server starts an embedded one.
	program.Database
	// DataDir is the folder of the embedded PostgreSQL; "" = the data folder of the user.
	DataDir string
	// NoMigrate leaves the schema unchanged. The server refuses an older or a missing schema.
	NoMigrate bool

	// Addr is the host and port to listen on; port 0 takes any free one.
	Addr string
	// Prefix of the REST routes.
	Prefix string
	// Namespace of requests without one.
	Namespace string
	// MaxPayloadBytes bounds payloads and results; 0 = queue.DefaultMaxPayloadBytes.
	MaxPayloadBytes int
	// CORSOrigins are the origins with pages that may call from browsers, such as https://app.example.com.
	CORSOrigins []string
	// AllowedHosts are the allowed Host names of requests over loopback, beside localhost and the host of Addr.
	AllowedHosts []string
	// TrustedProxies are the networks of proxies that may name the address and the scheme of their clients.
	TrustedProxies []string
	// TLSCertFile and TLSKeyFile are the certificate of the port, with its chain, and its key, in PEM. They are read again when
	// they change; "" = no TLS.
	TLSCertFile string
	TLSKeyFile  string
	// TLSClientCAFile has the authorities of client certificates. It is read again when it changes; "" = no client certificates.
	TLSClientCAFile string
	// TLSClientAuth is ClientAuthOptional or ClientAuthRequired; "" = ClientAuthOptional.
	TLSClientAuth string
	// Auth is AuthAuto, AuthOn or AuthOff; "" = AuthAuto. See decideAccess.
	Auth string
	// InsecureOpen lets requests without a credential pass as the local principal, which has every right, at any address.
	InsecureOpen bool
	// AdminTokenFile is a file of static tokens, see access.ParseStaticTokens. It is read again when it changes; "" = none.
	AdminTokenFile string
	// AdminToken is a token of the role system; "" = none.
	AdminToken string
	// AccessFile is a YAML file of issuers and rules that give grants to JWTs and certificates. It is read again when it
	// changes; "" = none.
	AccessFile string
	// SessionLife is the longest life of a session of the dashboard, and SessionIdle its life without a request; 0 =
	// access.DefaultSessionLife and access.DefaultSessionIdle.
	SessionLife time.Duration
	SessionIdle time.Duration
	// PublicURL is the address of the server for browsers, such as https://queue.example.com; "" = that of each request.
	PublicURL string
	// OIDCIssuer is the identity provider at which users of the dashboard sign in, OIDCClientID and OIDCClientSecret are this
	// server there; "" = none. The secret may be in a file instead, and a public client has none.
	OIDCIssuer           string
	OIDCClientID         string
	OIDCClientSecret     string
	OIDCClientSecretFile string
	// AuditRetention is the age at which entries of the audit are removed; nil = access.DefaultAuditRetention, 0 = never.
	AuditRetention *time.Duration
	// NoUI leaves the dashboard out.
	NoUI bool
	// UIPath is the path of the dashboard.
	UIPath string
	// ProfilesAddr is a loopback address that serves profiles; "" = none. See program.ServeProfiles.
	ProfilesAddr string
	// NoBackground leaves background work to other processes.
	NoBackground bool

	// IdleTimeout is the time after which an unused connection is closed; 0 = restserver.DefaultIdle.
	IdleTimeout time.Duration

	// StopTimeout bounds a graceful stop; 0 = DefaultStopTimeout.
	StopTimeout time.Duration
	// DrainDelay is the time between the end of readiness and the first refused request, for load balancers that poll
	// it.
	DrainDelay time.Duration

	// Log receives the log; nil = slog.Default.
	Log *slog.Logger
	// Version of the program.
	Version string

	// Store opens the store in place of the fields above, for other stores and tests. closeStore is called once,
	// after every user of the store has ended.
	Store func(ctx context.Context) (store queue.Store, closeStore func(context.Context) error, err error)

	// Those of tests; 0 = [access.ConfirmInterval] and [watchAccessEvery].
	confirmEvery, watchEvery time.Duration
}

// Validate reports the first wrong field as an error of queue.KindInvalid.
func (c Config) Validate() error {
	_, err := c.fillDefaults()
	return err
}

// fillDefaults checks c and fills in its defaults.
func (c Config) fillDefaults() (Config, error) {
	c.Addr = cmp.Or(c.Addr, DefaultAddr)
	c.Prefix = cmp.Or(c.Prefix, DefaultPrefix)
	c.UIPath = cmp.Or(c.UIPath, DefaultUIPath)
	c.Schema = cmp.Or(c.Schema, program.DefaultSchema)
	c.Namespace = cmp.Or(c.Namespace, queue.DefaultNamespace)
	c.StopTimeout = cmp.Or(c.StopTimeout, DefaultStopTimeout)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, restserver.DefaultIdle)
	c.MaxPayloadBytes = cmp.Or(c.MaxPayloadBytes, queue.DefaultMaxPayloadBytes)
	c.Version = cmp.Or(c.Version, "dev")
	c.Auth = cmp.Or(c.Auth, AuthAuto)
	c.SessionLife = cmp.Or(c.SessionLife, access.DefaultSessionLife)
	// A short life alone must be valid, so the idle time follows it.
	c.SessionIdle = cmp.Or(c.SessionIdle, min(access.DefaultSessionIdle, c.SessionLife))
	if c.AuditRetention == nil {
		c.AuditRetention = new(access.DefaultAuditRetention)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}

	for _, check := range []func() error{
		c.Database.Validate,
		c.checkTLS,
		func() error { return access.CheckAuditRetention(*c.AuditRetention) },
		func() error { return access.CheckSessionTimes(c.SessionLife, c.SessionIdle) },
		func() error { _, err := c.publicURL(); return err },
		c.checkLogin,
		c.checkBounds,
		c.checkUIPath,
	} {
		if err := check(); err != nil {
			return c, err
		}
	}

	n, err := queue.NamespaceName(c.Namespace)
	c.Namespace = n
	return c, err
}

// checkBounds refuses settings that contradict each other, or are out of their bounds.
func (c Config) checkBounds() error {
	switch {
	case c.URL != "" && c.DataDir != "":
		return queue.Invalid("data-dir", "must not come with a URL; leave one out")
	case c.URL == "" && (c.ListenURL != "" || c.Pooler):
		return queue.Invalid("listen-url", "must come with a URL, as the embedded PostgreSQL has no pooler; give a URL too")
	case c.IdleTimeout < time.Second || c.IdleTimeout > 24*time.Hour:
		return queue.Invalid("idle-timeout", fmt.Sprintf("must be a duration from 1s to 24h, got %v", c.IdleTimeout))
	case c.Auth != AuthAuto && c.Auth != AuthOn && c.Auth != AuthOff:
		return queue.Invalid("auth", fmt.Sprintf("must be auto, on or off, got %.64q; choose one", c.Auth))
	case c.StopTimeout < 0:
		return queue.Invalid("stop-timeout", fmt.Sprintf("must be a duration of 0 or more, got %v", c.StopTimeout))
	case c.DrainDelay < 0:
		return queue.Invalid("drain-delay", fmt.Sprintf("must be a duration of 0 or more, got %v", c.DrainDelay))
	}

	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return queue.Invalid("addr", fmt.Sprintf("must be a host and a port such as %s, got %.64q", DefaultAddr, c.Addr))
	}

	if !plainPath.MatchString(c.Prefix) {
		return queue.Invalid("prefix", fmt.Sprintf("must be a plain path such as %s, got %.64q", DefaultPrefix, c.Prefix))
	}

	return nil
}

// publicURL returns PublicURL; nil without one.
func (c Config) publicURL() (*url.URL, error) {
	if c.PublicURL == "" {
		return nil, nil
	}
	return httpaccess.ParsePublicURL(c.PublicURL)
}

// checkLogin refuses incomplete settings of the sign-in at an identity provider.
func (c Config) checkLogin() error {
	switch {
	case c.OIDCIssuer == "" && c.OIDCClientID == "" && c.OIDCClientSecret == "" && c.OIDCClientSecretFile == "":
		return nil
	case c.OIDCIssuer == "" || c.OIDCClientID == "":
		return queue.Invalid("oidc-issuer", fmt.Sprintf("must come with --oidc-client-id, and both with a client secret, got %.64q and %.64q; give both", c.OIDCIssuer, c.OIDCClientID))
	case c.AccessFile == "":
		return queue.Invalid("access-file", fmt.Sprintf("must come with --oidc-issuer, because its rules give rights to users, got no file for %.64q; write one", c.OIDCIssuer))
	case c.OIDCClientSecret != "" && c.OIDCClientSecretFile != "":
		return queue.Invalid("oidc-client-secret-file", "must not come with "+program.Variable("oidc-client-secret")+"; leave one out")
	}
	if err := (access.Issuer{URL: c.OIDCIssuer, Audience: c.OIDCClientID}).Validate(); err != nil {
		return queue.At("oidc-issuer", err)
	}
	return nil
}

// readClientSecret returns the secret of this server at the identity provider; "" for a public client.
func (c Config) readClientSecret() (string, error) {
	if c.OIDCClientSecretFile == "" {
		return c.OIDCClientSecret, nil
	}
	return program.ReadSecret("oidc-client-secret-file", c.OIDCClientSecretFile)
}

// plainPath matches a valid prefix, with or without slashes at its ends.
var plainPath = regexp.MustCompile(`^/*([\w.~-]+/*)*$`)

// wrapKind adds a kind and an operation to err, unless err has both.
func wrapKind(kind queue.Kind, op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*queue.Error](err); ok {
		return queue.WithOp(op, err)
	}
	return &queue.Error{Op: op, Kind: kind, Err: err}
}
