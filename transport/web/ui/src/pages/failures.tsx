// The failed tasks of each queue.

import { type List, type Stats, paths } from "../api";
import { useData } from "../data";
import { CopyMenu, Denied, Empty, Loading, Page, Panel, Trouble } from "../parts";
import { may } from "../rights";
import { href, route } from "../route";
import { plural } from "../words";

export function Failures() {
  const stats = useData<List<Stats>>(may("queue.read") ? paths.stats : null);
  const only = route.value.query.get("queue") ?? "";
  const failing = (stats.value?.body ?? []).filter((s) => (s.counts["failed"] ?? 0) > 0 && (!only || s.queue === only)).sort((a, b) => b.counts["failed"]! - a.counts["failed"]!);
  return (
    <Page title="Failures" aside={only && <span class="dim">of {only}, <a href={href("failures")}>all queues</a></span>} actions={<CopyMenu path={paths.tasks({ queue: only, status: "failed" })} command={`tasks --status failed${only && ` --queue ${only}`}`} />}>
      {!may("queue.read") ? <Panel><Denied action="queue.read" what="Failures are" /></Panel>
        : stats.problem && !stats.value ? <Panel><Trouble problem={stats.problem} /></Panel>
        : !stats.value ? <Panel><Loading /></Panel>
        : failing.length === 0 ? <Panel><Empty><span class="mark ok" aria-hidden="true">✓</span> No failed task is kept{only && ` in ${only}`}.</Empty></Panel>
        : failing.slice(0, 50).map((s) => (
          <Panel key={s.queue} title={<a href={href("queue", s.queue)}>{s.queue}</a>} aside={<a href={href("tasks", "", { queue: s.queue, status: "failed" })}>{plural(s.counts["failed"]!, "failed task")}</a>}>
            <Empty>The <a href={href("tasks", "", { queue: s.queue, status: "failed" })}>list of tasks</a> shows the error of each.</Empty>
          </Panel>
        ))}
    </Page>
  );
}
