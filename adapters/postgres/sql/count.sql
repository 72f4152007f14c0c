-- Counts: kept up to a snapshot; the event rows that the snapshot has not seen are added to them. Never counted.
-- A snapshot has not seen the few transactions that were open then, and those from its end on. To read from its beginning
-- on would be simpler, but would read every row since the oldest writing transaction on the server.
-- No visible row is at or past the end of the present snapshot: that condition lets the planner expect few rows.

-- name: fold.lock
select true from pgqueue.fold for update skip locked

-- name: fold.next
-- Now, when there is something that fold would do.
select case when exists (
    select 1 from pgqueue.event e where e.xid >= pg_snapshot_xmin((select seen from pgqueue.fold))) then pgqueue.clock() end, pgqueue.clock()

-- name: fold
-- Adds the event rows that were not seen yet to the counts and remembers what was seen. The caller holds fold's row. The sums of
-- the queues to pass over become new event rows of this transaction, which the kept snapshot then has not seen.
with seen as materialized (select pg_current_snapshot() as now, pgqueue.clock() as t),
new as materialized (
    select e.queue_id,
           sum(n) filter (where "is" = 1) as new_in, sum(n) filter (where was = 1) as new_out,
           sum(n) filter (where "is" = 2) as retry_in, sum(n) filter (where was = 2) as retry_out,
           sum(n) filter (where "is" = 3) as retained_in, sum(n) filter (where was = 3) as retained_out,
           sum(n) filter (where "is" = 4) as released_in, sum(n) filter (where was = 4) as released_out,
           sum(n) filter (where "is" = 5) as failed_in, sum(n) filter (where was = 5) as failed_out,
           sum(n) filter (where "is" = 6) as expired_in, sum(n) filter (where was = 6) as expired_out,
           sum(n) filter (where "is" = 7) as cancelled_in, sum(n) filter (where was = 7) as cancelled_out,
           sum(delayed) as delayed,
           sum(n) filter (where kind = 1) as created,
           sum(n) filter (where "is" between 4 and 7 and was between 1 and 3) as finished
    from (
        select e.* from pgqueue.event e where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold))
        union all
        select e.* from pgqueue.event e
        where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold) and e.xid < pg_snapshot_xmax(pg_current_snapshot())
    ) e
    group by e.queue_id
),
_count as (
    insert into pgqueue.queue_count as c (queue_id, new, retry, retained, released, failed, expired, cancelled, delayed,
                                          created_sum, finished_sum, marked_at, next_at)
    select queue_id, coalesce(new_in, 0) - coalesce(new_out, 0), coalesce(retry_in, 0) - coalesce(retry_out, 0),
           coalesce(retained_in, 0) - coalesce(retained_out, 0), coalesce(released_in, 0) - coalesce(released_out, 0),
           coalesce(failed_in, 0) - coalesce(failed_out, 0), coalesce(expired_in, 0) - coalesce(expired_out, 0),
           coalesce(cancelled_in, 0) - coalesce(cancelled_out, 0), delayed, coalesce(created, 0), coalesce(finished, 0),
           seen.t, seen.t
    from new, seen
    where exists (select 1 from pgqueue.queue q where q.id = new.queue_id) and queue_id <> all (@passed_queue_ids::integer[])
    order by queue_id
    on conflict (queue_id) do update
    set new = c.new + excluded.new, retry = c.retry + excluded.retry, retained = c.retained + excluded.retained,
        released = c.released + excluded.released, failed = c.failed + excluded.failed, expired = c.expired + excluded.expired,
        cancelled = c.cancelled + excluded.cancelled, delayed = c.delayed + excluded.delayed,
        created_sum = c.created_sum + excluded.created_sum, finished_sum = c.finished_sum + excluded.finished_sum,
        created_mark = case when c.next_at < excluded.next_at - interval '30 s' then c.created_next else c.created_mark end,
        finished_mark = case when c.next_at < excluded.next_at - interval '30 s' then c.finished_next else c.finished_mark end,
        marked_at = case when c.next_at < excluded.next_at - interval '30 s' then c.next_at else c.marked_at end,
        created_next = case when c.next_at < excluded.next_at - interval '30 s' then c.created_sum else c.created_next end,
        finished_next = case when c.next_at < excluded.next_at - interval '30 s' then c.finished_sum else c.finished_next end,
        next_at = case when c.next_at < excluded.next_at - interval '30 s' then excluded.next_at else c.next_at end
    returning 1
),
-- Also without news, while rows lie above the snapshot's xmin: an open transaction held it back, and every look would
-- read them again.
_fold as (
    update pgqueue.fold f
    set seen = case when cardinality(@passed_queue_ids::integer[]) = 0 then seen.now else (
        select format('%s:%s:%s', pg_snapshot_xmin(seen.now), pg_snapshot_xmax(seen.now), string_agg(x::text, ',' order by x))::pg_snapshot
        from (
            select pg_snapshot_xip(seen.now) union
            -- A snapshot does not list its own transaction.
            select pg_current_xact_id() where pg_current_xact_id() < pg_snapshot_xmax(seen.now)
        ) open (x)) end
    from seen
    where exists (select 1 from new) or exists (select 1 from pgqueue.event e where e.xid >= pg_snapshot_xmin(f.seen))
    returning 1
),
_again as (
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
    select seen.t, e.queue_id, e.kind, e.was, e."is", sum(e.n), sum(e.delayed)
    from (
        select e.* from pgqueue.event e where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold))
        union all
        select e.* from pgqueue.event e
        where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold) and e.xid < pg_snapshot_xmax(pg_current_snapshot())
    ) e, seen
    where cardinality(@passed_queue_ids::integer[]) > 0 and e.queue_id = any (@passed_queue_ids)
    group by seen.t, e.queue_id, e.kind, e.was, e."is"
)
select (select count(*) from _count), (select count(*) from _fold)

-- name: fold.queues
-- The queues of the event rows that fold would add.
select q.id, q.namespace, q.name from pgqueue.queue q
where q.id <> all (@passed_queue_ids::integer[]) and q.id = any (array(
    select e.queue_id from pgqueue.event e where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold))
    union
    select e.queue_id from pgqueue.event e where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold)))
order by q.id

-- name: counts
-- $1 namespace, $2 name ('' = all)
with new as materialized (
    select e.queue_id, array[
           coalesce(sum(n) filter (where "is" = 1), 0) - coalesce(sum(n) filter (where was = 1), 0),
           coalesce(sum(n) filter (where "is" = 2), 0) - coalesce(sum(n) filter (where was = 2), 0),
           coalesce(sum(n) filter (where "is" = 3), 0) - coalesce(sum(n) filter (where was = 3), 0),
           coalesce(sum(n) filter (where "is" = 4), 0) - coalesce(sum(n) filter (where was = 4), 0),
           coalesce(sum(n) filter (where "is" = 5), 0) - coalesce(sum(n) filter (where was = 5), 0),
           coalesce(sum(n) filter (where "is" = 6), 0) - coalesce(sum(n) filter (where was = 6), 0),
           coalesce(sum(n) filter (where "is" = 7), 0) - coalesce(sum(n) filter (where was = 7), 0)] as by,
           sum(delayed) as delayed,
           coalesce(sum(n) filter (where kind = 1), 0) as created,
           coalesce(sum(n) filter (where "is" between 4 and 7 and was between 1 and 3), 0) as finished
    from (
        select e.* from pgqueue.event e where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold))
        union all
        select e.* from pgqueue.event e
        where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold) and e.xid < pg_snapshot_xmax(pg_current_snapshot())
    ) e
    group by e.queue_id
)
select q.id, q.namespace, q.name, q.paused, array[
           coalesce(c.new, 0) + coalesce(n.by[1], 0), coalesce(c.retry, 0) + coalesce(n.by[2], 0),
           coalesce(c.retained, 0) + coalesce(n.by[3], 0), coalesce(c.released, 0) + coalesce(n.by[4], 0),
           coalesce(c.failed, 0) + coalesce(n.by[5], 0), coalesce(c.expired, 0) + coalesce(n.by[6], 0),
           coalesce(c.cancelled, 0) + coalesce(n.by[7], 0)]::bigint[],
       (coalesce(c.delayed, 0) + coalesce(n.delayed, 0))::bigint,
       -- next_at moves every 30 s while anything happens: when it is older, the last minute had only what is not folded
       case when recent then c.created_sum - c.created_mark else 0 end::float8 + coalesce(n.created, 0)::float8,
       case when recent then c.finished_sum - c.finished_mark else 0 end::float8 + coalesce(n.finished, 0)::float8,
       case when recent then greatest(extract(epoch from pgqueue.clock() - c.marked_at), 1) else 60 end::float8
from pgqueue.queue q
left join pgqueue.queue_count c on c.queue_id = q.id
left join new n on n.queue_id = q.id
cross join lateral (select coalesce(c.next_at > pgqueue.clock() - interval '90 s', false) as recent) r
where ($1 = '' or q.namespace = $1) and ($2 = '' or q.name = $2) and q.deleted_at is null
order by q.namespace, q.name

-- name: count.oldest
-- The age in seconds of the first ready task of each queue: one index probe for each lane, from the cursors of the caller on
select u.queue_id, extract(epoch from pgqueue.clock() - min(case
           when s.task_id is null or s.delayed_at is null then t.created_at else greatest(s.delayed_at, t.created_at) end))::float8
from unnest(@queue_id::integer[]) u (queue_id)
join pgqueue.lane l on l.queue_id = u.queue_id
cross join lateral (
    select r.queue_id, r.task_id from pgqueue.ready r
    where r.queue_id = l.queue_id and r.priority = l.priority
      and r.turn > coalesce((
          select c.turn from unnest(@cursor_queue_id::integer[], @cursor_priority::smallint[], @cursor_turn::bigint[]) c (queue_id, priority, turn)
          where c.queue_id = l.queue_id and c.priority = l.priority), 0)
    order by r.turn limit 1
) r
cross join lateral (select t.created_at from pgqueue.task t where t.queue_id = r.queue_id and t.id = r.task_id offset 0) t
left join lateral (
    select s.task_id, s.delayed_at from pgqueue.state s where s.queue_id = r.queue_id and s.task_id = r.task_id offset 0
) s on true
group by u.queue_id

-- name: recount
-- The counts of a namespace from the tasks themselves: for tests and the doctor, never for answers.
select n.queue, n.status, count(*) from pgqueue.task_now n where n.namespace = @namespace group by n.queue, n.status

-- name: clock
select pgqueue.clock()
