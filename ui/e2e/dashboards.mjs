/// Public dashboards, drawn by a running console: `node e2e/dashboards.mjs LINK FOLDER TABLE`.
///
/// LINK is what `madang console` prints, FOLDER holds Grafana's dashboard JSON; the cluster's workloads are in the namespace `filled`, among them the Deployment `web` and the pod `db-0`. Each dashboard is kept, opened with all its rows and
/// looked at panel by panel: what a panel shows must be what its queries answer when Prometheus is asked them apart from the page. The table of
/// panels right and wrong is written to TABLE as Markdown; a wrong panel, or an error on a page, makes the exit code 1.
///
/// | a panel is | when |
/// |---|---|
/// | right, with data | its queries answer with values and it draws some: pixels in a plot, rows in a table, a number elsewhere |
/// | right, no data | its queries answer with nothing, or with what is no number, and it says so in words, those of its mappings too |
/// | wrong | else: also where it fails, its type is not drawn, or a transformation is unknown |
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { open } from "./browser.mjs";

const [, , link, folder, table] = process.argv;
if (!link || !folder || !table) throw new Error("usage: node e2e/dashboards.mjs LINK FOLDER TABLE");
const base = new URL(link).origin;
const { browser, page, wrong } = await open(base, { size: [1600, 1200] });
await page.goto(link);
await page.locator(".rail").waitFor({ timeout: 60_000 });

/// An answer of Prometheus through the console.
const ask = (path, fields) => page.evaluate(async ([path, fields]) => (await (await fetch(`/prometheus/api/v1/${path}`, { method: "POST", body: new URLSearchParams(fields) })).json()), [path, fields]);
// Rates need several samples: what is scraped every 15 s has them after a minute and a half. Rules have then recorded what they record.
for (let turn = 0; turn < 96; turn += 1) {
  const { data } = await ask("query", { query: "max(count_over_time(up[5m]))" });
  const rules = await page.evaluate(async () => (await (await fetch("/prometheus/api/v1/rules")).json()).data.groups);
  if (Number(data?.result?.[0]?.value?.[1] ?? 0) >= 7 && rules.every((group) => Date.parse(group.lastEvaluation) > 0)) break;
  await page.waitForTimeout(5_000);
}

/// In the page: what a panel shows.
function shownBy(panel) {
  const type = panel.dataset.panel;
  const said = (selector) => [...panel.querySelectorAll(selector)].map((one) => one.textContent.trim());
  const state = panel.dataset.state;
  const links = [...panel.querySelectorAll("header a")].map((one) => new URL(one.href)).find((one) => one.pathname === "/explore");
  const answer = { title: panel.getAttribute("aria-label"), type, state, unknown: panel.querySelector("header .tag")?.getAttribute("title") ?? "", error: said(".wrong").join(" "), expressions: links?.searchParams.getAll("expr") ?? [], words: said(".empty").join(" "), number: /\d/.test(said(".stat .value, .stat text").join(" ")) };
  const draws = () => {
    if (type === "table") return panel.querySelectorAll("tbody tr").length > 0;
    if (type === "stat") return said(".stat .value, .stat .name").some((text) => text && text !== "No data");
    if (type === "gauge") return said(".stat text").some((text) => text && text !== "No data");
    if (type === "bargauge") return panel.querySelectorAll(".bar-row").length > 0;
    const canvas = panel.querySelector("canvas");
    if (!canvas || !canvas.width) return false;
    if (type === "heatmap") return true;
    // What is drawn between the axes and is no line of the grid; zeros are drawn on the lower axis.
    const below = 2;
    const over = panel.querySelector(".u-over"), scale = canvas.width / canvas.getBoundingClientRect().width;
    const grid = getComputedStyle(document.documentElement).getPropertyValue("--grid").trim().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    const { data } = canvas.getContext("2d").getImageData(Math.round(over.offsetLeft * scale), Math.round(over.offsetTop * scale), Math.max(1, Math.round(over.offsetWidth * scale)), Math.max(1, Math.round((over.offsetHeight + below) * scale)));
    let other = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 40 && Math.abs(data[at] - grid[0]) + Math.abs(data[at + 1] - grid[1]) + Math.abs(data[at + 2] - grid[2]) > 40) other += 1;
    return other > 0;
  };
  return { ...answer, draws: state === "done" && draws() };
}

/// Whether a query has a value in the time that is looked at.
async function answers(expression, [from, to]) {
  const many = await ask("query_range", { query: expression, start: from / 1000, end: to / 1000, step: 15 });
  if (many.status !== "success") return { error: many.error };
  const some = (text) => Number.isFinite(Number(text));
  if (many.data.result.some((one) => (one.values ?? []).some(([, text]) => some(text)) || one.histograms?.length)) return { some: true };
  const one = await ask("query", { query: expression, time: to / 1000 });
  return { some: one.status === "success" && one.data.result.length > 0 && (one.data.resultType !== "vector" || one.data.result.some(({ value }) => value && some(value[1]))) };
}

/// What variables are that name one workload.
const WORKLOADS = { namespace: "filled", workload: "web", pod: "db-0" };
const rows = [], told = [];
const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
for (const [at, name] of names.entries()) {
  const dashboard = { ...JSON.parse(readFileSync(join(folder, name), "utf8")), id: null, uid: `public-${at}` };
  wrong.length = 0;
  const kept = await page.evaluate(async (body) => (await fetch("/api/dashboards/db", { method: "POST", headers: { "content-type": "application/json" }, body })).status, JSON.stringify({ dashboard, overwrite: true }));
  if (kept !== 200) { told.push(`${name}: not kept: ${kept}`); continue; }
  // What a scrape or a rule has at this time stands by now.
  const to = Date.now() - 15_000, span = [to - 900_000, to];
  // Of the cluster's workloads, those that have all that is asked for: a Deployment, and a pod with limits and a volume.
  const chosen = (dashboard.templating?.list ?? []).filter((one) => WORKLOADS[one.name] && !(one.includeAll && one.multi) && /kube_|container_/.test(JSON.stringify(one.query)));
  // Thresholds are drawn where there is no value, too.
  const all = (panels) => (panels ?? []).flatMap((one) => [one, ...all(one.panels)]);
  const lined = new Set(all(dashboard.panels).filter((one) => (one.fieldConfig?.defaults?.custom?.thresholdsStyle?.mode ?? "off") !== "off").map((one) => one.title));
  let row, found;
  for (let look = 0; look < 2; look += 1) {
    row = { title: dashboard.title, data: 0, none: 0, wrong: 0 };
    found = [];
    await page.goto(`/d/public-${at}?from=${span[0]}&to=${span[1]}&refresh=off&marks=off${chosen.map((one) => `&var-${one.name}=${WORKLOADS[one.name]}`).join("")}`);
    await page.locator("[data-panel], .row-title").first().waitFor({ timeout: 60_000 });
    for (const closed = page.locator(".row-title button[aria-expanded=false]"); await closed.count();) await closed.first().click();
    const panels = page.locator("[data-panel]");
    for (let place = 0; place < (await panels.count()); place += 1) {
      const panel = panels.nth(place);
      await panel.evaluate((element) => element.scrollIntoView({ block: "center" }));
      const has = async (state) => (await panel.getAttribute("data-state")) === state;
      for (let turn = 0; turn < 300 && (await has("waiting")); turn += 1) await page.waitForTimeout(100);
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      let shown = await panel.evaluate(shownBy);
      if (shown.type === "text") continue;
      const asked = [];
      for (const expression of shown.expressions) asked.push(await answers(expression, span));
      const some = asked.some((one) => one.some), refused = asked.filter((one) => one.error).map((one) => one.error);
      // A plot is made when its library has come.
      for (let turn = 0; turn < 30 && some && !shown.draws && !shown.words; turn += 1) { await page.waitForTimeout(100); shown = await panel.evaluate(shownBy); }
      const why = shown.state === "waiting" ? "it waits" : shown.unknown ? `unknown: ${shown.unknown}` : shown.error ? `it says: ${shown.error}` : refused.length ? `the query is refused: ${refused[0]}`
        : some && !shown.draws ? `there are values, and it shows ${shown.words || "nothing"}` : !some && shown.draws && !lined.has(shown.title) && (shown.number || !["stat", "gauge"].includes(shown.type)) ? "there are no values, and it draws" : !some && !shown.words && shown.type !== "stat" && shown.type !== "gauge" && shown.type !== "timeseries" ? "it does not say that there are none" : "";
      if (why) { row.wrong += 1; found.push(`${dashboard.title}: ${shown.title} (${shown.type}): ${why}${shown.expressions.length ? `\n    ${shown.expressions.join("\n    ")}` : ""}`); }
      else if (some) row.data += 1;
      else row.none += 1;
    }
    if (!row.wrong) break;
    // A rule that takes long may have recorded something of this time between the page's question and this one: then both find it soon.
    if (look === 0) await page.waitForTimeout(30_000);
  }
  told.push(...found);
  if (wrong.length) told.push(`${dashboard.title}: ${wrong.join("\n    ")}`);
  rows.push(row);
  console.log(`${row.title}: ${row.data} with data, ${row.none} without, ${row.wrong} wrong`);
  await page.evaluate(async (uid) => { await fetch(`/api/dashboards/uid/${uid}`, { method: "DELETE" }); }, dashboard.uid);
}
await browser.close();
rows.sort((a, b) => a.title.localeCompare(b.title));
const sum = (of) => rows.reduce((all, row) => all + row[of], 0);
const lines = ["| dashboard | right, with data | right, no data | wrong |", "|---|---|---|---|", ...rows.map((row) => `| ${row.title} | ${row.data} | ${row.none} | ${row.wrong} |`), `| all | ${sum("data")} | ${sum("none")} | ${sum("wrong")} |`];
writeFileSync(table, `${lines.join("\n")}\n`);
for (const one of told) console.log(one);
console.log(`${rows.length} dashboards of ${names.length}: ${sum("data")} panels with data, ${sum("none")} without, ${sum("wrong")} wrong`);
process.exit(told.length ? 1 : 0);
