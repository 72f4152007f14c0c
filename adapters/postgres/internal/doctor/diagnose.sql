-- Facts about the server and the schema for a diagnosis. They are read rarely, so they may read catalogs and statistics.

-- name: diagnose.server
select current_setting('server_version'), current_setting('server_version_num')::integer, pg_backend_pid(),
       current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')

-- name: diagnose.encoding
select getdatabaseencoding()::text

-- name: diagnose.refused
-- Whether this is a standby, and the values of refusedSettings in their order. A transaction may be read-only by itself.
select pg_is_in_recovery(), current_setting('transaction_read_only'), current_setting('session_replication_role'),
       coalesce(current_setting('restrict_nonsystem_relation_kind', true), '')

-- name: diagnose.settings
-- Settings that a role, database or server may have and a program cannot always state itself.
select name, setting, source from pg_settings
where name in ('default_transaction_read_only', 'session_replication_role', 'restrict_nonsystem_relation_kind',
    'default_transaction_isolation', 'search_path', 'statement_timeout', 'lock_timeout', 'transaction_timeout',
    'idle_in_transaction_session_timeout', 'idle_session_timeout', 'old_snapshot_threshold', 'autovacuum', 'autovacuum_naptime',
    'track_counts', 'zero_damaged_pages', 'ignore_checksum_failure', 'ignore_invalid_pages', 'data_sync_retry')
order by name

-- name: diagnose.clock
select clock_timestamp()

-- name: diagnose.snapshot
-- The oldest snapshot that holds back vacuum: of a session, a prepared transaction, a replication slot or a standby. Seconds
-- are null where a holder has no start time, or hides it from this role. Snapshots of vacuum itself hold back nothing.
select kind, holder, age(xmin)::bigint, extract(epoch from since)::float8
from (
    select 'session' as kind,
           format('pid %s, user %s, %s', pid, usename, coalesce(nullif(application_name, ''), 'no application name')) as holder,
           coalesce(backend_xmin, backend_xid) as xmin, clock_timestamp() - xact_start as since
    from pg_stat_activity
    where pid <> pg_backend_pid() and coalesce(backend_type, '') not in ('walsender', 'autovacuum worker') and (datname = current_database() or datname is null)
      and coalesce(backend_xmin, backend_xid) is not null
    union all
    select 'prepared transaction', format('%s, owner %s', gid, owner), transaction, clock_timestamp() - prepared
    from pg_prepared_xacts where database = current_database()
    union all
    select 'replication slot', slot_name, xmin, null from pg_replication_slots where xmin is not null
    union all
    select 'standby', format('pid %s, %s', pid, coalesce(nullif(application_name, ''), 'no application name')), backend_xmin, null
    from pg_stat_replication where backend_xmin is not null
) holders
order by age(xmin) desc
limit 1

-- name: diagnose.tables
-- Each table of the schema with its partitions: bytes with indexes, live and dead rows, whether autovacuum is off for it.
select c.relname::text, sum(pg_total_relation_size(l.oid))::bigint,
       coalesce(sum(t.n_live_tup), 0)::bigint, coalesce(sum(t.n_dead_tup), 0)::bigint,
       coalesce(bool_or('autovacuum_enabled=false' = any (l.reloptions)), false)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace and n.nspname = @schema
join lateral (
    select c.oid, c.reloptions
    union all
    select p.oid, p.reloptions from pg_inherits i join pg_class p on p.oid = i.inhrelid where i.inhparent = c.oid
) l on true
left join pg_stat_all_tables t on t.relid = l.oid
where c.relkind in ('r', 'p') and not c.relispartition
group by c.relname
order by 2 desc, 1

-- name: diagnose.notify
select pg_notification_queue_usage()

-- name: diagnose.connections
select count(*) filter (where backend_type = 'client backend' or backend_type is null)::integer,
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
from pg_stat_activity

-- name: diagnose.partitions
-- The number of partitions, and of those with tasks that are all past the longest retention. A partition is full when the next
-- one exists.
with longest as (
    select coalesce(max(pgqueue.stay(retention, ttl)), interval '168 h') as stay from pgqueue.queue where deleted_at is null
),
full_at as (
    select lower, upper, lead(created_at) over (order by lower) as at from pgqueue.part
)
select (select count(*) from pgqueue.part)::integer,
       count(*) filter (where f.at + l.stay + interval '24 h' < pgqueue.clock())::integer
from full_at f cross join longest l

-- name: diagnose.tickers
-- Tickers that should fire, and by how many seconds each is late; one without a queue waits for a listener.
select namespace, name, period, cron, timezone, fault,
       (case when queue <> '' and next_at < pgqueue.clock() then extract(epoch from pgqueue.clock() - next_at) else 0 end)::float8
from pgqueue.ticker where not paused order by fault = '', namespace, name limit @limit

-- name: diagnose.background
-- By how many seconds the oldest work of promote, rescue and expire is late.
select (select extract(epoch from pgqueue.clock() - y.due_at)::float8 from pgqueue.delayed y order by y.due_at limit 1),
       (select extract(epoch from pgqueue.clock() - l.expires_at)::float8 from pgqueue.lease l
        where (select q.deleted_at is null from pgqueue.queue q where q.id = l.queue_id) order by l.expires_at limit 1),
       (select extract(epoch from pgqueue.clock() - least(
           (select r.dies_at from pgqueue.ready r where r.dies_at is not null order by r.dies_at limit 1),
           (select y.dies_at from pgqueue.delayed y where y.dies_at is not null order by y.dies_at limit 1)))::float8)

-- name: diagnose.ahead
-- The rows that were written by a clock ahead of the present time, among the latest @limit delayed tasks.
select (select count(*) from pgqueue.lease where retained_at > pgqueue.clock() + interval '1 s')::integer,
       (select count(*) from (select y.queue_id, y.task_id from pgqueue.delayed y order by y.due_at desc limit @limit) y
        join pgqueue.task t on t.queue_id = y.queue_id and t.id = y.task_id
        where t.created_at > pgqueue.clock() + interval '1 s')::integer,
       (select count(*) from pgqueue.ticker where planned_at > pgqueue.clock() + interval '1 s')::integer

-- name: diagnose.groups
-- Places of groups that tasks keep after their end, and that no marker frees. It looks at the first @limit states
with h as materialized (
    select s.queue_id, i.id
    from (
        select g.queue_id, g.holders from pgqueue.group_state g where cardinality(g.holders) > 0 order by g.queue_id, g.grp, g.version limit @limit
    ) s
    cross join lateral unnest(s.holders) i (id)
)
select count(*)::integer from h
left join lateral (select n.status from pgqueue.task_now n where n.queue_id = h.queue_id and n.id = h.id offset 0) n on true
left join lateral (select q."order" = 'fifo' and q.group_on_failure = 'block' as blocks from pgqueue.queue q where q.id = h.queue_id offset 0) q on true
left join lateral (
    select true as marked from pgqueue.ready r where r.queue_id = h.queue_id and r.lane = 2147483647 and r.task_id = h.id limit 1
) r on true
where r.marked is null and coalesce(n.status > 3 and not (n.status = 5 and q.blocks), true)

-- name: diagnose.audit
-- Whether the role of the connection may change or remove entries of the audit
select current_user::text, has_table_privilege(x.audit_table, 'update, delete, truncate')
from (select to_regclass('pgqueue.audit') as audit_table) x
where x.audit_table is not null

-- name: diagnose.triggers
-- Triggers and rules of the tables of the schema, each once, without those of constraints and extensions
select format('%s of %s', name, relation) from (
    select t.tgname as name, c.relname as relation from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where c.relnamespace = (select n.oid from pg_namespace n where n.nspname = @schema) and not t.tgisinternal and t.tgparentid = 0
    union all
    select r.rulename, c.relname from pg_rewrite r join pg_class c on c.oid = r.ev_class
    where c.relnamespace = (select n.oid from pg_namespace n where n.nspname = @schema) and r.rulename <> '_RETURN'
) own
order by 1
limit @limit
