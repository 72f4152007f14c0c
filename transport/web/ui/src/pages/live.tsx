// The changes of tasks as they happen.

import { useSignal } from "@preact/signals";
import { recent, seen, stream } from "../live";
import { Button, Denied, Empty, Page, Panel, Scroll, clock } from "../parts";
import { may } from "../rights";
import { href, route, setQuery } from "../route";
import { type Tone, count, look } from "../words";

const kinds = ["created", "retained", "released", "retry", "failed", "expired", "cancelled", "returned", "revived", "progress", "quarantined"];
const meaning: Record<string, string> = { created: "new", retained: "retained", released: "released", retry: "retry", failed: "failed", expired: "expired", cancelled: "cancelled" };

function toneOf(kind: string): [Tone, string] {
  const [tone, mark] = look(meaning[kind] ?? kind);
  return [tone, mark];
}

export function Live() {
  const paused = useSignal<typeof recent.value | null>(null);
  const { query } = route.value;
  if (!may("event.read")) return <Page title="Live"><Panel><Denied action="event.read" what="Changes are" /></Panel></Page>;
  const queue = query.get("queue") ?? "";
  const chosen = new Set(query.getAll("kind"));
  const events = (paused.value ?? recent.value).filter((e) => (!queue || e.queue === queue) && (!chosen.size || chosen.has(e.kind)));
  return (
    <Page title="Live" aside={<span class="dim">{paused.value ? "paused" : stream.value === "live" ? "newest first" : stream.value}</span>}
      actions={<Button onClick={() => (paused.value = paused.value ? null : recent.value)}>{paused.value ? "Go on" : "Pause"}</Button>}>
      <Panel>
        <div class="filters">
          <div class="chips" role="group" aria-label="Kind of change">
            {kinds.map((kind) => (
              <button type="button" key={kind} class={`toggle ${chosen.has(kind) ? "on" : ""}`} aria-pressed={chosen.has(kind)} onClick={() => {
                const next = new Set(chosen);
                if (!next.delete(kind)) next.add(kind);
                setQuery({ kind: [...next] });
              }}>{kind} <span class="dim">{count(seen.value[kind])}</span></button>
            ))}
          </div>
          <label><span>Queue</span><input data-filter value={queue} placeholder="any" spellcheck={false} autoComplete="off" onInput={(event) => setQuery({ queue: event.currentTarget.value.trim() })} /></label>
        </div>
        {events.length === 0 ? <Empty>{recent.value.length ? "No change of the last ones matches." : "No change yet since this page was opened. It shows the next one by itself."}</Empty> : (
          <Scroll label="Changes">
            <table>
              <thead><tr><th scope="col" class="left">Time</th><th scope="col" class="left">Change</th><th scope="col" class="left">Task</th><th scope="col" class="left">Queue</th><th scope="col" class="left opt">Worker</th></tr></thead>
              <tbody>
                {events.slice(0, 100).map((e) => {
                  const [tone, mark] = toneOf(e.kind);
                  return (
                    <tr key={e.cursor + e.kind + e.task} data-row>
                      <td class="left"><time dateTime={e.at} title={clock(e.at)}>{clock(e.at, true)}</time></td>
                      <td class="left"><span class={`mark ${tone}`} aria-hidden="true">{mark}</span> {e.kind}</td>
                      <td class="left"><a class="name" href={href("task", String(e.task))}>{String(e.task)}</a></td>
                      <td class="left"><a href={href("queue", e.queue)}>{e.queue}</a></td>
                      <td class="left opt cut"><bdi>{e.worker}</bdi></td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </Scroll>
        )}
      </Panel>
    </Page>
  );
}
