-- The search for rows that contradict each other: states that no transaction of pgqueue leaves behind. A search follows the key
-- of a table in steps. Each step is one statement, so its result is true of one moment, and its cost does not depend on the
-- size of the tables.

-- name: contradict.step
-- The next @limit rows of one table behind a position, and their contradictions. A waiting task has one place, which its rows
-- of state and task name: a row elsewhere is compared with all leases of its queue. Each row returns the position of the last
-- row that was read; columns outside of the key of the table stay. A task waits for its group under the turn of its ready row, or in
-- a FIFO queue under its id. A marker in ready stands for no task.
with walked as materialized (
    (select 'ready' as place, r.queue_id, r.task_id, r.n, r.lane, r.turn, null::timestamptz as due_at,
            null::bigint as token, null::smallint as part, null::bigint[] as task_ids, null::smallint as held, null::bigint as grp
     from pgqueue.ready r
     where @table::text = 'ready' and (r.queue_id, r.lane, r.turn) > (@queue_id::integer, @lane::integer, @turn::bigint)
     order by r.queue_id, r.lane, r.turn limit @limit::bigint)
    union all
    (select 'delayed', y.queue_id, y.task_id, 1, y.priority * 65536 + coalesce(y.bucket, 0), null, y.due_at, null, null, null, null, null
     from pgqueue.delayed y
     where @table::text = 'delayed' and (y.due_at, y.task_id) > (@due_at::timestamptz, @task_id::bigint)
     order by y.due_at, y.task_id limit @limit::bigint)
    union all
    (select 'waiting for its group', w.queue_id, w.task_id, 1, w.lane, w.turn, null, null, null, null, null, w.grp
     from pgqueue.group_waiting w
     where @table::text = 'group_waiting' and (w.queue_id, w.grp, w.lane, w.turn) > (@queue_id::integer, @grp::bigint, @lane::integer, @turn::bigint)
     order by w.queue_id, w.grp, w.lane, w.turn limit @limit::bigint)
    union all
    (select 'leased', l.queue_id, null, null, null, null, null, l.token, l.part, l.task_ids, l.held, null
     from pgqueue.lease l
     where @table::text = 'lease' and (l.token, l.part) > (@token::bigint, @part::smallint)
     order by l.token, l.part limit @limit::bigint)
),
member as materialized (
    select w.place, w.queue_id, u.id, coalesce(t.lane, w.lane) as lane, coalesce(s.turn, u.id) as turn,
           t.grp,
           case when s.task_id is null then t.delayed_at else s.delayed_at end as due_at,
           w.place = 'ready' and w.turn + (u.id - w.task_id) <> coalesce(s.turn, u.id)
               or w.place = 'delayed' and w.due_at is distinct from case when s.task_id is null then t.delayed_at else s.delayed_at end
               or w.place = 'waiting for its group'
                   and (w.grp is distinct from t.grp or w.lane is distinct from t.lane or w.turn not in (coalesce(s.turn, u.id), u.id)) as astray,
           exists (select 1 from {{covering_done u}} d offset 0) as finished
    from walked w
    cross join lateral (
        select w.queue_id, i.id from unnest(coalesce(w.task_ids, array(select generate_series(w.task_id, w.task_id + w.n - 1)))) i (id)
    ) u
    left join lateral (select s.* from pgqueue.state s where s.queue_id = w.queue_id and s.task_id = u.id offset 0) s on true
    left join lateral (
        select t.priority * 65536 + coalesce(t.bucket, 0) as lane, t.delayed_at, pgqueue.hash_group(coalesce(t.group_name, '')) as grp from pgqueue.task t
        where (w.place <> 'ready' or w.turn + (u.id - w.task_id) <> coalesce(s.turn, u.id)) and t.queue_id = w.queue_id and t.id = u.id offset 0
    ) t on true
    where u.id <> 0
),
placed as materialized (
    select m.*,
           case when m.place <> 'ready' or m.astray then exists (
               select 1 from pgqueue.ready r
               where r.queue_id = m.queue_id and r.lane = m.lane and r.turn <= m.turn and r.turn > m.turn - 32
                 and r.turn + r.n > m.turn and r.task_id + (m.turn - r.turn) = m.id offset 0) end as is_ready,
           case when m.place in ('leased', 'waiting for its group') or m.astray then exists (
               select 1 from pgqueue.delayed y where y.due_at = m.due_at and y.task_id = m.id offset 0) end as is_delayed,
           case when m.place = 'leased' or m.astray then exists (
               select 1 from pgqueue.group_waiting w
               where w.queue_id = m.queue_id and w.grp = m.grp and w.lane = m.lane and w.turn in (m.turn, m.id) and w.task_id = m.id offset 0) end as is_waiting,
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
        (m.place = 'leased' and m.is_waiting, 'waiting for its group and leased'),
        (m.place = 'waiting for its group' and m.is_ready or m.place = 'ready' and m.astray and m.is_waiting, 'ready and waiting for its group'),
        (m.place = 'waiting for its group' and m.is_delayed or m.place = 'delayed' and m.astray and m.is_waiting, 'delayed and waiting for its group'),
        (m.place = 'waiting for its group' and m.astray and m.is_waiting, 'waiting for its group twice'),
        (m.astray and m.is_leased, m.place || ' and leased'),
        (m.astray and not (m.finished or m.is_ready or m.is_delayed or m.is_leased or coalesce(m.is_waiting, false)), m.place || ' out of place')
    ) f (holds, what)
    where f.holds
    union
    select 'counted wrongly', w.queue_id, 0 from walked w
    where w.held <> (select count(*) from unnest(w.task_ids) i where i <> 0)
),
named as (
    select f.what, q.namespace, q.name, f.queue_id, f.id
    from found f join pgqueue.queue q on q.id = f.queue_id and q.deleted_at is null
    order by f.what, f.queue_id, f.id limit @most::bigint
)
select (select count(*) from walked), coalesce(n.what, ''), coalesce(n.namespace, ''), coalesce(n.name, ''), coalesce(n.queue_id, 0), coalesce(n.id, 0),
       coalesce(e.queue_id, @queue_id), coalesce(e.lane, @lane), coalesce(e.turn, @turn), coalesce(e.due_at, @due_at),
       coalesce(e.task_id, @task_id), coalesce(e.token, @token), coalesce(e.part, @part),
       coalesce(e.grp, @grp)
from (values (1)) one (n)
left join lateral (
    select w.* from walked w
    order by w.due_at desc, w.token desc, w.part desc, case when w.turn is not null then w.queue_id end desc,
             case when w.place = 'waiting for its group' then w.grp end desc,
             case when w.turn is not null then w.lane end desc, w.turn desc, w.task_id desc limit 1
) e on true
left join named n on true

-- name: contradict.twice
-- Tasks under two leases, among the first @limit rows. There are as many rows as tasks are held at this moment.
select 'leased twice', q.namespace, q.name, q.id, h.id
from (
    select l.queue_id, u.id
    from (select l.queue_id, l.task_ids from pgqueue.lease l order by l.token, l.part limit @limit) l
    cross join lateral unnest(l.task_ids) u (id)
    where u.id <> 0 group by l.queue_id, u.id having count(*) > 1
) h
join pgqueue.queue q on q.id = h.queue_id and q.deleted_at is null
order by q.id, h.id limit @most::bigint
