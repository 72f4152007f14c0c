package httpaccess

import (
	"context"
	"errors"
	"fmt"
	"net"
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
}

// headerReason has the reason of a call for the audit, in the words of the caller.
const headerReason = "Pgqueue-Reason"

// withCaller returns r with its caller for the audit.
func withCaller(r *http.Request) *http.Request {
	via := access.ViaREST
	if strings.HasPrefix(r.URL.Path, "/pgqueue.") {
		via = access.ViaConnect
	}
	return r.WithContext(access.WithCaller(r.Context(), access.Caller{Via: via, Remote: r.RemoteAddr, Reason: r.Header.Get(headerReason)}))
}

// The limits of refused credentials: the answer is 429 to the requests with a wrong credential beyond refusedPerMinute from
// one address (an IPv4 address, or the /64 of an IPv6 one) in one minute. A valid credential always passes: many workers
// share the address of a proxy.
const (
	refusedPerMinute = 20
	maxAddresses     = 10_000
)

// Wrap returns a handler that passes requests to next with their principal in the context.
func (c Credentials) Wrap(next http.Handler) http.Handler {
	limit := &refusals{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.Public(r) {
			next.ServeHTTP(w, r)
			return
		}

		r = withCaller(r)
		token, err := bearerToken(r.Header)
		switch {
		case err != nil:
			c.Refuse(w, r, http.StatusBadRequest, err)
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
			var claimed access.AuditEntry
			if secret, err := access.ParseSecret(token); err == nil {
				claimed.PrincipalID = secret.ID()
				claimed.PrincipalKind = access.KindToken
			}
			c.Audit.Record(r.Context(), claimed, fault)
		}
		c.refuseToken(w, r, limit, fault)
	})
}

// noCredential is the reason of a refusal of a request without a credential.
func noCredential() *queue.Error {
	return &queue.Error{
		Kind: queue.KindUnauthenticated, Field: "Authorization",
		Msg: "must be a bearer token, got none; give the client a token (pgqueue create-token makes one)",
	}
}

// refuseToken answers a request with a token that does not pass.
func (c Credentials) refuseToken(w http.ResponseWriter, r *http.Request, limit *refusals, fault error) {
	reason, ok := errors.AsType[*queue.Error](fault)
	if !ok {
		reason = &queue.Error{Kind: queue.KindInternal, Msg: "must be checked, but the check failed; look into the log of the server", Err: fault}
	}

	if reason.Kind != queue.KindUnauthenticated {
		// The store does not answer: the token may be valid, so the client repeats the request.
		w.Header().Set("Retry-After", "1")
		c.Refuse(w, r, http.StatusServiceUnavailable, &queue.Error{
			Kind: queue.KindUnavailable, Field: "Authorization", Msg: "must be checked, but the database does not answer; repeat the request", Err: reason,
		})
		return
	}

	if wait, exceeded := limit.countRefusal(r.RemoteAddr, time.Now()); exceeded {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		c.Refuse(w, r, http.StatusTooManyRequests, &queue.Error{
			Kind: queue.KindUnavailable, Field: "Authorization",
			Msg: fmt.Sprintf("must be valid; more than %d requests a minute with a wrong one came from this address; wait", refusedPerMinute),
		})
		return
	}

	w.Header().Set("WWW-Authenticate", `Bearer realm="pgqueue", error="invalid_token"`)
	refused := *reason
	refused.Field = "Authorization"
	c.Refuse(w, r, http.StatusUnauthorized, &refused)
}

// bearerToken returns the token of a request; "" without one. A second header is an error: a proxy in front may look at
// another one than this server. Another scheme does not count as a credential, because a proxy with passwords of its own passes its
// header on.
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
		return "", nil
	}
	if token == "" || strings.ContainsAny(token, " ,") {
		return "", queue.Invalid("Authorization", "must be Bearer and one token, got another form; write Authorization: Bearer TOKEN")
	}
	return token, nil
}

// refusals counts refused credentials by address in the present minute. It is safe for concurrent use.
type refusals struct {
	mu     sync.Mutex
	start  time.Time
	counts map[netip.Prefix]int
}

// countRefusal counts a refusal. It reports whether the address has exceeded its limit, and the rest of the minute.
func (l *refusals) countRefusal(remote string, now time.Time) (wait time.Duration, exceeded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.start) >= time.Minute || len(l.counts) >= maxAddresses {
		l.start = now
		l.counts = map[netip.Prefix]int{}
	}

	from := networkOf(remote)
	l.counts[from]++
	return time.Minute - now.Sub(l.start), l.counts[from] > refusedPerMinute
}

// networkOf returns the address of a connection without its port, for IPv6 its /64: a network that one owner usually has.
func networkOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{} // as of a test; all of these share one count
	}

	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	network, _ := addr.Prefix(bits) // the number of bits fits the address
	return network
}
