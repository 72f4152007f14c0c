-- The stats folder: event rows are added to the kept counts of their queues. The row of the table fold is the lock, and names
-- the snapshot up to which the counts contain the events.

-- name: fold.lock
-- Whether the last minute has no history yet.
select f.sampled_at < date_trunc('minute', pgqueue.clock()) from pgqueue.fold f for update skip locked

-- name: fold.now
-- The present snapshot, and the id of this transaction. Each read of the snapshot is a statement without tables: on Citus the
-- tables may lie on a server with other transaction ids.
select pg_current_snapshot()::text, pg_current_xact_id()::text

-- name: fold.next
-- The present time if there are event rows to add, or a minute without a history; else null.
select case when exists (
    select 1 from pgqueue.event e where e.xid >= pg_snapshot_xmin((select seen from pgqueue.fold)))
    or exists (select 1 from pgqueue.fold f where f.sampled_at < date_trunc('minute', pgqueue.clock())) then pgqueue.clock() end, pgqueue.clock()

-- name: fold
-- Adds the new event rows to the counts and keeps the snapshot. The caller has locked the row of fold. The sums of the queues
-- to pass over become new event rows of this transaction, which the kept snapshot does not contain.
-- @now and @own are the snapshot of fold.now and its transaction, which the snapshot does not list.
with seen as materialized (select @now::text::pg_snapshot as now, pgqueue.clock() as t),
new as materialized (
    select e.queue_id,
           sum(n) filter (where "is" = 1) as new_in, sum(n) filter (where was = 1) as new_out,
           sum(n) filter (where "is" = 2) as retry_in, sum(n) filter (where was = 2) as retry_out,
           sum(n) filter (where "is" = 3) as retained_in, sum(n) filter (where was = 3) as retained_out,
           sum(n) filter (where "is" = 4) as released_in, sum(n) filter (where was = 4) as released_out,
           sum(n) filter (where "is" = 5) as failed_in, sum(n) filter (where was = 5) as failed_out,
           sum(n) filter (where "is" = 6) as expired_in, sum(n) filter (where was = 6) as expired_out,
           sum(n) filter (where "is" = 7) as cancelled_in, sum(n) filter (where was = 7) as cancelled_out,
           sum(n) filter (where "is" = 8) as group_in, sum(n) filter (where was = 8) as group_out,
           sum(delayed) as delayed,
           sum(n) filter (where kind = 1) as created,
           sum(n) filter (where kind = 4) as retried,
           sum(n) filter (where "is" = 4 and was between 1 and 3) as released,
           sum(n) filter (where "is" = 5 and was between 1 and 3) as failed,
           sum(n) filter (where "is" between 4 and 7 and was between 1 and 3) as finished
    from (
        select e.* from pgqueue.event e
        where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold)) and pg_visible_in_snapshot(e.xid, (select now from seen))
        union all
        select e.* from pgqueue.event e
        where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold) and e.xid < pg_snapshot_xmax((select now from seen))
          and pg_visible_in_snapshot(e.xid, (select now from seen))
    ) e
    group by e.queue_id
),
_count as (
    insert into pgqueue.queue_count as c (queue_id, new, retry, retained, released, failed, expired, cancelled, delayed,
                                          created_sum, finished_sum, marked_at, next_at, released_sum, failed_sum, retried_sum, group_waiting)
    select queue_id, coalesce(new_in, 0) - coalesce(new_out, 0), coalesce(retry_in, 0) - coalesce(retry_out, 0),
           coalesce(retained_in, 0) - coalesce(retained_out, 0), coalesce(released_in, 0) - coalesce(released_out, 0),
           coalesce(failed_in, 0) - coalesce(failed_out, 0), coalesce(expired_in, 0) - coalesce(expired_out, 0),
           coalesce(cancelled_in, 0) - coalesce(cancelled_out, 0), delayed, coalesce(created, 0), coalesce(finished, 0),
           seen.t, seen.t, coalesce(released, 0), coalesce(new.failed, 0), coalesce(retried, 0),
           coalesce(group_in, 0) - coalesce(group_out, 0)
    from new, seen
    where exists (select 1 from pgqueue.queue q where q.id = new.queue_id) and queue_id <> all (@passed_queue_ids::integer[])
    order by queue_id
    on conflict (queue_id) do update
    set new = c.new + excluded.new, retry = c.retry + excluded.retry, retained = c.retained + excluded.retained,
        released = c.released + excluded.released, failed = c.failed + excluded.failed, expired = c.expired + excluded.expired,
        cancelled = c.cancelled + excluded.cancelled, delayed = c.delayed + excluded.delayed,
        group_waiting = c.group_waiting + excluded.group_waiting,
        created_sum = c.created_sum + excluded.created_sum, finished_sum = c.finished_sum + excluded.finished_sum,
        released_sum = c.released_sum + excluded.released_sum, failed_sum = c.failed_sum + excluded.failed_sum,
        retried_sum = c.retried_sum + excluded.retried_sum,
        created_mark = case when excluded.next_at - c.next_at > interval '30 s' then c.created_next else c.created_mark end,
        finished_mark = case when excluded.next_at - c.next_at > interval '30 s' then c.finished_next else c.finished_mark end,
        marked_at = case when excluded.next_at - c.next_at > interval '30 s' then c.next_at else c.marked_at end,
        created_next = case when excluded.next_at - c.next_at > interval '30 s' then c.created_sum else c.created_next end,
        finished_next = case when excluded.next_at - c.next_at > interval '30 s' then c.finished_sum else c.finished_next end,
        next_at = case when excluded.next_at - c.next_at > interval '30 s' then excluded.next_at else c.next_at end
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
            select @own::text::xid8 where @own::text::xid8 < pg_snapshot_xmax(seen.now)
        ) open (x)) end
    from seen
    where exists (select 1 from new) or exists (select 1 from pgqueue.event e where e.xid >= pg_snapshot_xmin(f.seen))
    returning 1
),
_again as (
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
    select seen.t, e.queue_id, e.kind, e.was, e."is", sum(e.n), sum(e.delayed)
    from (
        select e.* from pgqueue.event e
        where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold)) and pg_visible_in_snapshot(e.xid, (select now from seen))
        union all
        select e.* from pgqueue.event e
        where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold) and e.xid < pg_snapshot_xmax((select now from seen))
          and pg_visible_in_snapshot(e.xid, (select now from seen))
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
