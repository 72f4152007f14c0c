-- The SQL API: tasks are created and completed in any transaction, by any program that speaks SQL, and looked at in views.
--
--   create_task, create_tasks   for producers (role pgqueue_producer)
--   complete_task               for holders of a lease
--   tasks, queues, queue_stats, workers, tickers, ticks, errors   views; columns are only ever added
--
-- The signatures are frozen: a function that another object depends on cannot be dropped. The last argument, options, is the
-- sole extension point; a key that this version does not know is refused.
--
-- The functions run with the rights of their owner and a fixed search path, so a caller needs EXECUTE and USAGE alone, and
-- no operator of the caller's schemas is found. PUBLIC may execute none of the functions of this schema.
--
-- The rules are those of the domain: the limits of domain/queue/limits.go, and Queue.Born for the life of a new task. The suite of
-- the producer holds both to each other. Errors have the SQLSTATEs PQ404, PQ409, PQ410, PQ413, PQ422, PQ429 and PQ503, after the
-- statuses of HTTP.

create function pgqueue.api_version() returns integer
    language sql immutable parallel safe return 1;

-- The fingerprint of a payload: SHA-256 of the text without white space between its tokens.
create function pgqueue.payload_print(payload text) returns bytea
    language sql immutable strict parallel safe
    return sha256(convert_to(regexp_replace(payload, '("(?:[^"\\]|\\.)*")|[ \t\n\r]+', '\1', 'g'), 'UTF8'));

-- Whether a JSON text has the escape of half a surrogate pair, which the type json takes and other programs do not.
create function pgqueue.has_lone_surrogate(value text) returns boolean
    language sql immutable strict parallel safe
    return regexp_replace(regexp_replace(value, '\\[^u]', '', 'g'),
        '\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}', '', 'g') ~ '\\u[dD][89a-fA-F]';

-- The brackets of a JSON text outside of its strings.
create function pgqueue.brackets_of(value text) returns text
    language sql immutable strict parallel safe
    return regexp_replace(regexp_replace(value, '"(?:[^"\\]|\\.)*"', '', 'g'), '[^][{}]', '', 'g');

-- The fault of a JSON text that has escapes or many brackets; null without one.
create function pgqueue.find_json_fault(value text) returns text
    language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    rest text;
begin
    if strpos(value, chr(92) || 'u') > 0 and pgqueue.has_lone_surrogate(value) then
        return 'must have no lone surrogate escape; write surrogates in pairs';
    end if;

    -- Each pass of the loop removes the innermost level.
    rest := pgqueue.brackets_of(value);
    for level in 1..128 loop
        exit when rest = '';
        rest := regexp_replace(rest, '[[][]]|[{][}]', '', 'g');
    end loop;
    if rest <> '' then
        return 'must be nested at most 128 levels deep; flatten it';
    end if;
    return null;
end $$;

-- The NOTIFY channel of this schema: a constant, so that a create looks up no catalog.
do $$
declare
    space text := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'pgqueue.queue'::regclass);
begin
    execute format('create function pgqueue.channel() returns text language sql immutable parallel safe return %L::text',
        case space when 'pgqueue' then 'pgqueue' else 'pgqueue_' || left(encode(sha256(convert_to(space, 'UTF8')), 'hex'), 32) end);
end $$;

-- The fault of a JSON text that the type json has accepted; null without one. Most texts have no such escape, and too few
-- brackets for a depth of 128: this test becomes a part of its caller's expression.
create function pgqueue.json_fault(value text) returns text
    language sql immutable parallel safe
    return case when strpos(value, '\u') > 0 or length(value) - length(translate(value, '[{', '')) > 128 then pgqueue.find_json_fault(value) end;

-- The number of a group in narrow rows, as queue.HashGroup has it: the first 64 bits of its SHA-256, and never 0.
create function pgqueue.hash_group(group_name text) returns bigint
    language sql immutable strict parallel safe
    return coalesce(nullif(('x' || left(encode(sha256(convert_to(group_name, 'UTF8')), 'hex'), 16))::bit(64)::bigint, 0), 1);

-- Refuses options that this version does not know. The option group is returned; null = none.
create function pgqueue.check_options(options jsonb, known text[]) returns text
    language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    wrong text;
begin
    if options is null or options = '{}' then
        return null;
    end if;
    if jsonb_typeof(options) <> 'object' then
        raise exception using errcode = 'PQ422', message = format('options: must be a JSON object, got %s; write {} or leave it out', left(options::text, 64));
    end if;
    if options - known <> '{}' then
        raise exception using errcode = 'PQ422', message = format('options: must be known to this version (%s), got %s; leave it out, or migrate to a newer version',
            pgqueue.api_version(), (select left(string_agg(quote_ident(k), ', ' order by k), 64) from jsonb_object_keys(options - known) k));
    end if;

    select k into wrong from jsonb_object_keys(options) k where jsonb_typeof(options -> k) not in ('string', 'null') order by k limit 1;
    if found then
        raise exception using errcode = 'PQ422', message = format('options.%s: must be a text, got %s; write {"%s": "text"}', wrong, left((options -> wrong)::text, 64), wrong);
    end if;
    if octet_length(options ->> 'group') > 255 then
        raise exception using errcode = 'PQ422', message = format('options.group: must have at most 255 bytes, got %s', octet_length(options ->> 'group'));
    end if;
    return nullif(options ->> 'group', '');
end $$;

-- The duration in seconds alone: a day is 24 hours and a month 30 days, also where a clock changes in the time zone of the session.
create function pgqueue.in_seconds(value interval) returns interval
    language sql immutable strict parallel safe return make_interval(secs => extract(epoch from value)::float8);

-- Reads the option of a duration.
create function pgqueue.read_duration(options jsonb, field text) returns interval
    language plpgsql stable set search_path = pg_catalog, pg_temp set IntervalStyle = 'postgres' as $$
declare
    value interval;
begin
    value := options ->> field;
    -- The first comparison keeps the seconds within their range, and has shorter years.
    if value not between interval '0' and interval '87624 h' or pgqueue.in_seconds(value) > interval '87600 h' then
        raise exception using errcode = 'PQ422', message = format('options.%s: must be a duration from 0 to 3650 days, got %s', field, value);
    end if;
    return nullif(pgqueue.in_seconds(value), interval '0');
exception when invalid_datetime_format or datetime_field_overflow or interval_field_overflow then
    raise exception using errcode = 'PQ422', message = format('options.%s: must be a duration, got %s; write "10 seconds"', field, quote_literal(left(options ->> field, 64)));
end $$;

-- Reads what a create asks for beside its key, as queue.KeyRule has it. A debounce implies the answer replace.
create function pgqueue.read_key_rule(
    options jsonb, key text, late boolean, out on_conflict text, out unique_until text, out debounce interval, out debounce_max interval
)
    language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    on_conflict := coalesce(nullif(options ->> 'on_conflict', ''), 'return');
    unique_until := coalesce(nullif(options ->> 'unique_until', ''), 'pruned');
    if on_conflict not in ('return', 'reject', 'replace') then
        raise exception using errcode = 'PQ422', message = format('options.on_conflict: must be one of return, reject, replace, got %s', quote_literal(left(on_conflict, 64)));
    end if;
    if unique_until not in ('started', 'finished', 'pruned') then
        raise exception using errcode = 'PQ422', message = format('options.unique_until: must be one of started, finished, pruned, got %s', quote_literal(left(unique_until, 64)));
    end if;
    debounce := pgqueue.read_duration(options, 'debounce');
    debounce_max := pgqueue.read_duration(options, 'debounce_max');
    if coalesce(key, '') = '' then
        raise exception using errcode = 'PQ422', message = 'key: must be given with on_conflict, unique_until or debounce, got none';
    end if;
    if debounce_max is not null and (debounce is null or debounce_max < debounce) then
        raise exception using errcode = 'PQ422',
            message = format('options.debounce_max: must be at least debounce, %s, got %s; raise it, or leave it out', coalesce(debounce, '0'), debounce_max);
    end if;
    if debounce is null then
        return;
    end if;
    if late then
        raise exception using errcode = 'PQ422', message = 'options.debounce: must not come with delay or delayed_at; leave one out';
    end if;
    if on_conflict <> 'replace' and coalesce(options ->> 'on_conflict', '') <> '' then
        raise exception using errcode = 'PQ422', message = format('options.on_conflict: must be replace with debounce, got %s; leave it out', on_conflict);
    end if;
    on_conflict := 'replace';
end $$;

-- Decides about a key that a task has, as queue.KeyRule.Answer: take = it belongs to the task new_id now, return = to the task
-- that has it, again = it has just become free. A waiting task that is replaced ends cancelled, and since is when the first of
-- the tasks was created that replaced one another.
create function pgqueue.answer_key(
    queue_id integer, key text, new_id bigint, print bytea, on_conflict text, unique_until text, at timestamptz,
    out answer text, out since timestamptz
)
    language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
    owner record;
    n record;
    q record;
    run record;
    task_lane integer;
    task_grp bigint;
    was_delayed boolean;
    waits boolean := false;
begin
    loop
        select k.task_id, k.since into owner from pgqueue.task_key k where k.queue_id = answer_key.queue_id and k.key = answer_key.key for update;
        if not found then
            answer := 'again';
            return;
        end if;

        select x.id, x.status, x.attempt, x.created_at, x.delayed_at, x.turn, x.priority, x.bucket, x.group_name, x.started_at, x.worker into n
        from pgqueue.task_now x where x.queue_id = answer_key.queue_id and x.id = owner.task_id;
        if not found or unique_until = 'started' and (n.attempt > 0 or n.status > 3) or unique_until = 'finished' and n.status > 3
            or on_conflict = 'replace' and n.status > 2
        then
            update pgqueue.task_key k set task_id = new_id, fingerprint = print, since = null
            where k.queue_id = answer_key.queue_id and k.key = answer_key.key;
            answer := 'take';
            return;
        end if;
        if on_conflict = 'reject' then
            raise exception using errcode = 'PQ409', message = format('key: must be new, got %s of task %s; use a new key, or on_conflict return or replace',
                quote_literal(left(key, 64)), n.id);
        end if;
        if on_conflict <> 'replace' then
            answer := 'return';
            return;
        end if;

        -- The task leaves its row among the waiting ones. A retain may have taken it a moment before: then the loop looks again.
        select x.id, x.events, x."order", x.group_concurrency, x.group_policies, x.namespace, x.name into q from pgqueue.queue x where x.id = answer_key.queue_id;
        task_lane := n.priority * 65536 + coalesce(n.bucket, 0);
        task_grp := case when n.group_name is not null or q."order" = 'fifo' then pgqueue.hash_group(coalesce(n.group_name, '')) end;
        delete from pgqueue.delayed y where y.due_at = n.delayed_at and y.task_id = n.id;
        was_delayed := found;
        exit when was_delayed;

        delete from pgqueue.group_waiting w
        where w.queue_id = answer_key.queue_id and w.grp = task_grp and w.lane = task_lane and w.turn in (n.turn, n.id) and w.task_id = n.id;
        waits := found;
        exit when waits;

        delete from pgqueue.ready r
        where r.queue_id = answer_key.queue_id and r.lane = task_lane and r.turn <= n.turn and r.turn > n.turn - 32 and r.turn + r.n > n.turn
        returning r.* into run;
        continue when not found;

        -- The rest of its run stays as shorter runs.
        insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, dies_at, grp)
        select x.turn, x.task_id, run.queue_id, run.lane, run.attempt, x.n, run.dies_at, run.grp
        from (values (run.turn, run.task_id, n.turn - run.turn), (n.turn + 1, n.id + 1, run.turn + run.n - 1 - n.turn)) x (turn, task_id, n)
        where x.n > 0;
        exit;
    end loop;

    insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker, result)
    select n.id, at, n.started_at, 0, answer_key.queue_id, 7, n.attempt, n.worker,
           (select s.result from pgqueue.state s where s.queue_id = answer_key.queue_id and s.task_id = n.id);
    insert into pgqueue.task_error (queue_id, task_id, attempt, at, worker, error)
    values (answer_key.queue_id, n.id, n.attempt, answer_key.at, coalesce(n.worker, ''), format('{"error":"superseded by task %s"}', new_id)::json);
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed, worker, task_ids)
    values (answer_key.at, answer_key.queue_id, 7, n.status, 7, 1, case when was_delayed then -1 else 0 end, n.worker, case when q.events then array[n.id] end);
    if waits then
        insert into pgqueue.event (at, queue_id, kind, was, "is", n) values (answer_key.at, answer_key.queue_id, 0, 8, 0, 1);
    end if;

    -- A marker lets the group go on, in which the task may have kept a place.
    if task_grp is not null and (q."order" = 'fifo' or q.group_concurrency > 0 or q.group_policies > 0) then
        insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, grp)
        values (nextval('pgqueue.marker'), n.id, answer_key.queue_id, 2147483647, 0, 0, task_grp);
        if coalesce(current_setting('pgqueue' || '.notify', true), '') <> 'off' then
            perform pg_notify(pgqueue.channel(), '- ' || q.namespace || '/' || q.name);
        end if;
    end if;

    since := coalesce(owner.since, n.created_at);
    update pgqueue.task_key k set task_id = new_id, fingerprint = print, since = answer_key.since
    where k.queue_id = answer_key.queue_id and k.key = answer_key.key;
    answer := 'take';
end $$;

-- Refuses headers that are not an object of texts within the limits, and returns null for none.
create function pgqueue.check_headers(headers json) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    found_headers bigint;
    bytes bigint;
    wrong text;
begin
    if headers is null or json_typeof(headers) = 'null' then
        return null;
    end if;
    if json_typeof(headers) <> 'object' then
        raise exception using errcode = 'PQ422', message = format('headers: must be a JSON object, got %s; write {"name": "value"}', json_typeof(headers));
    end if;

    begin
        select count(*), sum(octet_length(h.key) + octet_length(h.value #>> '{}')),
               min(h.key) filter (where h.key = '' or json_typeof(h.value) <> 'string')
        into found_headers, bytes, wrong
        from json_each(headers) h;
    exception when untranslatable_character or invalid_text_representation then
        raise exception using errcode = 'PQ422', message = 'headers: must not contain NUL or lone surrogate escapes; remove them';
    end;

    if wrong is not null then
        raise exception using errcode = 'PQ422', message = format('headers: must have names and texts, got another form at %s; write {"name": "value"}', quote_ident(left(wrong, 64)));
    end if;
    if found_headers > 64 then
        raise exception using errcode = 'PQ422', message = format('headers: must be at most 64 headers, got %s', found_headers);
    end if;
    if bytes > 16384 then
        raise exception using errcode = 'PQ422', message = format('headers: must have at most 16384 bytes together, got %s', bytes);
    end if;
    return case when found_headers > 0 then headers end;
end $$;

-- Raises the fault of a queue name that finds no queue. No signature has the row type of a table: Citus refuses partitions then.
create function pgqueue.refuse_queue(space text, wanted text) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if space !~ '^[a-z][a-z0-9_-]{0,62}$' or space = 'pgqueue' then
        raise exception using errcode = 'PQ422', message = format(
            'namespace: must be a letter first, then at most 62 letters, digits, "_" and "-", and not the system''s own, got %s', quote_literal(left(space, 64)));
    end if;
    if wanted is null or wanted !~ '^[a-z][a-z0-9_-]{0,62}$' then
        raise exception using errcode = 'PQ422', message = format(
            'queue: must be a letter first, then at most 62 letters, digits, "_" and "-", got %s', quote_nullable(left(wanted, 64)));
    end if;
    raise exception using errcode = 'PQ404', message = format('queue %s: not found', wanted), hint = format('pgqueue create-queue %s --namespace %s', wanted, space);
end $$;

-- Creates tasks that are alike but for their payloads, in the order of the payloads, and returns their ids. A key needs one
-- payload; when a task with the key exists, its id is the answer. The statements fit any number of payloads, so one plan of each
-- serves all calls of a session.
create function pgqueue.insert_tasks(
    queue text, payloads json[], key text, delay interval, delayed_at timestamptz, priority integer, headers json, namespace text, options jsonb
) returns bigint[]
    language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
    q record;
    space text := lower(btrim(coalesce(namespace, 'default'), E' \t\n\r\v\f') collate "C");
    wanted text := lower(btrim(queue, E' \t\n\r\v\f') collate "C");
    born_at timestamptz := pgqueue.clock();
    due timestamptz;
    end_at timestamptz;
    late boolean;
    item json;
    place integer := 0; -- of an item among the payloads
    fault text;
    ids bigint[];
    print bytea;
    owner record;
    task_group text;
    task_grp bigint; -- the number of the group; null = none
    task_bucket smallint;
    on_conflict text; -- null = no rule for the key
    unique_until text;
    debounce interval;
    debounce_max interval;
    answer text;
    since timestamptz;
    waiting bigint;
    task_lane integer;
begin
    if options <> '{}' then
        task_group := pgqueue.check_options(options, array['group', 'on_conflict', 'unique_until', 'debounce', 'debounce_max']);
        if options ?| array['on_conflict', 'unique_until', 'debounce', 'debounce_max'] then
            select r.* into on_conflict, unique_until, debounce, debounce_max
            from pgqueue.read_key_rule(options, key, delay is not null or insert_tasks.delayed_at is not null) r;
            delay := coalesce(debounce, delay);
        end if;
    end if;
    select x.id, x.namespace, x.name, x.retries, x.ttl, x.events, x.fair, x."order", x.max_waiting,
           (select p.upper from pgqueue.part p order by p.lower desc limit 1) as upper
    into q from pgqueue.queue x where x.namespace = space and x.name = wanted and x.deleted_at is null;
    if not found then
        perform pgqueue.refuse_queue(space, wanted);
    end if;
    if headers is not null then
        headers := pgqueue.check_headers(headers);
    end if;
    priority := coalesce(priority, 0);
    if priority not between -32768 and 32767 then
        raise exception using errcode = 'PQ422', message = format('priority: must be a number from -32768 to 32767, got %s', priority);
    end if;
    if octet_length(key) > 255 then
        raise exception using errcode = 'PQ422', message = format('key: must have at most 255 bytes, got %s', octet_length(key));
    end if;

    -- Only the clock of the database counts.
    if delay is not null and insert_tasks.delayed_at is not null then
        raise exception using errcode = 'PQ422', message = 'delay: must not come with delayed_at; leave one out';
    end if;
    if insert_tasks.delayed_at not between '0001-01-02' and '9999-12-30' then
        raise exception using errcode = 'PQ422', message = format('delayed_at: must be a time from 1 to 9999 AD, got %s', insert_tasks.delayed_at);
    end if;
    if delay is not null then
        -- The first comparison keeps the seconds within their range, and has shorter years.
        if delay not between interval '0' and interval '87624 h' or pgqueue.in_seconds(delay) > interval '87600 h' then
            raise exception using errcode = 'PQ422', message = format('delay: must be a duration from 0 to 3650 days, got %s', delay);
        end if;
        due := nullif(born_at + pgqueue.in_seconds(delay), born_at);
    else
        due := insert_tasks.delayed_at;
    end if;
    late := coalesce(due > born_at, false);
    if q."order" = 'fifo' and priority <> 0 then
        raise exception using errcode = 'PQ422', message = format('priority: must be 0 in a fifo queue, where the order of the creates decides, got %s; leave it out', priority);
    end if;
    if task_group is not null or q."order" = 'fifo' then
        task_grp := pgqueue.hash_group(coalesce(task_group, ''));
    end if;
    if q.fair and task_group is not null then
        task_bucket := coalesce((select p.bucket from pgqueue.group_policy p where p.queue_id = q.id and p.grp = task_grp), 1 + (task_grp >> 48 & 255));
    end if;
    if q.ttl > 0 then
        end_at := greatest(born_at, due) + pgqueue.nanos(q.ttl);
    end if;

    if cardinality(payloads) > 10000 then
        raise exception using errcode = 'PQ422', message = format('payloads: must be at most 10000 tasks, got %s; split them', cardinality(payloads));
    end if;
    foreach item in array payloads loop
        fault := case when octet_length(item::text) > 1048576 then 'must have at most 1048576 bytes, got ' || octet_length(item::text)
                      else pgqueue.json_fault(item::text) end;
        if fault is not null then
            raise exception using errcode = case when octet_length(item::text) > 1048576 then 'PQ413' else 'PQ422' end,
                message = format('%s: %s', case cardinality(payloads) when 1 then 'payload' else format('payloads[%s]', place) end, fault);
        end if;
        place := place + 1;
    end loop;

    -- One sequence serves ids and turns. Background work and each create of a server make partitions ahead of need.
    if cardinality(payloads) = 1 then
        ids := array[nextval('pgqueue.turn')];
    else
        ids := array(select nextval('pgqueue.turn') from generate_series(1, cardinality(payloads)));
    end if;
    if ids[cardinality(ids)] >= coalesce(q.upper, 0) then
        raise exception using errcode = 'PQ503', message = 'partition: must exist for the next tasks, got none; repeat the transaction',
            hint = 'A server with background work makes partitions ahead of need. One transaction may create at most 524288 tasks.';
    end if;

    -- Read before a task is replaced: a replacement counts as a create.
    if q.max_waiting > 0 then
        waiting := (select k.by_status[2] + k.by_status[3] from pgqueue.count_now k where k.id = q.id);
    end if;
    if key <> '' then
        print := pgqueue.payload_print(coalesce(payloads[1]::text, '{}'));
        loop
            insert into pgqueue.task_key (queue_id, key, task_id, fingerprint) values (q.id, insert_tasks.key, ids[1], print) on conflict do nothing;
            exit when found;

            if on_conflict is not null then
                select a.answer, a.since into answer, since
                from pgqueue.answer_key(q.id, insert_tasks.key, ids[1], print, on_conflict, unique_until, born_at) a;
                exit when answer = 'take';
                continue when answer = 'again';
            end if;

            -- When the task of the key has been deleted a moment before, the key belongs to this create.
            select k.task_id, k.fingerprint,
                   exists (select 1 from pgqueue.task_now n where n.queue_id = q.id and n.id = k.task_id offset 0) as present
            into owner
            from pgqueue.task_key k where k.queue_id = q.id and k.key = insert_tasks.key;
            continue when not found;
            if not owner.present then
                update pgqueue.task_key k set task_id = ids[1], fingerprint = print
                where k.queue_id = q.id and k.key = insert_tasks.key and k.task_id = owner.task_id;
                exit when found;
                continue;
            end if;
            if owner.fingerprint <> print then
                raise exception using errcode = 'PQ409', message = format('key: must be new, or come with the same payload, got %s of task %s; use a new key',
                    quote_literal(left(key, 64)), owner.task_id);
            end if;

            -- The answer may rest on a commit that no standby has confirmed: this commit waits for the standby.
            perform pg_logical_emit_message(true, 'pgqueue', '');
            return array[owner.task_id];
        end loop;
    end if;
    if since is not null and debounce_max is not null then
        due := least(due, since + debounce_max);
        late := due > born_at;
        end_at := case when q.ttl > 0 then greatest(born_at, due) + pgqueue.nanos(q.ttl) end;
    end if;

    if q.max_waiting > 0 and cardinality(ids) + waiting > q.max_waiting then
        raise exception using errcode = 'PQ429', message = format('queue %s: has reached its limit of %s waiting tasks; repeat it later, or raise max_waiting', q.name, q.max_waiting);
    end if;

    insert into pgqueue.task (id, created_at, delayed_at, dies_at, queue_id, priority, retries, key, headers, payload, bucket, group_name)
    select i.id, born_at, due, end_at, q.id, insert_tasks.priority, q.retries, nullif(insert_tasks.key, ''),
           insert_tasks.headers, coalesce(i.payload, '{}'), task_bucket, task_group
    from unnest(ids, payloads) i (id, payload);

    task_lane := priority * 65536 + coalesce(task_bucket, 0);
    if not exists (select 1 from pgqueue.lane l where l.queue_id = q.id and l.lane = task_lane) then
        insert into pgqueue.lane (queue_id, lane) values (q.id, task_lane);
    end if;

    if late then
        insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt, dies_at, bucket, grp)
        select due, i, q.id, insert_tasks.priority, 0, end_at, task_bucket, task_grp from unnest(ids) i;
    elsif q."order" = 'fifo' then
        -- The tasks wait for their group, and a marker names the group to the next retain.
        insert into pgqueue.group_waiting (turn, task_id, queue_id, lane, attempt, dies_at, grp)
        select i, i, q.id, task_lane, 0, end_at, task_grp from unnest(ids) i;
        insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, grp) values (ids[1], ids[1], q.id, task_lane, 0, 0, task_grp);
        if cardinality(ids) > 1 then
            insert into pgqueue.event (at, queue_id, kind, was, "is", n) values (born_at, q.id, 0, 0, 8, cardinality(ids) - 1);
        end if;
    elsif cardinality(ids) = 1 then
        insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, dies_at, grp)
        values (ids[1], ids[1], q.id, task_lane, 0, 1, end_at, task_grp);
    else
        -- Rows stand for runs of at most 32 consecutive ids: other sessions take ids in between.
        insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, dies_at, grp)
        select min(r.id), min(r.id), q.id, task_lane, 0, count(*), end_at, task_grp
        from (
            select r.id, r.island, (row_number() over (partition by r.island order by r.id) - 1) / 32 as chunk
            from (select i as id, i - row_number() over (order by i) as island from unnest(ids) i) r
        ) r
        group by r.island, r.chunk;
    end if;

    if cardinality(ids) = 1 then
        insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed, task_ids)
        values (born_at, q.id, 1, 0, 1, 1, late::integer, case when q.events then ids end);
    else
        perform pgqueue.insert_events(q.id, q.events, born_at, late, ids);
    end if;

    -- NOTIFY leaves with the commit. A loader of many tasks mutes it: set local pgqueue.notify = off.
    if not late and coalesce(current_setting('pgqueue' || '.notify', true), '') <> 'off' then
        perform pg_notify(pgqueue.channel(), '- ' || q.namespace || '/' || q.name);
    end if;
    return ids;
end $$;

-- Adds the event of several creates: the feed and the counts. A row lists at most 100 runs of ids, so that PostgreSQL stores it
-- inline.
create function pgqueue.insert_events(queue_id integer, events boolean, at timestamptz, late boolean, ids bigint[]) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
    if not insert_events.events then
        insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
        values (insert_events.at, insert_events.queue_id, 1, 0, 1, cardinality(ids), case when late then cardinality(ids) else 0 end);
        return;
    end if;

    insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed, task_ids)
    select insert_events.at, insert_events.queue_id, 1, 0, 1, sum(r.n), case when late then sum(r.n) else 0 end,
           (select array_agg(v order by abs(v)) from unnest(array_agg(r.first) || (array_agg(-r.last) filter (where r.n > 1))) v)
    from (
        select r.*, (row_number() over (order by r.first) - 1) / 100 as chunk
        from (
            select min(r.id) as first, max(r.id) as last, count(*) as n
            from (select i as id, i - row_number() over (order by i) as island from unnest(ids) i) r
            group by r.island
        ) r
    ) r
    group by r.chunk;
end $$;

create function pgqueue.create_task(
    queue text, payload json default '{}', key text default null, delay interval default null, delayed_at timestamptz default null,
    priority integer default 0, headers json default null, namespace text default 'default', options jsonb default '{}'
) returns bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (pgqueue.insert_tasks(queue, array[payload], key, delay, delayed_at, priority, headers, namespace, options))[1];
end $$;

-- A literal and an untyped parameter are text.
create function pgqueue.create_task(
    queue text, payload text, key text default null, delay interval default null, delayed_at timestamptz default null,
    priority integer default 0, headers json default null, namespace text default 'default', options jsonb default '{}'
) returns bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (pgqueue.insert_tasks(queue, array[pgqueue.parse_json('payload', payload)], key, delay, delayed_at, priority, headers, namespace, options))[1];
end $$;

create function pgqueue.create_task(
    queue text, payload jsonb, key text default null, delay interval default null, delayed_at timestamptz default null,
    priority integer default 0, headers json default null, namespace text default 'default', options jsonb default '{}'
) returns bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (pgqueue.insert_tasks(queue, array[payload::json], key, delay, delayed_at, priority, headers, namespace, options))[1];
end $$;

create function pgqueue.create_tasks(
    queue text, payloads json[], delay interval default null, delayed_at timestamptz default null, priority integer default 0,
    headers json default null, namespace text default 'default', options jsonb default '{}'
) returns setof bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- A trigger for each statement also runs for a statement without rows.
    if cardinality(payloads) > 0 then
        return query select unnest(pgqueue.insert_tasks(queue, payloads, null, delay, delayed_at, priority, headers, namespace, options));
    end if;
end $$;

create function pgqueue.create_tasks(
    queue text, payloads text[], delay interval default null, delayed_at timestamptz default null, priority integer default 0,
    headers json default null, namespace text default 'default', options jsonb default '{}'
) returns setof bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query select pgqueue.create_tasks(queue,
        array(select pgqueue.parse_json(format('payloads[%s]', i.place - 1), i.payload) from unnest(payloads) with ordinality i (payload, place) order by i.place),
        delay, delayed_at, priority, headers, namespace, options);
end $$;

create function pgqueue.create_tasks(
    queue text, payloads jsonb[], delay interval default null, delayed_at timestamptz default null, priority integer default 0,
    headers json default null, namespace text default 'default', options jsonb default '{}'
) returns setof bigint
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query select pgqueue.create_tasks(queue, payloads::json[], delay, delayed_at, priority, headers, namespace, options);
end $$;

-- Reads a JSON text, or raises its fault.
create function pgqueue.parse_json(field text, value text) returns json
    language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return value::json;
exception when invalid_text_representation or untranslatable_character or statement_too_complex then
    raise exception using errcode = 'PQ422', message = format('%s: must be one JSON value, got %s; correct it', field, quote_literal(left(value, 64)));
end $$;

-- Completes a retained task in the transaction of the caller: its effects and its end commit together. It waits for another
-- transaction that has locked the lease. A repeat of a completion does nothing; the token of an earlier lease is PQ410. A task
-- with a requested cancellation ends cancelled.
create function pgqueue.complete_task(id bigint, token bigint, result json default null, options jsonb default '{}') returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    l record;
    q pgqueue.queue;
    ended_at timestamptz;
    place integer;
    outcome smallint; -- a status: 4 released, 7 cancelled
    fault text;
begin
    perform pgqueue.check_options(options, '{}');
    if octet_length(result::text) > 1048576 then
        raise exception using errcode = 'PQ413', message = format('result: must have at most 1048576 bytes, got %s', octet_length(result::text));
    end if;
    fault := pgqueue.json_fault(result::text);
    if fault is not null then
        raise exception using errcode = 'PQ422', message = 'result: ' || fault;
    end if;

    -- The lease row is the lock. A heartbeat may move the task to another row of the lease while this statement waits, so a
    -- second look follows the first.
    for look in 1..3 loop
        select x.ctid, x.* into l
        from pgqueue.lease x
        where x.token = complete_task.token - complete_task.token % 256 and x.task_ids[complete_task.token % 256 + 1] = complete_task.id
        for update;
        exit when found;
    end loop;
    if found then
        select x.* into q from pgqueue.queue x where x.id = l.queue_id and x.deleted_at is null;
    end if;
    if q.id is null then
        perform pgqueue.check_completed(id, token);
        return;
    end if;

    ended_at := pgqueue.clock();
    place := token % 256 + 1;
    outcome := case when id = any (l.cancels) then 7 else 4 end;
    if l.held = 1 then
        delete from pgqueue.lease x where x.ctid = l.ctid;
    else
        -- The other tasks keep their places, because a token is that of the row plus the place.
        update pgqueue.lease x
        set held = x.held - 1, task_ids[place] = 0, cancels = nullif(array_remove(x.cancels, complete_task.id), '{}')
        where x.ctid = l.ctid;
    end if;

    -- The end of the task frees its place, and the next retain looks at the group.
    if coalesce(l.grps[place], 0) <> 0 and (q."order" = 'fifo' or q.group_concurrency > 0 or q.group_policies > 0) then
        insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, grp)
        values (nextval('pgqueue.marker'), complete_task.id, q.id, 2147483647, 0, 0, l.grps[place]);
    end if;
    if q.gated and coalesce(current_setting('pgqueue' || '.notify', true), '') <> 'off' then
        perform pg_notify(pgqueue.channel(), '- ' || q.namespace || '/' || q.name);
    end if;

    insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker, result)
    values (complete_task.id, ended_at, l.retained_at, complete_task.token, q.id, outcome,
            coalesce(l.attempts[place], 1) & 8191, l.worker, complete_task.result);
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, worker, task_ids)
    values (ended_at, q.id, case outcome when 7 then 7 else 3 end, 3, outcome, 1, l.worker, case when q.events then array[complete_task.id] end);
end $$;

create function pgqueue.complete_task(id bigint, token bigint, result text, options jsonb default '{}') returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pgqueue.complete_task(id, token, pgqueue.parse_json('result', result), options);
end $$;

create function pgqueue.complete_task(id bigint, token bigint, result jsonb, options jsonb default '{}') returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pgqueue.complete_task(id, token, result::json, options);
end $$;

-- Returns for a task that this lease has completed before, and raises the fault of any other. A task that the lease gave back
-- or failed runs again, so the effects of a late completion must not commit.
create function pgqueue.check_completed(id bigint, token bigint) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    n record;
begin
    select x.last_token, x.status into n
    from pgqueue.queue k
    cross join lateral (select x.last_token, x.status from pgqueue.task_now x where x.queue_id = k.id and x.id = check_completed.id offset 0) x
    where k.deleted_at is null;
    if not found then
        raise exception using errcode = 'PQ404', message = format('task %s: not found', id);
    end if;
    if n.last_token is distinct from token or n.status not in (4, 7) then
        raise exception using errcode = 'PQ410', message = format('token: must be that of the present lease of task %s, got %s; roll back, another worker may hold the task', id, token);
    end if;
    -- The first completion may lack the confirmation of a standby: this commit waits for it.
    perform pg_logical_emit_message(true, 'pgqueue', '');
end $$;

-- The views. They contain no payload, result, progress or header. A task past its retention is not shown.

create view pgqueue.tasks as
select n.id, n.namespace, n.queue,
       (array['new', 'retry', 'retained', 'released', 'failed', 'expired', 'cancelled'])[n.status] as status,
       n.priority, n.key, n.attempt, n.retries, n.worker, n.cancel_requested,
       n.created_at, n.delayed_at, n.started_at, n.finished_at, n.dies_at, n.expires_at as lease_expires_at,
       n.group_name as "group"
from pgqueue.task_now n;

-- A duration that is not set is null, but for the retention that holds.
create view pgqueue.queues as
select q.namespace, q.name as queue, case when q.ttl > 0 then pgqueue.nanos(q.ttl) end as ttl, q.retries,
       pgqueue.nanos(q.retry_delay) as retry_delay, q.backoff,
       case when q.retry_max_delay > 0 then pgqueue.nanos(q.retry_max_delay) end as retry_max_delay,
       pgqueue.nanos(q.lease) as lease, nullif(q.concurrency, 0) as concurrency, pgqueue.stay(q.retention, q.ttl) as retention,
       q.paused, q.events, q.version, q.created_at, q.updated_at,
       q.fair, nullif(q.rate_limit, 0) as rate_limit, pgqueue.nanos(q.rate_period) as rate_period, q.rate_burst,
       nullif(q.group_concurrency, 0) as group_concurrency, nullif(q.group_rate_limit, 0) as group_rate_limit,
       pgqueue.nanos(q.group_rate_period) as group_rate_period, q.group_rate_burst, q."order", q.fifo_batch, q.group_on_failure,
       nullif(q.max_waiting, 0) as max_waiting, q.paused_until, q.group_policies, q.non_retryable,
       nullif(q.max_lease_losses, 0) as max_lease_losses, nullif(q.dead_letter, '') as dead_letter
from pgqueue.queue q where q.deleted_at is null;

-- The kept counts of a queue with the events since. It counts no tasks.
create view pgqueue.queue_stats as
select k.namespace, k.name as queue, k.by_status[2] as new, k.by_status[3] as retry, k.by_status[4] as retained, k.by_status[5] as released,
       k.by_status[6] as failed, k.by_status[7] as expired, k.by_status[8] as cancelled, k.delayed,
       r.ready, k.group_waiting,
       k.created / k.seconds as created_per_second, k.finished / k.seconds as finished_per_second, k.paused,
       k.concurrency, -- the most tasks that may be retained at once; 0 = no limit
       -- the slots that work off the ready tasks within 30 s; the rule is that of queue.ScaleQueues
       case when k.paused or k.paused_until is not null or r.ready = 0 then k.by_status[4]::float8
            else greatest(k.by_status[4], 1, least(k.by_status[4] + s.ready * coalesce(least(1, w.length / 30), 1),
                nullif(k.concurrency, 0), s.rate * w.length)) end as wanted_slots,
       k.paused_until, -- end of a pause that ends by itself; null = none now
       s.rate as starts_per_second -- the most by the rate limit; null = no limit
from pgqueue.count_now k
cross join lateral (select greatest(k.by_status[2] + k.by_status[3] - k.delayed - k.group_waiting, 0) as ready) r
-- The ready tasks that may start within 30 s, and the seconds that a task takes, as far as they are known
cross join lateral (select nullif(k.starts_per_second, 0) as rate, least(r.ready, nullif(k.starts_per_second, 0) * 30) as ready) s
cross join lateral (select k.by_status[4] / nullif(k.finished / k.seconds, 0) as length) w;

create view pgqueue.workers as
select q.namespace, l.worker, sum(l.held)::bigint as held, min(l.retained_at) as since,
       array_agg(distinct q.name order by q.name) as queues, min(l.expires_at) as expires_at
from pgqueue.lease l join pgqueue.queue q on q.id = l.queue_id and q.deleted_at is null
group by q.namespace, l.worker;

create view pgqueue.tickers as
select t.namespace, t.name as ticker, case when t.period > 0 then pgqueue.nanos(t.period) end as period, nullif(t.cron, '') as cron,
       coalesce(nullif(t.timezone, ''), 'UTC') as timezone, nullif(t.queue, '') as queue, t.misfire, t.misfire_limit, t.overlap, t.paused,
       t.last_at, t.next_at, nullif(t.fault, '') as fault, t.version, t.created_at, t.updated_at
from pgqueue.ticker t;

create view pgqueue.ticks as
select k.id, t.namespace, t.name as ticker, k.at, k.fired_at, k.task_id as task, q.name as queue, k.skipped, k.manual
from pgqueue.tick k
join pgqueue.ticker t on t.id = k.ticker_id
left join pgqueue.queue q on q.id = k.queue_id and q.deleted_at is null;

create view pgqueue.errors as
select e.task_id as task, q.namespace, q.name as queue, e.attempt, e.at, e.worker, e.error, e.kind as error_kind, e.fingerprint
from pgqueue.task_error e join pgqueue.queue q on q.id = e.queue_id and q.deleted_at is null;

-- PUBLIC may execute every new function by default. Roles get the functions that they need: scripts/roles.sql.
do $$
declare
    f regprocedure;
begin
    for f in select p.oid from pg_proc p where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = 'pgqueue.queue'::regclass) loop
        execute format('revoke execute on function %s from public', f);
    end loop;
end $$;
