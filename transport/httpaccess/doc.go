// Package httpaccess checks every request that reaches a server's port, before any transport sees it: the Host that
// the request names, the web page that sent it, and the type of its body. It also answers browsers' questions of CORS,
// so that all transports share one answer.
//
// The checks are for requests that a browser sends without its user's will. A page of another site can make the
// browser send requests to this server, and a page at a name that an attacker points at 127.0.0.1 (DNS rebinding) can read
// the answers too. Programs send neither Origin nor Sec-Fetch-Site, so for them nothing changes.
//
// Put Checks.Wrap around the handler of the whole port, never around single routes: a route that was forgotten is open.
package httpaccess
