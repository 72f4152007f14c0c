-- Rows that contradict each other: what no transaction of pgqueue leaves behind. A look goes along the key of a table in steps:
-- each is one statement, so what it finds is true of one moment, and costs the same whatever the size of the tables.

-- name: contradict.step
-- The next rows of one table, and what contradicts them. A waiting task has one place, which its rows of state and task name:
-- a row elsewhere is compared with all leases of its queue. $1 table; behind $2 queue, $3 priority, $4 turn (ready), $5 due at,
-- $6 task (delayed), $7 token, $8 part (lease); $9 rows
with walked as materialized (
    (select 'ready' as place, r.queue_id, r.task_id, r.n, r.priority, r.turn, null::timestamptz as due_at,
            null::bigint as token, null::smallint as part, null::bigint[] as task_ids, null::smallint as held
     from pgqueue.ready r
     where $1::text = 'ready' and (r.queue_id, r.priority, r.turn) > ($2::integer, $3::smallint, $4::bigint)
     order by r.queue_id, r.priority, r.turn limit $9::bigint)
    union all
    (select 'delayed', y.queue_id, y.task_id, 1, y.priority, null, y.due_at, null, null, null, null
     from pgqueue.delayed y
     where $1::text = 'delayed' and (y.due_at, y.task_id) > ($5::timestamptz, $6::bigint)
     order by y.due_at, y.task_id limit $9::bigint)
    union all
    (select 'leased', l.queue_id, null, null, null, null, null, l.token, l.part, l.task_ids, l.held
     from pgqueue.lease l
     where $1::text = 'lease' and (l.token, l.part) > ($7::bigint, $8::smallint)
     order by l.token, l.part limit $9::bigint)
),
member as materialized (
    select w.place, w.queue_id, u.id, coalesce(t.priority, w.priority) as priority, coalesce(s.turn, u.id) as turn,
           case when s.task_id is null then t.delayed_at else s.delayed_at end as due_at,
           w.place = 'ready' and w.turn + (u.id - w.task_id) <> coalesce(s.turn, u.id)
               or w.place = 'delayed' and w.due_at is distinct from case when s.task_id is null then t.delayed_at else s.delayed_at end as astray,
           exists (select 1 from pgqueue.done_of(w.queue_id, u.id) d offset 0) as finished
    from walked w
    cross join lateral unnest(coalesce(w.task_ids, array(select generate_series(w.task_id, w.task_id + w.n - 1)))) u (id)
    left join lateral (select s.* from pgqueue.state s where s.queue_id = w.queue_id and s.task_id = u.id offset 0) s on true
    left join lateral (
        select t.priority, t.delayed_at from pgqueue.task t
        where w.place <> 'ready' and t.queue_id = w.queue_id and t.id = u.id offset 0
    ) t on true
    where u.id <> 0
),
placed as materialized (
    select m.*,
           case when m.place <> 'ready' or m.astray then exists (
               select 1 from pgqueue.ready r
               where r.queue_id = m.queue_id and r.priority = m.priority and r.turn <= m.turn and r.turn > m.turn - 32
                 and r.turn + r.n > m.turn and r.task_id + (m.turn - r.turn) = m.id offset 0) end as is_ready,
           case when m.place = 'leased' or m.astray then exists (
               select 1 from pgqueue.delayed y where y.due_at = m.due_at and y.task_id = m.id offset 0) end as is_delayed,
           case when m.astray then exists (
               select 1 from pgqueue.lease l where l.queue_id = m.queue_id and m.id = any (l.task_ids) offset 0) end as is_leased
    from member m
),
found as (
    select f.what, m.queue_id, m.id
    from placed m
    cross join lateral (values
        (m.finished, m.place || ' and finished'),
        (m.place = 'leased' and m.is_ready, 'ready and leased'),
        (m.place = 'leased' and m.is_delayed, 'delayed and leased'),
        (m.place = 'delayed' and m.is_ready or m.place = 'ready' and m.astray and m.is_delayed, 'ready and delayed'),
        (m.place = 'ready' and m.astray and m.is_ready, 'ready twice'),
        (m.place = 'delayed' and m.astray and m.is_delayed, 'delayed twice'),
        (m.astray and m.is_leased, m.place || ' and leased'),
        (m.astray and not (m.finished or m.is_ready or m.is_delayed or m.is_leased), m.place || ' out of place')
    ) f (holds, what)
    where f.holds
    union
    select 'held count', w.queue_id, 0 from walked w
    where w.held <> (select count(*) from unnest(w.task_ids) i where i <> 0)
),
named as (
    select f.what, q.namespace, q.name, f.queue_id, f.id
    from found f join pgqueue.queue q on q.id = f.queue_id and q.deleted_at is null
    order by f.what, f.queue_id, f.id limit 1001
)
select (select count(*) from walked), n.what, n.namespace, n.name, n.queue_id, n.id,
       e.queue_id, e.priority, e.turn, e.due_at, e.task_id, e.token, e.part
from (values (1)) one (n)
left join lateral (
    select w.* from walked w
    order by w.due_at desc, w.token desc, w.part desc, case when w.place = 'ready' then w.queue_id end desc,
             case when w.place = 'ready' then w.priority end desc, w.turn desc, w.task_id desc limit 1
) e on true
left join named n on true

-- name: contradict.twice
-- Tasks under two leases, among the first $1 rows: there are as many as tasks are held at this moment.
select 'leased twice', q.namespace, q.name, q.id, h.id
from (
    select l.queue_id, u.id
    from (select l.queue_id, l.task_ids from pgqueue.lease l order by l.token, l.part limit $1) l
    cross join lateral unnest(l.task_ids) u (id)
    where u.id <> 0 group by l.queue_id, u.id having count(*) > 1
) h
join pgqueue.queue q on q.id = h.queue_id and q.deleted_at is null
order by q.id, h.id limit 1001

-- name: contradict.lock
-- Nothing moves while a queue is repaired.
lock table pgqueue.lease, pgqueue.ready, pgqueue.delayed, pgqueue.done in share row exclusive mode

-- name: contradict.lease
-- Finished tasks leave their leases, the others stay in the one of the newest token. $1 queue, $2 tasks
with held as materialized (
    select l.token, l.part, u.ord, exists (select 1 from pgqueue.done_of($1, u.id) d offset 0) as finished,
           row_number() over (partition by u.id order by l.token + u.ord desc, l.expires_at desc, l.part desc) as rank
    from pgqueue.lease l cross join lateral unnest(l.task_ids) with ordinality u (id, ord)
    where l.queue_id = $1 and u.id = any ($2::bigint[])
),
gone as materialized (select * from held where finished or rank > 1)
update pgqueue.lease l
set task_ids = (
    select array_agg(case when g.ord is null then u.id else 0 end order by u.ord)
    from unnest(l.task_ids) with ordinality u (id, ord)
    left join gone g on g.token = l.token and g.part = l.part and g.ord = u.ord)
where l.queue_id = $1 and exists (select 1 from gone g where g.token = l.token and g.part = l.part)

-- name: contradict.held
-- $1 queue
update pgqueue.lease l set held = (select count(*) from unnest(l.task_ids) i where i <> 0)
where l.queue_id = $1 and l.held <> (select count(*) from unnest(l.task_ids) i where i <> 0)

-- name: contradict.empty
-- $1 queue
delete from pgqueue.lease where queue_id = $1 and held = 0

-- name: contradict.ready
-- Tasks that have ended or are held leave the ready; of those that are there twice the place that their state names stays, else
-- the last. What else the runs hold goes back as shorter ones. $1 queue, $2 tasks
with run as (
    delete from pgqueue.ready r
    where r.queue_id = $1 and r.task_id in (select i.id - k from unnest($2::bigint[]) i (id) cross join generate_series(0, 31) k)
      and exists (select 1 from unnest($2::bigint[]) i (id) where i.id >= r.task_id and i.id < r.task_id + r.n)
    returning r.*
),
member as materialized (
    select r.turn + g as turn, r.task_id + g as id, r.priority, r.attempt, r.dies_at, r.turn as of, r.task_id + g = any ($2::bigint[]) as odd
    from run r cross join lateral generate_series(0, r.n - 1) g
),
ranked as materialized (
    select m.*, row_number() over (partition by m.id order by (m.turn = coalesce(s.turn, m.id)) desc, m.turn desc) as rank
    from member m
    left join lateral (select s.turn from pgqueue.state s where s.queue_id = $1 and s.task_id = m.id offset 0) s on true
),
stays as materialized (
    select r.* from ranked r
    where not r.odd or r.rank = 1
      and not exists (select 1 from pgqueue.done_of($1, r.id) d offset 0)
      and not exists (select 1 from pgqueue.lease l where l.queue_id = $1 and r.id = any (l.task_ids) offset 0)
),
_state as (
    insert into pgqueue.state as s (queue_id, task_id, turn, delayed_at, dies_at, attempt, retries)
    select $1, r.id, r.turn, t.delayed_at, t.dies_at, r.attempt, t.retries
    from stays r join pgqueue.task t on t.queue_id = $1 and t.id = r.id
    where r.odd
    on conflict (queue_id, task_id) do update set turn = excluded.turn
)
insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt, n, dies_at)
select min(turn), min(id), $1, priority, min(attempt), count(*), min(dies_at)
from (select r.*, turn - row_number() over (partition by priority, of order by turn) as island from stays r) r
group by priority, of, island

-- name: contradict.delayed
-- Tasks that have ended, are held or are ready leave the delayed; of those that are there twice the last stays. $1 queue, $2 tasks
with odd as materialized (
    select y.* from pgqueue.delayed y where y.queue_id = $1 and y.task_id in (select unnest($2::bigint[]))
)
delete from pgqueue.delayed y
using odd o
where y.due_at = o.due_at and y.task_id = o.task_id
  and (exists (select 1 from pgqueue.done_of($1, o.task_id) d offset 0)
    or exists (select 1 from pgqueue.lease l where l.queue_id = $1 and o.task_id = any (l.task_ids) offset 0)
    or exists (
        select 1 from pgqueue.task t
        left join pgqueue.state s on s.queue_id = $1 and s.task_id = t.id
        join pgqueue.ready r on r.queue_id = $1 and r.priority = t.priority and r.turn <= coalesce(s.turn, t.id)
            and r.turn > coalesce(s.turn, t.id) - 32 and r.turn + r.n > coalesce(s.turn, t.id)
            and r.task_id + (coalesce(s.turn, t.id) - r.turn) = t.id
        where t.queue_id = $1 and t.id = o.task_id offset 0)
    or exists (select 1 from odd z where z.task_id = o.task_id and z.due_at > o.due_at offset 0))

-- name: contradict.due
-- The delayed that stay are where their states say. $1 queue, $2 tasks
insert into pgqueue.state as s (queue_id, task_id, delayed_at, dies_at, attempt, retries)
select $1, y.task_id, y.due_at, y.dies_at, y.attempt, t.retries
from pgqueue.delayed y join pgqueue.task t on t.queue_id = $1 and t.id = y.task_id
where y.queue_id = $1 and y.task_id in (select unnest($2::bigint[]))
on conflict (queue_id, task_id) do update set delayed_at = excluded.delayed_at

-- name: contradict.recount
-- The counts of a queue from its rows: its tasks by status, and how many are delayed. $1 queue
select array[
    coalesce((select sum(r.n) from pgqueue.ready r where r.queue_id = $1 and r.attempt = 0), 0) + (select count(*) from pgqueue.delayed y where y.queue_id = $1 and y.attempt = 0),
    coalesce((select sum(r.n) from pgqueue.ready r where r.queue_id = $1 and r.attempt > 0), 0) + (select count(*) from pgqueue.delayed y where y.queue_id = $1 and y.attempt > 0),
    coalesce((select sum(l.held) from pgqueue.lease l where l.queue_id = $1), 0),
    coalesce(sum(d.n) filter (where d.status = 4), 0), coalesce(sum(d.n) filter (where d.status = 5), 0),
    coalesce(sum(d.n) filter (where d.status = 6), 0), coalesce(sum(d.n) filter (where d.status = 7), 0)]::bigint[],
    (select count(*) from pgqueue.delayed y where y.queue_id = $1)
from pgqueue.done d where d.queue_id = $1

-- name: contradict.correct
-- Counts that are off, as a change of the counts alone. $1 queue, $2 was, $3 is, $4 n, $5 by how much the delayed grew
insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
select pgqueue.clock(), $1, 0, i.was, i."is", i.n, i.delayed
from unnest($2::smallint[], $3::smallint[], $4::integer[], $5::integer[]) i (was, "is", n, delayed)
