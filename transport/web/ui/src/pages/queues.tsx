// The list of queues.

import { useSignal } from "@preact/signals";
import { type List, type Queue, type Stats, changes, paths } from "../api";
import { reload, useData } from "../data";
import { Button, Chip, CopyMenu, Denied, Dialog, Empty, Loading, Page, Panel, Scroll, Trouble, say, usePart } from "../parts";
import { may } from "../rights";
import { go, href, route, setQuery } from "../route";
import { count, rate, span } from "../words";

/** seconds converts a duration of the API. */
export const seconds = (nanoseconds: number | undefined) => Number(nanoseconds ?? 0) / 1e9;

/** State says in one word how a queue is. */
export function State({ s, policy }: { s: Stats; policy?: Queue }) {
  const held = s.counts["retained"] ?? 0;
  if (s.paused) return <Chip tone="off" mark="‖">paused</Chip>;
  if (s.ready > 0 && seconds(s.oldest_ready_age) >= 60)
    return held === 0 ? <Chip tone="bad" mark="▲" title="No worker holds a task of this queue">stuck</Chip>
      : policy?.concurrency && held >= policy.concurrency ? <Chip tone="warn" mark="◆" title="All places are taken">full</Chip>
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
  oldest: (a, b) => seconds(b.oldest_ready_age) - seconds(a.oldest_ready_age),
  in: (a, b) => b.created_per_second - a.created_per_second,
  out: (a, b) => b.finished_per_second - a.finished_per_second,
};

export function QueueTable({ stats, queues }: { stats: Stats[]; queues: Queue[] }) {
  const policies = new Map(queues.map((q) => [q.queue, q]));
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
              const policy = policies.get(s.queue);
              const held = s.counts["retained"] ?? 0;
              const most = policy?.concurrency ?? 0;
              return (
                <tr key={s.queue} data-row>
                  <td><a class="name" href={href("queue", s.queue)}>{s.queue}</a></td>
                  <td class="left"><State s={s} policy={policy} /></td>
                  <td><Zero n={s.ready} /></td>
                  <td class="opt"><Zero n={s.delayed} /></td>
                  <td class="opt2">{most ? <>{count(held)} / {count(most)}<meter class={held >= most ? "full" : ""} min={0} max={most} value={held} aria-label={`${held} of ${most} places taken`} /></> : <Zero n={held} />}</td>
                  <td>{s.counts["failed"] ? <a class="badtext" href={href("failures", "", { queue: s.queue })}>{count(s.counts["failed"])}</a> : <Zero n={0} />}</td>
                  <td>{s.oldest_ready_age ? span(seconds(s.oldest_ready_age)) : <span class="zero">–</span>}</td>
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
  const queues = useData<List<Queue>>(may("queue.read") ? paths.queues : null);
  const { query } = route.value;
  const find = query.get("find") ?? "";
  const all = (stats.value?.body ?? []).filter((s) => s.queue.includes(find.trim().toLowerCase()));
  return (
    <Page title="Queues" actions={<><CopyMenu path="/stats" command="queues" /><Button action="queue.manage" tone="main" onClick={() => setQuery({ create: "1" })}>New queue</Button></>}>
      <Panel>
        <div class="filters">
          <label class="grow"><span class="hidden">Filter by name</span><input type="search" data-filter placeholder="Filter by name" value={find} spellcheck={false} onInput={(event) => setQuery({ find: event.currentTarget.value })} /></label>
        </div>
        {!may("queue.read") ? <Denied action="queue.read" what="The queues of the namespace are" />
          : stats.problem && !stats.value ? <Trouble problem={stats.problem} />
          : !stats.value ? <Loading />
          : all.length === 0 ? <Empty>{find ? <>No queue has “{find}” in its name.</> : <>This namespace has no queue yet. <code>pgqueue create-queue mail</code> makes one, and so does the button above.</>}</Empty>
          : <QueueTable stats={all} queues={queues.value?.body ?? []} key={find} />}
      </Panel>
      {query.get("create") && <Create onClose={() => setQuery({ create: "" })} />}
    </Page>
  );
}

function Create({ onClose }: { onClose: () => void }) {
  const fault = useSignal("");
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    try {
      const made = await changes.createQueue(policyOf(form, true));
      say(`Made the queue ${made.queue}.`);
      reload();
      go(href("queue", made.queue));
    } catch (error) {
      fault.value = (error as Error).message;
    }
  };
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

/** fields are the settings of a queue that a form has, with their meaning. */
export const fields = [
  ["concurrency", "Concurrency", "most tasks that run at once over all workers; 0 = no limit"],
  ["retries", "Retries", "after the first attempt"],
  ["retry_delay", "Retry delay", "before the first retry, such as 2m"],
  ["retry_max_delay", "Longest delay", "between two attempts, such as 24h"],
  ["lease", "Lease", "how long a worker holds a task without a heartbeat, such as 5m"],
  ["ttl", "TTL", "a task that has not ended after this time expires, such as 7d; empty = never"],
  ["retention", "Retention", "how long ended tasks stay, such as 7d"],
] as const;

/** policyOf reads a form. Empty fields are left out. */
export function policyOf(form: FormData, named: boolean): Record<string, unknown> {
  const policy: Record<string, unknown> = named ? { queue: String(form.get("queue") ?? "").trim() } : {};
  for (const [field] of fields) {
    const text = String(form.get(field) ?? "").trim();
    if (text === "") continue;
    policy[field] = field === "concurrency" || field === "retries" ? Number(text) : text;
  }
  const backoff = form.get("backoff");
  if (backoff) policy["backoff"] = backoff;
  return policy;
}

export function PolicyFields({ values = {} }: { values?: Record<string, string> }) {
  return (
    <>
      <div class="two">
        {fields.map(([field, title, text]) => (
          <label class="field" key={field}>
            <span>{title}</span>
            <input name={field} defaultValue={values[field] ?? ""} inputMode={field === "concurrency" || field === "retries" ? "numeric" : "text"} autoComplete="off" spellcheck={false} aria-describedby={`about-${field}`} />
            <small class="dim" id={`about-${field}`}>{text}</small>
          </label>
        ))}
        <label class="field">
          <span>Backoff</span>
          <select name="backoff" defaultValue={values["backoff"] ?? "exponential"}>
            {["exponential", "linear", "constant"].map((b) => <option key={b} value={b} selected={b === (values["backoff"] ?? "exponential")}>{b}</option>)}
          </select>
          <small class="dim">how the delay grows from retry to retry</small>
        </label>
      </div>
    </>
  );
}
