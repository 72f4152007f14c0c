-- The record of migrations, and the conditions of the scripts in migrations/.

-- name: migrate.lock
-- One installer at a time per schema. The lock belongs to the transaction of a step, so it works behind a transaction
-- pooler and ends with the step.
select pg_advisory_xact_lock(@key::bigint)

-- name: migrate.session
-- Settings of the session must not change the effect of a migration. PostgreSQL refuses partitioned tables when
-- default_tablespace names the tablespace of the database, where they lie without it.
set local search_path = pg_catalog, pg_temp;
set local standard_conforming_strings = on;
select set_config('default_tablespace', '', true)
from pg_database d join pg_tablespace t on t.oid = d.dattablespace
where d.datname = current_database() and t.spcname = current_setting('default_tablespace')

-- name: migrate.rights
-- Whether the schema exists, its owner, the current role, and the rights of that role.
select n.oid is not null, coalesce(pg_get_userbyid(n.nspowner), '')::text, current_user::text, current_database()::text,
       coalesce(has_schema_privilege(n.oid, 'create') and has_schema_privilege(n.oid, 'usage'), false),
       has_database_privilege(current_database(), 'create')
from (select 1) one
left join pg_namespace n on n.nspname = @schema

-- name: migrate.table
-- compatible_from is the oldest schema version with programs that still work after the migration. Most migrations only
-- add, so all older programs do: 1.
create table if not exists pgqueue.migration (
    version         integer     primary key check (version > 0),
    name            text        not null,
    checksum        text        not null,
    applied_at      timestamptz not null default pg_catalog.clock_timestamp(),
    compatible_from integer     not null default 1 check (compatible_from between 1 and version)
)

-- name: migrate.exists
select exists (select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = @schema and c.relname = 'migration')

-- name: migrate.ground
-- The encoding of the database, and whether the schema has tables of pgqueue already.
select getdatabaseencoding()::text,
       (select count(*) = 3 from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = @schema and c.relname in ('queue', 'task', 'fold'))

-- name: migrate.applied
-- Times as microseconds: the result comes as text, and the DateStyle of the session would change the text of a time.
select version, name, checksum, (extract(epoch from applied_at) * 1000000)::bigint, compatible_from from pgqueue.migration order by version

-- name: migrate.record
with recorded as (
    insert into pgqueue.migration (version, name, checksum, compatible_from) values (@version, @name, @checksum, @compatible_from)
    returning applied_at
)
select (extract(epoch from applied_at) * 1000000)::bigint from recorded

-- name: migrate.forget
delete from pgqueue.migration where version = @version

-- name: migrate.leave
-- The last step down drops the table of migrations too.
drop table pgqueue.migration

-- name: migrate.version
-- The version of the schema, the oldest version with programs that work on it, and whether the row of fold exists.
select coalesce(max(version), 0), coalesce(max(compatible_from), 0), exists (select 1 from pgqueue.fold) from pgqueue.migration
