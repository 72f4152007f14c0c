-- Roles with the least rights for their work. Run it with psql, as a superuser or as a role that may create roles and
-- owns the database, before the first migration and again after each. Repeats are harmless.
-- This file is for the schema pgqueue; for another: pgqueue migrate sql roles --schema jobs | psql --file -
--
--   pgqueue_owner     owns schema and tables; "pgqueue migrate up" runs as it
--   pgqueue_server    rights of servers, workers with --database-url and programs that use the queue in process
--   pgqueue_definer   create_task and its siblings run as it, with the rights of a server; not for logins
--   pgqueue_readonly  reads all tables but tokens and sessions, changes none; for operators and dashboards
--   pgqueue_producer  creates tasks in transactions of its own program, in Go or by create_task, and reads no content of tasks
--
-- A program that completes tasks by complete_task needs EXECUTE on it. Producers lack it, because tokens of leases are not secret.
--
-- No role may log in yet. Allow it, or use a role of your own that acts as one of them:
--
--   alter role pgqueue_server login password '…';
--   create role app login password '…' in role pgqueue_server; alter role app set role = pgqueue_server;
--
-- The second line matters: another member could not drop a partition that app created as itself.
--
-- Servers create and drop partitions while they run, so pgqueue_server owns the two partitioned tables and may create in
-- the schema. It can neither change nor drop any other table, nor replace a function.
--
-- It is one transaction: at no moment has a role a right that it loses at the end.

begin;

do $$
declare
    name text;
begin
    foreach name in array array['pgqueue_owner', 'pgqueue_server', 'pgqueue_definer', 'pgqueue_readonly', 'pgqueue_producer'] loop
        if not exists (select 1 from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
    end loop;
end $$;

-- A migration that changes the partitioned tables changes their partitions too, which servers own.
grant pgqueue_server to pgqueue_owner;

-- Servers own the table of tasks and can give it triggers, which run with the rights of the statement. The functions that insert tasks for
-- others must not run as the owner then, nor may servers replace them.
grant pgqueue_server to pgqueue_definer;
grant pgqueue_definer to pgqueue_owner;

create schema if not exists pgqueue;
alter schema pgqueue owner to pgqueue_owner;
revoke all on schema pgqueue from public;
grant usage, create on schema pgqueue to pgqueue_server;
grant usage on schema pgqueue to pgqueue_readonly, pgqueue_producer;

grant select, insert, update, delete on all tables in schema pgqueue to pgqueue_server;
grant usage, select on all sequences in schema pgqueue to pgqueue_server;
grant select on all tables in schema pgqueue to pgqueue_readonly;
grant select on all sequences in schema pgqueue to pgqueue_readonly;

-- Partitions that servers add. Tables of a later migration are closed until this script has run again after it.
alter default privileges for role pgqueue_server in schema pgqueue grant select on tables to pgqueue_readonly;

-- After a migration: servers own the partitioned tables, and these tables have other rights than the rest.
do $$
declare
    name text;
begin
    if to_regclass('pgqueue.migration') is null then
        return;
    end if;

    for name in
        select c.oid::regclass::text from pg_class c
        where c.oid in ('pgqueue.task'::regclass, 'pgqueue.done'::regclass)
           or c.oid in (select inhrelid from pg_inherits where inhparent in ('pgqueue.task'::regclass, 'pgqueue.done'::regclass))
    loop
        execute format('alter table %s owner to pgqueue_server', name);
    end loop;

    for name in select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = (select relnamespace from pg_class where oid = 'pgqueue.queue'::regclass)
          and p.prosecdef and p.proname <> 'prune_audit' -- which deletes, and reads no table of servers
    loop
        execute format('alter function %s owner to pgqueue_definer', name);
    end loop;

    -- The record of migrations is read only.
    revoke insert, update, delete on pgqueue.migration from pgqueue_server;

    -- Tokens end, and stay in the list.
    revoke delete on pgqueue.access_token from pgqueue_server;
    revoke all on pgqueue.access_token, pgqueue.session, pgqueue.cell from pgqueue_readonly;

    -- The directory of cells names the databases that servers connect to. Servers place namespaces; commands of the owner do the rest.
    revoke insert, update, delete on pgqueue.cell, pgqueue.home from pgqueue_server;
    revoke update, delete on pgqueue.place from pgqueue_server;

    -- The audit is append-only. The table sets id and time, and the function removes what is past the least retention.
    revoke insert, update, delete on pgqueue.audit from pgqueue_server;
    grant insert (principal_id, principal_name, principal_kind, issuer, subject, request_id, via, remote, reason, action, operation, namespace,
                  queue, ticker, task, token, filter, ids, dry_run, outcome, calls, matched, moved, changes)
        on pgqueue.audit to pgqueue_server;

    -- Functions. PUBLIC may execute none of them. A view runs its functions with the rights of its reader.
    revoke execute on all functions in schema pgqueue from public;
    grant execute on all functions in schema pgqueue to pgqueue_server;
    grant execute on function pgqueue.clock(), pgqueue.nanos(bigint), pgqueue.stay(bigint, bigint), pgqueue.api_version()
        to pgqueue_readonly;
    grant execute on function pgqueue.clock(), pgqueue.clock_inlined(), pgqueue.api_version() to pgqueue_producer;
    for name in select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = (select relnamespace from pg_class where oid = 'pgqueue.queue'::regclass) and p.proname in ('create_task', 'create_tasks')
    loop
        execute format('grant execute on function %s to pgqueue_producer', name);
    end loop;

    -- A create reads queues and partitions, and writes rows that it cannot read afterwards. A create with a key that exists
    -- is refused: its answer would be the task of that key with its content.
    grant select on pgqueue.queue, pgqueue.part, pgqueue.group_policy, pgqueue.count_now to pgqueue_producer;
    grant usage, select on sequence pgqueue.turn to pgqueue_producer;
    grant insert on pgqueue.task, pgqueue.ready, pgqueue.delayed, pgqueue.group_waiting, pgqueue.lane, pgqueue.task_key, pgqueue.event to pgqueue_producer;
    grant select (queue_id, lane) on pgqueue.lane to pgqueue_producer;
    grant select (queue_id, key) on pgqueue.task_key to pgqueue_producer;
end $$;

commit;
