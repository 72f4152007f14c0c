// Package connectclient implements [queue.Service] as a client of a server, over Connect, gRPC or gRPC-Web.
//
//	c, err := connectclient.New("http://localhost:8080", connectclient.WithNamespace("demo"))
//	...
//	t, err := c.CreateTask(ctx, "mail", queue.TaskMeta{Payload: payload})
//
// An error keeps its kind over the wire: errors.Is(err, queue.ErrNotFound) holds. The client repeats a call that did
// not reach the server and a call that is safe to repeat. An operation with an unknown result returns
// queue.ErrIndeterminate.
//
// A worker with many retains and releases should use a [Stream], which sends both over one HTTP/2 stream.
package connectclient
