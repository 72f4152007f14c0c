// The overview: what needs attention first, in words; then all queues.

import { type List, type Stats, type Ticker, type Worker, changes, paths } from "../api";
import { reload, useData } from "../data";
import { Button, Denied, Empty, Loading, Page, Panel, Scroll, Trouble, When, attempt, minute, now } from "../parts";
import { may } from "../rights";
import { href } from "../route";
import { count, plural, schedule, span } from "../words";
import { QueueTable, isHeldUp, waits } from "./queues";

interface Concern {
  level: "bad" | "warn";
  kind: "paused" | "heldup" | "waits" | "failed" | "expired" | "fault" | "late";
  subject: string;
  to: string;
  text: preact.ComponentChildren;
  action: preact.ComponentChildren;
  /** weight orders concerns of one level. */
  weight: number;
}

/** A task that waits longer than this is worth a line, and so is a ticker that is this late; in seconds. */
const longWait = 60;
const lateTick = 30;

/** findConcerns says what is wrong, from the numbers that the page has. */
export function findConcerns(stats: Stats[], workers: Worker[], tickers: Ticker[], at: number): Concern[] {
  const found: Concern[] = [];
  for (const s of stats) {
    const name = s.queue;
    const age = waits(s);
    const held = s.counts["retained"] ?? 0;
    const add = (kind: Concern["kind"], level: Concern["level"], weight: number, text: Concern["text"], action: Concern["action"]) =>
      found.push({ kind, level, weight, subject: name, to: href("queue", name), text, action });
    // A time of day is what an operator compares with a deploy or an alarm.
    const since = <>{span(age)}, since {minute(s.since ?? at)}</>;
    const look = <a class="button" href={href("queue", name)}>Why</a>;

    if (s.paused && s.ready > 0)
      add("paused", "warn", s.ready, <>paused, and {plural(s.ready, "task waits", "tasks wait")}, the oldest for {since}</>,
        <Button action="queue.pause" queue={name} onClick={() => resume(name)}>Resume</Button>);
    else if (isHeldUp(s) && s.ready > 0)
      add("heldup", "warn", s.ready, <>held up, and {plural(s.ready, "task waits", "tasks wait")}: a worker reported that the other side asked for it. It ends <When at={s.paused_until} /></>, look);
    else if (s.ready > 0 && age >= longWait) {
      const on = workers.filter((w) => w.queues.includes(name)).sort((a, b) => Date.parse(a.since) - Date.parse(b.since));
      if (s.concurrency && held >= s.concurrency)
        add("waits", "warn", age, <>oldest task waits {since}: all {held} of {s.concurrency} places are taken{on[0] && <>, the oldest by <b><bdi>{on[0].worker}</bdi></b> since {span((at - Date.parse(on[0].since)) / 1000)}</>}</>, look);
      else if (held === 0)
        add("waits", "bad", age, <>{plural(s.ready, "task waits", "tasks wait")}, the oldest for {since}, and no worker holds a task of this queue</>, look);
      else if (s.created_per_second >= 0.1 && s.created_per_second > s.finished_per_second * 1.1)
        add("waits", "warn", age, <>oldest task waits {since}: {s.created_per_second.toFixed(1)} tasks a second come in, {s.finished_per_second.toFixed(1)} end</>, look);
      else add("waits", "warn", age, <>oldest task waits {since}: {plural(s.ready, "task")} before a worker is free</>, look);
    }
    const failed = s.counts["failed"] ?? 0;
    if (failed > 0)
      add("failed", "bad", failed, <>{plural(failed, "task has", "tasks have")} failed and {failed === 1 ? "has" : "have"} no retries left</>,
        <a class="button" href={href("failures", "", { queue: name })}>Look</a>);
    const expired = s.counts["expired"] ?? 0;
    if (expired > 0)
      add("expired", "warn", expired, <>{plural(expired, "task")} expired before {expired === 1 ? "it" : "they"} ended</>,
        <a class="button" href={href("tasks", "", { queue: name, status: "expired" })}>Look</a>);
  }
  for (const t of tickers) {
    const to = href("ticker", t.ticker);
    const late = t.next_at ? (at - Date.parse(t.next_at)) / 1000 : 0;
    const action = <a class="button" href={to}>Look</a>;
    if (t.fault) found.push({ kind: "fault", level: "bad", weight: 0, subject: t.ticker, to, text: <>ticker cannot fire: <bdi>{t.fault}</bdi></>, action });
    else if (!t.paused && late > lateTick)
      found.push({ kind: "late", level: "warn", weight: late, subject: t.ticker, to, text: <>tick is {span(late)} late: no process does background work, or the database is busy</>, action });
  }
  return found.sort((a, b) => (a.level === b.level ? b.weight - a.weight : a.level === "bad" ? -1 : 1));
}

async function resume(name: string) {
  await attempt(`${name} runs again.`, () => changes.resumeQueue(name), () => void attempt(`${name} is paused.`, () => changes.pauseQueue(name)).then(() => reload()));
  reload();
}

/** The most concerns that show at once. */
const maxConcerns = 8;

export function Overview() {
  const stats = useData<List<Stats>>(may("queue.read") ? paths.stats : null);
  const workers = useData<List<Worker>>(may("worker.read") ? paths.workers : null);
  const tickers = useData<List<Ticker>>(may("ticker.read") ? paths.tickers : null);
  if (!may("queue.read"))
    return <Page title="Overview"><Panel><Denied action="queue.read" what="The queues of the namespace are" /></Panel></Page>;
  if (stats.problem && !stats.value) return <Page title="Overview"><Panel><Trouble problem={stats.problem} /></Panel></Page>;
  if (!stats.value) return <Page title="Overview"><Panel><Loading /></Panel></Page>;

  const all = stats.value.body;
  // Whole minutes are enough here, and keep the rows from changing each second.
  const concerns = findConcerns(all, workers.value?.body ?? [], tickers.value?.body ?? [], Math.floor(now.value / 10_000) * 10_000);
  const next = (tickers.value?.body ?? []).filter((t) => !t.paused && t.next_at).sort((a, b) => Date.parse(a.next_at!) - Date.parse(b.next_at!)).slice(0, 6);
  return (
    <Page title="Overview">
      {all.length > 0 && (
        <Panel class="need" title={concerns.length ? "Needs attention" : "All is well"} aside={concerns.length ? count(concerns.length) : ""}>
          {concerns.length === 0 ? <p class="fine"><span class="mark ok" aria-hidden="true">✓</span> No queue is stuck, no task has failed, no ticker is late.</p> : (
            <ul>
              {concerns.slice(0, maxConcerns).map((c) => (
                <li key={`${c.kind} ${c.subject}`} data-row>
                  <span class={`mark ${c.level}`} aria-hidden="true">{c.level === "bad" ? "▲" : "◆"}</span>
                  <a class="name" href={c.to}>{c.subject}</a>
                  <span>{c.text}</span>
                  {c.action}
                </li>
              ))}
            </ul>
          )}
          {concerns.length > maxConcerns && <p class="fine dim">and {plural(concerns.length - maxConcerns, "more concern")}, in the <a href={href("queues")}>queues</a></p>}
        </Panel>
      )}
      <Panel title="Queues" aside={<Totals all={all} />}>
        {all.length === 0 ? <Welcome /> : <QueueTable stats={all} />}
      </Panel>
      {next.length > 0 && (
        <Panel title="Next ticks" aside={<a href={href("tickers")}>all tickers</a>}>
          <Scroll label="Next ticks">
            <table>
              <thead class="hidden"><tr><th>Ticker</th><th>Schedule</th><th>Next</th></tr></thead>
              <tbody>
                {next.map((t) => (
                  <tr key={t.ticker}>
                    <td><a class="name" href={href("ticker", t.ticker)}>{t.ticker}</a></td>
                    <td class="left wrap">{schedule(t)}{t.queue && <> → <a href={href("queue", t.queue)}>{t.queue}</a></>}</td>
                    <td><When at={t.next_at} /></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scroll>
        </Panel>
      )}
    </Page>
  );
}

function Totals({ all }: { all: Stats[] }) {
  const sum = (of: (s: Stats) => number | undefined) => all.reduce((n, s) => n + (of(s) ?? 0), 0);
  return <>{count(sum((s) => s.ready))} ready, {count(sum((s) => s.counts["retained"]))} running, {count(sum((s) => s.delayed))} delayed</>;
}

function Welcome() {
  return (
    <Empty>
      <p class="strong">This namespace has no queue yet.</p>
      <p>Make one on the page <a href={href("queues", "", { create: "1" })}>Queues</a>, or with a command:</p>
      <p><code>pgqueue create-queue mail</code></p>
    </Empty>
  );
}
