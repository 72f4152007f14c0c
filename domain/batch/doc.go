// Package batch turns the single calls of many goroutines into few calls of a slow service, as the group commit of a log
// does.
//
// A [Batcher] has a stream of batches for each key. An idle stream sends an item at once; the items that arrive while its
// batch is in flight leave together with the next. So an idle system waits for nothing, and the batches of a loaded one
// grow by themselves.
//
//	creates := batch.New(batch.Options[string, queue.NewTask, queue.Created]{Commit: store.CreateTasks})
//	answers, err := creates.Do(ctx, namespace, task)
//
// [Batcher.Do] waits for the answers of its items; [Batcher.Add] hands items over and does not wait.
//
// # What callers share and what they do not
//
// Callers share the commit and its latency. They do not share faults: when a batch fails as a whole because of one item,
// the Batcher searches for that item by halves, and the other callers get their answers. An item that another
// transaction has locked is tried again apart from the other items. A caller that leaves early takes its items out of a
// batch that has not been sent. The memory of callers is copied first where Options.Copy is set.
//
// # What it is not
//
// The package does not repeat failed commits, except to search for the item at fault. It has no timer for an idle stream
// and no goroutine without an item to send.
//
// The package is a seam between pgqueue's own modules, outside semver.
package batch
