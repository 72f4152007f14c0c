// Package txn runs the statements of a store: in transactions with retries, or alone.
//
// # Transactions
//
// [Database.Run] runs a function in a transaction, and again after a transient fault. A [Tx] queues statements and sends
// them with the next read or the commit, so that a transaction costs few round trips.
//
// # Commit in doubt
//
// A connection that breaks during a commit, or a commit without the confirmation of a standby, gives
// queue.KindIndeterminate. Such a transaction never runs again by itself.
//
// # Errors and settings
//
// [Translate] turns each error of PostgreSQL and pgx into a *queue.Error. Package sqlstate of the domain has every SQLSTATE. A
// [Connector] prepares connections; the table in settings.go has every setting that a role or database may carry.
//
// A Database is safe for concurrent use, a Tx is not.
package txn
