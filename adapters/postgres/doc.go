// Package postgres implements queue.Store on PostgreSQL 14 and later, through pgx. All SQL of the project is here: the
// tables in migrations, the statements in sql.
//
// [Open] connects a store and creates nothing; [Store.MigrateUp] creates the schema. A [Store] is safe for concurrent
// use. It keeps cursors and watermarks in memory; a lost one costs time, never a task. [Store.InTx]
// runs the calls of a producer in a transaction of the caller.
//
// # Tables
//
// The table of a task's narrow row is its status, so a move is a delete and an insert in one transaction:
//
//	task      the values of the create, written once     partitioned by id
//	delayed   the task is due later                      status new or retry
//	ready     the task can be retained                   status new or retry; a row is a run of up to 32 tasks
//	lease     a worker holds up to 200 tasks             status retained
//	done      the end of a task                          partitioned as task; a row is a run of up to 32 successes
//	state     values that changed since the create       only for tasks that were retried, snoozed or report progress
//
// A bit of the attempt in the rows of waiting and retained tasks marks suspects, which have lost their lease: see suspects.go.
//
// Around them: queue, lane (the priorities of a queue), task_key, task_error, request (retains that may repeat),
// lease_beat (heartbeats beside a locked lease row), part (the partitions), ticker and tick. The table event is the only
// source of the feed and of the counts; fold, queue_count, queue_history and event_snapshot belong to it. The view task_now joins
// the tables to one row per task. docs/adr/0003-storage.md has the reasons and the measurements.
//
// # The life of a row
//
//	create ──► ready ── retain ──► lease ── success, failure ──► done ── retention ──► deleted
//	  │          ▲ ▲                 │
//	  │  promote │ └─── hand-back ───┤
//	  │          │                   │
//	  └────► delayed ◄ retry, snooze ┘
//
// Create takes ids from the sequence turn, claims keys, and writes task with ready or delayed. Retain locks ready rows,
// deletes them or shortens the last one, and writes one lease row per worker and queue. The token of a task is the token
// of the lease row plus its place in the row. A heartbeat updates the lease row; it splits the row when it extends only
// some of its tasks. A release sets the place of the task to 0, deletes an empty row, and writes done, ready or delayed.
// The rescuer does the same for lapsed leases. The expirer moves ready and delayed tasks to done after their ttl. The
// pruner deletes finished tasks, and drops a partition when all of its tasks are past retention. Every move writes an
// event row with the statuses before and after.
//
// # Lock order
//
// A transaction locks in this order. Inside a step it follows the order of the keys or skips locked rows:
//
//  1. the table of queues (a deletion of a queue that must be empty); the row of a ticker, a queue or a request
//  2. keys of tasks, by queue and key
//  3. advisory locks of queues with a concurrency limit, by id (locks.go lists all advisory locks)
//  4. lease rows, by token and part; then lease beats, by token
//  5. delayed, ready and done rows; then state rows, by queue and id
//
// Moves only insert event rows, so no move waits for a count. Creates, heartbeats, releases and bulk operations do not wait
// for the end of another transaction. They skip its rows (its keys after 50 ms), answer the other items, and repeat the
// skipped ones; between the attempts they hold no connection. A retain skips them too: a group with a locked task that
// comes first is looked at again later. Calls in a transaction of the caller do wait. A transaction that PostgreSQL ends
// as a deadlock runs again.
//
// # Why not SKIP LOCKED alone
//
// FOR UPDATE SKIP LOCKED lets concurrent retains choose different rows. It leaves four problems:
//
//   - A row lock ends with its transaction, and a task runs for longer. The lease row survives the transaction, and its
//     token rejects a worker that comes back after its lease lapsed.
//   - A search from the beginning of an index reads all deleted rows again until vacuum removes them, and an old snapshot
//     prevents vacuum. A search therefore starts at the cursor of its lane (cursor.go). Sweeps find rows behind the
//     cursor.
//   - Two retains that skip each other's rows cannot count each other's leases. Retains from a queue with a concurrency
//     limit therefore run one at a time, under an advisory lock.
//   - A release or a heartbeat needs one particular row. When that row is locked, a heartbeat writes a lease beat beside
//     it (docs/adr/0009-lease-beat.md), and a release repeats until the row is free.
//
// # Operation and file
//
//	create                        create.go, keys.go; bulk and narrow rows: rows.go
//	retain                        retain.go, cursor.go; limits in bytes: weigh.go; with a request id: request.go
//	create and retain (hand-off)  eager.go
//	heartbeat                     heartbeat.go, lease rows: lease_lock.go, lease_row.go
//	release                       release.go, lease_lock.go, task_record.go, move.go
//	in a transaction              intx.go
//	cancel, retry, delete         operate.go
//	get and list                  task.go, list.go; rows: task_row.go; counts: count.go; feed: internal/feed
//	queues, tickers, ticks        queue.go, ticker.go, tick.go
//	wake-ups                      internal/feed
//	background agents             background.go; row_filter.go passes over rows that the database refuses
//	promoter, expirer, rescuer    promoter.go, expirer.go, rescuer.go
//	tick firer, stats folder      tick_firer.go, stats_folder.go
//	pruner, partition keeper      pruner.go, partition_keeper.go
//	migrate, restore              internal/migrate
//	diagnose, repair              internal/doctor
//	connections and settings      store.go, options.go, internal/txn
//	transactions and errors       internal/txn
//	event rows                    change.go
package postgres
