// Calls of the REST API.

import { signal } from "@preact/signals";
import { type Raw, parse } from "./exact";
import { apiURL, route, settings } from "./route";

export type ID = number | string;

export interface Queue {
  queue: string; namespace: string; paused: boolean; concurrency: number; retries: number; backoff: string; version: number;
  ttl?: number; retention?: number; lease?: number; retry_delay?: number; retry_max_delay?: number; events?: boolean;
  created_at: string; updated_at: string;
  fair?: boolean; rate_limit?: number; rate_period?: number; rate_burst?: number; group_concurrency?: number; group_rate_limit?: number;
  group_rate_period?: number; group_rate_burst?: number; order?: string; fifo_batch?: number; group_on_failure?: string; max_waiting?: number;
  non_retryable?: string[]; max_lease_losses?: number; dead_letter?: string;
  group_policies?: number; paused_until?: string;
}

export interface Group {
  queue: string; group: string; waiting: number; retained: number; weight?: number; concurrency?: number; rate_limit?: number; rate_period?: number;
  rate_burst?: number; paused_until?: string; next?: string; blocked?: ID;
}

export interface Stats {
  queue: string; namespace: string; paused: boolean; ready: number; delayed: number; oldest_ready_age?: number; group_waiting?: number;
  created_per_second: number; finished_per_second: number; counts: Record<string, number>; concurrency?: number; paused_until?: string;
  /** since is when the oldest ready task became ready, in ms of the server. The stream leaves out an age that grows with time. */
  since?: number;
}

export interface Task {
  id: ID; queue: string; namespace: string; status: string; priority: number; attempt: number; retries: number;
  created_at: string; delayed_at?: string; started_at?: string; finished_at?: string; dies_at?: string;
  worker?: string; key?: string; group?: string; headers?: Record<string, string>; cancel_requested?: boolean;
  payload?: Raw; result?: Raw; progress?: Raw; lease?: { expires_at: string; token: ID };
  errors?: { at: string; attempt: number; worker?: string; error?: Raw; error_kind?: string }[];
}

export interface Ticker {
  ticker: string; namespace: string; queue?: string; cron?: string; period?: number; timezone?: string; paused?: boolean; misfire: string;
  misfire_limit?: number; overlap: string; fault?: string; next_at?: string; timestamp?: string; payload?: Raw; version: number; created_at: string;
}

export interface Tick {
  id: ID; ticker: string; timestamp: string; fired_at?: string; manual?: boolean; skipped?: boolean; task?: ID; queue?: string;
}

export interface Worker { worker: string; held: number; since: string; expires_at: string; queues: string[] }

export interface Token {
  id: string; name: string; grants: string[]; live: boolean; created_by: string; created_at: string; expires_at?: string; used_at?: string; revoked_at?: string;
}

export interface Session {
  id: string; name: string; grants: string[]; kind: string; live: boolean; created_at: string; expires_at: string; used_at: string;
}

export interface AuditEntry {
  id: ID; at: string; principal_id: string; principal_name?: string; principal_kind?: string; action?: string; operation?: string; outcome: string;
  namespace?: string; queue?: string; task?: ID; ticker?: string; token?: string; filter?: string; matched?: number; moved?: number; calls: number; remote?: string; reason?: string;
  changes?: AuditChange[];
}

/** AuditChange is a setting before and after; absent = unknown or none. */
export interface AuditChange { field: string; old?: string; new?: string }

export interface Identity { id: string; name: string; kind: string; grants: string[] }

export interface List<T> { body: T[]; count: number; at_least?: boolean; next?: string; examined?: number }

export interface Bulk { matched: number; moved: number; more?: boolean; next?: string; errors?: { id: ID; error: { detail: string } }[] }

/** Problem is an error of the API, or of the way to it: then its code is unreachable. */
export class Problem extends Error {
  constructor(readonly status: number, readonly code: string, detail: string, readonly field = "") {
    super(field && !detail.startsWith(field) ? `${field}: ${detail}` : detail);
  }
}

/** skew is the time of the server minus that of this browser, in milliseconds. */
export const skew = signal(0);

/** down says since when the server does not answer; 0 = it does. */
export const down = signal(0);

/** signedOut says that the server wants a sign-in. */
export const signedOut = signal(false);

/** holding keeps the page in view after the session has ended, while it shows a secret that no other page shows again. */
export const holding = signal(false);

const contents = ["payload", "result", "progress", "error"];

interface Options {
  method?: string;
  body?: unknown;
  /** headers beside those of every call. */
  headers?: Record<string, string>;
  /** raw are the members that stay texts. */
  raw?: string[];
  /** quiet leaves the state of the page unchanged on 401. */
  quiet?: boolean;
  signal?: AbortSignal;
}

/** urlOf returns the address of a path of the API. A path that begins with "!" is beside the API, as the readiness is. */
const urlOf = (path: string) => (path[0] === "!" ? new URL(settings.root + path.slice(1), document.baseURI).href : apiURL(path));

/** call sends a request and returns the value of the answer. It throws a Problem. A call takes at most 30 s. */
export const call = async <T>(path: string, options: Options = {}) => read<T>(await send(path, options), options.raw);

/** read returns the value of the text of an answer. */
export const read = <T>(text: string, raw: readonly string[] = contents) => (text ? parse(text, raw) : undefined) as T;

/** send sends a request and returns the text of the answer. It throws a Problem. */
export async function send(path: string, options: Options = {}): Promise<string> {
  const headers: Record<string, string> = { Accept: "application/json", ...options.headers };
  if (route.peek().namespace) headers["Pgqueue-Namespace"] = route.peek().namespace;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  const limit = AbortSignal.timeout(30_000);
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(urlOf(path), {
      method: options.method ?? "GET", headers, cache: "no-store", credentials: "same-origin",
      body: options.body === undefined ? undefined : typeof options.body === "string" ? options.body : JSON.stringify(options.body),
      signal: options.signal ? AbortSignal.any([options.signal, limit]) : limit,
    });
    text = await answer.text();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    down.value ||= Date.now();
    throw new Problem(0, "unreachable", limit.aborted ? "The server has not answered for 30 s." : "The server does not answer.");
  }
  if (answer.status < 502 || answer.status > 504) down.value = 0;
  noteClock(answer);
  // A server that is not ready says why in the same form as one that is.
  const report = answer.status === 503 && path[0] === "!";
  if (answer.ok || report) return text;

  let problem = { code: "", detail: "", field: "" };
  try {
    problem = { ...problem, ...(JSON.parse(text) as object) };
  } catch {
    problem.detail = `The server answered with status ${answer.status}.`;
  }
  if (answer.status === 401 && !options.quiet) signedOut.value = true;
  throw new Problem(answer.status, problem.code || String(answer.status), problem.detail, problem.field);
}

/** noteClock follows the clock of the server. Its header has whole seconds, so a small difference counts as none. */
function noteClock(answer: Response) {
  const date = Date.parse(answer.headers.get("Date") ?? "");
  if (Number.isNaN(date)) return;
  const difference = date + 500 - Date.now();
  const next = Math.abs(difference) < 2000 ? 0 : difference;
  if (Math.abs(next - skew.peek()) > 1500) skew.value = next;
}

const part = encodeURIComponent;

/** query writes parameters; empty ones are left out. */
export function query(parameters: Record<string, string | number | string[] | undefined>): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters))
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== "") search.append(key, String(one));
  return search.size ? `?${search}` : "";
}

/** The paths of reads, which are also the keys of their cached answers. */
export const paths = {
  whoami: "/whoami",
  namespaces: "/namespace?limit=1000",
  stats: "/stats",
  queue: (name: string) => `/queue/${part(name)}`,
  failures: (name: string, parameters: { after?: string; before?: string } = {}) => `/queue/${part(name)}/failure${query(parameters)}`,
  groups: (name: string, parameters: Record<string, string | number>) => `/queue/${part(name)}/group${query(parameters)}`,
  queueStats: (name: string) => `/queue/${part(name)}/stats`,
  tasks: (parameters: Record<string, string | number | string[] | undefined>) => `/task${query(parameters)}`,
  task: (id: ID) => `/task/${part(String(id))}`,
  tickers: "/ticker?limit=1000",
  ticker: (name: string) => `/ticker/${part(name)}`,
  preview: (name: string, n: number) => `/ticker/${part(name)}/preview?n=${n}`,
  ticks: (name: string) => `/ticker/${part(name)}/ticks?limit=20`,
  workers: "/worker",
  tokens: "/token",
  sessions: "/session",
};

const post = <T>(path: string, body?: unknown) => call<T>(path, { method: "POST", body });

/** writeSelection writes a selection. Its ids are texts of digits, because a number of this browser may be too small for them. */
function writeSelection({ ids, ...rest }: Record<string, unknown>): string {
  const text = JSON.stringify(rest);
  if (!ids) return text;
  return `${text.slice(0, -1)}${text === "{}" ? "" : ","}"ids":[${(ids as string[]).filter((id) => /^\d+$/.test(id)).join()}]}`;
}

/** The changes. */
export const changes = {
  pauseQueue: (name: string) => post<Queue>(`/queue/${part(name)}/pause`),
  resumeQueue: (name: string) => post<Queue>(`/queue/${part(name)}/resume`),
  createQueue: (body: object) => post<Queue>("/queue", body),
  updateQueue: (name: string, version: number, body: object) =>
    call<Queue>(`/queue/${part(name)}`, { method: "PATCH", body, headers: { "If-Match": `"${version}"` } }),
  deleteQueue: (name: string) => call<Queue>(`/queue/${part(name)}`, { method: "DELETE" }),
  updateGroup: (name: string, group: string, body: object) => call<Group>(`/queue/${part(name)}/group/${part(group)}`, { method: "PATCH", body }),
  unblockGroup: (name: string, group: string) => post<Group>(`/queue/${part(name)}/group/${part(group)}/unblock`),
  cleanQueue: (name: string) => post<{ count: number; more?: boolean }>(`/queue/${part(name)}/clean?within=5s`),
  createTask: (body: string) => post<Task>("/task", body),
  move: (kind: string, selection: Record<string, unknown>) => call<Bulk>(`/task/${kind}`, { method: "POST", body: writeSelection(selection), raw: [] }),
  cancelTask: (id: ID) => post<Task>(`/task/${part(String(id))}/cancel`),
  retryTask: (id: ID) => post<Task>(`/task/${part(String(id))}/retry`),
  deleteTask: (id: ID) => call<void>(`/task/${part(String(id))}`, { method: "DELETE" }),
  pauseTicker: (name: string, paused: boolean) => call<Ticker>(`/ticker/${part(name)}`, { method: "PATCH", body: { paused } }),
  runTicker: (name: string) => post<Tick>(`/ticker/${part(name)}/run`),
  createToken: (body: object) => post<Token & { token: string }>("/token", body),
  revokeToken: (id: string) => call<Token>(`/token/${part(id)}`, { method: "DELETE" }),
  endSession: (id: string) => call<Session>(`/session/${part(id)}`, { method: "DELETE" }),
  signIn: (body: object) => call<Session>("/session", { method: "POST", body, quiet: true }),
  signOut: () => call<void>("/session", { method: "DELETE" }),
};
