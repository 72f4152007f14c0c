// One queue: its state, its settings, the workers on it, the ways into its tasks.

import { useSignal } from "@preact/signals";
import { type AuditEntry, type List, type Queue as Policy, Problem, type Stats, type Ticker, type Worker, changes, paths, query } from "../api";
import { reload, useData } from "../data";
import { Button, CopyMenu, Denied, Dialog, Empty, Loading, Menu, Page, Panel, Scroll, Trouble, When, ask, attempt, say, useOnce } from "../parts";
import { may } from "../rights";
import { go, href, route } from "../route";
import { count, duration, look, plural, rate, schedule, span, statuses } from "../words";
import { Groups, isUsed, writeRate } from "./groups";
import { History } from "./history";
import { PolicyFields, State, emptyValue, isHeldUp, readValue, textsOf, valuesOf, waits } from "./queues";
import { Why } from "./why";

async function setPaused(name: string, paused: boolean) {
  const change = (to: boolean) => (to ? changes.pauseQueue(name) : changes.resumeQueue(name));
  await attempt(paused ? `${name} is paused. Running tasks go on.` : `${name} runs again.`, () => change(paused), () => void attempt(paused ? `${name} runs again.` : `${name} is paused.`, () => change(!paused)).then(() => reload()));
  reload();
}

async function remove(name: string, total: number) {
  if (!(await ask({
    title: `Delete the queue ${name}?`, typed: name, tone: "bad", confirm: `Delete the queue and its ${plural(total, "task")}`,
    text: <p>This deletes the queue with its {plural(total, "task")}, those that run included. It cannot be undone.</p>,
  }))) return;
  if (await attempt(`Deleted the queue ${name}.`, () => changes.deleteQueue(name))) {
    go(href("queues"));
    reload();
  }
}

async function clean(name: string, total: number) {
  if (!(await ask({
    title: `Delete the tasks of ${name}?`, typed: name, tone: "bad", confirm: `Delete ${plural(total, "task")}`,
    text: <p>This deletes every task of the queue that no worker holds, about {count(total)} now. The queue stays. It cannot be undone.</p>,
  }))) return;
  let moved = 0;
  const done = await attempt("", async () => {
    for (;;) {
      const step = await changes.cleanQueue(name);
      moved += step.count;
      say(`Deleted ${plural(moved, "task")}${step.more ? ", going on" : ""}.`);
      if (!step.more) return;
    }
  });
  if (done) say(`Deleted ${plural(moved, "task")}.`);
  reload();
}

export function Queue({ name }: { name: string }) {
  const policy = useData<Policy>(may("queue.read", name) ? paths.queue(name) : null);
  // The numbers of this queue are soon there, and those of all queues, which arrive by the stream, are newer from then on.
  const own = useData<Stats>(may("queue.read", name) ? paths.queueStats(name) : null, { fixed: may("queue.read") });
  const all = useData<List<Stats>>(may("queue.read") ? paths.stats : null);
  const stats = { value: all.value?.body.find((s) => s.queue === name) ?? own.value, problem: own.problem };
  const editing = useSignal(false);
  const creating = useSignal(route.value.query.get("create") === "1");

  if (!may("queue.read", name)) return <Page title={name}><Panel><Denied action="queue.read" what="This queue is" /></Panel></Page>;
  const problem = policy.problem ?? stats.problem;
  if (problem && !policy.value)
    return (
      <Page title={name}>
        <Panel>
          {problem.code === "not_found" ? (
            <div class="empty" role="alert">
              <p class="strong">There is no queue of this name in {route.value.namespace}</p>
              <p>It may have been deleted, or it is in another namespace. Its tasks went with it.</p>
              <p><a href={href("queues", "", { find: name.slice(0, 4) })}>Look for similar names</a> or <a href={href("queues")}>see all queues</a></p>
            </div>
          ) : <Trouble problem={problem}><p><a href={href("queues")}>See all queues</a></p></Trouble>}
        </Panel>
      </Page>
    );
  if (!policy.value || !stats.value) return <Page title={name}><Panel><Loading /></Panel></Page>;

  const p = policy.value;
  const s = stats.value;
  const isPaused = p.paused || isHeldUp(p);
  const total = Object.values(s.counts).reduce((a, b) => a + b, 0);
  return (
    <Page title={name} aside={<><State s={{ ...s, paused: p.paused, paused_until: p.paused_until }} />{p.paused && <PausedBy name={name} />}</>}
      actions={
        <>
          <CopyMenu path={paths.queue(name)} command={["queue", name]} />
          <Button action="task.create" queue={name} onClick={() => (creating.value = true)}>New task</Button>
          <Button action="queue.pause" queue={name} onClick={() => setPaused(name, !isPaused)}>{isPaused ? "Resume" : "Pause"}</Button>
          <Menu label="More">
            <Button action="queue.manage" queue={name} onClick={() => (editing.value = true)}>Change settings</Button>
            <Button action="task.operate" queue={name} tone="bad" onClick={() => clean(name, total)}>Delete its tasks…</Button>
            <Button action="queue.manage" queue={name} tone="bad" onClick={() => remove(name, total)}>Delete the queue…</Button>
          </Menu>
        </>
      }>
      <Why of={{ queue: name }} />
      <div class="figures">
        <Figure title="Ready" n={count(s.ready)} text={s.since ? `oldest waits ${span(waits(s))}` : s.group_waiting ? "none may start now" : "no task waits"} />
        <Figure title="Delayed" n={count(s.delayed)} text="wait for their time" />
        {!!s.group_waiting && <Figure title="Held up" n={count(s.group_waiting)} text="wait for their group" />}
        <Figure title="Running" n={count(s.counts["retained"])} text={p.concurrency ? `of ${count(p.concurrency)} places` : "no limit"} />
        <Figure title="In" n={rate(s.created_per_second)} text="tasks a second" />
        <Figure title="Out" n={rate(s.finished_per_second)} text="tasks a second" />
      </div>
      <History name={name} />
      {isUsed(p, s.group_waiting) && <Groups queue={p} />}
      <div class="cols">
        <div>
          <Panel title="Tasks by status" aside={plural(total, "task")}>
            <ul class="statuses">
              {statuses.map((status) => {
                const n = s.counts[status] ?? 0;
                const [tone, mark, meaning] = look(status);
                return (
                  <li key={status} data-row class={n ? "" : "zero"}>
                    <a href={href("tasks", "", { queue: name, status })}><span class={`mark ${tone}`} aria-hidden="true">{mark}</span> {status}</a>
                    <span class="dim opt">{meaning}</span>
                    <span>{count(n)}</span>
                  </li>
                );
              })}
            </ul>
          </Panel>
          <Workers name={name} />
          <Tickers name={name} />
        </div>
        <Panel title="Settings" aside={`version ${p.version}`}>
          <dl>
            <dt>Concurrency</dt><dd>{p.concurrency ? count(p.concurrency) : "no limit"}</dd>
            <dt>Retries</dt><dd>{count(p.retries)}, {p.backoff} from {duration(p.retry_delay)} to {duration(p.retry_max_delay)}</dd>
            <dt>Lease</dt><dd>{duration(p.lease)}</dd>
            <dt>TTL</dt><dd>{p.ttl ? duration(p.ttl) : "none"}</dd>
            <dt>Retention</dt><dd>{p.retention ? duration(p.retention) : p.ttl ? `${duration(p.ttl)}, as the TTL` : "7d"}</dd>
            {writeFlow(p).map(([title, text]) => <><dt>{title}</dt><dd>{text}</dd></>)}
            <dt>Created</dt><dd><When at={p.created_at} /></dd>
            <dt>Changed</dt><dd><When at={p.updated_at} /></dd>
          </dl>
        </Panel>
      </div>
      {editing.value && <Edit policy={p} onClose={() => (editing.value = false)} />}
      {creating.value && <CreateTask queue={name} onClose={() => (creating.value = false)} />}
    </Page>
  );
}

/** PausedBy names the principal that paused a queue, to callers that may read the audit. */
function PausedBy({ name }: { name: string }) {
  const data = useData<List<AuditEntry>>(may("audit.read") ? `/audit${query({ queue: name, action: "queue.pause", outcome: "ok", limit: 50 })}` : null);
  const last = data.value?.body.find((e) => e.changes?.some((change) => change.field === "paused" && change.new === "true"));
  if (!last) return null;
  return <span class="dim">by <a href={href("access", "", { tab: "audit", queue: name, action: "queue.pause" })}><bdi>{last.principal_name || last.principal_id}</bdi></a>, <When at={last.at} /></span>;
}

function Workers({ name }: { name: string }) {
  const workers = useData<List<Worker>>(may("worker.read") ? paths.workers : null);
  const on = (workers.value?.body ?? []).filter((w) => w.queues.includes(name));
  return (
    <Panel title="Workers on it" aside={workers.value ? count(on.length) : ""}>
      {!may("worker.read") ? <Denied action="worker.read" what="Workers are" />
        : workers.problem && !workers.value ? <Trouble problem={workers.problem} />
        : !workers.value ? <Loading />
        : on.length === 0 ? <Empty>No worker holds a task of this queue. Workers that wait for a task do not show here.</Empty> : (
          <Scroll label="Workers on it">
            <table>
              <thead><tr><th scope="col">Worker</th><th scope="col">Holds</th><th scope="col">Since</th><th scope="col">First lease ends</th></tr></thead>
              <tbody>{on.slice(0, 20).map((w) => <tr key={w.worker}><td><a class="name" href={href("tasks", "", { queue: name, worker: w.worker, status: "retained" })}><bdi>{w.worker}</bdi></a></td><td>{count(w.held)}</td><td><When at={w.since} /></td><td><When at={w.expires_at} /></td></tr>)}</tbody>
            </table>
          </Scroll>
        )}
    </Panel>
  );
}

function Tickers({ name }: { name: string }) {
  const tickers = useData<List<Ticker>>(may("ticker.read") ? paths.tickers : null);
  const into = (tickers.value?.body ?? []).filter((t) => t.queue === name);
  if (into.length === 0) return null;
  return (
    <Panel title="Tickers into it" aside={count(into.length)}>
      <table><tbody>{into.slice(0, 20).map((t) => <tr key={t.ticker}><td><a class="name" href={href("ticker", t.ticker)}>{t.ticker}</a></td><td class="left wrap">{schedule(t)}</td><td>{t.paused ? "paused" : <When at={t.next_at} />}</td></tr>)}</tbody></table>
    </Panel>
  );
}

/** writeFlow returns the settings of shares, limits and order that are in use. */
function writeFlow(p: Policy): [string, string][] {
  const all: [string, string | undefined][] = [
    ["Groups", p.fair ? "share the queue fairly" : ""],
    ["Rate", writeRate(p.rate_limit, p.rate_period)],
    ["Group concurrency", p.group_concurrency ? count(p.group_concurrency) : ""],
    ["Group rate", writeRate(p.group_rate_limit, p.group_rate_period)],
    ["Order", p.order === "fifo" ? `one after the other in each group${(p.fifo_batch ?? 1) > 1 ? `, ${p.fifo_batch} at a time` : ""}; a failed task ${p.group_on_failure === "block" ? "blocks its group" : "is skipped"}` : ""],
    ["Full from", p.max_waiting ? plural(p.max_waiting, "waiting task") : ""],
    ["Quarantine", p.max_lease_losses ? `after ${plural(p.max_lease_losses, "lost lease")} in a row` : ""],
    ["Dead letters to", p.dead_letter],
    ["No retry of", (p.non_retryable ?? []).join(", ")],
  ];
  return all.filter((row): row is [string, string] => !!row[1]);
}

function Figure({ title, n, text }: { title: string; n: string; text: string }) {
  return <div class="figure"><span class="dim">{title}</span><b>{n}</b><span class="dim">{text}</span></div>;
}

function Edit({ policy, onClose }: { policy: Policy; onClose: () => void }) {
  const fault = useSignal("");
  const values = valuesOf(policy);
  const submit = useOnce(async (event) => {
    const texts = Object.entries(textsOf(new FormData(event.currentTarget as HTMLFormElement))).filter(([name, text]) => text !== values[name]);
    const changed = Object.fromEntries(texts.map(([name, text]) => [name, readValue(name, text)]));
    if (!Object.keys(changed).length) return onClose();
    try {
      const next = await changes.updateQueue(policy.queue, policy.version, changed);
      const before = Object.fromEntries(texts.filter(([name]) => values[name] || !name.endsWith("_period")).map(([name]) => [name, values[name] ? readValue(name, values[name]) : emptyValue(name)]));
      onClose();
      reload();
      say(`Changed ${Object.keys(changed).join(", ").replaceAll("_", " ")}.`, () => void attempt("Undone.", () => changes.updateQueue(policy.queue, next.version, before)).then(() => reload()));
    } catch (error) {
      fault.value = error instanceof Problem && error.code === "precondition_failed" ? "The settings have changed meanwhile. Close this, look at the new ones, and change them again." : (error as Error).message;
    }
  });
  return (
    <Dialog title={`Settings of ${policy.queue}`} onClose={onClose} wide>
      <form onSubmit={submit}>
        <PolicyFields values={values} />
        {fault.value && <p class="fault" role="alert">{fault.value}</p>}
        <div class="buttons"><button type="button" onClick={onClose}>Leave it</button><Button action="queue.manage" queue={policy.queue} type="submit" tone="main">Change</Button></div>
      </form>
    </Dialog>
  );
}

/** CreateTask makes a task, at first with the given payload: "again, edited". */
export function CreateTask({ queue, payload = "{}", priority = 0, headers = {}, onClose }: { queue: string; payload?: string; priority?: number; headers?: Record<string, string>; onClose: () => void }) {
  const fault = useSignal("");
  const submit = useOnce(async (event) => {
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = String(form.get("payload") ?? "").trim() || "{}";
    const delay = String(form.get("delay") ?? "").trim();
    // The payload goes as it was typed, because a number may be too large for this browser.
    const rest = JSON.stringify({ queue, priority: Number(form.get("priority") || 0), ...(delay ? { delay } : {}), ...(Object.keys(headers).length ? { headers } : {}) });
    try {
      JSON.parse(text);
    } catch (error) {
      fault.value = `payload: must be JSON, got a text that is not: ${(error as Error).message}`;
      return;
    }
    try {
      const task = await changes.createTask(`${rest.slice(0, -1)},"payload":${text}}`);
      say(`Created task ${task.id}.`);
      onClose();
      reload();
      go(href("task", String(task.id)));
    } catch (error) {
      fault.value = (error as Error).message;
    }
  });
  return (
    <Dialog title={`New task in ${queue}`} onClose={onClose} wide>
      <form onSubmit={submit}>
        <label class="field"><span>Payload, JSON</span><textarea name="payload" rows={10} spellcheck={false} defaultValue={payload} /></label>
        <div class="two">
          <label class="field"><span>Priority</span><input name="priority" type="number" min={-32768} max={32767} defaultValue={String(priority)} /><small class="dim">smaller first</small></label>
          <label class="field"><span>Delay</span><input name="delay" autoComplete="off" placeholder="10m" /><small class="dim">empty = now</small></label>
        </div>
        {fault.value && <p class="fault" role="alert">{fault.value}</p>}
        <div class="buttons"><button type="button" onClick={onClose}>Leave it</button><Button action="task.create" queue={queue} type="submit" tone="main">Create the task</Button></div>
      </form>
    </Dialog>
  );
}
