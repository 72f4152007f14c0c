package httpaccess

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Config describes the allowed requests. Only Refuse is required.
type Config struct {
	// Hosts are the names, without ports, that the Host header may carry beside localhost and the loopback addresses.
	// Over loopback every other name is refused; elsewhere only to a browser, see checkHost.
	Hosts []string
	// Origins are trusted, such as https://app.example.com. Their pages may call every route.
	Origins []string
	// Pages are the paths that links and bookmarks on other sites may open. A path that ends in / includes all paths
	// below.
	Pages []string
	// Consumes, if set, reports whether a GET changes state, as the stream of ticks does. A browser that sends no
	// Sec-Fetch-Site needs an Origin or a Referer of this server for it.
	Consumes func(r *http.Request) bool
	// Refuse answers a refused request in the protocol of the request.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, reason *queue.Error)
}

// Checks is a valid Config. It is safe for concurrent use.
type Checks struct {
	hosts    []string
	origins  []string
	pages    []string
	consumes func(*http.Request) bool
	refuse   func(http.ResponseWriter, *http.Request, int, *queue.Error)
}

// New checks cfg. Its errors have queue.KindInvalid and name the wrong flag: allowed-host or cors-origin.
func New(cfg Config) (*Checks, error) {
	if cfg.Refuse == nil {
		return nil, errors.New("httpaccess: Config.Refuse is required")
	}

	c := &Checks{pages: cfg.Pages, consumes: cfg.Consumes, refuse: cfg.Refuse}
	for _, name := range cfg.Hosts {
		host, err := parseHostName(name)
		if err != nil {
			return nil, err
		}
		c.hosts = append(c.hosts, host)
	}

	for _, o := range cfg.Origins {
		origin, err := parseOrigin(o)
		if err != nil {
			return nil, err
		}
		c.origins = append(c.origins, origin)
	}

	return c, nil
}

// parseHostName returns name in the form for the comparison with Host headers: a name or an address in lower case,
// without a port.
func parseHostName(name string) (string, error) {
	host := normalizeHost(name)
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String(), nil
	}
	if host == "" || strings.ContainsAny(host, ":/*?#@[] ") {
		return "", queue.Invalid("allowed-host", fmt.Sprintf("must be a host name or an address such as queue.example.com, without scheme, port and *, got %.64q", name))
	}
	return host, nil
}

// parseOrigin returns origin as browsers write it.
func parseOrigin(origin string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(origin))
	switch {
	case origin == "*":
		return "", queue.Invalid("cors-origin", "must be one origin, got *, by which every web page could use this server without credentials; name the origins")
	case err != nil, u.Scheme == "", u.Host == "", strings.Contains(u.Host, "*"), u.User != nil, u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return "", queue.Invalid("cors-origin", fmt.Sprintf("must be a scheme, a host and an unusual port, such as https://app.example.com, got %.64q", origin))
	}
	return strings.ToLower(u.Scheme) + "://" + trimDefaultPort(strings.ToLower(u.Scheme), strings.ToLower(u.Host)), nil
}

// Wrap returns a handler that checks each request and passes the allowed ones to next.
func (c *Checks) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.checkHost(r); err != nil {
			c.refuse(w, r, http.StatusMisdirectedRequest, err)
			return
		}

		if len(c.origins) > 0 {
			// A cache must not serve the answer of one origin to another.
			w.Header().Add("Vary", "Origin")
		}

		trusted, err := c.checkSource(r)
		if err != nil {
			c.refuse(w, r, http.StatusForbidden, err)
			return
		}

		if trusted {
			allowOrigin(w.Header(), r)
			if isPreflight(r) {
				answerPreflight(w, r)
				return
			}
		}

		if err := checkBody(w, r); err != nil {
			c.refuse(w, r, http.StatusUnsupportedMediaType, err)
			return
		}

		next.ServeHTTP(w, r)
	})
}

// checkHost refuses an unknown Host. A page of any site can reach this server after it points its own name at the
// server's address. Over loopback every unknown name is refused. Elsewhere, as in a container with a port published
// on 127.0.0.1, programs may use any name, so only a browser over plain http is refused, and only with a name that an
// attacker can own. Over TLS the certificate protects the name. Headers of proxies, such as X-Forwarded-Host, do not
// count, because a page can send them too. Only HTTP/1.0 omits the Host, and browsers do not speak it.
func (c *Checks) checkHost(r *http.Request) *queue.Error {
	if r.Host == "" || c.knowsHost(r.Host) {
		return nil
	}
	if !isLoopback(r) && (!isPlainBrowser(r) || !isPublicName(r.Host) || c.trusts(r.Header["Origin"])) {
		return nil
	}
	return &queue.Error{
		Kind: queue.KindInvalid, Field: "Host",
		Msg: fmt.Sprintf("must be a name of this server, got %.64q; start the server with --allowed-host and that name to allow it", r.Host),
	}
}

// isPlainBrowser reports whether a browser sent r over plain http to another machine: only there browsers send no
// Sec-Fetch headers. A page can suppress its Referer and set any Accept-Language, but cannot remove the latter.
func isPlainBrowser(r *http.Request) bool {
	h := r.Header
	if len(h["Sec-Fetch-Site"]) > 0 || len(h["Sec-Fetch-Mode"]) > 0 {
		// A browser over TLS or to localhost; the second alone is Node.js.
		return false
	}
	if len(h["Origin"]) > 0 || len(h["Referer"]) > 0 {
		return true
	}

	// Deno sends the language * too. No page can set Accept-Encoding, which browsers send so over plain http.
	languages := h["Accept-Language"]
	return len(languages) > 0 && (languages[0] != "*" || h.Get("Accept-Encoding") == "gzip, deflate")
}

// isPublicName reports whether an attacker can own the name of a Host header: it is neither an address nor a name
// without a dot, which the public DNS does not resolve. A malformed header counts as public.
func isPublicName(hostport string) bool {
	host := hostOf(hostport)
	_, err := netip.ParseAddr(host)
	return err != nil && (host == "" || strings.Contains(host, "."))
}

// isLoopback reports whether the connection arrived on a loopback address. A connection without an address counts as
// loopback, because the check is the safe choice.
func isLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	at, err := netip.ParseAddrPort(addr.String())
	return err != nil || at.Addr().Unmap().IsLoopback()
}

func (c *Checks) knowsHost(hostport string) bool {
	host := hostOf(hostport)
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return addr.IsLoopback() || slices.Contains(c.hosts, addr.String())
	}
	return host == "localhost" || host != "" && slices.Contains(c.hosts, host)
}

// hostOf returns the host of a Host header in lower case, without its port; "" if the header is malformed.
func hostOf(hostport string) string {
	host, port := hostport, ""
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && !strings.HasSuffix(hostport, "]") {
		host, port = hostport[:i], hostport[i+1:]
	}
	if strings.Trim(port, "0123456789") != "" || strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return ""
	}
	return normalizeHost(host)
}

// normalizeHost returns host in lower case, without the brackets of IPv6 and the final dot of a full name. It returns
// "" if the brackets hold another content.
func normalizeHost(host string) string {
	host = strings.ToLower(strings.TrimSpace(host))
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok || !strings.Contains(inner, ":") {
			return ""
		}
		return inner
	}
	return strings.TrimSuffix(host, ".")
}

// checkSource refuses requests from pages of other sites. It reports whether the request comes from a trusted origin.
func (c *Checks) checkSource(r *http.Request) (trusted bool, err *queue.Error) {
	origins := r.Header["Origin"]
	switch {
	case len(origins) > 1:
		return false, crossSite("Origin", strings.Join(origins, ", "))
	case c.trusts(origins):
		return true, nil
	case len(origins) == 1 && !isOwnOrigin(origins[0], r.Host):
		return false, crossSite("Origin", origins[0])
	}

	switch site := strings.Join(r.Header["Sec-Fetch-Site"], ", "); {
	case site == "" && len(origins) == 0 && isPlainBrowser(r):
		return false, c.checkReferer(r)
	case site == "" || site == "same-origin" || site == "none" || c.isNavigation(r):
		// Programs send no Sec-Fetch-Site, and "none" is an address that the user typed.
		return false, nil
	}

	return false, crossSite("Sec-Fetch-Site", "")
}

func (c *Checks) trusts(origins []string) bool {
	return len(origins) == 1 && slices.Contains(c.origins, strings.ToLower(origins[0]))
}

// checkReferer checks a request without Origin and Sec-Fetch-Site, as browsers send it over plain http. The Referer
// then names the page. Without one, a typed address and a page that hides itself look the same: no such GET may change
// state.
func (c *Checks) checkReferer(r *http.Request) *queue.Error {
	referer := r.Referer()
	origin := originOf(referer)
	switch {
	case referer == "" && (c.consumes == nil || !c.consumes(r)):
		return nil
	case isOwnOrigin(origin, r.Host) || c.trusts([]string{origin}):
		return nil
	case r.Method == http.MethodGet && c.isPage(r.URL.Path):
		return nil
	}
	return crossSite("Referer", origin)
}

// originOf returns the scheme and the host of a URL, or "" if it has none.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// crossSite returns the error of a request with headers of a page of another site; origin is "" if unknown.
func crossSite(header, origin string) *queue.Error {
	if origin == "" {
		return &queue.Error{
			Kind: queue.KindDenied, Field: header,
			Msg: "a web page of another site sent this; start the server with --cors-origin for the pages that may",
		}
	}
	return &queue.Error{
		Kind: queue.KindDenied, Field: header,
		Msg: fmt.Sprintf("a web page of %q sent this; if it may, start the server with --cors-origin and that origin, or let the proxy pass the Host header on", shorten(origin)),
	}
}

// isOwnOrigin reports whether a page of this server sent the request. The scheme may differ, because a proxy in front
// may terminate TLS.
func isOwnOrigin(origin, host string) bool {
	scheme, at, ok := strings.Cut(strings.ToLower(origin), "://")
	if !ok || host == "" || scheme != "http" && scheme != "https" {
		return false
	}
	return trimDefaultPort(scheme, at) == trimDefaultPort(scheme, strings.ToLower(host))
}

func trimDefaultPort(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// isNavigation reports whether a browser opens one of the pages as a document, for example by a link on another site.
func (c *Checks) isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return false
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
		// The request comes from a frame in a page of another site.
		return false
	}
	return c.isPage(r.URL.Path)
}

func (c *Checks) isPage(path string) bool {
	return slices.ContainsFunc(c.pages, func(page string) bool {
		return path == page || page != "/" && strings.HasSuffix(page, "/") && strings.HasPrefix(path, page)
	})
}

// bodyTypes are the allowed types of bodies. A browser asks before it sends one of them to another site. Each route
// decides which of them it accepts.
var bodyTypes = []string{
	"application/json", "application/x-ndjson", "application/jsonl",
	"application/proto", "application/connect+proto", "application/connect+json",
	"application/grpc", "application/grpc+proto", "application/grpc+json",
	"application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json",
	"application/grpc-web-text", "application/grpc-web-text+proto",
}

// peekTime bounds the wait for the first byte of a body without a type and a length.
const peekTime = 10 * time.Second

// checkBody refuses a body without a type or with a type that a plain form of any web page can send.
func checkBody(w http.ResponseWriter, r *http.Request) *queue.Error {
	if r.ContentLength == 0 {
		return nil
	}

	types := r.Header["Content-Type"]
	if len(types) == 1 {
		if slices.Contains(bodyTypes, types[0]) {
			return nil
		}
		if media, _, err := mime.ParseMediaType(types[0]); err == nil && slices.Contains(bodyTypes, media) {
			return nil
		}
	}

	if len(types) == 0 {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			// No route reads such a body, and no page can send it.
			return nil
		}
		if r.ContentLength < 0 && !hasBody(w, r) {
			// Some clients announce chunks and send none.
			return nil
		}
	}

	given := strings.Join(types, ", ")
	return queue.Invalid("Content-Type", fmt.Sprintf("must be application/json, NDJSON or a type of the RPCs, got %.64q; send application/json", given))
}

// hasBody reads the first byte of a body of unknown length and reports whether it exists. A body that does not arrive
// within peekTime counts as one.
func hasBody(w http.ResponseWriter, r *http.Request) bool {
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(peekTime))
	n, err := r.Body.Read(make([]byte, 1))
	// An expired deadline would look like a client that has disconnected.
	_ = ctl.SetReadDeadline(time.Time{})
	if n > 0 || !errors.Is(err, io.EOF) {
		return true
	}
	r.ContentLength = 0
	return false
}

// shorten cuts the part of a header that a message repeats to 100 bytes.
func shorten(s string) string { return s[:min(len(s), 100)] }
