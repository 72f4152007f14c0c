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

// Config holds the requests that are let through. Only Refuse is required.
type Config struct {
	// Hosts are names, without ports, that a request over loopback may carry in its Host header. localhost and the
	// loopback addresses always may. A reverse proxy on this machine passes its public name on: it belongs here.
	Hosts []string
	// Origins are the trusted ones, as https://app.example.com: their pages may call every route.
	Origins []string
	// Pages are paths that a link or a bookmark on another site may lead to. One that ends in / names all paths below.
	Pages []string
	// Refuse answers a request that is not let through, in the request's own protocol.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, reason *queue.Error)
}

// Checks is a Config that was found good. It is safe for concurrent use.
type Checks struct {
	hosts   []string
	origins []string
	pages   []string
	refuse  func(http.ResponseWriter, *http.Request, int, *queue.Error)
}

// New checks cfg. Its errors are of queue.KindInvalid and name the flag at fault: allowed-host or cors-origin.
func New(cfg Config) (*Checks, error) {
	if cfg.Refuse == nil {
		return nil, errors.New("httpaccess: Config.Refuse is required")
	}
	c := &Checks{pages: cfg.Pages, refuse: cfg.Refuse}
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

// parseHostName is name as Host headers are compared: a name or an address without a port, in lower case.
func parseHostName(name string) (string, error) {
	host := normalizeHost(name)
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String(), nil
	}
	if host == "" || strings.ContainsAny(host, ":/*?#@[] ") {
		return "", queue.Invalid("allowed-host", fmt.Sprintf("%q: must be a host name or an address, without scheme, port and *, as queue.example.com", name))
	}
	return host, nil
}

// parseOrigin is origin as browsers write it.
func parseOrigin(origin string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(origin))
	switch {
	case origin == "*":
		return "", queue.Invalid("cors-origin", "* would let every web page use this server, which asks for no credentials; name the origins")
	case err != nil, u.Scheme == "", u.Host == "", strings.Contains(u.Host, "*"), u.User != nil, u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return "", queue.Invalid("cors-origin", fmt.Sprintf("%q: must be a scheme, a host and a port if it is not the usual one, as https://app.example.com", origin))
	}
	return strings.ToLower(u.Scheme) + "://" + trimDefaultPort(strings.ToLower(u.Scheme), strings.ToLower(u.Host)), nil
}

// Wrap puts the checks in front of next.
func (c *Checks) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.checkHost(r); err != nil {
			c.refuse(w, r, http.StatusMisdirectedRequest, err)
			return
		}
		if len(c.origins) > 0 {
			w.Header().Add("Vary", "Origin") // a cache must not give one origin's answer to another
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

// checkHost refuses a Host that this server is not known by, on connections from this machine alone: that is where a
// page of any site gets to by pointing its own name at 127.0.0.1. Headers of proxies, as X-Forwarded-Host, are not
// read: a page can send them too. Only HTTP/1.0 leaves the Host out, which no browser speaks.
func (c *Checks) checkHost(r *http.Request) *queue.Error {
	if r.Host == "" || !isLoopback(r) || c.knowsHost(r.Host) {
		return nil
	}
	return &queue.Error{
		Kind: queue.KindInvalid, Field: "Host",
		Msg: fmt.Sprintf("must be a name of this server, got %q; start the server with --allowed-host and that name to allow it", shorten(r.Host)),
	}
}

// isLoopback says whether the connection came in on a loopback address. A connection without an address counts as
// one: the check is the safe side.
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

// hostOf is the host of a Host header, without its port, in lower case; "" when it is malformed.
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

// normalizeHost is host in lower case, without the brackets of IPv6 and the dot at the end of a full name. Brackets hold
// nothing else: other content is malformed, and "".
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

// checkSource refuses requests of pages of other sites. It reports whether the request is of a trusted origin.
func (c *Checks) checkSource(r *http.Request) (trusted bool, err *queue.Error) {
	origins := r.Header["Origin"]
	switch {
	case len(origins) > 1:
		return false, crossSite(strings.Join(origins, ", "))
	case len(origins) == 1 && slices.Contains(c.origins, strings.ToLower(origins[0])):
		return true, nil
	}
	site := ""
	if sites := r.Header["Sec-Fetch-Site"]; len(sites) > 0 {
		site = sites[0]
	}
	if len(origins) == 1 && !isOwnOrigin(origins[0], r.Host) {
		return false, crossSite(origins[0])
	}
	if site == "" || site == "same-origin" || site == "none" || c.isNavigation(r) {
		return false, nil
	}
	return false, crossSite("")
}

func crossSite(origin string) *queue.Error {
	if origin == "" {
		return &queue.Error{
			Kind: queue.KindDenied, Field: "Sec-Fetch-Site",
			Msg: "a web page of another site sent this; start the server with --cors-origin for the pages that may",
		}
	}
	return &queue.Error{
		Kind: queue.KindDenied, Field: "Origin",
		Msg: fmt.Sprintf("a web page of %q sent this; if it may, start the server with --cors-origin and that origin, or let the proxy pass the Host header on", shorten(origin)),
	}
}

// isOwnOrigin says whether a page of this very server sent the request. The scheme may differ: a proxy in front may
// speak TLS for us.
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

// isNavigation says whether a browser opens one of our pages as a document of its own, by a link elsewhere.
func (c *Checks) isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return false
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
		return false // a frame in another site's page
	}
	return slices.ContainsFunc(c.pages, func(page string) bool {
		return r.URL.Path == page || page != "/" && strings.HasSuffix(page, "/") && strings.HasPrefix(r.URL.Path, page)
	})
}

// The types of bodies that are let through: browsers send none of them to another site without asking before. What a
// route takes of them is the route's.
var bodyTypes = []string{
	"application/json", "application/x-ndjson", "application/jsonl",
	"application/proto", "application/connect+proto", "application/connect+json",
	"application/grpc", "application/grpc+proto", "application/grpc+json",
	"application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json",
	"application/grpc-web-text", "application/grpc-web-text+proto",
}

// peekTime bounds the wait for the first byte of a body without a type and a length.
const peekTime = 10 * time.Second

// checkBody refuses a body of a type that a plain form of any web page can have, or of none.
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
		if r.Method == http.MethodGet || r.Method == http.MethodHead { // no route reads it, and no page can send it
			return nil
		}
		if r.ContentLength < 0 && !hasBody(w, r) { // some clients say chunked and send nothing
			return nil
		}
	}
	return queue.Invalid("Content-Type", "must be application/json, NDJSON or a type of the RPCs; send application/json")
}

// hasBody reads the first byte of a body of unknown length. Without one there is no body; a body that does not come in
// time counts as one.
func hasBody(w http.ResponseWriter, r *http.Request) bool {
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(peekTime))
	n, err := r.Body.Read(make([]byte, 1))
	_ = ctl.SetReadDeadline(time.Time{}) // one left behind would look like a client that went away
	if n > 0 || !errors.Is(err, io.EOF) {
		return true
	}
	r.ContentLength = 0
	return false
}

// shorten bounds the part of a header that a message repeats.
func shorten(s string) string { return s[:min(len(s), 100)] }
