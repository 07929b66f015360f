/// A person's walk through every page of a running console: `node e2e/pages.mjs LINK DIRECTORY`.
///
/// LINK is what `madang console` prints. In the cluster, the namespace `walk` has a Deployment `web` that logs and a pod
/// `broken` that fails; a pipeline `shop` as `pipelines.mjs` says; the routes `shop` and `back` of the gateway at MADANG_GATEWAY each have a release, `shop-v2` and `back-v2`, that waits
/// for approval at 20% once requests were counted. Each page must show what its row in docs/console.md says, without an error, a violation or a request to
/// another host, and keys alone must reach all of it; screenshots of all sizes, looks and languages go to DIRECTORY.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { open, SIZES, violations } from "./browser.mjs";
import { unreachable } from "./keyboard.mjs";
import { pipelines } from "./pipelines.mjs";

const [, , link, directory] = process.argv;
if (!link || !directory) throw new Error("usage: node e2e/pages.mjs LINK DIRECTORY");
mkdirSync(directory, { recursive: true });
const base = new URL(link).origin;
const failures = [];
let passed = 0;

const { browser, context, page, wrong } = await open(base);
/// Somebody asks for pages all the time.
const gateway = process.env.MADANG_GATEWAY;
if (!gateway) throw new Error("MADANG_GATEWAY is not set: where does the gateway listen?");
const asking = setInterval(() => { for (const path of ["/", "/back"]) fetch(gateway + path).then((answer) => answer.text()).catch(() => undefined); }, 100);
const seen = (text, options) => page.getByText(text, options).first().waitFor({ timeout: 20_000 });

/// One step of the walk: what it does must hold, and the page must be whole after it.
async function step(name, work) {
  wrong.length = 0;
  try {
    await work();
    const found = [...wrong, ...(await violations(page)).map((one) => `axe: ${one}`)];
    if (found.length) throw new Error(found.join("\n  "));
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failures.push(name);
    console.log(`FAIL ${name}: ${error.message}`);
    await page.screenshot({ path: join(directory, `failed-${name.replace(/\W+/g, "-")}.png`) }).catch(() => undefined);
  }
}

await step("nobody is let in without a sign-in", async () => {
  await page.goto("/workloads");
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  const refused = await page.evaluate(async () => (await fetch("/api/search")).status);
  if (refused !== 401) throw new Error(`/api/search answered ${refused}`);
  // The browser notes the refusal that this step is about.
  wrong.splice(0, wrong.length, ...wrong.filter((one) => !one.includes("401")));
});
await step("the link signs in, once", async () => {
  await page.goto(link);
  await seen("Wrong now");
  if (page.url().includes(new URL(link).hash.slice(1))) throw new Error("the code stays in the address");
  const cookie = (await context.cookies()).find((one) => one.name.startsWith("madang_session"));
  if (!cookie?.httpOnly || cookie.sameSite !== "Strict") throw new Error("the cookie is not HttpOnly and SameSite=Strict");
  const again = await page.evaluate(async (code) => (await fetch("/session", { method: "POST", body: JSON.stringify({ code }) })).status, new URL(link).hash.slice(1));
  if (again !== 403) throw new Error(`the link worked twice: ${again}`);
  wrong.splice(0, wrong.length, ...wrong.filter((one) => !/40[13]/.test(one)));
});
await step("the yard shows pods, what is wrong, and walks by keys", async () => {
  await page.goto("/");
  await page.locator("aside").getByText("broken", { exact: true }).first().waitFor({ timeout: 60_000 });
  await page.locator("canvas[role=application]").focus();
  await page.keyboard.press("ArrowRight");
  await page.locator(".tip strong").waitFor();
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/workloads\/pods\//);
});
await step("pods are listed live, and filtered", async () => {
  await page.goto("/workloads/pods?ns=walk");
  await seen("Running");
  await page.keyboard.press("/");
  await page.keyboard.type("state:bad");
  await page.locator("tbody a", { hasText: "broken" }).waitFor();
  if (await page.locator("tbody a", { hasText: "web-" }).count()) throw new Error("the filter shows what does not fit");
});
/// A pod of the Deployment that runs: which ones there are changes when it is scaled.
const running = async () => {
  await page.goto("/workloads/pods?ns=walk&q=web-");
  return page.locator("tbody tr", { hasText: "Running" }).locator("a", { hasText: /^web-/ }).first().innerText({ timeout: 30_000 }).catch(() => "none");
};
let pod = await running();
await step("a pod tells its state and facts", async () => {
  await page.goto(`/workloads/pods/walk/${pod}`);
  await seen("Service account");
  await seen("Running");
});
await step("logs come while they are written", async () => {
  await page.goto(`/workloads/pods/walk/${pod}/logs`);
  await seen(/line \d+/);
  const count = () => page.locator("[role=status]", { hasText: "line" }).innerText();
  const before = await count();
  await page.waitForFunction((text) => [...document.querySelectorAll("[role=status]")].some((one) => one.textContent.includes("line") && one.textContent !== text), before, { timeout: 20_000 });
});
await step("a terminal runs what is typed", async () => {
  await page.goto(`/workloads/pods/walk/${pod}/terminal`);
  await page.locator(".xterm-helper-textarea").waitFor({ state: "attached" });
  await page.locator(".xterm-rows", { hasText: /[#$]/ }).waitFor({ timeout: 20_000 });
  await page.locator(".xterm").click();
  await page.keyboard.type("echo $((6*7))-here\n");
  await page.locator(".xterm-rows", { hasText: "42-here" }).waitFor({ timeout: 20_000 });
});
await step("events tell what happened", async () => {
  await page.goto("/workloads/pods/walk/broken/events");
  await seen("BackOff");
});
await step("YAML is shown, changed and saved", async () => {
  await page.goto("/workloads/deployments/walk/web/yaml");
  await page.locator(".cm-content", { hasText: "apiVersion: apps/v1" }).waitFor();
  await page.locator(".cm-line", { hasText: /^ {2}replicas: 2/ }).first().click();
  await page.keyboard.press("End");
  await page.keyboard.press("Backspace");
  await page.keyboard.type("1");
  await page.getByRole("button", { name: "Save" }).click();
  await seen("Saved.");
});
await step("a deployment is scaled, and shows it by itself", async () => {
  await page.goto("/workloads/deployments/walk/web");
  await page.getByRole("button", { name: "Scale" }).click();
  await page.getByRole("spinbutton").fill("3");
  await seen("kubectl scale deployment -n walk web --replicas=3");
  await page.getByRole("dialog").getByRole("button", { name: "Scale" }).click();
  await page.locator("dd", { hasText: "3 / 3" }).waitFor({ timeout: 60_000 });
});
await step("deleting asks for the name", async () => {
  await page.goto("/workloads/pods/walk/broken");
  await page.getByRole("button", { name: "Delete" }).click();
  const go = page.getByRole("dialog").getByRole("button", { name: "Delete" });
  if (!(await go.isDisabled())) throw new Error("it can be deleted without its name");
  await page.getByRole("textbox").last().fill("broken");
  if (await go.isDisabled()) throw new Error("its name is not enough");
  await page.keyboard.press("Escape");
});
await step("images are listed with the pods that use them", async () => {
  await page.goto("/images");
  await seen("MiB");
  await seen(/\d+ pods?/);
});
const piped = await pipelines({ page, step });
await step("releases are listed with how far they are", async () => {
  await page.goto("/releases?ns=walk");
  const row = page.locator("tbody tr", { hasText: "back-v2" });
  await row.getByText("Waits for approval", { exact: true }).waitFor({ timeout: 90_000 });
  await row.getByText("20%", { exact: true }).waitFor();
  await page.getByRole("link", { name: "shop-v2", exact: true }).first().click();
  await page.waitForURL(/\/releases\/walk\/shop-v2/);
});
await step("a release tells its steps and why, and goes on when it is approved", async () => {
  await page.goto("/releases/walk/shop-v2");
  await seen("Waits for approval");
  await page.getByRole("img", { name: "80% of the traffic goes to shop, 20% to shop-v2" }).waitFor();
  await page.locator("[data-stop=now]", { hasText: "20%" }).waitFor();
  await page.locator("[data-metric=answers]").getByText("Well", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Approve step" }).click();
  await seen(`kubectl patch release -n walk shop-v2 --type=merge -p '{"spec":{"approvedStep":1}}'`);
  await page.getByRole("dialog").getByRole("button", { name: "Approve step" }).click();
  await seen("Released");
  await page.getByRole("img", { name: "0% of the traffic goes to shop, 100% to shop-v2" }).waitFor();
  await page.goto("/releases/walk/shop-v2/events");
  await seen("Succeeded");
});
await step("a release is paused, goes on, and is aborted by its name", async () => {
  await page.goto("/releases/walk/back-v2");
  const act = async (name, typed) => {
    await page.getByRole("button", { name, exact: true }).first().click();
    const go = page.getByRole("dialog").getByRole("button", { name, exact: true });
    if (typed) {
      if (!(await go.isDisabled())) throw new Error("it is aborted without its name");
      await page.getByRole("dialog").getByRole("textbox").fill(typed);
    }
    await go.click();
  };
  await act("Pause");
  await page.getByRole("button", { name: "Go on" }).waitFor();
  await page.locator("header .state", { hasText: "Paused" }).waitFor();
  await act("Go on");
  await page.locator("header .state", { hasText: "Waits for approval" }).waitFor();
  await act("Abort", "back-v2");
  await page.locator("header .state", { hasText: "Rolled back" }).waitFor();
  await page.locator("[data-stop=failed]").waitFor();
});
await step("the yard draws traffic through the gateway, and says it in words", async () => {
  await page.goto("/");
  await page.getByRole("button", { name: "Traffic" }).click();
  await page.locator("aside section", { hasText: "Through the gateway" }).locator("li", { hasText: "shop-v2" }).getByText(/\/s$/).waitFor({ timeout: 30_000 });
  if (!page.url().includes("traffic=on")) throw new Error("the address does not say that traffic is shown");
});
await step("changes are marked on the time axis of dashboards", async () => {
  await page.goto("/d/madang-gateway?var-namespace=walk&from=now-15m&to=now");
  await page.locator("[data-panel=stat][data-state=done]").first().waitFor({ timeout: 20_000 });
  await page.getByRole("img", { name: /Requests by route.*Changes:.*walk\/shop-v2: Released/ }).waitFor({ timeout: 20_000 });
  await page.locator("[data-panel=heatmap]").first().scrollIntoViewIfNeeded();
  await page.locator("[data-panel=heatmap][data-state=done] canvas").waitFor({ timeout: 20_000 });
  await page.getByRole("button", { name: "Changes" }).click();
  await page.getByRole("img", { name: /Requests by route/ }).waitFor();
  if (await page.getByRole("img", { name: /Changes:/ }).count()) throw new Error("marks stay when they are switched off");
});
await step("alerts are silenced, and the silence is ended", async () => {
  await page.goto("/alerts");
  await page.getByRole("button", { name: "New silence" }).click();
  await page.getByRole("dialog").locator("textarea").fill('alertname="Nobody"');
  await page.getByRole("dialog").getByRole("button", { name: "Silence" }).click();
  await page.goto("/alerts/silences");
  await seen('alertname="Nobody"');
  await page.getByRole("button", { name: "End now" }).click();
  await seen("Nothing is silenced.");
  await page.goto("/alerts/rules");
  await page.locator("table, .note").first().waitFor();
});
await step("explore completes, draws and lists", async () => {
  await page.goto("/explore?from=now-5m&to=now");
  await page.locator(".cm-content").click();
  await page.keyboard.type("kube_pod_sta");
  await page.locator(".cm-tooltip-autocomplete").waitFor({ timeout: 20_000 });
  await page.goto("/explore?expr=up&view=table");
  await page.locator("tbody tr").first().waitFor();
  await page.goto(`/explore?expr=${encodeURIComponent("sum(up) by (job)")}`);
  await page.locator(".u-over").waitFor({ timeout: 20_000 });
});
await step("dashboards are listed, kept, drawn and removed", async () => {
  await page.goto("/dashboards");
  await page.getByRole("link", { name: "Cluster", exact: true }).click();
  await page.locator("[data-panel=stat][data-state=done]").first().waitFor({ timeout: 20_000 });
  const hostile = '<img src=x onerror="document.title=`taken`"><script>document.title="taken"</script>';
  const board = { title: `Walk ${hostile}`, uid: "walk", panels: [
    { id: 1, type: "text", title: hostile, gridPos: { x: 0, y: 0, w: 12, h: 5 }, options: { mode: "html", content: `${hostile}<a href="javascript:document.title='taken'">link</a><p>kept</p>` } },
    { id: 2, type: "timeseries", title: "Series", gridPos: { x: 12, y: 0, w: 12, h: 8 }, targets: [{ expr: `label_replace(up, "x", "${hostile.replace(/"/g, '\\"')}", "", "")`, legendFormat: "{{x}}" }], links: [{ title: "l", url: "javascript:document.title='taken'" }] },
    { id: 3, type: "stat", title: "Up", gridPos: { x: 0, y: 5, w: 6, h: 4 }, targets: [{ expr: "sum(up)" }], fieldConfig: { defaults: { links: [{ title: "l", url: "javascript:document.title='taken'" }] } } }] };
  const kept = await page.evaluate(async (dashboard) => (await fetch("/api/dashboards/db", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ dashboard, overwrite: true }) })).status, board);
  if (kept !== 200) throw new Error(`not kept: ${kept}`);
  await page.goto("/d/walk");
  await seen("kept");
  await page.locator("[data-panel=stat][data-state=done]").waitFor({ timeout: 20_000 });
  await page.locator(".u-over").waitFor({ timeout: 20_000 });
  if ((await page.title()) === "taken" || (await page.locator("main img, main script, a[href^=javascript]").count())) throw new Error("a dashboard's script came through");
  const gone = await page.evaluate(async () => (await fetch("/api/dashboards/uid/walk", { method: "DELETE" })).status);
  if (gone !== 200) throw new Error(`not removed: ${gone}`);
});
await step("anything is found by name, and keys lead to pages", async () => {
  await page.goto("/");
  await seen("Wrong now");
  await page.keyboard.press("Control+k");
  await page.getByRole("dialog").getByRole("combobox").fill("walk/web");
  await page.getByRole("dialog").getByRole("option").first().waitFor();
  await page.keyboard.press("Enter");
  await page.waitForURL(/walk\/web/);
  await page.keyboard.press("g");
  await page.keyboard.press("i");
  await page.waitForURL(/images/);
});
pod = await running();
await step("a terminal is left by a key", async () => {
  await page.goto(`/workloads/pods/walk/${pod}/terminal`);
  await page.locator(".xterm-rows", { hasText: /[#$]/ }).waitFor({ timeout: 20_000 });
  await page.locator(".xterm").click();
  await page.keyboard.press("Tab");
  if (!(await page.evaluate(() => document.activeElement.matches(".xterm-helper-textarea")))) throw new Error("the shell does not get Tab");
  await seen("F6");
  await page.keyboard.press("F6");
  if (await page.evaluate(() => document.activeElement.closest(".shell") !== null)) throw new Error("the terminal keeps the focus");
});
await step("a row keeps the focus when its object changes", async () => {
  await page.goto("/workloads/deployments?ns=walk");
  const row = page.locator("a[data-row]", { hasText: /^web$/ });
  await row.focus();
  const before = await row.elementHandle();
  const changed = await page.evaluate(async () => (await fetch("/k8s/apis/apps/v1/namespaces/walk/deployments/web", { method: "PATCH", headers: { "content-type": "application/merge-patch+json" }, body: JSON.stringify({ metadata: { labels: { walked: String(Date.now()) } } }) })).status);
  if (changed !== 200) throw new Error(`not changed: ${changed}`);
  await page.waitForFunction((old) => !old.isConnected, before, { timeout: 20_000 });
  await page.waitForFunction(() => document.activeElement.matches("a[data-row]") && document.activeElement.textContent === "web", undefined, { timeout: 5_000 });
});
await step("the first key leads past the rail to the content", async () => {
  await page.goto("/images");
  await seen("MiB");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  if (!(await page.evaluate(() => document.activeElement.matches("main")))) throw new Error("the content has no focus");
});
await step("the overview's first load is 120 KB or less", async () => {
  const fresh = await context.newPage();
  const session = await context.newCDPSession(fresh);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0;
  const assets = new Set();
  session.on("Network.responseReceived", ({ requestId, response }) => { if (!/\/(k8s|prometheus|alertmanager|session|api)\b/.test(new URL(response.url).pathname)) assets.add(requestId); });
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => { if (assets.has(requestId)) bytes += encodedDataLength; });
  await fresh.goto(base);
  await fresh.locator(".u-over").first().waitFor({ timeout: 20_000 });
  await fresh.close();
  console.log(`     first load: ${bytes} bytes`);
  if (bytes === 0 || bytes > 120_000) throw new Error(`${bytes} bytes`);
});

/// Every page in every size, look and language: whole, and as a picture.
const pages = { yard: "/", pods: "/workloads/pods", deployment: "/workloads/deployments/walk/web", logs: `/workloads/pods/walk/${pod}/logs`, yaml: `/workloads/pods/walk/${pod}/yaml`, images: "/images", traffic: "/?traffic=on", ...piped, releases: "/releases", release: "/releases/walk/shop-v2", gateway: "/d/madang-gateway?from=now-15m&to=now", alerts: "/alerts", rules: "/alerts/rules", silences: "/alerts/silences", dashboards: "/dashboards", dashboard: "/d/madang-cluster", explore: "/explore?expr=up" };
/// Ends long before a page that is open all the time says so: what is asked first has come by then.
const settled = () => Promise.race([page.waitForLoadState("networkidle").catch(() => undefined), page.waitForTimeout(1500)]);
const LOOKS = [[SIZES[0], "light", "en"], [SIZES[0], "dark", "ko"], [SIZES[1], "light", "ko"], [SIZES[1], "dark", "en"], [SIZES[2], "light", "en"], [SIZES[2], "dark", "ko"]];
for (const [size, theme, language] of LOOKS) {
  await step(`every page at ${size.join("x")}, ${theme}, ${language}`, async () => {
    await page.setViewportSize({ width: size[0], height: size[1] });
    await page.emulateMedia({ colorScheme: theme });
    await page.evaluate((to) => localStorage.setItem("language", to), language);
    const found = [];
    for (const [name, path] of Object.entries(pages)) {
      await page.goto(path);
      await settled();
      await page.waitForTimeout(300);
      await page.screenshot({ path: join(directory, `${name}-${size[0]}-${theme}-${language}.png`) });
      for (const one of await violations(page)) found.push(`${name}: axe: ${one}`);
      const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      if (wide > room) found.push(`${name}: ${wide} pixels wide in ${room}`);
      // Keys lead to the same in either look; where things lie is another matter.
      if (theme === "light") for (const one of await unreachable(page)) found.push(`${name}: ${one}`);
    }
    if (found.length) throw new Error(found.join("\n  "));
  });
}
clearInterval(asking);
await browser.close();
console.log(`${passed} passed, ${failures.length} failed`);
process.exit(failures.length ? 1 : 0);
