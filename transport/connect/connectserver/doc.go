// Package connectserver serves a [queue.Service] over Connect, gRPC and gRPC-Web.
//
//	s, err := connectserver.New(svc, connectserver.WithReadiness(store.Ping))
//	...
//	s.Mount(mux) // beside REST, on the same port
//	defer s.Drain()
//
// It serves the services of pgqueue.v1 (see proto/) and gRPC's services for health and reflection. Each path begins
// with the name of a service, so the paths need no prefix. Bidirectional streams need HTTP/2: over plain text the
// http.Server must allow it (http.Protocols, SetUnencryptedHTTP2).
package connectserver
