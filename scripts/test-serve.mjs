// The pages in a real browser; scripts/test-serve.sh starts the server and calls this: test-serve.mjs ADDRESS
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { PROJECT, LOGWEIR, CHROMIUM, SHOTS, SESSIONS, TOOLS } = process.env;
const address = process.argv[2];
const require = createRequire(join(TOOLS, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const problems = [];
const say = (text) => console.log(text);

// A page that tells of errors and of requests to other hosts.
const open = async (options, base) => {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error") problems.push(`${page.url()}: ${message.text()}`); });
  page.on("pageerror", (error) => problems.push(`${page.url()}: ${error}`));
  page.on("request", (request) => { if (!request.url().startsWith(base) && !request.url().startsWith("data:")) problems.push(`${page.url()} asks ${request.url()}`); });
  return page;
};
const audit = async (page, name) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
  for (const one of violations) {
    const where = one.nodes.slice(0, 3).map((node) => node.target.join(" ") + ": " + (node.any[0] || node.all[0] || node.none[0] || { message: "" }).message);
    problems.push(`${name}: ${one.id}: ${one.help}: ${where.join(" | ")} (${one.nodes.length})`);
  }
};
const fits = async (page, name) => {
  const { wide, room } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, room: innerWidth }));
  if (wide > room) problems.push(`${name}: ${wide} pixels wide on a screen of ${room}`);
};
const go = async (page, hash, title) => {
  await page.goto(`${address}/${hash}`);
  await page.waitForFunction((words) => {
    const main = document.querySelector("main");
    return !main.hasAttribute("aria-busy") && (main.querySelector("h1")?.textContent || "").includes(words);
  }, title);
};

const { runs } = await (await fetch(`${address}/api/runs`)).json();
const VIEWS = [
  ["runs", "#/", "Runs"],
  ["run", `#/run/${runs.at(-1).run}`, "Run"],
  ["metrics", "#/metrics", "Metrics"],
  ["lineage", "#/lineage/reports%2Fmetrics.json%23%2Ffusion%2Faverage_precision", "Where"],
  ["impact", "#/impact/data%2Fprocessed%2Ftemplates.csv", "What comes from"],
  ["alerts", "#/alerts", "Alerts"],
  ["compare", `#/compare/${runs.at(-1).run}/${runs.at(-2).run}`, "Two runs"],
];
const alerts = (await (await fetch(`${address}/api/alerts?limit=1`)).json()).alerts;
assert.ok(alerts.length, "the simulated log has alerts");
VIEWS.push(["session", `#/session/${alerts[0].session_id}`, "Session"]);

for (const [look, options] of [
  ["light", { colorScheme: "light", viewport: { width: 1280, height: 900 } }],
  ["dark", { colorScheme: "dark", viewport: { width: 1280, height: 900 } }],
  ["narrow", { colorScheme: "light", viewport: { width: 390, height: 844 } }],
]) {
  const page = await open(options, address);
  for (const [name, hash, title] of VIEWS) {
    await go(page, hash, title);
    await page.screenshot({ path: join(SHOTS, `${name}-${look}.png`), fullPage: true });
    await audit(page, `${name}, ${look}`);
    await fits(page, `${name}, ${look}`);
  }
  await page.context().close();
  say(`${look}: ${VIEWS.length} views`);
}

const page = await open({ viewport: { width: 1280, height: 900 } }, address);
// A number leads to its lineage.
await go(page, "#/", "Runs");
await page.click("a.tile >> nth=0");
await page.waitForSelector("h1:has-text('comes from')");
assert.ok((await page.locator(".graph g[data-id]").count()) > 8, "the lineage is drawn");
assert.match(await page.locator("main").innerText(), /Its value is [\d.]+/);
// By keyboard: into the graph, along an edge, open, close.
await page.locator(".graph g[data-id]").first().focus();
await page.keyboard.press("ArrowDown");
await page.keyboard.press("Enter");
await page.waitForSelector(".panel:not([hidden]) h3");
const opened = await page.evaluate(() => document.activeElement.getAttribute("data-id"));
await page.keyboard.press("Escape");
await page.waitForSelector(".panel", { state: "hidden" });
assert.equal(await page.evaluate(() => document.activeElement.getAttribute("data-id")), opened);
// The first Tab goes to the content, past the links.
await go(page, "#/", "Runs");
await page.reload();
await page.waitForSelector("table");
await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
assert.equal(await page.evaluate(() => document.activeElement.id), "main");
say("keyboard and lineage");

// The graph of a run has times and a critical path.
await go(page, `#/run/${runs.at(-1).run}`, "Run");
const critical = await page.locator(".graph g.critical").count();
assert.ok(critical >= 4, `${critical} stages on the critical path`);
assert.equal(await page.locator(".bars").first().locator("button").count(), critical);
await page.locator(".graph g[data-id='evaluate']").click();
assert.match(await page.locator(".panel").innerText(), /reports\/metrics.json/);
assert.match(await page.locator(".panel pre").textContent(), /"beta"/);

// Alerts: filter by keyboard, one signature, raw lines with those that stand out.
await go(page, "#/alerts", "Alerts");
const count = async () => Number((await page.locator("main output").innerText()).match(/^[\d,]+/)[0].replaceAll(",", ""));
const all = await count();
await page.keyboard.press("/");
await page.keyboard.type(alerts[0].session_id);
await page.waitForFunction(() => document.querySelector("main output").textContent.startsWith("1 alert"));
assert.equal(await page.evaluate(() => document.activeElement.id), "filter", "typing goes on");
await page.fill("#filter", "");
await page.waitForFunction((n) => document.querySelector("main output").textContent.startsWith(n.toLocaleString("en")), all);
await page.locator(".list button").first().click();
await page.waitForSelector(".list button[aria-pressed=true]");
await page.locator("td details summary").first().click();
await page.waitForSelector("td .lines li.odd");
assert.ok((await page.locator("td .lines li").count()) > 1);
await page.screenshot({ path: join(SHOTS, "alert-open.png"), fullPage: true });
await page.locator("th button:has-text('start')").click();
await page.waitForSelector("th[aria-sort=descending]:has-text('start')");
say(`alerts: ${all}`);

// A run in another process shows as it happens, and is history then.
await go(page, "#/", "Runs");
const before = await page.locator("tbody tr").count();
const run = spawn(LOGWEIR, ["-C", PROJECT, "--profile", "demo", "--set", `stages.simulate.with.sessions=${SESSIONS}`, "run", "-q", "--force", "parse", "--force", "train_ae", "--force", "train_lgbm"], { env: { ...process.env, LOGWEIR_HDFS: "/nowhere" } });
await page.waitForSelector("#live:not([hidden]) li");
await page.screenshot({ path: join(SHOTS, "live.png") });
await page.waitForSelector("#live.done");
await page.waitForFunction((n) => document.querySelectorAll("tbody tr").length === n + 1, before);
assert.equal(await new Promise((resolve) => run.on("exit", resolve)), 0);
say("a run was followed");

// The report, from the server and from a file: filter, groups, origin of a number, words for pictures.
for (const base of [`${address}/reports/index.html`, pathToFileURL(join(PROJECT, "reports/index.html")).href]) {
  for (const [look, options] of [["light", { colorScheme: "light" }], ["dark", { colorScheme: "dark" }], ["narrow", { viewport: { width: 400, height: 900 } }]]) {
    const report = await open({ viewport: { width: 1280, height: 900 }, ...options }, base.startsWith("file:") ? base : address);
    await report.goto(base);
    const name = `report-${look}${base.startsWith("file:") ? "" : "-served"}`;
    if (base.startsWith("file:")) {
      await report.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
      await audit(report, name);
    }
    await fits(report, name);
    const pictures = await report.locator("figure svg").count();
    assert.ok(pictures >= 9, `${pictures} pictures as SVG`);
    for (const svg of await report.locator("figure svg").all()) {
      assert.ok((await svg.locator("title").textContent()).length > 5 && (await svg.locator("desc").textContent()).length > 20);
    }
    const rows = () => report.locator("#alert-table tr.of").count();
    const listed = await rows();
    const id = (await report.locator("#alert-table td.id").last().innerText()).trim();
    await report.fill("#alert-filter", id);
    assert.equal(await rows(), 1);
    await report.fill("#alert-filter", "no such words");
    assert.equal(await rows(), 0);
    await report.fill("#alert-filter", "");
    assert.equal(await rows(), listed);
    const groups = await report.locator("#alert-table tr.group").count();
    await report.uncheck("#alert-groups");
    assert.deepEqual([await report.locator("#alert-table tr.group").count(), await rows()], [0, listed]);
    await report.check("#alert-groups");
    assert.equal(await report.locator("#alert-table tr.group").count(), groups);
    await report.locator("th button:has-text('start')").click();
    const times = await report.locator("#alert-table tbody:first-of-type tr.of td.t").allInnerTexts();
    assert.deepEqual(times, [...times].sort());
    await report.locator(".tile button.o").first().click();
    assert.match(await report.locator("#audit").innerText(), /logweir lineage/);
    await report.keyboard.press("Escape");
    if (look === "light" && base.startsWith("file:")) {
      await report.emulateMedia({ media: "print" });
      await report.pdf({ path: join(SHOTS, "report.pdf"), format: "A4" });
    }
    await report.context().close();
  }
}
say("report");

await browser.close();
for (const problem of problems) console.error(problem);
assert.equal(problems.length, 0, `${problems.length} problems`);
say("ok");
