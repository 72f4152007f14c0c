// The installation: health of this server, versions, its other pages.

import { useData } from "../data";
import { Chip, Denied, Loading, Page, Panel, Trouble } from "../parts";
import { identity, may } from "../rights";
import { settings } from "../route";

interface Health { status?: string; checks?: Record<string, Check> | Check[] }
interface Check { name?: string; status?: string; error?: string; ok?: boolean; message?: string; detail?: string }

export function System() {
  const health = useData<Health>(may("system.read") ? "!readyz?verbose" : null);
  return (
    <Page title="System">
      <div class="cols">
        <Panel title="Health of this server">
          {!may("system.read") ? <Denied action="system.read" what="The health is" /> : health.problem && !health.value ? <Trouble problem={health.problem} /> : !health.value ? <Loading /> : <Checks health={health.value} />}
        </Panel>
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
