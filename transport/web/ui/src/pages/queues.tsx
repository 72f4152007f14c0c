// The list of queues.

import { useSignal } from "@preact/signals";
import { type List, type Queue, type Stats, changes, paths } from "../api";
import { reload, useData } from "../data";
import { Button, Chip, CopyMenu, Denied, Dialog, Empty, Loading, Page, Panel, Scroll, Trouble, When, now, say, usePart, useOnce } from "../parts";
import { may } from "../rights";
import { go, href, route, setQuery } from "../route";
import { count, duration, rate, span } from "../words";

/** waits returns for how many seconds the oldest ready task of a queue waits; 0 = there is none. */
export const waits = (s: Stats) => (s.since ? Math.max((now.value - s.since) / 1000, 0.1) : 0);

/** State says in one word how a queue is. */
export function State({ s }: { s: Stats }) {
  const held = s.counts["retained"] ?? 0;
  if (s.paused) return <Chip tone="off" mark="‖">paused</Chip>;
  if (isHeldUp(s)) return <Chip tone="warn" mark="‖" title="A worker reported that the other side asked for it">held up, ends <When at={s.paused_until} /></Chip>;
  if (s.ready > 0 && waits(s) >= 60)
    return held === 0 ? <Chip tone="bad" mark="▲" title="No worker holds a task of this queue">stuck</Chip>
      : s.concurrency && held >= s.concurrency ? <Chip tone="warn" mark="◆" title="All places are taken">full</Chip>
      : <Chip tone="warn" mark="◆" title="Tasks wait for more than a minute">behind</Chip>;
  if (held > 0 || s.finished_per_second > 0) return <Chip tone="ok" mark="●">working</Chip>;
  if (s.ready > 0) return <Chip tone="run" mark="◔">waiting</Chip>;
  return <Chip tone="off" mark="○">idle</Chip>;
}

const Zero = ({ n }: { n: number | undefined }) => <span class={n ? "" : "zero"}>{count(n)}</span>;

type Sort = "name" | "ready" | "failed" | "oldest" | "in" | "out";

const orders: Record<Sort, (a: Stats, b: Stats) => number> = {
  name: (a, b) => (a.queue < b.queue ? -1 : 1),
  ready: (a, b) => b.ready - a.ready,
  failed: (a, b) => (b.counts["failed"] ?? 0) - (a.counts["failed"] ?? 0),
  oldest: (a, b) => waits(b) - waits(a),
  in: (a, b) => b.created_per_second - a.created_per_second,
  out: (a, b) => b.finished_per_second - a.finished_per_second,
};

export function QueueTable({ stats }: { stats: Stats[] }) {
  const sort = (route.value.query.get("sort") ?? "name") as Sort;
  const sorted = [...stats].sort(orders[sort] ?? orders.name);
  const [part, controls] = usePart(sorted);
  const Head = ({ by, children, opt }: { by: Sort; children: string; opt?: boolean }) => (
    <th scope="col" class={opt ? "opt" : ""} aria-sort={sort === by ? (by === "name" ? "ascending" : "descending") : undefined}>
      <button type="button" class="sort" onClick={() => setQuery({ sort: by === "name" ? "" : by })}>{children}{sort === by && <span aria-hidden="true">{by === "name" ? " ↑" : " ↓"}</span>}</button>
    </th>
  );
  return (
    <>
      <Scroll label="Queues">
        <table>
          <thead>
            <tr>
              <Head by="name">Queue</Head><th scope="col" class="left">State</th><Head by="ready">Ready</Head><th scope="col" class="opt">Delayed</th><th scope="col" class="opt2">Running</th>
              <Head by="failed">Failed</Head><Head by="oldest">Oldest</Head><Head by="in" opt>In /s</Head><Head by="out" opt>Out /s</Head>
            </tr>
          </thead>
          <tbody>
            {part.map((s) => {
              const held = s.counts["retained"] ?? 0;
              const most = s.concurrency ?? 0;
              return (
                <tr key={s.queue} data-row>
                  <td><a class="name" href={href("queue", s.queue)}>{s.queue}</a></td>
                  <td class="left"><State s={s} /></td>
                  <td><Zero n={s.ready} /></td>
                  <td class="opt"><Zero n={s.delayed} /></td>
                  <td class="opt2">{most ? <>{count(held)} / {count(most)}<meter class={held >= most ? "full" : ""} min={0} max={most} value={held} aria-label={`${held} of ${most} places taken`} /></> : <Zero n={held} />}</td>
                  <td>{s.counts["failed"] ? <a class="badtext" href={href("failures", "", { queue: s.queue })}>{count(s.counts["failed"])}</a> : <Zero n={0} />}</td>
                  <td>{s.since ? span(waits(s)) : <span class="zero">–</span>}</td>
                  <td class="opt"><span class={s.created_per_second ? "" : "zero"}>{rate(s.created_per_second)}</span></td>
                  <td class="opt"><span class={s.finished_per_second ? "" : "zero"}>{rate(s.finished_per_second)}</span></td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </Scroll>
      {controls}
    </>
  );
}

export function Queues() {
  const stats = useData<List<Stats>>(may("queue.read") ? paths.stats : null);
  const { query } = route.value;
  const find = query.get("find") ?? "";
  const all = (stats.value?.body ?? []).filter((s) => s.queue.includes(find.trim().toLowerCase()));
  return (
    <Page title="Queues" actions={<><CopyMenu path="/stats" command={["queues"]} /><Button action="queue.manage" tone="main" onClick={() => setQuery({ create: "1" })}>New queue</Button></>}>
      <Panel>
        <div class="filters">
          <label class="grow"><span class="hidden">Filter by name</span><input type="search" data-filter placeholder="Filter by name" value={find} spellcheck={false} onInput={(event) => setQuery({ find: event.currentTarget.value })} /></label>
        </div>
        {!may("queue.read") ? <Denied action="queue.read" what="The queues of the namespace are" />
          : stats.problem && !stats.value ? <Trouble problem={stats.problem} />
          : !stats.value ? <Loading />
          : all.length === 0 ? <Empty>{find ? <>No queue has “{find}” in its name.</> : <>This namespace has no queue yet. <code>pgqueue create-queue mail</code> makes one, and so does the button above.</>}</Empty>
          : <QueueTable stats={all} key={find} />}
      </Panel>
      {query.get("create") && <Create onClose={() => setQuery({ create: "" })} />}
    </Page>
  );
}

function Create({ onClose }: { onClose: () => void }) {
  const fault = useSignal("");
  const submit = useOnce(async (event) => {
    const form = new FormData(event.currentTarget as HTMLFormElement);
    try {
      const made = await changes.createQueue(policyOf(form));
      say(`Made the queue ${made.queue}.`);
      reload();
      go(href("queue", made.queue));
    } catch (error) {
      fault.value = (error as Error).message;
    }
  });
  return (
    <Dialog title="New queue" onClose={onClose}>
      <form onSubmit={submit}>
        <label class="field"><span>Name</span><input name="queue" required autoComplete="off" spellcheck={false} placeholder="mail" /></label>
        <PolicyFields />
        {fault.value && <p class="fault" role="alert">{fault.value}</p>}
        <div class="buttons"><button type="button" onClick={onClose}>Leave it</button><Button action="queue.manage" type="submit" tone="main">Make the queue</Button></div>
      </form>
    </Dialog>
  );
}

/** isHeldUp says whether a worker has reported that the other side of a queue asked for a delay that has not ended. */
export const isHeldUp = (q: { paused_until?: string }) => !!q.paused_until && Date.parse(q.paused_until) > now.value;

/** Field is a setting of a queue that a form has: name, title, kind and meaning. Its kind is n for an integer, d for a duration, l for texts between commas, s for a text. */
type Field = readonly [name: keyof Queue, title: string, kind: "n" | "d" | "l" | "s", text: string];

const basics: Field[] = [
  ["concurrency", "Concurrency", "n", "most tasks that run at once over all workers; 0 = no limit"],
  ["retries", "Retries", "n", "after the first attempt"],
  ["retry_delay", "Retry delay", "d", "before the first retry, such as 2m"],
  ["retry_max_delay", "Longest delay", "d", "between two attempts, such as 24h"],
  ["lease", "Lease", "d", "how long a worker holds a task without a heartbeat, such as 5m"],
  ["ttl", "TTL", "d", "a task that has not ended after this time expires, such as 7d; empty = never"],
  ["retention", "Retention", "d", "how long ended tasks stay, such as 7d"],
];

const flow: Field[] = [
  ["rate_limit", "Rate limit", "n", "most starts in the period over all workers; 0 = no limit"],
  ["rate_period", "Rate period", "d", "of the rate limit, 1s to 24h"],
  ["rate_burst", "Rate burst", "n", "most starts at once; 0 = those of a tenth of a second"],
  ["group_concurrency", "Concurrency of a group", "n", "most tasks of one group that run at once; 0 = no limit"],
  ["group_rate_limit", "Rate limit of a group", "n", "most starts of one group in its period; 0 = no limit"],
  ["group_rate_period", "Rate period of a group", "d", "of its rate limit, 1s to 24h"],
  ["group_rate_burst", "Rate burst of a group", "n", "most starts of one group at once; 0 = those of a tenth of a second"],
  ["fifo_batch", "Tasks of a group at a time", "n", "in a queue that keeps the order, 1 to 32"],
  ["max_waiting", "Most waiting tasks", "n", "creates beyond are refused; 0 = no limit"],
];

const failure: Field[] = [
  ["max_lease_losses", "Most lost leases", "n", "in a row, which end a task as quarantined; 0 = a lost lease is a failure like others"],
  ["dead_letter", "Dead letters to", "s", "a queue that gets a task for each one that fails for good"],
  ["non_retryable", "No retry of", "l", "kinds of errors that end a task, such as invalid_input,gone"],
];

export const fields = [...basics, ...flow, ...failure];

const kindOf = (name: string) => fields.find(([field]) => field === name)?.[2];

/** Choice is a setting with few values: name, title, values, meaning. The first value is the default. */
type Choice = readonly [name: keyof Queue, title: string, values: string[], text: string];

const backoff: Choice = ["backoff", "Backoff", ["exponential", "linear", "constant"], "how the delay grows from retry to retry"];

const flowChoices: Choice[] = [
  ["fair", "Fair shares", ["false", "true"], "groups start in turns, whatever the backlog of each"],
  ["order", "Order", ["none", "fifo"], "fifo: the tasks of a group run one after the other"],
  ["group_on_failure", "After a failed task", ["skip", "block"], "of a fifo queue: its group goes on, or waits"],
];

export const choices = [backoff, ...flowChoices];

/** valuesOf returns the settings of a queue as the texts of a form. */
export function valuesOf(q: Queue): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [name, , kind] of fields) values[name] = q[name] === undefined ? "" : kind === "d" ? duration(q[name] as number) : String(q[name]);
  for (const [name, , [first = ""]] of choices) values[name] = String(q[name] || first);
  return values;
}

/** emptyValue returns the value that takes a setting back that was not set before. The period of a rate has none, and means nothing alone. */
export function emptyValue(name: string): unknown {
  if (name === "fifo_batch") return 1;
  return { n: 0, l: [], s: "", d: "0s" }[kindOf(name) ?? "d"];
}

/** readValue returns the value of a setting from the text of a form. */
export function readValue(name: string, text: string): unknown {
  if (kindOf(name) === "n") return Number(text);
  if (kindOf(name) === "l") return text.split(",").map((part) => part.trim()).filter((part) => part !== "");
  return name === "fair" ? text === "true" : text;
}

/** textsOf returns the texts of a form. Empty fields are left out. */
export function textsOf(form: FormData): Record<string, string> {
  const names = [...fields, ...choices].map(([name]) => name as string);
  return Object.fromEntries(names.map((name) => [name, String(form.get(name) ?? "").trim()] as const).filter(([, text]) => text !== ""));
}

/** policyOf returns the settings of a form for a new queue, without those that are as by default. */
function policyOf(form: FormData): Record<string, unknown> {
  const texts = Object.entries(textsOf(form)).filter(([name, text]) => !choices.some(([choice, , [first]]) => choice === name && text === first));
  return { queue: String(form.get("queue") ?? "").trim(), ...Object.fromEntries(texts.map(([name, text]) => [name, readValue(name, text)])) };
}

/** PolicyFields are the fields of a form. Those of shares, limits and order are folded away until one of them is in use. */
export function PolicyFields({ values = {} }: { values?: Record<string, string> }) {
  const isSet = (name: string, first = "") => !["", "0", first].includes(values[name] ?? "");
  const isFlow = flowChoices.some(([name, , [first]]) => isSet(name, first)) || ["rate_limit", "group_concurrency", "group_rate_limit", "max_waiting"].some((name) => isSet(name));
  return (
    <>
      <div class="two">{basics.map((field) => <Input key={field[0]} field={field} values={values} />)}<Select choice={backoff} values={values} /></div>
      <details open={isFlow}>
        <summary>Shares, limits and order</summary>
        <div class="two">{flowChoices.map((choice) => <Select key={choice[0]} choice={choice} values={values} />)}{flow.map((field) => <Input key={field[0]} field={field} values={values} />)}</div>
      </details>
      <details open={failure.some(([name]) => isSet(name))}>
        <summary>Failures</summary>
        <div class="two">{failure.map((field) => <Input key={field[0]} field={field} values={values} />)}</div>
      </details>
    </>
  );
}

function Input({ field: [name, title, kind, text], values }: { field: Field; values: Record<string, string> }) {
  return (
    <label class="field">
      <span>{title}</span>
      <input name={name} defaultValue={values[name] ?? ""} inputMode={kind === "n" ? "numeric" : "text"} autoComplete="off" spellcheck={false} aria-describedby={`about-${name}`} />
      <small class="dim" id={`about-${name}`}>{text}</small>
    </label>
  );
}

function Select({ choice: [name, title, all, text], values }: { choice: Choice; values: Record<string, string> }) {
  const value = values[name] ?? all[0];
  return (
    <label class="field">
      <span>{title}</span>
      <select name={name}>{all.map((one) => <option key={one} value={one} selected={one === value}>{one === "true" ? "yes" : one === "false" ? "no" : one}</option>)}</select>
      <small class="dim">{text}</small>
    </label>
  );
}
