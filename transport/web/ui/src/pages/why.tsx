// Why a task or a queue does not proceed, in the words of the server.

import { useData } from "../data";
import { Trouble, When, clock } from "../parts";
import { may } from "../rights";
import { href } from "../route";
import type { ID } from "../api";

interface Reason {
  code: string; text: string; advice?: string; since?: string; until?: string;
  hold?: { task: ID; worker: string; since: string; expires_at: string };
}

/** Codes that need no attention. */
const calm = new Set(["empty", "finished", "retained", "ready", "delayed", "backoff"]);

/** Why shows the reasons of a task or of a queue; the first one decides. */
export function Why({ of }: { of: { queue: string } | { task: string } }) {
  const path = "task" in of ? `/task/${encodeURIComponent(of.task)}/why` : `/queue/${encodeURIComponent(of.queue)}/why`;
  const readable = "task" in of || may("queue.read", of.queue);
  const data = useData<{ reasons: Reason[] }>(readable ? path : null);
  if (data.problem && !data.value && data.problem.status >= 500) return <Trouble problem={data.problem} />;
  const [first, ...rest] = data.value?.reasons ?? [];
  if (!first || ("queue" in of && first.code === "empty" && rest.length === 0)) return null;
  return (
    <section class={`why ${calm.has(first.code) ? "calm" : ""}`} aria-label="Why">
      <Line reason={first} strong />
      {rest.length > 0 && <ul>{rest.map((reason) => <li key={reason.code}><Line reason={reason} /></li>)}</ul>}
    </section>
  );
}

function Line({ reason: r, strong }: { reason: Reason; strong?: boolean }) {
  const text = readTimes(r.text);
  return (
    <div>
      {strong ? <b>{text}</b> : text} {r.advice && <span>{r.advice}</span>}
      {r.until && <span class="dim"> It ends <When at={r.until} />.</span>}
      {r.hold && <span class="dim"> Task <a href={href("task", String(r.hold.task))}>{String(r.hold.task)}</a> is held by <bdi>{r.hold.worker}</bdi>, retained <When at={r.hold.since} />.</span>}
    </div>
  );
}

const instants = /\d{4}-\d\d-\d\dT[\d:.]+Z/g;

/** readTimes writes the times in a text of the server for the zone of the reader. */
function readTimes(text: string) {
  const parts: preact.ComponentChildren[] = [];
  let from = 0;
  for (const found of text.matchAll(instants)) {
    parts.push(text.slice(from, found.index), <time key={found.index} dateTime={found[0]} title={clock(found[0])}>{clock(found[0])}</time>);
    from = found.index + found[0].length;
  }
  parts.push(text.slice(from));
  return parts;
}
