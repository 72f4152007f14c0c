package run

import (
	"net/http"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// startSessions makes the sign-in of the dashboard over the sessions of a store.
func (s *Server) startSessions(g *accessControl, store access.SessionStore) error {
	public, err := s.cfg.publicURL()
	if err != nil {
		return err
	}
	g.cookie = httpaccess.Cookie{PublicURL: public}
	g.auth.AcceptSessions(store)
	g.sessions = access.NewSessionKeeper(access.SessionSettings{
		Store: store, Authenticate: g.auth.Authenticate, Life: s.cfg.SessionLife, Idle: s.cfg.SessionIdle, Ended: g.auth.Forget, Audit: s.audit,
	})
	return nil
}

// prefix returns the path in front of the REST routes, without a slash at its end.
func (s *Server) prefix() string {
	return strings.TrimRight("/"+strings.Trim(s.cfg.Prefix, "/"), "/")
}

// isSignIn reports whether a request brings the credential of a sign-in in its body.
func (s *Server) isSignIn(r *http.Request) bool {
	return r.Method == restapi.OpenSession.Method && r.URL.Path == s.prefix()+restapi.OpenSession.Path
}

// countRefusal counts a sign-in that failed, together with the refused credentials of headers.
func (g *accessControl) countRefusal(r *http.Request) (wait time.Duration, reason *queue.Error) {
	wait, exceeded := g.refusals.Count(r.RemoteAddr, time.Now())
	if !exceeded {
		return 0, nil
	}
	return wait, httpaccess.TooManyRefusals("session")
}
