// The list of tasks: filters in the address, pages by cursor, and changes of the selected ones or of all that match.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Bulk, type List, type Stats, type Task, changes, paths } from "../api";
import { reload, useData } from "../data";
import { Button, CopyMenu, Denied, Dialog, Empty, Filter, Loading, Page, Panel, Scroll, Status, Trouble, When, say } from "../parts";
import { fences, may } from "../rights";
import { href, route, setQuery } from "../route";
import { count, plural, span, statuses } from "../words";
import { errorText } from "../json";

/** Rows of a page. */
const pageSize = 100;

/** The changes of many tasks. */
const moves = {
  cancel: { verb: "Cancel", done: "Cancelled", tone: "bad", text: "Waiting tasks end cancelled. A running one ends when its worker next looks. Ended ones stay as they are.", typed: false },
  retry: { verb: "Retry", done: "Retried", tone: "main", text: "Ended tasks begin again with all their attempts. The others stay as they are.", typed: false },
  delete: { verb: "Delete", done: "Deleted", tone: "bad", text: "Tasks that no worker holds are deleted. It cannot be undone.", typed: true },
} as const;

type Move = keyof typeof moves;

/** filterOf reads the filter from the address, in the words of the API. */
function filterOf(query: URLSearchParams): Record<string, string | string[] | undefined> {
  const one = (name: string) => query.get(name) || undefined;
  return { queue: one("queue"), status: query.getAll("status"), worker: one("worker"), key: one("key"), text: one("text"),
    created_after: one("created_after"), created_before: one("created_before"), finished_after: one("finished_after"), finished_before: one("finished_before") };
}

/** selectionOf is the filter as the body of a bulk operation. */
function selectionOf(query: URLSearchParams): Record<string, unknown> {
  return Object.fromEntries(Object.entries(filterOf(query)).filter(([, value]) => value !== undefined && value.length));
}

export function Tasks() {
  const { query } = route.value;
  const filter = filterOf(query);
  const queue = query.get("queue") ?? "";
  const order = query.get("order") ?? "";
  const allowed = may("task.read", queue);
  const list = useData<List<Task>>(allowed ? paths.tasks({ ...filter, order, cursor: query.get("cursor") ?? "", limit: pageSize, brief: "true" }) : null);
  const queues = useData<List<Stats>>(may("queue.read") ? paths.stats : null);
  const selected = useSignal<Set<string>>(new Set());
  const moving = useSignal<{ move: Move; selection: Record<string, unknown>; all: boolean } | null>(null);

  const search = query.toString();
  useEffect(() => {
    selected.value = new Set();
  }, [search]);

  const rows = list.value?.body ?? [];
  const ids = rows.map((t) => String(t.id));
  const filtered = Object.keys(selectionOf(query)).length > 0;
  const chosen = ids.filter((id) => selected.value.has(id));
  const start = (move: Move) => {
    moving.value = chosen.length ? { move, selection: { ids: chosen }, all: false } : { move, selection: selectionOf(query), all: true };
  };
  const total = list.value ? `${count(list.value.count)}${list.value.at_least ? "+" : ""}` : "";
  const command = ["tasks", ...Object.entries(filter).flatMap(([name, value]) => (Array.isArray(value) ? value : value ? [value] : []).map((v) => `--${name.replace("_", "-")}=${v}`))];

  return (
    <Page title="Tasks" aside={total && <span class="dim" aria-live="polite">{total} {list.value!.count === 1 ? "task" : "tasks"}{filtered ? " match" : ""}</span>}
      actions={<CopyMenu path={paths.tasks({ ...filter, order })} command={command} />}>
      <Panel>
        <Filters queues={(queues.value?.body ?? []).map((q) => q.queue)} />
        {!allowed ? (fences("task.read").length
          ? <Empty>Choose a queue first: you may see the tasks of {fences("task.read").join(", ")} alone.</Empty>
          : <Denied action="task.read" what="Tasks are" />)
          : list.problem && !list.value ? (
            <Trouble problem={list.problem}>
              <p>{query.get("cursor") ? <a href={withoutCursor(query)}>Go to the first page</a> : <a href={href("tasks")}>Show all tasks</a>}</p>
            </Trouble>
          )
          : !list.value ? <Loading />
          : rows.length === 0 && !list.value.next ? <Empty>{filtered ? <>No task matches. <a href={href("tasks")}>Show all tasks</a></> : <>No task yet. <code>pgqueue create-task QUEUE</code> creates one.</>}</Empty>
          : (
            <>
              <div class="selection">
                <label class="check">
                  <input type="checkbox" checked={chosen.length === ids.length && ids.length > 0} indeterminate={chosen.length > 0 && chosen.length < ids.length}
                    onChange={(event) => (selected.value = new Set(event.currentTarget.checked ? ids : []))} />
                  {chosen.length ? `${plural(chosen.length, "task")} selected` : filtered ? `All ${total} that match` : "Select"}
                </label>
                <span class="grow" />
                {(chosen.length > 0 || filtered) && (Object.keys(moves) as Move[]).map((move) => (
                  <Button key={move} action="task.operate" queue={queue} onClick={() => start(move)}>{moves[move].verb}{chosen.length ? ` ${chosen.length}` : " all…"}</Button>
                ))}
              </div>
              <Scroll label="Tasks">
                <table>
                  <thead>
                    <tr><th scope="col" class="tick"><span class="hidden">Select</span></th><th scope="col" class="left">Task</th><th scope="col" class="left">Status</th><th scope="col" class="left">Queue</th><th scope="col" class="opt">Attempt</th><th scope="col" class="left opt">Worker</th><th scope="col" class="opt2">Created</th><th scope="col" class="left opt">Next or last</th></tr>
                  </thead>
                  <tbody>
                    {rows.map((t) => {
                      const id = String(t.id);
                      return (
                        <tr key={id} data-row class={selected.value.has(id) ? "chosen" : ""}>
                          <td class="tick"><input type="checkbox" aria-label={`Select task ${id}`} checked={selected.value.has(id)} onChange={() => {
                            const next = new Set(selected.value);
                            if (!next.delete(id)) next.add(id);
                            selected.value = next;
                          }} /></td>
                          <td class="left"><a class="name" href={href("task", id)}>{id}</a></td>
                          <td class="left"><Status status={t.status} /></td>
                          <td class="left wrap"><a href={href("queue", t.queue)}>{t.queue}</a><div class="narrow"><Note t={t} other={<>created <When at={t.created_at} /></>} /></div></td>
                          <td class="opt">{t.attempt || <span class="zero">0</span>}</td>
                          <td class="left opt cut"><bdi>{t.worker}</bdi></td>
                          <td class="opt2"><When at={t.created_at} /></td>
                          <td class="left opt cut"><Note t={t} /></td>
                        </tr>
                      );
                    })}
                  </tbody>
                </table>
              </Scroll>
            </>
          )}
        {list.value && (query.get("cursor") || list.value.next) && (
          <div class="more">
            {query.get("cursor") ? <a class="button" href={withoutCursor(query)}>First page</a> : <span />}
            <span class="dim">{plural(rows.length, "row")} here{list.value.examined ? `, of ${count(list.value.examined)} tasks that the search has read` : ""}</span>
            {list.value.next ? <a class="button" href={href("tasks", "", withCursor(query, list.value.next))}>{query.get("text") ? "Search on" : "Next page"}</a> : <span class="dim">the end</span>}
          </div>
        )}
      </Panel>
      {moving.value && <Moving {...moving.value} onClose={() => { moving.value = null; selected.value = new Set(); reload(); }} />}
    </Page>
  );
}

function withCursor(query: URLSearchParams, cursor: string): URLSearchParams {
  const next = new URLSearchParams(query);
  next.set("cursor", cursor);
  return next;
}

function withoutCursor(query: URLSearchParams): string {
  const next = new URLSearchParams(query);
  next.delete("cursor");
  return href("tasks", "", next);
}

/** Note is the fact about a task that its status makes interesting, or else other. */
function Note({ t, other = null }: { t: Task; other?: preact.ComponentChildren }) {
  if (t.status === "failed" || t.status === "retry") {
    const text = errorText(t.result);
    return <span title={text.slice(0, 500)}>{t.status === "retry" && t.delayed_at && <><When at={t.delayed_at} /> · </>}<bdi class="badtext">{text.slice(0, 200)}</bdi></span>;
  }
  if (t.cancel_requested && t.status === "retained") return <>asked to stop</>;
  if (t.status === "new" && t.delayed_at && Date.parse(t.delayed_at) > Date.parse(t.created_at)) return <>due <When at={t.delayed_at} /></>;
  if (t.finished_at) return <>ended <When at={t.finished_at} /></>;
  if (t.status === "retained") return <>since <When at={t.started_at} /></>;
  return <>{other}</>;
}

const local = (at: string | null) => {
  if (!at) return "";
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

function Filters({ queues }: { queues: string[] }) {
  const { query } = route.value;
  const set = (name: string, value: string | string[]) => setQuery({ [name]: value, cursor: "" });
  const present = new Set(query.getAll("status"));
  return (
    <div class="filters">
      <div class="chips" role="group" aria-label="Status">
        {statuses.map((status) => (
          <button type="button" key={status} class={`toggle ${present.has(status) ? "on" : ""}`} aria-pressed={present.has(status)} onClick={() => {
            const next = new Set(present);
            if (!next.delete(status)) next.add(status);
            set("status", [...next]);
          }}>{status}</button>
        ))}
      </div>
      <Filter title="Queue" first list="queue-names" placeholder="any" value={query.get("queue") ?? ""} apply={(value) => set("queue", value.trim())} />
      <datalist id="queue-names">{queues.slice(0, 200).map((q) => <option key={q} value={q} />)}</datalist>
      <Filter title="Worker" placeholder="any" value={query.get("worker") ?? ""} apply={(value) => set("worker", value)} />
      <Filter title="Key" placeholder="any" value={query.get("key") ?? ""} apply={(value) => set("key", value)} />
      <Filter title="Text in payload" placeholder={query.get("queue") ? "any" : "choose a queue"} disabled={!query.get("queue")} value={query.get("text") ?? ""} apply={(value) => set("text", value)} />
      <label><span>Order</span>
        <select value={query.get("order") ?? ""} onChange={(event) => set("order", event.currentTarget.value)}>
          <option value="">newest first</option><option value="oldest">oldest first</option>
        </select>
      </label>
      {query.size > 0 && <a class="button" href={href("tasks")}>Clear</a>}
      <details class="times" open={["created_after", "created_before", "finished_after", "finished_before"].some((name) => query.has(name))}>
        <summary>Times</summary>
        <div>
          {[["created_after", "Created after"], ["created_before", "Created before"], ["finished_after", "Ended after"], ["finished_before", "Ended before"]].map(([name, title]) => (
            <label key={name}><span>{title}</span><input type="datetime-local" value={local(query.get(name!))} onChange={(event) => set(name!, event.currentTarget.value && new Date(event.currentTarget.value).toISOString())} /></label>
          ))}
        </div>
      </details>
    </div>
  );
}

/** hold lets the browser ask before it closes a tab whose work would end. */
const hold = (event: BeforeUnloadEvent) => event.preventDefault();

/** Moving counts first, then asks, then works in steps that can be stopped between. */
export function Moving({ move, selection, all, onClose }: { move: Move; selection: Record<string, unknown>; all: boolean; onClose: () => void }) {
  const what = moves[move];
  const found = useSignal<number | null>(null);
  const state = useSignal<"counting" | "asking" | "working" | "ended">("counting");
  const moved = useSignal(0);
  const typed = useSignal("");
  const fault = useSignal("");
  const stopped = useSignal(false);
  const pace = useSignal("");
  const refused = useSignal<NonNullable<Bulk["errors"]>>([]);

  useEffect(() => {
    let left = false;
    void (async () => {
      try {
        let matched = 0;
        for (let cursor = ""; ; ) {
          const step = await changes.move(move, { ...selection, dry_run: true, ...(cursor ? { cursor } : {}) });
          matched += step.matched;
          if (left) return;
          found.value = matched;
          refused.value = [...refused.value, ...(step.errors ?? [])].slice(0, 100);
          if (!step.next) break;
          cursor = step.next;
        }
        state.value = "asking";
      } catch (error) {
        fault.value = (error as Error).message;
        state.value = "ended";
      }
    })();
    return () => {
      left = true;
      stopped.value = true;
      removeEventListener("beforeunload", hold);
    };
  }, []);

  const work = async () => {
    state.value = "working";
    try {
      addEventListener("beforeunload", hold);
      const perSecond = Math.min(10_000, Math.floor(Number(pace.value)) || 0);
      for (let cursor = ""; !stopped.value; ) {
        const began = Date.now();
        const step = await changes.move(move, { ...selection, within: "2s", ...(perSecond && all ? { limit: perSecond } : {}), ...(cursor ? { cursor } : {}) });
        moved.value += step.moved;
        if (!step.next) break;
        cursor = step.next;
        if (perSecond) await new Promise((resolve) => setTimeout(resolve, Math.max(0, 1_000 - (Date.now() - began))));
      }
    } catch (error) {
      fault.value = (error as Error).message;
    }
    removeEventListener("beforeunload", hold);
    state.value = "ended";
    say(`${what.done} ${plural(moved.value, "task")}.`);
  };

  const n = found.value ?? 0;
  const ready = state.value === "asking" && n > 0 && (!what.typed || typed.value.replaceAll(",", "").trim() === String(n));
  return (
    <Dialog title={`${what.verb} tasks`} onClose={() => { stopped.value = true; onClose(); }}>
      <form onSubmit={(event) => { event.preventDefault(); if (ready) void work(); }}>
        {state.value === "counting" && <p aria-live="polite">Counting{found.value !== null && `: ${count(n)} so far`}…</p>}
        {state.value === "asking" && (
          <>
            <p><b>{plural(n, "task")}</b> {all ? (n === 1 ? "matches and changes." : "match and change.") : n === 1 ? "of the selected ones changes." : "of the selected ones change."}</p>
            <p class="dim">{what.text}</p>
            {refused.value.length > 0 && <details><summary>{plural(refused.value.length, "task")} will not change</summary><ul class="plainlist">{refused.value.slice(0, 20).map((e) => <li key={String(e.id)}>{String(e.id)}: {e.error.detail}</li>)}</ul></details>}
            {all && n > 1 && move === "retry" && <label class="field"><span>Tasks per second, at most</span><input value={pace.value} inputMode="numeric" placeholder="no limit" autoComplete="off" onInput={(event) => (pace.value = event.currentTarget.value)} /></label>}
            {what.typed && n > 0 && <label class="field"><span>Type <b>{n}</b> to confirm</span><input value={typed.value} inputMode="numeric" autoComplete="off" onInput={(event) => (typed.value = event.currentTarget.value)} /></label>}
          </>
        )}
        {(state.value === "working" || (state.value === "ended" && !fault.value)) && (
          <>
            <p role="status">{what.done} {count(moved.value)} of {count(n)}{state.value === "working" ? "…" : "."}{stopped.value && " Stopped."}</p>
            {state.value === "working" && <p class="dim">It goes on while this tab is open{Number(pace.value) >= 1 && n > moved.value && <>, for about {span((n - moved.value) / Number(pace.value))}</>}.</p>}
            <progress max={Math.max(n, 1)} value={state.value === "ended" && !stopped.value ? Math.max(n, 1) : moved.value} aria-label="Progress" />
          </>
        )}
        {fault.value && <p class="fault" role="alert">{fault.value}{moved.value > 0 && ` ${what.done} ${count(moved.value)} before that.`}</p>}
        <div class="buttons">
          {state.value === "working"
            ? <button type="button" onClick={() => (stopped.value = true)}>Stop</button>
            : <button type="button" onClick={onClose}>{state.value === "ended" ? "Close" : "Leave it"}</button>}
          {(state.value === "asking" || state.value === "counting") && <button type="submit" class={what.tone} aria-disabled={!ready}>{what.verb} {found.value === null ? "…" : plural(n, "task")}</button>}
        </div>
      </form>
    </Dialog>
  );
}

