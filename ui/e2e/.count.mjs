import { open } from "./browser.mjs";
const [, , link, url] = process.argv;
const { browser, context, page } = await open(new URL(link).origin, { size: [1440, 3400] });
await page.goto(link); await page.waitForTimeout(1000);
await page.addInitScript(() => { globalThis.count = { stroke: 0, clear: 0, canvases: 0, strokeMs: 0 }; for (const name of ["stroke", "clearRect", "fill"]) { const old = CanvasRenderingContext2D.prototype[name]; CanvasRenderingContext2D.prototype[name] = function (...a) { const t = performance.now(); const r = old.apply(this, a); count[name] = (count[name] ?? 0) + 1; count[name + "Ms"] = (count[name + "Ms"] ?? 0) + performance.now() - t; return r; }; } const make = document.createElement; document.createElement = function (n, ...r) { if (n === "canvas") count.canvases += 1; return make.call(this, n, ...r); }; 
const marks = []; globalThis.marks = marks; let last = performance.now(); const tick = () => { const now = performance.now(); if (now - last > 60) marks.push(`${last.toFixed(0)}+${(now - last).toFixed(0)}`); last = now; requestAnimationFrame(tick); }; requestAnimationFrame(tick); });
for (let at = 0; at < 2; at += 1) {
await page.goto(url);
await page.waitForFunction(() => document.querySelectorAll("[data-panel=timeseries][data-state=done] .u-over").length === 30, undefined, { timeout: 60000 });
await page.waitForTimeout(1500);
console.log(await page.evaluate(() => JSON.stringify([globalThis.count, globalThis.marks])));
}
await browser.close();
