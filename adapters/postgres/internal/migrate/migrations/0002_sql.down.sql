drop view pgqueue.errors, pgqueue.ticks, pgqueue.tickers, pgqueue.workers, pgqueue.queue_stats, pgqueue.queues, pgqueue.tasks;
drop function pgqueue.create_task(text, json, text, interval, timestamptz, integer, json, text, jsonb),
    pgqueue.create_task(text, text, text, interval, timestamptz, integer, json, text, jsonb),
    pgqueue.create_task(text, jsonb, text, interval, timestamptz, integer, json, text, jsonb),
    pgqueue.create_tasks(text, json[], interval, timestamptz, integer, json, text, jsonb),
    pgqueue.create_tasks(text, text[], interval, timestamptz, integer, json, text, jsonb),
    pgqueue.create_tasks(text, jsonb[], interval, timestamptz, integer, json, text, jsonb),
    pgqueue.complete_task(bigint, bigint, json, jsonb), pgqueue.complete_task(bigint, bigint, text, jsonb),
    pgqueue.complete_task(bigint, bigint, jsonb, jsonb), pgqueue.check_completed(bigint, bigint),
    pgqueue.insert_tasks(text, json[], text, interval, timestamptz, integer, json, text, jsonb),
    pgqueue.insert_event(integer, boolean, timestamptz, smallint, smallint, smallint, boolean, text, bigint[]),
    pgqueue.refuse_queue(text, text), pgqueue.check_headers(json), pgqueue.check_options(jsonb, text), pgqueue.hash_group(text), pgqueue.parse_json(text, text),
    pgqueue.json_fault(text), pgqueue.brackets_of(text), pgqueue.has_lone_surrogate(text), pgqueue.payload_print(text),
    pgqueue.channel(), pgqueue.api_version();
