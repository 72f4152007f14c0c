// Creates jobs of BullMQ that wait, and one that is delayed: node bullmq.mjs SOCKET
import { Queue } from 'bullmq';
import Redis from 'ioredis';

const redis = new Redis(process.argv[2]);
const queue = new Queue('mail', { connection: redis });
await queue.add('send', { n: 9 }, { delay: 3600_000 });
for (let n = 0; n < 5; n++) {
  await queue.add('send', { n, s: 'it\'s "so" \\ äß' }, { jobId: `key-${n}` });
}
await queue.close();
redis.disconnect();
