-- Lists walk ids downwards, from @before_id (exclusive) to @from_id, and stop as soon as a page is full. Each statement suits
-- some statuses. The store derives from each a statement with the suffix ".up" that walks upwards, its text without "desc",
-- unless the file has one.

-- name: list.any
-- All statuses: tasks past retention may be among them.
select n.queue_id, n.id from (
    select t.queue_id, t.id from unnest(@queue_ids::integer[]) u (queue_id)
    cross join lateral (
        select t.queue_id, t.id from pgqueue.task t
        where t.queue_id = u.queue_id and t.id >= @from_id and t.id < @before_id and cardinality(@statuses::smallint[]) > 0
          and (@created_after::timestamptz is null or t.created_at > @created_after) and (@created_before::timestamptz is null or t.created_at < @created_before)
        order by t.id desc limit @offset::bigint + @limit::bigint
    ) t
) n
order by n.id desc offset @offset::bigint limit @limit::bigint

-- name: list.all
select n.queue_id, n.id from (
    select t.queue_id, t.id from unnest(@queue_ids::integer[]) u (queue_id)
    cross join lateral (
        select t.queue_id, t.id from pgqueue.task t
        where t.queue_id = u.queue_id and t.id >= @from_id and t.id < @before_id
          and (@created_after::timestamptz is null or t.created_at > @created_after) and (@created_before::timestamptz is null or t.created_at < @created_before)
          and exists (
              select 1 from pgqueue.task_now n where n.queue_id = t.queue_id and n.id = t.id and n.status = any (@statuses::smallint[]) offset 0)
        order by t.id desc limit @offset::bigint + @limit::bigint
    ) t
) n
order by n.id desc offset @offset::bigint limit @limit::bigint

-- name: list.all.up
-- Upwards, finished tasks come before waiting ones, so a walk reads at most @row_limit tasks of a queue. A row of queue 0 marks
-- the end of the walk, before its id. The caller applies the offset.
select n.queue_id, n.id from (
    select t.queue_id, t.id from unnest(@queue_ids::integer[]) u (queue_id)
    cross join lateral (
        select case when t.nth <= @row_limit::bigint then t.queue_id else 0 end, t.id from (
            select t.queue_id, t.id, row_number() over (order by t.id) from pgqueue.task t
            where t.queue_id = u.queue_id and t.id >= @from_id and t.id < @before_id
              and (@created_after::timestamptz is null or t.created_at > @created_after) and (@created_before::timestamptz is null or t.created_at < @created_before)
            order by t.id limit @row_limit::bigint + 1
        ) t (queue_id, id, nth)
        where t.nth > @row_limit::bigint or exists (
            select 1 from pgqueue.task_now n where n.queue_id = t.queue_id and n.id = t.id and n.status = any (@statuses::smallint[]) offset 0)
        order by t.id limit @offset::bigint + @limit::bigint
    ) t (queue_id, id)
) n
order by n.id limit @offset::bigint + @limit::bigint

-- name: list.waiting
-- For queues in which few tasks wait: their narrow rows name them all.
select w.queue_id, w.task_id from (
    select r.queue_id, r.task_id + i, r.attempt from pgqueue.ready r cross join lateral generate_series(0, r.n - 1) i
    where r.queue_id = any (@queue_ids::integer[]) and r.task_id + i >= @from_id and r.task_id + i < @before_id
    union all
    select y.queue_id, y.task_id, y.attempt from pgqueue.delayed y
    where y.queue_id = any (@queue_ids::integer[]) and y.task_id >= @from_id and y.task_id < @before_id
) w (queue_id, task_id, attempt)
where (case when w.attempt > 0 then 2 else 1 end)::smallint = any (@statuses::smallint[])
  and (@created_after::timestamptz is null and @created_before::timestamptz is null or exists (
      select 1 from pgqueue.task t where t.queue_id = w.queue_id and t.id = w.task_id
        and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0))
order by w.task_id desc offset @offset::bigint limit @limit::bigint

-- name: list.retry
-- by the index of tasks that failed before, some of which have ended since
select s.queue_id, s.task_id from unnest(@queue_ids::integer[]) u (queue_id)
cross join lateral (
    select s.queue_id, s.task_id from pgqueue.state s
    where s.queue_id = u.queue_id and s.attempt > 0 and s.task_id >= @from_id and s.task_id < @before_id and 2 = any (@statuses::smallint[])
      and exists (
          select 1 from pgqueue.task_now n where n.queue_id = s.queue_id and n.id = s.task_id and n.status = 2
            and (@created_after::timestamptz is null or n.created_at > @created_after) and (@created_before::timestamptz is null or n.created_at < @created_before) offset 0)
    order by s.task_id desc limit @offset::bigint + @limit::bigint
) s
order by s.task_id desc offset @offset::bigint limit @limit::bigint

-- name: list.retained
select l.queue_id, i.id from pgqueue.lease l cross join lateral unnest(l.task_ids) i (id)
where l.queue_id = any (@queue_ids::integer[]) and i.id > 0 and i.id >= @from_id and i.id < @before_id and 3 = any (@statuses::smallint[])
  and (@created_after::timestamptz is null and @created_before::timestamptz is null or exists (
      select 1 from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id
        and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0))
order by i.id desc offset @offset::bigint limit @limit::bigint

-- name: list.unwell
-- failed, expired, cancelled: by the index of those
select d.queue_id, d.task_id from unnest(@queue_ids::integer[]) u (queue_id) cross join unnest(@statuses::smallint[]) s (status)
cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = u.queue_id offset 0) q
cross join lateral (
    select d.queue_id, d.task_id from pgqueue.done d
    where d.queue_id = u.queue_id and d.status = s.status and d.status <> 4 and d.task_id >= @from_id and d.task_id < @before_id
      and (@created_after::timestamptz is null and @created_before::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = d.task_id
            and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0))
      and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
    order by d.task_id desc limit @offset::bigint + @limit::bigint
) d
order by d.task_id desc offset @offset::bigint limit @limit::bigint

-- name: list.released
-- As many runs as tasks are wanted are enough: each of those that are chosen has one at least.
select d.queue_id, i.id from unnest(@queue_ids::integer[]) u (queue_id)
cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = u.queue_id offset 0) q
cross join lateral (
    select d.queue_id, d.task_id, d.n from pgqueue.done d
    where d.queue_id = u.queue_id and d.status = 4 and 4 = any (@statuses::smallint[])
      and d.task_id > @from_id - 32 and d.task_id < @before_id and d.task_id + d.n > @from_id
      and (@created_after::timestamptz is null and @created_before::timestamptz is null or exists (
          select 1 from pgqueue.task t
          where t.queue_id = d.queue_id and t.id >= greatest(d.task_id, @from_id) and t.id < least(d.task_id + d.n, @before_id)
            and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0))
      and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
    order by d.task_id desc limit @offset::bigint + @limit::bigint
) d
cross join lateral generate_series(greatest(d.task_id, @from_id), least(d.task_id + d.n, @before_id) - 1) i (id)
where @created_after is null and @created_before is null or exists (
    select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = i.id
      and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0)
order by i.id desc offset @offset::bigint limit @limit::bigint

-- name: list.worker
-- Tasks that a worker held last: leased, put back, ended. No index has the worker, so a walk reads at most @row_limit rows of a
-- queue and table. Rows of queue 0 mark the end of the walk, before their ids. The caller applies the offset.
select w.queue_id, w.id from (
    select l.queue_id, i.id from pgqueue.lease l cross join lateral unnest(l.task_ids) i (id)
    where l.queue_id = any (@queue_ids::integer[]) and l.worker = @worker::text and i.id > 0 and i.id >= @from_id and i.id < @before_id
      and 3 = any (@statuses::smallint[])
      and (@created_after::timestamptz is null and @created_before::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id
            and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0))
    union all
    select s.queue_id, s.task_id from unnest(@queue_ids::integer[]) u (queue_id)
    cross join lateral (
        select case when s.nth <= @row_limit::bigint then s.queue_id else 0 end, s.task_id from (
            select s.queue_id, s.task_id, s.worker, row_number() over (order by s.task_id desc) from pgqueue.state s
            where s.queue_id = u.queue_id and s.task_id >= @from_id and s.task_id < @before_id
            order by s.task_id desc limit @row_limit::bigint + 1
        ) s (queue_id, task_id, worker, nth)
        where s.nth > @row_limit::bigint or s.worker = @worker and exists (
            select 1 from pgqueue.task_now n where n.queue_id = s.queue_id and n.id = s.task_id and n.worker = @worker
              and n.status < 3 and n.status = any (@statuses)
              and (@created_after::timestamptz is null or n.created_at > @created_after) and (@created_before::timestamptz is null or n.created_at < @created_before) offset 0)
        order by s.task_id desc limit @offset::bigint + @limit::bigint
    ) s (queue_id, task_id)
    union all
    select d.queue_id, i.id from unnest(@queue_ids::integer[]) u (queue_id)
    cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = u.queue_id offset 0) q
    cross join lateral (
        select case when d.nth <= @row_limit::bigint then d.queue_id else 0 end, greatest(d.task_id, @from_id), least(d.task_id + d.n, @before_id) - 1
        from (
            select d.queue_id, d.task_id, d.n, d.worker, d.status, d.finished_at, row_number() over (order by d.task_id desc)
            from pgqueue.done d
            where d.queue_id = u.queue_id and d.task_id > @from_id - 32 and d.task_id < @before_id and d.task_id + d.n > @from_id
            order by d.task_id desc limit @row_limit::bigint + 1
        ) d (queue_id, task_id, n, worker, status, finished_at, nth)
        where d.nth > @row_limit::bigint or d.worker = @worker and d.status = any (@statuses)
          and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
          and (@created_after::timestamptz is null and @created_before::timestamptz is null or exists (
              select 1 from pgqueue.task t
              where t.queue_id = d.queue_id and t.id >= greatest(d.task_id, @from_id) and t.id < least(d.task_id + d.n, @before_id)
                and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0))
        order by d.task_id desc limit @offset::bigint + @limit::bigint
    ) d (queue_id, first, last)
    cross join lateral generate_series(d.first, d.last) i (id)
    where d.queue_id = 0 or @created_after is null and @created_before is null or exists (
        select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = i.id
          and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0)
) w (queue_id, id)
order by w.id desc limit @offset::bigint + @limit::bigint

-- name: list.key
-- By the key alone: one probe of each queue. The present state decides about all other conditions.
select n.queue_id, n.id from unnest(@queue_ids::integer[]) u (queue_id)
cross join lateral (select k.task_id from pgqueue.task_key k where k.queue_id = u.queue_id and k.key = @key::text offset 0) k
cross join lateral (
    select n.queue_id, n.id from pgqueue.task_now n
    where n.queue_id = u.queue_id and n.id = k.task_id and n.id >= @from_id and n.id < @before_id and n.status = any (@statuses::smallint[])
      and (@worker::text is null or n.worker = @worker)
      and (@created_after::timestamptz is null or n.created_at > @created_after) and (@created_before::timestamptz is null or n.created_at < @created_before)
      and (@finished_after::timestamptz is null or n.finished_at > @finished_after) and (@finished_before::timestamptz is null or n.finished_at < @finished_before)
      and (@text::text is null or strpos(n.payload::text, @text) > 0) offset 0
) n
order by n.id desc offset @offset::bigint limit @limit::bigint

-- name: list.finished
-- Finished tasks by their end. No index has it, because that would cost each release, so a walk reads at most @row_limit rows
-- of a queue. Rows of queue 0 mark the end of the walk, before their ids. The caller applies the offset.
select d.queue_id, i.id from unnest(@queue_ids::integer[]) u (queue_id)
cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = u.queue_id offset 0) q
cross join lateral (
    select case when d.nth <= @row_limit::bigint then d.queue_id else 0 end, greatest(d.task_id, @from_id), least(d.task_id + d.n, @before_id) - 1
    from (
        select d.queue_id, d.task_id, d.n, d.worker, d.status, d.finished_at, row_number() over (order by d.task_id desc)
        from pgqueue.done d
        where d.queue_id = u.queue_id and d.task_id > @from_id - 32 and d.task_id < @before_id and d.task_id + d.n > @from_id
        order by d.task_id desc limit @row_limit::bigint + 1
    ) d (queue_id, task_id, n, worker, status, finished_at, nth)
    where d.nth > @row_limit::bigint or d.status = any (@statuses::smallint[]) and (@worker::text is null or d.worker = @worker)
      and (@finished_after::timestamptz is null or d.finished_at > @finished_after) and (@finished_before::timestamptz is null or d.finished_at < @finished_before)
      and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
    order by d.task_id desc limit @offset::bigint + @limit::bigint
) d (queue_id, first, last)
cross join lateral generate_series(d.first, d.last) i (id)
where d.queue_id = 0 or @created_after::timestamptz is null and @created_before::timestamptz is null or exists (
    select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = i.id
      and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0)
order by i.id desc limit @offset::bigint + @limit::bigint

-- name: list.text
-- A text in payloads. No index has it: a walk reads the payloads of at most @row_limit tasks of a queue, as list.finished.
select w.queue_id, w.id from unnest(@queue_ids::integer[]) u (queue_id)
cross join lateral (
    select case when t.nth <= @row_limit::bigint then t.queue_id else 0 end, t.id from (
        select t.queue_id, t.id, t.payload, row_number() over (order by t.id desc) from pgqueue.task t
        where t.queue_id = u.queue_id and t.id >= @from_id and t.id < @before_id
        order by t.id desc limit @row_limit::bigint + 1
    ) t (queue_id, id, payload, nth)
    where t.nth > @row_limit::bigint or strpos(t.payload::text, @text::text) > 0 and exists (
        select 1 from pgqueue.task_now n where n.queue_id = t.queue_id and n.id = t.id and n.status = any (@statuses::smallint[])
          and (@worker::text is null or n.worker = @worker)
          and (@created_after::timestamptz is null or n.created_at > @created_after) and (@created_before::timestamptz is null or n.created_at < @created_before)
          and (@finished_after::timestamptz is null or n.finished_at > @finished_after) and (@finished_before::timestamptz is null or n.finished_at < @finished_before) offset 0)
    order by t.id desc limit @offset::bigint + @limit::bigint
) w (queue_id, id)
order by w.id desc limit @offset::bigint + @limit::bigint

-- name: list.edge
-- The id from which on tasks were created at @at or later, by binary search: ids and created_at grow together, except for
-- tasks created at the same moment.
with recursive search (low, high) as (
    select (select min(p.lower) from pgqueue.part p), (select max(p.upper) from pgqueue.part p)
    union all
    select case when t.created_at < @at::timestamptz then t.id + 1 else s.low end,
           case when t.created_at < @at::timestamptz then s.high else s.middle end
    from (select s.low, s.high, s.low + (s.high - s.low) / 2 from search s where s.low < s.high) s (low, high, middle)
    left join lateral (
        select t.id, t.created_at from unnest(@queue_ids::integer[]) u (queue_id)
        cross join lateral (
            select t.id, t.created_at from pgqueue.task t
            where t.queue_id = u.queue_id and t.id >= s.middle and t.id < s.high order by t.id limit 1
        ) t
        order by t.id limit 1
    ) t on true
)
select s.low from search s where s.low >= s.high

-- name: list.ends
-- The ids between which all tasks lie: the first one, and the one behind the last.
select coalesce((select min(p.lower) from pgqueue.part p), 1), (select last_value from pgqueue.turn) + 1

-- name: list.hidden
-- Finished tasks past retention that the kept counts still contain, up to @limit. They are few, or those of a full partition
-- that is about to be dropped. The block range index finds them: "+ 0" excludes the other indexes.
select count(*) from (
    select 1 from pgqueue.done d join pgqueue.queue q on q.id = d.queue_id
    cross join lateral generate_series(d.task_id, d.task_id + d.n - 1) i (id)
    where d.queue_id + 0 = any (@queue_ids::integer[]) and d.status = any (@statuses::smallint[])
      and d.finished_at <= (select pgqueue.clock() - min(pgqueue.stay(m.retention, m.ttl)) from pgqueue.queue m where m.id = any (@queue_ids::integer[]))
      and d.finished_at <= (select pgqueue.clock()) - pgqueue.stay(q.retention, q.ttl)
      and i.id >= @from_id and i.id < @before_id
      and (@created_after::timestamptz is null and @created_before::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = i.id
            and (@created_after is null or t.created_at > @created_after) and (@created_before is null or t.created_at < @created_before) offset 0))
    limit @limit) hidden
