-- Tickers and their ticks. A due ticker's row is the lock: whoever has it fires all that is due and plans what is next.

-- name: ticker.insert
insert into pgqueue.ticker (namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
                            last_at, next_at, due_at, planned_at, anchor, created_at, updated_at, payload_bytes)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, null, $12, $12, $13, $13, $13, $13, $14)
on conflict (namespace, name) do nothing
returning id

-- name: ticker.page
-- As many as have payloads of $6 bytes, one at least; the first column is how many there are without that bound.
-- $1 namespace, $2 name ('' = all), $3 offset, $4 limit, $5 after this name
select there, id, namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused, last_at, next_at, fault, anchor,
       version, created_at, updated_at
from (
    select k.*, count(*) over () as there, row_number() over (order by name) as nth,
           sum(payload_bytes) over (order by name) as bytes
    from (
        select * from pgqueue.ticker where namespace = $1 and ($2 = '' or name = $2) and name > $5
        order by name offset $3 limit $4
    ) k
) k
where nth = 1 or bytes <= $6::bigint
order by name

-- name: ticker.count
select count(*) from pgqueue.ticker where namespace = $1

-- name: ticker.lock
select id, namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused, last_at, next_at, fault, anchor,
       version, created_at, updated_at
from pgqueue.ticker where namespace = $1 and name = $2
for update

-- name: ticker.update
update pgqueue.ticker
set period = $2, cron = $3, timezone = $4, queue = $5, payload = $6, misfire = $7, misfire_limit = $8, overlap = $9, paused = $10,
    next_at = $11, due_at = $11, planned_at = $13, anchor = $12, fault = $15, version = version + 1, updated_at = $13, payload_bytes = $14
where id = $1

-- name: ticker.delete
delete from pgqueue.ticker where id = $1

-- name: ticker.due
-- Due tickers that make tasks, found by an index of just those; with whether the task of the last tick is unfinished. Those
-- looked at longest ago come first, so that none waits for another's long catch-up. $1 most tickers, $2 most bytes of payloads
with locked as materialized (
    select k.* from pgqueue.ticker k
    where k.queue <> '' and k.due_at is not null and k.due_at <= (select pgqueue.clock())
    order by k.due_at limit $1
    for update of k skip locked
),
k as (select l.*, sum(l.payload_bytes) over (order by l.due_at, l.id) - l.payload_bytes as before from locked l)
select pgqueue.clock(), k.overlap = 'skip' and k.last_task_id is not null and exists (
           select 1 from pgqueue.task t
           where t.queue_id = k.last_queue_id and t.id = k.last_task_id
             and (select q.deleted_at is null from pgqueue.queue q where q.id = t.queue_id)
             and not exists (select 1 from pgqueue.done_of(t.queue_id, t.id))),
       k.id, k.namespace, k.name, k.period, k.cron, k.timezone, k.queue, k.payload, k.misfire, k.misfire_limit, k.overlap, k.paused,
       k.last_at, k.next_at, k.fault, k.anchor, k.version, k.created_at, k.updated_at
from k where k.before < $2
order by k.due_at, k.id

-- name: ticker.due.one
-- One due ticker, when no other process has it. $1 id
select pgqueue.clock(), k.overlap = 'skip' and k.last_task_id is not null and exists (
           select 1 from pgqueue.task t
           where t.queue_id = k.last_queue_id and t.id = k.last_task_id
             and (select q.deleted_at is null from pgqueue.queue q where q.id = t.queue_id)
             and not exists (select 1 from pgqueue.done_of(t.queue_id, t.id))),
       k.id, k.namespace, k.name, k.period, k.cron, k.timezone, k.queue, k.payload, k.misfire, k.misfire_limit, k.overlap, k.paused,
       k.last_at, k.next_at, k.fault, k.anchor, k.version, k.created_at, k.updated_at
from pgqueue.ticker k
where k.id = $1 and k.next_at is not null and k.next_at <= (select pgqueue.clock())
for update of k skip locked

-- name: ticker.next
select (select k.due_at from pgqueue.ticker k where k.queue <> '' and k.due_at is not null order by k.due_at limit 1), pgqueue.clock()

-- name: ticker.due.listen
-- The same for those without a queue. $1 most tickers, $2 most bytes of payloads, $3 namespace
with locked as materialized (
    select k.* from pgqueue.ticker k
    where k.namespace = $3 and k.queue = '' and k.due_at is not null and k.due_at <= (select pgqueue.clock())
    order by k.due_at limit $1
    for update of k skip locked
),
k as (select l.*, sum(l.payload_bytes) over (order by l.due_at, l.id) - l.payload_bytes as before from locked l)
select pgqueue.clock(), false,
       k.id, k.namespace, k.name, k.period, k.cron, k.timezone, k.queue, k.payload, k.misfire, k.misfire_limit, k.overlap, k.paused,
       k.last_at, k.next_at, k.fault, k.anchor, k.version, k.created_at, k.updated_at
from k where k.before < $2
order by k.due_at, k.id

-- name: ticker.next.listen
select least(
    (select k.due_at from pgqueue.ticker k where k.namespace = $1 and k.queue = '' and k.due_at is not null
     order by k.due_at limit 1),
    (select i.held_until from pgqueue.tick i
     where i.held_until is not null and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = $1
     order by i.held_until limit 1)), pgqueue.clock()

-- name: ticker.plan
-- Of tickers that this transaction has locked. After a clock went back the last tick may lie ahead: it stays the last, so that
-- its time is known to have fired already. $7 now
update pgqueue.ticker k
set last_at = greatest(i.last_at, k.last_at), next_at = i.next_at, due_at = i.due_at, planned_at = $7, fault = i.fault,
    last_queue_id = coalesce(i.queue_id, k.last_queue_id), last_task_id = coalesce(i.task_id, k.last_task_id)
from unnest($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::integer[], $6::bigint[], $8::text[])
    i (id, last_at, next_at, due_at, queue_id, task_id, fault)
cross join lateral (select k.ctid as at from pgqueue.ticker k where k.id = i.id offset 0) l
where k.ctid = l.at

-- name: ticker.made
-- The task of a tick that was run by hand. $1 ticker, $2 queue, $3 task
update pgqueue.ticker set last_queue_id = $2, last_task_id = $3 where id = $1

-- name: ticker.fault
-- Tickers that could not fire rest, so that they are not read again at each step. $1 ids, $2 faults, $3 rest in ns
update pgqueue.ticker k set fault = i.fault, due_at = pgqueue.clock() + pgqueue.nanos($3)
from unnest($1::integer[], $2::text[]) i (id, fault)
cross join lateral (select k.ctid as at from pgqueue.ticker k where k.id = i.id offset 0) l
where k.ctid = l.at and k.due_at is not null

-- name: ticker.ahead
-- Tickers that were planned by a clock that was ahead of now, by more than a second. $1 most
select pgqueue.clock(), false,
       k.id, k.namespace, k.name, k.period, k.cron, k.timezone, k.queue, '{}'::json, k.misfire, k.misfire_limit, k.overlap, k.paused,
       k.last_at, k.next_at, k.fault, k.anchor, k.version, k.created_at, k.updated_at
from pgqueue.ticker k
where k.planned_at > (select pgqueue.clock() + interval '1 s')
order by k.id limit $1
for update of k skip locked

-- name: ticker.replan
-- $1 id, $2 next, $3 anchor, $4 now
update pgqueue.ticker set next_at = $2, due_at = $2, anchor = $3, planned_at = $4 where id = $1

-- name: tick.fired
-- Which nominal times have fired: asked only of times at or before the last tick, which a clock that went back leaves.
-- $1 tickers, $2 times, side by side
select i.id, i.at from unnest($1::integer[], $2::timestamptz[]) i (id, at)
cross join lateral (select 1 from pgqueue.tick t where t.ticker_id = i.id and t.at = i.at and not t.manual offset 0) t

-- name: tick.insert
-- The unique index on the nominal time is the last guard against a second tick.
insert into pgqueue.tick (ticker_id, at, fired_at, queue_id, task_id, skipped, manual, held_until, payload)
select * from unnest($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::bigint[], $6::boolean[], $7::boolean[],
                     $8::timestamptz[], $9::json[])
returning id

-- name: tick.list
-- As many as have payloads of $4 bytes, one at least. A tick's payload is that of its task; once that is gone, or where it
-- made none, the ticker's. $1 namespace, $2 name, $3 limit
select i.id, i.at, i.fired_at, coalesce(i.task_id, 0), i.skipped, i.manual, i.payload, i.namespace, i.name, i.queue, i.period, i.cron
from (
    select i.*, row_number() over (order by i.id desc) as nth, sum(octet_length(i.payload::text)) over (order by i.id desc) as bytes
    from (
        select i.id, i.at, i.fired_at, i.task_id, i.skipped, i.manual, coalesce(i.payload, t.payload, k.payload) as payload,
               k.namespace, k.name, k.queue, k.period, k.cron
        from pgqueue.ticker k
        cross join lateral (select i.* from pgqueue.tick i where i.ticker_id = k.id order by i.id desc limit $3) i
        left join lateral (
            select t.payload from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.task_id offset 0
        ) t on true
        where k.namespace = $1 and k.name = $2
    ) i
) i
where i.nth = 1 or i.bytes <= $4::bigint
order by i.id desc

-- name: tick.take
-- Ticks for listeners that nobody holds. $1 namespace, $2 most, $3 hold in ns. In an order that no index has: by id all that
-- are kept would be walked.
with free as (
    select i.id from pgqueue.tick i
    where i.held_until <= (select pgqueue.clock()) and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = $1
    order by i.id + 0 limit $2
    for update skip locked
),
taken as (
    update pgqueue.tick i set held_until = pgqueue.clock() + pgqueue.nanos($3) where i.id = any (array(select id from free)) returning i.*
)
select i.id, i.at, i.fired_at, 0::bigint, i.skipped, i.manual, i.payload, k.namespace, k.name, k.queue, k.period, k.cron
from taken i cross join lateral (select k.* from pgqueue.ticker k where k.id = i.ticker_id offset 0) k
order by i.id

-- name: tick.settle
-- $3 delivered: nobody needs it any more; else it is free at once
update pgqueue.tick i set held_until = case when $3 then null else pgqueue.clock() end
where i.id = any ($2::bigint[]) and i.held_until is not null and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = $1

-- name: tick.prune
-- Only the last ticks of each ticker stay, and those of times that are still to come: a clock that went back reaches them
-- again, and they have fired. $1 how many, $2 most
delete from pgqueue.tick i
where i.id in (
    select x.id from pgqueue.ticker k
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id order by t.id desc offset $1 limit 1) old
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id and t.id <= old.id and t.at <= (select pgqueue.clock()) order by t.id limit $2) x
    limit $2)
