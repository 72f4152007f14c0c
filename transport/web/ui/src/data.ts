// Answers of reads, shared by all parts of the page and read again while it is visible.

import { type Signal, effect, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type List, Problem, type Stats, paths, read as readText, send, skew } from "./api";
import { counting, counts, pulse } from "./live";
import { route } from "./route";

interface Entry<T> {
  value?: T;
  problem?: Problem;
  /** at is the time of the last answer by the clock of the browser. */
  at: number;
  loading: boolean;
  /** size is the length of the answer: a long one is read less often. */
  size?: number;
}

/** The most answers that the page keeps. The least recently used go first. */
const maxEntries = 40;
const cache = new Map<string, Signal<Entry<unknown>>>();

/** The least time between two reads that events cause, and the time after which a page without events reads again, in ms. */
const shortest = 2_000;
/** So many letters of an answer make that least time one second longer: that of 5,000 queues is 10 s. */
const lettersPerSecond = 128 << 10;
const longest = 15_000;

function entryOf(key: string): Signal<Entry<unknown>> {
  const entry = cache.get(key) ?? signal<Entry<unknown>>({ at: 0, loading: false });
  cache.delete(key);
  cache.set(key, entry);
  for (const oldest of cache.keys()) {
    if (cache.size <= maxEntries) break;
    cache.delete(oldest);
  }
  return entry;
}

const keyOf = (path: string) => `${route.value.namespace} ${path}`;

/** Tabs of a browser share the answers with this start, which many pages show. One of them asks, and the others take its answer. */
const shared = ["/stats", "/worker", "/ticker?"];
const others = "BroadcastChannel" in window ? new BroadcastChannel(`pgqueue answers ${new URL(document.baseURI).pathname}`) : null;
if (others)
  others.onmessage = ({ data: { key, text } }: MessageEvent<{ key: string; text: string }>) => {
    const entry = users.get(key) ? cache.get(key) : undefined;
    if (entry) entry.value = { value: readAnswer(key.split(" ")[1]!, text), at: Date.now(), loading: false, size: text.length };
  };

/** note fills in since when the oldest task of each queue waits, at the time of an answer. */
function note(all: Stats[]): Stats[] {
  const at = Date.now() + skew.peek();
  for (const s of all) s.since = s.oldest_ready_age ? at - s.oldest_ready_age / 1e6 : undefined;
  return all;
}

/** readAnswer returns the value of the text of an answer to path. */
function readAnswer(path: string, text: string): unknown {
  const value = readText<unknown>(text);
  if (path === paths.stats) note((value as List<Stats>).body);
  else if (path.endsWith("/stats")) note([value as Stats]);
  return value;
}

/** read asks for path now, unless this tab or another one does. */
async function read(path: string, entry: Signal<Entry<unknown>>) {
  if (entry.peek().loading) return;
  const key = keyOf(path);
  if (!others || !navigator.locks || !shared.some((start) => path.startsWith(start))) return readNow(path, entry);
  await navigator.locks.request(`pgqueue ${new URL(document.baseURI).pathname} ${key}`, { ifAvailable: true }, async (lock) => {
    if (!lock) return;
    const text = await readNow(path, entry);
    if (text) others.postMessage({ key, text });
  });
}

/** readNow returns the text of the answer; "" after a problem. */
async function readNow(path: string, entry: Signal<Entry<unknown>>): Promise<string> {
  entry.value = { ...entry.peek(), loading: true };
  try {
    const text = await send(path);
    entry.value = { value: readAnswer(path, text), at: Date.now(), loading: false, size: text.length };
    return text;
  } catch (error) {
    // An old answer stays in view while the server does not answer.
    const problem = error instanceof Problem ? error : new Problem(0, "internal", String(error));
    const keep = problem.status === 0 || problem.status >= 500 || problem.status === 429;
    entry.value = { value: keep ? entry.peek().value : undefined, problem, at: Date.now(), loading: false };
    return "";
  }
}

/** reload reads an answer again, and all others when their part comes into view the next time. */
export function reload(...only: string[]) {
  for (const [key, entry] of cache) {
    const [, path = ""] = key.split(" ");
    if (only.length && !only.some((start) => path.startsWith(start))) continue;
    if (users.get(key)) void read(path, entry);
    else cache.delete(key);
  }
}

/** forget drops all answers, as after a sign-in. */
export const forget = () => cache.clear();

// The stream of numbers changes the answer that it is about.
effect(() => {
  const change = counts.value;
  const entry = change && cache.get(keyOf(paths.stats));
  const old = entry?.peek();
  if (!entry || !old?.value) return;
  const all = new Map((old.value as List<Stats>).body.map((s) => [s.queue, s]));
  for (const s of note(change.body)) if (s.namespace === route.peek().namespace) all.set(s.queue, s);
  for (const name of change.deleted ?? []) all.delete(name);
  const body = [...all.values()];
  entry.value = { ...old, value: { ...(old.value as List<Stats>), body, count: body.length } };
});

/** users counts the parts of the page that show an answer. */
const users = new Map<string, number>();

/** useData returns the answer of a read and keeps it fresh: after events, or every 15 s. A path of null reads nothing. */
export function useData<T>(path: string | null, options: { fixed?: boolean } = {}): Entry<T> {
  const key = path === null ? "" : keyOf(path);
  const entry = path === null ? null : entryOf(key);
  useEffect(() => {
    if (path === null || !entry) return;
    users.set(key, (users.get(key) ?? 0) + 1);
    if (Date.now() - entry.peek().at > shortest / 2) void read(path, entry);
    const timer = setInterval(() => {
      if (document.hidden || options.fixed) return;
      const age = Date.now() - entry.peek().at;
      // Their changes arrive by a stream. A read now and then finds what a broken stream has missed.
      if (path === paths.stats && counting.peek() && age < 4 * longest) return;
      const least = shortest + ((entry.peek().size ?? 0) / lettersPerSecond) * 1_000;
      if (age >= longest || (pulse.peek() > entry.peek().at && age >= least)) void read(path, entry);
    }, 500);
    return () => {
      clearInterval(timer);
      const left = (users.get(key) ?? 1) - 1;
      if (left) users.set(key, left);
      else users.delete(key);
    };
  }, [key]);
  return (entry?.value ?? { at: 0, loading: false }) as Entry<T>;
}
