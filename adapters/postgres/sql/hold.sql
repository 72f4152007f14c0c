-- Holds: what retained tasks are moved by. The lease row is the lock: whoever ends or extends a hold locks it first, in the
-- order of (token, part), so a late release finds its token gone and changes nothing.

-- name: hold.lock
-- $1 namespace, $2 tokens
select pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, l.expires_at, l.task_ids, l.attempts, l.cancels, l.granted,
       q.id, q.namespace, q.name, q.ttl, q.retries, q.retry_delay, q.backoff, q.retry_max_delay, q.lease, q.concurrency,
       q.retention, q.paused, q.events, q.version, q.created_at, q.updated_at
from unnest($2::bigint[]) i (token)
cross join lateral (
    select l.* from pgqueue.lease l
    where l.token = i.token
      and (select q.namespace = $1 and q.deleted_at is null from pgqueue.queue q where q.id = l.queue_id)
    order by l.part offset 0
    for update
) l
join pgqueue.queue q on q.id = l.queue_id
order by l.token, l.part

-- name: hold.lock.free
-- The same for calls that many callers share: rows that another transaction has locked are left out, so that no caller waits for
-- another. hold.seen tells of those.
select pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, l.expires_at, l.task_ids, l.attempts, l.cancels, l.granted,
       q.id, q.namespace, q.name, q.ttl, q.retries, q.retry_delay, q.backoff, q.retry_max_delay, q.lease, q.concurrency,
       q.retention, q.paused, q.events, q.version, q.created_at, q.updated_at
from unnest($2::bigint[]) i (token)
cross join lateral (
    select l.* from pgqueue.lease l
    where l.token = i.token
      and (select q.namespace = $1 and q.deleted_at is null from pgqueue.queue q where q.id = l.queue_id)
    order by l.part offset 0
    for update skip locked
) l
join pgqueue.queue q on q.id = l.queue_id
order by l.token, l.part

-- name: hold.seen
-- Tasks that a lease holds and whose row could not be locked. $1 namespace, $2 tokens of lease rows, $3 ids, side by side
select i.id, pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, greatest(l.expires_at, b.expires_at),
       l.task_ids, l.attempts, l.cancels, case when b.expires_at > l.expires_at then b.granted else l.granted end, q.id, q.events
from unnest($2::bigint[], $3::bigint[]) i (token, id)
cross join lateral (select l.* from pgqueue.lease l where l.token = i.token and i.id = any (l.task_ids) offset 0) l
join pgqueue.queue q on q.id = l.queue_id and q.namespace = $1 and q.deleted_at is null
left join lateral (
    select b.* from pgqueue.lease_beat b where b.token = l.token + array_position(l.task_ids, i.id) - 1 offset 0
) b on true

-- name: hold.beat
-- Heartbeats of tasks whose row is locked. In the order of tokens, so that two cannot deadlock.
insert into pgqueue.lease_beat (token, expires_at, granted)
select * from unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) i (token, expires_at, granted) order by token
on conflict (token) do update set expires_at = excluded.expires_at, granted = excluded.granted

-- name: hold.beats
-- Heartbeats beside lease rows that this transaction has locked. One that has lapsed still names the length that was granted
-- last. $1 tokens of the rows
select b.token, b.expires_at, b.granted
from unnest($1::bigint[]) i (token)
cross join lateral (
    select b.* from pgqueue.lease_beat b where b.token >= i.token and b.token < i.token + 256 offset 0
) b

-- name: hold.unbeat
-- Ends that went into their rows, as they were read: a heartbeat that has written a later one since stays.
-- $1 tokens, $2 ends, side by side
delete from pgqueue.lease_beat b using unnest($1::bigint[], $2::timestamptz[]) i (token, expires_at)
where b.token = i.token and b.expires_at = i.expires_at

-- name: hold.expired
-- Leases that ran out, oldest first, from where the last look ended. $1 floor, $2 most
select pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, l.expires_at, l.task_ids, l.attempts, l.cancels, l.granted,
       q.id, q.namespace, q.name, q.ttl, q.retries, q.retry_delay, q.backoff, q.retry_max_delay, q.lease, q.concurrency,
       q.retention, q.paused, q.events, q.version, q.created_at, q.updated_at
from (
    select l.* from pgqueue.lease l
    where l.expires_at > $1 and l.expires_at <= (select pgqueue.clock())
      and (select q.deleted_at is null from pgqueue.queue q where q.id = l.queue_id)
    order by l.expires_at
    limit $2
    for update skip locked
) l
join pgqueue.queue q on q.id = l.queue_id

-- name: hold.expired.keys
-- The same without locks, to rescue each by itself. $1 most
select l.token, l.part
from pgqueue.lease l
where l.expires_at <= (select pgqueue.clock())
  and (select q.deleted_at is null from pgqueue.queue q where q.id = l.queue_id)
order by l.expires_at limit $1

-- name: hold.expired.one
-- $1 token, $2 part
select pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, l.expires_at, l.task_ids, l.attempts, l.cancels, l.granted,
       q.id, q.namespace, q.name, q.ttl, q.retries, q.retry_delay, q.backoff, q.retry_max_delay, q.lease, q.concurrency,
       q.retention, q.paused, q.events, q.version, q.created_at, q.updated_at
from (
    select l.* from pgqueue.lease l
    where l.token = $1 and l.part = $2 and l.expires_at <= (select pgqueue.clock())
    for update skip locked
) l
join pgqueue.queue q on q.id = l.queue_id

-- name: hold.putoff
-- A lease row that cannot be rescued: looked at again later, so that it does not stand before the others.
-- $1 token, $2 part, $3 ns
update pgqueue.lease set expires_at = pgqueue.clock() + pgqueue.nanos($3)
where ctid = any (array(
    select l.ctid from pgqueue.lease l where l.token = $1 and l.part = $2 and l.expires_at <= (select pgqueue.clock())))
returning (select q.namespace from pgqueue.queue q where q.id = queue_id), (select q.name from pgqueue.queue q where q.id = queue_id), task_ids

-- name: hold.next
-- When the next lease runs out, if in the next 5 s: before that somebody looks again anyway, and further on lie all leases that
-- ended well, as long as an old snapshot keeps them. Or when the time of a request is over.
select least((select r.end_at from pgqueue.request r order by r.end_at limit 1),
              (select l.expires_at from pgqueue.lease l
        where l.expires_at > $1 and l.expires_at <= (select pgqueue.clock() + interval '5 s') order by l.expires_at limit 1)), pgqueue.clock()

-- name: hold.find
-- Who holds these tasks: for callers without a token.
select i.id, l.token + array_position(l.task_ids, i.id) - 1
from pgqueue.queue q
cross join lateral (select l.token, l.task_ids from pgqueue.lease l where l.queue_id = q.id and l.task_ids && $2::bigint[] offset 0) l
cross join lateral unnest(l.task_ids) i (id)
where q.namespace = $1 and q.deleted_at is null and i.id = any ($2::bigint[])

-- name: hold.lives
-- The columns that a move of held tasks needs; payloads, headers, keys, results and progress stay unread. $1 queues, $2 ids
select t.queue_id, t.id, t.created_at, t.delayed_at, t.dies_at, t.priority, t.retries, null::text, null::json, null::json,
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, null::json, null::json
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
cross join lateral (select t.* from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id offset 0) s on true

-- name: hold.lives.token
-- The same by token, so that it can leave together with hold.lock. $1 tokens of the lease rows, $2 ids
select t.queue_id, t.id, t.created_at, t.delayed_at, t.dies_at, t.priority, t.retries, null::text, null::json, null::json,
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, null::json, null::json
from unnest($1::bigint[], $2::bigint[]) i (token, id)
cross join lateral (select l.queue_id from pgqueue.lease l where l.token = i.token and i.id = any (l.task_ids) offset 0) l
cross join lateral (select t.* from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id offset 0) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = l.queue_id and s.task_id = i.id offset 0) s on true

-- name: hold.facts
-- The same with the content of the tasks. $1 queues, $2 ids
select t.queue_id, t.id, t.created_at, t.delayed_at, t.dies_at, t.priority, t.retries, t.key, t.headers, t.payload,
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, s.result, s.progress
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
cross join lateral (select t.* from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id offset 0) s on true

-- name: hold.facts.token
-- The same by token. Each call reads content up to $4 bytes, the content of its first task in any case; only sizes of the others
-- are read. $1 tokens of the lease rows, $2 ids, $3 calls, side by side, $4 bytes
select queue_id, id, created_at, delayed_at, dies_at, priority, retries, key,
       case when fits then headers end, case when fits then payload end,
       stated, s_delayed_at, s_dies_at, s_retries,
       case when fits then result end, case when fits then progress end
from (
    select t.queue_id, t.id, t.created_at, t.delayed_at, t.dies_at, t.priority, t.retries, t.key, t.headers, t.payload,
           s.task_id is not null, s.delayed_at, s.dies_at, s.retries, s.result, s.progress,
           coalesce(z.bytes + sum(z.bytes) over (
               partition by i.call order by i.nth rows between unbounded preceding and 1 preceding) <= $4, true)
    from unnest($1::bigint[], $2::bigint[], $3::integer[]) with ordinality i (token, id, call, nth)
    cross join lateral (select l.queue_id from pgqueue.lease l where l.token = i.token and i.id = any (l.task_ids) offset 0) l
    cross join lateral (select t.* from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id offset 0) t
    left join lateral (select s.* from pgqueue.state s where s.queue_id = l.queue_id and s.task_id = i.id offset 0) s on true
    cross join lateral (
        select sum(case when pg_column_compression(v) is null then pg_column_size(v) else octet_length(v::text) end)
        from (values (t.payload), (t.headers), (s.result), (s.progress)) j (v) where v is not null
    ) z (bytes)
) f (queue_id, id, created_at, delayed_at, dies_at, priority, retries, key, headers, payload,
     stated, s_delayed_at, s_dies_at, s_retries, result, progress, fits)

-- name: hold.drop
delete from pgqueue.lease where ctid = any (array(
    select l.at
    from unnest($1::bigint[], $2::smallint[]) i (token, part)
    cross join lateral (select l.ctid as at from pgqueue.lease l where l.token = i.token and l.part = i.part offset 0) l))

-- name: hold.keep
-- Of rows that this transaction has locked.
update pgqueue.lease l
set held = i.held, task_ids = i.ids::bigint[], cancels = i.cancels::bigint[], expires_at = i.expires_at, granted = i.granted
from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::text[], $5::text[], $6::timestamptz[], $7::bigint[])
    i (token, part, held, ids, cancels, expires_at, granted)
cross join lateral (select l.ctid as at from pgqueue.lease l where l.token = i.token and l.part = i.part offset 0) k
where l.ctid = k.at

-- name: hold.split
insert into pgqueue.lease (token, part, queue_id, retained_at, expires_at, worker, held, task_ids, attempts, cancels, granted)
select token, part, queue_id, retained_at, expires_at, worker, held, ids::bigint[], attempts::smallint[], cancels::bigint[], granted
from unnest($1::bigint[], $2::smallint[], $3::integer[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::smallint[], $8::text[],
            $9::text[], $10::text[], $11::bigint[])
    i (token, part, queue_id, retained_at, expires_at, worker, held, ids, attempts, cancels, granted)

-- name: hold.cancel
-- Asks holders to stop. $1 tokens, $2 tasks, side by side; a hold that has ended is left alone. Not by way of where the row
-- lies: a heartbeat may be moving it.
with asked as (
    update pgqueue.lease l
    set cancels = (select array_agg(c) from unnest(l.task_ids) c where c = any (l.cancels) or c = any ($2::bigint[]))
    where l.token = any ($1::bigint[]) and l.task_ids && $2::bigint[]
    returning l.task_ids
)
select c from asked cross join lateral unnest(asked.task_ids) c where c = any ($2::bigint[])

-- name: hold.progress
-- A task's progress lives in its state row; a task on its first attempt gets one.
insert into pgqueue.state (queue_id, task_id, delayed_at, dies_at, attempt, retries, progress)
select t.queue_id, t.id, t.delayed_at, t.dies_at, i.attempt - 1, t.retries, i.progress
from unnest($1::integer[], $2::bigint[], $3::smallint[], $4::json[]) i (queue_id, id, attempt, progress)
cross join lateral (select t.* from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t
order by t.queue_id, t.id
on conflict (queue_id, task_id) do update set progress = excluded.progress
