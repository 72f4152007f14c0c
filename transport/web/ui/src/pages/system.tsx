// The installation: health of this server, versions, its other pages.

import type { List } from "../api";
import { reload, useData } from "../data";
import { Chip, Denied, Loading, Page, Panel, Scroll, Trouble } from "../parts";
import { identity, may } from "../rights";
import { settings } from "../route";

interface Health { status?: string; checks?: Record<string, Check> | Check[] }
interface Check { name?: string; status?: string; error?: string; ok?: boolean; message?: string; detail?: string }

interface Finding { name: string; level: "ok" | "warn" | "fail"; value: string; advice?: string }

const levels = { fail: ["bad", "▲"], warn: ["warn", "◆"], ok: ["ok", "✓"] } as const;

/** Findings are those of the doctor: the worst first. */
function Findings() {
  const data = useData<List<Finding>>(may("system.read") ? "/doctor" : null, { fixed: true });
  if (!may("system.read")) return <Denied action="system.read" what="The examination is" />;
  if (data.problem && !data.value) return <Trouble problem={data.problem} />;
  if (!data.value) return <Loading />;
  const order = Object.keys(levels);
  const all = [...data.value.body].sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
  return (
    <Scroll label="Examination of the store">
      <table>
        <thead><tr><th scope="col" class="left">Check</th><th scope="col" class="left">Level</th><th scope="col" class="left">Found</th><th scope="col" class="left opt">What to do</th></tr></thead>
        <tbody>
          {all.slice(0, 100).map((f) => (
            <tr key={f.name + f.value}>
              <td class="left"><span class={f.level === "ok" ? "" : "name"}>{f.name}</span></td>
              <td class="left"><Chip tone={levels[f.level][0]} mark={levels[f.level][1]}>{f.level}</Chip></td>
              <td class="left wrap"><bdi>{f.value}</bdi></td>
              <td class="left wrap opt">{f.advice}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

export function System() {
  const health = useData<Health>(may("system.read") ? "!readyz?verbose" : null);
  return (
    <Page title="System">
      <div class="cols">
        <div>
        <Panel title="Health of this server">
          {!may("system.read") ? <Denied action="system.read" what="The health is" /> : health.problem && !health.value ? <Trouble problem={health.problem} /> : !health.value ? <Loading /> : <Checks health={health.value} />}
        </Panel>
        <Panel title="Examination of the store" aside={may("system.read") && <button type="button" class="small" onClick={() => reload("/doctor")}>Examine again</button>}><Findings /></Panel>
        </div>
        <Panel title="About">
          <dl>
            <dt>Version</dt><dd>{settings.version}</dd>
            <dt>Server</dt><dd>{location.host}</dd>
            <dt>API</dt><dd><a data-load href={settings.root + "docs"}>reference</a>, <a data-load href={settings.root + "openapi.yaml"}>OpenAPI</a></dd>
            <dt>Metrics</dt><dd><a data-load href={settings.api + "/metrics"}>Prometheus</a></dd>
            <dt>You</dt><dd><bdi>{identity.value?.name}</bdi>, {identity.value?.kind}</dd>
            <dt>Licences</dt><dd><a data-load href="LICENSES.txt">of the libraries in this page</a></dd>
          </dl>
        </Panel>
      </div>
    </Page>
  );
}

function Checks({ health }: { health: Health }) {
  const checks = Array.isArray(health.checks) ? health.checks : Object.entries(health.checks ?? {}).map(([name, c]) => ({ ...c, name }));
  return (
    <ul class="statuses">
      {checks.map((c) => {
        const fine = c.ok ?? (c.status === "ok" || c.status === "up" || c.status === "pass");
        return <li key={c.name}><span>{c.name}</span><span class="dim wrap"><bdi>{c.error ?? c.message ?? c.detail}</bdi></span><Chip tone={fine ? "ok" : "bad"} mark={fine ? "✓" : "▲"}>{fine ? "well" : "not well"}</Chip></li>;
      })}
    </ul>
  );
}
