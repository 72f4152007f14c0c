// Walks through the dashboard in a real browser.

import { ask, check, end, faults, given, longest, must, newContext, open, violations } from "./browser.mjs";

const { open: server, closed, proxy, ids, tokens } = given;
const shop = `${server}/ui/shop/`;

/** screens are all pages in their states: [name, address, statuses that the API answers there]. */
const screens = [
  ["overview", shop],
  ["overview of an empty namespace", `${server}/ui/nothing/`],
  ["queues", `${shop}queues`],
  ["new queue", `${shop}queues?create=1`],
  ["queue", `${shop}queue/mail`],
  ["groups", `${shop}queue/imports`],
  ["paused queue", `${shop}queue/thumbs`],
  ["deleted queue", `${shop}queue/gone`, [404]],
  ["tasks", `${shop}tasks`],
  ["failed tasks", `${shop}tasks?status=failed&queue=mail`],
  ["no task", `${shop}tasks?queue=mail&status=expired`],
  ["wrong filter", `${shop}tasks?status=nothing`, [422]],
  ["expired cursor", `${shop}tasks?cursor=nonsense`, [422, 410]],
  ["failed task", `${shop}task/${ids.failed}`],
  ["retained task", `${shop}task/${ids.retained}`],
  ["hostile task", `${shop}task/${ids.hostile}`],
  ["deleted task", `${shop}task/9007199254740993`, [404]],
  ["failures", `${shop}failures`],
  ["tickers", `${shop}tickers`],
  ["coming ticks", `${shop}tickers?view=agenda`],
  ["ticker", `${shop}ticker/nightly`],
  ["workers", `${shop}workers`],
  ["live", `${shop}live`],
  ["system", `${shop}system`],
  ["access", `${shop}access`],
  ["tokens", `${shop}access?tab=tokens`],
  ["sessions", `${shop}access?tab=sessions`],
  ["audit", `${shop}access?tab=audit`],
  ["unknown page", `${shop}nothing`, [404]],
];

// Each screen shows in one of two looks, in turn; in the long form in all six.
const looks = given.full
  ? [["light", 1280], ["dark", 1280], ["light", 360], ["dark", 360], ["light", 640], ["dark", 320]]
  : [["light", 1280], ["dark", 360]];

for (const [index, [scheme, width]] of looks.entries()) {
  const context = await newContext({ viewport: { width, height: 800 }, colorScheme: scheme });
  const page = await context.newPage();
  for (const [name, address, allowed] of screens.filter((_, n) => given.full || n % looks.length === index))
    await check(`${name}, ${scheme}, ${width} px`, async () => {
      await open(page, address);
      const found = await violations(page);
      must(found.length === 0, found.join("\n"));
      const size = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth, document.querySelectorAll("tr").length]);
      must(size[0] <= size[1], `the page is ${size[0]} px wide in a window of ${size[1]}`);
      must(size[2] <= 200, `the document has ${size[2]} rows`);
    }, allowed);
  await context.close();
}

// The server answers, and each of its reads fails: as when its database is away.
const failure = JSON.stringify({ title: "unavailable", status: 503, code: "unavailable", detail: "the database does not answer; repeat the call" });
/** still are the screens that read nothing beyond who the caller is. */
const still = ["live", "access", "unknown page", "new queue", "deleted queue", "wrong filter", "expired cursor", "deleted task"];
for (const [scheme, width] of given.full ? [["light", 1280], ["dark", 360]] : [["light", 1280]]) {
  const context = await newContext({ viewport: { width, height: 800 }, colorScheme: scheme });
  await context.route(/\/(api|readyz)\b/, (route) =>
    route.request().url().endsWith("/whoami") ? route.continue() : route.fulfill({ status: 503, contentType: "application/problem+json", body: failure }));
  const page = await context.newPage();
  for (const [name, address] of screens.filter(([name]) => !still.includes(name)))
    await check(`${name} of a failing server, ${scheme}, ${width} px`, async () => {
      await open(page, address);
      const text = await page.locator("main").innerText();
      must(/cannot reach its database/.test(text) && /the database does not answer/.test(text), `the page does not say what is wrong: ${text}`);
      const found = await violations(page);
      must(found.length === 0, found.join("\n"));
    }, [503]);
  await context.close();
}

const context = await newContext();
const page = await context.newPage();

await check("a page whose reads failed goes on when the server does", async () => {
  await context.route(/\/api\//, (route) => (route.request().url().endsWith("/whoami") ? route.continue() : route.fulfill({ status: 503, contentType: "application/problem+json", body: failure })));
  await open(page, `${shop}tasks?queue=mail`);
  await page.getByText("cannot reach its database").first().waitFor();
  await context.unroute(/\/api\//);
  await page.locator("tbody tr").first().waitFor({ timeout: 3 * longest });
}, [503]);

if (given.screenshot) {
  await page.setViewportSize({ width: 1280, height: 720 });
  await open(page, shop);
  await page.locator(".live.live").waitFor();
  await page.screenshot({ path: given.screenshot });
  await page.setViewportSize({ width: 1280, height: 800 });
}

await check("forced colours have no finding", async () => {
  await page.emulateMedia({ forcedColors: "active" });
  for (const address of [shop, `${shop}task/${ids.failed}`]) {
    await open(page, address);
    const found = await violations(page);
    must(found.length === 0, found.join("\n"));
  }
  await page.emulateMedia({ forcedColors: "none" });
});

await check("the overview says in words which queue is stuck", async () => {
  await open(page, shop);
  await page.getByText("paused, and").waitFor();
  const text = await page.locator(".need").innerText();
  must(/mail\s+[\s\S]*failed and ha/.test(text), text);
});

await check("by keys alone: find a failed task, read its error, retry it", async () => {
  await open(page, shop);
  await page.keyboard.press("g");
  await page.keyboard.press("t");
  await page.getByRole("heading", { name: "Tasks", level: 1 }).waitFor();
  must((await page.evaluate(() => document.activeElement.id)) === "title", "the focus did not move to the heading");
  await page.keyboard.press("/");
  await page.keyboard.type("orders");
  await page.keyboard.press("Enter");
  await page.waitForURL(/queue=orders/);
  for (let n = 0; n < 40 && !(await page.evaluate(() => document.activeElement.textContent === "failed")); n++) await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Space");
  await page.waitForURL(/status=failed/);
  await page.locator("tbody tr").first().getByText("failed").waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: /Task \d/, level: 1 }).waitFor();
  await page.locator("pre", { hasText: "the shop is closed" }).first().waitFor();
  for (let n = 0; n < 40 && !(await page.evaluate(() => document.activeElement.textContent === "Retry")); n++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("status").filter({ hasText: "begins again" }).waitFor();
});

await check("letters that are typed into a field are no keys", async () => {
  await open(page, `${shop}queues`);
  await page.keyboard.press("/");
  await page.keyboard.type("gt?x");
  must(page.url().includes("/queues?find=gt"), page.url());
  must((await page.locator("dialog[open]").count()) === 0, "a dialog opened");
});

await check("news on the page leaves a text alone that is being typed", async () => {
  await open(page, `${shop}tasks`);
  await page.locator(".live.live").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("repo");
  const news = page.waitForResponse(/\/api\/task\?/);
  await ask("create");
  await news;
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn))));
  must((await page.evaluate(() => document.activeElement.value)) === "repo", "the text is gone");
  await page.keyboard.type("rts");
  await page.keyboard.press("Enter");
  await page.waitForURL(/queue=reports/);
});

await check("the palette finds a task by its number and a queue by its name", async () => {
  await open(page, shop);
  await page.keyboard.press("Control+k");
  await page.keyboard.type(String(ids.failed));
  await page.keyboard.press("Enter");
  await page.waitForURL(new RegExp(`/task/${ids.failed}$`));
  await page.keyboard.press("Control+k");
  await page.keyboard.type("mail");
  const found = await violations(page);
  must(found.length === 0, found.join("\n"));
  await page.keyboard.press("Enter");
  await page.waitForURL(/queue\/mail$/);
});

await check("hostile content shows as it is, and runs nothing", async () => {
  await open(page, `${shop}task/${ids.hostile}`);
  const text = await page.locator("main").innerText();
  for (const part of ["<script>window.hacked=1</script>", "9223372036854775807", "12345678901234567890.000", "__proto__", "\\u202e", "\\u0000", "1e400", '"twice": 1', '"twice": 2', "<img src=x onerror=window.hacked=1>"])
    must(text.includes(part), `the page lacks ${part}: ${text}`);
  must((await page.evaluate(() => window.hacked)) === undefined, "a script ran");
  must((await page.evaluate(() => ({}).polluted)) === undefined, "a prototype changed");
  await open(page, `${shop}workers`);
  must((await page.locator("main").innerText()).includes("<img src=x onerror=window.hacked=1>"), "the worker is not shown");
  must((await page.evaluate(() => window.hacked)) === undefined, "a script ran");
});

await check("a payload is copied byte by byte", async () => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open(page, `${shop}task/${ids.hostile}`);
  await page.getByRole("button", { name: "Copy the payload" }).click();
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  must((await page.evaluate(() => navigator.clipboard.readText())) === given.payload, "the copy differs");
});

await check("a copied command has each value as one word of a shell", async () => {
  await open(page, `${shop}tasks?worker=${encodeURIComponent("$(touch hacked) it's")}`);
  await page.locator("details.menu summary", { hasText: "Copy" }).first().click();
  await page.getByRole("button", { name: "as command" }).click();
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  must(copied === "pgqueue tasks '--worker=$(touch hacked) it'\\''s' --namespace shop", `got ${copied}`);
});

await check("failures come in groups, and a group is retried", async () => {
  await open(page, `${shop}failures`);
  await page.getByText("timeout after <n> ms").first().waitFor();
  await page.getByRole("button", { name: "Retry 7 tasks with this error" }).click();
  await page.getByLabel("Tasks per second, at most").fill("5");
  await page.getByRole("button", { name: "Retry 7 tasks", exact: true }).click();
  await page.getByRole("dialog").getByText("Retried 7 of 7.").waitFor();
  await page.getByRole("button", { name: "Close" }).click();
});

await check("a change of many tasks counts first, repeats the number, and moves all that match", async () => {
  await open(page, `${shop}tasks?queue=mail&status=failed`);
  await page.getByRole("button", { name: "Retry all" }).click();
  await page.getByRole("dialog").getByRole("button", { name: `Retry ${given.failed} tasks` }).click();
  await page.getByRole("dialog").getByText(`Retried ${given.failed} of ${given.failed}.`).waitFor();
  const found = await violations(page);
  must(found.length === 0, found.join("\n"));
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByText("No task matches").waitFor();
});

await check("a deletion wants the number typed", async () => {
  await open(page, `${shop}tasks?queue=webhooks`);
  await page.getByRole("button", { name: "Delete all" }).click();
  const dialog = page.getByRole("dialog");
  const button = dialog.getByRole("button", { name: "Delete 3 tasks" });
  await button.waitFor();
  await button.click({ force: true });
  must((await dialog.count()) === 1 && !(await dialog.innerText()).includes("Deleted"), "it went without the number");
  await dialog.getByRole("textbox").fill("3");
  await button.click();
  await dialog.getByText("Deleted 3 of 3.").waitFor();
});

await check("a queue says why it does not proceed", async () => {
  await open(page, `${shop}queue/thumbs`);
  await page.getByRole("region", { name: "Why" }).getByText("paused").first().waitFor();
  await open(page, `${shop}queue/reports`);
  await page.getByRole("region", { name: "Why" }).getByText("concurrency").first().waitFor();
});

await check("a pause can be undone", async () => {
  await open(page, `${shop}queue/reports`);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByRole("status").filter({ hasText: "runs again" }).waitFor();
  await page.getByRole("button", { name: "Pause" }).waitFor();
});

await check("a group is paused for a time, resumed and limited", async () => {
  await open(page, `${shop}queue/imports?group=${encodeURIComponent("<b>a/b</b> ü")}`);
  const row = page.getByRole("region", { name: "Groups" }).locator("tbody tr");
  await row.filter({ hasText: "all places are taken" }).waitFor();
  must((await row.count()) === 1, `${await row.count()} groups`);
  await row.getByText("1 / 1").waitFor();
  await row.locator("summary").click();
  await row.getByRole("button", { name: "Pause for a time…" }).click();
  await page.getByRole("combobox", { name: "For" }).selectOption("1 day");
  await page.getByRole("button", { name: "Pause the group" }).click();
  await row.getByText("paused, ends").waitFor();
  await row.locator("summary").click();
  await row.getByRole("button", { name: "Resume" }).click();
  await row.filter({ hasText: "all places are taken" }).waitFor();
  await row.locator("summary").click();
  await row.getByRole("button", { name: "Change settings…" }).click();
  const dialog = page.getByRole("dialog", { name: "Settings of the group" });
  await dialog.getByRole("textbox", { name: "Concurrency" }).fill("257");
  await dialog.getByRole("button", { name: "Change" }).click();
  await dialog.getByRole("alert").filter({ hasText: "concurrency" }).waitFor();
  await dialog.getByRole("textbox", { name: "Concurrency" }).fill("2");
  await dialog.getByRole("button", { name: "Change" }).click();
  await row.getByText("1 / 2").waitFor();
}, [422]);

await check("the limits of a queue change, and change back", async () => {
  await open(page, `${shop}queue/imports`);
  await page.locator("summary", { hasText: "More" }).click();
  await page.getByRole("button", { name: "Change settings" }).click();
  const dialog = page.getByRole("dialog", { name: "Settings of imports" });
  await dialog.getByRole("textbox", { name: /^Rate limit most/ }).fill("10");
  await dialog.getByRole("combobox", { name: "Fair shares" }).selectOption("yes");
  await dialog.getByRole("button", { name: "Change" }).click();
  await page.getByText("share the queue fairly").waitFor();
  await page.getByText("10 in 1s").waitFor();
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByText("share the queue fairly").waitFor({ state: "detached" });
});

await check("the audit of one queue shows its settings before and after", async () => {
  await open(page, `${shop}access?tab=audit`);
  await page.getByRole("textbox", { name: "Queue" }).fill("reports");
  await page.keyboard.press("Enter");
  await page.waitForURL(/queue=reports/);
  const rows = page.getByRole("region", { name: "Audit" }).locator("tbody tr");
  await rows.filter({ hasText: "concurrency = 2" }).locator("summary").click();
  await rows.getByText("concurrency = 2").waitFor();
  await page.waitForFunction(() => [...document.querySelectorAll("tbody tr")].every((row) => row.textContent.includes("reports")));
});

await check("back and forward show the pages before, and a copied address shows the same view", async () => {
  await open(page, shop);
  await page.getByRole("link", { name: "Tickers" }).first().click();
  await page.getByRole("heading", { name: "Tickers", level: 1 }).waitFor();
  await page.goBack();
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
  await page.goForward();
  await page.getByRole("heading", { name: "Tickers", level: 1 }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Tickers", level: 1 }).waitFor();
});

await check("all tabs of a browser share one stream, and a hidden browser has none", async () => {
  const tabs = await newContext();
  const streams = new Set();
  tabs.on("request", (request) => request.url().includes("/api/event") && streams.add(request));
  const end = (request) => streams.delete(request);
  tabs.on("requestfinished", end);
  tabs.on("requestfailed", end);
  const pages = [];
  for (let n = 0; n < 3; n++) {
    const tab = await tabs.newPage();
    await open(tab, `${shop}live`);
    await tab.locator(".live.live").waitFor();
    pages.push(tab);
  }
  must(streams.size === 1, `three tabs have ${streams.size} streams`);
  await ask("create");
  for (const tab of pages) await tab.locator("tbody tr", { hasText: "created" }).first().waitFor();
  for (const tab of pages)
    await tab.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
  for (let n = 0; n < 200 && streams.size; n++) await pages[0].waitForTimeout(50);
  must(streams.size === 0, `three hidden tabs have ${streams.size} streams`);

  // What happens meanwhile arrives when one tab is visible again.
  await ask("create");
  const before = await pages[1].locator("tbody tr", { hasText: "created" }).count();
  await pages[1].evaluate(() => {
    Object.defineProperty(document, "hidden", { value: false, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await pages[1].waitForFunction((n) => [...document.querySelectorAll("tbody tr")].filter((row) => row.textContent.includes("created")).length > n, before);
  await tabs.close();
});

await check("behind a path that the proxy strips, the page works without a setting", async () => {
  await open(page, `${proxy}/stripped/`);
  await page.waitForURL(/\/stripped\/ui\/default\/$/);
  await open(page, `${proxy}/stripped/ui/shop/queue/mail`);
  await page.getByRole("link", { name: "Tasks" }).first().click();
  await page.locator("tbody tr").first().waitFor();
  await page.locator(".live.live").waitFor();
  await page.locator("tbody tr a.name").first().click();
  await page.reload();
  await page.getByRole("heading", { name: /Task \d/ }).waitFor();
});

await check("behind a path that the proxy keeps, a pasted token signs in and out", async () => {
  await page.goto(`${proxy}/kept/ui/shop/tasks?queue=mail`);
  await page.getByRole("heading", { name: "Sign in to pgqueue" }).waitFor();
  let found = await violations(page);
  must(found.length === 0, found.join("\n"));
  await page.getByLabel("Token").fill("pgq_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Token").fill(tokens.operator);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Tasks", level: 1 }).waitFor();
  must(page.url().endsWith("/kept/ui/shop/tasks?queue=mail"), page.url());
  must((await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage }))).includes("pgq_") === false, "a script can read the token");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in to pgqueue" }).waitFor();
}, [401, 422]);

await check("a sign-in at an identity provider leads back to the page, and ends", async () => {
  const other = await newContext();
  const tab = await other.newPage();
  await tab.goto(`${closed}/ui/shop/tasks?queue=mail`);
  const found = await violations(tab);
  must(found.length === 0, found.join("\n"));
  await tab.getByRole("link", { name: "Sign in with your organisation" }).click();
  await tab.getByRole("heading", { name: "Tasks", level: 1 }).waitFor();
  must(tab.url().endsWith("/ui/shop/tasks?queue=mail"), tab.url());
  await tab.getByText("Ann <Lee>").first().waitFor();
  await tab.locator("tbody tr").first().waitFor();
  // A right that the rules do not give is named.
  await open(tab, `${closed}/ui/shop/access?tab=tokens`);
  await tab.getByText("needs the role system").first().waitFor();
  await tab.getByRole("button", { name: "Sign out" }).click();
  await tab.getByRole("heading", { name: "Sign in to pgqueue" }).waitFor();
  await ask("refuse");
  await tab.getByRole("link", { name: "Sign in with your organisation" }).click();
  await tab.getByText(/access_denied|refused|sign in again/).first().waitFor();
  await other.close();
}, [401, 403]);

await check("the command finds the dashboard at another path", async () => {
  const other = await newContext();
  const tab = await other.newPage();
  const link = await ask("link");
  must(link.startsWith(`${closed}/ui/#code=`), link.replace(/#.*/, ""));
  await tab.goto(link);
  await tab.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
  await other.close();
}, [401]);

await check("the code of the command signs in once, and leaves the address", async () => {
  const other = await newContext();
  const tab = await other.newPage();
  const code = await ask("code");
  await tab.goto(`${closed}/ui/shop/#code=${code}`);
  await tab.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
  must(!tab.url().includes("#") && !tab.url().includes(code), tab.url());
  await other.close();
}, [401]);

await check("what an observer may not see or do is named, and never sent", async () => {
  const other = await newContext();
  const tab = await other.newPage();
  const bodies = [];
  tab.on("response", async (response) => bodies.push(await response.text().catch(() => "")));
  await tab.goto(`${closed}/ui/shop/task/${ids.hostile}`);
  await tab.getByLabel("Token").fill(tokens.observer);
  await tab.getByRole("button", { name: "Sign in" }).click();
  await tab.getByText("needs the role viewer in shop").first().waitFor();
  const found = await violations(tab);
  must(found.length === 0, found.join("\n"));
  must(!bodies.some((text) => text.includes("window.hacked=1</script>")), "the payload was sent");
  const again = tab.getByRole("button", { name: /Again, edited.*needs the role operator in shop/ });
  await again.click({ force: true });
  await tab.getByRole("status").filter({ hasText: "Not permitted" }).waitFor();
  for (const [place, text] of [["access?tab=tokens", "needs the role system"], ["access?tab=audit", "needs the role system"], ["system", "needs the role system"]]) {
    await open(tab, `${closed}/ui/shop/${place}`);
    await tab.getByText(text).first().waitFor();
  }
  await other.close();
}, [401]);

// Background work writes a point once a minute, for which the short form does not wait.
if (given.full)
  await check("the history of a queue shows as a drawing and as a table", async () => {
    await open(page, `${shop}queue/mail`);
    await page.getByRole("img", { name: /Tasks a minute: .*created now/ }).waitFor({ timeout: 150_000 });
    await page.getByRole("button", { name: "as a table" }).first().click();
    await page.getByRole("region", { name: "Tasks a minute as a table" }).getByText("40").first().waitFor();
    const found = await violations(page);
    must(found.length === 0, found.join("\n"));
    await page.getByRole("link", { name: "30 days" }).click();
    await page.getByRole("img", { name: /Tasks in 3 hours/ }).waitFor();
  });

await check("after kill -9 of the server the page says so, and goes on by itself", async () => {
  await open(page, `${shop}live`);
  await page.locator(".live.live").waitFor();
  await ask("kill");
  await page.getByText("The server does not answer").first().waitFor();
  await ask("start");
  await page.locator(".live.live").waitFor();
  await page.getByText("The server does not answer").waitFor({ state: "detached" });
  await ask("create");
  await page.locator("tbody tr", { hasText: "created" }).first().waitFor();
  // Requests to a server that is away fail; the console has a line for each, and nothing else is wrong.
  faults.splice(0, faults.length, ...faults.filter((fault) => !/ERR_|50\d/.test(fault)));
});

await end();
