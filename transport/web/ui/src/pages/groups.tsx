// The groups of one queue: what each waits for, and its settings.

import { useSignal } from "@preact/signals";
import { type Group, type List, type Queue, changes, paths } from "../api";
import { reload, useData } from "../data";
import { Button, Chip, CopyMenu, Dialog, Empty, Filter, Loading, Menu, Panel, Scroll, Trouble, When, attempt, now } from "../parts";
import { href, route, setQuery } from "../route";
import { count, duration } from "../words";

/** isUsed says whether a queue treats its groups in a way of its own. Only then does the page ask for them. */
export const isUsed = (q: Queue, waiting = 0) =>
  !!(q.fair || q.order === "fifo" || q.group_concurrency || q.group_rate_limit || q.group_policies || waiting);

/** writeRate returns a rate as "10 in 1s". */
export const writeRate = (limit: number | undefined, period: number | undefined) => (limit ? `${count(limit)} in ${duration(period ?? 1e9)}` : "");

const isPaused = (g: Group) => !!g.paused_until && Date.parse(g.paused_until) > now.value;

/** Groups lists the groups that have settings, wait or run. ?group= shows one, also one without tasks. */
export function Groups({ queue }: { queue: Queue }) {
  const { query } = route.value;
  const group = query.get("group") ?? "";
  const cursor = query.get("groups") ?? "";
  const path = paths.groups(queue.queue, { group, cursor, limit: 50 });
  const list = useData<List<Group>>(path);
  const editing = useSignal<Group | null>(null);
  const pausing = useSignal<Group | null>(null);
  const page = (to: string) => {
    const next = new URLSearchParams(query);
    if (to) next.set("groups", to);
    else next.delete("groups");
    return href("queue", queue.queue, next);
  };
  const change = async (done: string, work: () => Promise<unknown>) => {
    await attempt(done, work);
    reload();
  };
  return (
    <Panel title="Groups" aside={<CopyMenu path={path} command={["groups", queue.queue]} />}>
      <div class="filters"><Filter title="Group" placeholder="any" value={group} apply={(value) => setQuery({ group: value, groups: "" })} /></div>
      {list.problem && !list.value ? <Trouble problem={list.problem} />
        : !list.value ? <Loading />
        : list.value.body.length === 0 ? <Empty>No group is limited, waits or runs.</Empty>
        : (
          <Scroll label="Groups">
            <table>
              <thead><tr><th scope="col" class="left">Group</th><th scope="col" class="left">State</th><th scope="col">Waiting</th><th scope="col">Running</th><th scope="col" class="opt">Rate</th><th scope="col" class="opt">Weight</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
              <tbody>
                {list.value.body.map((g) => (
                  <tr key={g.group} data-row>
                    <td class="left cut"><bdi class="name">{g.group || "without a group"}</bdi></td>
                    <td class="left"><State g={g} queue={queue} /></td>
                    <td class={g.waiting ? "" : "zero"}>{count(g.waiting)}{g.waiting >= 1000 && "+"}</td>
                    <td class={g.retained ? "" : "zero"}>{count(g.retained)}{placesOf(g, queue) && ` / ${count(placesOf(g, queue))}`}</td>
                    <td class="opt">{writeRate(g.rate_limit, g.rate_period) || writeRate(queue.group_rate_limit, queue.group_rate_period) || <span class="zero">–</span>}</td>
                    <td class={`opt ${g.weight ? "" : "zero"}`}>{count(g.weight || 1)}</td>
                    <td>
                      <Menu label={<><span class="hidden">Actions on {g.group || "the tasks without a group"}</span>⋯</>}>
                        {g.blocked && <Button action="task.operate" queue={queue.queue} onClick={() => change(`${g.group} goes on.`, () => changes.unblockGroup(queue.queue, g.group))}>Let it go on</Button>}
                        {isPaused(g)
                          ? <Button action="task.operate" queue={queue.queue} onClick={() => change(`${g.group} runs again.`, () => changes.updateGroup(queue.queue, g.group, { paused_until: past }))}>Resume</Button>
                          : <Button action="task.operate" queue={queue.queue} onClick={() => (pausing.value = g)}>Pause for a time…</Button>}
                        <Button action="queue.manage" queue={queue.queue} onClick={() => (editing.value = g)}>Change settings…</Button>
                      </Menu>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scroll>
        )}
      {list.value && (cursor || list.value.next) && <div class="more">{cursor ? <a class="button" href={page("")}>First</a> : <span />}{list.value.next && <a class="button" href={page(list.value.next)}>More</a>}</div>}
      {editing.value && <Edit queue={queue} g={editing.value} onClose={() => (editing.value = null)} />}
      {pausing.value && <Pause queue={queue.queue} g={pausing.value} onClose={() => (pausing.value = null)} />}
    </Panel>
  );
}

/** past ends a pause: any time that has passed does. */
const past = "1970-01-01T00:00:00Z";

/** placesOf returns how many tasks of a group may run at once; 0 = no limit. */
const placesOf = (g: Group, q: Queue) => (q.order === "fifo" ? 0 : g.concurrency || q.group_concurrency || 0);

function State({ g, queue }: { g: Group; queue: Queue }) {
  if (isPaused(g)) return <Chip tone="off" mark="‖">paused, ends <When at={g.paused_until} /></Chip>;
  if (g.blocked) return <Chip tone="bad" mark="▲">blocked by task <a href={href("task", String(g.blocked))}>{String(g.blocked)}</a></Chip>;
  if (g.next && Date.parse(g.next) > now.value) return <Chip tone="warn" mark="◆">rate, next <When at={g.next} /></Chip>;
  const places = placesOf(g, queue);
  if (places && g.retained >= places && g.waiting) return <Chip tone="warn" mark="◆">all places are taken</Chip>;
  if (g.retained) return <Chip tone="ok" mark="●">working</Chip>;
  return g.waiting ? <Chip tone="run" mark="◔">waiting</Chip> : <Chip tone="off" mark="○">idle</Chip>;
}

const settings = [
  ["weight", "Weight", "share of a fair queue, as a multiple of that of other groups, 1 to 1000"],
  ["concurrency", "Concurrency", "most tasks that run at once; 0 = as the queue says"],
  ["rate_limit", "Rate limit", "most starts in the period; 0 = as the queue says"],
  ["rate_period", "Rate period", "of the rate limit, 1s to 24h"],
  ["rate_burst", "Rate burst", "most starts at once; 0 = those of a tenth of a second"],
] as const;

function Edit({ queue, g, onClose }: { queue: Queue; g: Group; onClose: () => void }) {
  const fault = useSignal("");
  const before = Object.fromEntries(settings.map(([field]) => [field, g[field] === undefined ? "" : field === "rate_period" ? duration(g[field]) : String(g[field])]));
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const changed: Record<string, unknown> = {};
    for (const [field] of settings) {
      const text = String(form.get(field) ?? "").trim();
      if (text !== "" && text !== before[field]) changed[field] = field === "rate_period" ? text : Number(text);
    }
    if (!Object.keys(changed).length) return onClose();
    try {
      await changes.updateGroup(queue.queue, g.group, changed);
      onClose();
      reload();
    } catch (error) {
      fault.value = (error as Error).message;
    }
  };
  return (
    <Dialog title={`Settings of the group ${g.group}`} onClose={onClose} wide>
      <form onSubmit={submit}>
        <div class="two">
          {settings.map(([field, title, text]) => (
            <label class="field" key={field}>
              <span>{title}</span>
              <input name={field} defaultValue={before[field]} inputMode={field === "rate_period" ? "text" : "numeric"} autoComplete="off" aria-describedby={`about-group-${field}`} />
              <small class="dim" id={`about-group-${field}`}>{text}</small>
            </label>
          ))}
        </div>
        {fault.value && <p class="fault" role="alert">{fault.value}</p>}
        <div class="buttons"><button type="button" onClick={onClose}>Leave it</button><Button action="queue.manage" queue={queue.queue} type="submit" tone="main">Change</Button></div>
      </form>
    </Dialog>
  );
}

const pauses: [string, number][] = [["10 minutes", 600], ["1 hour", 3600], ["1 day", 86400], ["30 days", 30 * 86400]];

function Pause({ queue, g, onClose }: { queue: string; g: Group; onClose: () => void }) {
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const seconds = Number(new FormData(event.currentTarget as HTMLFormElement).get("for"));
    const undo = () => void attempt(`${g.group} runs again.`, () => changes.updateGroup(queue, g.group, { paused_until: past })).then(() => reload());
    if (await attempt(`${g.group} is paused. Running tasks go on.`, () => changes.updateGroup(queue, g.group, { paused_until: new Date(now.value + seconds * 1000).toISOString() }), undo)) onClose();
    reload();
  };
  return (
    <Dialog title={`Pause the group ${g.group}`} onClose={onClose}>
      <form onSubmit={submit}>
        <label class="field"><span>For</span><select name="for">{pauses.map(([text, seconds]) => <option key={text} value={seconds}>{text}</option>)}</select></label>
        <div class="buttons"><button type="button" onClick={onClose}>Leave it</button><Button action="task.operate" queue={queue} type="submit" tone="main">Pause the group</Button></div>
      </form>
    </Dialog>
  );
}
