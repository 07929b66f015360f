/// The frame around every page: the rail with sections, the bar with namespace, time, search and person.
import { createEffect, createMemo, createSignal, ErrorBoundary, For, lazy, on, onCleanup, onMount, Show, Suspense } from "solid-js";
import { Dynamic } from "solid-js/web";
import { setTheme, theme, type Theme } from "./colours";
import { keepFocus } from "./focus";
import { ahead } from "./kube/client";
import { watch } from "./kube/watch";
import type { Thing } from "./kube/types";
import { Popup, Dialog, Note } from "./parts/Small";
import { refresh, rangeText, setRange } from "./range";
import { go, href, path, parts, query, setQuery } from "./router";
import { has, likelySignedIn, person, signOut } from "./session";
import { language, LANGUAGES, setLanguage, t, tn, type Key } from "./words";
import { Yard } from "./pages/Yard";

const Workloads = lazy(() => import("./pages/Workloads"));
const Detail = lazy(() => import("./pages/Detail"));
const Pipelines = lazy(() => import("./pages/Pipelines"));
const Pipeline = lazy(() => import("./pages/Pipeline"));
const Run = lazy(() => import("./pages/Run"));
const Releases = lazy(() => import("./pages/Releases"));
const Release = lazy(() => import("./pages/Release"));
const Images = lazy(() => import("./pages/Images"));
const Alerts = lazy(() => import("./pages/Alerts"));
const Explore = lazy(() => import("./pages/Explore"));
const Dashboards = lazy(() => import("./pages/Dashboards"));
const dashboard = () => import("./pages/Dashboard");
const Dashboard = lazy(dashboard);
const Find = lazy(() => import("./pages/Find"));

/// Begins to load what a page at this address is drawn with, where that is much.
export function preload(path: string): void {
  const uid = /^\/d\/([^/]+)/.exec(path)?.[1];
  if (!uid) return;
  dashboard().catch(() => undefined);
  // A refusal for want of a sign-in is an error that browsers note.
  if (likelySignedIn()) ahead(`/api/dashboards/uid/${uid}`);
}

interface Section { path: string; label: Key; key: string; icon: string; part?: string; also?: string }
/// Whether what is behind a section runs.
export const isThere = (section: Section) => (!section.part || has(section.part)) && (!section.also || has(section.also));
export const SECTIONS: readonly Section[] = [
  { path: "/", label: "nav.yard", key: "y", icon: "M2 3h14v5H2zM2 10h6v5H2zM10 10h6v5h-6z" },
  { path: "/workloads", label: "nav.workloads", key: "w", icon: "M9 1.5 16 5v8l-7 3.5L2 13V5zM2 5l7 3.5L16 5M9 8.5v8" },
  { path: "/images", label: "nav.images", key: "i", icon: "M2 6l7-4 7 4-7 4zM2 9.5l7 4 7-4M2 13l7 4 7-4" },
  { path: "/pipelines", label: "nav.pipelines", key: "p", icon: "M3.500 3.500h4v4h-4zM10.500 3.500h4v4h-4zM10.500 11h4v4h-4zM7.500 5.500h3M12.500 7.500V11", part: "pipeline" },
  { path: "/releases", label: "nav.releases", key: "r", icon: "M2 15.5h14M4 12l4-4 3 2.5L15 4M11.500 4H15v3.500", part: "gateway", also: "metrics" },
  { path: "/alerts", label: "nav.alerts", key: "a", icon: "M4 13V8a5 5 0 0 1 10 0v5l1.5 1.5h-13zM7.5 16.5h3", part: "metrics" },
  { path: "/dashboards", label: "nav.dashboards", key: "d", icon: "M2 2h6v8H2zM10 2h6v4h-6zM10 8h6v8h-6zM2 12h6v4H2z", part: "metrics" },
  { path: "/explore", label: "nav.explore", key: "e", icon: "M2 14l4-5 3 3 6-8M2 16.5h14", part: "metrics" },
];
const RANGES: readonly [string, "minutes" | "hours" | "days", number][] = [
  ["now-5m", "minutes", 5], ["now-15m", "minutes", 15], ["now-30m", "minutes", 30], ["now-1h", "hours", 1], ["now-3h", "hours", 3],
  ["now-6h", "hours", 6], ["now-12h", "hours", 12], ["now-24h", "hours", 24], ["now-2d", "days", 2], ["now-7d", "days", 7], ["now-30d", "days", 30],
];

const current = createMemo(() => {
  const [first] = parts();
  return first === "d" ? "/dashboards" : first === "pipeline" || first === "run" ? "/pipelines" : `/${first ?? ""}`;
});

function RangePicker() {
  const word = () => {
    const [from, to] = rangeText();
    const row = to === "now" ? RANGES.find(([text]) => text === from) : undefined;
    return row ? t("range.last", { span: tn(`unit.${row[1]}`, row[2]) }) : t("range.custom");
  };
  const [from, setFrom] = createSignal(rangeText()[0]);
  const [to, setTo] = createSignal(rangeText()[1]);
  createEffect(() => { setFrom(rangeText()[0]); setTo(rangeText()[1]); });
  return (
    <Popup label={word()} title={`${t("bar.range")}: ${word()}`}>
      <For each={RANGES}>{([text, unit, n]) => (
        <button class="button bare" data-close aria-pressed={rangeText()[0] === text} style={{ "text-align": "left" }} onClick={() => { setRange(text, "now"); refresh(); }}>{t("range.last", { span: tn(`unit.${unit}`, n) })}</button>
      )}</For>
      <form class="stack" onSubmit={(event) => { event.preventDefault(); setRange(from(), to()); }}>
        <label class="stack" style={{ gap: "2px" }}><span class="small soft">{t("range.from")}</span><input class="field" value={from()} onInput={(event) => setFrom(event.currentTarget.value)} /></label>
        <label class="stack" style={{ gap: "2px" }}><span class="small soft">{t("range.to")}</span><input class="field" value={to()} onInput={(event) => setTo(event.currentTarget.value)} /></label>
        <button class="button primary" type="submit">{t("range.apply")}</button>
      </form>
    </Popup>
  );
}

function Namespaces() {
  const spaces = watch<Thing>("/api/v1/namespaces");
  const names = createMemo(() => spaces.items().map((one) => one.metadata.name).sort());
  return (
    <select class="field" aria-label={t("bar.namespace")} title={t("bar.namespace")} onChange={(event) => setQuery({ ns: event.currentTarget.value })}>
      <option value="" selected={!query("ns")}>{t("bar.all")}</option>
      <For each={names()}>{(name) => <option value={name} selected={query("ns") === name}>{name}</option>}</For>
      <Show when={query("ns") && !names().includes(query("ns"))}><option value={query("ns")} selected>{query("ns")}</option></Show>
    </select>
  );
}

function Person() {
  return (
    <Popup label={<svg width="16" height="16" viewBox="0 0 18 18" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true"><circle cx="9" cy="6" r="3.2" /><path d="M2.5 16c.6-3.6 3.2-5.4 6.5-5.4s5.900 1.800 6.500 5.400" /></svg>} title={t("bar.person")} plain>
      <div class="small"><span class="soft">{t("bar.signedIn")}</span><br /><span class="mono" style={{ "overflow-wrap": "anywhere" }}>{person()?.user}</span></div>
      <label class="stack" style={{ gap: "2px" }}><span class="small soft">{t("bar.theme")}</span>
        <select class="field" onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
          <For each={[["system", "bar.system"], ["light", "bar.light"], ["dark", "bar.dark"]] as const}>{([value, key]) => <option value={value} selected={theme() === value}>{t(key)}</option>}</For>
        </select></label>
      <label class="stack" style={{ gap: "2px" }}><span class="small soft">{t("bar.language")}</span>
        <select class="field" onChange={(event) => void setLanguage(event.currentTarget.value as "en" | "ko")}>
          <For each={LANGUAGES}>{([value, name]) => <option value={value} selected={language() === value}>{name}</option>}</For>
        </select></label>
      <p class="small soft">{t("bar.version")} {person()?.version}</p>
      <button class="button" onClick={() => void signOut()}>{t("bar.signOut")}</button>
    </Popup>
  );
}

/// Parts of an address that name what a page shows; what follows are its tabs.
const DEPTHS: Record<string, number> = { workloads: 4, releases: 3, pipelines: 1, pipeline: 3, run: 3 };

function Page() {
  const detail = () => (parts().length >= 4 && parts()[0] === "workloads" ? Detail : Workloads);
  const page = () => {
    switch (parts()[0]) {
      case undefined: return Yard;
      case "sign-in": return Yard;
      case "workloads": return detail();
      case "pipelines": return Pipelines;
      case "pipeline": return Pipeline;
      case "run": return Run;
      case "releases": return parts().length >= 3 ? Release : Releases;
      case "images": return Images;
      case "alerts": return Alerts;
      case "explore": return Explore;
      case "dashboards": return Dashboards;
      case "d": return Dashboard;
      default: return () => <Note words={t("error.page")} />;
    }
  };
  // Another object of the same kind is another page, with nothing left of the one before.
  const identity = createMemo(() => parts().slice(0, DEPTHS[parts()[0] ?? ""] ?? 2).join("/"));
  return (
    <Show when={identity() + "/"} keyed>
      <ErrorBoundary fallback={(failed: Error) => { console.error(failed); return <p class="wrong" role="alert">{t("error.part", { error: failed.message })}</p>; }}>
        <Suspense fallback={<div class="page"><div class="shape" style={{ height: "32px", width: "240px" }} /><div class="shape" style={{ height: "320px" }} /></div>}>
          <Dynamic component={page()} />
        </Suspense>
      </ErrorBoundary>
    </Show>
  );
}

export function Frame() {
  const [slim, setSlim] = createSignal(localStorage.getItem("rail") === "slim");
  const [finding, setFinding] = createSignal(false);
  const [keys, setKeys] = createSignal(false);
  const sections = () => SECTIONS.filter(isThere);
  createEffect(() => localStorage.setItem("rail", slim() ? "slim" : "wide"));
  createEffect(() => {
    const section = SECTIONS.find((one) => one.path === current());
    document.title = [parts().slice(1).join(" / "), section ? t(section.label) : "", "Madang"].filter(Boolean).join(" · ");
  });
  let afterG = 0;
  const press = (event: KeyboardEvent) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); setFinding(true); return; }
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, [contenteditable=true], .shell, .editor, dialog")) return;
    if (event.key === "/") { const filter = document.querySelector<HTMLElement>("[data-filter]"); if (filter) { event.preventDefault(); filter.focus(); } }
    else if (event.key === "?") setKeys(true);
    else if (event.key === "g") afterG = Date.now();
    else if (Date.now() - afterG < 1500) { const section = sections().find((one) => one.key === event.key); afterG = 0; if (section) go(section.path); }
  };
  let main!: HTMLElement;
  onMount(() => {
    const [forget, end] = keepFocus(main);
    createEffect(on(path, forget, { defer: true }));
    onCleanup(end);
  });
  onMount(() => document.addEventListener("keydown", press));
  onCleanup(() => document.removeEventListener("keydown", press));
  return (
    <div class="frame" classList={{ slim: slim() }}>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>{t("nav.skip")}</a>
      <div class="rail">
        <a class="brand" href={href("/")}><img src="/icon.svg" alt="" /><span class="word">Madang</span></a>
        <nav aria-label={t("nav.label")}>
          <For each={sections()}>{(section) => (
            <a href={href(section.path)} aria-current={current() === section.path ? "page" : undefined} title={slim() ? t(section.label) : undefined} aria-label={t(section.label)}>
              <svg viewBox="0 0 18 18" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" aria-hidden="true"><path d={section.icon} /></svg>
              <span class="word">{t(section.label)}</span>
            </a>)}</For>
        </nav>
        <button class="button bare foot" onClick={() => setSlim(!slim())} aria-label={slim() ? t("nav.wide") : t("nav.slim")} title={slim() ? t("nav.wide") : t("nav.slim")}>{slim() ? "»" : "«"}</button>
      </div>
      <header class="bar">
        <Namespaces />
        <Show when={has("metrics")}><RangePicker /></Show>
        <span class="grow" />
        <button class="button" onClick={() => setFinding(true)} title={t("bar.search")}><span class="hidden">{t("bar.search")}</span><svg width="13" height="13" viewBox="0 0 14 14" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true" style={{ "vertical-align": "-2px" }}><circle cx="6" cy="6" r="4.300" /><path d="m9.200 9.200 4 4" /></svg><span class="wide-only soft" aria-hidden="true"> {t("bar.search")} <kbd class="small">Ctrl K</kbd></span></button>
        <Person />
      </header>
      <main class="main" id="main" tabindex="-1" ref={main} data-path={path()}><Page /></main>
      <Show when={finding()}><Suspense><Find onClose={() => setFinding(false)} /></Suspense></Show>
      <Show when={keys()}><Dialog title={t("keys.title")} onClose={() => setKeys(false)}><p>{t("keys.help")}</p><ul class="stack" style={{ gap: "4px" }}><For each={sections()}>{(section) => <li><kbd>g {section.key}</kbd> {t(section.label)}</li>}</For></ul></Dialog></Show>
    </div>
  );
}
