/// The pictures of README, of a running demo: `node e2e/pictures.mjs LINK DIRECTORY [NAME...]`.
///
/// LINK is what `cargo xtask demo` prints when it has shown all its steps. Each picture is 1440 pixels wide with 256 colours, which is a
/// third of what a browser writes and looks the same.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateSync, inflateSync } from "node:zlib";
import { open } from "./browser.mjs";

const [, , link, directory, ...wanted] = process.argv;
if (!link || !directory) throw new Error("usage: node e2e/pictures.mjs LINK DIRECTORY [NAME...]");
mkdirSync(directory, { recursive: true });
const { browser, page } = await open(new URL(link).origin);
await page.goto(link);
await page.locator(".rail").waitFor({ timeout: 30_000 });
const list = (path) => page.evaluate(async (path) => (await (await fetch(`/k8s${path}`)).json()).items, path);
const runs = (await list("/apis/madang.dev/v1alpha1/namespaces/shop/pipelineruns")).sort((a, b) => (a.status?.number ?? 0) - (b.status?.number ?? 0));
const first = runs[0], tests = first?.status?.stages?.find((stage) => stage.name === "test orders")?.id ?? "all";
const releases = (await list("/apis/madang.dev/v1alpha1/namespaces/shop/releases")).sort((a, b) => Number(b.status?.phase === "RolledBack") - Number(a.status?.phase === "RolledBack"));
const pod = (await list("/api/v1/namespaces/shop/pods?labelSelector=app%3Dstorefront")).find((one) => one.status.phase === "Running")?.metadata.name;
const pictures = {
  yard: ["/?traffic=on&from=now-15m&to=now", "light", "en"],
  run: [`/run/shop/${first?.metadata.name}?stage=${tests}`, "light", "en"],
  release: [`/releases/shop/${releases[0]?.metadata.name}?from=now-15m&to=now`, "light", "en"],
  gateway: ["/d/madang-gateway?var-namespace=shop&from=now-15m&to=now", "dark", "en"],
  workload: ["/workloads/deployments/shop/orders?from=now-15m&to=now", "light", "en"],
  alerts: ["/alerts/rules", "light", "en"],
  terminal: [`/workloads/pods/shop/${pod}/terminal`, "dark", "en"],
  pods: ["/workloads/pods?ns=shop", "light", "ko"],
};
for (const [name, [path, theme, language]] of Object.entries(pictures)) {
  if (wanted.length && !wanted.includes(name)) continue;
  await page.emulateMedia({ colorScheme: theme });
  await page.evaluate((to) => localStorage.setItem("language", to), language);
  await page.goto(path);
  await page.waitForTimeout(4000);
  if (name === "terminal") { await page.locator(".xterm").click(); await page.keyboard.type("ps; ls -l /\n"); await page.waitForTimeout(1500); }
  const small = palette(await page.screenshot());
  writeFileSync(join(directory, `${name}.png`), small);
  console.log(`${name}.png: ${small.length} bytes`);
}
await browser.close();

/// The same picture with the 256 colours that are in most of it; others become the nearest of them. https://www.w3.org/TR/png-3/
function palette(png) {
  const wide = png.readUInt32BE(16), high = png.readUInt32BE(20), each = png[25] === 6 ? 4 : 3;
  if (png[24] !== 8 || ![2, 6].includes(png[25]) || png[28]) throw new Error("a PNG of another form");
  const parts = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) if (png.toString("latin1", at + 4, at + 8) === "IDAT") parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  const raw = inflateSync(Buffer.concat(parts)), line = wide * each, bytes = Buffer.alloc(line * high);
  for (let y = 0; y < high; y += 1) {
    const filter = raw[y * (line + 1)];
    for (let x = 0; x < line; x += 1) {
      const left = x >= each ? bytes[y * line + x - each] : 0, up = y ? bytes[(y - 1) * line + x] : 0, corner = x >= each && y ? bytes[(y - 1) * line + x - each] : 0;
      const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
      bytes[y * line + x] = raw[y * (line + 1) + 1 + x] + [0, left, up, (left + up) >> 1, a <= b && a <= c ? left : b <= c ? up : corner][filter];
    }
  }
  const counts = new Map();
  for (let at = 0; at < bytes.length; at += each) { const colour = (bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2]; counts.set(colour, (counts.get(colour) ?? 0) + 1); }
  const colours = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([colour]) => colour), places = new Map(colours.map((colour, at) => [colour, at]));
  const far = (a, b) => ((a >> 16) - (b >> 16)) ** 2 + (((a >> 8) & 255) - ((b >> 8) & 255)) ** 2 + ((a & 255) - (b & 255)) ** 2;
  for (const colour of counts.keys()) if (!places.has(colour)) { let best = 0; for (let at = 1; at < colours.length; at += 1) if (far(colour, colours[at]) < far(colour, colours[best])) best = at; places.set(colour, best); }
  const out = Buffer.alloc((wide + 1) * high);
  for (let y = 0; y < high; y += 1) for (let x = 0; x < wide; x += 1) { const at = y * line + x * each; out[y * (wide + 1) + 1 + x] = places.get((bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2]); }
  const chunk = (kind, data) => { const body = Buffer.concat([Buffer.from(kind, "latin1"), data]), end = Buffer.alloc(8); end.writeUInt32BE(data.length, 0); end.writeUInt32BE(checksum(body), 4); return Buffer.concat([end.subarray(0, 4), body, end.subarray(4)]); };
  const head = Buffer.from(png.subarray(16, 29));
  head[8] = 8;
  head[9] = 3;
  return Buffer.concat([png.subarray(0, 8), chunk("IHDR", head), chunk("PLTE", Buffer.from(colours.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]))), chunk("IDAT", deflateSync(out, { level: 9 })), chunk("IEND", Buffer.alloc(0))]);
}
function checksum(bytes) {
  let sum = ~0;
  for (const byte of bytes) { sum ^= byte; for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1; }
  return ~sum >>> 0;
}
