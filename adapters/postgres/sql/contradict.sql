-- Rows that contradict each other: what no transaction of pgqueue leaves behind. Each look is bounded: $1 rows of each table,
-- from the start of its key, so the check costs the same whatever the size of the tables. Repair looks at all of a queue.

-- name: contradict.find
with held as materialized (
    select l.queue_id, l.token, l.part, u.id
    from (select l.* from pgqueue.lease l order by l.token, l.part limit $1) l
    cross join lateral unnest(l.task_ids) u (id)
    where u.id <> 0
),
waiting as materialized (
    select r.queue_id, r.task_id + i as id, r.turn + i as turn
    from (select r.* from pgqueue.ready r order by r.queue_id, r.priority, r.turn limit $1) r
    cross join lateral generate_series(0, r.n - 1) i
),
late as materialized (
    select y.queue_id, y.task_id as id from (select y.* from pgqueue.delayed y order by y.due_at, y.task_id limit $1) y
),
found as (
    select 'leased twice' as what, queue_id, id from held group by queue_id, id having count(*) > 1
    union
    select 'leased and finished', h.queue_id, h.id from held h
    where exists (select 1 from pgqueue.done_of(h.queue_id, h.id) d offset 0)
    union
    select 'ready and finished', w.queue_id, w.id from waiting w
    where exists (select 1 from pgqueue.done_of(w.queue_id, w.id) d offset 0)
    union
    select 'delayed and finished', y.queue_id, y.id from late y
    where exists (select 1 from pgqueue.done_of(y.queue_id, y.id) d offset 0)
    union
    select 'ready and leased', w.queue_id, w.id from waiting w join held h on h.queue_id = w.queue_id and h.id = w.id
    union
    select 'delayed and leased', y.queue_id, y.id from late y join held h on h.queue_id = y.queue_id and h.id = y.id
    union
    select 'ready and delayed', w.queue_id, w.id from waiting w join late y on y.queue_id = w.queue_id and y.id = w.id
    union
    select 'ready twice', queue_id, id from waiting group by queue_id, id having count(*) > 1
    union
    select 'delayed twice', queue_id, id from late group by queue_id, id having count(*) > 1
    union
    select 'held count', l.queue_id, 0
    from (select l.* from pgqueue.lease l order by l.token, l.part limit $1) l
    where l.held <> (select count(*) from unnest(l.task_ids) i where i <> 0)
)
select f.what, q.namespace, q.name, f.queue_id, f.id
from found f join pgqueue.queue q on q.id = f.queue_id and q.deleted_at is null
order by f.what, f.queue_id, f.id
limit 1000

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
    where r.queue_id = $1 and exists (select 1 from unnest($2::bigint[]) i (id) where i.id >= r.task_id and i.id < r.task_id + r.n)
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
    update pgqueue.state s set turn = r.turn from stays r where r.odd and s.queue_id = $1 and s.task_id = r.id
)
insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt, n, dies_at)
select min(turn), min(id), $1, priority, min(attempt), count(*), min(dies_at)
from (select r.*, turn - row_number() over (partition by priority, of order by turn) as island from stays r) r
group by priority, of, island

-- name: contradict.delayed
-- Tasks that have ended, are held or are ready leave the delayed; of those that are there twice the last stays. $1 queue, $2 tasks
delete from pgqueue.delayed y
where y.queue_id = $1 and y.task_id = any ($2::bigint[])
  and (exists (select 1 from pgqueue.done_of($1, y.task_id) d offset 0)
    or exists (select 1 from pgqueue.lease l where l.queue_id = $1 and y.task_id = any (l.task_ids) offset 0)
    or exists (select 1 from pgqueue.ready r where r.queue_id = $1 and y.task_id >= r.task_id and y.task_id < r.task_id + r.n offset 0)
    or exists (select 1 from pgqueue.delayed z where z.queue_id = $1 and z.task_id = y.task_id and z.due_at > y.due_at offset 0))

-- name: contradict.recount
-- What the rows of a queue say: its tasks by status, and how many are delayed. $1 queue
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
