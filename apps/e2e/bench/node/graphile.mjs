// Graphile Worker at its fastest: a local queue that fetches for all its workers at once, and completions in batches.
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';
import { play } from './play.mjs';

// Standard output is the conductor's.
const logger = new Logger(() => (level, message) => level === 'error' && console.error(message));

await play(async (plan, fresh) => {
  // Jobs of one named queue run one after the other. A local queue breaks that, so a plan with groups has none.
  const spec = plan.groups
    ? `json_build_object('identifier', 'bench', 'payload', p, 'queue_name', 'g' || (p->>'n')::int % ${plan.groups})`
    : "json_build_object('identifier', 'bench', 'payload', p)";
  const pgPool = new pg.Pool({ connectionString: plan.url, max: 24 });
  pgPool.on('error', error => console.error(error));
  pgPool.on('connect', client => client.on('error', error => console.error(error)));
  const utils = await makeWorkerUtils({ pgPool, logger });
  if (fresh) await utils.migrate();
  let runner, handled = 0;
  return {
    // Its bulk call is in SQL; the JSON is made in the client, as a client has it.
    insert: payloads => pgPool.query(
      `select graphile_worker.add_jobs(array(select json_populate_record(null::graphile_worker.job_spec, ${spec}) from json_array_elements($1::json) p))`,
      [JSON.stringify(payloads)],
    ),
    insertOne: payload => utils.addJob('bench', payload),
    async work(handle) {
      runner = await run({
        pgPool, logger, noHandleSignals: true,
        preset: {
          worker: {
            concurrentJobs: 24, maxPoolSize: 24, pollInterval: 20, completeJobBatchDelay: 0, failJobBatchDelay: 0,
            ...(!plan.groups && { localQueue: { size: 500, refetchDelay: { durationMs: 10 } } }),
          },
        },
        taskList: {
          bench(payload) {
            handled++;
            handle(payload);
          },
        },
      });
    },
    // A job that is done for good is deleted. Asking is dear, so it is asked when the last job of a drain was handled.
    async completed() {
      if (plan.scenario !== 'drain' || handled < plan.tasks) return Math.min(handled, plan.scenario === 'drain' ? plan.tasks - 1 : handled);
      const left = await pgPool.query('select 1 from graphile_worker._private_jobs limit 1');
      return left.rowCount ? plan.tasks - 1 : plan.tasks;
    },
    async close() {
      await runner?.stop();
      await utils.release();
      await pgPool.end();
    },
  };
});
