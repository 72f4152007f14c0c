-- The repair of one queue, in one transaction. @task_ids are the tasks with contradictions.

-- name: repair.hurry
-- A repair does not wait longer for a lock: all writers of the schema wait behind it.
select set_config('lock_timeout', @timeout, true)

-- name: repair.lock
-- No task moves while a queue is repaired.
lock table pgqueue.lease, pgqueue.ready, pgqueue.delayed, pgqueue.group_waiting, pgqueue.done in share row exclusive mode

-- name: repair.lease
-- Finished tasks leave their leases; the others stay in the lease with the newest token.
with held as materialized (
    select l.token, l.part, u.ord, exists (select 1 from {{covering_done u}} d offset 0) as finished,
           row_number() over (partition by u.id order by l.token + u.ord desc, l.expires_at desc, l.part desc) as rank
    from pgqueue.lease l
    cross join lateral (select l.queue_id, i.id, i.ord from unnest(l.task_ids) with ordinality i (id, ord)) u
    where l.queue_id = @queue_id and u.id = any (@task_ids::bigint[])
),
gone as materialized (select * from held where finished or rank > 1)
update pgqueue.lease l
set task_ids = (
    select array_agg(case when g.ord is null then u.id else 0 end order by u.ord)
    from unnest(l.task_ids) with ordinality u (id, ord)
    left join gone g on g.token = l.token and g.part = l.part and g.ord = u.ord)
where l.queue_id = @queue_id and exists (select 1 from gone g where g.token = l.token and g.part = l.part)

-- name: repair.held
update pgqueue.lease l set held = (select count(*) from unnest(l.task_ids) i where i <> 0)
where l.queue_id = @queue_id and l.held <> (select count(*) from unnest(l.task_ids) i where i <> 0)

-- name: repair.empty
delete from pgqueue.lease where queue_id = @queue_id and held = 0

-- name: repair.ready
-- Finished and held tasks leave the ready rows. A task that is ready twice keeps the place that its state names, else the last
-- one. The other tasks of the runs go back in shorter runs.
with run as (
    delete from pgqueue.ready r
    where r.queue_id = @queue_id and r.task_id in (select i.id - k from unnest(@task_ids::bigint[]) i (id) cross join generate_series(0, 31) k)
      and exists (select 1 from unnest(@task_ids::bigint[]) i (id) where i.id >= r.task_id and i.id < r.task_id + r.n)
    returning r.*
),
member as materialized (
    select r.queue_id, r.turn + g as turn, r.task_id + g as id, r.lane, r.attempt, r.dies_at, r.grp, r.turn as of, r.task_id + g = any (@task_ids::bigint[]) as odd
    from run r cross join lateral generate_series(0, r.n - 1) g
),
ranked as materialized (
    select m.*, row_number() over (partition by m.id order by (m.turn = coalesce(s.turn, m.id)) desc, m.turn desc) as rank
    from member m
    left join lateral (select s.turn from pgqueue.state s where s.queue_id = @queue_id and s.task_id = m.id offset 0) s on true
),
stays as materialized (
    select r.* from ranked r
    where not r.odd or r.rank = 1
      and not exists (select 1 from {{covering_done r}} d offset 0)
      and not exists (select 1 from pgqueue.lease l where l.queue_id = @queue_id and r.id = any (l.task_ids) offset 0)
),
_state as (
    insert into pgqueue.state as s (queue_id, task_id, turn, delayed_at, dies_at, attempt, retries)
    select @queue_id, r.id, r.turn, t.delayed_at, t.dies_at, r.attempt & 8191, t.retries
    from stays r join pgqueue.task t on t.queue_id = @queue_id and t.id = r.id
    where r.odd
    on conflict (queue_id, task_id) do update set turn = excluded.turn
)
insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, dies_at, grp)
select min(turn), min(id), @queue_id, lane, min(attempt), count(*), min(dies_at), min(grp)
from (select r.*, turn - row_number() over (partition by lane, of order by turn) as island from stays r) r
group by lane, of, island

-- name: repair.waiting
-- Finished, held and ready tasks do not wait for their group. A task that waits twice keeps the place that its state names, else the
-- last one. A row without a task is of no use.
with odd as materialized (
    select w.*, t.id is null as gone, coalesce(s.turn, t.id) as ready_turn, t.priority * 65536 + coalesce(t.bucket, 0) as ready_lane, row_number() over (
        partition by w.task_id
        order by (w.grp = pgqueue.hash_group(coalesce(t.group_name, '')) and w.lane = t.priority * 65536 + coalesce(t.bucket, 0)
                  and w.turn in (coalesce(s.turn, t.id), t.id)) desc nulls last, w.turn desc, w.lane desc, w.grp desc) as rank
    from pgqueue.group_waiting w
    left join pgqueue.task t on t.queue_id = @queue_id and t.id = w.task_id
    left join pgqueue.state s on s.queue_id = @queue_id and s.task_id = w.task_id
    where w.queue_id = @queue_id and w.task_id = any (@task_ids::bigint[])
)
delete from pgqueue.group_waiting w
using odd o
where w.queue_id = o.queue_id and w.grp = o.grp and w.lane = o.lane and w.turn = o.turn
  and (o.rank > 1 or o.gone
    or exists (select 1 from (select o.queue_id, o.task_id as id) i cross join lateral {{covering_done i}} d offset 0)
    or exists (select 1 from pgqueue.lease l where l.queue_id = @queue_id and o.task_id = any (l.task_ids) offset 0)
    or exists (
        select 1 from pgqueue.ready r
        where r.queue_id = @queue_id and r.lane = o.ready_lane and r.turn <= o.ready_turn and r.turn > o.ready_turn - 32
            and r.turn + r.n > o.ready_turn and r.task_id + (o.ready_turn - r.turn) = o.task_id offset 0))

-- name: repair.waiting.place
-- The remaining waiting tasks stand in the lane of their task and under its group.
update pgqueue.group_waiting w
set grp = x.grp, lane = x.lane, turn = x.turn
from (
    select t.id, pgqueue.hash_group(coalesce(t.group_name, '')) as grp, t.priority * 65536 + coalesce(t.bucket, 0) as lane,
           case when q."order" = 'fifo' then t.id else coalesce(s.turn, t.id) end as turn
    from pgqueue.task t
    join pgqueue.queue q on q.id = @queue_id
    left join pgqueue.state s on s.queue_id = @queue_id and s.task_id = t.id
    where t.queue_id = @queue_id and t.id = any (@task_ids::bigint[])
) x
where w.queue_id = @queue_id and w.task_id = x.id
  and (w.grp <> x.grp or w.lane <> x.lane or w.turn not in (x.turn, x.id))

-- name: repair.waiting.mark
-- The next retain looks at the groups of the tasks, because a place of theirs may have become free.
insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, grp)
select nextval('pgqueue.marker'), 0, @queue_id, 2147483647, 0, 0, g.grp
from (select distinct w.grp from pgqueue.group_waiting w where w.queue_id = @queue_id and w.task_id = any (@task_ids::bigint[])) g
join pgqueue.queue q on q.id = @queue_id
where q."order" = 'fifo' or q.group_concurrency > 0 or q.group_rate_limit > 0 or q.group_policies > 0

-- name: repair.delayed
-- Finished, held, ready and waiting tasks leave the delayed rows. A task that is delayed twice keeps its last row.
with odd as materialized (
    select y.* from pgqueue.delayed y where y.queue_id = @queue_id and y.task_id in (select unnest(@task_ids::bigint[]))
)
delete from pgqueue.delayed y
using odd o
where y.due_at = o.due_at and y.task_id = o.task_id
  and (exists (select 1 from (select o.queue_id, o.task_id as id) i cross join lateral {{covering_done i}} d offset 0)
    or exists (select 1 from pgqueue.lease l where l.queue_id = @queue_id and o.task_id = any (l.task_ids) offset 0)
    or exists (
        select 1 from pgqueue.task t
        left join pgqueue.state s on s.queue_id = @queue_id and s.task_id = t.id
        join pgqueue.ready r on r.queue_id = @queue_id and r.lane = t.priority * 65536 + coalesce(t.bucket, 0) and r.turn <= coalesce(s.turn, t.id)
            and r.turn > coalesce(s.turn, t.id) - 32 and r.turn + r.n > coalesce(s.turn, t.id)
            and r.task_id + (coalesce(s.turn, t.id) - r.turn) = t.id
        where t.queue_id = @queue_id and t.id = o.task_id offset 0)
    or exists (
        select 1 from pgqueue.task t
        left join pgqueue.state s on s.queue_id = @queue_id and s.task_id = t.id
        join pgqueue.group_waiting w on w.queue_id = @queue_id and w.grp = pgqueue.hash_group(coalesce(t.group_name, ''))
            and w.lane = t.priority * 65536 + coalesce(t.bucket, 0) and w.turn in (coalesce(s.turn, t.id), t.id) and w.task_id = t.id
        where t.queue_id = @queue_id and t.id = o.task_id offset 0)
    or exists (select 1 from odd z where z.task_id = o.task_id and z.due_at > o.due_at offset 0))

-- name: repair.due
-- The remaining delayed rows and the states of their tasks agree.
insert into pgqueue.state as s (queue_id, task_id, delayed_at, dies_at, attempt, retries)
select @queue_id, y.task_id, y.due_at, y.dies_at, y.attempt & 8191, t.retries
from pgqueue.delayed y join pgqueue.task t on t.queue_id = @queue_id and t.id = y.task_id
where y.queue_id = @queue_id and y.task_id in (select unnest(@task_ids::bigint[]))
on conflict (queue_id, task_id) do update set delayed_at = excluded.delayed_at

-- name: repair.recount
-- The tasks of a queue by status, then those that wait for their group, and the number of delayed ones, from the rows. Each marker of a
-- create stands for one task that waits and is counted as ready.
select array[
    coalesce((select sum(r.n) from pgqueue.ready r where r.queue_id = @queue_id and r.attempt = 0), 0) + (select count(*) from pgqueue.delayed y where y.queue_id = @queue_id and y.attempt = 0)
        + (select count(*) from pgqueue.group_waiting w where w.queue_id = @queue_id and w.attempt = 0),
    coalesce((select sum(r.n) from pgqueue.ready r where r.queue_id = @queue_id and r.attempt > 0), 0) + (select count(*) from pgqueue.delayed y where y.queue_id = @queue_id and y.attempt > 0)
        + (select count(*) from pgqueue.group_waiting w where w.queue_id = @queue_id and w.attempt > 0),
    coalesce((select sum(l.held) from pgqueue.lease l where l.queue_id = @queue_id), 0),
    coalesce(sum(d.n) filter (where d.status = 4), 0), coalesce(sum(d.n) filter (where d.status = 5), 0),
    coalesce(sum(d.n) filter (where d.status = 6), 0), coalesce(sum(d.n) filter (where d.status = 7), 0),
    (select count(*) from pgqueue.group_waiting w where w.queue_id = @queue_id)
        - (select count(*) from pgqueue.ready r where r.queue_id = @queue_id and r.lane < 2147483647 and r.n = 0)]::bigint[],
    (select count(*) from pgqueue.delayed y where y.queue_id = @queue_id)
from pgqueue.done d where d.queue_id = @queue_id

-- name: repair.counts
-- Event rows that change only the counts.
insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
select pgqueue.clock(), @queue_id, 0, i.was, i."is", i.n, i.delayed
from unnest(@was::smallint[], @is::smallint[], @n::integer[], @delayed::integer[]) i (was, "is", n, delayed)
