-- Queues: few rows, read by their unique (namespace, name).

-- name: queue.list
-- @names: none = all queues of the namespace
select {{queue q}}
from pgqueue.queue q
where q.deleted_at is null and q.namespace = @namespace
  and (cardinality(@names::text[]) = 0 or q.name = any (@names::text[]))
order by q.name

-- name: queue.marks
select {{queue_mark q}}
from pgqueue.queue q
where q.deleted_at is null and q.namespace = @namespace and q.name = any (@names::text[])

-- name: queue.read
select {{queue q}}, {{queue_mark q}} from pgqueue.queue q where q.id = any (@ids::integer[])

-- name: queue.page
select {{queue q}}, count(*) over ()
from pgqueue.queue q
where q.deleted_at is null and q.namespace = @namespace and q.name > @after
order by q.name offset @offset limit @limit

-- name: queue.count
select count(*) from pgqueue.queue where deleted_at is null and namespace = @namespace

-- name: queue.lock
select {{queue q}}
from pgqueue.queue q
where q.deleted_at is null and q.namespace = @namespace and q.name = @name
for update

-- name: queue.lock.all
-- Waits for the transactions that have read a queue, and has later readers wait
lock table pgqueue.queue in access exclusive mode

-- name: queue.insert
insert into pgqueue.queue (
    id, namespace, name, ttl, retries, retry_delay, backoff, retry_max_delay, lease, concurrency, retention, paused, events, paused_until,
    fair, rate_limit, rate_period, rate_burst, group_concurrency, group_rate_limit, group_rate_period, group_rate_burst, "order",
    fifo_batch, group_on_failure, max_waiting, non_retryable, max_lease_losses, dead_letter, created_at, updated_at)
select nextval('pgqueue.number'), @namespace, @name, @ttl, @retries, @retry_delay, @backoff, @retry_max_delay, @lease, @concurrency, @retention, @paused, @events, @paused_until,
    @fair, @rate_limit, @rate_period, @rate_burst, @group_concurrency, @group_rate_limit, @group_rate_period, @group_rate_burst, @order,
    @fifo_batch, @group_on_failure, @max_waiting, @non_retryable, @max_lease_losses, @dead_letter, now.at, now.at
from (select pgqueue.clock() as at offset 0) now
on conflict (namespace, name) where deleted_at is null do nothing
returning id, version, created_at, updated_at

-- name: queue.update
update pgqueue.queue
set ttl = @ttl, retries = @retries, retry_delay = @retry_delay, backoff = @backoff, retry_max_delay = @retry_max_delay,
    lease = @lease, concurrency = @concurrency, retention = @retention, paused = @paused, events = @events, paused_until = @paused_until,
    fair = @fair, rate_limit = @rate_limit, rate_period = @rate_period, rate_burst = @rate_burst, group_concurrency = @group_concurrency,
    group_rate_limit = @group_rate_limit, group_rate_period = @group_rate_period, group_rate_burst = @group_rate_burst, "order" = @order,
    fifo_batch = @fifo_batch, group_on_failure = @group_on_failure, max_waiting = @max_waiting,
    non_retryable = @non_retryable, max_lease_losses = @max_lease_losses, dead_letter = @dead_letter,
    version = version + 1, updated_at = pgqueue.clock()
where id = @id
returning version, updated_at

-- name: queue.delete
-- The queue and all of its tasks are invisible from here on. The pruner removes the rows in batches.
update pgqueue.queue set deleted_at = pgqueue.clock(), updated_at = pgqueue.clock() where id = @id

-- name: queue.sources
-- A queue that sends its dead letters to another
select q.name from pgqueue.queue q where q.deleted_at is null and q.namespace = @namespace and q.dead_letter = @name order by q.name limit 1

-- name: queue.namespaces
select namespace from pgqueue.queue where deleted_at is null
union
select namespace from pgqueue.ticker
union
select 'pgqueue'
order by 1
