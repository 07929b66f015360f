/// The pages of pipelines, as part of the walk in `pages.mjs`.
///
/// In the namespace `walk`, the pipeline `shop` builds the repository `shop`, whose first push has started its first run. Its Jenkinsfile greets
/// WHO, prints `compiled N` for some seconds, keeps `out/greeting.txt` and a report of three tests of which `rounds` fails, and asks for a
/// NOTE before it deploys where ASK is set.
import { readFileSync } from "node:fs";

export async function pipelines({ page, step }) {
  const state = (word) => page.locator(".page > header .state", { hasText: word }).first().waitFor({ timeout: 90_000 });
  const stage = (name, kind) => page.locator(`button.stage[data-kind=${kind}]`, { hasText: name }).waitFor({ timeout: 60_000 });
  /// Lines are drawn where they are seen; the filter brings those that are wanted there.
  const filtered = async (text, work) => {
    const filter = page.getByRole("searchbox", { name: "Filter lines" });
    await filter.fill(text);
    await work(page.locator(".logs pre", { hasText: text }));
    await filter.fill("");
  };
  const line = (text) => filtered(text, (lines) => lines.first().waitFor({ timeout: 60_000 }));
  const dialog = () => page.getByRole("dialog");
  const confirm = (name) => dialog().getByRole("button", { name, exact: true }).click();
  /// Goes to a run that begins when `work` is done; its address.
  const begun = async (work) => {
    const before = page.url();
    await work();
    await page.waitForURL((url) => url.pathname.startsWith("/run/walk/") && url.href !== before, { timeout: 20_000 });
    return new URL(page.url()).pathname;
  };
  const saved = async (work) => {
    const [file] = await Promise.all([page.waitForEvent("download"), work()]);
    return readFileSync(await file.path(), "utf8");
  };
  const must = (holds, words) => { if (!holds) throw new Error(words); };
  const found = { first: "", number: 0, asked: "", waits: "" };
  const number = (after) => `#${found.number + after}`;

  await step("a push has started a run, and the list tells how it went", async () => {
    await page.goto("/pipelines?ns=walk");
    const row = page.locator("tbody tr", { hasText: "shop" });
    await row.locator(".state", { hasText: "Unstable" }).waitFor({ timeout: 120_000 });
    found.number = Number(/^#(\d+) Unstable$/.exec(await row.getByRole("img", { name: /^#\d+ Unstable$/ }).getAttribute("aria-label"))[1]);
    await row.getByText("main", { exact: true }).waitFor();
    found.first = await row.locator("a", { hasText: "Unstable" }).getAttribute("href");
    // Keys alone lead to it.
    await page.keyboard.press("/");
    await page.keyboard.type("shop");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/pipeline\/walk\/shop/);
    await page.locator("tbody tr", { hasText: number(0) }).getByText("1 of 3 failed").waitFor();
    await page.getByText("pushes", { exact: true }).waitFor();
    must(/^[0-9a-f]{8}$/.test(await page.locator("tbody tr", { hasText: number(0) }).locator(".mono").innerText()), "the run does not name its commit");
  });
  await step("repositories tell where to clone from and what builds them", async () => {
    await page.goto("/pipelines/repositories?ns=walk");
    const row = page.locator("tbody tr", { hasText: "shop" });
    await row.getByText(/\/git\/walk\/shop\.git$/).waitFor();
    await row.getByText(/main [0-9a-f]{8}/).waitFor();
    await row.getByRole("link", { name: "shop" }).click();
    await page.waitForURL(/\/pipeline\/walk\/shop/);
  });
  await step("a run is started with parameters, and its log comes while it is written", async () => {
    await page.goto("/pipelines?ns=walk");
    found.asked = await begun(async () => {
      await page.getByRole("button", { name: "Start a run: shop" }).click();
      await dialog().getByLabel("WHO").fill("kim");
      await dialog().getByLabel("TARGET").selectOption("live");
      await dialog().getByLabel("ASK").check();
      await dialog().locator("pre", { hasText: '"value": "kim"' }).waitFor();
      await confirm("Start a run");
    });
    await stage("Build", "new");
    await line("hello kim");
    const lines = () => page.locator("[role=status]", { hasText: /^\d+ lines?/ }).innerText();
    const before = await lines();
    await page.waitForFunction((text) => [...document.querySelectorAll("[role=status]")].some((one) => /^\d+ line/.test(one.textContent) && one.textContent !== text), before, { timeout: 20_000 });
    await stage("Build", "good");
  });
  await step("stages stand side by side, and each has its steps and its part of the log", async () => {
    const lanes = page.locator(".lanes");
    await lanes.locator("button.stage", { hasText: "Unit" }).waitFor();
    must(await lanes.locator("button.stage").count() === 2, "Unit and Lint do not stand side by side");
    const [unit, lint] = await Promise.all(["Unit", "Lint"].map((name) => lanes.locator("button.stage", { hasText: name }).boundingBox()));
    must(unit.x === lint.x && unit.y !== lint.y, "Unit and Lint are not below each other");
    await page.locator("button.stage", { hasText: "Build" }).click();
    await line("compiled 1");
    await filtered("lint", async (lines) => { await page.waitForTimeout(500); must(!(await lines.count()), "the log of Build has lines of Lint"); });
    await page.locator(".steps button", { hasText: "sh" }).first().click();
    must(/stage=.*&step=/.test(page.url()), "the step is not in the address");
    await line("hello kim");
    await page.getByRole("button", { name: "Whole log" }).click();
    await line("lint 1");
  });
  await step("a run asks, is answered, and goes on", async () => {
    await state("Waits for an answer");
    await stage("Deploy", "warn");
    const asks = page.getByRole("group", { name: "The run asks" });
    await asks.getByRole("heading", { name: "Deploy it?" }).waitFor();
    await asks.getByLabel("NOTE").fill("well tested");
    await asks.getByRole("button", { name: "Deploy", exact: true }).click();
    await state("Unstable");
    await stage("Deploy", "good");
    await line("deployed to live: well tested");
    must(!(await asks.count()), "the question stays when it is answered");
  });
  await step("the whole log can be kept as a file", async () => {
    const text = await saved(() => page.getByRole("button", { name: "Download" }).click());
    for (const expected of ["hello kim", "compiled 1", "lint 1", "deployed to live: well tested"]) must(text.includes(expected), `the file has no ${expected}`);
  });
  await step("tests are shown, what failed first, with why", async () => {
    await page.getByRole("link", { name: "Tests" }).click();
    await page.getByText("3 tests, 1 failed, 1 skipped").waitFor();
    const rows = page.locator("tbody tr");
    const first = await rows.first().innerText();
    must(first.includes("Failed") && first.includes("rounds") && first.includes("expected 2 but was 3"), `the first row is ${first}`);
    await page.getByText("Details").first().click();
    await page.locator("pre", { hasText: "shop.py:7" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("searchbox").fill("adds");
    await rows.first().getByText("Passed").waitFor();
    must(await rows.count() === 1, "the filter shows other tests");
  });
  await step("artifacts are listed and loaded", async () => {
    await page.goto(`${found.asked}/artifacts`);
    const link = page.getByRole("link", { name: "out/greeting.txt" });
    const text = await saved(() => link.click());
    must(text === "hello kim\n", `the artifact is ${JSON.stringify(text)}`);
  });
  await step("a run's events and YAML are shown", async () => {
    await page.goto(`${found.asked}/yaml`);
    await page.locator(".cm-content", { hasText: "kind: PipelineRun" }).waitFor({ timeout: 20_000 });
    await page.goto(`${found.asked}/events`);
    await page.locator("main .card, main .table").first().waitFor();
  });
  await step("a run goes again with what it was given", async () => {
    await page.goto(found.asked);
    await page.getByRole("button", { name: "Run again" }).waitFor();
    found.waits = await begun(async () => {
      await page.getByRole("button", { name: "Run again" }).click();
      await dialog().locator("pre", { hasText: '"value": "kim"' }).waitFor();
      await confirm("Run again");
    });
    await page.getByText(`Again, after ${number(1)}`).waitFor();
    await line("hello kim");
    await state("Waits for an answer");
  });
  await step("a run is aborted while it runs, and deleted by its name", async () => {
    await page.goto("/pipeline/walk/shop");
    const path = await begun(async () => {
      await page.getByRole("button", { name: "Start a run", exact: true }).click();
      await confirm("Start a run");
    });
    await line("compiled 1");
    await page.getByRole("button", { name: "Abort", exact: true }).click();
    await dialog().getByText("--type=merge").waitFor();
    await confirm("Abort");
    await state("Aborted");
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    const go = dialog().getByRole("button", { name: "Delete", exact: true });
    must(await go.isDisabled(), "it can be deleted without its name");
    await dialog().getByRole("textbox").fill(path.split("/").pop());
    await go.click();
    await page.waitForURL(/\/pipeline\/walk\/shop/);
    await page.locator("tbody tr", { hasText: number(2) }).waitFor();
    await page.waitForFunction((gone) => ![...document.querySelectorAll("tbody tr")].some((row) => row.textContent.includes(gone)), number(3), { timeout: 20_000 });
  });
  await step("a pipeline is suspended, and goes on", async () => {
    await page.goto("/pipeline/walk/shop");
    await page.getByRole("button", { name: "Suspend" }).click();
    await confirm("Suspend");
    await state("Suspended");
    await page.getByRole("button", { name: "Resume" }).click();
    await confirm("Resume");
    await page.getByRole("button", { name: "Suspend" }).waitFor();
  });
  return {
    pipelines: "/pipelines", repositories: "/pipelines/repositories", pipeline: "/pipeline/walk/shop", run: found.asked, stage: `${found.first}`,
    tests: `${found.asked}/tests`, artifacts: `${found.asked}/artifacts`, asks: found.waits,
  };
}
