// The browser of all scripts here. The Go test beside starts the servers and passes their addresses as JSON in the first argument.
// Each check prints one line of JSON: {"check", "fault"}. A line {"ask"} asks the test to do something, and one line on standard
// input says that it is done.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const given = JSON.parse(process.argv[2]);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// The longest wait for one thing in the page, in milliseconds. A busy machine is slow; no check measures time.
export const longest = 20_000;

export async function ask(what) {
  console.log(JSON.stringify({ ask: what }));
  return (await lines.next()).value;
}

export const browser = await chromium.launch({
  executablePath: given.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** faults collects everything that no page may do. */
export const faults = [];
/** expected are the statuses of answers that a check provokes. */
let expected = [];

export async function newContext(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, timezoneId: "Europe/Berlin", locale: "en-GB", ...options });
  context.setDefaultTimeout(longest);
  const origins = [given.open, given.closed, given.proxy, given.issuer].filter(Boolean).map((address) => new URL(address).origin);
  await context.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error("policy", event.violatedDirective, event.blockedURI, event.sample)));
  context.on("request", (request) => {
    if (!origins.includes(new URL(request.url()).origin)) faults.push(`a request left the origin: ${request.url()}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 400 && !expected.includes(response.status())) faults.push(`${response.status()} ${response.request().method()} ${response.url()}`);
  });
  context.on("console", (message) => {
    // Chromium writes a line for each answer that is an error; the handler above judges those.
    if (["error", "warning"].includes(message.type()) && !message.text().startsWith("Failed to load resource")) faults.push(`console: ${message.text()}`);
  });
  context.on("weberror", (error) => faults.push(`script: ${error.error().message}`));
  return context;
}

export async function check(name, run, allowed = []) {
  expected = allowed;
  faults.length = 0;
  let fault = "";
  try {
    await run();
    if (faults.length) fault = faults.join("\n");
  } catch (error) {
    fault = `${error.message}\n${faults.join("\n")}`.trim();
  }
  expected = [];
  console.log(JSON.stringify({ check: name, fault }));
}

export function must(condition, message) {
  if (!condition) throw new Error(message);
}

/** settled waits until the page has its content and no part of it loads. */
export async function settled(page) {
  await page.waitForSelector("h1");
  await page.waitForFunction(() => !document.querySelector("[aria-busy=true]") && !/Connecting/.test(document.getElementById("app").innerText));
}

export async function open(page, address) {
  await page.goto(address);
  await settled(page);
}

/** violations returns the findings of axe for WCAG 2.2 A and AA. No rule is left out. */
export async function violations(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] }));
  return found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(" ")} (${n.any.concat(n.all, n.none).map((c) => c.message).join("; ")})`).join(", ")}`);
}

/** note prints a figure into the log of the test. */
export const note = (text) => console.log(JSON.stringify({ note: text }));

/** end ends the script. */
export async function end() {
  await browser.close();
  console.log(JSON.stringify({ done: true }));
  process.exit(0);
}
