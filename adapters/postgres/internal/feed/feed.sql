-- The feed. A cursor is a snapshot: events that the snapshot sees are behind it, events that committed since are ahead, in any
-- order. A long snapshot, of many open transactions, is kept in a row that the cursor names.

-- name: event.list
-- The snapshot @seen has not seen the few transactions that were open then, and all from its end on. A read from its beginning
-- would read everything since the oldest open transaction of the server, at every call.
-- @until: the snapshot at the end of the window. @after_xid, @after_id: last event of the page before
with s as materialized (select pruned::text::bigint as pruned, @until::text::pg_snapshot as until from pgqueue.fold)
select s.pruned, x.xid::text::bigint, x.id, x.at, x.name, x.kind, x.worker, x.task_ids
from s left join lateral (
    select e.xid, e.id, e.at, e.name, e.kind, e.worker, e.task_ids
    from (
        select x as first, x as last from pg_snapshot_xip(@seen::text::pg_snapshot) x
        union all
        select pg_snapshot_xmax(@seen::text::pg_snapshot), '18446744073709551615'::xid8
    ) span
    cross join lateral (
        select e.xid, e.id, e.at, q.name, e.kind, e.worker, e.task_ids
        from pgqueue.event e
        join pgqueue.queue q on q.id = e.queue_id and q.namespace = @namespace and q.deleted_at is null and (@queue = '' or q.name = @queue)
        where e.xid >= span.first and e.xid <= span.last and (e.xid, e.id) > (@after_xid::text::xid8, @after_id::bigint)
          and pg_visible_in_snapshot(e.xid, s.until)
          and e.task_ids is not null and (cardinality(@kinds::smallint[]) = 0 or e.kind = any (@kinds))
        order by e.xid, e.id
        limit @limit
    ) e
    order by e.xid, e.id
    limit @limit
) x on true

-- name: event.now
-- A statement without tables: on Citus they may lie on a server with other transaction ids.
select pg_current_snapshot()::text

-- name: event.oldest
select pruned::text from pgqueue.fold

-- name: event.snapshot.keep
-- Snapshots that are too long for a cursor, by the hash of their text; each is kept once, from the last time on. Sorted, so
-- that two processes lock rows in one order
insert into pgqueue.event_snapshot as k (id, seen, at)
select i.id, i.seen::pg_snapshot, pgqueue.clock() from unnest(@id::bigint[], @seen::text[]) i (id, seen) order by i.id
on conflict (id) do update set at = excluded.at

-- name: event.snapshot.read
select id, seen::text from pgqueue.event_snapshot where id = any (@ids::bigint[])

-- Wake-ups of other processes. Nothing depends on their arrival.

-- name: notify.send
select pg_notify(@channel, @payload)
