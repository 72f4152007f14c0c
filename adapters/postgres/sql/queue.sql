-- Queues: few rows, read by their unique (namespace, name).

-- name: queue.list
-- $2 names; none = all of the namespace
select id, namespace, name, ttl, retries, retry_delay, backoff, retry_max_delay, lease, concurrency, retention, paused, events,
       version, created_at, updated_at
from pgqueue.queue where deleted_at is null and namespace = $1
  and (cardinality($2::text[]) = 0 or name = any ($2::text[]))
order by name

-- name: queue.page
select id, namespace, name, ttl, retries, retry_delay, backoff, retry_max_delay, lease, concurrency, retention, paused, events,
       version, created_at, updated_at, count(*) over ()
from pgqueue.queue where deleted_at is null and namespace = $1 and name > $4
order by name offset $2 limit $3

-- name: queue.count
select count(*) from pgqueue.queue where deleted_at is null and namespace = $1

-- name: queue.lock
select id, namespace, name, ttl, retries, retry_delay, backoff, retry_max_delay, lease, concurrency, retention, paused, events,
       version, created_at, updated_at
from pgqueue.queue where deleted_at is null and namespace = $1 and name = $2
for update

-- name: queue.insert
insert into pgqueue.queue (namespace, name, ttl, retries, retry_delay, backoff, retry_max_delay, lease, concurrency, retention,
                           paused, events, created_at, updated_at)
select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, t, t from (select pgqueue.clock() as t) now
on conflict (namespace, name) where deleted_at is null do nothing
returning id, version, created_at, updated_at

-- name: queue.update
update pgqueue.queue
set ttl = $2, retries = $3, retry_delay = $4, backoff = $5, retry_max_delay = $6, lease = $7, concurrency = $8, retention = $9,
    paused = $10, events = $11, version = version + 1, updated_at = pgqueue.clock()
where id = $1
returning version, updated_at

-- name: queue.delete
-- The queue and all of its tasks are invisible from here on; prune removes the rows in batches.
update pgqueue.queue set deleted_at = pgqueue.clock(), updated_at = pgqueue.clock() where id = $1

-- name: queue.namespaces
select namespace from pgqueue.queue where deleted_at is null
union
select namespace from pgqueue.ticker
union
select 'pgqueue'
order by 1
