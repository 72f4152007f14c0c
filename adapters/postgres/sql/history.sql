-- The history of queues. The stats folder writes it once a minute; no other work pays for it.

-- name: history.claim
-- The minute that has just ended, for one process. It waits for the row of fold, because folds write queue_count too.
with claimed as (
    update pgqueue.fold set sampled_at = date_trunc('minute', pgqueue.clock())
    where sampled_at < date_trunc('minute', pgqueue.clock())
    returning sampled_at
)
select sampled_at - interval '1 min' from claimed

-- name: history.gain
-- Marks what the sums have gained since the last minute as kept, and returns it by queue. @passed_queue_ids keep their gains for
-- a later minute.
update pgqueue.queue_count c
set created_kept = c.created_sum, released_kept = c.released_sum, failed_kept = c.failed_sum, retried_kept = c.retried_sum
from pgqueue.queue_count o
join pgqueue.queue q on q.id = o.queue_id and q.deleted_at is null
where o.queue_id = c.queue_id and o.queue_id <> all (@passed_queue_ids::integer[])
  and (o.created_sum <> o.created_kept or o.released_sum <> o.released_kept or o.failed_sum <> o.failed_kept or o.retried_sum <> o.retried_kept)
returning c.queue_id, c.created_sum - o.created_kept, c.released_sum - o.released_kept, c.failed_sum - o.failed_kept,
          c.retried_sum - o.retried_kept

-- name: history.write
-- Adds to the rows of minutes and hours. Deleted queues have none.
insert into pgqueue.queue_history as h (queue_id, hourly, at, created, released, failed, retried, ready, oldest_age)
select i.queue_id, i.hourly, i.at, i.created, i.released, i.failed, i.retried, i.ready, i.oldest_age
from {{history_point_rows i}}
join pgqueue.queue q on q.id = i.queue_id and q.deleted_at is null
order by i.queue_id, i.hourly
on conflict (queue_id, hourly, at) do update
set created = h.created + excluded.created, released = h.released + excluded.released, failed = h.failed + excluded.failed,
    retried = h.retried + excluded.retried, ready = greatest(h.ready, excluded.ready), oldest_age = greatest(h.oldest_age, excluded.oldest_age)

-- name: history.prune
-- Deletes up to @limit old rows, 100 of a queue: one look at the beginning of the key of each queue. Ages in ns.
delete from pgqueue.queue_history where ctid = any (array(
    select o.at from pgqueue.queue q cross join (values (false, @minute_age::bigint), (true, @hour_age::bigint)) s (hourly, age)
    cross join lateral (
        select h.ctid from pgqueue.queue_history h
        where h.queue_id = q.id and h.hourly = s.hourly and h.at < (select pgqueue.clock()) - pgqueue.nanos(s.age)
        order by h.at limit 100
    ) o (at)
    where q.deleted_at is null and q.id <> all (@passed_queue_ids::integer[])
    limit @limit::bigint))

-- name: history.list
select h.at, h.created, h.released, h.failed, h.retried, h.ready, h.oldest_age from pgqueue.queue_history h
where h.queue_id = @queue_id::integer and h.hourly = @hourly::boolean
  and h.at >= (select pgqueue.clock()) - pgqueue.nanos(@age::bigint)
  and h.at > coalesce(@after::timestamptz, '-infinity') and h.at < coalesce(@before::timestamptz, 'infinity')
order by h.at
