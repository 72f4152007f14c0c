// The ten tasks of an operator. Each begins at the overview, and uses what the page shows alone: its words, links and buttons.

import { ask, check, end, given, must, newContext, open } from "./browser.mjs";

const shop = `${given.open}/ui/shop/`;
const context = await newContext();
const page = await context.newPage();
const main = page.getByRole("main");
const goTo = (name) => page.getByRole("navigation", { name: "Main" }).getByRole("link", { name, exact: name === "Tasks" }).click();
const title = (name) => page.getByRole("heading", { name, level: 1 }).waitFor();
const task = (name, run) => check(name, async () => {
  await open(page, shop);
  await title("Overview");
  await run();
});

await task("which queue is stuck and since when", async () => {
  const text = (await page.locator(".need li", { hasText: "no worker holds a task" }).first().innerText()).replace(/\s+/g, " ");
  must(text.includes("orders") && text.includes("12 tasks wait") && /the oldest for 2 h/.test(text) && new RegExp(`since (\\d+ \\w+, )?${given.since}`).test(text), text);
});

await task("redrive only yesterday's timeouts of mail at 50 a second", async () => {
  await page.locator(".need li", { hasText: "failed" }).filter({ hasText: "mail" }).getByRole("link", { name: "Look" }).click();
  await title("Failures");
  await page.getByRole("button", { name: "Yesterday" }).click();
  const row = page.getByRole("region", { name: "Failures of mail" }).locator("tbody tr", { hasText: "timeout after" });
  await row.getByRole("button", { name: "Retry 6 tasks with this error" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Tasks per second, at most").fill("50");
  await dialog.getByRole("button", { name: "Retry 6 tasks", exact: true }).click();
  await dialog.getByText("Retried 6 of 6.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  const left = [await ask("timeouts"), await ask("failed")];
  must(left[0] === "4" && left[1] === "7", `timeouts and failed tasks that are left: ${left}`);
  // The address has the time, so a colleague sees the same.
  must(/after=.*before=/.test(page.url()), page.url());
  await page.reload();
  must((await page.getByRole("button", { name: "Yesterday" }).getAttribute("aria-pressed")) === "true", "the time is gone");
  await main.getByText("mailbox <n> is gone").waitFor();
});

await task("why reports do not go on, and who is in the way", async () => {
  await page.locator(".need li", { hasText: "reports" }).getByRole("link", { name: "Why" }).click();
  const why = page.getByRole("region", { name: "Why" });
  await why.getByText("concurrency of the queue is 2").waitFor();
  await why.getByText("w-3").waitFor();
  await why.getByRole("link", { name: String(given.ids.report) }).click();
  await title(`Task ${given.ids.report}`);
});

await task("who paused thumbs, and let it go on", async () => {
  await page.locator(".need li", { hasText: "thumbs" }).getByRole("link", { name: "thumbs" }).click();
  await main.getByRole("link", { name: "local" }).waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("status").filter({ hasText: "thumbs runs again" }).waitFor();
  await page.getByRole("button", { name: "Pause" }).waitFor();
});

await task("find the task of a customer by its key, and see whether it ran", async () => {
  await goTo("Tasks");
  await page.getByRole("textbox", { name: "Key" }).fill("order-7");
  await page.keyboard.press("Enter");
  await page.locator("tbody tr", { hasText: "orders" }).locator("a.name").click();
  await page.getByText("no attempt yet").waitFor();
  await page.getByText("order-7").first().waitFor();
});

await task("find a task by a text in its payload", async () => {
  await goTo("Tasks");
  await page.getByRole("combobox", { name: "Queue" }).fill("hooks");
  await page.keyboard.press("Enter");
  await page.getByRole("textbox", { name: "Text in payload" }).fill("ann0@example.org");
  await page.keyboard.press("Enter");
  await page.locator("tbody tr a.name", { hasText: String(given.ids.hook) }).waitFor();
  await main.getByText("1 task matches").or(main.getByText("1 task match")).waitFor();
});

await task("run a failed task again with another payload", async () => {
  await goTo("Failures");
  await page.getByRole("region", { name: "Failures of hooks" }).getByRole("link", { name: /the address/ }).click();
  await title(`Task ${given.ids.hook}`);
  await page.getByRole("button", { name: "Again, edited" }).click();
  const dialog = page.getByRole("dialog");
  const payload = dialog.getByRole("textbox", { name: "Payload" });
  must((await payload.inputValue()).includes("ann0@example.org"), "the payload is not there");
  await payload.fill('{"to":"bob@example.org"}');
  await dialog.getByRole("button", { name: "Create the task" }).click();
  await page.getByRole("status").filter({ hasText: "Created task" }).waitFor();
  await main.getByText("bob@example.org").waitFor();
});

await task("cancel all waiting tasks of a wrong import", async () => {
  await page.getByRole("region", { name: "Queues" }).getByRole("link", { name: "imports" }).click();
  await title("imports");
  await page.getByRole("link", { name: /new$/ }).click();
  await page.getByRole("button", { name: "Cancel all…" }).click();
  const dialog = page.getByRole("dialog");
  const button = dialog.getByRole("button", { name: /Cancel \d+ tasks/ });
  await button.waitFor();
  await button.click();
  await dialog.getByText(/Cancelled \d+ of \d+\./).waitFor();
});

await task("when the nightly report runs next, and run it now", async () => {
  await goTo("Tickers");
  await page.getByRole("link", { name: "Next 24 hours" }).click();
  // A ticker of every few seconds has one line, and hides no other.
  await main.getByText("Often:").waitFor();
  await main.getByText("every 5.0 s").or(main.getByText("every 5 s")).first().waitFor();
  await page.getByRole("region", { name: "Coming ticks" }).getByRole("link", { name: "nightly" }).click();
  await main.getByText("every day at 03:30, Europe/Berlin").first().waitFor();
  await page.getByRole("button", { name: "Fire now" }).click();
  await page.getByRole("status").filter({ hasText: "it made task" }).waitFor();
});

await task("let reports use two places more, and take it back", async () => {
  await page.getByRole("region", { name: "Queues" }).getByRole("link", { name: "reports" }).click();
  await page.locator("summary", { hasText: "More" }).click();
  await page.getByRole("button", { name: "Change settings" }).click();
  const dialog = page.getByRole("dialog", { name: "Settings of reports" });
  await dialog.getByRole("textbox", { name: /^Concurrency most/ }).fill("4");
  await dialog.getByRole("button", { name: "Change" }).click();
  await page.getByRole("status").filter({ hasText: "Changed concurrency" }).waitFor();
  must((await ask("concurrency")) === "4", "it has not changed");
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByRole("status").filter({ hasText: "Undone" }).waitFor();
  must((await ask("concurrency")) === "2", "it was not taken back");
});

await task("which worker holds a task the longest, and ask it to stop", async () => {
  await goTo("Workers");
  await page.locator("tbody tr").first().getByRole("link", { name: "w-3" }).click();
  await title("Tasks");
  await page.locator("tbody tr a.name").last().click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("status").filter({ hasText: "Asked its worker to stop" }).waitFor();
  await main.getByText("cancel requested").waitFor();
});

await end();
