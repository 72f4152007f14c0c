// pg-boss at its fastest: batches fetched and completed by hand from four pollers at once, as its own workers poll no
// more often than twice a second.
import { PgBoss } from 'pg-boss';
import { play } from './play.mjs';

await play(async plan => {
  const boss = new PgBoss({ connectionString: plan.url, max: 20 });
  boss.on('error', error => console.error(error));
  await boss.start();
  const policy = plan.groups ? { policy: 'key_strict_fifo' } : {};
  await boss.createQueue('bench', policy).catch(() => {}); // another instance has made it
  const group = ({ n }) => plan.groups && { singletonKey: `g${n % plan.groups}` };
  let done = 0, working = true, pollers = [];
  const poll = async handle => {
    while (working) {
      const jobs = await boss.fetch('bench', { batchSize: 500 });
      if (!jobs.length) {
        await new Promise(again => setTimeout(again, 2));
        continue;
      }
      for (const job of jobs) handle(job.data);
      await boss.complete('bench', jobs.map(job => job.id));
      done += jobs.length;
    }
  };
  return {
    insert: payloads => boss.insert('bench', payloads.map(data => ({ data, ...group(data) }))),
    insertOne: payload => boss.send('bench', payload),
    async work(handle) {
      pollers = Array.from({ length: 4 }, () => poll(handle));
    },
    completed: async () => done,
    async close() {
      working = false;
      await Promise.all(pollers);
      await boss.stop({ graceful: false });
    },
  };
});
