/// What keys alone reach of a page: everything that can be acted on, in turn, where one sees it.
///
/// WCAG 2.2: 2.1.1 keyboard, 2.1.2 no trap, 2.4.7 focus visible, 2.4.11 focus not obscured. https://www.w3.org/TR/WCAG22/
/// Target size (2.5.8) is a rule of axe, see `browser.mjs`.

/// Presses of Tab on one page; a page that needs more is one that nobody walks through.
const PRESSES = 500;

/// What is wrong with a page for somebody who has no mouse, in words.
export async function unreachable(page) {
  const wrong = new Set();
  // What is shown once it is seen has come before the walk.
  await page.evaluate(async () => {
    const main = document.querySelector(".main");
    // In the frame after the next one the page knows what is seen.
    for (let y = 0; y < main.scrollHeight; y += 400) { main.scrollTop = y; await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30)))); }
    main.scrollTop = 0;
  });
  await page.waitForFunction(() => !document.querySelector("[data-state=waiting]"), undefined, { timeout: 30_000 }).catch(() => undefined);
  await page.evaluate(() => {
    globalThis.walked = new WeakSet();
    // Rows of lists are made anew when their objects change.
    globalThis.called = new Set();
    const body = document.body;
    body.tabIndex = -1;
    body.focus();
    body.removeAttribute("tabindex");
  });
  let first, presses = 0, ended = false;
  for (; presses < PRESSES; presses += 1) {
    await page.keyboard.press("Tab");
    const now = await page.evaluate(look);
    if (now === null) { ended = true; break; }
    if (first === undefined) first = now.name;
    if (now.again) { ended = true; break; }
    if (now.wrong) wrong.add(`${now.name}: ${now.wrong}`);
  }
  if (!ended) wrong.add(`${PRESSES} presses of Tab did not come around`);
  for (const one of await page.evaluate(rest)) wrong.add(`${one}: not reached by Tab`);
  return [...wrong].map((one) => `keys: ${one}`);
}

/// In the page: the element that has the focus, and what is wrong with how it shows.
function look() {
  const element = document.activeElement;
  if (!element || element === document.body || element === document.documentElement) return null;
  const name = [element.tagName.toLowerCase(), element.getAttribute("class")?.split(" ").slice(0, 2).join("."), (element.getAttribute("aria-label") ?? element.textContent ?? "").trim().slice(0, 30)].filter(Boolean).join(" ");
  if (globalThis.walked.has(element)) return { name, again: true };
  globalThis.walked.add(element);
  globalThis.called.add([element.tagName.toLowerCase(), (element.getAttribute("aria-label") ?? element.textContent ?? "").trim().slice(0, 30)].join(" "));
  // A line around it, or around what it fills.
  let around = element, seen = false;
  for (let up = 0; up < 5 && around; up += 1, around = around.parentElement) {
    const style = getComputedStyle(around);
    if (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 && !/, 0\)$|transparent/.test(style.outlineColor)) { seen = true; break; }
  }
  if (!seen) return { name, wrong: "one does not see that it has the focus" };
  // A part of it lies above everything else, within what is seen. What is drawn for readers of screens alone shows by its frame.
  const box = (around ?? element).getBoundingClientRect();
  const left = Math.max(0, box.left), right = Math.min(innerWidth, box.right), top = Math.max(0, box.top), bottom = Math.min(innerHeight, box.bottom);
  if (right - left < 1 || bottom - top < 1) return { name, wrong: `it has the focus outside of what is seen, at ${Math.round(box.left)}, ${Math.round(box.top)}` };
  const points = [[0.5, 0.5], [0.1, 0.5], [0.9, 0.5], [0.5, 0.1], [0.5, 0.9]].map(([x, y]) => document.elementFromPoint(left + (right - left) * x, top + (bottom - top) * y));
  const own = around ?? element;
  if (!points.some((at) => at && (own.contains(at) || at.contains(own)))) return { name, wrong: "something lies over it" };
  return { name };
}

/// In the page: what can be acted on and had no focus.
function rest() {
  const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"], [contenteditable="true"]')];
  return all.filter((element) => {
    if (globalThis.walked.has(element) || element.matches(":disabled, [tabindex='-1'], [inert] *") || element.closest("[aria-hidden=true]")) return false;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    // Of radio buttons one is reached, others by arrows; what is in closed details is not there.
    return style.visibility === "visible" && style.display !== "none" && box.width > 0 && box.height > 0 && element.checkVisibility() && !(element.type === "radio" && !element.checked);
  }).map((element) => [element.tagName.toLowerCase(), (element.getAttribute("aria-label") ?? element.textContent ?? "").trim().slice(0, 30)].join(" ")).filter((name) => !globalThis.called.has(name)).slice(0, 8);
}
