// The shell of the dashboard.

import { effect, signal } from "@preact/signals";
import { type ComponentChildren, Component, render } from "preact";
import { useEffect } from "preact/hooks";
import { type Identity, type List, type Stats, call, changes, down, holding, paths, signedOut } from "./api";
import { forget, useData } from "./data";
import { Help, Palette, help, listen, pages, palette } from "./keys";
import { stream, watch } from "./live";
import { Access } from "./pages/access";
import { Failures } from "./pages/failures";
import { Live } from "./pages/live";
import { Overview } from "./pages/overview";
import { Queue } from "./pages/queue";
import { Queues } from "./pages/queues";
import { System } from "./pages/system";
import { Task } from "./pages/task";
import { Tasks } from "./pages/tasks";
import { TickerPage, Tickers } from "./pages/tickers";
import { Workers } from "./pages/workers";
import { Dialog, Messages, Page, Questions, now } from "./parts";
import { identity, may } from "./rights";
import { follow, go, href, route, settings, visits } from "./route";
import { SignIn, takeCode } from "./signin";
import { span } from "./words";

const code = signal(takeCode());
/** fault is the reason why the first call failed, other than for want of a sign-in. */
const fault = signal("");

async function whoAmI() {
  try {
    identity.value = await call<Identity>(paths.whoami);
    fault.value = "";
  } catch (error) {
    fault.value = (error as Error).message;
  }
}

const views: Record<string, (name: string) => ComponentChildren> = {
  "": () => <Overview />,
  queues: () => <Queues />,
  queue: (name) => <Queue name={name} key={name} />,
  tasks: () => <Tasks />,
  task: (name) => <Task id={name} key={name} />,
  failures: () => <Failures />,
  tickers: () => <Tickers />,
  ticker: (name) => <TickerPage name={name} key={name} />,
  workers: () => <Workers />,
  live: () => <Live />,
  system: () => <System />,
  access: () => <Access />,
};

/** parents are the pages of the navigation under which the pages of single objects count. */
const parents: Record<string, string> = { queue: "queues", task: "tasks", ticker: "tickers" };

function Navigation() {
  const { page, namespace } = route.value;
  const stats = useData<List<Stats>>(may("queue.read") ? paths.stats : null);
  const failed = (stats.value?.body ?? []).reduce((sum, q) => sum + (q.counts["failed"] ?? 0), 0);
  const numbers: Record<string, [string, string]> = {
    queues: [stats.value ? String(stats.value.body.length) : "", ""],
    failures: [failed ? failed.toLocaleString("en") : "", "bad"],
  };
  return (
    <nav aria-label="Main">
      <Namespaces />
      {pages.map((p) => (
        <a key={p.page} href={href(p.page)} class={p.page === "system" ? "lower" : ""} aria-current={p.page === (parents[page] ?? page) ? "page" : undefined}>
          {p.title} {numbers[p.page]?.[0] && <span class={`n ${numbers[p.page]![1]}`}>{numbers[p.page]![0]}{p.page === "failures" && <span class="hidden"> failed tasks</span>}</span>}
        </a>
      ))}
      <div class="self">
        <span class="dim" title={identity.value?.grants.join(", ")}><bdi>{identity.value?.kind === "local" ? "open server" : identity.value?.name}</bdi></span>
        {identity.value?.kind === "session" && <button type="button" class="small" onClick={signOut}>Sign out</button>}
      </div>
      <span class="hidden">Namespace {namespace}</span>
    </nav>
  );
}

async function signOut() {
  try {
    await changes.signOut();
  } finally {
    forget();
    identity.value = null;
    signedOut.value = true;
  }
}

const choosing = signal(false);

/** Namespaces switches to another namespace. It asks for the list when it opens. */
function Namespaces() {
  return (
    <>
      <button type="button" class="ns" aria-haspopup="dialog" onClick={() => (choosing.value = true)}>
        <span><span class="hidden">Namespace </span>{route.value.namespace}</span><span class="dim" aria-hidden="true">⌄</span>
      </button>
      {choosing.value && <Choice />}
    </>
  );
}

// systemNamespace is the server's own. No caller may choose it.
const systemNamespace = "pgqueue";

function Choice() {
  const list = useData<List<string>>(paths.namespaces, { fixed: true });
  const close = () => (choosing.value = false);
  return (
    <Dialog title="Namespace" onClose={close}>
      <ul class="choices" onClick={close}>
        {(list.value?.body ?? []).filter((name) => name !== systemNamespace).map((name) => (
          <li key={name}><a href={href("", "", undefined, name)} aria-current={name === route.value.namespace ? "true" : undefined}>{name}</a></li>
        ))}
      </ul>
      {list.problem && <p class="fault">{list.problem.message}</p>}
      {list.value && !list.value.body.length && <p class="dim">The first queue makes a namespace.</p>}
      <div class="buttons"><button type="button" onClick={close}>Close</button></div>
    </Dialog>
  );
}

function Connection() {
  const state = stream.value;
  if (down.value) return <span class="live off" role="status">no answer since {span((now.value - down.value) / 1000)}</span>;
  return <span class={`live ${state}`} title={state === "live" ? "Changes arrive by themselves" : state === "off" ? "The page asks every 15 s" : ""}>{state === "off" ? "every 15 s" : state}</span>;
}

class Boundary extends Component<{ children: ComponentChildren }, { fault?: Error }> {
  override state: { fault?: Error } = {};
  static override getDerivedStateFromError = (fault: Error) => ({ fault });
  override componentDidCatch(fault: Error) {
    console.error(fault);
  }
  override render() {
    if (!this.state.fault) return this.props.children;
    return <Page title="This page has a fault"><div class="empty" role="alert"><p>{this.state.fault.message}</p><p><a href={href("")}>Go to the overview</a>, or reload the page.</p></div></Page>;
  }
}

function Shell() {
  useEffect(() => {
    // A code signs in first. An answer from before that would ask for a sign-in again.
    if (!code.value) void whoAmI();
  }, [route.value.namespace, code.value]);
  // A change of page moves the focus to the heading, so that readers start there. The first page keeps the browser's focus.
  useEffect(() => {
    if (visits.value) document.getElementById("title")?.focus({ preventScroll: true });
  }, [visits.value]);

  if (code.value || (signedOut.value && !holding.value)) return <SignIn code={code.value} onDone={() => { if (code.value) code.value = ""; else void whoAmI(); }} />;
  if (!identity.value)
    return (
      <main id="main" class="signin">
        <h1 id="title" tabIndex={-1}>pgqueue</h1>
        {fault.value ? <p role="alert" class="fault">{fault.value} <button type="button" onClick={whoAmI}>Ask again</button></p> : <p class="dim">Connecting…</p>}
      </main>
    );
  const { page, name } = route.value;
  const view = views[page];
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("title")?.focus(); }}>Skip to content</a>
      <Navigation />
      <main id="main">
        <div class="top">
          <Connection />
          <span class="grow" />
          <button type="button" class="findbutton" onClick={() => (palette.value = true)}><span>Find a task, queue, page</span><kbd>Ctrl K</kbd></button>
          <button type="button" class="small" aria-label="Keys and settings" onClick={() => (help.value = true)}>?</button>
        </div>
        {down.value > 0 && (
          <p class="banner" role="alert">The server does not answer. The page shows the last data, and goes on by itself.</p>
        )}
        <Boundary key={`${page}/${name}`}>
          {view ? view(name) : (
            <Page title="No such page">
              <div class="empty"><p>The address has no page of the dashboard. It may have a typing error.</p><p><a href={href("")}>Go to the overview</a></p></div>
            </Page>
          )}
        </Boundary>
      </main>
      <Messages />
      <Questions />
      <Palette />
      <Help />
    </>
  );
}

/** retry asks again while the server does not answer, so that the page goes on by itself. */
effect(() => {
  if (!down.value) return;
  const timer = setInterval(() => {
    if (!document.hidden) void call(paths.whoami).then((answer) => (identity.value = answer as Identity), () => {});
  }, 2_000);
  return () => clearInterval(timer);
});

if (!route.value.namespace) go(href("", "", route.value.query, settings.namespace), true);
follow();
listen();
watch();
render(<Shell />, document.getElementById("app")!);
