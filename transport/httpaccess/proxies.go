package httpaccess

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxHops bounds the addresses of a header that are read, from the last one on.
const maxHops = 32

// Proxies are the proxies in front of a server, which may name the client of a request. The zero Proxies are none. It is safe for
// concurrent use.
type Proxies struct{ networks []netip.Prefix }

// ParseProxies reads networks such as 10.0.0.0/8, or single addresses. KindInvalid for another text, and for a network of every
// address.
func ParseProxies(texts []string) (Proxies, error) {
	var p Proxies
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if addr, fault := netip.ParseAddr(text); fault == nil {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil || strings.Contains(text, "%") || network.Addr().Is4In6():
			return Proxies{}, queue.Invalid("trusted-proxy", fmt.Sprintf("must be a network or an address such as 10.0.0.0/8, got %.64q; leave out port and name", text))
		case network.Bits() == 0:
			return Proxies{}, queue.Invalid("trusted-proxy", fmt.Sprintf("must be the network of proxies, got %.64q, by which every client could choose its address; name the proxies", text))
		}
		p.networks = append(p.networks, network.Masked())
	}
	return p, nil
}

// Any reports whether a proxy is trusted.
func (p Proxies) Any() bool { return len(p.networks) > 0 }

func (p Proxies) trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// schemeKey is the key of the scheme that a proxy reports.
type schemeKey struct{}

// Wrap returns a handler that passes requests to next. Where a trusted proxy has sent a request, RemoteAddr is the address of its
// client without a port: the last one of X-Forwarded-For, or else of Forwarded, that is not a trusted proxy. From any other peer nothing of
// these headers is believed.
func (p Proxies) Wrap(next http.Handler) http.Handler {
	if !p.Any() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !p.trusts(peer.Addr()) {
			next.ServeHTTP(w, r)
			return
		}

		forwarded := r.WithContext(context.WithValue(r.Context(), schemeKey{}, forwardedScheme(r.Header)))
		if client := p.findClient(peer.Addr(), r.Header); client != peer.Addr() {
			forwarded.RemoteAddr = client.String()
		}
		next.ServeHTTP(w, forwarded)
	})
}

// IsSecure reports whether the client of r speaks https: with this server, or with a trusted proxy in front.
func IsSecure(r *http.Request) bool {
	if scheme, _ := r.Context().Value(schemeKey{}).(string); scheme != "" {
		return scheme == "https"
	}
	return r.TLS != nil
}

// findClient returns the address of the client of a trusted proxy. It walks from the last address to the first, up to the first
// one that is not a proxy. A text of another form ends the walk at the proxy that added it.
func (p Proxies) findClient(peer netip.Addr, h http.Header) netip.Addr {
	client := peer
	for _, text := range listHops(h) {
		addr, ok := parseHop(text)
		if !ok {
			break
		}
		client = addr
		if !p.trusts(addr) {
			break
		}
	}
	return client
}

// listHops returns the addresses of the header of the proxies, the last one first, at most maxHops of them.
func listHops(h http.Header) []string {
	values, pick := h["X-Forwarded-For"], strings.TrimSpace
	if len(values) == 0 {
		values, pick = h["Forwarded"], func(element string) string { return forwardedField(element, "for") }
	}

	var hops []string
	for _, value := range slices.Backward(values) {
		for len(hops) < maxHops {
			at := strings.LastIndexByte(value, ',')
			hops = append(hops, pick(value[at+1:]))
			if at < 0 {
				break
			}
			value = value[:at]
		}
	}
	return hops
}

// forwardedField returns a field of an element of the header Forwarded, such as for=192.0.2.60;proto=https; "" without it.
func forwardedField(element, name string) string {
	for pair := range strings.SplitSeq(element, ";") {
		key, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// forwardedScheme returns the scheme that the nearest proxy reports: http or https, or "" without one.
func forwardedScheme(h http.Header) string {
	values := h["X-Forwarded-Proto"]
	pick := strings.TrimSpace
	if len(values) == 0 {
		values, pick = h["Forwarded"], func(element string) string { return forwardedField(element, "proto") }
	}
	if len(values) == 0 {
		return ""
	}

	last := values[len(values)-1]
	switch scheme := strings.ToLower(pick(last[strings.LastIndexByte(last, ',')+1:])); scheme {
	case "http", "https":
		return scheme
	}
	return ""
}

// parseHop reads an address with or without brackets, port and zone.
func parseHop(text string) (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}
