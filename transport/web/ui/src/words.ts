// Numbers, times and statuses in words.

import type { Task } from "./api";

const integers = new Intl.NumberFormat("en");
const shorts = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** count writes a number with separators. */
export const count = (n: number | undefined) => integers.format(n ?? 0);

/** plural writes "1 task", "2 tasks". */
export const plural = (n: number, one: string, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

/** rate writes tasks per second. */
export const rate = (n: number | undefined) => (!n ? "0" : n < 0.01 ? "<0.01" : n < 1 ? n.toFixed(2) : shorts.format(n));

/** bytes writes the size of a text in UTF-8. */
export function bytes(text: string): string {
  const n = new TextEncoder().encode(text).length;
  if (n < 1024) return plural(n, "byte");
  return n < 1 << 20 ? `${shorts.format(n / 1024)} KiB` : `${shorts.format(n / (1 << 20))} MiB`;
}

const units: [string, number][] = [
  ["d", 86400],
  ["h", 3600],
  ["m", 60],
  ["s", 1],
];

/** span writes seconds with at most two units: "41 m", "2 m 10 s". */
export function span(seconds: number): string {
  seconds = Math.max(0, seconds);
  if (seconds < 10) return `${seconds < 0.05 ? "0" : seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [index, [name, size]] of units.entries()) {
    const n = Math.floor(whole / size);
    if (n === 0) continue;
    const next = units[index + 1];
    const rest = next ? Math.floor((whole - n * size) / next[1]) : 0;
    return rest > 0 && n < 10 ? `${n} ${name} ${rest} ${next![0]}` : `${n} ${name}`;
  }
  return "0 s";
}

/** duration writes the nanoseconds of the API, exact enough to be typed back: "1h30m". */
export function duration(nanoseconds: number | string | undefined): string {
  if (nanoseconds === undefined || nanoseconds === null) return "";
  let rest = Math.round(Number(nanoseconds) / 1e6) / 1000;
  if (rest === 0) return "0s";
  let text = "";
  for (const [name, size] of units) {
    if (name === "s") {
      if (rest > 0) text += `${rest}s`;
      break;
    }
    const n = Math.floor(rest / size);
    if (n > 0) text += n + name;
    rest = Math.round((rest - n * size) * 1000) / 1000;
  }
  return text;
}

/** The statuses in the order of a task's life, with a mark so that colour is never the only sign. */
export const statuses = ["new", "retry", "retained", "released", "failed", "expired", "cancelled"] as const;

export type Tone = "ok" | "warn" | "bad" | "run" | "off";

const looks: Record<string, [Tone, string, string]> = {
  new: ["off", "○", "waiting for a worker, or for its time"],
  retry: ["warn", "↻", "failed before, and waits for its next attempt"],
  retained: ["run", "◐", "held by a worker"],
  released: ["ok", "✓", "succeeded"],
  failed: ["bad", "▲", "failed, and has no retries left"],
  expired: ["warn", "◷", "its ttl passed before it ended"],
  cancelled: ["off", "✕", "cancelled"],
};

/** look returns tone, mark and meaning of a status. */
export const look = (status: string): [Tone, string, string] => looks[status] ?? ["off", "·", status];

export const finished = (task: Task) => ["released", "failed", "expired", "cancelled"].includes(task.status);

const cronFields = /^(\S+) (\S+) (\S+) (\S+) (\S+)$/;
const weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/** schedule says in words when a ticker fires. A cron expression beyond the common forms stays as it is. */
export function schedule(t: { period?: number | string; cron?: string; timezone?: string }): string {
  if (!t.cron) return `every ${span(Number(t.period) / 1e9)}`;
  const zone = t.timezone && t.timezone !== "UTC" ? `, ${t.timezone}` : " UTC";
  const named: Record<string, string> = {
    "@hourly": "every hour", "@daily": "every day at 00:00", "@midnight": "every day at 00:00",
    "@weekly": "every Sunday at 00:00", "@monthly": "on day 1 of each month at 00:00", "@yearly": "on 1 January at 00:00", "@annually": "on 1 January at 00:00",
  };
  if (named[t.cron]) return named[t.cron] + (t.cron === "@hourly" ? "" : zone);
  const found = cronFields.exec(t.cron);
  const plain = (s: string) => /^\d+$/.test(s);
  if (found) {
    const [, minute, hour, day, month, week] = found as unknown as [string, string, string, string, string, string];
    const step = /^\*\/(\d+)$/.exec(minute);
    if (step && hour === "*" && day === "*" && month === "*" && week === "*") return `every ${step[1]} minutes`;
    if (minute === "*" && hour === "*" && day === "*" && month === "*" && week === "*") return "every minute";
    if (plain(minute) && hour === "*" && day === "*" && month === "*" && week === "*") return `every hour at minute ${minute}`;
    if (plain(minute) && plain(hour) && month === "*") {
      const at = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
      if (day === "*" && week === "*") return `every day at ${at}${zone}`;
      if (day === "*" && week === "1-5") return `Monday to Friday at ${at}${zone}`;
      if (day === "*" && /^[0-6]$/.test(week)) return `every ${weekdays[Number(week)]} at ${at}${zone}`;
      if (plain(day) && week === "*") return `on day ${day} of each month at ${at}${zone}`;
    }
  }
  return `cron ${t.cron}${zone}`;
}
