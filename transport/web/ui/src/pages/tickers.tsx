// The tickers: a list by the next tick, and one ticker with its coming and its last ticks.

import { type List, type Tick, type Ticker, changes, paths } from "../api";
import { Raw } from "../exact";
import { reload, useData } from "../data";
import { JSONView } from "../json";
import { Button, Chip, CopyMenu, Denied, Empty, Loading, Page, Panel, Scroll, Trouble, When, attempt, clock, now, say, usePart, utc } from "../parts";
import { may } from "../rights";
import { href, route, setQuery } from "../route";
import { count, plural, schedule } from "../words";

async function setPaused(name: string, paused: boolean) {
  await attempt(paused ? `${name} is paused.` : `${name} fires again.`, () => changes.pauseTicker(name, paused),
    () => void attempt(paused ? `${name} fires again.` : `${name} is paused.`, () => changes.pauseTicker(name, !paused)).then(() => reload()));
  reload();
}

async function run(name: string) {
  try {
    const tick = await changes.runTicker(name);
    say(tick.task ? `Fired: it made task ${tick.task}.` : "Fired.");
  } catch (error) {
    say(`Not done: ${(error as Error).message}`);
  }
  reload();
}

function TickerState({ t }: { t: Ticker }) {
  if (t.fault) return <Chip tone="bad" mark="▲" title={t.fault}>fault</Chip>;
  if (t.paused) return <Chip tone="off" mark="‖">paused</Chip>;
  if (t.next_at && now.value - Date.parse(t.next_at) > 30_000) return <Chip tone="warn" mark="◆">late</Chip>;
  return <Chip tone="ok" mark="●">on time</Chip>;
}

interface Upcoming { until: string; more?: boolean; body: { ticker: string; queue?: string; at: string }[] }

/** The time of the agenda in hours, and the most ticks that it reads. */
const agendaHours = 24;
const maxTicks = 1000;

/** So many tickers that fire in one minute are worth a mark: their tasks meet in the queues. */
const crowd = 5;

/** A ticker that fires more often than this would hide the others, so it has one line for all its ticks. */
const often = 12;

/** maxFires is one more, which shows that a ticker fires more often. */
const maxFires = often + 1;

/** Agenda lists the coming ticks of all tickers by their minute. */
function Agenda() {
  // A whole minute, so that the answer has one key for a minute.
  const until = new Date(Math.floor(now.peek() / 60_000) * 60_000 + agendaHours * 3_600_000).toISOString();
  const data = useData<Upcoming>(`/ticker/upcoming?until=${encodeURIComponent(until)}&limit=${maxTicks}&per_ticker=${maxFires}`);
  const list = useData<List<Ticker>>(paths.tickers);
  const schedules = new Map((list.value?.body ?? []).map((t) => [t.ticker, schedule(t)]));
  const ticks = data.value?.body ?? [];
  const times = new Map<string, number>();
  for (const tick of ticks) times.set(tick.ticker, (times.get(tick.ticker) ?? 0) + 1);
  const frequent = [...times].filter(([, n]) => n > often);
  const minutes = new Map<string, Upcoming["body"]>();
  for (const tick of ticks) {
    if (times.get(tick.ticker)! > often) continue;
    const minute = `${tick.at.slice(0, 16)}:00Z`;
    minutes.set(minute, [...(minutes.get(minute) ?? []), tick]);
  }
  const [part, controls] = usePart([...minutes]);
  if (data.problem && !data.value) return <Trouble problem={data.problem} />;
  if (!data.value) return <Loading />;
  if (!ticks.length) return <Empty>No ticker fires in the next {agendaHours} hours.</Empty>;
  return (
    <>
      {frequent.length > 0 && (
        <p class="fine">Often: {frequent.slice(0, 20).map(([name], index) => <span key={name}>{index > 0 && ", "}<a class="name" href={href("ticker", name)}>{name}</a> {schedules.get(name)}</span>)}{frequent.length > 20 && ` and ${frequent.length - 20} more`}</p>
      )}
      {part.length > 0 && <Scroll label="Coming ticks">
        <table>
          <thead><tr><th scope="col" class="left">Time</th><th scope="col" class="left opt">In</th><th scope="col" class="left">Tickers</th></tr></thead>
          <tbody>
            {part.map(([minute, ticks]) => (
              <tr key={minute} data-row>
                <td class="left">{clock(minute)}</td>
                <td class="left opt"><When at={ticks[0]!.at} /></td>
                <td class="left wrap">
                  {ticks.length >= crowd && <Chip tone="warn" mark="◆">{plural(ticks.length, "ticker")} at once</Chip>}{" "}
                  {ticks.slice(0, 20).map((t, index) => <span key={t.ticker + t.at}>{index > 0 && ", "}<a class="name" href={href("ticker", t.ticker)}>{t.ticker}</a>{t.queue && <> → <a href={href("queue", t.queue)}>{t.queue}</a></>}</span>)}
                  {ticks.length > 20 && ` and ${ticks.length - 20} more`}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>}
      {controls}
      {data.value.more && <p class="fine dim">These are the first {count(data.value.body.length)} ticks; the list ends before the {agendaHours} hours do.</p>}
    </>
  );
}

export function Tickers() {
  const agenda = route.value.query.get("view") === "agenda";
  const list = useData<List<Ticker>>(may("ticker.read") ? paths.tickers : null);
  const find = route.value.query.get("find") ?? "";
  const all = (list.value?.body ?? []).filter((t) => t.ticker.includes(find.trim().toLowerCase()) || t.queue?.includes(find.trim().toLowerCase()))
    .sort((a, b) => Date.parse(a.next_at ?? "9999-01-01") - Date.parse(b.next_at ?? "9999-01-01"));
  const [part, controls] = usePart(all);
  return (
    <Page title="Tickers" actions={<CopyMenu path={paths.tickers} command={["tickers"]} />}>
      <nav class="tabs" aria-label="View">
        <a href={href("tickers")} aria-current={agenda ? undefined : "page"}>List</a>
        <a href={href("tickers", "", { view: "agenda" })} aria-current={agenda ? "page" : undefined}>Next {agendaHours} hours</a>
      </nav>
      {agenda && may("ticker.read") ? <Panel><Agenda /></Panel> : <Panel>
        <div class="filters"><label class="grow"><span class="hidden">Filter by name or queue</span><input type="search" data-filter placeholder="Filter by name or queue" value={find} spellcheck={false} onInput={(event) => setQuery({ find: event.currentTarget.value })} /></label></div>
        {!may("ticker.read") ? <Denied action="ticker.read" what="Tickers are" />
          : list.problem && !list.value ? <Trouble problem={list.problem} />
          : !list.value ? <Loading />
          : all.length === 0 ? <Empty>{find ? <>No ticker has “{find}” in its name or queue.</> : <>No ticker yet. <code>pgqueue create-ticker nightly --cron '30 3 * * *' --queue reports</code> makes one.</>}</Empty>
          : (
            <>
              <Scroll label="Tickers">
                <table>
                  <thead><tr><th scope="col" class="left">Ticker</th><th scope="col" class="left">State</th><th scope="col" class="left">Schedule</th><th scope="col" class="left opt">Queue</th><th scope="col">Next</th><th scope="col" class="opt">Last</th></tr></thead>
                  <tbody>
                    {part.map((t) => (
                      <tr key={t.ticker} data-row>
                        <td class="left"><a class="name" href={href("ticker", t.ticker)}>{t.ticker}</a></td>
                        <td class="left"><TickerState t={t} /></td>
                        <td class="left wrap">{schedule(t)}</td>
                        <td class="left opt">{t.queue ? <a href={href("queue", t.queue)}>{t.queue}</a> : <span class="dim">listeners</span>}</td>
                        <td>{t.paused ? <span class="zero">–</span> : <When at={t.next_at} />}</td>
                        <td class="opt"><When at={t.timestamp} /></td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </Scroll>
              {controls}
            </>
          )}
      </Panel>}
    </Page>
  );
}

/** inZone writes a time in the zone of the ticker, when that is another one than the reader's. */
function inZone(at: string, zone: string): string {
  try {
    return new Date(at).toLocaleString("en-GB", { timeZone: zone, dateStyle: "medium", timeStyle: "short" });
  } catch {
    return at;
  }
}

export function TickerPage({ name }: { name: string }) {
  const data = useData<Ticker>(may("ticker.read") ? paths.ticker(name) : null);
  const preview = useData<List<string>>(may("ticker.read") ? paths.preview(name, 10) : null);
  const ticks = useData<List<Tick>>(may("ticker.read") ? paths.ticks(name) : null);
  if (!may("ticker.read")) return <Page title={name}><Panel><Denied action="ticker.read" what="Tickers are" /></Panel></Page>;
  if (data.problem && !data.value)
    return (
      <Page title={name}>
        <Panel>
          {data.problem.code === "not_found" ? <div class="empty" role="alert"><p class="strong">There is no ticker of this name in {route.value.namespace}</p><p>It may have been deleted.</p><p><a href={href("tickers")}>See all tickers</a></p></div>
            : <Trouble problem={data.problem}><p><a href={href("tickers")}>See all tickers</a></p></Trouble>}
        </Panel>
      </Page>
    );
  if (!data.value) return <Page title={name}><Panel><Loading /></Panel></Page>;
  const t = data.value;
  const zone = t.timezone || "UTC";
  const own = utc.value ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone;
  return (
    <Page title={name} aside={<><TickerState t={t} /><span class="dim">{schedule(t)}</span></>}
      actions={
        <>
          <CopyMenu path={paths.ticker(name)} command={["ticker", name]} />
          <Button action="queue.pause" queue={t.queue} onClick={() => setPaused(name, !t.paused)}>{t.paused ? "Resume" : "Pause"}</Button>
          <Button action="ticker.run" queue={t.queue} tone="main" onClick={() => run(name)}>Fire now</Button>
        </>
      }>
      {t.fault && <div class="why"><b>It cannot fire.</b> <bdi>{t.fault}</bdi></div>}
      <div class="cols">
        <div>
          <Panel title="Coming ticks" aside={zone === own ? zone : `${own}, and ${zone}`}>
            {t.paused ? <Empty>It is paused, so it does not fire. These would be the times:</Empty> : null}
            <table>
              <thead class="hidden"><tr><th>When</th><th>Time</th></tr></thead>
              <tbody>{(preview.value?.body ?? []).map((at) => <tr key={at}><td class="left"><When at={at} /></td><td>{clock(at)}{zone !== own && <span class="dim"> · {inZone(at, zone)}</span>}</td></tr>)}</tbody>
            </table>
            {preview.problem && <Trouble problem={preview.problem} />}
          </Panel>
          <Panel title="Last ticks" aside={ticks.value && count(ticks.value.body.length)}>
            {ticks.value && ticks.value.body.length === 0 ? <Empty>It has not fired yet.</Empty> : (
              <Scroll label="Last ticks">
                <table>
                  <thead><tr><th scope="col" class="left">For</th><th scope="col" class="left">Result</th><th scope="col">Fired</th></tr></thead>
                  <tbody>
                    {(ticks.value?.body ?? []).map((tick) => (
                      <tr key={String(tick.id)}>
                        <td class="left"><time dateTime={tick.timestamp} title={clock(tick.timestamp)}>{clock(tick.timestamp)}</time></td>
                        <td class="left">{tick.skipped ? "skipped: the task before was not ended" : tick.task ? <a href={href("task", String(tick.task))}>task {String(tick.task)}</a> : "to listeners"}{tick.manual && <span class="dim"> · by hand</span>}</td>
                        <td><When at={tick.fired_at ?? tick.timestamp} /></td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </Scroll>
            )}
          </Panel>
          {t.payload instanceof Raw && <Panel title="Payload"><JSONView raw={t.payload} label="the payload" /></Panel>}
        </div>
        <Panel title="Settings" aside={`version ${t.version}`}>
          <dl>
            <dt>Schedule</dt><dd>{schedule(t)}{t.cron && <> <code>{t.cron}</code></>}</dd>
            <dt>Time zone</dt><dd>{zone}</dd>
            <dt>Queue</dt><dd>{t.queue ? <a href={href("queue", t.queue)}>{t.queue}</a> : "none: ticks go to listeners"}</dd>
            <dt>After downtime</dt><dd>{{ skip: "skips missed ticks", once: "fires once for all missed ticks", all: `fires each missed tick, at most ${plural(t.misfire_limit ?? 100, "tick")}` }[t.misfire] ?? t.misfire}</dd>
            <dt>Overlap</dt><dd>{t.overlap === "skip" ? "skips a tick while its last task has not ended" : "allowed"}</dd>
            <dt>Last tick</dt><dd><When at={t.timestamp} /></dd>
            <dt>Next tick</dt><dd><When at={t.next_at} /></dd>
            <dt>Created</dt><dd><When at={t.created_at} /></dd>
          </dl>
        </Panel>
      </div>
    </Page>
  );
}
