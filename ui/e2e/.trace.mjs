import { open } from "./browser.mjs";
const [, , link, url] = process.argv;
const { browser, context, page } = await open(new URL(link).origin, { size: [1440, 3400] });
await page.goto(link); await page.waitForTimeout(1000); await page.goto(url); await page.waitForTimeout(3000);
const session = await browser.newBrowserCDPSession();
const events = []; session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
await session.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["devtools.timeline", "cc", "gpu", "viz", "blink", "toplevel", "skia", "__metadata", "v8"] } });
const t = Date.now();
await page.goto(url);
await page.waitForFunction(() => document.querySelectorAll("[data-panel=timeseries][data-state=done] .u-over").length === 30, undefined, { timeout: 60000 }); await page.waitForTimeout(300);
console.log("took", Date.now() - t);
const done = new Promise((resolve) => session.on("Tracing.tracingComplete", resolve));
await session.send("Tracing.end"); await done;
const names = new Map(events.filter((e) => e.name === "thread_name").map((e) => [`${e.pid}/${e.tid}`, e.args.name]));
const sum = new Map();
for (const e of events) if (e.ph === "X" && e.tdur) { const k = `${names.get(`${e.pid}/${e.tid}`)} ${e.name}`; const s = sum.get(k) ?? [0, 0]; s[0] += e.tdur; s[1] += 1; sum.set(k, s); }
console.log([...sum].sort((a, b) => b[1][0] - a[1][0]).slice(0, 60).map(([k, v]) => `${(v[0] / 1000).toFixed(0)} ms ${v[1]}x ${k}`).join("\n"));
await browser.close();
