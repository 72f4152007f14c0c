-- Run once after a restore to an earlier moment, before a program uses the database, as the owner. Each of
--
--   pgqueue migrate after-restore postgres://owner@db/app --schema pgqueue
--   pgqueue migrate sql after-restore --schema pgqueue | psql --single-transaction --set ON_ERROR_STOP=1 --file -
--
-- works for every schema; the first also adds rows that a partial restore lacks. This file is for the schema pgqueue.
--
-- Transaction ids order the events, and the kept counts are complete up to a transaction. A dump carries these numbers
-- along, but another cluster counts transactions from another number: new events would lie in the past. So this script
-- counts the remaining events by the old numbers and begins the feed anew. Readers of the feed start anew too.
--
-- Tokens given out after that moment must not be given out again.

lock table pgqueue.fold, pgqueue.event, pgqueue.queue_count in access exclusive mode;

with moved as (
    select e.queue_id, m.status, sum(m.n) as n
    from pgqueue.event e
    cross join pgqueue.fold f
    cross join lateral (values (e."is", e.n), (e.was, -e.n)) m (status, n)
    where e.xid >= pg_snapshot_xmin(f.seen) and not pg_visible_in_snapshot(e.xid, f.seen) and m.status > 0
    group by e.queue_id, m.status
),
late as (
    select e.queue_id, sum(e.delayed) as n
    from pgqueue.event e cross join pgqueue.fold f
    where e.xid >= pg_snapshot_xmin(f.seen) and not pg_visible_in_snapshot(e.xid, f.seen)
    group by e.queue_id
),
by_queue as (
    select q.id,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 1), 0) as new,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 2), 0) as retry,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 3), 0) as retained,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 4), 0) as released,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 5), 0) as failed,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 6), 0) as expired,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 7), 0) as cancelled,
           coalesce((select sum(m.n) from moved m where m.queue_id = q.id and m.status = 8), 0) as group_waiting,
           coalesce((select l.n from late l where l.queue_id = q.id), 0) as delayed
    from pgqueue.queue q
)
insert into pgqueue.queue_count as c (queue_id, new, retry, retained, released, failed, expired, cancelled, delayed, group_waiting, marked_at, next_at)
select id, new, retry, retained, released, failed, expired, cancelled, delayed, group_waiting, now(), now() from by_queue
on conflict (queue_id) do update
set new = c.new + excluded.new, retry = c.retry + excluded.retry, retained = c.retained + excluded.retained,
    released = c.released + excluded.released, failed = c.failed + excluded.failed, expired = c.expired + excluded.expired,
    cancelled = c.cancelled + excluded.cancelled, delayed = c.delayed + excluded.delayed,
    group_waiting = c.group_waiting + excluded.group_waiting;

select setval('pgqueue.event_id_seq', greatest((select last_value from pgqueue.event_id_seq), (select max(id) from pgqueue.event)));
truncate pgqueue.event, pgqueue.event_snapshot;
do $$
declare
    present pg_snapshot := pg_current_snapshot();
begin
    update pgqueue.fold set seen = present, pruned = pg_snapshot_xmin(present);
end $$;

-- Ids and turns continue past the greatest in use, because logical replication carries no sequences. Tokens continue far
-- past all tokens of the lost time. A lease row takes 256 of them, so each is a multiple of 256.
select setval('pgqueue.turn', greatest((select last_value from pgqueue.turn), (select max(id) from pgqueue.task),
           (select max(turn + n) from pgqueue.ready where n > 0), (select max(turn) from pgqueue.state)));
select setval('pgqueue.token', (greatest((select last_value from pgqueue.token), (select max(token) from pgqueue.lease),
           (select max(token) from pgqueue.state), (select max(token) from pgqueue.done)) + 255) / 256 * 256 + 256 * 1000000::bigint);
select setval('pgqueue.number', greatest((select last_value from pgqueue.number), (select max(id) from pgqueue.queue), (select max(id) from pgqueue.ticker))),
       setval('pgqueue.marker', greatest((select last_value from pgqueue.marker), (select max(turn) from pgqueue.ready where lane = 2147483647),
           (select max(version) from pgqueue.group_state))),
       setval('pgqueue.audit_id_seq', greatest((select last_value from pgqueue.audit_id_seq), (select max(id) from pgqueue.audit))),
       setval('pgqueue.lane_n_seq', greatest((select last_value from pgqueue.lane_n_seq), (select max(n) from pgqueue.lane))),
       setval('pgqueue.tick_id_seq', greatest((select last_value from pgqueue.tick_id_seq), (select max(id) from pgqueue.tick))),
       setval('pgqueue.task_error_id_seq', greatest((select last_value from pgqueue.task_error_id_seq), (select max(id) from pgqueue.task_error)));

-- A session that has ended since that moment must not live again. Users sign in anew.
update pgqueue.session set ended_at = pgqueue.clock() where ended_at is null;
