package httpaccess

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Login signs browsers in at an identity provider. A browser that begins gets a cookie, without which the answer of the
// provider counts for nothing: a page of another site cannot sign it in as another user. All fields but Refusals are required.
type Login struct {
	// Begin returns the address of the provider, and Finish the identity that its answer proves.
	Begin  func(ctx context.Context, l access.Login) (address string, err error)
	Finish func(ctx context.Context, code string, l access.Login) (access.Proof, error)
	// Open opens a session of an identity.
	Open func(ctx context.Context, p access.Proof) (access.OpenedSession, error)
	// Refused is called for each answer of the provider that proves nothing.
	Refused func(ctx context.Context, err error)
	// Issuer is the URL of the provider.
	Issuer string
	// Home is the path of the pages to which a sign-in leads, such as /ui.
	Home     string
	Cookie   Cookie
	Refusals *Refusals
}

const (
	// loginTime is the time for the sign-in at the provider.
	loginTime = 10 * time.Minute
	// maxReturnBytes bounds the address to which a sign-in leads.
	maxReturnBytes = 1000
)

// loginSuffix returns the suffix of the cookie of the sign-in with a state, so that two tabs of a browser can sign in at once.
func loginSuffix(state string) string { return "-login-" + state[:min(len(state), 8)] }

// errNotBegun answers a browser without the cookie of the sign-in.
var errNotBegun = &queue.Error{
	Kind: queue.KindUnauthenticated, Field: "state",
	Msg: fmt.Sprintf("must belong to a sign-in that this browser began at most %v ago, got another; sign in again", loginTime),
}

// Start sends the browser to the provider. The parameter return names the page to which the sign-in leads.
func (l Login) Start(w http.ResponseWriter, r *http.Request) {
	setPlainHeaders(w)
	if err := l.Cookie.Check(r); err != nil {
		answerPlainly(w, http.StatusBadRequest, err)
		return
	}
	back, err := l.checkReturn(r.URL.Query()["return"])
	if err != nil {
		answerPlainly(w, http.StatusBadRequest, err)
		return
	}

	secret := access.NewLoginSecret()
	login := access.LoginOf(secret)
	address, err := l.Begin(r.Context(), login)
	if err != nil {
		answerPlainly(w, http.StatusServiceUnavailable, err)
		return
	}
	l.Cookie.write(w, r, loginSuffix(login.State), secret+"."+base64.RawURLEncoding.EncodeToString([]byte(back)), loginTime)
	redirect(w, address)
}

// checkReturn returns the page to which a sign-in leads: below Home, on this server.
func (l Login) checkReturn(values []string) (string, error) {
	if len(values) == 0 {
		return l.Home + "/", nil
	}
	text := values[0]
	u, err := url.Parse(text)
	switch {
	case len(values) > 1, len(text) > maxReturnBytes, err != nil, u.Scheme != "", u.Host != "", u.User != nil, u.Opaque != "",
		strings.ContainsAny(text, "\\\r\n\t"), strings.Contains(u.Path, "//"),
		u.Path != l.Home && !strings.HasPrefix(u.Path, l.Home+"/"), path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/"):
		return "", queue.Invalid("return", fmt.Sprintf("must be one path below %s, got %.100q; leave it out for the first page", l.Home, values))
	}
	return text, nil
}

// Callback takes the answer of the provider, which the browser brings. Each answer ends the sign-in that it belongs to.
func (l Login) Callback(w http.ResponseWriter, r *http.Request) {
	setPlainHeaders(w)
	back, opened, err := l.finish(w, r)
	if err == nil {
		l.Cookie.Set(w, r, opened)
		home := ""
		if l.Cookie.PublicURL != nil {
			home = l.Cookie.PublicURL.Path
		}
		redirect(w, home+back)
		return
	}

	// An exchange that failed counts too: each made-up code causes a request to the provider. A provider or a store that does not
	// answer, and other sign-ins of the address under way, say nothing about the code.
	kind := queue.KindOf(err)
	if errors.Is(err, access.ErrLookups) {
		w.Header().Set("Retry-After", "1")
		answerPlainly(w, http.StatusTooManyRequests, err)
		return
	}
	if l.Refusals != nil && kind != queue.KindUnavailable && kind != queue.KindDeadline && kind != queue.KindCanceled {
		if wait, exceeded := l.Refusals.Count(r.RemoteAddr, RefusedSignIn, time.Now()); exceeded {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
			answerPlainly(w, http.StatusTooManyRequests, TooManyRefusals("sign-in"))
			return
		}
	}

	status := http.StatusInternalServerError
	switch kind {
	case queue.KindUnauthenticated:
		status = http.StatusUnauthorized
	case queue.KindDenied:
		status = http.StatusForbidden
	case queue.KindInvalid:
		status = http.StatusBadRequest
	case queue.KindConflict:
		status = http.StatusConflict
	case queue.KindUnavailable, queue.KindDeadline, queue.KindCanceled:
		status = http.StatusServiceUnavailable
	}
	answerPlainly(w, status, err)
}

// finish opens the session of a callback, and returns the page to which it leads.
func (l Login) finish(w http.ResponseWriter, r *http.Request) (back string, opened access.OpenedSession, err error) {
	login, back, err := l.readLogin(w, r)
	if err != nil {
		l.Refused(r.Context(), err)
		return "", opened, err
	}
	proof, err := l.prove(r, login)
	if err != nil {
		l.Refused(r.Context(), err)
		return "", opened, err
	}
	opened, err = l.Open(r.Context(), proof)
	return back, opened, err
}

// readLogin returns the sign-in that the browser began, and removes its cookie.
func (l Login) readLogin(w http.ResponseWriter, r *http.Request) (access.Login, string, error) {
	states := r.URL.Query()["state"]
	if len(states) != 1 {
		return access.Login{}, "", errNotBegun
	}
	value, fault := l.Cookie.read(r, loginSuffix(states[0]))
	if fault != nil {
		return access.Login{}, "", fault
	}
	secret, encoded, ok := strings.Cut(value, ".")
	login := access.LoginOf(secret)
	if !ok || secret == "" || !login.HasState(states[0]) {
		return access.Login{}, "", errNotBegun
	}

	l.Cookie.write(w, r, loginSuffix(states[0]), "", 0)
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return access.Login{}, "", errNotBegun
	}
	back, err := l.checkReturn([]string{string(text)})
	return login, back, err
}

// prove returns the identity that the answer of the provider proves.
func (l Login) prove(r *http.Request, login access.Login) (access.Proof, error) {
	query := r.URL.Query()
	switch issuers, codes := query["iss"], query["code"]; {
	case len(issuers) > 1 || len(issuers) == 1 && issuers[0] != l.Issuer:
		return access.Proof{}, &queue.Error{Kind: queue.KindUnauthenticated, Field: "iss", Msg: "must be the provider of this server, got another; sign in again"}
	case query.Has("error"):
		return access.Proof{}, &queue.Error{
			Kind: queue.KindUnauthenticated, Field: "sign-in",
			Msg: fmt.Sprintf("must be granted by the identity provider, got %.100q; sign in again, or ask its administrator", query.Get("error")),
		}
	case len(codes) != 1:
		return access.Proof{}, &queue.Error{Kind: queue.KindUnauthenticated, Field: "code", Msg: fmt.Sprintf("must be there once, got it %d times; sign in again", len(codes))}
	default:
		return l.Finish(r.Context(), codes[0], login)
	}
}

// setPlainHeaders keeps an answer out of caches and frames, and its address out of other requests: it has the code.
func setPlainHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

// redirect sends the browser to an address.
func redirect(w http.ResponseWriter, address string) {
	w.Header().Set("Location", address)
	w.WriteHeader(http.StatusSeeOther)
}

// answerPlainly shows an error as plain text. Texts of the provider are quoted in it, so nothing of them becomes a page.
func answerPlainly(w http.ResponseWriter, status int, err error) {
	text := "The sign-in failed; look into the log of the server."
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Kind != queue.KindInternal {
		text = "The sign-in failed: " + strings.TrimPrefix(e.Field+e.Subject+": ", ": ") + e.Msg + "."
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
