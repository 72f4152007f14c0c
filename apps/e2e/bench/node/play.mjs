// The scripts of ../internal/contender/play.go for contenders written in JavaScript; the protocol is that of
// ../internal/plan: a line of JSON where a phase begins and where it ends, and a line to wait for after each.
import { createInterface } from 'node:readline';

const sleep = ms => new Promise(done => setTimeout(done, ms));
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function say(message) {
  process.stdout.write(JSON.stringify(message) + '\n');
  await input.next();
}

async function phase(name, script) {
  await say({ begin: name });
  const begin = performance.now();
  const result = await script();
  result.seconds ||= (performance.now() - begin) / 1000;
  await say({ end: name, result });
}

// quantiles of a sample in milliseconds, by the nearest rank.
function quantiles(sample) {
  if (!sample.length) return { n: 0, p50: 0, p95: 0, p99: 0, max: 0, mean: 0 };
  sample.sort((a, b) => a - b);
  const at = q => sample[Math.max(Math.ceil(q * sample.length), 1) - 1];
  return {
    n: sample.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sample.at(-1),
    mean: sample.reduce((a, b) => a + b, 0) / sample.length, curve: Array.from({ length: 101 }, (_, i) => at(i / 100)),
  };
}

function pad(size) {
  const some = '0123456789abcdefghijklmnopqrstuvwxyz';
  let text = '';
  for (let seed = 1; text.length < size - 40;) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    text += some[(seed >>> 16) % some.length];
  }
  return text;
}

// play lets a contender play the plan of the command line. open(plan, fresh) gives
// { insert(payloads), insertOne(payload), work(handle), completed(), close() }, with fresh on an empty database.
export async function play(open) {
  const plan = JSON.parse(process.argv[2]);
  const q = await open(plan, true);
  const filling = pad(plan.payload_bytes);
  const payload = (n, at) => ({ n, ...(at && { at }), ...(filling && { pad: filling }) });
  const batch = (from, n) => Array.from({ length: n }, (_, i) => payload(from + i));
  const producers = script => Promise.all(Array.from({ length: plan.producers }, script));

  const scripts = {
    async drain() {
      await phase('insert', async () => {
        let next = 0;
        await producers(async () => {
          while (next < plan.tasks) {
            const from = next;
            next += plan.batch;
            await q.insert(batch(from, Math.min(plan.batch, plan.tasks - from)));
          }
        });
        return { n: plan.tasks };
      });
      await phase('drain', async () => {
        await q.work(() => {});
        while (await q.completed() < plan.tasks) await sleep(2);
        return { n: plan.tasks };
      });
    },

    async live() {
      await q.work(() => {});
      await phase('live', async () => {
        const begin = performance.now(), stop = begin + plan.seconds * 1000, series = [];
        let inserted = 0, last = 0, at = begin;
        const second = setInterval(async () => {
          const done = await q.completed(), now = performance.now();
          series.push((done - last) / (now - at) * 1000);
          [last, at] = [done, now];
        }, 1000);
        await producers(async () => {
          while (performance.now() < stop) {
            if (inserted - await q.completed() > 20000) {
              await sleep(1);
              continue;
            }
            inserted += plan.batch;
            await q.insert(batch(inserted, plan.batch));
          }
        });
        clearInterval(second);
        return { n: await q.completed(), seconds: (performance.now() - begin) / 1000, series };
      });
    },

    async offered() {
      const total = Math.floor(plan.seconds * plan.rate), sample = [];
      await q.work(p => sample.push(performance.now() - p.at));
      await sleep(1000);
      await phase('offered', async () => {
        const begin = performance.now(), gap = 1000 / plan.rate, inserts = [];
        for (let n = 0; n < total; await sleep(10)) {
          const due = [];
          for (; n < total && begin + n * gap <= performance.now(); n++) due.push(payload(n, begin + n * gap));
          if (due.length) inserts.push(q.insert(due));
        }
        await Promise.all(inserts);
        for (let i = 0; i < 6000 && sample.length < total; i++) await sleep(10);
        return {
          n: sample.length, seconds: (performance.now() - begin) / 1000, errors: total - sample.length,
          latency: { due: quantiles([...sample]) },
        };
      });
    },

    async pickup() {
      let picked;
      await q.work(p => picked?.(performance.now()));
      await phase('rest', async () => {
        await sleep(2000);
        return { n: 0 };
      });
      const measure = async from => {
        const call = [], commit = [];
        for (let n = 0; n < plan.samples; n++) {
          const taken = new Promise(done => (picked = done)), called = performance.now();
          await from.insertOne(payload(n));
          const committed = performance.now(), at = await taken;
          call.push(at - called);
          commit.push(Math.max(at - committed, 0));
          await sleep(10);
        }
        return { n: plan.samples, latency: { call: quantiles(call), commit: quantiles(commit) } };
      };
      await phase('pickup', () => measure(q));
      const other = await open(plan, false);
      await phase('pickup apart', () => measure(other));
      await other.close();
    },
  };
  await scripts[plan.scenario]();
  await q.close();
  process.exit(0);
}
