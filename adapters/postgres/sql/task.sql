-- Looks at tasks. The hot path reads none of this.

-- name: task.now
-- The content of tasks, up to @bytes bytes for each call, and of the first task of a call in any case.
select {{fitting_present n}}
from (
    select n.*, coalesce(z.bytes + sum(z.bytes) over (
        partition by i.call order by i.nth rows between unbounded preceding and 1 preceding) <= @bytes, true) as fits
    from unnest(@queue_id::integer[], @id::bigint[], @call::integer[]) with ordinality i (queue_id, id, call, nth)
    cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = i.queue_id and n.id = i.id offset 0) n
    cross join lateral (
        select sum(case when pg_column_compression(v) is null then pg_column_size(v) else octet_length(v::text) end)
        from (values (n.payload), (n.result), (n.progress), (n.headers)) j (v) where v is not null
    ) z (bytes)
) n

-- name: task.now.any
-- The same where the queue is not known: one probe for each queue of the namespace.
select {{present n}}
from pgqueue.queue q
cross join unnest(@ids::bigint[]) i (id)
cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = q.id and n.id = i.id offset 0) n
where q.namespace = @namespace and q.deleted_at is null

-- name: task.state
-- The same without the content of the tasks.
select {{present_state n}}
from pgqueue.queue q
cross join unnest(@ids::bigint[]) i (id)
cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = q.id and n.id = i.id offset 0) n
where q.namespace = @namespace and q.deleted_at is null

-- name: task.ended
-- Those of @ids that are finished or do not exist. It reads no payloads, because a caller that awaits many tasks repeats it.
select i.id from (select distinct i.id from unnest(@ids::bigint[]) i (id)) i
where not exists (
    select 1 from pgqueue.queue q
    cross join lateral (select t.queue_id, t.id from pgqueue.task t where t.queue_id = q.id and t.id = i.id offset 0) t
    where q.namespace = @namespace and q.deleted_at is null and not exists (select 1 from {{covering_done t}} d))

-- name: task.queues
-- The queues of tasks, without their content.
select t.id, q.name
from pgqueue.queue q
cross join unnest(@ids::bigint[]) i (id)
cross join lateral (select t.id from pgqueue.task t where t.queue_id = q.id and t.id = i.id offset 0) t
where q.namespace = @namespace and q.deleted_at is null

-- name: task.page
-- Tasks in the order given, until they take more than @bytes bytes; the first comes in any case. It goes step by step, so that
-- values behind the last one are neither read nor decompressed. The size of an uncompressed value needs no read of it.
-- 256 is the frame of queue.Task.Bytes. The last column is the place of the last task looked at.
with recursive page as (
    select 0 as nth, 0::bigint as bytes, n.* from (values (0)) one (n) left join (
        select {{present n}}
        from pgqueue.task_now n where false
    ) n on false
    union all
    select p.nth + 1, p.bytes + coalesce(z.bytes, 0), n.*
    from page p
    left join lateral (
        select {{present n}}
        from pgqueue.task_now n
        where n.queue_id = (@queue_id::integer[])[p.nth + 1] and n.id = (@id::bigint[])[p.nth + 1] offset 0
    ) n on true
    left join lateral (
        select 256 + sum(case when pg_column_compression(v) is null then pg_column_size(v) else octet_length(v::text) end) as bytes
        from (values (n.payload), (n.result), (n.progress), (n.headers)) j (v) where v is not null
    ) z on true
    where p.nth < cardinality(@id::bigint[]) and p.bytes <= @bytes::bigint
)
select {{present n}}, (select max(p.nth) from page p where p.nth = 1 or p.bytes <= @bytes::bigint)
from page n
where n.id is not null and (n.nth = 1 or n.bytes <= @bytes::bigint)
order by n.nth

-- name: task.page.brief
-- Tasks in the order given without their large values, and with the first @letters letters of a result that takes at most @bytes
-- bytes where it is stored. So no large value is read or decompressed.
select {{brief_present n}}
from unnest(@queue_id::integer[], @id::bigint[]) with ordinality i (queue_id, id, nth)
cross join lateral (
    select n.*, false as fits, left(case when pg_column_size(n.result) <= @bytes::integer then n.result::text end, @letters::integer) as short
    from pgqueue.task_now n where n.queue_id = i.queue_id and n.id = i.id offset 0
) n
order by i.nth

-- name: task.life
-- Tasks of a namespace without payload and headers, until their results take more than @bytes bytes; the first comes in any
-- case. As task.page, where the queue is not known.
with recursive page as (
    select 0 as nth, 0::bigint as bytes, n.* from (values (0)) one (n) left join (
        select {{present_life n}}
        from pgqueue.task_now n where false
    ) n on false
    union all
    select p.nth + 1, p.bytes + coalesce(z.bytes, 0), n.*
    from page p
    left join lateral (
        select {{present_life n}}
        from pgqueue.queue q
        cross join lateral (
            select n.* from pgqueue.task_now n where n.queue_id = q.id and n.id = (@ids::bigint[])[p.nth + 1] offset 0
        ) n
        where q.namespace = @namespace and q.deleted_at is null
    ) n on true
    left join lateral (
        select 256 + coalesce(case when pg_column_compression(n.result) is null then pg_column_size(n.result)
                                   else octet_length(n.result::text) end, 0) as bytes
    ) z on true
    where p.nth < cardinality(@ids::bigint[]) and p.bytes <= @bytes::bigint
)
select {{present_life n}}, (select max(p.nth) from page p where p.nth = 1 or p.bytes <= @bytes::bigint)
from page n
where n.id is not null and (n.nth = 1 or n.bytes <= @bytes::bigint)
order by n.nth

-- name: task.there
select t.id from pgqueue.queue q cross join unnest(@ids::bigint[]) i (id)
cross join lateral (select t.id from pgqueue.task t where t.queue_id = q.id and t.id = i.id offset 0) t
where q.namespace = @namespace and q.deleted_at is null

-- name: task.errors
select {{attempt_error e}}
from {{place_rows i}}
cross join lateral (select e.* from pgqueue.task_error e where e.queue_id = i.queue_id and e.task_id = i.id offset 0) e
order by e.task_id, e.id

-- name: worker.list
-- Each worker names its first @queues queues
select l.worker, sum(l.held)::bigint, min(l.retained_at), (array_agg(distinct q.name order by q.name))[1:@queues::integer],
    count(distinct q.name), min(l.expires_at)
from pgqueue.queue q cross join lateral (select l.* from pgqueue.lease l where l.queue_id = q.id offset 0) l
where q.namespace = @namespace and q.deleted_at is null
group by l.worker order by l.worker
