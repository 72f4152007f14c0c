package httpaccess

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Cookie keeps the secret of a session in a browser. Scripts cannot read it, no other site's form sends it, and no other host
// gets it. Over https its name has the prefix by which browsers refuse such a cookie from elsewhere.
type Cookie struct {
	// PublicURL is the address of the server for browsers, with the path under which a proxy serves it; nil = that of each
	// request, at the path /.
	PublicURL *url.URL
}

// cookieName is the name of the cookie of a session, without a prefix.
const cookieName = "pgqueue"

// ParsePublicURL reads the address of a server for browsers. KindInvalid for one without https, unless it names this machine.
func ParsePublicURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "", strings.ContainsAny(u.Path, ";, \"\\"),
		u.Scheme != "https" && (u.Scheme != "http" || !access.IsLocalHost(hostOf(u.Host))):
		return nil, queue.Invalid("public-url", fmt.Sprintf("must be an https URL without a query, such as https://queue.example.com, got %.128q; http is for this machine alone", text))
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: strings.TrimRight(u.Path, "/")}, nil
}

// Check returns an error for a request over which no secret may travel: a browser on another machine without https.
func (c Cookie) Check(r *http.Request) error {
	if c.isSecure(r) || c.PublicURL != nil || access.IsLocalHost(hostOf(r.Host)) {
		return nil
	}
	return queue.Invalid("session", fmt.Sprintf("must be opened over https, or on the machine of the server, got http at %.64q; start the server with --public-url and the https address of its proxy", r.Host))
}

func (c Cookie) isSecure(r *http.Request) bool {
	return IsSecure(r) || c.PublicURL != nil && c.PublicURL.Scheme == "https"
}

// describe returns the cookie of a request without a value; suffix "" is that of the session.
func (c Cookie) describe(r *http.Request, suffix string) *http.Cookie {
	cookie := &http.Cookie{Name: cookieName + suffix, Path: "/", HttpOnly: true, Secure: c.isSecure(r), SameSite: http.SameSiteLaxMode}
	if c.PublicURL != nil && c.PublicURL.Path != "" {
		cookie.Path = c.PublicURL.Path
	}
	switch {
	case cookie.Secure && cookie.Path == "/":
		cookie.Name = "__Host-" + cookie.Name
	case cookie.Secure:
		cookie.Name = "__Secure-" + cookie.Name
	default:
		// The ports of a machine share their cookies, and so two servers on it would sign each other's users out.
		_, port, _ := strings.Cut(strings.TrimPrefix(r.Host, "["), ":")
		if at := strings.LastIndexByte(port, ':'); at >= 0 { // of an IPv6 address
			port = port[at+1:]
		}
		if port != "" && strings.Trim(port, "0123456789") == "" {
			cookie.Name += "-" + port
		}
	}
	return cookie
}

// read returns the value of the cookie of a request; "" without one. A second one of the name is an error: it may come from a
// neighbour, and the order of the two is the browser's.
func (c Cookie) read(r *http.Request, suffix string) (string, *queue.Error) {
	name := c.describe(r, suffix).Name
	switch all := r.CookiesNamed(name); len(all) {
	case 0:
		return "", nil
	case 1:
		return all[0].Value, nil
	default:
		return "", queue.Invalid("Cookie", fmt.Sprintf("must have the name %s once, got it %d times; delete the cookies of this server", name, len(all)))
	}
}

// Set puts the secret of a new session into the browser.
func (c Cookie) Set(w http.ResponseWriter, r *http.Request, s access.OpenedSession) {
	c.write(w, r, "", s.Secret.Reveal(), s.ExpiresAt.Sub(s.Now))
}

// Clear removes the session from the browser.
func (c Cookie) Clear(w http.ResponseWriter, r *http.Request) { c.write(w, r, "", "", 0) }

// write sets a cookie for a time; 0 removes it.
func (c Cookie) write(w http.ResponseWriter, r *http.Request, suffix, value string, life time.Duration) {
	cookie := c.describe(r, suffix)
	cookie.Value = value
	cookie.MaxAge = int(life.Seconds())
	if cookie.MaxAge <= 0 {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
	w.Header().Set("Cache-Control", "no-store")
}

// isOwnPage reports whether a page of this server sent r. A cookie comes with requests of every page that a browser opens, so a
// change by a cookie needs this proof.
func (c Cookie) isOwnPage(r *http.Request) bool {
	switch origins := r.Header["Origin"]; len(origins) {
	case 0:
		return strings.Join(r.Header["Sec-Fetch-Site"], ", ") == "same-origin"
	case 1:
		return isOwnOrigin(origins[0], r.Host) || c.PublicURL != nil && strings.EqualFold(origins[0], c.PublicURL.Scheme+"://"+c.PublicURL.Host)
	}
	return false
}
