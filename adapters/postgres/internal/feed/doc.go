// Package feed reads the events of tasks, and carries wake-ups between processes.
//
// # Events
//
// A [Reader] returns pages of event rows. The cursor of a page is a snapshot of PostgreSQL: the events that the snapshot
// sees lie behind it, and all later commits lie ahead, in any order. No reader therefore misses an event of a transaction
// that commits late. Writers of event rows use [CodeOf] and [PackIDs].
//
// # Wake-ups
//
// A [Notifier] sends the queues with new ready tasks by NOTIFY, and a [Listener] receives them. Nothing depends on their
// arrival: waiting callers also poll.
//
// All types are safe for concurrent use.
package feed
