-- Migrations: the statements around the numbered scripts of migrations/.

-- name: migrate.lock
-- One installer at a time and schema. Inside the transaction of a step, so that it holds behind a transaction pooler and
-- leaves with the step however that ends.
select pg_advisory_xact_lock($1::bigint)

-- name: migrate.session
-- Settings of the session must not change the effect of a migration. PostgreSQL refuses partitioned tables when
-- default_tablespace names the tablespace of the database, where they lie without it.
set local search_path = pg_catalog, pg_temp;
select set_config('default_tablespace', '', true)
from pg_database d join pg_tablespace t on t.oid = d.dattablespace
where d.datname = current_database() and t.spcname = current_setting('default_tablespace')

-- name: migrate.rights
-- Whether the schema is there, its owner, the present role, and the rights of that role. $1 schema
select n.oid is not null, coalesce(pg_get_userbyid(n.nspowner), '')::text, current_user::text, current_database()::text,
       coalesce(has_schema_privilege(n.oid, 'create') and has_schema_privilege(n.oid, 'usage'), false),
       has_database_privilege(current_database(), 'create')
from (select 1) one
left join pg_namespace n on n.nspname = $1

-- name: migrate.table
-- compatible_from is the oldest schema version with programs that still work once the migration is applied. Most
-- migrations only add, so all older programs do: 1.
create table if not exists pgqueue.migration (
    version         integer     primary key check (version > 0),
    name            text        not null,
    checksum        text        not null,
    applied_at      timestamptz not null default pg_catalog.clock_timestamp(),
    compatible_from integer     not null default 1 check (compatible_from between 1 and version)
)

-- name: migrate.exists
select exists (select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = 'migration')

-- name: migrate.ground
-- The ground of the first migration: the database's encoding, and whether there are tables of pgqueue already. $1 schema
select getdatabaseencoding()::text,
       (select count(*) = 3 from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relname in ('queue', 'task', 'fold'))

-- name: migrate.applied
-- Times as microseconds: the answer comes as text, and the text of a time depends on the DateStyle of the connection.
select version, name, checksum, (extract(epoch from applied_at) * 1000000)::bigint, compatible_from from pgqueue.migration order by version

-- name: migrate.record
insert into pgqueue.migration (version, name, checksum, compatible_from) values ($1, $2, $3, $4)
returning (extract(epoch from applied_at) * 1000000)::bigint

-- name: migrate.forget
delete from pgqueue.migration where version = $1

-- name: migrate.leave
-- The last step down takes the table of migrations along.
drop table pgqueue.migration

-- name: migrate.version
-- The version of the schema, the oldest version with programs that work on it, and whether the row of fold is there.
select coalesce(max(version), 0), coalesce(max(compatible_from), 0), exists (select 1 from pgqueue.fold) from pgqueue.migration
