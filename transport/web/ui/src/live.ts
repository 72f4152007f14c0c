// One stream of events for a browser. The tab that holds a lock reads it and passes it on to the others. A hidden tab gives the
// lock away, so a hidden browser has no stream. The next one resumes behind the last event that any tab has seen.

import { effect, signal } from "@preact/signals";
import { type ID, type Stats, down } from "./api";
import { type Value, parse } from "./exact";
import { identity, may } from "./rights";
import { apiURL, route } from "./route";

export interface Event {
  kind: string; task: ID; queue: string; namespace: string; status?: string; worker?: string; at: string; cursor: string;
}

/** pulse is the time of the last event; 0 = none yet. */
export const pulse = signal(0);

/** recent holds the newest events, newest first. */
export const recent = signal<Event[]>([]);

/** seen counts the events since the page was opened, and by their kind. */
export const seen = signal<Record<string, number>>({});

/** stream says how the page learns of changes. */
export const stream = signal<"live" | "connecting" | "off">("off");

/** The most events that a tab keeps, and the time for which the leader gathers them before it passes them on, in ms. */
const maxRecent = 200;
const gather = 250;

/** counts is the last change of the numbers of queues, and counting says that such changes arrive. */
export const counts = signal<StatsChange | null>(null);
export const counting = signal(false);

export interface StatsChange { body: Stats[]; deleted?: string[] }

interface Batch { newest: Event[]; kinds: Record<string, number>; last: string }
type Message = { batch: Batch } | { counts: StatsChange } | { state: "live" | "connecting" };

let last = "";
let stop: (() => void) | null = null;
/** open is the namespace of the present stream. */
let open = "";

function accept({ batch }: { batch: Batch }) {
  last = batch.last || last;
  const kinds = { ...seen.peek() };
  for (const [kind, n] of Object.entries(batch.kinds)) kinds[kind] = (kinds[kind] ?? 0) + n;
  seen.value = kinds;
  recent.value = [...batch.newest, ...recent.peek()].slice(0, maxRecent);
  pulse.value = Date.now();
}

/** lead reads the stream until end is called. It returns the function that ends it. */
function lead(namespace: string, send: (message: Message) => void): () => void {
  let source: EventSource | null = null;
  let again = 0;
  let batch: Batch = { newest: [], kinds: {}, last: "" };
  const flush = setInterval(() => {
    if (!batch.last) return;
    send({ batch });
    batch = { newest: [], kinds: {}, last: "" };
  }, gather);

  const connect = () => {
    send({ state: "connecting" });
    const at = new URL(apiURL("/event"));
    at.searchParams.set("namespace", namespace);
    if (last) at.searchParams.set("cursor", last);
    source = new EventSource(at);
    source.onopen = () => {
      down.value = 0;
      send({ state: "live" });
    };
    source.addEventListener("task", (message) => {
      const event = { ...(parse(message.data) as { [key: string]: Value }), cursor: message.lastEventId } as unknown as Event;
      batch.last = event.cursor;
      batch.kinds[event.kind] = (batch.kinds[event.kind] ?? 0) + 1;
      batch.newest.unshift(event);
      if (batch.newest.length > maxRecent) batch.newest.pop();
    });
    source.onerror = () => {
      send({ state: "connecting" });
      if (source?.readyState !== EventSource.CLOSED) return;
      // The server refused: the cursor is too old, or the session has ended. Begin at the present.
      last = "";
      again = window.setTimeout(connect, 5_000);
    };
  };
  connect();

  // The server reads the numbers once a second for all its viewers, and sends the queues that have changed.
  let numbers: EventSource | null = null;
  let numbersAgain = 0;
  const count = () => {
    const at = new URL(apiURL("/stats"));
    at.searchParams.set("namespace", namespace);
    numbers = new EventSource(at);
    numbers.addEventListener("stats", (message) => send({ counts: parse(message.data) as unknown as StatsChange }));
    numbers.onerror = () => {
      counting.value = false;
      if (numbers?.readyState === EventSource.CLOSED) numbersAgain = window.setTimeout(count, 5_000);
    };
  };
  if (may("queue.read")) count();
  return () => {
    clearInterval(flush);
    clearTimeout(again);
    clearTimeout(numbersAgain);
    source?.close();
    numbers?.close();
  };
}

/** start takes part in the stream of a namespace. It returns the function that leaves it. */
function start(namespace: string): () => void {
  const name = `pgqueue ${new URL(document.baseURI).pathname} ${namespace}`;
  const channel = "BroadcastChannel" in window ? new BroadcastChannel(name) : null;
  const take = (message: Message) => {
    if ("batch" in message) accept(message);
    else if ("counts" in message) {
      counting.value = true;
      counts.value = message.counts;
    } else stream.value = message.state;
  };
  const send = (message: Message) => {
    take(message);
    channel?.postMessage(message);
  };
  if (channel) channel.onmessage = ({ data }) => take(data as Message);

  const ending = new AbortController();
  let end = () => {};
  // Locks need a secure context. Without them each tab has a stream.
  if (navigator.locks)
    navigator.locks
      .request(name, { signal: ending.signal }, () => new Promise<void>((release) => {
        const close = lead(namespace, send);
        end = () => {
          close();
          release();
        };
        if (ending.signal.aborted) end();
      }))
      .catch(() => {}); // the wait for the lock was ended
  else end = lead(namespace, send);
  stream.value = "live";
  return () => {
    ending.abort();
    end();
    channel?.close();
    stream.value = "off";
    counting.value = false;
    counts.value = null;
  };
}

/** watch opens the stream while the page is visible and the caller may read events. */
export function watch() {
  const visible = signal(!document.hidden);
  document.addEventListener("visibilitychange", () => {
    visible.value = !document.hidden;
  });
  addEventListener("pagehide", () => {
    visible.value = false;
  });
  addEventListener("pageshow", () => {
    visible.value = !document.hidden;
  });
  effect(() => {
    const namespace = route.value.namespace;
    const wanted = visible.value && identity.value !== null && may("event.read") ? namespace : "";
    if (wanted === open) return;
    stop?.();
    stop = null;
    if (wanted && open && wanted !== open) last = "";
    open = wanted;
    if (wanted) stop = start(wanted);
  });
}
