// A worker written with nothing but the generated types and a stack that is not pgqueue's: it creates, retains,
// heartbeats and releases a task, by unary calls and by the worker's stream, and receives a tick.
//
//   node client.js URL connect|grpc|grpcweb
import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { ErrorDetailSchema, Kind } from "./gen/pgqueue/v1/error_pb.js";
import { EventKind, EventService } from "./gen/pgqueue/v1/event_pb.js";
import { QueueService } from "./gen/pgqueue/v1/queue_pb.js";
import { Status, TaskService } from "./gen/pgqueue/v1/task_pb.js";
import { TickerService } from "./gen/pgqueue/v1/ticker_pb.js";
import { Outcome, type Release, WorkRequestSchema, WorkService } from "./gen/pgqueue/v1/work_pb.js";

const [baseUrl, protocol] = process.argv.slice(2);
const options = { baseUrl, httpVersion: "2" as const };
const transport =
  protocol === "grpc" ? createGrpcTransport(options)
  : protocol === "grpcweb" ? createGrpcWebTransport(options)
  : createConnectTransport(options);

const namespace = `node-${protocol}`;
const queue = "mail";
const payload = '{"big":123456789012345678901234567890,"a":1.50}';
const bytes = (s: string) => new TextEncoder().encode(s);
const text = (b: Uint8Array | undefined) => new TextDecoder().decode(b);

const queues = createClient(QueueService, transport);
const tasks = createClient(TaskService, transport);
const work = createClient(WorkService, transport);
const tickers = createClient(TickerService, transport);
const events = createClient(EventService, transport);

await queues.createQueue({ namespace, meta: { queue, retries: 5n, lease: { seconds: 60n } } });

// By unary calls.
const { task: made } = await tasks.createTask({ namespace, task: { queue, payload: bytes(payload) } });
assert.equal(made?.status, Status.NEW);
const { tasks: held } = await work.retainTasks({ namespace, worker: "node", queue: [queue], wait: { seconds: 10n } });
assert.equal(held.length, 1);
const [task] = held;
assert.equal(task.id, made.id);
assert.equal(text(task.payload), payload, "JSON is kept exactly");
const token = task.lease!.token;
const { beats } = await work.heartbeatTasks({ namespace, beats: [{ id: task.id, token }] });
assert.equal(beats[0].error, undefined);
const release = { id: task.id, token, outcome: Outcome.SUCCESS, result: bytes('"sent"') };
const { released } = await work.releaseTasks({ namespace, releases: [release] });
assert.equal(released[0].task?.status, Status.RELEASED);
const { released: stale } = await work.releaseTasks({ namespace, releases: [{ ...release, token: token + 1n }] });
assert.equal(stale[0].error?.kind, Kind.LEASE_LOST);

// By the worker's stream.
await tasks.createTasks({ namespace, tasks: [{ queue }, { queue }] });
type Up = MessageInitShape<typeof WorkRequestSchema>;
const outbox: Up[] = [{ hello: { namespace, worker: "node", queue: [queue] } }, { retains: [{ id: 1n, limit: 2n, wait: { seconds: 10n } }] }];
let wake = () => {};
let closed = false;
async function* up() {
  for (;;) {
    for (let m = outbox.shift(); m; m = outbox.shift()) yield create(WorkRequestSchema, m);
    if (closed) return;
    await new Promise<void>((resolve) => (wake = resolve));
  }
}
let ended = 0;
for await (const down of work.work(up())) {
  for (const answer of down.retained) {
    assert.equal(answer.error, undefined);
    assert.equal(answer.tasks.length, 2);
    const releases: Partial<Release>[] = answer.tasks.map((t) => ({ id: t.id, token: t.lease!.token, outcome: Outcome.SUCCESS }));
    outbox.push({ releases: [{ id: 2n, releases: releases as Release[] }] });
    wake();
  }
  for (const answer of down.released) {
    ended += answer.released.filter((r) => r.task?.status === Status.RELEASED).length;
    closed = true;
    wake();
  }
}
assert.equal(ended, 2);

// A tick, and the feed of events.
await tickers.createTicker({ namespace, meta: { ticker: "tick", cron: "@yearly" } });
const { tick: ran } = await tickers.runTicker({ namespace, ticker: "tick" });
for await (const { tick } of tickers.receiveTicks({ namespace })) {
  if (!tick) continue; // a sign of life
  assert.equal(tick.id, ran?.id);
  break;
}
const { events: feed } = await events.listEvents({ namespace, filter: { task: made.id } });
assert.deepEqual(feed.map((e) => e.kind), [EventKind.CREATED, EventKind.RETAINED, EventKind.RELEASED]);

// Errors carry their detail.
const err = ConnectError.from(await tasks.createTask({ namespace, task: { queue: "nowhere" } }).catch((e) => e));
assert.equal(err.code, Code.NotFound);
assert.equal(err.findDetails(ErrorDetailSchema)[0].kind, Kind.NOT_FOUND);

console.log("ok");
process.exit(0);
