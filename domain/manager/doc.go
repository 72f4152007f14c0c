// Package manager is the in-process [queue.Service] over a [queue.Store].
//
// It checks input and fills in defaults by the rules of package queue, gathers the single calls of many goroutines into
// few Store calls, parks waiting retains and awaits without a database connection, reads the event feed once for all
// subscribers, hands each tick to one listener, and does the background work while [Manager.Run] runs.
//
//	m, err := manager.New(store)
//	...
//	defer m.Close(context.Background())
//	_, err = m.RegisterQueue(ctx, queue.QueueMeta{Name: "mail"})
//	task, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: json.RawMessage(`{"to":"a@b.c"}`)})
//
// A Manager serves requests without Run too; background work is then done by other processes on the same store.
// It knows no SQL, no wire and no telemetry: those are decorators and adapters around it.
package manager
