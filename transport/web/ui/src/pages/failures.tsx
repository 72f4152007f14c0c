// Failed tasks in groups of like errors.

import { useSignal } from "@preact/signals";
import { type ID, type List, type Stats, paths } from "../api";
import type { Raw } from "../exact";
import { reload, useData } from "../data";
import { errorText } from "../json";
import { Button, CopyMenu, Denied, Empty, Loading, Page, Panel, Scroll, Trouble, When, usePart } from "../parts";
import { may } from "../rights";
import { href, route } from "../route";
import { count, plural } from "../words";
import { Moving } from "./tasks";

interface Group {
  fingerprint?: string; kind?: string; message?: string; count: number; first_at: string; last_at: string; ids: ID[];
  sample: { task: ID; at: string; error?: Raw };
}

interface Groups { queue: string; examined: number; more?: boolean; count: number; body: Group[] }

/** The most queues whose groups show at once. Each costs a read. */
const maxQueues = 10;

export function Failures() {
  const stats = useData<List<Stats>>(may("queue.read") ? paths.stats : null);
  const only = route.value.query.get("queue") ?? "";
  const failing = (stats.value?.body ?? []).filter((s) => (s.counts["failed"] ?? 0) > 0 && (!only || s.queue === only)).sort((a, b) => b.counts["failed"]! - a.counts["failed"]!);
  return (
    <Page title="Failures" aside={only && <span class="dim">of {only}, <a href={href("failures")}>all queues</a></span>}
      actions={<CopyMenu path={only ? paths.failures(only) : paths.tasks({ status: "failed" })} command={only ? `failures ${only}` : "tasks --status failed"} />}>
      {!may("queue.read") ? <Panel><Denied action="queue.read" what="Failures are" /></Panel>
        : stats.problem && !stats.value ? <Panel><Trouble problem={stats.problem} /></Panel>
        : !stats.value ? <Panel><Loading /></Panel>
        : failing.length === 0 ? <Panel><Empty><span class="mark ok" aria-hidden="true">✓</span> No failed task is kept{only && ` in ${only}`}.</Empty></Panel>
        : failing.slice(0, maxQueues).map((s) => <Queue key={s.queue} name={s.queue} failed={s.counts["failed"]!} />)}
      {failing.length > maxQueues && <p class="dim">and {plural(failing.length - maxQueues, "more queue")} with failed tasks: {failing.slice(maxQueues, maxQueues + 20).map((s) => <><a href={href("failures", "", { queue: s.queue })}>{s.queue}</a> </>)}</p>}
    </Page>
  );
}

function Queue({ name, failed }: { name: string; failed: number }) {
  const readable = may("task.read", name);
  const groups = useData<Groups>(readable ? paths.failures(name) : null);
  const moving = useSignal<Group | null>(null);
  const [part, controls] = usePart(groups.value?.body ?? [], 20);
  const list = href("tasks", "", { queue: name, status: "failed" });
  return (
    <Panel title={<a href={href("queue", name)}>{name}</a>} aside={<a href={list}>{plural(failed, "failed task")}</a>}>
      {!readable ? <Denied action="task.read" what="The failed tasks are" />
        : groups.problem && !groups.value ? <Trouble problem={groups.problem} />
        : !groups.value ? <Loading />
        : (
          <>
            <Scroll label={`Failures of ${name}`}>
              <table>
                <thead><tr><th scope="col" class="left">Error</th><th scope="col">Tasks</th><th scope="col" class="opt">First</th><th scope="col">Last</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
                <tbody>
                  {part.map((g) => (
                    <tr key={g.sample.task} data-row>
                      <td class="left wrap error">
                        <a class="name" href={href("task", String(g.sample.task))}><bdi>{g.message || g.kind || (g.sample.error ? errorText(g.sample.error).slice(0, 200) : `as in task ${g.sample.task}`)}</bdi></a>
                        {g.kind && g.message && <span class="dim"> <bdi>{g.kind}</bdi></span>}
                        {!may("task.payload", name) && <span class="dim"> its text needs the role viewer</span>}
                      </td>
                      <td>{count(g.count)}</td>
                      <td class="opt"><When at={g.first_at} /></td>
                      <td><When at={g.last_at} /></td>
                      <td><Button action="task.operate" queue={name} class="small" aria-label={`Retry ${plural(g.count, "task")} with this error`} onClick={() => (moving.value = g)}>Retry {count(g.count)}…</Button></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </Scroll>
            {controls}
            {groups.value.more && <p class="fine dim">These are the newest {count(groups.value.examined)} of {count(failed)} failed tasks. The <a href={list}>list</a> has all.</p>}
          </>
        )}
      {moving.value && <Moving move="retry" selection={{ ids: moving.value.ids.map(String) }} all onClose={() => { moving.value = null; reload(); }} />}
    </Panel>
  );
}
