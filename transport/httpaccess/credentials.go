package httpaccess

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Credentials says which requests pass, and by which credential. Authenticate and Refuse are required.
type Credentials struct {
	// Authenticate returns the principal of a bearer token, or an error of KindUnauthenticated.
	Authenticate func(ctx context.Context, token string) (*access.Principal, error)
	// Certificate returns the principal of the client certificate of the connection: nil without one, and an error of
	// KindUnauthenticated for one that is no longer valid, or for none where each request needs one. Without this function
	// certificates prove nothing.
	Certificate func(r *http.Request) (*access.Principal, error)
	// Open reports whether a request without a credential passes as the local principal. A request with a wrong one is
	// refused all the same. It is called for each request without a credential.
	Open func(r *http.Request) bool
	// Public reports whether a request needs no credential, so that none is checked. It must match exact routes: a rule by
	// the end of a path would open a queue of that name.
	Public func(r *http.Request) bool
	// Refuse answers a refused request in the protocol of the request.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, reason *queue.Error)
	// Audit records each request without a valid credential; nil records none.
	Audit *access.AuditRecorder
	// Session returns the principal of a session by its secret, or an error of KindUnauthenticated; nil = no cookie is read.
	Session func(ctx context.Context, secret string) (*access.Principal, error)
	// Cookie has the secret of a session.
	Cookie Cookie
	// Consumes is that of [Config]: such a GET needs a page of this server when it comes with a session.
	Consumes func(r *http.Request) bool
	// Refusals counts refused credentials; nil = a count of its own.
	Refusals *Refusals
}

// The limits of refused credentials: the answer is 429 to the requests with a wrong credential beyond refusedPerMinute from
// one address (an IPv4 address, or the /64 of an IPv6 one) in one minute. A valid credential always passes: many workers
// share the address of a proxy. Each kind of credential has its own count, so the wrong token of a worker does not keep a browser
// with an ended session from the sign-in.
const (
	refusedPerMinute = 20
	maxAddresses     = 10_000
)

// Wrap returns a handler that passes requests to next with their principal in the context. [Identify] precedes it, so that the
// audit has the caller of each request.
func (c Credentials) Wrap(next http.Handler) http.Handler {
	if c.Refusals == nil {
		c.Refusals = &Refusals{}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.Public(r) {
			next.ServeHTTP(w, r)
			return
		}

		token, session, err := c.readCredential(r)
		switch {
		case err != nil && err.Kind == queue.KindUnauthenticated:
			c.Audit.Record(r.Context(), access.ClaimOf(access.FindSecret(carriedText(r.Header.Get("Authorization"))), err), err)
			c.refuseCredential(w, r, "Authorization", err)
			return
		case err != nil:
			c.Audit.Record(r.Context(), access.AuditEntry{}, err)
			c.Refuse(w, r, http.StatusBadRequest, err)
			return
		case c.answerCertificate(w, r, token != "" || session != "", next):
			return
		case session != "":
			c.serveSession(w, r, session, next)
			return
		case token == "" && c.Open(r):
			next.ServeHTTP(w, r.WithContext(access.With(r.Context(), access.Local())))
			return
		case token == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="pgqueue"`)
			c.Audit.Record(r.Context(), access.AuditEntry{}, noCredential())
			c.Refuse(w, r, http.StatusUnauthorized, noCredential())
			return
		}

		p, fault := c.Authenticate(r.Context(), token)
		if fault == nil {
			next.ServeHTTP(w, r.WithContext(access.With(r.Context(), p)))
			return
		}
		if queue.KindOf(fault) == queue.KindUnauthenticated {
			c.Audit.Record(r.Context(), access.ClaimOf(token, fault), fault)
		}
		c.refuseCredential(w, r, "Authorization", fault)
	})
}

// readCredential returns the bearer token or the session of a request. Both together are an error: a proxy or a log in front
// may take the one for the caller, and this server the other.
func (c Credentials) readCredential(r *http.Request) (token, session string, err *queue.Error) {
	if token, err = bearerToken(r.Header); err != nil || c.Session == nil {
		return token, "", err
	}
	if session, err = c.Cookie.read(r, ""); err == nil && token != "" && session != "" {
		err = queue.Invalid("Authorization", "must not come with the cookie of a session, got both; leave one out")
	}
	return token, session, err
}

// serveSession passes a request with the cookie of a session to next.
func (c Credentials) serveSession(w http.ResponseWriter, r *http.Request, session string, next http.Handler) {
	caller := access.CallerFrom(r.Context())
	caller.Via = access.ViaUI
	r = r.WithContext(access.WithCaller(r.Context(), caller))
	w.Header().Set("Cache-Control", "no-store")

	p, fault := c.Session(r.Context(), session)
	if fault != nil {
		if queue.KindOf(fault) == queue.KindUnauthenticated {
			// A session that rests on settings passes again with them, and at a server that has them.
			if !errors.Is(fault, access.ErrBasis) {
				c.Cookie.Clear(w, r)
			}
			c.Audit.Record(r.Context(), access.AuditEntry{PrincipalID: access.SessionID(session), PrincipalKind: access.KindSession}, fault)
		}
		c.refuseCredential(w, r, "Cookie", fault)
		return
	}

	r = r.WithContext(access.With(r.Context(), p))
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if (!safe || c.Consumes != nil && c.Consumes(r)) && !c.Cookie.isOwnPage(r) {
		reason := &queue.Error{Kind: queue.KindDenied, Field: "Origin", Msg: "must be that of a page of this server for a change with a session, got another or none; send a token instead of the cookie"}
		c.Audit.Record(r.Context(), access.AuditEntry{}, reason)
		c.Refuse(w, r, http.StatusForbidden, reason)
		return
	}
	next.ServeHTTP(w, r)
}

// noCredential is the reason of a refusal of a request without a credential.
func noCredential() *queue.Error {
	return &queue.Error{
		Kind: queue.KindUnauthenticated, Field: "Authorization",
		Msg: "must be a bearer token, got none; give the client a token (pgqueue create-token makes one)",
	}
}

// refuseCredential answers a request with a credential of a header that does not pass.
func (c Credentials) refuseCredential(w http.ResponseWriter, r *http.Request, header string, fault error) {
	reason, ok := errors.AsType[*queue.Error](fault)
	if !ok {
		reason = &queue.Error{Kind: queue.KindInternal, Msg: "must be checked, but the check failed; look into the log of the server", Err: fault}
	}

	if reason.Kind != queue.KindUnauthenticated {
		// The store or the issuer of a JWT does not answer: the token may be valid, so the client repeats the request.
		status, msg := http.StatusServiceUnavailable, "must be checked, but the check gets no answer now; repeat the request"
		if errors.Is(fault, access.ErrLookups) {
			status, msg = http.StatusTooManyRequests, reason.Msg
		}
		w.Header().Set("Retry-After", "1")
		c.Refuse(w, r, status, &queue.Error{Kind: queue.KindUnavailable, Field: header, Msg: msg, Err: reason})
		return
	}

	if c.refuseMany(w, r, header) {
		return
	}

	w.Header().Set("WWW-Authenticate", `Bearer realm="pgqueue", error="invalid_token"`)
	refused := *reason
	refused.Field = header
	c.Refuse(w, r, http.StatusUnauthorized, &refused)
}

// refuseMany counts a refusal of a credential of a kind, and answers the request beyond the limit. It reports whether it did.
func (c Credentials) refuseMany(w http.ResponseWriter, r *http.Request, kind string) bool {
	wait, exceeded := c.Refusals.Count(r.RemoteAddr, kind, time.Now())
	if exceeded {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		c.Refuse(w, r, http.StatusTooManyRequests, TooManyRefusals(kind))
	}
	return exceeded
}

// bearerToken returns the token of a request; "" without one. A second header is an error: a proxy in front may look at
// another one than this server. Another scheme does not count as a credential, because a proxy with passwords of its own passes its
// header on. With the text of a token or a JWT in it, it is one that went wrong: it must not pass as none on an open server.
func bearerToken(h http.Header) (string, *queue.Error) {
	values := h.Values("Authorization")
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", queue.Invalid("Authorization", fmt.Sprintf("must be one header, got %d; leave out the others", len(values)))
	}

	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") {
		if carried := carriedText(values[0]); access.HideSecrets(carried) != carried {
			return "", &queue.Error{
				Kind: queue.KindUnauthenticated, Field: "Authorization",
				Msg: "must be Bearer and a token, got a token in another form; write Authorization: Bearer TOKEN",
			}
		}
		return "", nil
	}
	if token == "" || strings.ContainsAny(token, " ,") {
		return "", queue.Invalid("Authorization", "must be Bearer and one token, got another form; write Authorization: Bearer TOKEN")
	}
	return token, nil
}

// carriedText returns the text of a header Authorization, with the name and the password of the scheme Basic.
func carriedText(header string) string {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return header
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return header
	}
	return header + " " + string(pair)
}

// TooManyRefusals is the reason of a refusal beyond the limit; field names the credential. It has the kind of the refusals before,
// so that clients do not repeat the request.
func TooManyRefusals(field string) *queue.Error {
	return &queue.Error{
		Kind: queue.KindUnauthenticated, Field: field,
		Msg: fmt.Sprintf("must be valid, got another one, as in more than %d requests of this minute from this address; give the client a valid one, which always passes", refusedPerMinute),
	}
}

// Refusals counts refused credentials by address and kind in the present minute. Beyond 10,000 of these, new ones of a kind share a
// count: a flood from many addresses neither fills the memory nor ends the counts of others. It is safe for concurrent use.
type Refusals struct {
	mu     sync.Mutex
	start  time.Time
	counts map[refusalSource]int
}

// refusalSource is an address with the kind of credential that was refused there.
type refusalSource struct {
	network netip.Prefix
	kind    string
	others  bool // the addresses of the kind without a count of their own
}

// RefusedSignIn is the kind of credentials of sign-ins, which are in a body or come from an identity provider.
const RefusedSignIn = "sign-in"

// refusedCertificate is the kind of client certificates, and of requests that need one and have none.
const refusedCertificate = "certificate"

// Count counts a refusal of a credential of a kind, such as the name of its header. It reports whether the address has exceeded its limit, and the rest of the minute.
func (l *Refusals) Count(remote, kind string, now time.Time) (wait time.Duration, exceeded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.start) >= time.Minute {
		l.start = now
		l.counts = map[refusalSource]int{}
	}

	from := refusalSource{network: access.NetworkOf(remote), kind: kind}
	if l.counts[from] == 0 && len(l.counts) >= maxAddresses {
		from = refusalSource{kind: kind, others: true} // as many as there are kinds
	}
	l.counts[from]++
	return time.Minute - now.Sub(l.start), l.counts[from] > refusedPerMinute
}

// Exceeds reports whether an address has exceeded a limit of this minute with any kind of credential.
func (l *Refusals) Exceeds(remote string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.start) >= time.Minute {
		return false
	}
	network := access.NetworkOf(remote)
	for _, kind := range []string{"Authorization", "Cookie", RefusedSignIn, refusedCertificate} {
		if l.counts[refusalSource{network: network, kind: kind}] > refusedPerMinute {
			return true
		}
	}
	return false
}
