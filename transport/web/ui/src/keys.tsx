// Keys, the palette and their help.

import { signal, useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { type List, type Stats, type Ticker, paths } from "./api";
import { useData } from "./data";
import { Dialog, utc } from "./parts";
import { may } from "./rights";
import { go, href, route } from "./route";

/** pages are those of the navigation, with the key behind g. */
export const pages = [
  { page: "", title: "Overview", key: "o" },
  { page: "queues", title: "Queues", key: "q" },
  { page: "tasks", title: "Tasks", key: "t" },
  { page: "failures", title: "Failures", key: "f" },
  { page: "tickers", title: "Tickers", key: "k" },
  { page: "workers", title: "Workers", key: "w" },
  { page: "live", title: "Live", key: "l" },
  { page: "system", title: "System", key: "s" },
  { page: "access", title: "Access", key: "a" },
] as const;

export const palette = signal(false);
export const help = signal(false);

/** letters says whether single letters act as keys. WCAG 2.1.4 asks for a way to switch them off. */
export const letters = signal(localStorage.getItem("pgqueue letters") !== "0");

const rows = () => [...document.querySelectorAll<HTMLElement>("tr[data-row] a[href]:first-of-type, li[data-row] a[href]:first-of-type")].filter(
  (link, index, all) => all.findIndex((other) => other.closest("[data-row]") === link.closest("[data-row]")) === index,
);

function step(by: number) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((link) => link.closest("[data-row]") === document.activeElement?.closest("[data-row]"));
  all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))]!.focus();
}

/** listen handles the keys of the page. */
export function listen() {
  let leading = 0;
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      palette.value = !palette.value;
      return;
    }
    const target = event.target as HTMLElement;
    const typing = target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (!letters.value || typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;

    if (leading && Date.now() - leading < 1500) {
      leading = 0;
      const to = pages.find((p) => p.key === event.key);
      if (to) {
        event.preventDefault();
        go(href(to.page));
      }
      return;
    }
    switch (event.key) {
      case "g":
        leading = Date.now();
        return;
      case "/": {
        const filter = document.querySelector<HTMLElement>("[data-filter]");
        if (filter) filter.focus();
        else palette.value = true;
        break;
      }
      case "j":
        step(1);
        break;
      case "k":
        step(-1);
        break;
      case "x":
        target.closest("[data-row]")?.querySelector<HTMLElement>("input[type=checkbox]")?.click();
        return;
      case ".":
        document.querySelector<HTMLElement>(".head .actions button, .head .actions summary")?.focus();
        break;
      case "?":
        help.value = true;
        break;
      default:
        return;
    }
    event.preventDefault();
  });
}

const keyList: [string, string][] = [
  ["Ctrl K", "find a task, a queue, a page"],
  ["/", "go to the filter"],
  ["j  k", "next row, previous row"],
  ["x", "select the row"],
  ["Enter", "open the row"],
  [".", "go to the actions of the page"],
  ...pages.map((p): [string, string] => [`g ${p.key}`, p.title]),
  ["?", "this list"],
];

/** Help lists the keys. */
export function Help() {
  if (!help.value) return null;
  return (
    <Dialog title="Keys" onClose={() => (help.value = false)}>
      <dl class="keys">{keyList.map(([key, text]) => <div key={key}><dt>{key.split(/ +/).map((k) => <kbd key={k}>{k}</kbd>)}</dt><dd>{text}</dd></div>)}</dl>
      <label class="check">
        <input type="checkbox" checked={letters.value} onChange={(event) => {
          letters.value = event.currentTarget.checked;
          localStorage.setItem("pgqueue letters", letters.value ? "1" : "0");
        }} /> Single letters act as keys
      </label>
      <label class="check">
        <input type="checkbox" checked={utc.value} onChange={(event) => {
          utc.value = event.currentTarget.checked;
          localStorage.setItem("pgqueue utc", utc.value ? "1" : "0");
        }} /> Times in UTC
      </label>
      <div class="buttons"><button type="button" onClick={() => (help.value = false)}>Close</button></div>
    </Dialog>
  );
}

interface Item { title: string; hint: string; to: string }

/** The most results of the palette. */
const maxItems = 12;

/** Palette finds pages, queues, tickers and tasks by their names. */
export function Palette() {
  return palette.value ? <Finder /> : null;
}

function Finder() {
  const text = useSignal("");
  const at = useSignal(0);
  const box = useRef<HTMLInputElement>(null);
  const stats = useData<List<Stats>>(may("queue.read") ? paths.stats : null, { fixed: true });
  const tickers = useData<List<Ticker>>(may("ticker.read") ? paths.tickers : null, { fixed: true });
  useLayoutEffect(() => box.current?.focus(), []);
  const close = () => (palette.value = false);

  const words = text.value.trim().toLowerCase();
  const items: Item[] = [];
  if (/^\d{1,19}$/.test(words)) items.push({ title: `Task ${words}`, hint: "open", to: href("task", words) });
  const matches = (title: string) => title.toLowerCase().includes(words);
  for (const p of pages) if (matches(p.title)) items.push({ title: p.title, hint: "page", to: href(p.page) });
  for (const q of stats.value?.body ?? []) {
    if (items.length >= 50) break;
    if (matches(q.queue)) items.push({ title: q.queue, hint: "queue", to: href("queue", q.queue) });
    if (words && matches(`failed ${q.queue}`) && words.startsWith("fail"))
      items.push({ title: `failed tasks of ${q.queue}`, hint: "tasks", to: href("tasks", "", { queue: q.queue, status: "failed" }) });
  }
  for (const t of tickers.value?.body ?? []) if (items.length < 50 && matches(t.ticker)) items.push({ title: t.ticker, hint: "ticker", to: href("ticker", t.ticker) });
  if (words && /^[a-z][a-z0-9_-]*$/.test(words) && words !== route.value.namespace)
    items.push({ title: `Namespace ${words}`, hint: "switch", to: href("", "", undefined, words) });
  // The better matches begin with the words.
  items.sort((a, b) => Number(b.title.toLowerCase().startsWith(words)) - Number(a.title.toLowerCase().startsWith(words)));
  const shown = items.slice(0, maxItems);
  const active = Math.min(at.value, shown.length - 1);
  const open = (item: Item | undefined) => {
    if (!item) return;
    close();
    go(item.to);
  };

  return (
    <Dialog title="Find" onClose={close}>
      <input ref={box} class="find" role="combobox" aria-expanded="true" aria-controls="found" aria-autocomplete="list" aria-label="Find a task by its number, a queue, a ticker, a page"
        aria-activedescendant={shown.length ? `found-${active}` : undefined} placeholder="Task number, queue, ticker, page" autoComplete="off" spellcheck={false} value={text.value}
        onInput={(event) => { text.value = event.currentTarget.value; at.value = 0; }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") at.value = Math.min(shown.length - 1, active + 1);
          else if (event.key === "ArrowUp") at.value = Math.max(0, active - 1);
          else if (event.key === "Enter") open(shown[active]);
          else return;
          event.preventDefault();
        }} />
      <ul id="found" role="listbox" aria-label="Results">
        {shown.map((item, index) => (
          <li key={item.hint + item.title} id={`found-${index}`} role="option" aria-selected={index === active} onClick={() => open(item)}>
            <span>{item.title}</span><span class="dim">{item.hint}</span>
          </li>
        ))}
      </ul>
      {!shown.length && <p class="dim">Nothing has this name. A task is found by its number.</p>}
    </Dialog>
  );
}
