package program

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// Protocols of a Server, and its default address.
const (
	REST             = "rest"
	Connect          = "connect"
	DefaultServerURL = "http://localhost:8080" + DefaultPrefix
	DefaultPrefix    = "/api"
)

// Server configures the connection to a server. All programs have the same settings with the same meaning.
type Server struct {
	// URL is the address of the server's API. With Connect the trailing DefaultPrefix is omitted.
	URL string
	// Protocol is REST or Connect.
	Protocol string
	// Token is sent as "Authorization: Bearer …"; "" = no header.
	Token string
	// TokenFile is a file with the token, which is read again when it changes; "" = none. It excludes Token.
	TokenFile string
	// Namespace to work in; "" = the server's default.
	Namespace string
	// TLS has the files of https connections.
	TLS ClientTLS
}

// Flags defines the flags of s with their environment variables.
func (s *Server) Flags(to *pflag.FlagSet) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.StringVar(&s.URL, "url", DefaultServerURL, "`URL` of the server's API; --protocol connect leaves out its last "+DefaultPrefix)
	fs.StringVarP(&s.Namespace, "namespace", "n", "", "`namespace` to work in (default: the server's)")
	fs.StringVar(&s.Protocol, "protocol", REST, "how to talk to the server: rest or connect")
	SecretVar(fs, &s.Token, "auth-token", "bearer `token` for the server")
	fs.StringVar(&s.TokenFile, "auth-token-file", "", "`file` with the bearer token for the server; it is read again when it changes")
	InPlaceOf(fs, "auth-token-file", "auth-token")
	s.TLS.flags(fs)
	FromEnvironment(fs)
	to.AddFlagSet(fs)
}

// Validate reports the first wrong setting. It trims the token. Its error never contains the token.
func (s *Server) Validate() error {
	if s.Protocol != REST && s.Protocol != Connect {
		return queue.Invalid("--protocol", fmt.Sprintf("must be rest or connect, got %.64q", s.Protocol))
	}
	if isDatabaseURL(s.URL) {
		return queue.Invalid("--url", "must be the http URL of a server, got one of a database; give that to the server: pgqueue run URL")
	}
	if s.Token != "" && s.TokenFile != "" {
		return queue.Invalid("--auth-token-file", "must not come with "+Variable("auth-token")+"; leave one out")
	}
	token, err := parseToken(Variable("auth-token"), s.Token)
	s.Token = token
	return err
}

// readToken returns the source of the token of each call; nil without a token.
func (s *Server) readToken() (func() string, error) {
	switch {
	case s.TokenFile != "":
		file, err := NewSecretFile("--auth-token-file", s.TokenFile)
		if err != nil {
			return nil, err
		}
		_, err = parseToken("--auth-token-file", file.Read())
		return file.Read, err
	case s.Token != "":
		return func() string { return s.Token }, nil
	}
	return nil, nil
}

// isDatabaseURL reports whether setting names a database by URL or by keywords.
func isDatabaseURL(setting string) bool {
	scheme, _, isURL := strings.Cut(strings.TrimSpace(setting), "://")
	return scheme == "postgres" || scheme == "postgresql" || !isURL && strings.Contains(setting, "=")
}

// Client is a client of a server: every protocol has all operations.
type Client interface {
	queue.Service
	access.Admin
}

// Dial returns a client of the server with its close function. timeout bounds each call; 0 = the default of the
// client. Dial opens no connection: the first call does.
func (s *Server) Dial(timeout time.Duration) (Client, func(), error) {
	if s.Protocol != Connect {
		return dialed(s.DialREST(timeout))
	}
	token, files, err := s.readCredentials()
	if err != nil {
		return nil, nil, err
	}
	return s.dialConnect(timeout, token, files)
}

// dialed returns a client as a [Client]. A nil client becomes a nil interface.
func dialed(client *restclient.Client, err error) (Client, func(), error) {
	if err != nil {
		return nil, nil, err
	}
	return client, client.Close, nil
}

// DialREST is Dial over REST under every protocol: the operations on sessions have no procedures. Close ends the client.
func (s *Server) DialREST(timeout time.Duration) (*restclient.Client, error) {
	token, files, err := s.readCredentials()
	if err != nil {
		return nil, err
	}
	opts := append(clientOptions(s, timeout, token, restclient.WithTimeout, restclient.WithNamespace, restclient.WithToken), restclient.WithTLS(files))
	return restclient.New(s.URL, opts...)
}

// FindDashboard returns the address of the dashboard, to which the server leads browsers from its root; "" when the server does
// not say so. It sends no credential, and believes in no address of another host.
func (s *Server) FindDashboard(ctx context.Context, timeout time.Duration) string {
	base, err := url.Parse(strings.TrimSuffix(strings.TrimRight(s.URL, "/"), DefaultPrefix) + "/")
	if err != nil {
		return ""
	}
	files, err := s.TLS.config()
	if err != nil {
		return ""
	}
	client := http.Client{
		Timeout: timeout, Transport: &http.Transport{TLSClientConfig: files, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	// The prefix of the server may have any depth, so its root is either beside the usual prefix or that of the host.
	for _, root := range []*url.URL{base, base.ResolveReference(&url.URL{Path: "/"})} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, root.String(), http.NoBody)
		if err != nil {
			return ""
		}
		r.Header.Set("Accept", "text/html")
		res, err := client.Do(r)
		if err != nil {
			return ""
		}
		_ = res.Body.Close() // only its header counts
		to, err := root.Parse(res.Header.Get("Location"))
		if res.StatusCode == http.StatusFound && err == nil && to.Scheme == root.Scheme && to.Host == root.Host {
			return to.String()
		}
	}
	return ""
}

// readCredentials checks the settings, and returns the source of the token and the certificates of the client.
func (s *Server) readCredentials() (token func() string, files *tls.Config, err error) {
	if err := s.Validate(); err != nil {
		return nil, nil, err
	}
	if token, err = s.readToken(); err != nil {
		return nil, nil, err
	}
	files, err = s.TLS.config()
	return token, files, err
}

// dialConnect returns a client of the root of the server, because the routes of Connect are not below the prefix of
// REST. Any other path, such as that of a proxy, stays.
func (s *Server) dialConnect(timeout time.Duration, token func() string, files *tls.Config) (Client, func(), error) {
	opts := append(clientOptions(s, timeout, token, connectclient.WithTimeout, connectclient.WithNamespace, connectclient.WithToken), connectclient.WithTLS(files))
	client, err := connectclient.New(strings.TrimSuffix(strings.TrimRight(s.URL, "/"), DefaultPrefix), opts...)
	if err != nil {
		return nil, nil, err
	}
	return client, client.Close, nil
}

// clientOptions returns the options of a client for the settings that are given. Option is that of the client.
func clientOptions[Option any](
	s *Server, timeout time.Duration, token func() string,
	withTimeout func(time.Duration) Option, withNamespace func(string) Option, withToken func(func() string) Option,
) (opts []Option) {
	if timeout > 0 {
		opts = append(opts, withTimeout(timeout))
	}
	if s.Namespace != "" {
		opts = append(opts, withNamespace(s.Namespace))
	}
	if token != nil {
		opts = append(opts, withToken(token))
	}
	return opts
}

// parseToken returns the bearer token of the setting called field without the line end that a file adds. It refuses a text that no
// server accepts: a part of a token, or another secret of pgqueue. The error never contains the token.
func parseToken(field, setting string) (string, error) {
	token := strings.TrimSpace(setting)
	if strings.ContainsFunc(token, func(r rune) bool { return r < '!' || r > '~' }) {
		return "", queue.Invalid(field, "must be visible ASCII alone, got a blank, a line end or another character; copy the token alone")
	}
	if _, err := access.ParseStaticSecret(token); err != nil && ownSecret.MatchString(token) {
		return "", queue.Invalid(field, fmt.Sprintf("must have the form of a token, pgq_…, got another one of %d letters; copy the whole token", len(token)))
	}
	return token, nil
}

// ownSecret matches the beginning of the secrets of pgqueue: of tokens, of sessions and of one-time codes. A token of another form may
// be a JWT, or one for a proxy in front.
var ownSecret = regexp.MustCompile("^pg[qsc]_")
