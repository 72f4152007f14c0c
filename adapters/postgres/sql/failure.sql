-- Failed tasks with their errors.

-- name: failure.list
-- The newest @limit failed tasks of a queue, each with its last error, which is bounded where it is kept.
select d.task_id, d.finished_at, e.error, e.kind, e.fingerprint
from (
    select d.queue_id, d.task_id, d.finished_at from pgqueue.done d
    where d.queue_id = @queue_id::integer and d.status = 5
      and d.finished_at + (select pgqueue.stay(q.retention, q.ttl) from pgqueue.queue q where q.id = @queue_id) > (select pgqueue.clock())
    order by d.task_id desc limit @limit::bigint
) d
left join lateral (
    select e.error, e.kind, e.fingerprint from pgqueue.task_error e where e.queue_id = d.queue_id and e.task_id = d.task_id order by e.id desc limit 1
) e on true
order by d.task_id desc
