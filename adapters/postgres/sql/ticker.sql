-- Tickers and their ticks; tick_firer.sql fires them.

-- name: ticker.insert
insert into pgqueue.ticker (id, namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
                            last_at, next_at, due_at, planned_at, anchor, created_at, updated_at, payload_bytes)
values (nextval('pgqueue.number'), @namespace, @name, @period, @cron, @timezone, @queue, @payload, @misfire, @misfire_limit, @overlap, @paused,
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

-- name: tick.list
-- Ticks with payloads of @bytes together, one at least. The payload of a tick is that of its task. Without a task it is the
-- payload of the ticker
select {{listed_tick i}}
from (
    select i.*, row_number() over (order by i.id desc) as nth, sum(octet_length(i.payload::text)) over (order by i.id desc) as bytes
    from (
        select i.id, i.at, i.fired_at, coalesce(i.task_id, 0) as task_id, i.skipped, i.manual,
               coalesce(i.payload, t.payload, k.payload) as payload, k.namespace, k.name as ticker, k.queue, k.period, k.cron
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
select {{listed_tick i}}
from (
    select i.id, i.at, i.fired_at, 0::bigint as task_id, i.skipped, i.manual, i.payload,
           k.namespace, k.name as ticker, k.queue, k.period, k.cron
    from taken i cross join lateral (select k.* from pgqueue.ticker k where k.id = i.ticker_id offset 0) k
) i
order by i.id

-- name: tick.settle
-- A delivered tick is done. Another is free at once
update pgqueue.tick i set held_until = case when @delivered then null else c.now end
from (select pgqueue.clock() as now offset 0) c
where i.id = any (@ids::bigint[]) and i.held_until is not null
  and (select k.namespace from pgqueue.ticker k where k.id = i.ticker_id) = @namespace
