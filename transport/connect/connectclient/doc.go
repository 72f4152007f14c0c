// Package connectclient is a [queue.Service] that lives in a server, spoken to over Connect, gRPC or gRPC-Web.
//
//	c, err := connectclient.New("http://localhost:8080", connectclient.WithNamespace("demo"))
//	...
//	t, err := c.CreateTask(ctx, "mail", queue.TaskMeta{Payload: payload})
//
// Errors come back as they were: errors.Is(err, queue.ErrNotFound) holds over the wire. Calls that failed before they
// reached the server, and calls that may safely be repeated, are repeated by the client; what may or may not have
// happened is queue.ErrIndeterminate.
//
// A worker that retains and releases a lot is served best by a [Stream], which does both over one HTTP/2 stream.
package connectclient
