package postgres

// Advisory locks belong to a database, and several installations of pgqueue may share one database. Each key contains
// the schema, so installations never wait for each other. The table lists all advisory locks of this package; each ends
// with its transaction:
//
//	installers  key: a hash of the schema's name              one migration at a time; it may run before there are tables
//	queue       class: oid of queue, id: queue                retains from a queue with a limit go one at a time
//	suspect     class: oid of lease, id: hash of the worker   one retain at a time gives a worker its one suspect
//	part        class: oid of part, id: 0                     one maker or remover of partitions at a time
//	drop        class: oid of part, id: 1                     one process at a time drops a partition
//	tokens      class: oid of access_token, id: 0             one create at a time counts the tokens and adds one
//	sessions    class: oid of session, id: hash of principal  the same for the sessions and codes of a principal
//
// One lock is of a whole table: a deletion of a queue that must be empty locks the table queue (queue.lock.all), for which it waits
// 50 ms at most, and so do the calls behind it.
//
// An operator reads all but the first in pg_locks as classid::oid::regclass and objid. The statements are migrate.lock, retain.gate,
// retain.suspect.lock, part.lock, part.drop.lock, token.lockAll and session.lock.
