// Package restclient implements queue.Service over REST, on net/http alone, so that a worker or a program runs over a
// server as it runs in process.
//
//	c, err := restclient.New("http://localhost:8080/api", restclient.WithNamespace("demo"))
//	...
//	defer c.Close()
//	task, err := c.CreateTask(ctx, "mail", queue.TaskMeta{Payload: payload})
//
// Calls that are safe to repeat are repeated, with a growing, jittered pause: reads, creates (a create without a key gets one made
// up), releases and heartbeats with a token, and whatever the server refused untouched. What broke after it was sent and
// is not safe to repeat is KindIndeterminate. errors.Is holds against the domain's sentinels. Streams reconnect by
// themselves and resume where they were.
package restclient
