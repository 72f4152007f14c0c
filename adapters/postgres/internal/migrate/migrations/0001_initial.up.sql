-- The storage of pgqueue: a task's payload is written once; where its narrow row lies says what it is doing.
--
--   task     what was asked for, immutable                       (partitioned by id, dropped when past retention)
--   ready    can be retained now, in the order of turn; in runs   status new or retry
--   delayed  waits for its time                                  status new or retry
--   group_waiting  is due and waits for a limit of its group     status new or retry
--   lease    one row for what one retain took                    status retained
--   done     how it ended; successes in runs                     (partitioned by task_id, dropped with task)
--   state    what moved since: attempts, retries, the last turn  only tasks that did not go straight through
--
-- Moving is delete + insert in one statement or transaction. Statuses are smallint: 1 new, 2 retry, 3 retained,
-- 4 released, 5 failed, 6 expired, 7 cancelled; 0 stands for "not there". In event rows 8 counts the tasks that wait for their
-- group, which are new or retry too. Durations are bigint nanoseconds.
--
-- Never distribute these tables by queue_id. Retains address rows by ctid, which is unique within one table of one server: on
-- several they would delete rows of other queues. More servers carry more schemas (docs/adr/0016-cells.md).

-- Views and the bodies of functions are read once, here, where the search path is pg_catalog: no path of a caller's gives an
-- operator in them another meaning. Texts in indexes are compared byte by byte (collate "C"): an index in the order of a
-- language breaks when the operating system's tables of that language change.

-- These files, and all statements, keep to the dialect that also runs on Citus: TestDialect has its rules.

-- The one clock. Tests of time replace this function and clock_inlined; nothing else asks for the time. It is stable, because Citus
-- refuses volatile functions in updates, and in PL/pgSQL, because PostgreSQL plans a stable SQL function anew in each statement (10 us).
create function pgqueue.clock() returns timestamptz
    language plpgsql stable parallel safe as 'begin return pg_catalog.clock_timestamp(); end';

-- The same clock for the statements of creates, retains, heartbeats and releases: a part of their expressions. The first call of
-- PL/pgSQL in a transaction costs 10 us.
create function pgqueue.clock_inlined() returns timestamptz
    language sql volatile parallel safe return pg_catalog.clock_timestamp();
do $$ begin
    if exists (select from pg_catalog.pg_extension where extname = 'citus') then
        create or replace function pgqueue.clock_inlined() returns timestamptz
            language plpgsql stable parallel safe as 'begin return pg_catalog.clock_timestamp(); end';
    end if;
end $$;

create function pgqueue.nanos(n bigint) returns interval
    language sql immutable parallel safe return pg_catalog.make_interval(secs => n / 1000000000.0::float8);

-- The ids of queues and tickers. Statements name the sequence: Citus refuses integer identities.
create sequence pgqueue.number as integer cache 1;

create table pgqueue.queue (
    id              integer primary key,
    namespace       text collate "C" not null check (namespace ~ '^[a-z][a-z0-9_-]{0,62}$'),
    name            text collate "C" not null check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    ttl             bigint      not null check (ttl >= 0),
    retries         integer     not null check (retries between 0 and 1000),
    retry_delay     bigint      not null check (retry_delay >= 0),
    backoff         text        not null check (backoff in ('exponential', 'linear', 'constant')),
    retry_max_delay bigint      not null check (retry_max_delay >= 0),
    lease           bigint      not null check (lease > 0),
    concurrency     integer     not null check (concurrency >= 0),
    retention       bigint      not null check (retention >= 0),
    paused          boolean     not null,
    events          boolean     not null,
    paused_until    timestamptz,            -- a release held the queue up until then
    fair              boolean not null default false,
    rate_limit        integer not null default 0 check (rate_limit >= 0),
    rate_period       bigint  not null default 1000000000 check (rate_period > 0),
    rate_burst        integer not null default 0 check (rate_burst >= 0),
    group_concurrency integer not null default 0 check (group_concurrency between 0 and 256),
    group_rate_limit  integer not null default 0 check (group_rate_limit >= 0),
    group_rate_period bigint  not null default 1000000000 check (group_rate_period > 0),
    group_rate_burst  integer not null default 0 check (group_rate_burst >= 0),
    "order"           text    not null default 'none' check ("order" in ('none', 'fifo')),
    fifo_batch        integer not null default 1 check (fifo_batch between 1 and 32),
    group_on_failure  text    not null default 'skip' check (group_on_failure in ('skip', 'block')),
    max_waiting       integer not null default 0 check (max_waiting >= 0),
    max_lease_losses  integer not null default 0 check (max_lease_losses between 0 and 100),
    dead_letter       text collate "C" not null default '', -- name of a queue; '' = none
    non_retryable     text[],                      -- kinds of errors that end a task; null = none
    group_policies    integer not null default 0, -- rows of group_policy
    -- One retain at a time takes from the queue, so that no limit is exceeded.
    gated           boolean     not null generated always as (
        concurrency > 0 or rate_limit > 0 or group_concurrency > 0 or group_rate_limit > 0 or "order" = 'fifo' or group_policies > 0) stored,
    version         bigint      not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    deleted_at      timestamptz
);
create unique index queue_name on pgqueue.queue (namespace, name) where deleted_at is null;
create index queue_deleted on pgqueue.queue (id) where deleted_at is not null;

-- How long finished tasks stay: retention if set, else ttl if set, else 7 days.
create function pgqueue.stay(retention bigint, ttl bigint) returns interval
    language sql immutable parallel safe
    return pgqueue.nanos(case when retention > 0 then retention when ttl > 0 then ttl else 604800000000000 end);

-- The lanes that a queue has seen: a retain loops over them. A lane is a priority, and in a fair queue a bucket of groups:
-- priority * 65536 + bucket, with bucket 0 for tasks without a group and in all other queues. Rows leave with their queue only. Two
-- transactions that see a lane first at the same time both add it (n differs): neither waits for the end of the other.
create table pgqueue.lane (
    queue_id integer not null,
    lane     integer not null,
    n        bigint  generated always as identity,
    primary key (queue_id, lane, n)
);

-- One sequence for ids and turns: a task that is ready when it is created has its id as its turn.
create sequence pgqueue.turn as bigint cache 1;
-- A lease row takes 256 tokens: the one of its ith task is its own plus i-1.
create sequence pgqueue.token as bigint start 256 increment 256 cache 1;

create table pgqueue.task (
    id         bigint      not null,
    created_at timestamptz not null,
    delayed_at timestamptz,
    dies_at    timestamptz,
    queue_id   integer     not null,
    priority   smallint    not null,
    retries    smallint    not null,
    key        text,
    headers    json,
    payload    json        not null,
    bucket     smallint,                -- of the lane; null = 0
    group_name text,
    primary key (queue_id, id)
) partition by range (id);

-- A row stands for a run of tasks that one lease held and that were released together, without a result: n ids and tokens one
-- after the other, alike in all the rest. A run ends with its block of 32 ids (1-32, 33-64, …): what covers an id lies in
-- its block, and in its partition.
create table pgqueue.done (
    task_id     bigint      not null, -- of the first
    finished_at timestamptz not null,
    started_at  timestamptz,
    token       bigint      not null, -- of the first; 0 without a lease
    queue_id    integer     not null,
    status      smallint    not null check (status between 4 and 7),
    attempt     smallint    not null,
    n           smallint    not null default 1 check (n between 1 and 32),
    worker      text,
    result      json,
    primary key (queue_id, task_id),
    check (n = 1 or status = 4 and result is null and (task_id - 1) / 32 = (task_id + n - 2) / 32)
) partition by range (task_id);
-- Failures are what operators look for; successes need no second index.
create index done_unwell on pgqueue.done (queue_id, status, task_id) where status <> 4;
-- Rows arrive in the order of finished_at: a block range index finds what is past retention for next to nothing.
create index done_finished on pgqueue.done using brin (finished_at) with (pages_per_range = 32, autosummarize = on);

-- The partitions of task and done, by the ids [lower, upper): multiples of 32 ids each.
create table pgqueue.part (
    lower      bigint      primary key,
    upper      bigint      not null check (upper > lower),
    created_at timestamptz not null,
    counted    jsonb       -- progress of the count of its finished tasks before the drop; null before and after
);

-- The first partition. Servers and background work make the next ones ahead of need.
create table pgqueue.task_p1 (like pgqueue.task including defaults including constraints including storage)
    with (autovacuum_vacuum_insert_threshold = -1);
create table pgqueue.done_p1 (like pgqueue.done including defaults including constraints including storage)
    with (autovacuum_vacuum_insert_threshold = -1);
alter table pgqueue.task attach partition pgqueue.task_p1 for values from (1) to (1048577);
alter table pgqueue.done attach partition pgqueue.done_p1 for values from (1) to (1048577);
insert into pgqueue.part (lower, upper, created_at) values (1, 1048577, pgqueue.clock());

-- A row stands for a run of tasks that were created together: n ids and turns one after the other, at most 32, alike in all
-- the rest. A statement that takes a part of a run splits it. Tasks with a rule for their key, as replace, have a row each: a
-- create in an open transaction may take one of them.
create table pgqueue.ready (
    turn     bigint      not null, -- of the first
    task_id  bigint      not null, -- of the first; its turn too, where n > 1
    queue_id integer     not null,
    lane     integer     not null,
    attempt  smallint    not null, -- attempts that failed so far; above 0 there is a state row. The bit 8192 marks a suspect: a
                                   -- task that has lost its lease and that no worker has released since. So in delayed,
                                   -- group_waiting and lease too; "& 8191" decodes it
    n        smallint    not null default 1 check (n between 0 and 32), -- 0: a marker, see group_waiting
    dies_at  timestamptz,
    grp      bigint,               -- hash of the group; null = none
    primary key (queue_id, lane, turn)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000);
create index ready_dies on pgqueue.ready (dies_at) where dies_at is not null;

create table pgqueue.delayed (
    due_at   timestamptz not null,
    task_id  bigint      not null,
    queue_id integer     not null,
    priority smallint    not null,
    attempt  smallint    not null,
    dies_at  timestamptz,
    bucket   smallint,             -- of the lane; null = 0
    grp      bigint,
    primary key (due_at, task_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
create index delayed_dies on pgqueue.delayed (dies_at) where dies_at is not null;

create table pgqueue.lease (
    token       bigint      not null check (token % 256 = 0), -- of the first task
    part        smallint    not null default 0, -- above 0 where heartbeats of some of the tasks split the row: the place,
                                                -- from 1, of a task that stays in this row until its hold ends
    held        smallint    not null,           -- how many of task_ids are held still
    queue_id    integer     not null,
    retained_at timestamptz not null,
    granted     bigint,                         -- length of the lease in ns; null until a heartbeat: expires_at - retained_at
    expires_at  timestamptz not null,
    worker      text        not null,
    task_ids    bigint[]    not null,           -- in their places for good: 0 where a hold has ended
    attempts    smallint[],                     -- beside task_ids; null = all 1
    cancels     bigint[],                       -- those of task_ids with a request to stop
    grps        bigint[],                       -- beside task_ids: hashes of groups, 0 = none; null = all 0
    primary key (token, part)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create index lease_expires on pgqueue.lease (expires_at);
create index lease_queue on pgqueue.lease (queue_id);

-- Tasks that are due and wait for a limit of their group: what lies in ready may run, so a retain never scans them. Each retain
-- of a queue with such limits has its gate, and decides for the groups of the rows that it meets. A marker is a row of ready
-- without tasks: it names a group to decide about. Creates in a FIFO queue write one into the lane of the group, for each call
-- and group. Whatever lets a group go on writes one into the front lane 2147483647, which every retain reads first; its task_id
-- is the task that ended, or 0. Markers are written in the transaction of what they are about, so none is missing.
create table pgqueue.group_waiting (
    turn     bigint   not null, -- as in ready; the id of the task in a FIFO queue
    task_id  bigint   not null,
    queue_id integer  not null,
    lane     integer  not null,
    attempt  smallint not null,
    dies_at  timestamptz,
    grp      bigint   not null,
    primary key (queue_id, grp, lane, turn)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
create index group_waiting_dies on pgqueue.group_waiting (dies_at) where dies_at is not null;

-- The turns of front markers, and the versions of group_state.
create sequence pgqueue.marker as bigint cache 1;

-- What limits need to know of the past of a group; grp 0 = the queue. Rows are added and deleted and never updated, and the
-- newest version is read from the end of its key: dead versions lie behind it, also while an old snapshot keeps them.
create table pgqueue.group_state (
    queue_id   integer  not null,
    grp        bigint   not null,
    version    bigint   not null,
    holders    bigint[] not null, -- tasks that keep a place, in the order of their starts
    rate_state bigint   not null, -- of Rate.Admit
    primary key (queue_id, grp, version)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- The settings of single groups.
create table pgqueue.group_policy (
    queue_id     integer not null,
    grp          bigint  not null,
    name         text    not null,
    weight       integer not null,
    concurrency  integer not null,
    rate_limit   integer not null,
    rate_period  bigint  not null,
    rate_burst   integer not null,
    paused_until timestamptz,
    bucket       smallint, -- of a group with a weight: no other group has it
    primary key (queue_id, grp)
);
-- Groups with nothing but a pause: their rows leave when it is over.
create index group_policy_pause on pgqueue.group_policy (paused_until) where weight = 0 and concurrency = 0 and rate_limit = 0;

-- When a limit of time lets groups go on. grp 0 is a review of all groups of the queue behind "after".
create table pgqueue.group_wake (
    due_at   timestamptz not null,
    queue_id integer     not null,
    grp      bigint      not null,
    after    bigint      not null default -9223372036854775808,
    primary key (due_at, queue_id, grp)
);

-- Heartbeats beside lease rows that another transaction had locked: a rescue looks here before it takes tasks back. Empty
-- unless a caller keeps a transaction open behind the completion of a task that was retained together with others.
create table pgqueue.lease_beat (
    token      bigint      primary key, -- of the task's hold
    expires_at timestamptz not null,
    granted    bigint      not null     -- ns
);
create index lease_beat_expires on pgqueue.lease_beat (expires_at);

-- What retains with a request id gave, while they can be repeated.
create table pgqueue.request (
    namespace  text collate "C" not null,
    worker     text collate "C" not null,
    request_id text collate "C" not null,
    arguments  text        not null, -- a fingerprint
    expires_at timestamptz not null,           -- until then it can be repeated
    end_at     timestamptz not null,           -- then background work ends it; later than expires_at after a fault
    ids        bigint[]    not null,
    tokens     bigint[]    not null,           -- beside ids
    leases     bigint[]    not null,           -- beside ids, in ns
    given      integer     not null default 0, -- answers
    lost       integer     not null default 0, -- of them that were not delivered
    primary key (namespace, worker, request_id)
);
create index request_end on pgqueue.request (end_at);

create table pgqueue.state (
    queue_id   integer  not null,
    task_id    bigint   not null,
    turn       bigint,               -- of its ready row, when not its id
    delayed_at timestamptz,
    dies_at    timestamptz,
    started_at timestamptz,
    token      bigint   not null default 0, -- of the last hold that ended
    attempt    smallint not null,
    retries    smallint not null,
    worker     text,
    result     json,
    progress   json,
    losses     smallint not null default 0, -- lost leases in a row without a report of a worker
    primary key (queue_id, task_id)
);
create index state_again on pgqueue.state (queue_id, task_id) where attempt > 0;

create table pgqueue.task_error (
    queue_id integer     not null,
    task_id  bigint      not null,
    id       bigint      generated always as identity,
    attempt  smallint    not null,
    at       timestamptz not null,
    worker   text        not null,
    error    json        not null,
    kind     text,                 -- of the error, as its worker or the queue set it; null = none
    fingerprint text,              -- that the worker gave; null = none
    primary key (queue_id, task_id, id)
);

create table pgqueue.task_key (
    queue_id    integer not null,
    key         text collate "C" not null,
    task_id     bigint  not null,
    fingerprint bytea   not null, -- of the compacted payload
    since       timestamptz, -- creation of the first of the tasks that replaced one another up to task_id; null without one
    primary key (queue_id, key)
);

-- What happened, one row a statement and queue. It is the feed of events and the source of the counts: was -> is, n times.
-- Append-only; read by what a snapshot has not seen, so that late commits are never skipped.
create table pgqueue.event (
    xid      xid8        not null default pg_current_xact_id(),
    id       bigint      generated always as identity,
    at       timestamptz not null,
    queue_id integer     not null,
    kind     smallint    not null, -- 0 = only counts
    was      smallint    not null,
    "is"     smallint    not null,
    n        integer     not null,
    delayed  integer     not null default 0, -- by how much the delayed rows grew
    worker   text,
    task_ids bigint[],              -- a run of ids as first, -last; null where the queue keeps no events
    primary key (xid, id)
);
create index event_at on pgqueue.event using brin (at) with (pages_per_range = 16, autosummarize = on);

-- The counts up to a snapshot; what that snapshot has not seen is added from event.
create table pgqueue.fold (
    one        boolean     primary key default true check (one),
    seen       pg_snapshot not null,
    pruned     xid8        not null, -- events below are gone
    sampled_at timestamptz not null default '-infinity' -- the minute in which the history was last written
);
insert into pgqueue.fold (seen, pruned) select pg_current_snapshot(), pg_snapshot_xmin(pg_current_snapshot());

-- Snapshots that cursors of the feed name, because they list too many open transactions to stand in a cursor.
create table pgqueue.event_snapshot (
    id   bigint      primary key, -- a hash of seen, so that each process finds the same
    seen pg_snapshot not null,
    at   timestamptz not null     -- when a cursor named it last, within a minute
);
create index event_snapshot_at on pgqueue.event_snapshot (at);

create table pgqueue.queue_count (
    queue_id      integer     primary key,
    new           bigint      not null default 0,
    retry         bigint      not null default 0,
    retained      bigint      not null default 0,
    released      bigint      not null default 0,
    failed        bigint      not null default 0,
    expired       bigint      not null default 0,
    cancelled     bigint      not null default 0,
    delayed       bigint      not null default 0,
    group_waiting bigint      not null default 0,
    created_sum   bigint      not null default 0, -- ever created and finished, now and at two moments: the rates of
    finished_sum  bigint      not null default 0, -- the last minute are their differences
    created_mark  bigint      not null default 0,
    finished_mark bigint      not null default 0,
    created_next  bigint      not null default 0,
    finished_next bigint      not null default 0,
    next_at       timestamptz not null,
    marked_at     timestamptz not null,
    released_sum  bigint      not null default 0, -- ever released, failed and tried again
    failed_sum    bigint      not null default 0,
    retried_sum   bigint      not null default 0,
    created_kept  bigint      not null default 0, -- the parts of the sums that the history contains
    released_kept bigint      not null default 0,
    failed_kept   bigint      not null default 0,
    retried_kept  bigint      not null default 0
) with (fillfactor = 50);

-- What happened in each queue: a row for each minute of a day, and for each hour of 30 days, in which something happened or a
-- task was ready. The stats folder writes them, once a minute.
create table pgqueue.queue_history (
    queue_id   integer     not null,
    hourly     boolean     not null,
    at         timestamptz not null, -- the beginning of the minute or hour
    created    bigint      not null,
    released   bigint      not null,
    failed     bigint      not null,
    retried    bigint      not null,
    ready      bigint      not null, -- at the end of the minute; the most of an hour
    oldest_age bigint      not null, -- of the ready tasks, in ns
    primary key (queue_id, hourly, at)
);

create table pgqueue.ticker (
    id            integer primary key,
    namespace     text collate "C" not null check (namespace ~ '^[a-z][a-z0-9_-]{0,62}$'),
    name          text collate "C" not null check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    period        bigint      not null check (period >= 0),
    cron          text        not null,
    timezone      text        not null,
    queue         text        not null, -- '' = only for listeners
    payload       json        not null,
    payload_bytes integer     not null, -- of payload as it was given: a step reads a bounded number of bytes
    misfire       text        not null check (misfire in ('skip', 'once', 'all')),
    misfire_limit integer     not null check (misfire_limit between 1 and 1000),
    overlap       text        not null check (overlap in ('allow', 'skip')),
    paused        boolean     not null,
    last_at       timestamptz,          -- nominal time of the last tick
    next_at       timestamptz,          -- null while paused
    due_at        timestamptz,          -- when to look at it: next_at; later after a fault; null while paused
    planned_at    timestamptz not null, -- when next_at was computed: ahead of the clock once that went back
    last_queue_id integer,              -- of the last tick that made a task
    last_task_id  bigint,
    fault         text        not null default '', -- why it did not fire when it was last due
    anchor        timestamptz not null,
    version       bigint      not null default 1,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    unique (namespace, name)
) with (fillfactor = 70);
-- Two kinds of due: those that make tasks (background work), those that wait for a listener of their namespace.
create index ticker_due on pgqueue.ticker (due_at) where queue <> '' and due_at is not null;
create index ticker_due_listen on pgqueue.ticker (namespace, due_at) where queue = '' and due_at is not null;

create table pgqueue.tick (
    id         bigint      generated always as identity primary key,
    ticker_id  integer     not null references pgqueue.ticker on delete cascade,
    at         timestamptz not null, -- nominal
    fired_at   timestamptz not null,
    queue_id   integer,
    task_id    bigint,
    skipped    boolean     not null default false,
    manual     boolean     not null default false,
    held_until timestamptz,          -- taken by a listener, not yet settled
    payload    json                  -- for a listener; else the task has it
);
-- Exactly one tick a nominal time: the last guard.
create unique index tick_once on pgqueue.tick (ticker_id, at) where not manual;
create index tick_held on pgqueue.tick (held_until) where held_until is not null;
create index tick_last on pgqueue.tick (ticker_id, id);

-- Tokens of access. A row keeps the SHA-256 of the secret; the secret is stored nowhere.
create table pgqueue.access_token (
    id         text collate "C" primary key, -- the public part of the secret
    digest     bytea       not null unique,
    name       text        not null,
    grants     text[]      not null,
    created_by text        not null,         -- id of a principal; database = created there
    created_at timestamptz not null,
    expires_at timestamptz,                  -- null = never
    used_at    timestamptz,                  -- about the last use
    revoked_at timestamptz,
    replaces   text        not null          -- id of the token that a rotation replaced; '' = none
);

-- Sessions of the dashboard, and the codes that open them. A session ends with the token that opened it, which reads join.
create table pgqueue.session (
    id           text collate "C" primary key, -- the public part of the secret, or of the code until its use
    digest       bytea       not null unique,
    is_code      boolean     not null,
    principal_id text collate "C" not null,    -- of the opener, as its kind
    kind         text        not null,
    name         text        not null,
    grants       text[]      not null,         -- those of the sign-in
    basis        text[]      not null,         -- digests of the rules that gave them, and of an authority; empty for a token
    issuer       text        not null,
    subject      text        not null,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    ends_at      timestamptz,                  -- the end of the credential of the opener; null = none
    idle         bigint      not null,         -- ns without a request after which it ends
    used_at      timestamptz not null,         -- about the last request
    ended_at     timestamptz
);
create index session_principal on pgqueue.session (principal_id);

-- The audit of access: append-only. It contains names, ids and numbers, never a payload, a result, an error text or a secret.
create table pgqueue.audit (
    id             bigint      generated always as identity primary key,
    at             timestamptz not null default pgqueue.clock(), -- servers may not set it
    principal_id   text        not null,
    principal_name text        not null,
    principal_kind text        not null,
    issuer         text        not null,
    subject        text        not null,
    request_id     text        not null,
    via            text        not null,
    remote         text        not null,
    reason         text        not null,
    action         text        not null,
    operation      text        not null,
    namespace      text        not null,
    queue          text        not null,
    ticker         text        not null,
    task           bigint      not null, -- 0 = none or several
    token          text        not null, -- the public part
    filter         text        not null,
    ids            integer     not null,
    dry_run        boolean     not null,
    outcome        text        not null,
    calls          integer     not null,
    matched        bigint      not null,
    moved          bigint      not null,
    changes        json        -- [{"field", "old", "new"}]; null for none
);
create index audit_at on pgqueue.audit (at, id);

-- The one way by which entries leave. Servers may call it and may not delete: so they cannot remove an entry before the
-- least retention, 30 days. It runs with the rights of the owner of the table.
create function pgqueue.prune_audit(age bigint, most integer) returns bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    pruned bigint;
begin
    with old as (
        select a.id from pgqueue.audit a
        where a.at < pgqueue.clock() - greatest(pgqueue.nanos(age), make_interval(hours => 720))
        order by a.at, a.id limit least(most, 5000)
        for update skip locked
    ),
    gone as (
        delete from pgqueue.audit a using old where a.id = old.id returning 1
    )
    select count(*) into pruned from gone;
    return pruned;
end $$;
revoke execute on function pgqueue.prune_audit(bigint, integer) from public;

-- The directory of the cells, in cell 0. A url may contain a password.
create table pgqueue.cell (
    id      integer primary key check (id between 0 and 511),
    schema  text    not null,
    url     text    not null, -- of the home, the one server by which the cell is entered
    ddl_url text    not null, -- of the server that changes tables; '' = the home
    home    text    not null, -- identifies the server of url; '' = not checked
    state   text    not null check (state in ('open', 'closed'))
);
create table pgqueue.place (
    namespace text    collate "C" primary key check (namespace ~ '^[a-z][a-z0-9_-]{0,62}$'),
    cell      integer not null check (cell between 0 and 511)
);

-- Which cell this schema is, and by which server it is entered. Without a row it is not part of an installation with cells.
create table pgqueue.home (
    one    boolean primary key default true check (one),
    cell   integer not null check (cell between 0 and 511),
    server text    not null
);

-- One task with its present status, which follows from the place of its rows. For lists and single looks; the
-- hot path never reads it. Finished tasks past retention are not shown, though their rows may still be there.
-- "offset 0" keeps each table a look-up by its whole key, also with wrong statistics of its size.
create view pgqueue.task_now as
select t.id, t.queue_id, q.namespace, q.name as queue, t.priority, t.key, t.headers, t.payload, t.bucket, t.group_name, t.created_at,
       case when d.task_id is not null then d.result else s.result end as result,
       coalesce(d.status, case when l.token is not null then 3 when s.attempt > 0 then 2 else 1 end)::smallint as status,
       coalesce(d.worker, l.worker, s.worker) as worker,
       case when s.task_id is null then t.delayed_at else s.delayed_at end as delayed_at,
       case when s.task_id is null then t.dies_at else s.dies_at end as dies_at,
       coalesce(d.started_at, l.retained_at, s.started_at) as started_at,
       d.finished_at,
       coalesce(s.retries, t.retries) as retries,
       case when d.task_id is not null then d.attempt
            when l.token is not null then (coalesce(l.attempts[array_position(l.task_ids, t.id)], 1) & 8191)::smallint
            else coalesce(s.attempt, 0) end as attempt,
       s.progress, coalesce(t.id = any (l.cancels), false) as cancel_requested,
       l.token, l.expires_at,
       coalesce(s.turn, t.id) as turn, s.task_id is not null as stated,
       coalesce(d.token + (t.id - d.task_id), s.token, 0) as last_token
from pgqueue.task t
join pgqueue.queue q on q.id = t.queue_id and q.deleted_at is null
left join lateral (
    select s.* from pgqueue.state s where s.queue_id = t.queue_id and s.task_id = t.id offset 0
) s on true
left join lateral (
    -- The row of done that covers the task, if it has ended.
    select d.* from (
        select d.* from pgqueue.done d
        where d.queue_id = t.queue_id and d.task_id > (t.id - 1) / 32 * 32 and d.task_id <= t.id
        order by d.task_id desc limit 1) d
    where d.task_id + d.n > t.id offset 0
) d on true
left join lateral (
    select r.task_id from pgqueue.ready r
    where d.task_id is null and r.queue_id = t.queue_id and r.lane = t.priority * 65536 + coalesce(t.bucket, 0)
      and r.turn <= coalesce(s.turn, t.id) and r.turn > coalesce(s.turn, t.id) - 32 and r.turn + r.n > coalesce(s.turn, t.id)
    limit 1
) r on true
left join lateral (
    select y.task_id from pgqueue.delayed y
    where d.task_id is null and r.task_id is null
      and y.due_at = case when s.task_id is null then t.delayed_at else s.delayed_at end and y.task_id = t.id offset 0
) y on true
left join lateral (
    select l.token, l.worker, l.retained_at, l.expires_at, l.task_ids, l.attempts, l.cancels
    from pgqueue.lease l
    where d.task_id is null and r.task_id is null and y.task_id is null
      and l.queue_id = t.queue_id and t.id = any (l.task_ids)
    limit 1
) l on true
where d.task_id is null or d.finished_at + pgqueue.stay(q.retention, q.ttl) > pgqueue.clock();

-- The counts of each queue. The kept counts of queue_count contain the events up to a snapshot; the later event rows are added when they are
-- read. No statement counts tasks. Outside of the snapshot are the transactions that were open at its time, a few, and those
-- from its end on. A read from its beginning on would be simpler, and would read all events since the oldest transaction of
-- the server. The upper bound of xid holds always: it shows the planner that few rows match.
create view pgqueue.count_now as
with new as materialized (
    select e.queue_id, array[
           coalesce(sum(n) filter (where "is" = 1), 0) - coalesce(sum(n) filter (where was = 1), 0),
           coalesce(sum(n) filter (where "is" = 2), 0) - coalesce(sum(n) filter (where was = 2), 0),
           coalesce(sum(n) filter (where "is" = 3), 0) - coalesce(sum(n) filter (where was = 3), 0),
           coalesce(sum(n) filter (where "is" = 4), 0) - coalesce(sum(n) filter (where was = 4), 0),
           coalesce(sum(n) filter (where "is" = 5), 0) - coalesce(sum(n) filter (where was = 5), 0),
           coalesce(sum(n) filter (where "is" = 6), 0) - coalesce(sum(n) filter (where was = 6), 0),
           coalesce(sum(n) filter (where "is" = 7), 0) - coalesce(sum(n) filter (where was = 7), 0),
           coalesce(sum(n) filter (where "is" = 8), 0) - coalesce(sum(n) filter (where was = 8), 0)] as by,
           sum(delayed) as delayed,
           coalesce(sum(n) filter (where kind = 1), 0) as created,
           coalesce(sum(n) filter (where "is" between 4 and 7 and was between 1 and 3), 0) as finished
    from (
        select e.* from pgqueue.event e where e.xid = any (array(select pg_snapshot_xip(seen) from pgqueue.fold))
        union all
        select e.* from pgqueue.event e
        where e.xid >= (select pg_snapshot_xmax(seen) from pgqueue.fold) and e.xid < '18446744073709551615'::xid8
    ) e
    group by e.queue_id
)
select q.id, q.namespace, q.name, q.paused, q.concurrency, array[0, -- no status has the code 0
           coalesce(c.new, 0) + coalesce(n.by[1], 0), coalesce(c.retry, 0) + coalesce(n.by[2], 0),
           coalesce(c.retained, 0) + coalesce(n.by[3], 0), coalesce(c.released, 0) + coalesce(n.by[4], 0),
           coalesce(c.failed, 0) + coalesce(n.by[5], 0), coalesce(c.expired, 0) + coalesce(n.by[6], 0),
           coalesce(c.cancelled, 0) + coalesce(n.by[7], 0)]::bigint[] as by_status,
       -- The marker of a FIFO group counts as one of its tasks: until it is read, a cancel of that task counts one too few.
       greatest(coalesce(c.group_waiting, 0) + coalesce(n.by[8], 0), 0)::bigint as group_waiting,
       (coalesce(c.delayed, 0) + coalesce(n.delayed, 0))::bigint as delayed,
       -- next_at moves every 30 s while tasks move: when it is older, the last minute has only events that are not folded
       case when recent then c.created_sum - c.created_mark else 0 end::float8 + coalesce(n.created, 0)::float8 as created,
       case when recent then c.finished_sum - c.finished_mark else 0 end::float8 + coalesce(n.finished, 0)::float8 as finished,
       case when recent then greatest(extract(epoch from pgqueue.clock() - c.marked_at), 1) else 60 end::float8 as seconds,
       case when q.paused_until > pgqueue.clock() then q.paused_until end as paused_until, -- of a pause that is not over
       q.rate_limit * 1000000000.0::float8 / q.rate_period as starts_per_second -- 0 = no limit
from pgqueue.queue q
left join pgqueue.queue_count c on c.queue_id = q.id
left join new n on n.queue_id = q.id
cross join lateral (select coalesce(c.next_at > pgqueue.clock() - interval '90 s', false) as recent) r
where q.deleted_at is null;
