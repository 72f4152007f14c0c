// One task: where it is, what happened to it, its exact content.

import { useSignal } from "@preact/signals";
import { type Task as Data, changes, paths } from "../api";
import { Raw } from "../exact";
import { reload, useData } from "../data";
import { JSONView, errorText } from "../json";
import { Button, CopyMenu, Denied, Loading, Page, Panel, Status, Trouble, When, ask, attempt, clock, now } from "../parts";
import { fences, identity, may } from "../rights";
import { go, href } from "../route";
import { finished, plural, span } from "../words";
import { CreateTask } from "./queue";
import { Why } from "./why";

export function Task({ id }: { id: string }) {
  const readable = may("task.read") || fences("task.read").length > 0;
  const data = useData<Data>(readable ? paths.task(id) : null);
  const again = useSignal(false);
  const title = `Task ${id}`;
  if (!readable) return <Page title={title}><Panel><Denied action="task.read" what="Tasks are" /></Panel></Page>;
  if (data.problem && !data.value)
    return (
      <Page title={title}>
        <Panel>
          {data.problem.code === "not_found" ? (
            <div class="empty" role="alert">
              <p class="strong">There is no task {id} here</p>
              <p>It may have been deleted, or pruned after the retention of its queue, or it is in another namespace or in a queue that you may not see.</p>
              <p><a href={href("tasks")}>See all tasks</a></p>
            </div>
          ) : <Trouble problem={data.problem}><p><a href={href("tasks")}>See all tasks</a></p></Trouble>}
        </Panel>
      </Page>
    );
  if (!data.value) return <Page title={title}><Panel><Loading /></Panel></Page>;

  const t = data.value;
  const ended = finished(t);
  const after = () => reload();
  const act = async (done: string, work: () => Promise<unknown>) => {
    await attempt(done, work);
    after();
  };
  const remove = async () => {
    if (!(await ask({ title: `Delete task ${id}?`, typed: id, tone: "bad", confirm: "Delete 1 task", text: <p>Its payload, result and errors go with it. It cannot be undone.</p> }))) return;
    if (await attempt(`Deleted task ${id}.`, () => changes.deleteTask(id))) go(href("tasks", "", { queue: t.queue }));
    after();
  };
  const readContent = may("task.payload", t.queue);
  return (
    <Page title={title}
      aside={<><Status status={t.status} /><span class="dim"><a href={href("queue", t.queue)}>{t.queue}</a> · {t.attempt ? `attempt ${t.attempt} of ${attemptsOf(t)}` : "no attempt yet"}{t.cancel_requested && !ended && " · cancel requested"}</span></>}
      actions={
        <>
          <CopyMenu path={paths.task(id)} command={["task", id]} more={[["number", id]]} />
          <Button action="task.create" queue={t.queue} onClick={() => (again.value = true)}>Again, edited</Button>
          {!ended && <Button action="task.operate" queue={t.queue} tone="bad" onClick={() => act(t.status === "retained" ? "Asked its worker to stop." : "Cancelled the task.", () => changes.cancelTask(id))}>Cancel</Button>}
          {ended && <Button action="task.operate" queue={t.queue} tone="bad" onClick={remove}>Delete…</Button>}
          {ended && <Button action="task.operate" queue={t.queue} tone="main" onClick={() => act("It begins again, with all its attempts.", () => changes.retryTask(id))}>Retry</Button>}
        </>
      }>
      {!ended && <Why of={{ task: id }} />}
      <div class="cols">
        <div>
          <Panel title="Timeline" aside={<>{zone()}</>}><Timeline t={t} /></Panel>
          {!readContent && identity.value && <Panel title="Payload"><Denied action="task.payload" what="Payload, result and errors are" /></Panel>}
          {t.payload instanceof Raw && readContent && <Panel title="Payload"><JSONView raw={t.payload} label="the payload" /></Panel>}
          {t.progress instanceof Raw && <Panel title="Progress"><JSONView raw={t.progress} label="the progress" /></Panel>}
          {t.result instanceof Raw && <Panel title={t.status === "released" ? "Result" : "Last error"}><JSONView raw={t.result} label={t.status === "released" ? "the result" : "the last error"} /></Panel>}
        </div>
        <Panel title="Facts">
          <dl>
            <dt>Queue</dt><dd><a href={href("queue", t.queue)}>{t.queue}</a></dd>
            <dt>Status</dt><dd>{t.status}{!ended && (t.retries ? `, ${plural(t.retries, "more retry", "more retries")} after ${t.status === "retained" ? "this" : "the next"} attempt` : `, ${t.status === "retained" ? "this" : "the next"} attempt is the last`)}</dd>
            <dt>Priority</dt><dd>{t.priority}</dd>
            {t.group && <><dt>Group</dt><dd><a href={href("queue", t.queue, { group: t.group })}><bdi>{t.group}</bdi></a></dd></>}
            <dt>Created</dt><dd><When at={t.created_at} /></dd>
            {t.delayed_at && !ended && <><dt>Due</dt><dd><When at={t.delayed_at} /></dd></>}
            {t.worker && <><dt>Worker</dt><dd><a href={href("tasks", "", { worker: t.worker })}><bdi>{t.worker}</bdi></a></dd></>}
            {t.lease && <><dt>Lease ends</dt><dd><When at={t.lease.expires_at} /></dd></>}
            {t.dies_at && <><dt>{ended ? "Expiry was" : "Expires"}</dt><dd><When at={t.dies_at} /></dd></>}
            {t.key && <><dt>Key</dt><dd><bdi>{t.key}</bdi></dd></>}
            {Object.entries(t.headers ?? {}).map(([name, value]) => <Header key={name} name={name} value={value} />)}
          </dl>
        </Panel>
      </div>
      {again.value && <CreateTask queue={t.queue} payload={t.payload instanceof Raw ? t.payload.text : "{}"} priority={t.priority} onClose={() => (again.value = false)} />}
    </Page>
  );
}

/** attemptsOf is the most attempts that the task has in all. A waiting task has spent the retry of its next attempt. */
const attemptsOf = (t: Data) => t.attempt + t.retries + (t.status === "retry" || t.status === "new" ? 1 : 0);

const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

const Header = ({ name, value }: { name: string; value: string }) => <><dt><bdi>{name}</bdi></dt><dd><bdi>{value}</bdi></dd></>;

interface Step { at: string; tone: "" | "bad" | "ok" | "run" | "next"; text: preact.ComponentChildren; error?: Raw }

/** stepsOf tells the life of a task in order, with the waits between. */
function stepsOf(t: Data): Step[] {
  const steps: Step[] = [{ at: t.created_at, tone: "", text: <>created{t.key && <>, key <code><bdi>{t.key}</bdi></code></>}</> }];
  let before = Date.parse(t.created_at);
  const wait = (at: string) => span((Date.parse(at) - before) / 1000);
  for (const e of t.errors ?? []) {
    steps.push({ at: e.at, tone: "bad", error: e.error instanceof Raw ? e.error : undefined, text: <>attempt {e.attempt}{e.worker && <> on <b><bdi>{e.worker}</bdi></b></>} failed{e.error_kind && <>, <code><bdi>{e.error_kind}</bdi></code></>} <span class="dim">({wait(e.at)} after the step before)</span></> });
    before = Date.parse(e.at);
  }
  if (t.status === "retained" && t.started_at) {
    steps.push({ at: t.started_at, tone: "run", text: <>attempt {t.attempt} runs on <b><bdi>{t.worker}</bdi></b> since {span((now.value - Date.parse(t.started_at)) / 1000)}</> });
    if (t.lease) steps.push({ at: t.lease.expires_at, tone: "next", text: <>its lease ends, unless a heartbeat extends it</> });
  } else if (finished(t) && t.finished_at) {
    const ran = t.started_at && Date.parse(t.started_at) <= Date.parse(t.finished_at) ? (Date.parse(t.finished_at) - Date.parse(t.started_at)) / 1000 : null;
    if (t.status === "released" && t.started_at) steps.push({ at: t.started_at, tone: "", text: <>attempt {t.attempt} began on <b><bdi>{t.worker}</bdi></b> <span class="dim">(waited {wait(t.started_at)})</span></> });
    const end = { released: "succeeded", failed: <>ended as failed, with no retries left <span class="dim">· <a href={href("failures", "", { queue: t.queue })}>failures like it</a></span></>, expired: "expired: its ttl passed first", cancelled: "ended cancelled" }[t.status] ?? t.status;
    steps.push({ at: t.finished_at, tone: t.status === "released" ? "ok" : "bad", text: <>{end}{t.status === "released" && ran !== null && <span class="dim"> (ran {span(ran)})</span>}</> });
  } else if (t.delayed_at && Date.parse(t.delayed_at) > now.value) steps.push({ at: t.delayed_at, tone: "next", text: <>attempt {t.attempt + 1} is due</> });
  else steps.push({ at: "", tone: "next", text: <>attempt {t.attempt + 1}, as soon as a worker takes it</> });
  return steps;
}

function Timeline({ t }: { t: Data }) {
  return (
    <ol class="time">
      {stepsOf(t).map((s, index) => (
        <li key={index} class={`step ${s.tone}`}>
          {s.at ? <time class="dim" dateTime={s.at} title={clock(s.at)}>{clock(s.at, true)}</time> : <span class="dim">next</span>}
          <span class="dot" aria-hidden="true" />
          <div>
            {s.text}
            {s.error && <pre tabIndex={0}><bdi>{errorText(s.error).slice(0, 2000)}</bdi></pre>}
          </div>
        </li>
      ))}
    </ol>
  );
}
