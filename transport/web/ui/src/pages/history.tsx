// The history of a queue: the work of each minute or hour, and the tasks that waited.

import { Chart } from "../chart";
import { useData } from "../data";
import { Empty, Loading, Panel, Trouble, now } from "../parts";
import { may } from "../rights";
import { href, route } from "../route";
import { count, span } from "../words";

interface Point { at: string; created: number; released: number; failed: number; retried: number; ready: number; oldest_ready_age: number }

/** The spans of time to choose from: [name, step, number of points]. */
const spans = [["1 hour", "minute", 60], ["24 hours", "minute", 1440], ["30 days", "hour", 720]] as const;

/** fill returns one point for each step up to the present. Where the server has none, nothing happened. */
function fill(points: Point[], step: "minute" | "hour", n: number, present: number): Point[] {
  const length = step === "minute" ? 60_000 : 3_600_000;
  const known = new Map(points.map((p) => [Date.parse(p.at), p]));
  // The present minute has no point yet; that of the present hour grows.
  const last = Math.floor(present / length) * length - (step === "minute" ? length : 0);
  return Array.from({ length: n }, (_, index) => {
    const at = last - (n - 1 - index) * length;
    return known.get(at) ?? { at: new Date(at).toISOString(), created: 0, released: 0, failed: 0, retried: 0, ready: 0, oldest_ready_age: 0 };
  });
}

/** join adds neighbours, so that a day of minutes has as many points as a narrow drawing can show. */
function join(points: Point[], most: number): Point[] {
  const size = Math.ceil(points.length / most);
  if (size <= 1) return points;
  const joined: Point[] = [];
  for (let from = 0; from < points.length; from += size) {
    const part = points.slice(from, from + size);
    const sum = (of: (p: Point) => number) => part.reduce((total, p) => total + of(p), 0);
    const top = (of: (p: Point) => number) => Math.max(...part.map(of));
    joined.push({ at: part[0]!.at, created: sum((p) => p.created), released: sum((p) => p.released), failed: sum((p) => p.failed), retried: sum((p) => p.retried), ready: top((p) => p.ready), oldest_ready_age: top((p) => p.oldest_ready_age) });
  }
  return joined;
}

/** The most points of a drawing. */
const maxPoints = 240;

export function History({ name }: { name: string }) {
  const chosen = spans.find(([title]) => title === route.value.query.get("span")) ?? spans[0];
  const [title, step, n] = chosen;
  // The start is a whole hour, so that the answer has one key for an hour.
  const since = new Date(Math.floor(now.peek() / 3_600_000) * 3_600_000 - (step === "minute" ? n * 60_000 : n * 3_600_000)).toISOString();
  const data = useData<{ points: Point[] }>(may("queue.read", name) ? `/queue/${encodeURIComponent(name)}/history?step=${step}&after=${encodeURIComponent(since)}` : null);
  const points = data.value ? join(fill(data.value.points, step, n, now.value), maxPoints) : [];
  const times = points.map((p) => p.at);
  const per = step === "hour" ? "3 hours" : n > maxPoints ? "6 minutes" : "a minute";
  return (
    <Panel title="History" aside={
      <span class="spans" role="group" aria-label="Span of time">
        {spans.map(([other]) => <a key={other} href={href("queue", name, { span: other === spans[0][0] ? "" : other })} aria-current={other === title ? "true" : undefined}>{other}</a>)}
      </span>
    }>
      {data.problem && !data.value ? <Trouble problem={data.problem} />
        : !data.value ? <Loading />
        : points.every((p) => !p.created && !p.released && !p.failed && !p.ready) ? <Empty>Nothing has happened in this time. A new point comes each minute.</Empty>
        : (
          <div class="charts">
            <Chart title={`Tasks ${per === "a minute" ? per : `in ${per}`}`} times={times} format={(v) => count(v)} lines={[
              { name: "released", values: points.map((p) => p.released) },
              { name: "created", values: points.map((p) => p.created) },
              { name: "failed", values: points.map((p) => p.failed) },
            ]} />
            <Chart title="Ready tasks" times={times} format={(v) => count(v)} lines={[{ name: "ready", values: points.map((p) => p.ready) }]} />
            <Chart title="Oldest ready task" times={times} format={(v) => span(v)} lines={[{ name: "waits", values: points.map((p) => p.oldest_ready_age / 1e9) }]} />
          </div>
        )}
    </Panel>
  );
}
