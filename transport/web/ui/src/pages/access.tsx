// The access: the own rights, tokens, sessions, audit.

import { useSignal } from "@preact/signals";
import { type AuditChange, type AuditEntry, type List, type Session, type Token, changes, holding, paths, query as parameters } from "../api";
import { reload, useData } from "../data";
import { Button, Chip, CopyMenu, Denied, Dialog, Empty, Filter, Loading, Page, Panel, Scroll, Trouble, When, ask, attempt, copy, usePart, useOnce } from "../parts";
import { identity, may } from "../rights";
import { href, route, setQuery } from "../route";
import { count, plural } from "../words";

const tabs = [["", "You"], ["tokens", "Tokens"], ["sessions", "Sessions"], ["audit", "Audit"]] as const;

export function Access() {
  const tab = route.value.query.get("tab") ?? "";
  return (
    <Page title="Access" actions={tab === "tokens" ? <><CopyMenu path={paths.tokens} command={["tokens"]} /><Button action="access.manage" tone="main" onClick={() => setQuery({ create: "1" })}>New token</Button></> : tab === "audit" ? <CopyMenu path="/audit" command={["audit"]} /> : undefined}>
      <nav class="tabs" aria-label="Access">
        {tabs.map(([name, title]) => <a key={name} href={href("access", "", { tab: name })} aria-current={tab === name ? "page" : undefined}>{title}</a>)}
      </nav>
      {tab === "tokens" ? <Tokens /> : tab === "sessions" ? <Sessions /> : tab === "audit" ? <Audit /> : <You />}
    </Page>
  );
}

function You() {
  const you = identity.value!;
  return (
    <Panel title="Your identity">
      <dl>
        <dt>Name</dt><dd><bdi>{you.name}</bdi></dd>
        <dt>Kind</dt><dd>{you.kind === "local" ? "local: this server is open to every program that reaches it" : you.kind}</dd>
        <dt>Id</dt><dd><code>{you.id}</code></dd>
        <dt>Grants</dt><dd>{you.grants.map((grant) => <div key={grant}><code>{grant}</code></div>)}</dd>
      </dl>
      {you.kind === "local" && <p class="fine dim">The first token closes the server: <code>pgqueue create-token admin --grant 'system@*'</code></p>}
    </Panel>
  );
}

function Tokens() {
  const list = useData<List<Token>>(may("access.manage") ? paths.tokens : null);
  const all = [...(list.value?.body ?? [])].sort((a, b) => Number(b.live) - Number(a.live) || Date.parse(b.created_at) - Date.parse(a.created_at));
  const [part, controls] = usePart(all);
  const revoke = async (t: Token) => {
    if (await ask({ title: `Revoke the token ${t.name}?`, typed: t.id, tone: "bad", confirm: "Revoke 1 token", text: <p>Its holders are refused within 10 s, and their streams end. It cannot be undone.</p> }))
      await attempt(`Revoked ${t.name}.`, () => changes.revokeToken(t.id));
    reload();
  };
  return (
    <Panel title="Tokens" aside={list.value && count(list.value.body.length)}>
      {!may("access.manage") ? <Denied action="access.manage" what="Tokens are" />
        : list.problem && !list.value ? <Trouble problem={list.problem} />
        : !list.value ? <Loading />
        : all.length === 0 ? <Empty>No token yet. The first one closes an open server.</Empty>
        : (
          <>
            <Scroll label="Tokens">
              <table>
                <thead><tr><th scope="col" class="left">Name</th><th scope="col" class="left">State</th><th scope="col" class="left">Grants</th><th scope="col" class="opt">Created</th><th scope="col">Last use</th><th scope="col">Expires</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
                <tbody>
                  {part.map((t) => (
                    <tr key={t.id} data-row>
                      <td class="left cut"><span class="name"><bdi>{t.name}</bdi></span> <code class="dim">{t.id}</code></td>
                      <td class="left">{t.live ? <Chip tone="ok" mark="●">live</Chip> : <Chip tone="off" mark="✕">{t.revoked_at ? "revoked" : "expired"}</Chip>}</td>
                      <td class="left wrap">{t.grants.join(", ")}</td>
                      <td class="opt"><When at={t.created_at} /></td>
                      <td>{t.used_at ? <When at={t.used_at} /> : <span class="zero">never</span>}</td>
                      <td>{t.expires_at ? <When at={t.expires_at} /> : <span class="zero">never</span>}</td>
                      <td>{t.live && <Button action="access.manage" tone="bad" class="small" aria-label={`Revoke ${t.name}`} onClick={() => revoke(t)}>Revoke…</Button>}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </Scroll>
            {controls}
          </>
        )}
      {route.value.query.get("create") && <Create onClose={() => setQuery({ create: "" })} />}
    </Panel>
  );
}

function Create({ onClose: close }: { onClose: () => void }) {
  const onClose = () => {
    close();
    holding.value = false;
  };
  const fault = useSignal("");
  const made = useSignal<(Token & { token: string }) | null>(null);
  const submit = useOnce(async (event) => {
    const form = new FormData(event.currentTarget as HTMLFormElement);
    try {
      made.value = await changes.createToken({
        name: String(form.get("name")), grants: String(form.get("grants")).split(/[\s,]+/).filter(Boolean), expires: String(form.get("expires") || "90d"),
      });
      holding.value = true;
      reload();
    } catch (error) {
      fault.value = (error as Error).message;
    }
  });
  if (made.value)
    return (
      <Dialog title="The token, shown this once" onClose={onClose} wide>
        <p class="command"><code>{made.value.token}</code></p>
        <p>Keep it in a file or a secret of the program now. The server has its hash alone, so no page shows it again.</p>
        <div class="buttons"><button type="button" onClick={() => copy(made.value!.token, "the token")}>Copy</button><button type="button" class="main" onClick={onClose}>Close</button></div>
      </Dialog>
    );
  return (
    <Dialog title="New token" onClose={onClose}>
      <form onSubmit={submit}>
        <label class="field"><span>Name</span><input name="name" required autoComplete="off" placeholder="mail workers" /></label>
        <label class="field"><span>Grants</span><input name="grants" required autoComplete="off" spellcheck={false} placeholder={`worker@${route.value.namespace}/mail*`} aria-describedby="about-grants" /><small class="dim" id="about-grants">role@namespace or role@namespace/queue, with spaces between. The roles: producer, worker, observer, viewer, operator, admin, system, metrics.</small></label>
        <label class="field"><span>Expires in</span><input name="expires" defaultValue="90d" autoComplete="off" /></label>
        {identity.value?.kind === "local" && <p class="fine">The first token closes this server: every program then needs one, this page too.</p>}
        {fault.value && <p class="fault" role="alert">{fault.value}</p>}
        <div class="buttons"><button type="button" onClick={onClose}>Leave it</button><Button action="access.manage" type="submit" tone="main">Make the token</Button></div>
      </form>
    </Dialog>
  );
}

function Sessions() {
  const list = useData<List<Session>>(may("access.manage") ? paths.sessions : null);
  const [part, controls] = usePart(list.value?.body ?? []);
  const end = async (s: Session) => {
    if (await ask({ title: `End the session of ${s.name}?`, tone: "bad", confirm: "End 1 session", text: <p>The user must sign in again.</p> })) await attempt("Ended the session.", () => changes.endSession(s.id));
    reload();
  };
  return (
    <Panel title="Sessions">
      {!may("access.manage") ? <Denied action="access.manage" what="Sessions are" />
        : list.problem && !list.value ? <Trouble problem={list.problem} />
        : !list.value ? <Loading />
        : list.value.body.length === 0 ? <Empty>No session is live.</Empty>
        : (
          <>
            <Scroll label="Sessions">
              <table>
                <thead><tr><th scope="col" class="left">Name</th><th scope="col" class="left">Grants</th><th scope="col">Signed in</th><th scope="col">Last request</th><th scope="col">Ends</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
                <tbody>
                  {part.map((s) => (
                    <tr key={s.id} data-row>
                      <td class="left cut"><span class="name"><bdi>{s.name}</bdi></span> <code class="dim">{s.id}</code></td>
                      <td class="left wrap">{s.grants.join(", ")}</td>
                      <td><When at={s.created_at} /></td>
                      <td><When at={s.used_at} /></td>
                      <td><When at={s.expires_at} /></td>
                      <td><Button action="access.manage" tone="bad" class="small" aria-label={`End the session ${s.id}`} onClick={() => end(s)}>End…</Button></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </Scroll>
            {controls}
          </>
        )}
    </Panel>
  );
}

/** writeChange returns a changed setting with its values before and after. */
const writeChange = ({ field, old, new: now }: AuditChange) => (now === undefined ? `${field} was ${old}` : old === undefined ? `${field} = ${now}` : `${field}: ${old} → ${now}`);

/** Changes lists changed settings. Many, as those of a new queue, are folded away. */
function Changes({ all }: { all: AuditChange[] }) {
  const lines = all.map((c) => <div key={c.field}><code><bdi>{writeChange(c)}</bdi></code></div>);
  return all.length <= 3 ? <>{lines}</> : <details><summary>{plural(all.length, "setting")}</summary>{lines}</details>;
}

function Audit() {
  const { query } = route.value;
  const filter = { principal: query.get("principal") ?? "", action: query.get("action") ?? "", outcome: query.get("outcome") ?? "", queue: query.get("queue") ?? "" };
  const list = useData<{ body: AuditEntry[]; next?: string }>(may("audit.read") ? `/audit${parameters({ ...filter, cursor: query.get("cursor") ?? "", limit: 100 })}` : null);
  const set = (name: string, value: string) => setQuery({ [name]: value, cursor: "" });
  const page = (cursor: string) => {
    const next = new URLSearchParams(query);
    if (cursor) next.set("cursor", cursor);
    else next.delete("cursor");
    return href("access", "", next);
  };
  return (
    <Panel title="Audit" aside="newest first">
      {!may("audit.read") ? <Denied action="audit.read" what="The audit is" /> : (
        <>
          <div class="filters">
            <label><span>Outcome</span><select value={filter.outcome} onChange={(event) => set("outcome", event.currentTarget.value)}><option value="">any</option><option>ok</option><option>permission_denied</option><option>unauthenticated</option></select></label>
            <Filter title="Action" first placeholder="any" value={filter.action} apply={(value) => set("action", value.trim())} />
            <Filter title="Queue" placeholder="any" value={filter.queue} apply={(value) => set("queue", value.trim())} />
            <Filter title="Principal" placeholder="any id" value={filter.principal} apply={(value) => set("principal", value.trim())} />
          </div>
          {list.problem && !list.value ? <Trouble problem={list.problem}><p><a href={href("access", "", { tab: "audit" })}>Show the newest entries</a></p></Trouble>
            : !list.value ? <Loading />
            : list.value.body.length === 0 ? <Empty>No entry matches.</Empty>
            : (
              <Scroll label="Audit">
                <table>
                  <thead><tr><th scope="col" class="left">When</th><th scope="col" class="left">Principal</th><th scope="col" class="left">Operation</th><th scope="col" class="left">Object</th><th scope="col" class="left">Outcome</th><th scope="col" class="left">Changes</th><th scope="col" class="opt">Tasks</th><th scope="col" class="left opt">From</th></tr></thead>
                  <tbody>
                    {list.value.body.map((e) => (
                      <tr key={String(e.id)} data-row>
                        <td class="left"><When at={e.at} /></td>
                        <td class="left cut"><bdi>{e.principal_name || e.principal_id}</bdi></td>
                        <td class="left">{e.operation || e.action}{e.calls > 1 && <span class="dim"> × {count(e.calls)}</span>}</td>
                        <td class="left cut"><bdi>{[e.namespace, e.queue, e.task && `task ${e.task}`, e.ticker, e.token, e.filter].filter(Boolean).join(" · ")}</bdi></td>
                        <td class="left"><Chip tone={e.outcome === "ok" ? "ok" : "bad"} mark={e.outcome === "ok" ? "✓" : "⊘"}>{e.outcome}</Chip></td>
                        <td class="left wrap"><Changes all={e.changes ?? []} />{e.reason && <div class="dim"><bdi>{e.reason}</bdi></div>}</td>
                        <td class="opt">{e.moved === undefined ? "" : count(e.moved)}</td>
                        <td class="left opt cut"><bdi>{e.remote}</bdi></td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </Scroll>
            )}
          {list.value && (query.get("cursor") || list.value.next) && <div class="more">{query.get("cursor") ? <a class="button" href={page("")}>Newest</a> : <span />}{list.value.next && <a class="button" href={page(list.value.next)}>Older</a>}</div>}
        </>
      )}
    </Panel>
  );
}
