-- Looks at tasks. The hot path reads none of this.

-- name: task.now
-- Each call reads the content of tasks up to $4 bytes, of its first task in any case. $1 queues, $2 ids, $3 calls, side by side
select {{fitting_present n}}
from (
    select n.*, coalesce(z.bytes + sum(z.bytes) over (
        partition by i.call order by i.nth rows between unbounded preceding and 1 preceding) <= $4, true) as fits
    from unnest($1::integer[], $2::bigint[], $3::integer[]) with ordinality i (queue_id, id, call, nth)
    cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = i.queue_id and n.id = i.id offset 0) n
    cross join lateral (
        select sum(case when pg_column_compression(v) is null then pg_column_size(v) else octet_length(v::text) end)
        from (values (n.payload), (n.result), (n.progress), (n.headers)) j (v) where v is not null
    ) z (bytes)
) n

-- name: task.now.any
-- The same where the queue is not known: one probe for each queue of the namespace. $1 namespace, $2 ids
select {{present n}}
from pgqueue.queue q
cross join unnest($2::bigint[]) i (id)
cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = q.id and n.id = i.id offset 0) n
where q.namespace = $1 and q.deleted_at is null

-- name: task.state
-- The same without the content of the tasks. $1 namespace, $2 ids
select {{present_state n}}
from pgqueue.queue q
cross join unnest($2::bigint[]) i (id)
cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = q.id and n.id = i.id offset 0) n
where q.namespace = $1 and q.deleted_at is null

-- name: task.ended
-- Those of $2 that are finished, or not there. It reads no payloads: what waits for the end of many tasks asks it again and
-- again. $1 namespace, $2 ids
select i.id from (select distinct i.id from unnest($2::bigint[]) i (id)) i
where not exists (
    select 1 from pgqueue.queue q
    cross join lateral (select t.id from pgqueue.task t where t.queue_id = q.id and t.id = i.id offset 0) t
    where q.namespace = $1 and q.deleted_at is null and not exists (select 1 from pgqueue.done_of(q.id, i.id)))

-- name: task.page
-- Tasks in the order given, until they take more than $3 bytes; the first comes in any case. It goes step by step, so that
-- values behind the last one are neither read nor decompressed. The size of an uncompressed value needs no read of it.
-- 256 is the frame of queue.Task.Bytes. The last column is the place of the last task looked at.
-- $1 queues, $2 ids, side by side, $3 bytes
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
        where n.queue_id = ($1::integer[])[p.nth + 1] and n.id = ($2::bigint[])[p.nth + 1] offset 0
    ) n on true
    left join lateral (
        select 256 + sum(case when pg_column_compression(v) is null then pg_column_size(v) else octet_length(v::text) end) as bytes
        from (values (n.payload), (n.result), (n.progress), (n.headers)) j (v) where v is not null
    ) z on true
    where p.nth < cardinality($2::bigint[]) and p.bytes <= $3::bigint
)
select {{present n}}, (select max(p.nth) from page p where p.nth = 1 or p.bytes <= $3::bigint)
from page n
where n.id is not null and (n.nth = 1 or n.bytes <= $3::bigint)
order by n.nth

-- name: task.life
-- Tasks of a namespace without what they carry in, until their results take more than $3 bytes; the first comes in any case.
-- As task.page, where the queue is not known. $1 namespace, $2 ids, $3 bytes
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
            select n.* from pgqueue.task_now n where n.queue_id = q.id and n.id = ($2::bigint[])[p.nth + 1] offset 0
        ) n
        where q.namespace = $1 and q.deleted_at is null
    ) n on true
    left join lateral (
        select 256 + coalesce(case when pg_column_compression(n.result) is null then pg_column_size(n.result)
                                   else octet_length(n.result::text) end, 0) as bytes
    ) z on true
    where p.nth < cardinality($2::bigint[]) and p.bytes <= $3::bigint
)
select {{present_life n}}, (select max(p.nth) from page p where p.nth = 1 or p.bytes <= $3::bigint)
from page n
where n.id is not null and (n.nth = 1 or n.bytes <= $3::bigint)
order by n.nth

-- name: task.there
select t.id from pgqueue.queue q cross join unnest($2::bigint[]) i (id)
cross join lateral (select t.id from pgqueue.task t where t.queue_id = q.id and t.id = i.id offset 0) t
where q.namespace = $1 and q.deleted_at is null

-- name: task.errors
select e.task_id, e.attempt, e.at, e.worker, e.error
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
cross join lateral (select e.* from pgqueue.task_error e where e.queue_id = i.queue_id and e.task_id = i.id offset 0) e
order by e.task_id, e.id

-- Lists walk ids downwards, from $3 (exclusive) to $2, and stop as soon as a page is full. Each way suits a status. From
-- each a statement with the suffix ".up" is made that walks upwards, its text without "desc", unless it stands here.
-- $1 queues, $2 from, $3 before, $4 created after, $5 created before, $6 offset, $7 limit, $8 statuses

-- name: list.any
-- All statuses: tasks past retention may be among them.
select n.queue_id, n.id from (
    select t.queue_id, t.id from unnest($1::integer[]) u (queue_id)
    cross join lateral (
        select t.queue_id, t.id from pgqueue.task t
        where t.queue_id = u.queue_id and t.id >= $2 and t.id < $3 and cardinality($8::smallint[]) > 0
          and ($4::timestamptz is null or t.created_at > $4) and ($5::timestamptz is null or t.created_at < $5)
        order by t.id desc limit $6::bigint + $7::bigint
    ) t
) n
order by n.id desc offset $6::bigint limit $7::bigint

-- name: list.all
select n.queue_id, n.id from (
    select t.queue_id, t.id from unnest($1::integer[]) u (queue_id)
    cross join lateral (
        select t.queue_id, t.id from pgqueue.task t
        where t.queue_id = u.queue_id and t.id >= $2 and t.id < $3
          and ($4::timestamptz is null or t.created_at > $4) and ($5::timestamptz is null or t.created_at < $5)
          and exists (
              select 1 from pgqueue.task_now n where n.queue_id = t.queue_id and n.id = t.id and n.status = any ($8::smallint[]) offset 0)
        order by t.id desc limit $6::bigint + $7::bigint
    ) t
) n
order by n.id desc offset $6::bigint limit $7::bigint

-- name: list.all.up
-- What ended long ago lies before what waits: at most $9 tasks of a queue are looked at. A row of queue 0 says that the walk
-- ended there, before its id. The offset is left to the caller.
select n.queue_id, n.id from (
    select t.queue_id, t.id from unnest($1::integer[]) u (queue_id)
    cross join lateral (
        select case when t.nth <= $9::bigint then t.queue_id else 0 end, t.id from (
            select t.queue_id, t.id, row_number() over (order by t.id) from pgqueue.task t
            where t.queue_id = u.queue_id and t.id >= $2 and t.id < $3
              and ($4::timestamptz is null or t.created_at > $4) and ($5::timestamptz is null or t.created_at < $5)
            order by t.id limit $9::bigint + 1
        ) t (queue_id, id, nth)
        where t.nth > $9::bigint or exists (
            select 1 from pgqueue.task_now n where n.queue_id = t.queue_id and n.id = t.id and n.status = any ($8::smallint[]) offset 0)
        order by t.id limit $6::bigint + $7::bigint
    ) t (queue_id, id)
) n
order by n.id limit $6::bigint + $7::bigint

-- name: list.waiting
-- For queues in which few tasks wait: their narrow rows name them all.
select w.queue_id, w.task_id from (
    select r.queue_id, r.task_id + i, r.attempt from pgqueue.ready r cross join lateral generate_series(0, r.n - 1) i
    where r.queue_id = any ($1::integer[]) and r.task_id + i >= $2 and r.task_id + i < $3
    union all
    select y.queue_id, y.task_id, y.attempt from pgqueue.delayed y
    where y.queue_id = any ($1::integer[]) and y.task_id >= $2 and y.task_id < $3
) w (queue_id, task_id, attempt)
where (case when w.attempt > 0 then 2 else 1 end)::smallint = any ($8::smallint[])
  and ($4::timestamptz is null and $5::timestamptz is null or exists (
      select 1 from pgqueue.task t where t.queue_id = w.queue_id and t.id = w.task_id
        and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0))
order by w.task_id desc offset $6::bigint limit $7::bigint

-- name: list.retry
-- by the index of tasks that failed before, some of which have ended since
select s.queue_id, s.task_id from unnest($1::integer[]) u (queue_id)
cross join lateral (
    select s.queue_id, s.task_id from pgqueue.state s
    where s.queue_id = u.queue_id and s.attempt > 0 and s.task_id >= $2 and s.task_id < $3 and 2 = any ($8::smallint[])
      and exists (
          select 1 from pgqueue.task_now n where n.queue_id = s.queue_id and n.id = s.task_id and n.status = 2
            and ($4::timestamptz is null or n.created_at > $4) and ($5::timestamptz is null or n.created_at < $5) offset 0)
    order by s.task_id desc limit $6::bigint + $7::bigint
) s
order by s.task_id desc offset $6::bigint limit $7::bigint

-- name: list.retained
select l.queue_id, i.id from pgqueue.lease l cross join lateral unnest(l.task_ids) i (id)
where l.queue_id = any ($1::integer[]) and i.id > 0 and i.id >= $2 and i.id < $3 and 3 = any ($8::smallint[])
  and ($4::timestamptz is null and $5::timestamptz is null or exists (
      select 1 from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id
        and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0))
order by i.id desc offset $6::bigint limit $7::bigint

-- name: list.unwell
-- failed, expired, cancelled: by the index of those
select d.queue_id, d.task_id from unnest($1::integer[]) u (queue_id) cross join unnest($8::smallint[]) s (status)
cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = u.queue_id offset 0) q
cross join lateral (
    select d.queue_id, d.task_id from pgqueue.done d
    where d.queue_id = u.queue_id and d.status = s.status and d.status <> 4 and d.task_id >= $2 and d.task_id < $3
      and ($4::timestamptz is null and $5::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = d.task_id
            and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0))
      and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
    order by d.task_id desc limit $6::bigint + $7::bigint
) d
order by d.task_id desc offset $6::bigint limit $7::bigint

-- name: list.released
-- As many runs as tasks are wanted are enough: each of those that are chosen has one at least.
select d.queue_id, i.id from unnest($1::integer[]) u (queue_id)
cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = u.queue_id offset 0) q
cross join lateral (
    select d.queue_id, d.task_id, d.n from pgqueue.done d
    where d.queue_id = u.queue_id and d.status = 4 and 4 = any ($8::smallint[])
      and d.task_id > $2 - 32 and d.task_id < $3 and d.task_id + d.n > $2
      and ($4::timestamptz is null and $5::timestamptz is null or exists (
          select 1 from pgqueue.task t
          where t.queue_id = d.queue_id and t.id >= greatest(d.task_id, $2) and t.id < least(d.task_id + d.n, $3)
            and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0))
      and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
    order by d.task_id desc limit $6::bigint + $7::bigint
) d
cross join lateral generate_series(greatest(d.task_id, $2), least(d.task_id + d.n, $3) - 1) i (id)
where $4 is null and $5 is null or exists (
    select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = i.id
      and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0)
order by i.id desc offset $6::bigint limit $7::bigint

-- name: list.worker
-- Tasks that worker $9 held last: leased, put back, ended. No index knows workers, so that at most $10 rows of a queue and
-- table are looked at; rows of queue 0 say that the walk ended there, before their ids. The offset is left to the caller.
select w.queue_id, w.id from (
    select l.queue_id, i.id from pgqueue.lease l cross join lateral unnest(l.task_ids) i (id)
    where l.queue_id = any ($1::integer[]) and l.worker = $9::text and i.id > 0 and i.id >= $2 and i.id < $3
      and 3 = any ($8::smallint[])
      and ($4::timestamptz is null and $5::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id
            and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0))
    union all
    select s.queue_id, s.task_id from unnest($1::integer[]) u (queue_id)
    cross join lateral (
        select case when s.nth <= $10::bigint then s.queue_id else 0 end, s.task_id from (
            select s.queue_id, s.task_id, s.worker, row_number() over (order by s.task_id desc) from pgqueue.state s
            where s.queue_id = u.queue_id and s.task_id >= $2 and s.task_id < $3
            order by s.task_id desc limit $10::bigint + 1
        ) s (queue_id, task_id, worker, nth)
        where s.nth > $10::bigint or s.worker = $9 and exists (
            select 1 from pgqueue.task_now n where n.queue_id = s.queue_id and n.id = s.task_id and n.worker = $9
              and n.status < 3 and n.status = any ($8)
              and ($4::timestamptz is null or n.created_at > $4) and ($5::timestamptz is null or n.created_at < $5) offset 0)
        order by s.task_id desc limit $6::bigint + $7::bigint
    ) s (queue_id, task_id)
    union all
    select d.queue_id, i.id from unnest($1::integer[]) u (queue_id)
    cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = u.queue_id offset 0) q
    cross join lateral (
        select case when d.nth <= $10::bigint then d.queue_id else 0 end, greatest(d.task_id, $2), least(d.task_id + d.n, $3) - 1
        from (
            select d.queue_id, d.task_id, d.n, d.worker, d.status, d.finished_at, row_number() over (order by d.task_id desc)
            from pgqueue.done d
            where d.queue_id = u.queue_id and d.task_id > $2 - 32 and d.task_id < $3 and d.task_id + d.n > $2
            order by d.task_id desc limit $10::bigint + 1
        ) d (queue_id, task_id, n, worker, status, finished_at, nth)
        where d.nth > $10::bigint or d.worker = $9 and d.status = any ($8)
          and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
          and ($4::timestamptz is null and $5::timestamptz is null or exists (
              select 1 from pgqueue.task t
              where t.queue_id = d.queue_id and t.id >= greatest(d.task_id, $2) and t.id < least(d.task_id + d.n, $3)
                and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0))
        order by d.task_id desc limit $6::bigint + $7::bigint
    ) d (queue_id, first, last)
    cross join lateral generate_series(d.first, d.last) i (id)
    where d.queue_id = 0 or $4 is null and $5 is null or exists (
        select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = i.id
          and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0)
) w (queue_id, id)
order by w.id desc limit $6::bigint + $7::bigint

-- name: list.edge
-- The id from which on tasks were created at $2 or later, found by halves: ids and created_at grow together, but for what is
-- created at the same moment. $1 queues, $2 when
with recursive search (low, high) as (
    select (select min(p.lower) from pgqueue.part p), (select max(p.upper) from pgqueue.part p)
    union all
    select case when t.created_at < $2::timestamptz then t.id + 1 else s.low end,
           case when t.created_at < $2::timestamptz then s.high else s.middle end
    from (select s.low, s.high, s.low + (s.high - s.low) / 2 from search s where s.low < s.high) s (low, high, middle)
    left join lateral (
        select t.id, t.created_at from unnest($1::integer[]) u (queue_id)
        cross join lateral (
            select t.id, t.created_at from pgqueue.task t
            where t.queue_id = u.queue_id and t.id >= s.middle and t.id < s.high order by t.id limit 1
        ) t
        order by t.id limit 1
    ) t on true
)
select s.low from search s where s.low >= s.high

-- name: list.hidden
-- Finished tasks past retention that are counted still: few, or those of a full partition that is about to go, up to $6. The
-- block range index finds them: "+ 0" keeps the others out of it.
-- $1 queues, $2 from, $3 before, $4 created after, $5 created before, $7 statuses
select count(*) from (
    select 1 from pgqueue.done d join pgqueue.queue q on q.id = d.queue_id
    cross join lateral generate_series(d.task_id, d.task_id + d.n - 1) i (id)
    where d.queue_id + 0 = any ($1::integer[]) and d.status = any ($7::smallint[])
      and d.finished_at <= (select pgqueue.clock() - min(pgqueue.stay(m.retention, m.ttl)) from pgqueue.queue m where m.id = any ($1::integer[]))
      and d.finished_at <= (select pgqueue.clock()) - pgqueue.stay(q.retention, q.ttl)
      and i.id >= $2 and i.id < $3
      and ($4::timestamptz is null and $5::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = i.id
            and ($4 is null or t.created_at > $4) and ($5 is null or t.created_at < $5) offset 0))
    limit $6) hidden

-- name: worker.list
select l.worker, sum(l.held)::bigint, min(l.retained_at), array_agg(distinct q.name order by q.name), min(l.expires_at)
from pgqueue.queue q cross join lateral (select l.* from pgqueue.lease l where l.queue_id = q.id offset 0) l
where q.namespace = $1 and q.deleted_at is null
group by l.worker order by l.worker
