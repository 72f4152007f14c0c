-- Holds: what retained tasks are moved by. The lease row is the lock: whoever ends or extends a hold locks it first, in the
-- order of (token, part), so a late release finds its token gone and changes nothing.

-- name: hold.lock
-- $1 namespace, $2 tokens
select pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, l.expires_at, l.task_ids, l.attempts, l.cancels,
       q.id, q.namespace, q.name, q.ttl, q.retries, q.retry_delay, q.backoff, q.retry_max_delay, q.lease, q.concurrency,
       q.retention, q.paused, q.events, q.version, q.created_at, q.updated_at
from pgqueue.lease l
join pgqueue.queue q on q.id = l.queue_id and q.namespace = $1 and q.deleted_at is null
where l.token = any ($2::bigint[])
order by l.token, l.part
for update of l

-- name: hold.expired
-- Leases that ran out, oldest first, from where the last look ended. $1 floor, $2 most
select pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, l.expires_at, l.task_ids, l.attempts, l.cancels,
       q.id, q.namespace, q.name, q.ttl, q.retries, q.retry_delay, q.backoff, q.retry_max_delay, q.lease, q.concurrency,
       q.retention, q.paused, q.events, q.version, q.created_at, q.updated_at
from pgqueue.lease l
join pgqueue.queue q on q.id = l.queue_id and q.deleted_at is null
where l.expires_at > $1 and l.expires_at <= (select pgqueue.clock())
order by l.expires_at
limit $2
for update of l skip locked

-- name: hold.next
-- When the next lease runs out.
select min(l.expires_at), pgqueue.clock() from pgqueue.lease l where l.expires_at > $1

-- name: hold.find
-- Who holds these tasks: for callers without a token.
select i.id, l.token + array_position(l.task_ids, i.id) - 1
from unnest($2::bigint[]) i (id)
join pgqueue.queue q on q.namespace = $1 and q.deleted_at is null
join pgqueue.lease l on l.queue_id = q.id and i.id = any (l.task_ids)

-- name: hold.facts
-- What is needed of held tasks to move them. $1 queues, $2 ids
select t.queue_id, t.id, t.created_at, t.delayed_at, t.dies_at, t.priority, t.retries, t.key, t.headers, t.payload,
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, s.result, s.progress
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
join pgqueue.task t on t.queue_id = i.queue_id and t.id = i.id
left join pgqueue.state s on s.queue_id = i.queue_id and s.task_id = i.id

-- name: hold.facts.token
-- The same by token, so that it can leave together with hold.lock. $1 tokens of the lease rows, $2 ids
select t.queue_id, t.id, t.created_at, t.delayed_at, t.dies_at, t.priority, t.retries, t.key, t.headers, t.payload,
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, s.result, s.progress
from unnest($1::bigint[], $2::bigint[]) i (token, id)
join pgqueue.lease l on l.token = i.token and i.id = any (l.task_ids)
join pgqueue.task t on t.queue_id = l.queue_id and t.id = i.id
left join pgqueue.state s on s.queue_id = l.queue_id and s.task_id = i.id

-- name: hold.drop
delete from pgqueue.lease l using unnest($1::bigint[], $2::smallint[]) i (token, part)
where l.token = i.token and l.part = i.part

-- name: hold.keep
update pgqueue.lease l
set held = i.held, task_ids = i.ids::bigint[], cancels = i.cancels::bigint[], expires_at = i.expires_at
from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::text[], $5::text[], $6::timestamptz[])
    i (token, part, held, ids, cancels, expires_at)
where l.token = i.token and l.part = i.part

-- name: hold.split
insert into pgqueue.lease (token, part, queue_id, retained_at, expires_at, worker, held, task_ids, attempts, cancels)
select token, part, queue_id, retained_at, expires_at, worker, held, ids::bigint[], attempts::smallint[], cancels::bigint[]
from unnest($1::bigint[], $2::smallint[], $3::integer[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::smallint[], $8::text[],
            $9::text[], $10::text[])
    i (token, part, queue_id, retained_at, expires_at, worker, held, ids, attempts, cancels)

-- name: hold.cancel
-- Asks holders to stop. $1 token, $2 task; a hold that has ended is left alone.
update pgqueue.lease l set cancels = array_append(array_remove(coalesce(l.cancels, '{}'), i.id), i.id)
from unnest($1::bigint[], $2::bigint[]) i (token, id)
where l.token = i.token and i.id = any (l.task_ids)
returning i.id

-- name: hold.progress
-- A task's progress lives in its state row; a task on its first attempt gets one.
insert into pgqueue.state (queue_id, task_id, delayed_at, dies_at, attempt, retries, progress)
select t.queue_id, t.id, t.delayed_at, t.dies_at, i.attempt - 1, t.retries, i.progress
from unnest($1::integer[], $2::bigint[], $3::smallint[], $4::json[]) i (queue_id, id, attempt, progress)
join pgqueue.task t on t.queue_id = i.queue_id and t.id = i.id
order by t.queue_id, t.id
on conflict (queue_id, task_id) do update set progress = excluded.progress
