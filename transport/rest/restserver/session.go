package restserver

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// SessionCookie keeps the secret of a session in the browser of a request.
type SessionCookie interface {
	// Check returns an error for a request over which no secret may travel.
	Check(r *http.Request) error
	Set(w http.ResponseWriter, r *http.Request, s access.OpenedSession)
	Clear(w http.ResponseWriter, r *http.Request)
}

// maxSignInBytes bounds the body of a sign-in, which needs no credential. A large one of a stranger would take memory that the
// bodies of callers share. The longest token is a JWT of 8 KiB.
const maxSignInBytes = 16 << 10

// registerSessions binds the operations on sessions to their routes.
func (s *Server) registerSessions() {
	registerSession(s, operation{Route: restapi.ListSessions}, listSessions)
	registerSession(s, operation{
		Route: restapi.OpenSession, creates: true, status: http.StatusCreated,
		text: "The answer sets the cookie of the session, and no answer has its secret. The request needs no credential but the code or the token in its body.",
	}, openSession)
	registerSession(s, operation{Route: restapi.SignOut, text: "The request needs the cookie of the session."}, signOut)
	registerSession(s, operation{Route: restapi.EndSession, text: "Answers with the session as it is then."}, endSession)
	registerSession(s, operation{
		Route: restapi.CreateCode, creates: true, status: http.StatusCreated, text: "The code opens one session within a minute.",
	}, createCode)
}

// registerSession binds an operation on sessions, which a server without them does not have. No cache keeps its answer.
func registerSession[In, Out any](s *Server, op operation, do func(*call, *In) (*Out, error)) {
	op.allow = func(c *call) error {
		c.w.Header().Set("Cache-Control", "no-store")
		if s.cfg.Sessions == nil || s.cfg.Cookie == nil {
			return &queue.Error{Kind: queue.KindNotFound, Msg: "this server keeps no sessions; use one of pgqueue run"}
		}
		return nil
	}
	registerOperation(s, op, do)
}

func listSessions(c *call, _ *struct{}) (*output[restapi.List[restapi.Session]], error) {
	sessions, err := c.cfg.Sessions.ListSessions(c.requestContext())
	err = boundRows(c, sessions, err)
	return listOutput(restapi.SessionOf, sessions, err)
}

func openSession(c *call, in *input.With[restapi.SignIn, access.SignIn]) (*output[restapi.Session], error) {
	if err := c.cfg.Cookie.Check(c.r); err != nil {
		return nil, err
	}
	opened, err := c.cfg.Sessions.OpenSession(c.requestContext(), in.Body.Value)
	if err != nil {
		return nil, c.limitSignIns(err)
	}
	c.cfg.Cookie.Set(c.w, c.r, opened)
	return outputOf(restapi.SessionOf, opened.Session, nil)
}

// limitSignIns counts a sign-in that failed with err, in any way but for the store or an issuer that does not answer. Beyond the
// limit the answer is 429, as it is for too many sign-ins at once.
func (c *call) limitSignIns(err error) error {
	fault, ok := errors.AsType[*queue.Error](err)
	switch kind := queue.KindOf(err); {
	case ok && errors.Is(err, access.ErrLookups):
		c.w.Header().Set("Retry-After", "1")
		return input.Refusal{Cause: fault, Status: http.StatusTooManyRequests}
	case c.cfg.CountRefusal == nil, kind == queue.KindUnavailable, kind == queue.KindDeadline, kind == queue.KindCanceled:
		return err
	}
	wait, reason := c.cfg.CountRefusal(c.r)
	if reason == nil {
		return err
	}
	c.w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	return input.Refusal{Cause: reason, Status: http.StatusTooManyRequests}
}

func signOut(c *call, _ *struct{}) (*noOutput, error) {
	if err := c.cfg.Sessions.SignOut(c.requestContext()); err != nil {
		return nil, err
	}
	c.cfg.Cookie.Clear(c.w, c.r)
	return &noOutput{}, nil
}

func endSession(c *call, in *input.Session) (*output[restapi.Session], error) {
	session, err := c.cfg.Sessions.EndSession(c.requestContext(), in.ID)
	return outputOf(restapi.SessionOf, session, err)
}

func createCode(c *call, _ *struct{}) (*output[restapi.Code], error) {
	code, err := c.cfg.Sessions.CreateCode(c.requestContext())
	return outputOf(restapi.CodeOf, code, err)
}
