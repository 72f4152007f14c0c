-- The rescuer: tasks of lapsed leases go back or end.

-- name: rescue.lock
-- Locks lapsed lease rows, oldest first, from the watermark of the last step on
select pgqueue.clock(), {{lease l}}, {{queue_mark q}}
from (
    select l.ctid, l.* from pgqueue.lease l
    where l.expires_at > @watermark and l.expires_at <= (select pgqueue.clock())
      and (select q.deleted_at is null from pgqueue.queue q where q.id = l.queue_id)
    order by l.expires_at
    limit @limit
    for update skip locked
) l
join pgqueue.queue q on q.id = l.queue_id

-- name: rescue.lock.one
-- Locks one lapsed lease row
select pgqueue.clock(), {{lease l}}, {{queue_mark q}}
from (
    select l.ctid, l.* from pgqueue.lease l
    where l.token = @token and l.part = @part and l.expires_at <= (select pgqueue.clock())
    for update skip locked
) l
join pgqueue.queue q on q.id = l.queue_id

-- name: rescue.keys
-- The keys of lapsed lease rows, without locks, to rescue each row by itself
select l.token, l.part
from pgqueue.lease l
where l.expires_at <= (select pgqueue.clock())
  and (select q.deleted_at is null from pgqueue.queue q where q.id = l.queue_id)
order by l.expires_at limit @limit

-- name: rescue.postpone
-- Postpones a lease row that cannot be rescued by @delay ns, so that it does not hold up the others. The granted length stays
with postponed as (
    update pgqueue.lease
    set expires_at = pgqueue.clock() + pgqueue.nanos(@delay), granted = coalesce(granted, extract(epoch from expires_at - retained_at) * 1e9)
    where token = @token and part = @part and expires_at <= (select pgqueue.clock())
    returning queue_id, task_ids
)
select (select q.namespace from pgqueue.queue q where q.id = p.queue_id), (select q.name from pgqueue.queue q where q.id = p.queue_id), p.task_ids
from postponed p

-- name: rescue.next
-- The time at which the next lease lapses, within 5 s, or the next request ends. The rescuer looks again within 5 s in any case.
-- Further on lie the index entries of released leases, for as long as an old snapshot keeps them
select least((select r.end_at from pgqueue.request r order by r.end_at limit 1),
              (select l.expires_at from pgqueue.lease l
        where l.expires_at > @watermark and l.expires_at <= (select pgqueue.clock() + interval '5 s') order by l.expires_at limit 1)), pgqueue.clock()
