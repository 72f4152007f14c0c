// Line charts: an SVG for the eye, a sentence and a table for readers.

import { useSignal } from "@preact/signals";
import { useId } from "preact/hooks";
import { Scroll, clock } from "./parts";

export interface Line {
  name: string;
  /** values has one number for each time; null where it is not known. */
  values: (number | null)[];
}

/** The size of the drawing; it stretches with its box. */
const width = 600;
const height = 96;

/** pathOf draws a line, with a gap where a value is not known. */
function pathOf(values: (number | null)[], most: number): string {
  let path = "";
  let pen = false;
  const step = width / Math.max(1, values.length - 1);
  values.forEach((value, index) => {
    if (value === null) {
      pen = false;
      return;
    }
    path += `${pen ? "L" : "M"}${(index * step).toFixed(1)} ${(height - (value / most) * height).toFixed(1)}`;
    pen = true;
  });
  return path;
}

/** Chart shows lines over the same times. The lines differ in their dashes too, and the table has their numbers. */
export function Chart({ title, times, lines, format }: { title: string; times: string[]; lines: Line[]; format: (n: number) => string }) {
  const table = useSignal(false);
  const id = useId();
  const numbers = lines.flatMap((line) => line.values.filter((value) => value !== null));
  const most = Math.max(...numbers, 0);
  const last = (line: Line) => line.values.findLast((value) => value !== null) ?? 0;
  const summary = `${title}: ${lines.map((line) => `${line.name} now ${format(last(line))}, at most ${format(Math.max(0, ...line.values.filter((v) => v !== null)))}`).join("; ")}`;
  return (
    <figure class="chart" aria-labelledby={id}>
      <figcaption>
        <b id={id}>{title}</b>
        {lines.map((line, index) => (
          <span key={line.name} class="key">
            <svg viewBox="0 0 18 6" aria-hidden="true"><path class={`s${index}`} d="M0 3L18 3" /></svg>
            {line.name} <span class="dim">{format(last(line))}</span>
          </span>
        ))}
      </figcaption>
      <div class="plot">
        <span class="dim most" aria-hidden="true">{format(most)}</span>
        <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={summary}>
          <path class="axis" d={`M0 0L${width} 0M0 ${height}L${width} ${height}`} />
          {lines.map((line, index) => <path key={line.name} class={`s${index}`} d={pathOf(line.values, most || 1)} />)}
        </svg>
      </div>
      <div class="ends dim"><span>{times[0] && clock(times[0])}</span><button type="button" class="inline" aria-expanded={table.value} onClick={() => (table.value = !table.value)}>{table.value ? "hide the table" : "as a table"}</button><span>now</span></div>
      {table.value && (
        <Scroll label={`${title} as a table`}>
          <table>
            <thead><tr><th scope="col" class="left">From</th>{lines.map((line) => <th scope="col" key={line.name}>{line.name}</th>)}</tr></thead>
            <tbody>
              {times.map((at, index) => ({ at, index })).filter(({ index }) => lines.some((line) => line.values[index])).slice(-60).reverse().map(({ at, index }) => (
                <tr key={at}><td class="left">{clock(at)}</td>{lines.map((line) => <td key={line.name}>{line.values[index] === null ? "–" : format(line.values[index]!)}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </figure>
  );
}
