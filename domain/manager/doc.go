// Package manager is the in-process [queue.Service] over a [queue.Store].
//
//	m, err := manager.New(store)
//	...
//	defer m.Close(context.Background())
//	_, err = m.RegisterQueue(ctx, queue.QueueMeta{Name: "mail"})
//	task, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: json.RawMessage(`{"to":"a@b.c"}`)})
//
// # How it works
//
// Each operation checks its input by the rules of package queue, calls one part, and gives errors their operation. The
// parts know neither each other nor the Manager:
//
//   - package batch gathers the single calls of many goroutines into few Store calls;
//   - internal/waitlist has the waiting retains, without a database connection, and hands the tasks of creates to them;
//   - internal/feed reads the events once for all subscribers, and has the callers that await tasks;
//   - internal/ticks deals ticks to listeners, each tick to one;
//   - internal/background runs the background agents while [Manager.Run] runs;
//   - internal/owner owns the goroutines and Store calls of all parts.
//
// The Manager connects them: wakeups.go says which part a change of tasks wakes.
//
// A Manager serves requests without Run too; then other processes on the same store do the background work. SQL, wires and
// telemetry are adapters and decorators around it.
package manager
