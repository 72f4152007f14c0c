// The sign-in: by the code of `pgqueue dashboard`, by a token, or at an identity provider.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { changes, signedOut } from "./api";
import { forget } from "./data";
import { copy } from "./parts";
import { here, settings } from "./route";

/** takeCode removes the one-time code from the address and returns it; "" without one. The fragment never reaches a server. */
export function takeCode(): string {
  const code = new URLSearchParams(location.hash.slice(1)).get("code") ?? "";
  if (code) history.replaceState(null, "", location.pathname + location.search);
  return code;
}

export function SignIn({ code, onDone }: { code: string; onDone: () => void }) {
  const token = useSignal("");
  const fault = useSignal("");
  const busy = useSignal(false);

  const open = async (body: object) => {
    busy.value = true;
    fault.value = "";
    try {
      await changes.signIn(body);
      token.value = "";
      forget();
      signedOut.value = false;
      onDone();
    } catch (error) {
      fault.value = (error as Error).message;
    }
    busy.value = false;
  };
  useEffect(() => {
    document.title = "Sign in · pgqueue";
    if (code) void open({ code });
    else document.getElementById("title")?.focus();
  }, []);

  const back = encodeURIComponent(here());
  return (
    <main class="signin" id="main">
      <h1 id="title" tabIndex={-1}>Sign in to pgqueue</h1>
      {code && busy.value && <p aria-live="polite">Signing in by the code…</p>}
      {fault.value && <p class="fault" role="alert">{fault.value}{code && " A code works once, and for a minute."}</p>}
      {settings.login && (
        <section>
          <a class="button main" data-load href={`${settings.login}?return=${back}`}>Sign in with your organisation</a>
        </section>
      )}
      <section>
        <h2>From a terminal</h2>
        <p>This command opens the dashboard with the rights of its token:</p>
        <p class="command"><code>pgqueue dashboard</code> <button type="button" class="small" onClick={() => copy("pgqueue dashboard", "the command")}>Copy</button></p>
      </section>
      <section>
        <h2>With a token</h2>
        <form onSubmit={(event) => { event.preventDefault(); if (token.value.trim()) void open({ token: token.value.trim() }); }}>
          <label class="field">
            <span>Token</span>
            <input type="password" name="token" autoComplete="off" spellcheck={false} placeholder="pgq_…" value={token.value} onInput={(event) => (token.value = event.currentTarget.value)} />
          </label>
          <p class="dim">The page forgets the token. The browser keeps a session of 12 hours that no script can read.</p>
          <button type="submit" class="main" aria-disabled={busy.value}>Sign in</button>
        </form>
      </section>
    </main>
  );
}
