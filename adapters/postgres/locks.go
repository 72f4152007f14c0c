package postgres

import "hash/fnv"

// Advisory locks belong to a database, and several installations of pgqueue may share one database. Each key contains
// the schema, so installations never wait for each other. The table lists all advisory locks of this package; each ends
// with its transaction:
//
//	installers  key: a hash of the schema's name          one migration at a time; there are no tables yet to be named by
//	queue       class: oid of its table queue, id: queue  retains from a queue with a limit go one at a time
//	part        class: oid of its table part, id: 0       one maker or remover of partitions at a time
//
// An operator reads the last two in pg_locks as classid::oid::regclass and objid. The statements are migrate.lock,
// retain.lockLimitedQueues and part.lock.

// installLockKey is the advisory lock of a schema's installers.
func (s *Store) installLockKey() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("pgqueue migrate " + s.opt.schema))
	return int64(h.Sum64())
}
