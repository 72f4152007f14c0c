-- Tickers and their ticks. A due ticker's row is the lock: whoever has it fires all that is due and plans what is next.

-- name: ticker.insert
insert into pgqueue.ticker (namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
                            last_at, next_at, anchor, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, null, $12, $13, $13, $13)
on conflict (namespace, name) do nothing
returning id

-- name: ticker.page
-- As many as have payloads of $6 bytes, one at least; the first column is how many there are without that bound.
-- $1 namespace, $2 name ('' = all), $3 offset, $4 limit, $5 after this name
select there, id, namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused, last_at, next_at, anchor,
       version, created_at, updated_at
from (
    select k.*, count(*) over () as there, row_number() over (order by name) as nth,
           sum(case when pg_column_compression(payload) is null then pg_column_size(payload) else octet_length(payload::text) end)
               over (order by name) as bytes
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
select id, namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused, last_at, next_at, anchor,
       version, created_at, updated_at
from pgqueue.ticker where namespace = $1 and name = $2
for update

-- name: ticker.update
update pgqueue.ticker
set period = $2, cron = $3, timezone = $4, queue = $5, payload = $6, misfire = $7, misfire_limit = $8, overlap = $9, paused = $10,
    next_at = $11, anchor = $12, version = version + 1, updated_at = $13
where id = $1

-- name: ticker.delete
delete from pgqueue.ticker where id = $1

-- name: ticker.due
-- Due tickers that make tasks, found by an index of just those; with the task of their last tick while it is unfinished.
select pgqueue.clock(), (
           select t.id from pgqueue.task t
           where t.queue_id = l.queue_id and t.id = l.task_id
             and not exists (select 1 from pgqueue.done_of(t.queue_id, t.id))),
       k.id, k.namespace, k.name, k.period, k.cron, k.timezone, k.queue, k.payload, k.misfire, k.misfire_limit, k.overlap, k.paused,
       k.last_at, k.next_at, k.anchor, k.version, k.created_at, k.updated_at
from pgqueue.ticker k
left join lateral (
    select i.queue_id, i.task_id from pgqueue.tick i
    where k.overlap = 'skip' and i.ticker_id = k.id and i.task_id is not null order by i.id desc limit 1) l on true
where k.queue <> '' and k.next_at is not null and k.next_at <= (select pgqueue.clock())
order by k.next_at limit $1
for update of k skip locked

-- name: ticker.unfinished
-- Whether the task of a ticker's last tick is unfinished.
select exists (
    select 1 from (select i.queue_id, i.task_id from pgqueue.tick i where i.ticker_id = $1 and i.task_id is not null order by i.id desc limit 1) l
    join pgqueue.task t on t.queue_id = l.queue_id and t.id = l.task_id
    where not exists (select 1 from pgqueue.done_of(t.queue_id, t.id)))

-- name: ticker.next
select (select k.next_at from pgqueue.ticker k where k.queue <> '' and k.next_at is not null order by k.next_at limit 1), pgqueue.clock()

-- name: ticker.due.listen
select pgqueue.clock(), null::bigint,
       k.id, k.namespace, k.name, k.period, k.cron, k.timezone, k.queue, k.payload, k.misfire, k.misfire_limit, k.overlap, k.paused,
       k.last_at, k.next_at, k.anchor, k.version, k.created_at, k.updated_at
from pgqueue.ticker k
where k.namespace = $2 and k.queue = '' and k.next_at is not null and k.next_at <= (select pgqueue.clock())
order by k.next_at limit $1
for update of k skip locked

-- name: ticker.next.listen
select least(
    (select k.next_at from pgqueue.ticker k where k.namespace = $1 and k.queue = '' and k.next_at is not null
     order by k.next_at limit 1),
    (select i.held_until from pgqueue.tick i
     where i.held_until is not null and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = $1
     order by i.held_until limit 1)), pgqueue.clock()

-- name: ticker.plan
-- Of tickers that this transaction has locked.
update pgqueue.ticker k set last_at = coalesce(i.last_at, k.last_at), next_at = i.next_at
from unnest($1::integer[], $2::timestamptz[], $3::timestamptz[]) i (id, last_at, next_at)
cross join lateral (select k.ctid as at from pgqueue.ticker k where k.id = i.id offset 0) l
where k.ctid = l.at

-- name: tick.insert
-- The unique index on the nominal time is the last guard against a second tick.
insert into pgqueue.tick (ticker_id, at, fired_at, queue_id, task_id, skipped, manual, held_until, payload)
select * from unnest($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::bigint[], $6::boolean[], $7::boolean[],
                     $8::timestamptz[], $9::json[])
returning id

-- name: tick.list
-- As many as have payloads of $4 bytes, one at least. $1 namespace, $2 name, $3 limit
select i.id, i.at, i.fired_at, coalesce(i.task_id, 0), i.skipped, i.manual, i.payload, k.namespace, k.name, k.queue, k.period, k.cron
from pgqueue.ticker k
cross join lateral (
    select i.*, row_number() over (order by i.id desc) as nth,
           sum(case when pg_column_compression(i.payload) is null then pg_column_size(i.payload) else octet_length(i.payload::text) end)
               over (order by i.id desc) as bytes
    from (select i.* from pgqueue.tick i where i.ticker_id = k.id order by i.id desc limit $3) i
) i
where k.namespace = $1 and k.name = $2 and (i.nth = 1 or i.bytes <= $4::bigint)
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
-- Only the last ticks of each ticker stay. $1 how many, $2 most
delete from pgqueue.tick i
where i.id in (
    select x.id from pgqueue.ticker k
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id order by t.id desc offset $1 limit 1) old
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id and t.id <= old.id order by t.id limit $2) x
    limit $2)
