-- Failed tasks with their errors.

-- name: failure.list
-- The newest @limit failed tasks of a queue below an id that ended in a time, each with its last error, which is bounded where it is
-- kept. With a time the walk reads at most @row_limit rows: no index has the time of a failure. A task 0 marks that end.
select d.task_id, d.finished_at, e.error, e.kind, e.fingerprint
from (
    select d.queue_id, case when d.nth <= @row_limit::bigint then d.task_id else 0 end, d.finished_at from (
        select d.queue_id, d.task_id, d.finished_at, row_number() over (order by d.task_id desc) from pgqueue.done d
        where d.queue_id = @queue_id::integer and d.status = 5 and d.task_id < @before_id
          and d.finished_at + (select pgqueue.stay(q.retention, q.ttl) from pgqueue.queue q where q.id = @queue_id) > (select pgqueue.clock())
        order by d.task_id desc limit @row_limit::bigint + 1
    ) d (queue_id, task_id, finished_at, nth)
    where d.nth > @row_limit::bigint
       or (@after::timestamptz is null or d.finished_at > @after) and (@before::timestamptz is null or d.finished_at < @before)
    order by d.task_id desc limit @limit::bigint
) d (queue_id, task_id, finished_at)
left join lateral (
    select e.error, e.kind, e.fingerprint from pgqueue.task_error e where e.queue_id = d.queue_id and e.task_id = d.task_id order by e.id desc limit 1
) e on true
order by d.task_id desc
