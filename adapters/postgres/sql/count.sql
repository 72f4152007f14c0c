-- Counts: the kept counts of queue_count contain the events up to a snapshot; the later event rows are added when they are
-- read. No statement counts tasks. Outside of the snapshot are the transactions that were open at its time, a few, and those
-- from its end on. A read from its beginning on would be simpler, and would read all events since the oldest transaction of
-- the server. No visible row is at or past the end of the present snapshot: the condition shows the planner that few rows
-- match.

-- name: counts
-- The counts of one queue; of all queues of a namespace with @name ''; of all namespaces with @namespace '' too.
with new as materialized (
    select e.queue_id, array[
           coalesce(sum(n) filter (where "is" = 1), 0) - coalesce(sum(n) filter (where was = 1), 0),
           coalesce(sum(n) filter (where "is" = 2), 0) - coalesce(sum(n) filter (where was = 2), 0),
           coalesce(sum(n) filter (where "is" = 3), 0) - coalesce(sum(n) filter (where was = 3), 0),
           coalesce(sum(n) filter (where "is" = 4), 0) - coalesce(sum(n) filter (where was = 4), 0),
           coalesce(sum(n) filter (where "is" = 5), 0) - coalesce(sum(n) filter (where was = 5), 0),
           coalesce(sum(n) filter (where "is" = 6), 0) - coalesce(sum(n) filter (where was = 6), 0),
           coalesce(sum(n) filter (where "is" = 7), 0) - coalesce(sum(n) filter (where was = 7), 0)] as by,
           sum(delayed) as delayed,
           coalesce(sum(n) filter (where kind = 1), 0) as created,
           coalesce(sum(n) filter (where "is" between 4 and 7 and was between 1 and 3), 0) as finished
    from (
        select e.* from pgqueue.event e where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold))
        union all
        select e.* from pgqueue.event e
        where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold) and e.xid < pg_snapshot_xmax(pg_current_snapshot())
    ) e
    group by e.queue_id
)
select {{queue_count k}}
from (
    select q.id, q.namespace, q.name, q.paused, array[0, -- no status has the code 0
               coalesce(c.new, 0) + coalesce(n.by[1], 0), coalesce(c.retry, 0) + coalesce(n.by[2], 0),
               coalesce(c.retained, 0) + coalesce(n.by[3], 0), coalesce(c.released, 0) + coalesce(n.by[4], 0),
               coalesce(c.failed, 0) + coalesce(n.by[5], 0), coalesce(c.expired, 0) + coalesce(n.by[6], 0),
               coalesce(c.cancelled, 0) + coalesce(n.by[7], 0)]::bigint[] as by_status,
           (coalesce(c.delayed, 0) + coalesce(n.delayed, 0))::bigint as delayed,
           -- next_at moves every 30 s while tasks move: when it is older, the last minute has only events that are not folded
           case when recent then c.created_sum - c.created_mark else 0 end::float8 + coalesce(n.created, 0)::float8 as created,
           case when recent then c.finished_sum - c.finished_mark else 0 end::float8 + coalesce(n.finished, 0)::float8 as finished,
           case when recent then greatest(extract(epoch from pgqueue.clock() - c.marked_at), 1) else 60 end::float8 as seconds
    from pgqueue.queue q
    left join pgqueue.queue_count c on c.queue_id = q.id
    left join new n on n.queue_id = q.id
    cross join lateral (select coalesce(c.next_at > pgqueue.clock() - interval '90 s', false) as recent) r
    where (@namespace = '' or q.namespace = @namespace) and (@name = '' or q.name = @name) and q.deleted_at is null
) k
order by k.namespace, k.name

-- name: count.oldest
-- The age in seconds of the first ready task of each queue: one index probe for each lane, from the cursors of the caller on
select u.queue_id, extract(epoch from pgqueue.clock() - min(case
           when s.task_id is null or s.delayed_at is null then t.created_at else greatest(s.delayed_at, t.created_at) end))::float8
from unnest(@queue_id::integer[]) u (queue_id)
join pgqueue.lane l on l.queue_id = u.queue_id
cross join lateral (
    select r.queue_id, r.task_id from pgqueue.ready r
    where r.queue_id = l.queue_id and r.priority = l.priority
      and r.turn > coalesce((
          select c.turn from unnest(@cursor_queue_id::integer[], @cursor_priority::smallint[], @cursor_turn::bigint[]) c (queue_id, priority, turn)
          where c.queue_id = l.queue_id and c.priority = l.priority), 0)
    order by r.turn limit 1
) r
cross join lateral (select t.created_at from pgqueue.task t where t.queue_id = r.queue_id and t.id = r.task_id offset 0) t
left join lateral (
    select s.task_id, s.delayed_at from pgqueue.state s where s.queue_id = r.queue_id and s.task_id = r.task_id offset 0
) s on true
group by u.queue_id

-- name: recount
-- The counts of a namespace from the tasks themselves, for tests and diagnoses.
select n.queue, n.status, count(*) from pgqueue.task_now n where n.namespace = @namespace group by n.queue, n.status

-- name: clock
select pgqueue.clock()
