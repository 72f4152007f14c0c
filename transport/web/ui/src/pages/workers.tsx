// The workers that hold tasks.

import { type List, type Worker, paths } from "../api";
import { useData } from "../data";
import { CopyMenu, Denied, Empty, Loading, Page, Panel, Scroll, Trouble, When, now, usePart } from "../parts";
import { may } from "../rights";
import { href, route, setQuery } from "../route";
import { count, plural } from "../words";

export function Workers() {
  const list = useData<List<Worker>>(may("worker.read") ? paths.workers : null);
  const find = route.value.query.get("find") ?? "";
  const all = (list.value?.body ?? []).filter((w) => w.worker.includes(find) || w.queues.some((q) => q.includes(find))).sort((a, b) => Date.parse(a.since) - Date.parse(b.since));
  const [part, controls] = usePart(all);
  const held = all.reduce((sum, w) => sum + w.held, 0);
  return (
    <Page title="Workers" aside={list.value && <span class="dim">{plural(all.length, "worker holds", "workers hold")} {plural(held, "task")}</span>} actions={<CopyMenu path={paths.workers} command={["workers"]} />}>
      <Panel>
        <div class="filters"><label class="grow"><span class="hidden">Filter by worker or queue</span><input type="search" data-filter placeholder="Filter by worker or queue" value={find} spellcheck={false} onInput={(event) => setQuery({ find: event.currentTarget.value })} /></label></div>
        {!may("worker.read") ? <Denied action="worker.read" what="Workers are" />
          : list.problem && !list.value ? <Trouble problem={list.problem} />
          : !list.value ? <Loading />
          : all.length === 0 ? <Empty>{find ? "No worker that holds a task matches." : "No worker holds a task now. A worker that waits for a task does not show here."}</Empty>
          : (
            <>
              <Scroll label="Workers">
                <table>
                  <thead><tr><th scope="col" class="left">Worker</th><th scope="col">Holds</th><th scope="col" class="left opt">Queues</th><th scope="col">Longest since</th><th scope="col">First lease ends</th></tr></thead>
                  <tbody>
                    {part.map((w) => (
                      <tr key={w.worker} data-row>
                        <td class="left cut"><a class="name" href={href("tasks", "", { worker: w.worker, status: "retained" })}><bdi>{w.worker}</bdi></a></td>
                        <td>{count(w.held)}</td>
                        <td class="left opt wrap">{w.queues.slice(0, 8).map((q, index) => <span key={q}>{index > 0 && ", "}<a href={href("queue", q)}>{q}</a></span>)}{w.queues.length > 8 && ` and ${w.queues.length - 8} more`}</td>
                        <td><When at={w.since} /></td>
                        <td class={Date.parse(w.expires_at) < now.value ? "badtext" : ""}><When at={w.expires_at} /></td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </Scroll>
              {controls}
              <p class="fine dim">A lease that has ended means that the worker has stopped or hangs: background work takes the task back, and another worker gets it.</p>
            </>
          )}
      </Panel>
    </Page>
  );
}
