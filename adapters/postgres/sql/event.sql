-- The feed. A cursor is a snapshot: what it has seen is behind, whatever committed since is ahead, in whatever order. A long
-- snapshot, of many open transactions, is kept in a row, and the cursor names it.

-- name: event.list
-- What $2 has not seen are the transactions that were open then, a few, and those from its end on: to read from its beginning
-- on would read everything since the oldest open transaction of the server, again at every look.
-- $1 namespace, $2 seen, $3 until (null = now), $4 and $5 after (xid, id), $6 queue, $7 kinds, $8 most rows
with s as materialized (select pg_current_snapshot()::text as now, pruned::text::bigint as pruned from pgqueue.fold)
select s.now, s.pruned, x.xid::text::bigint, x.id, x.at, x.name, x.kind, x.worker, x.task_ids
from s left join lateral (
    select e.xid, e.id, e.at, e.name, e.kind, e.worker, e.task_ids
    from (
        select x as first, x as last from pg_snapshot_xip($2::text::pg_snapshot) x
        union all
        select pg_snapshot_xmax($2::text::pg_snapshot), '18446744073709551615'::xid8
    ) span
    cross join lateral (
        select e.xid, e.id, e.at, q.name, e.kind, e.worker, e.task_ids
        from pgqueue.event e
        join pgqueue.queue q on q.id = e.queue_id and q.namespace = $1 and q.deleted_at is null and ($6 = '' or q.name = $6)
        where e.xid >= span.first and e.xid <= span.last and (e.xid, e.id) > ($4::text::xid8, $5::bigint)
          and ($3::text is null or pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot))
          and e.task_ids is not null and (cardinality($7::smallint[]) = 0 or e.kind = any ($7))
        order by e.xid, e.id
        limit $8
    ) e
    order by e.xid, e.id
    limit $8
) x on true

-- name: event.now
select pg_current_snapshot()::text

-- name: event.oldest
select pruned::text from pgqueue.fold

-- name: event.snapshot.keep
-- Snapshots that are too long for a cursor, by the hash of their text; each is kept once, from the last time on. Sorted, so
-- that two processes lock rows in one order. $1 ids, $2 snapshots
insert into pgqueue.event_snapshot as k (id, seen, at)
select i.id, i.seen::pg_snapshot, pgqueue.clock() from unnest($1::bigint[], $2::text[]) i (id, seen) order by i.id
on conflict (id) do update set at = excluded.at

-- name: event.snapshot.read
select id, seen::text from pgqueue.event_snapshot where id = any ($1::bigint[])

-- name: event.snapshot.prune
-- Snapshots of cursors that are older than the events. $1 age in ns, $2 most
delete from pgqueue.event_snapshot where id = any (array(
    select id from pgqueue.event_snapshot where at < (select pgqueue.clock() - pgqueue.nanos($1)) order by at limit $2))

-- name: event.prune
-- Old events that the counts have seen. $1 age in ns, $2 most
with gone as (
    delete from pgqueue.event where ctid = any (array(
        select o.ctid from pgqueue.event o
        where o.xid < (select pg_snapshot_xmin(seen) from pgqueue.fold) and o.at < (select pgqueue.clock() - pgqueue.nanos($1))
        order by o.xid, o.id limit $2))
    returning xid
),
top as (select max(xid::text::bigint) as xid, count(*) as n from gone),
_fold as (
    update pgqueue.fold f set pruned = greatest(f.pruned::text::bigint, top.xid + 1)::text::xid8 from top where top.n > 0
)
select n from top
