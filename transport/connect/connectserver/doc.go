// Package connectserver serves a [queue.Service] over Connect, gRPC and gRPC-Web.
//
//	s, err := connectserver.New(svc, connectserver.WithReadiness(store.Ping))
//	...
//	s.Mount(mux) // beside REST, on the same port
//	defer s.Drain()
//
// The services are those of pgqueue.v1 (see proto/), gRPC's health service and gRPC's reflection. Their paths begin with
// the services' names, so they need no prefix. Streams that go both ways need HTTP/2: over plain text the http.Server
// must allow it (http.Protocols, SetUnencryptedHTTP2).
package connectserver
