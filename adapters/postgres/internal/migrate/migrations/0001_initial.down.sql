drop view pgqueue.count_now, pgqueue.task_now;
drop function pgqueue.prune_audit(bigint, integer);
drop table pgqueue.home, pgqueue.place, pgqueue.cell, pgqueue.audit, pgqueue.session, pgqueue.access_token, pgqueue.tick, pgqueue.ticker, pgqueue.queue_history, pgqueue.queue_count, pgqueue.fold, pgqueue.event_snapshot, pgqueue.event, pgqueue.task_key,
    pgqueue.task_error, pgqueue.request, pgqueue.state, pgqueue.lease_beat, pgqueue.lease, pgqueue.group_wake, pgqueue.group_policy, pgqueue.group_state, pgqueue.group_waiting, pgqueue.delayed, pgqueue.ready, pgqueue.part, pgqueue.done,
    pgqueue.task, pgqueue.lane, pgqueue.queue;
drop sequence pgqueue.turn, pgqueue.token, pgqueue.number, pgqueue.marker;
drop function pgqueue.stay(bigint, bigint), pgqueue.nanos(bigint), pgqueue.clock_inlined(), pgqueue.clock();
