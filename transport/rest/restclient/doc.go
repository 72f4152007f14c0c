// Package restclient implements queue.Service over REST, on net/http alone. A worker or a program runs over a server
// as it runs in process.
//
//	c, err := restclient.New("http://localhost:8080/api", restclient.WithNamespace("demo"))
//	...
//	defer c.Close()
//	task, err := c.CreateTask(ctx, "mail", queue.TaskMeta{Payload: payload})
//
// The client repeats calls that are safe to repeat, with a growing, jittered delay: reads, creates (the client adds a
// key to a create without one), releases and heartbeats with a token, and every call that the server refused without
// an effect. Any other call that broke after its send returns KindIndeterminate. errors.Is works with the sentinels
// of the domain. Streams reconnect and resume at their last position.
package restclient
