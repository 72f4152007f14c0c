// Failed tasks in groups of like errors.

import { useSignal } from "@preact/signals";
import { type ID, type List, type Stats, paths } from "../api";
import type { Raw } from "../exact";
import { reload, useData } from "../data";
import { errorText } from "../json";
import { Button, CopyMenu, Denied, Empty, Loading, Page, Panel, Scroll, Trouble, When, now, usePart, utc } from "../parts";
import { may } from "../rights";
import { href, route, setQuery } from "../route";
import { count, plural } from "../words";
import { Moving } from "./tasks";

interface Group {
  fingerprint?: string; kind?: string; message?: string; count: number; first_at: string; last_at: string; ids: ID[];
  sample: { task: ID; at: string; error?: Raw };
}

interface Groups { queue: string; examined: number; more?: boolean; count: number; body: Group[] }

/** The most queues whose groups show at once. Each costs a read. */
const maxQueues = 10;

/** The most tasks of a group that have a link. */
const maxLinks = 100;

const hour = 3_600_000;

/** startOfDay returns the last midnight of the zone in which the page shows times. */
function startOfDay(at: number): number {
  const date = new Date(at);
  return utc.value ? date.setUTCHours(0, 0, 0, 0) : date.setHours(0, 0, 0, 0);
}

/** The spans of time to choose from: the address gets their ends, so that a link keeps its meaning. */
const spans: [string, (at: number) => [after: number, before: number]][] = [
  ["Any time", () => [0, 0]],
  ["Last hour", (at) => [at - hour, 0]],
  ["Today", (at) => [startOfDay(at), 0]],
  ["Yesterday", (at) => [startOfDay(startOfDay(at) - hour), startOfDay(at)]],
  ["Last 7 days", (at) => [at - 7 * 24 * hour, 0]],
];

const instant = (at: number) => (at ? new Date(at).toISOString() : "");

function Times() {
  const { query } = route.value;
  const [after, before] = [query.get("after") ?? "", query.get("before") ?? ""];
  // A bound is exclusive, so the first millisecond of a day is in it.
  const ends = spans.map(([, of]) => of(Math.floor(now.value / 60_000) * 60_000).map((n, index) => instant(n && index === 0 ? n - 1 : n)));
  const chosen = ends.findIndex(([from, to]) => from === after && to === before);
  return (
    <div class="filters">
      <div class="chips" role="group" aria-label="Time of the failures">
        {spans.map(([title], index) => (
          <button type="button" key={title} class={`toggle ${index === chosen ? "on" : ""}`} aria-pressed={index === chosen}
            onClick={() => setQuery({ after: ends[index]![0]!, before: ends[index]![1]! })}>{title}</button>
        ))}
      </div>
      {[["after", "Ended after", after], ["before", "Ended before", before]].map(([name, title, value]) => (
        <label key={name}><span>{title}</span><input type="datetime-local" value={local(value!)} onChange={(event) => setQuery({ [name!]: event.currentTarget.value && new Date(event.currentTarget.value).toISOString() })} /></label>
      ))}
    </div>
  );
}

/** local writes an instant for a field of a form, in the zone of the browser. */
function local(at: string): string {
  const date = new Date(at);
  // A bound that ends before a full minute means that minute.
  return !at || Number.isNaN(date.getTime()) ? "" : new Date(date.getTime() + 1 - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export function Failures() {
  const { query } = route.value;
  const only = query.get("queue") ?? "";
  const all = useData<List<Stats>>(may("queue.read") && !only ? paths.stats : null);
  const own = useData<Stats>(only && may("queue.read", only) ? paths.queueStats(only) : null);
  const stats = only ? { value: own.value && { body: [own.value] }, problem: own.problem } : all;
  const time = { after: query.get("after") ?? "", before: query.get("before") ?? "" };
  const timed = !!(time.after || time.before);
  const failing = (stats.value?.body ?? []).filter((s) => (s.counts["failed"] ?? 0) > 0 && (!only || s.queue === only)).sort((a, b) => b.counts["failed"]! - a.counts["failed"]!);
  const command = only ? ["failures", only, ...(time.after ? [`--after=${time.after}`] : []), ...(time.before ? [`--before=${time.before}`] : [])] : ["tasks", "--status", "failed"];
  return (
    <Page title="Failures" aside={only && <span class="dim">of {only}, <a href={href("failures", "", time)}>all queues</a></span>}
      actions={<CopyMenu path={only ? paths.failures(only, time) : paths.tasks({ status: "failed" })} command={command} />}>
      {!may("queue.read", only) ? <Panel><Denied action="queue.read" what="Failures are" /></Panel>
        : stats.problem && !stats.value ? <Panel><Trouble problem={stats.problem}>{only && <p><a href={href("failures")}>Show the failures of all queues</a></p>}</Trouble></Panel>
        // The groups of one queue need not wait for its numbers.
        : !stats.value && only ? <><Panel><Times /></Panel><Queue name={only} time={time} timed={timed} /></>
        : !stats.value ? <Panel><Loading /></Panel>
        : failing.length === 0 ? <Panel><Empty><span class="mark ok" aria-hidden="true">✓</span> No failed task is kept{only && ` in ${only}`}.</Empty></Panel>
        : (
          <>
            <Panel><Times /></Panel>
            {failing.slice(0, maxQueues).map((s) => <Queue key={s.queue} name={s.queue} failed={s.counts["failed"]!} time={time} timed={timed} />)}
          </>
        )}
      {failing.length > maxQueues && <p class="dim">and {plural(failing.length - maxQueues, "more queue")} with failed tasks: {failing.slice(maxQueues, maxQueues + 20).map((s) => <span key={s.queue}><a href={href("failures", "", { queue: s.queue, ...time })}>{s.queue}</a> </span>)}</p>}
    </Page>
  );
}

function Queue({ name, failed, time, timed }: { name: string; failed?: number; time: { after: string; before: string }; timed: boolean }) {
  const readable = may("task.read", name);
  const groups = useData<Groups>(readable ? paths.failures(name, time) : null);
  const moving = useSignal<Group | null>(null);
  const [part, controls] = usePart(groups.value?.body ?? [], 20);
  const list = href("tasks", "", { queue: name, status: "failed", finished_after: time.after, finished_before: time.before });
  return (
    <Panel title={<a href={href("failures", "", { queue: name, ...time })}>{name}</a>} aside={<a href={list}>{timed ? "all of this time" : failed === undefined ? "all failed tasks" : plural(failed, "failed task")}</a>}>
      {!readable ? <Denied action="task.read" what="The failed tasks are" />
        : groups.problem && !groups.value ? <Trouble problem={groups.problem}><p><a href={href("failures", "", { queue: name })}>Show the failures of any time</a></p></Trouble>
        : !groups.value ? <Loading />
        : groups.value.body.length === 0 ? <Empty>No task of {name} failed in this time.</Empty>
        : (
          <>
            <Scroll label={`Failures of ${name}`}>
              <table>
                <thead><tr><th scope="col" class="left">Error</th><th scope="col">Tasks</th><th scope="col" class="opt">First</th><th scope="col" class="opt">Last</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
                <tbody>
                  {part.map((g) => (
                    <tr key={g.fingerprint ?? String(g.sample.task)} data-row>
                      <td class="left wrap error">
                        <a class="name" href={href("task", String(g.sample.task))}><bdi>{g.message || g.kind || (g.sample.error ? errorText(g.sample.error).slice(0, 200) : `as in task ${g.sample.task}`)}</bdi></a>
                        {g.kind && g.message && <span class="dim"> <bdi>{g.kind}</bdi></span>}
                        {!may("task.payload", name) && <span class="dim"> its text needs the role viewer</span>}
                        <div class="narrow dim"><When at={g.first_at} /> to <When at={g.last_at} /></div>
                        {g.count > 1 && <Links ids={g.ids.map(String)} />}
                      </td>
                      <td>{count(g.count)}</td>
                      <td class="opt"><When at={g.first_at} /></td>
                      <td class="opt"><When at={g.last_at} /></td>
                      <td><Button action="task.operate" queue={name} class="small" aria-label={`Retry ${plural(g.count, "task")} with this error`} onClick={() => (moving.value = g)}>Retry {count(g.count)}…</Button></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </Scroll>
            {controls}
            {groups.value.more && <p class="fine dim">These are the newest {count(groups.value.examined)} {timed ? "of this time" : failed === undefined ? "failed tasks" : `of ${count(failed)} failed tasks`}. The <a href={list}>list</a> has all.</p>}
          </>
        )}
      {moving.value && <Moving move="retry" selection={{ ids: moving.value.ids.map(String) }} all onClose={() => { moving.value = null; reload(); }} />}
    </Panel>
  );
}

/** Links leads to the tasks of a group, folded away at first. */
function Links({ ids }: { ids: string[] }) {
  const open = useSignal(false);
  return (
    <details class="links" open={open.value} onToggle={(event) => (open.value = event.currentTarget.open)}>
      <summary>{plural(ids.length, "task")}</summary>
      {open.value && <div>{ids.slice(0, maxLinks).map((id) => <span key={id}><a href={href("task", id)}>{id}</a> </span>)}{ids.length > maxLinks && <span class="dim">and {count(ids.length - maxLinks)} more</span>}</div>}
    </details>
  );
}
