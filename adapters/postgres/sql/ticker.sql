-- Tickers and their ticks. The row of a due ticker is the lock: its holder fires all due ticks and plans the next.

-- name: ticker.insert
insert into pgqueue.ticker (namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
                            last_at, next_at, due_at, planned_at, anchor, created_at, updated_at, payload_bytes)
values (@namespace, @name, @period, @cron, @timezone, @queue, @payload, @misfire, @misfire_limit, @overlap, @paused,
        null, @next_at, @next_at, @now, @now, @now, @now, @payload_bytes)
on conflict (namespace, name) do nothing
returning id

-- name: ticker.page
-- Tickers with payloads of @bytes together, one at least. The first column counts them without that bound. @name: '' = all
select there, {{ticker k}}
from (
    select k.*, count(*) over () as there, row_number() over (order by name) as nth,
           sum(payload_bytes) over (order by name) as bytes
    from (
        select * from pgqueue.ticker where namespace = @namespace and (@name = '' or name = @name) and name > @after
        order by name offset @offset limit @limit
    ) k
) k
where nth = 1 or bytes <= @bytes::bigint
order by name

-- name: ticker.count
select count(*) from pgqueue.ticker where namespace = @namespace

-- name: ticker.lock
select {{ticker k}}
from pgqueue.ticker k where k.namespace = @namespace and k.name = @name
for update

-- name: ticker.update
update pgqueue.ticker
set period = @period, cron = @cron, timezone = @timezone, queue = @queue, payload = @payload, misfire = @misfire,
    misfire_limit = @misfire_limit, overlap = @overlap, paused = @paused, next_at = @next_at, due_at = @next_at, planned_at = @now,
    anchor = @anchor, fault = @fault, version = version + 1, updated_at = @now, payload_bytes = @payload_bytes
where id = @id

-- name: ticker.delete
delete from pgqueue.ticker where id = @id

-- name: ticker.due
-- Due tickers with a queue, found by an index of those alone. The second column: the task of the last tick is unfinished.
-- The ones read longest ago come first, so no ticker waits for the long catch-up of another. @bytes bounds their payloads
with locked as materialized (
    select k.* from pgqueue.ticker k
    where k.queue <> '' and k.due_at is not null and k.due_at <= (select pgqueue.clock())
    order by k.due_at limit @limit
    for update of k skip locked
),
k as (select l.*, sum(l.payload_bytes) over (order by l.due_at, l.id) - l.payload_bytes as before from locked l)
select pgqueue.clock(), k.overlap = 'skip' and k.last_task_id is not null and exists (
           select 1 from pgqueue.task t
           where t.queue_id = k.last_queue_id and t.id = k.last_task_id
             and (select q.deleted_at is null from pgqueue.queue q where q.id = t.queue_id)
             and not exists (select 1 from pgqueue.done_of(t.queue_id, t.id))),
       {{ticker k}}
from k where k.before < @bytes
order by k.due_at, k.id

-- name: ticker.due.one
-- One due ticker, unless another process has locked it
select pgqueue.clock(), k.overlap = 'skip' and k.last_task_id is not null and exists (
           select 1 from pgqueue.task t
           where t.queue_id = k.last_queue_id and t.id = k.last_task_id
             and (select q.deleted_at is null from pgqueue.queue q where q.id = t.queue_id)
             and not exists (select 1 from pgqueue.done_of(t.queue_id, t.id))),
       {{ticker k}}
from pgqueue.ticker k
where k.id = @id and k.next_at is not null and k.next_at <= (select pgqueue.clock())
for update of k skip locked

-- name: ticker.next
select (select k.due_at from pgqueue.ticker k where k.queue <> '' and k.due_at is not null order by k.due_at limit 1), pgqueue.clock()

-- name: ticker.due.listen
-- Due tickers without a queue. @bytes bounds their payloads
with locked as materialized (
    select k.* from pgqueue.ticker k
    where k.namespace = @namespace and k.queue = '' and k.due_at is not null and k.due_at <= (select pgqueue.clock())
    order by k.due_at limit @limit
    for update of k skip locked
),
k as (select l.*, sum(l.payload_bytes) over (order by l.due_at, l.id) - l.payload_bytes as before from locked l)
select pgqueue.clock(), false,
       {{ticker k}}
from k where k.before < @bytes
order by k.due_at, k.id

-- name: ticker.next.listen
select least(
    (select k.due_at from pgqueue.ticker k where k.namespace = @namespace and k.queue = '' and k.due_at is not null
     order by k.due_at limit 1),
    (select i.held_until from pgqueue.tick i
     where i.held_until is not null and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = @namespace
     order by i.held_until limit 1)), pgqueue.clock()

-- name: ticker.plan
-- Plans tickers that this transaction has locked. After a clock went back the last tick may lie ahead. It stays the last, so
-- its time counts as fired
update pgqueue.ticker k
set last_at = greatest(i.last_at, k.last_at), next_at = i.next_at, due_at = i.due_at, planned_at = @now, fault = i.fault,
    last_queue_id = coalesce(i.queue_id, k.last_queue_id), last_task_id = coalesce(i.task_id, k.last_task_id)
from unnest(@id::integer[], @last_at::timestamptz[], @next_at::timestamptz[], @due_at::timestamptz[], @queue_id::integer[],
            @task_id::bigint[], @fault::text[])
    i (id, last_at, next_at, due_at, queue_id, task_id, fault)
cross join lateral (select k.ctid as at from pgqueue.ticker k where k.id = i.id offset 0) l
where k.ctid = l.at

-- name: ticker.made
-- Records the task of a tick that an operator ran
update pgqueue.ticker set last_queue_id = @queue_id, last_task_id = @task_id where id = @id

-- name: ticker.fault
-- Postpones tickers that could not fire by @delay ns, so that not every step reads them again
update pgqueue.ticker k set fault = i.fault, due_at = pgqueue.clock() + pgqueue.nanos(@delay)
from unnest(@id::integer[], @fault::text[]) i (id, fault)
cross join lateral (select k.ctid as at from pgqueue.ticker k where k.id = i.id offset 0) l
where k.ctid = l.at and k.due_at is not null

-- name: ticker.ahead
-- Tickers planned while the clock was more than a second ahead of now
select pgqueue.clock(), false,
       {{ticker_without_payload k}}
from pgqueue.ticker k
where k.planned_at > (select pgqueue.clock() + interval '1 s')
order by k.id limit @limit
for update of k skip locked

-- name: ticker.replan
update pgqueue.ticker set next_at = @next_at, due_at = @next_at, anchor = @anchor, planned_at = @now where id = @id

-- name: tick.fired
-- The nominal times that have fired. Asked only of times at or before the last tick, which a clock that went back leaves
select i.id, i.at from unnest(@id::integer[], @at::timestamptz[]) i (id, at)
cross join lateral (select 1 from pgqueue.tick t where t.ticker_id = i.id and t.at = i.at and not t.manual offset 0) t

-- name: tick.insert
-- The unique index on the nominal time is the last guard against a second tick.
insert into pgqueue.tick (ticker_id, at, fired_at, queue_id, task_id, skipped, manual, held_until, payload)
select * from unnest(@ticker_id::integer[], @at::timestamptz[], @fired_at::timestamptz[], @queue_id::integer[], @task_id::bigint[],
                     @skipped::boolean[], @manual::boolean[], @held_until::timestamptz[], @payload::json[])
returning id

-- name: tick.list
-- Ticks with payloads of @bytes together, one at least. The payload of a tick is that of its task. Without a task it is the
-- payload of the ticker
select i.id, i.at, i.fired_at, coalesce(i.task_id, 0), i.skipped, i.manual, i.payload, i.namespace, i.name, i.queue, i.period, i.cron
from (
    select i.*, row_number() over (order by i.id desc) as nth, sum(octet_length(i.payload::text)) over (order by i.id desc) as bytes
    from (
        select i.id, i.at, i.fired_at, i.task_id, i.skipped, i.manual, coalesce(i.payload, t.payload, k.payload) as payload,
               k.namespace, k.name, k.queue, k.period, k.cron
        from pgqueue.ticker k
        cross join lateral (select i.* from pgqueue.tick i where i.ticker_id = k.id order by i.id desc limit @limit) i
        left join lateral (
            select t.payload from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.task_id offset 0
        ) t on true
        where k.namespace = @namespace and k.name = @name
    ) i
) i
where i.nth = 1 or i.bytes <= @bytes::bigint
order by i.id desc

-- name: tick.take
-- Ticks that no listener holds; they are held for @hold ns. The order is one that no index has: by id the plan would walk all
-- kept ticks
with free as (
    select i.id from pgqueue.tick i
    where i.held_until <= (select pgqueue.clock()) and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = @namespace
    order by i.id + 0 limit @limit
    for update skip locked
),
taken as (
    update pgqueue.tick i set held_until = pgqueue.clock() + pgqueue.nanos(@hold) where i.id = any (array(select id from free)) returning i.*
)
select i.id, i.at, i.fired_at, 0::bigint, i.skipped, i.manual, i.payload, k.namespace, k.name, k.queue, k.period, k.cron
from taken i cross join lateral (select k.* from pgqueue.ticker k where k.id = i.ticker_id offset 0) k
order by i.id

-- name: tick.settle
-- A delivered tick is done. Another is free at once
update pgqueue.tick i set held_until = case when @delivered then null else pgqueue.clock() end
where i.id = any (@ids::bigint[]) and i.held_until is not null
  and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = @namespace

-- name: tick.prune
-- Keeps the last @keep ticks of each ticker, and those of times still to come: a clock that went back reaches these again, and
-- they have fired
delete from pgqueue.tick i
where i.id in (
    select x.id from pgqueue.ticker k
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id order by t.id desc offset @keep limit 1) old
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id and t.id <= old.id and t.at <= (select pgqueue.clock()) order by t.id limit @limit) x
    limit @limit)
