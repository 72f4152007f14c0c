package postgres

// Advisory locks belong to a database, and several installations of pgqueue may share one database. Each key contains
// the schema, so installations never wait for each other. The table lists all advisory locks of this package; each ends
// with its transaction:
//
//	installers  key: a hash of the schema's name          one migration at a time; it may run before there are tables
//	queue       class: oid of its table queue, id: queue  retains from a queue with a limit go one at a time
//	part        class: oid of its table part, id: 0       one maker or remover of partitions at a time
//
// One lock is of a whole table: a deletion of a queue that must be empty locks the table queue (queue.lock.all), for which it waits
// 50 ms at most, and so do the calls behind it.
//
// An operator reads the last two in pg_locks as classid::oid::regclass and objid. The statements are migrate.lock,
// retain.lockLimitedQueues and part.lock.
