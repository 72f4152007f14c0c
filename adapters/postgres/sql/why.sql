-- Facts that explain why a queue, or a task of it, does not proceed. Each part reads an index up to a bound.

-- name: why.facts
-- One row: the clock, the oldest hold, the hold of the task @id, the first delayed and the first lapsed row of the queue among
-- the first @examined rows of all queues, and whether the task is due and still delayed.
select pgqueue.clock(), s.rate_state,
       o.task_id, o.worker, o.retained_at, o.expires_at,
       p.task_id, p.worker, p.retained_at, p.expires_at,
       (select min(y.due_at) from (
           select y.queue_id, y.due_at from pgqueue.delayed y
           where y.due_at > '-infinity' order by y.due_at limit @examined::bigint) y
        where y.queue_id = @queue_id::integer),
       (select min(l.expires_at) from (
           select l.queue_id, l.expires_at from pgqueue.lease l
           where l.expires_at <= (select pgqueue.clock()) order by l.expires_at limit @examined::bigint) l
        where l.queue_id = @queue_id::integer),
       exists (
           select 1 from pgqueue.delayed y
           where y.due_at = @due_at::timestamptz and y.task_id = @id::bigint and y.due_at <= pgqueue.clock())
from (values (1)) one (n)
left join lateral (
    select s.rate_state from pgqueue.group_state s where s.queue_id = @queue_id::integer and s.grp = 0 order by s.version desc limit 1
) s on true
left join lateral (
    select (select min(i.id) from unnest(l.task_ids) i (id) where i.id > 0) as task_id, l.worker, l.retained_at, l.expires_at
    from pgqueue.lease l where l.queue_id = @queue_id::integer
    order by l.retained_at, l.token limit 1
) o on true
left join lateral (
    select @id::bigint as task_id, l.worker, l.retained_at, l.expires_at
    from pgqueue.lease l where l.queue_id = @queue_id::integer and @id::bigint > 0 and @id::bigint = any (l.task_ids)
    limit 1
) p on true
