/// A browser for the tests: Debian's Chromium, driven by playwright-core, with axe-core in every page.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const SIZES = [[1440, 900], [1024, 768], [390, 844]];

/// A browser whose pages note every error that they write, and every request to another host.
export async function open(url, { size = SIZES[0], theme = "light", language = "en" } = {}) {
  const browser = await chromium.launch({ executablePath: process.env.MADANG_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
  const context = await browser.newContext({ viewport: { width: size[0], height: size[1] }, colorScheme: theme, locale: language === "ko" ? "ko-KR" : "en-US", reducedMotion: "no-preference", baseURL: url });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(`console: ${message.text()} (${message.location().url})`));
  page.on("pageerror", (error) => wrong.push(`page: ${error.message}`));
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (!["data:", "blob:"].includes(to.protocol) && to.host !== new URL(url).host) wrong.push(`foreign request: ${request.url()}`);
  });
  return { browser, context, page, wrong };
}

/// What axe finds against WCAG 2.2 A and AA, in words. Its text is run by the debugger, which the page's policy does not hold.
export async function violations(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
  // Rules of the newest level are left out unless they are asked for by their level.
  const ran = [found.passes, found.violations, found.incomplete, found.inapplicable].some((all) => all.some((one) => one.id === "target-size"));
  if (!ran) throw new Error("axe did not look at the size of targets");
  return found.violations.flatMap((one) => one.nodes.slice(0, 4).map((node) => `${one.id}: ${node.target.join(" ")}: ${(node.any[0] ?? node.all[0] ?? node.none[0])?.message ?? one.help}`));
}
