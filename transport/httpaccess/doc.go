// Package httpaccess checks every request on the port of a server before a transport sees it: its Host, the web page
// that sent it, and the type of its body. It also answers CORS requests, so that all transports give the same answer.
//
// The checks concern requests that a browser sends without the will of its user. A page of another site can make the
// browser send requests to this server. A page at a name that an attacker points at 127.0.0.1 (DNS rebinding) can
// also read the answers. Programs send neither Origin nor Sec-Fetch-Site, so the checks do not affect them.
//
// Put Checks.Wrap around the handler of the whole port, never around single routes: a forgotten route would be open.
package httpaccess
