/// Where the person is: the address is the only place where that is kept, so every view is a link.
import { createMemo, createSignal } from "solid-js";

const [location, setLocation] = createSignal(new URL(window.location.href));
export const path = createMemo(() => location().pathname);
export const parts = createMemo(() => path().split("/").filter(Boolean).map(decodeURIComponent));
export const query = (name: string): string => location().searchParams.get(name) ?? "";
export const params = createMemo(() => location().searchParams);
export const hash = () => location().hash.slice(1);

window.addEventListener("popstate", () => setLocation(new URL(window.location.href)));

/// Namespace and time range go along from page to page.
const CARRIED = ["ns", "from", "to"];

export function href(to: string): string {
  const url = new URL(to, window.location.origin);
  for (const name of CARRIED) {
    const value = location().searchParams.get(name);
    if (value !== null && !url.searchParams.has(name)) url.searchParams.set(name, value);
  }
  return url.pathname + url.search + url.hash;
}

export function go(to: string, replace = false): void {
  const target = href(to);
  history[replace ? "replaceState" : "pushState"](null, "", target);
  setLocation(new URL(window.location.href));
  if (!replace) document.querySelector(".main")?.scrollTo(0, 0);
}

/// Changes parts of the query and nothing else; empty values are left out.
export function setQuery(values: Record<string, string | string[] | undefined>, replace = true): void {
  const url = new URL(window.location.href);
  for (const [name, value] of Object.entries(values)) {
    url.searchParams.delete(name);
    if (Array.isArray(value)) value.forEach((one) => url.searchParams.append(name, one));
    else if (value) url.searchParams.set(name, value);
  }
  history[replace ? "replaceState" : "pushState"](null, "", url);
  setLocation(url);
}

/// Links of the console are followed without loading the page anew.
document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest?.("a");
  if (!link || link.target || link.hasAttribute("download") || link.origin !== window.location.origin) return;
  if (link.getAttribute("href")?.startsWith("#")) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  setLocation(new URL(link.href));
  document.querySelector(".main")?.scrollTo(0, 0);
});
