package run

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pgqueue/pgqueue/adapters/oidc"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

// startSessions makes the sign-in of the dashboard over the sessions of a store.
func (s *Server) startSessions(g *accessControl, store access.SessionStore) error {
	public, err := s.cfg.publicURL()
	if err != nil {
		return err
	}
	g.cookie = httpaccess.Cookie{PublicURL: public}
	g.auth.AcceptSessions(store, &g.mapping)
	g.sessions = access.NewSessionKeeper(access.SessionSettings{
		Store: store, Authenticate: g.authenticate, Life: s.cfg.SessionLife, Idle: s.cfg.SessionIdle, Ended: g.auth.ForgetSession, Audit: s.audit,
	})
	return nil
}

// The routes of a sign-in at an identity provider, below the prefix. The second one is the redirect_uri of this server there.
const (
	loginPath    = "/session/oidc"
	callbackPath = "/session/oidc/callback"
)

// startLogin makes the sign-in at the configured identity provider; without one there is none.
func (s *Server) startLogin(g *accessControl) error {
	if s.cfg.OIDCIssuer == "" {
		return nil
	}
	secret, err := s.cfg.readClientSecret()
	if err != nil {
		return err
	}

	base := s.URL()
	if g.cookie.PublicURL != nil {
		base = g.cookie.PublicURL.String()
	}

	flow := oidc.NewCodeFlow(oidc.Client{
		Issuer: access.Issuer{URL: s.cfg.OIDCIssuer, Name: "name"}, ID: s.cfg.OIDCClientID, Secret: secret,
		RedirectURL: base + s.prefix() + callbackPath,
	}, s.log)
	s.prependStep("close the sign-in at the identity provider", func(context.Context) error {
		flow.Close()
		return nil
	})
	g.flow = flow
	s.replaceRules(g, g.rules)

	g.login = &httpaccess.Login{
		Begin: flow.Begin, Finish: flow.Finish, Issuer: s.cfg.OIDCIssuer, Home: cleanPath(s.cfg.UIPath), Cookie: g.cookie, Refusals: &g.refusals,
		Open: func(ctx context.Context, proof access.Proof) (access.OpenedSession, error) {
			p, err := g.mapping.Principal(proof)
			if err != nil {
				return access.OpenedSession{}, err
			}
			return g.sessions.OpenFor(ctx, p)
		},
		Refused: func(ctx context.Context, err error) {
			g.sessions.RecordRefused(ctx, err)
			s.log.InfoContext(ctx, "refused a sign-in at the identity provider", "error", err, "cause", errors.Unwrap(err))
		},
	}
	s.log.InfoContext(context.Background(), "users sign in at the identity provider", "issuer", s.cfg.OIDCIssuer, "redirect_uri", base+s.prefix()+callbackPath)
	return nil
}

// checkLogin refuses wrong settings of the sign-in at an identity provider.
func (s *Server) checkLogin() error {
	if s.cfg.OIDCIssuer == "" {
		return nil
	}
	if _, err := s.cfg.readClientSecret(); err != nil {
		return err
	}
	if s.cfg.PublicURL == "" && !isLoopback(s.ln.Addr()) {
		return queue.Invalid("public-url", fmt.Sprintf("must come with --oidc-issuer at an address that other machines reach, got %.64q without it; give the address of this server for browsers", s.cfg.Addr))
	}
	return nil
}

// addLogin adds the routes of the sign-in at an identity provider.
func (s *Server) addLogin(routes map[string]http.Handler) {
	if login := s.control.login; login != nil {
		routes["GET "+s.prefix()+loginPath] = http.HandlerFunc(login.Start)
		routes["GET "+s.prefix()+callbackPath] = http.HandlerFunc(login.Callback)
	}
}

// prefix returns the path in front of the REST routes, without a slash at its end.
func (s *Server) prefix() string {
	return cleanPath(s.cfg.Prefix)
}

// countRefusal counts a sign-in that failed.
func (g *accessControl) countRefusal(r *http.Request) (wait time.Duration, reason *queue.Error) {
	wait, exceeded := g.refusals.Count(r.RemoteAddr, httpaccess.RefusedSignIn, time.Now())
	if !exceeded {
		return 0, nil
	}
	return wait, httpaccess.TooManyRefusals("session")
}
