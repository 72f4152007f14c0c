// Reports about the dashboards of other projects, tried on this one. Each check has the ids of docs/field-reports.md.

import { ask, check, end, given, must, newContext, open } from "./browser.mjs";

const shop = `${given.open}/ui/shop/`;
const context = await newContext();
const page = await context.newPage();
const main = page.getByRole("main");

await check("D-1: a list of large payloads is full", async () => {
  await open(page, `${shop}tasks?queue=large`);
  must((await page.locator("tbody tr").count()) === 30, `${await page.locator("tbody tr").count()} rows`);
  await main.getByText("30 tasks match").waitFor();
});

await check("D-2: a double click makes one task, and fires a ticker once", async () => {
  await open(page, `${shop}queue/hooks`);
  await page.getByRole("button", { name: "New task" }).click();
  await context.route("**/api/task", async (route) => {
    await new Promise((go) => setTimeout(go, 400));
    await route.continue();
  });
  const before = Number(await ask("tasks"));
  await page.getByRole("dialog").getByRole("button", { name: "Create the task" }).dblclick();
  await page.getByRole("status").filter({ hasText: "Created task" }).waitFor();
  await context.unroute("**/api/task");
  must(Number(await ask("tasks")) === before + 1, `${Number(await ask("tasks")) - before} tasks`);

  await open(page, `${shop}ticker/nightly`);
  await page.getByRole("button", { name: "Fire now" }).dblclick();
  await page.getByRole("status").filter({ hasText: "it made task" }).waitFor();
  must(Number(await ask("tasks")) === before + 2, `${Number(await ask("tasks")) - before - 1} fires`);
});

await check("D-3: a browser with a wrong clock shows right times", async () => {
  const other = await newContext();
  await other.addInitScript(() => {
    const Real = Date;
    const shift = -3 * 3_600_000;
    window.Date = class extends Real {
      constructor(...given) {
        super(...(given.length ? given : [Real.now() + shift]));
      }
      static now = () => Real.now() + shift;
    };
  });
  const tab = await other.newPage();
  await open(tab, `${shop}tasks?queue=orders`);
  await tab.locator("tbody tr", { hasText: "2 h" }).first().waitFor();
  const text = await tab.locator("tbody").innerText();
  must(!/in \d/.test(text), text);
  await open(tab, shop);
  await tab.locator(".need li", { hasText: new RegExp(`since (\\d+ \\w+, )?${given.since}`) }).first().waitFor();
  await other.close();
});

await check("D-4: a slow answer to an old filter does not take the place of a new one", async () => {
  await open(page, `${shop}tasks`);
  await context.route(/\/api\/task\?.*queue=orders/, async (route) => {
    await new Promise((go) => setTimeout(go, 1_500));
    await route.continue();
  });
  const box = page.getByRole("combobox", { name: "Queue" });
  await box.fill("orders");
  await box.press("Enter");
  const old = page.waitForResponse(/queue=orders/);
  await box.fill("hooks");
  await box.press("Enter");
  await page.locator("tbody tr", { hasText: "hooks" }).first().waitFor();
  await old;
  await page.waitForTimeout(300);
  must(!(await page.locator("tbody").innerText()).includes("orders"), "the old answer shows");
  await context.unroute(/\/api\/task\?.*queue=orders/);
});

await check("D-5: a hidden tab asks for nothing", async () => {
  const other = await newContext();
  const tab = await other.newPage();
  await open(tab, shop);
  await tab.locator(".live.live").waitFor();
  await tab.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  const asked = [];
  tab.on("request", (request) => asked.push(request.url()));
  await ask("create");
  await tab.waitForTimeout(18_000); // a visible tab asks every 15 s
  must(asked.length === 0, asked.join(", "));
  await other.close();
});

await check("D-6: news on the page keep the selection, and what is open", async () => {
  await open(page, `${shop}tasks?queue=orders`);
  await page.locator(".live.live").waitFor();
  await page.locator("tbody input[type=checkbox]").nth(0).check();
  await page.locator("tbody input[type=checkbox]").nth(1).check();
  const chosen = await page.locator("tr.chosen a.name").allInnerTexts();
  const news = page.waitForResponse(/\/api\/task\?.*queue=orders/);
  await ask("order");
  await news;
  await main.getByText("13 tasks match").waitFor();
  must(String(await page.locator("tr.chosen a.name").allInnerTexts()) === String(chosen), "the selection has changed");
  await page.getByText("2 tasks selected").waitFor();

  await open(page, `${shop}failures?queue=mail`);
  const details = page.locator("tr", { hasText: "timeout after" }).locator("details");
  await details.locator("summary").click();
  const again = page.waitForResponse(/\/failure/);
  await ask("fail");
  await again;
  await page.locator("tr", { hasText: "timeout after" }).getByText("11 tasks", { exact: true }).waitFor();
  must(await details.evaluate((one) => one.open), "it has closed");
  must((await details.locator("a").count()) === 11, `${await details.locator("a").count()} links`);
});

await check("D-7: pages repeat and leave out no task while others arrive", async () => {
  await open(page, `${shop}tasks?queue=many`);
  const ids = [];
  for (;;) {
    ids.push(...(await page.locator("tbody a.name").allInnerTexts()));
    await ask("many");
    const next = page.getByRole("link", { name: "Next page" });
    if (!(await next.count())) break;
    await next.click();
    await page.waitForURL(/cursor=/);
    const last = ids.at(-1);
    await page.waitForFunction((last) => document.querySelector("tbody a.name") && Number(document.querySelector("tbody a.name").textContent) < Number(last), last);
  }
  must(ids.length === 230 && new Set(ids).size === 230, `${ids.length} ids, ${new Set(ids).size} of them different`);
});

await check("D-8: a task with many attempts has a page that works", async () => {
  await open(page, `${shop}task/${given.ids.attempts}`);
  await page.getByText("attempt 120", { exact: false }).first().waitFor();
  const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  must(nodes < 2_500, `${nodes} nodes`);
  await page.getByRole("button", { name: "Cancel" }).waitFor();
});

await check("D-9: names with any letter have links that work", async () => {
  await open(page, `${shop}workers`);
  await page.getByRole("link", { name: given.worker, exact: true }).click();
  await page.getByRole("heading", { name: "Tasks", level: 1 }).waitFor();
  await page.locator("tbody tr", { hasText: "odd" }).waitFor();
  must((await page.locator("tbody tr").count()) === 1, `${await page.locator("tbody tr").count()} rows`);
  await page.reload();
  await page.locator("tbody tr", { hasText: "odd" }).waitFor();
  await page.locator("tbody tr a.name").click();
  await page.getByRole("link", { name: given.worker, exact: true }).click();
  await page.locator("tbody tr", { hasText: "odd" }).waitFor();
});

await check("D-10: a number that no task can have leads on", async () => {
  for (const id of ["99999999999999999999999", "-1", "1e3", "0"]) {
    await open(page, `${shop}task/${id}`);
    await page.getByRole("link", { name: "See all tasks" }).waitFor();
  }
}, [400, 404, 422]);

await end();
