-- The tick firer: due tickers fire. The row of a due ticker is the lock: its holder fires all due ticks and plans the next.

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
             and not exists (select 1 from {{covering_done t}} d)),
       {{ticker k}}
from k where k.before < @bytes
order by k.due_at, k.id

-- name: ticker.due.one
-- One due ticker, unless another process has locked it
select pgqueue.clock(), k.overlap = 'skip' and k.last_task_id is not null and exists (
           select 1 from pgqueue.task t
           where t.queue_id = k.last_queue_id and t.id = k.last_task_id
             and (select q.deleted_at is null from pgqueue.queue q where q.id = t.queue_id)
             and not exists (select 1 from {{covering_done t}} d)),
       {{ticker k}}
from pgqueue.ticker k
where k.id = @id and k.next_at is not null and k.next_at <= (select pgqueue.clock())
for update of k skip locked

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

-- name: ticker.next
select (select k.due_at from pgqueue.ticker k where k.queue <> '' and k.due_at is not null order by k.due_at limit 1), pgqueue.clock()

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
from {{ticker_plan_rows i}}
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
-- Tickers planned while the clock was more than a second ahead of now, with an id from @first to @last
select pgqueue.clock(), false,
       {{ticker_without_payload k}}
from pgqueue.ticker k
where k.planned_at > (select pgqueue.clock() + interval '1 s') and k.id between @first and @last
order by k.id limit @limit
for update of k skip locked

-- name: ticker.ahead.names
-- The same tickers from @first on, without locks, to plan each by itself
select k.id, k.namespace, k.name
from pgqueue.ticker k
where k.planned_at > (select pgqueue.clock() + interval '1 s') and k.id >= @first
order by k.id limit @limit

-- name: ticker.replan
update pgqueue.ticker set next_at = @next_at, due_at = @next_at, anchor = @anchor, planned_at = @now where id = @id

-- name: tick.fired
-- The nominal times that have fired. Asked only of times at or before the last tick, which a clock that went back leaves
select i.id, i.at from unnest(@id::integer[], @at::timestamptz[]) i (id, at)
cross join lateral (select 1 from pgqueue.tick t where t.ticker_id = i.id and t.at = i.at and not t.manual offset 0) t

-- name: tick.insert
-- The unique index on the nominal time is the last guard against a second tick.
insert into pgqueue.tick ({{tick}}) select {{tick i}} from {{tick_rows i}}
returning id
