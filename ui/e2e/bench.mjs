/// What a browser has of a running console: `node e2e/bench.mjs LINK PROMETHEUS` prints figures as JSON.
///
/// LINK is what `madang console` prints, PROMETHEUS the address of its API that takes remote write. Measured in Debian's Chromium: the bytes
/// of the overview's first load, as they come over the network, and the time from a dashboard's address to its last panel drawn. The
/// dashboard has 30 panels of 20 series of 1,000 points each, which are written before; the page is high enough to show all panels.
import { open } from "./browser.mjs";

const [, , link, prometheus] = process.argv;
if (!link || !prometheus) throw new Error("usage: node e2e/bench.mjs LINK PROMETHEUS");
const PANELS = 30, SERIES = 20, POINTS = 1000, LOADS = 9;
const base = new URL(link).origin;
/// Series of one run: a server may have those of an earlier one.
const expression = (panel) => `console_bench_${panel}{run="${begin}"}`;
const end = Math.floor(Date.now() / 1000) - 5, begin = end - POINTS + 1;

/// Bytes of Protocol Buffers: a field with its length before it, and a number of seven bits a byte.
const varint = (value) => { const out = []; let rest = BigInt(value); while (rest > 127n) { out.push(Number(rest & 127n) | 128); rest >>= 7n; } out.push(Number(rest)); return Buffer.from(out); };
const field = (number, bytes) => Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
const sample = (value, time) => { const number = Buffer.alloc(9); number[0] = 0x09; number.writeDoubleLE(value, 1); return Buffer.concat([number, Buffer.from([0x10]), varint(time)]); };
/// Snappy's block format, with everything as it is: https://github.com/google/snappy/blob/main/format_description.txt
const snappy = (bytes) => {
  const out = [varint(bytes.length)];
  for (let at = 0; at < bytes.length; at += 65536) { const part = bytes.subarray(at, at + 65536); out.push(Buffer.from([61 << 2, (part.length - 1) & 255, (part.length - 1) >> 8]), part); }
  return Buffer.concat(out);
};
/// https://prometheus.io/docs/specs/prw/remote_write_spec/
async function write(panel) {
  const all = [];
  for (let one = 0; one < SERIES; one += 1) {
    const labels = [["__name__", `console_bench_${panel}`], ["instance", `instance-${String(one).padStart(2, "0")}`], ["job", "bench"], ["run", String(begin)]];
    const parts = labels.map(([name, value]) => field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, Buffer.from(value))])));
    for (let at = begin; at <= end; at += 1) parts.push(field(2, sample(50 + 40 * Math.sin((at - begin) / (40 + panel) + one) + ((at * 7919 + one * 104729) % 97) / 10, at * 1000)));
    all.push(field(1, Buffer.concat(parts)));
  }
  const answer = await fetch(`${prometheus}/api/v1/write`, { method: "POST", headers: { "content-type": "application/x-protobuf", "content-encoding": "snappy", "x-prometheus-remote-write-version": "0.1.0" }, body: snappy(Buffer.concat(all)) });
  if (!answer.ok) throw new Error(`remote write: ${answer.status} ${await answer.text()}`);
}
/// Samples of a panel's series that can be asked for.
async function kept(panel) {
  const answer = await (await fetch(`${prometheus}/api/v1/query?time=${end}&query=${encodeURIComponent(`sum(count_over_time(${expression(panel)}[${POINTS}s]))`)}`)).json();
  return Number(answer.data?.result?.[0]?.value?.[1] ?? 0);
}
for (let panel = 0; panel < PANELS; panel += 1) {
  await write(panel);
  const found = await kept(panel);
  if (found !== SERIES * POINTS) throw new Error(`${found} samples of panel ${panel} are kept of ${SERIES * POINTS}`);
}

const { browser, context, page, wrong } = await open(base, { size: [1440, 3400] });
await page.goto(link);
await page.locator(".rail").waitFor({ timeout: 30_000 });

/// Bytes that come over the network until the overview has drawn, without what it asks servers.
async function firstLoad() {
  const fresh = await context.newPage();
  const session = await context.newCDPSession(fresh);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  const names = new Map(), files = {};
  session.on("Network.responseReceived", ({ requestId, response }) => { const path = new URL(response.url).pathname; if (!/^\/(k8s|prometheus|alertmanager|session|api|pipelines)(\/|$)/.test(path)) names.set(requestId, path); });
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => { if (names.has(requestId)) files[names.get(requestId)] = encodedDataLength; });
  await fresh.goto(base);
  await fresh.locator(".u-over").first().waitFor({ timeout: 30_000 });
  await fresh.close();
  return files;
}
const files = await firstLoad();

const dashboard = { uid: "console-bench", title: "Bench", schemaVersion: 41, panels: Array.from({ length: PANELS }, (_, at) => ({
  id: at + 1, type: "timeseries", title: `Panel ${at + 1}`, gridPos: { x: (at % 3) * 8, y: Math.floor(at / 3) * 8, w: 8, h: 8 }, interval: "1s", maxDataPoints: POINTS,
  targets: [{ refId: "A", expr: expression(at), legendFormat: "{{instance}}" }], options: { legend: { displayMode: "list", placement: "bottom" } },
})) };
const put = await page.evaluate(async (body) => (await fetch("/api/dashboards/db", { method: "POST", headers: { "content-type": "application/json" }, body })).status, JSON.stringify({ dashboard, overwrite: true }));
if (put !== 200) throw new Error(`the dashboard is not kept: ${put}`);
await page.addInitScript((panels) => {
  // The last panel is drawn in the frame in which its plot stands; what follows that frame is the end.
  const look = () => (document.querySelectorAll("[data-panel=timeseries][data-state=done] .u-over").length === panels ? requestAnimationFrame(() => setTimeout(() => { globalThis.drawn = performance.now(); })) : requestAnimationFrame(look));
  requestAnimationFrame(look);
}, PANELS);
const times = [];
for (let load = 0; load < LOADS; load += 1) {
  await page.goto(`/d/console-bench?from=${begin * 1000}&to=${end * 1000}&refresh=off`);
  await page.waitForFunction(() => globalThis.drawn !== undefined, undefined, { timeout: 60_000, polling: 50 });
  const [time, points] = await page.evaluate(() => [globalThis.drawn, document.querySelectorAll(".legend button").length]);
  if (points !== PANELS * SERIES) throw new Error(`${points} series are drawn of ${PANELS * SERIES}`);
  // The first load fills the browser's cache.
  if (load > 0) times.push(time);
}
await page.evaluate(async () => { await fetch("/api/dashboards/uid/console-bench", { method: "DELETE" }); });
await browser.close();
if (wrong.length) throw new Error(wrong.join("\n"));
console.log(JSON.stringify({ first_load: { bytes: Object.values(files).reduce((sum, one) => sum + one, 0), files }, dashboard: { milliseconds: times } }));
