import { open } from "./browser.mjs";
const [, , link, url] = process.argv;
const { browser, context, page } = await open(new URL(link).origin, { size: [1440, 3400] });
await page.goto(link); await page.waitForTimeout(1000);
for (let at = 0; at < 3; at += 1) {
await page.goto(url);
await page.waitForFunction(() => document.querySelectorAll("[data-panel=timeseries][data-state=done] .u-over").length === 30, undefined, { timeout: 60000 });
const told = await page.evaluate(() => { const now = performance.now(); const all = performance.getEntriesByType("resource"); const q = all.filter((e) => e.name.includes("query_range")); const f = (n) => n.toFixed(0); return [`now ${f(now)}`, `dcl ${f(performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd)}`, ...all.filter((e) => !e.name.includes("query_range")).map((e) => `${e.name.split("/").pop().slice(0, 30)} ${f(e.startTime)}..${f(e.responseEnd)}`), `queries ${q.length}: first ${f(Math.min(...q.map((e) => e.startTime)))} last end ${f(Math.max(...q.map((e) => e.responseEnd)))} mean ${f(q.reduce((s, e) => s + e.responseEnd - e.startTime, 0) / q.length)} wait ${f(q.reduce((s, e) => s + e.responseStart - e.requestStart, 0) / q.length)} recv ${f(q.reduce((s, e) => s + e.responseEnd - e.responseStart, 0) / q.length)} bytes ${q[0].encodedBodySize} / ${q[0].decodedBodySize}`].join("\n"); });
console.log(told, "\n"); }
await browser.close();
