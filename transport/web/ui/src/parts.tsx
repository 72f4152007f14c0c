// The parts that all pages share.

import { signal, useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useLayoutEffect, useRef } from "preact/hooks";
import { Problem, skew } from "./api";
import { type Action, may, need } from "./rights";
import { href, route } from "./route";
import { type Tone, count, look, span } from "./words";

/** now is the time of the server in ms. One timer serves all relative times of the page. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now() + skew.peek();
}, 1000);

/** utc shows times in UTC instead of the zone of the browser. */
export const utc = signal(localStorage.getItem("pgqueue utc") === "1");

/** clock writes a time in full. */
export function clock(at: string, short = false): string {
  const zone = utc.value ? "UTC" : undefined;
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  if (short)
    return date.toLocaleTimeString("en-GB", { timeZone: zone, hour12: false }) + "." + String(date.getUTCMilliseconds()).padStart(3, "0");
  // The date of today says nothing new.
  const day = (d: Date) => d.toLocaleDateString("en-GB", { timeZone: zone });
  if (day(date) === day(new Date(now.peek()))) return date.toLocaleTimeString("en-GB", { timeZone: zone, hour12: false }) + (utc.value ? " UTC" : "");
  return date.toLocaleString("en-GB", { timeZone: zone, dateStyle: "medium", timeStyle: "medium" }) + (utc.value ? " UTC" : "");
}

/** minute writes a time without its seconds: "14:03", "29 Nov, 14:03". */
export function minute(at: number): string {
  const zone = utc.value ? "UTC" : undefined;
  const date = new Date(at);
  const day = (d: Date) => d.toLocaleDateString("en-GB", { timeZone: zone });
  const today = day(date) === day(new Date(now.peek()));
  const text = date.toLocaleString("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", ...(today ? {} : { day: "numeric", month: "short" }) });
  return text + (utc.value ? " UTC" : "");
}

/** When shows a time relative to now: "3 m ago", "in 12 h". */
export function When({ at }: { at: string | undefined }) {
  if (!at) return <span class="dim">–</span>;
  const seconds = (now.value - Date.parse(at)) / 1000;
  const far = Math.abs(seconds) < 1 ? "now" : seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
  return <time dateTime={at} title={clock(at)}>{far.replace(/(\d)\.\d s/, "$1 s")}</time>;
}

export function Chip({ tone, mark, children, title }: { tone: Tone; mark?: string; children: ComponentChildren; title?: string }) {
  return (
    <span class={`chip ${tone}`} title={title}>
      {mark && <span aria-hidden="true">{mark}</span>}
      {children}
    </span>
  );
}

/** Status shows the status of a task by mark, word and colour. */
export function Status({ status }: { status: string }) {
  const [tone, mark, title] = look(status);
  return <Chip tone={tone} mark={mark} title={title}>{status}</Chip>;
}

/** Page is the frame of each page: its title, its actions, its content. The heading takes the focus after a change of page. */
export function Page({ title, aside, actions, children }: { title: string; aside?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren }) {
  useEffect(() => {
    document.title = `${title} · ${route.value.namespace} · pgqueue`;
  }, [title]);
  return (
    <>
      <header class="head">
        <h1 tabIndex={-1} id="title"><bdi>{title}</bdi></h1>
        {aside}
        <span class="grow" />
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}

/** Panel is a box with a heading. */
export function Panel({ title, aside, children, class: name = "" }: { title?: ComponentChildren; aside?: ComponentChildren; children: ComponentChildren; class?: string }) {
  return (
    <section class={`panel ${name}`}>
      {title && <h2 class="bar-title"><span>{title}</span>{aside && <span class="dim">{aside}</span>}</h2>}
      {children}
    </section>
  );
}

/** Scroll lets a wide table move inside its box, by keyboard too. */
export function Scroll({ label, children }: { label: string; children: ComponentChildren }) {
  return <div class="scroll" role="region" aria-label={label} tabIndex={0}>{children}</div>;
}

interface ButtonProps extends Omit<JSX.IntrinsicElements["button"], "action"> {
  /** action is the right that the button needs, in queue. */
  action?: Action;
  queue?: string;
  tone?: "main" | "bad";
}

/** Button runs something. Without the right for it, it stays in view and says which role it needs. */
export function Button({ action, queue = "", tone, onClick, title, children, ...rest }: ButtonProps) {
  const allowed = !action || may(action, queue);
  const why = allowed ? "" : need(action!);
  return (
    <button type="button" {...rest} class={tone ?? ""} aria-disabled={!allowed || rest.disabled ? "true" : undefined} title={why || title}
      onClick={(event) => {
        // The second click of a double click means no second change.
        if (action && event.detail > 1) return;
        if (allowed) (onClick as ((e: unknown) => void) | undefined)?.(event);
        else say(`Not permitted: ${why}.`);
      }}>
      {!allowed && <span class="lock" aria-hidden="true">⊘</span>}
      {children}
      {!allowed && <span class="hidden"> (not permitted, {why})</span>}
    </button>
  );
}

/** Denied says in place of content which right is missing. */
export function Denied({ action, what }: { action: Action; what: string }) {
  return (
    <div class="empty">
      <p><span aria-hidden="true">⊘ </span>{what} not shown: this {need(action).replace("needs", "view needs")}.</p>
      <p class="dim">Ask for it, or <a href={href("access")}>see your own rights</a>.</p>
    </div>
  );
}

/** Trouble says what a failed read means and leads on. */
export function Trouble({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  return (
    <div class="empty" role="alert">
      <p class="strong">{titles[problem.code] ?? "This did not work"}</p>
      <p>{problem.message}</p>
      {children}
    </div>
  );
}

const titles: Record<string, string> = {
  unreachable: "The server does not answer",
  unavailable: "The server cannot reach its database",
  permission_denied: "Not permitted",
  not_found: "Not there",
  invalid: "The address has a wrong part",
  cursor_expired: "This place in the list has expired",
  precondition_failed: "It has changed meanwhile",
  conflict: "This is not possible now",
};

/** Loading stands in for content that is on its way. */
export const Loading = () => <div class="empty dim" aria-busy="true">Loading…</div>;

/** Empty says that a list has no items, and the way to the first one. */
export const Empty = ({ children }: { children: ComponentChildren }) => <div class="empty dim">{children}</div>;

/** useOnce runs the work of a form, and no second time before it has ended. */
export function useOnce(work: (event: SubmitEvent) => Promise<unknown>): (event: SubmitEvent) => void {
  const busy = useRef(false);
  return (event) => {
    event.preventDefault();
    if (busy.current) return;
    busy.current = true;
    void work(event).finally(() => (busy.current = false));
  };
}

// Messages.

interface Message { text: string; undo?: () => void; id: number }
const message = signal<Message | null>(null);

/** say shows a message and speaks it once. */
export function say(text: string, undo?: () => void) {
  message.value = { text, undo, id: Date.now() };
}

/** Messages is the live region of the page. */
export function Messages() {
  const present = message.value;
  useEffect(() => {
    if (!present) return;
    // A message with an undo stays longer.
    const timer = setTimeout(() => (message.value = null), present.undo ? 20_000 : 8_000);
    return () => clearTimeout(timer);
  }, [present?.id]);
  return (
    <div class="messages">
      <div role="status" aria-live="polite">{present && <span key={present.id}>{present.text}</span>}</div>
      {present && (
        <>
          {present.undo && <button type="button" onClick={() => { present.undo!(); message.value = null; }}>Undo</button>}
          <button type="button" class="plainbutton" aria-label="Dismiss" onClick={() => (message.value = null)}>✕</button>
        </>
      )}
    </div>
  );
}

/** attempt runs a change and says how it went. It returns whether it worked. */
export async function attempt(done: string, work: () => Promise<unknown>, undo?: () => void): Promise<boolean> {
  try {
    await work();
    say(done, undo);
    return true;
  } catch (error) {
    say(`Not done: ${(error as Error).message}`);
    return false;
  }
}

// Dialogs.

/** Dialog is a modal window. Escape and a click outside close it. */
export function Dialog({ title, onClose, children, wide }: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  // Before the next key: a fast typist must not lose letters.
  useLayoutEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    ref.current!.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog ref={ref} aria-labelledby={id} class={wide ? "wide" : ""} onCancel={(event) => { event.preventDefault(); onClose(); }}
      onClick={(event) => event.target === ref.current && onClose()}>
      <div class="inner">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

interface Question {
  title: string;
  text: ComponentChildren;
  /** confirm is the text of the button; it repeats the number of things that change. */
  confirm: string;
  tone?: "main" | "bad";
  /** typed must be typed first, where nothing can be undone. */
  typed?: string;
  answer: (yes: boolean) => void;
}

const question = signal<Question | null>(null);

/** ask shows a question and returns whether the user confirmed it. */
export const ask = (q: Omit<Question, "answer">) =>
  new Promise<boolean>((resolve) => {
    question.value = { ...q, answer: (yes) => { question.value = null; resolve(yes); } };
  });

/** Questions shows the present question. */
export function Questions() {
  const typed = useSignal("");
  const q = question.value;
  useEffect(() => {
    typed.value = "";
  }, [q]);
  if (!q) return null;
  const ready = !q.typed || typed.value.trim() === q.typed;
  return (
    <Dialog title={q.title} onClose={() => q.answer(false)}>
      <form onSubmit={(event) => { event.preventDefault(); if (ready) q.answer(true); }}>
        {q.text}
        {q.typed && (
          <label class="field">
            <span>Type <b>{q.typed}</b> to confirm</span>
            <input value={typed.value} onInput={(event) => (typed.value = event.currentTarget.value)} autoComplete="off" spellcheck={false} />
          </label>
        )}
        <div class="buttons">
          <button type="button" onClick={() => q.answer(false)}>Leave it</button>
          <button type="submit" class={q.tone ?? "main"} aria-disabled={!ready}>{q.confirm}</button>
        </div>
      </form>
    </Dialog>
  );
}

/** Filter is a text that applies on Enter, and when the focus leaves it. News on the page does not change a text that is being typed. */
export function Filter({ title, value, apply, first, ...rest }: { title: string; value: string; apply: (value: string) => void; list?: string; placeholder?: string; disabled?: boolean; first?: boolean }) {
  const text = useSignal(value);
  useEffect(() => {
    text.value = value;
  }, [value]);
  const more: object = { ...rest, ...(first ? { "data-filter": "" } : {}) };
  const set = () => text.value !== value && apply(text.value);
  return (
    <label>
      <span>{title}</span>
      <input {...more} value={text.value} spellcheck={false} autoComplete="off" onInput={(event) => (text.value = event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Enter" && set()} onBlur={set} />
    </label>
  );
}

// Menus and copies.

/** Menu is a button that opens a list of buttons. */
export function Menu({ label, children }: { label: ComponentChildren; children: ComponentChildren }) {
  const ref = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event) => {
      if (ref.current?.open && !ref.current.contains(event.target as globalThis.Node)) ref.current.open = false;
    };
    document.addEventListener("click", close);
    return () => document.removeEventListener("click", close);
  }, []);
  return (
    <details ref={ref} class="menu" onKeyDown={(event) => {
      if (event.key !== "Escape" || !ref.current!.open) return;
      ref.current!.open = false;
      ref.current!.querySelector("summary")!.focus();
      event.stopPropagation();
    }}>
      <summary>{label} <span aria-hidden="true">⌄</span></summary>
      <div class="items" onClick={() => (ref.current!.open = false)}>{children}</div>
    </details>
  );
}

/** copy puts a text on the clipboard. Outside of a secure context the browser has only the older way. */
export async function copy(text: string, name: string) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) return say(`The browser does not let the page copy. Copy it by hand: ${text.slice(0, 200)}`);
  }
  say(`Copied ${name}.`);
}

/** quote makes a text one word of a shell. */
export const quote = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** CopyMenu copies the present view as a link, and as commands that give the same data. command has the words behind pgqueue. */
export function CopyMenu({ path, command, more }: { path: string; command: string[]; more?: [string, string][] }) {
  const namespace = route.value.namespace;
  const api = new URL(document.documentElement.dataset.api! + path, document.baseURI).href;
  const texts: [string, string][] = [
    ["link", location.href],
    ["curl", `curl -H ${quote(`Pgqueue-Namespace: ${namespace}`)} ${quote(api)}`],
    ["command", ["pgqueue", ...command, "--namespace", namespace].map(quote).join(" ")],
    ...(more ?? []),
  ];
  return (
    <Menu label="Copy">
      {texts.map(([name, text]) => <button type="button" key={name} onClick={() => copy(text, name)}>as {name}</button>)}
    </Menu>
  );
}

/** usePart shows a list of any length in parts, so that the document stays small. It returns the part and the buttons to the others. */
export function usePart<T>(all: T[], size = 100): [T[], ComponentChildren] {
  const from = useSignal(0);
  const start = from.value < all.length ? from.value : 0;
  const part = all.slice(start, start + size);
  return [part, all.length > size && (
    <div class="more">
      <button type="button" aria-disabled={start === 0} onClick={() => (from.value = Math.max(0, start - size))}>Previous</button>
      <span class="dim">{count(start + 1)} to {count(start + part.length)} of {count(all.length)}</span>
      <button type="button" aria-disabled={start + size >= all.length} onClick={() => { if (start + size < all.length) from.value = start + size; }}>Next</button>
    </div>
  )];
}
