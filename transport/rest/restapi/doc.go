// Package restapi is the language of pgqueue's REST interface: the routes, the bodies, the problems, and how each
// turns into the domain's types and back. Server and client are both built on it, so they cannot drift apart; it
// imports the domain and the standard library only.
//
// The bodies are those of the predecessor: fields are added behind its own, none is renamed or retyped. Durations go out
// as integers of nanoseconds and come in as that or as text ("1m30s", "7d"). JSON payloads pass byte by byte.
//
// The bodies on the wire are API; the Go names follow the module's version.
package restapi
