-- The narrow rows of the storage that pgqueue's was designed after, and nothing else.
create sequence id;
create table task (id bigint primary key, payload json not null);
create table ready (id bigint primary key)
    with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
create table lease (id bigint generated always as identity primary key, expires_at timestamptz not null, ids bigint[] not null)
    with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create table done (id bigint primary key, finished_at timestamptz not null);
