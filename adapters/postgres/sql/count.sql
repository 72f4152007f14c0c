-- Counts: the view count_now adds the events since the fold to the kept counts. No statement counts tasks.

-- name: counts
-- The counts of one queue; of all queues of a namespace with @name ''; of all namespaces with @namespace '' too.
select {{queue_count k}}
from pgqueue.count_now k
where (@namespace = '' or k.namespace = @namespace) and (@name = '' or k.name = @name)
order by k.namespace, k.name

-- name: count.oldest
-- The age in seconds of the first ready task of each queue: one index probe for each lane, from the cursors of the caller on
select u.queue_id, extract(epoch from pgqueue.clock() - min(case
           when s.task_id is null or s.delayed_at is null then t.created_at else greatest(s.delayed_at, t.created_at) end))::float8
from unnest(@queue_id::integer[]) u (queue_id)
join pgqueue.lane l on l.queue_id = u.queue_id
cross join lateral (
    select r.queue_id, r.task_id from pgqueue.ready r
    where r.queue_id = l.queue_id and r.lane = l.lane
      and r.turn > coalesce((
          select c.turn from unnest(@cursor_queue_id::integer[], @cursor_lane::integer[], @cursor_turn::bigint[]) c (queue_id, lane, turn)
          where c.queue_id = l.queue_id and c.lane = l.lane), 0)
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
