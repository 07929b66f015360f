/// The focus stays where it was. What is shown is made anew when its object changes, and a browser then gives the focus to nobody: somebody
/// who walks by keys would begin at the top with every change.

interface Focused { element: HTMLElement; name: string; place: number }

/// What tells an element from others of its kind.
const nameOf = (element: HTMLElement) => [element.tagName, element.getAttribute("href"), element.getAttribute("aria-label"), element.getAttribute("title"), element.textContent?.slice(0, 200)].join("\n");

/// Keeps the focus within `root`: what takes the place of an element that had it gets it. Returns two functions: one forgets what had the focus,
/// when another page is shown, and one ends it all.
export function keepFocus(root: HTMLElement): [forget: () => void, end: () => void] {
  let last: Focused | undefined;
  const alike = (tag: string, name: string) => [...root.querySelectorAll<HTMLElement>(tag)].filter((one) => nameOf(one) === name);
  const nobody = () => document.activeElement === null || document.activeElement === document.body;
  const gained = (event: FocusEvent) => {
    const element = event.target as HTMLElement, name = nameOf(element);
    last = { element, name, place: alike(element.tagName, name).indexOf(element) };
  };
  // Whoever left it for nothing wants nothing to have it.
  const lost = (event: FocusEvent) => { const from = event.target as HTMLElement; queueMicrotask(() => { if (from.isConnected && nobody()) last = undefined; }); };
  const observer = new MutationObserver(() => {
    if (!last || last.element.isConnected || !nobody()) return;
    const found = alike(last.element.tagName, last.name);
    (found[last.place] ?? found[0])?.focus({ preventScroll: true });
  });
  root.addEventListener("focusin", gained);
  root.addEventListener("focusout", lost);
  observer.observe(root, { childList: true, subtree: true });
  return [() => { last = undefined; }, () => { observer.disconnect(); root.removeEventListener("focusin", gained); root.removeEventListener("focusout", lost); }];
}
