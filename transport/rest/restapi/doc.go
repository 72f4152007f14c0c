// Package restapi defines pgqueue's REST interface: the routes, the bodies, the problems, and their conversion to the
// types of the domain and back. Server and client share it, so they cannot drift apart. It imports only the domain
// and the standard library.
//
// The bodies are those of the predecessor: new fields follow its own, and no field is renamed or retyped. Durations
// leave as integers of nanoseconds and arrive in that form or as text ("1m30s", "7d"). JSON payloads pass byte by
// byte.
//
// The bodies on the wire are API; the Go names follow the version of the module.
package restapi
