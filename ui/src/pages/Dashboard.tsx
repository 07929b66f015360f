/// One dashboard: its variables, rows and panels, drawn as Grafana draws its JSON. Panels ask only once they are seen.
import { batch, createContext, createEffect, createMemo, createResource, createSignal, ErrorBoundary, For, Match, on, onCleanup, onMount, Show, Switch, useContext } from "solid-js";
import { send } from "../kube/client";
import { applied } from "../dashboard/field";
import { safe } from "../dashboard/markdown";
import { Text } from "../dashboard/Text";
import { panelsOf, sections, type DashboardModel, type Panel } from "../dashboard/model";
import { BarGauge, Gauge, Heatmap, Stat, TablePanel, TimeSeries } from "../dashboard/panels";
import { run, seconds, type Ran } from "../dashboard/run";
import { transformed } from "../dashboard/transform";
import { ALL, chosen, replaced, settle, type Scope, type Variable } from "../dashboard/variables";
import { Confirm, Popup, Wrong } from "../parts/Small";
import { marksOf, type Mark } from "../marks";
import { isLive, range, rangeText, refresh, setDefaultRange, step } from "../range";
import { go, href, params, parts, query, setQuery } from "../router";
import { has } from "../session";
import { language, t } from "../words";
import { translated } from "../words/boards";

type Linked = NonNullable<DashboardModel["links"]>[number];
interface Answer { meta: { canDelete?: boolean; provisionedExternalId?: string }; dashboard: DashboardModel }
/// What comes with the program says so here.
const BUILT_IN = "built in";
/// Repeats of one panel or row at most.
const REPEATS = 40;
const REFRESH = ["", "5s", "10s", "30s", "1m", "5m", "15m"];

/// Marks of all panels.
const Marks = createContext<() => Mark[]>(() => []);

export default function Dashboard() {
  const [error, setError] = createSignal<string>();
  const [deleting, setDeleting] = createSignal(false);
  const [answer] = createResource(() => [parts()[1]!, language()] as const, async ([uid, spoken]) => {
    try {
      const found = (await send("GET", `/api/dashboards/uid/${encodeURIComponent(uid)}`)) as Answer;
      if (spoken === "ko" && found.meta.provisionedExternalId === BUILT_IN) found.dashboard = translated(found.dashboard, (await import("../words/ko-boards")).words);
      if (found.dashboard.time) setDefaultRange(found.dashboard.time.from, found.dashboard.time.to);
      return found;
    } catch (failed) { setError((failed as Error).message); return undefined; }
  });
  onCleanup(() => setDefaultRange("now-1h", "now"));
  const model = () => answer()?.dashboard;
  const [variables, setVariables] = createSignal<readonly Variable[]>();
  const models = createMemo(() => (model()?.templating?.list ?? []).filter((one) => one.name && one.type));
  const given = createMemo(() => JSON.stringify([...params().entries()].filter(([name]) => name.startsWith("var-"))));
  /// Asked again when the address changes; what is being asked for a state gone by is dropped.
  let turn = 0;
  createEffect(on([models, given, () => rangeText().join(" ")], ([list]) => {
    if (!model()) return;
    const own = ++turn;
    void settle(list, (name) => params().getAll(`var-${name}`), { range: range(), interval: step(range(), 600) }).then((done) => { if (own === turn) setVariables(done); });
  }));
  const every = () => query("refresh") || (typeof model()?.refresh === "string" ? String(model()!.refresh) : "") || "30s";
  createEffect(() => {
    const length = every() === "off" ? 0 : (seconds(every()) ?? 0);
    if (!length) return;
    const timer = setInterval(() => { if (isLive() && !document.hidden) refresh(); }, Math.max(5, length) * 1000);
    onCleanup(() => clearInterval(timer));
  });
  const scope = createMemo<Scope | undefined>(() => (variables() ? { variables: variables()!, range: range(), interval: 15, dashboard: { uid: model()!.uid, title: model()!.title } } : undefined));
  // A dashboard of one namespace shows what changed in that one.
  const inside = () => { const one = variables()?.find((variable) => variable.model.name === "namespace"); return one && one.value.length === 1 && one.value[0] !== ALL ? one.value[0]! : query("ns"); };
  const changes = marksOf(inside);
  const marked = () => query("marks") !== "off";
  const marks = createMemo(() => (marked() ? changes() : []));
  /// What goes along with a link: the time, and what variables are.
  const along = (link: Linked) => {
    const more = new URLSearchParams();
    if (link.keepTime) { const [from, to] = rangeText(); more.set("from", from); more.set("to", to); }
    if (link.includeVars) for (const one of variables() ?? []) if (one.model.type !== "constant" && one.model.type !== "datasource") for (const value of one.value) more.append(`var-${one.model.name}`, value);
    return more.toString();
  };
  const withMore = (url: string, link: Linked) => { const more = along(link); return more ? `${url}${url.includes("?") ? "&" : "?"}${more}` : url; };
  const links = () => (model()?.links ?? []).filter((link) => link.type !== "dashboards" && link.url).map((link) => ({ title: link.title || link.url!, url: safe(withMore(scope() ? replaced(link.url!, scope()!) : link.url!, link)), blank: link.targetBlank })).filter((link) => link.url);
  /// Links to all dashboards with the same tags.
  const [others] = createResource(() => (model()?.links ?? []).filter((link) => link.type === "dashboards"), async (all) => Promise.all(all.slice(0, 8).map(async (link) => {
    const found = (await send("GET", `/api/search?${(link.tags ?? []).map((tag) => `tag=${encodeURIComponent(tag)}`).join("&")}`).catch(() => [])) as { uid: string; title: string }[];
    return { link, found: found.filter((one) => one.uid !== model()?.uid).sort((a, b) => a.title.localeCompare(b.title)) };
  })));
  const download = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(model(), null, 2)], { type: "application/json" }));
    link.download = `${model()?.uid ?? "dashboard"}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <div class="page">
      <header>
        <a href={href("/dashboards")}>{t("dash.title")}</a><span class="faint">/</span><h1>{model()?.title ?? ""}</h1>
        <span class="grow" />
        <For each={(others() ?? []).filter((one) => one.found.length)}>{(one) => (
          <Popup label={one.link.title || t("dash.links")} title={one.link.title || t("dash.links")}>
            <ul class="stack" style={{ gap: "4px", "max-height": "60vh", overflow: "auto" }}><For each={one.found.slice(0, 100)}>{(board) => <li><a data-close href={withMore(`/d/${encodeURIComponent(board.uid)}`, one.link)} target={one.link.targetBlank ? "_blank" : undefined} rel="noopener noreferrer">{board.title}</a></li>}</For></ul>
          </Popup>)}</For>
        <For each={links().slice(0, 6)}>{(link) => <a class="button" href={link.url} target={link.blank ? "_blank" : undefined} rel="noopener noreferrer">{link.title}</a>}</For>
        <Show when={model()}>
          <Show when={has("gateway") || has("pipeline")}><button class="button" aria-pressed={marked()} title={t("dash.marksWhat")} onClick={() => setQuery({ marks: marked() ? "off" : "" })}>{t("dash.marks")}</button></Show>
          <label class="row" style={{ gap: "4px" }}><span class="soft small wide-only">{t("dash.refresh")}</span><select class="field" aria-label={t("dash.refresh")} title={t("dash.refresh")} onChange={(event) => setQuery({ refresh: event.currentTarget.value || "off" })}><For each={REFRESH}>{(one) => <option value={one} selected={every() === one || (!one && every() === "off")}>{one || t("dash.off")}</option>}</For></select></label>
          <Popup label="…" title={t("dash.json")} plain>
            <p class="small soft">{t("dash.from")}: {answer()!.meta.provisionedExternalId}</p>
            <button class="button" data-close onClick={download}>{t("dash.json")}</button>
            <Show when={answer()!.meta.canDelete}><button class="button danger" data-close onClick={() => setDeleting(true)}>{t("dash.delete")}</button></Show>
          </Popup></Show>
      </header>
      <Wrong error={error()} />
      <Show when={answer.loading}><div class="shape" style={{ height: "320px" }} /></Show>
      <Show when={variables()}><Variables all={variables()!} /></Show>
      <Show when={scope()}><Marks.Provider value={marks}><Body panels={panelsOf(model()!)} scope={scope()!} /></Marks.Provider></Show>
      <Show when={deleting()}><Confirm title={t("action.delete")} danger name={model()!.title} what={t("dash.deleteWhat")} command={`curl -X DELETE .../api/dashboards/uid/${model()!.uid}`} act={async () => { await send("DELETE", `/api/dashboards/uid/${model()!.uid}`); go("/dashboards"); }} onClose={() => setDeleting(false)} /></Show>
    </div>
  );
}

function Variables(props: { all: readonly Variable[] }) {
  const shown = () => props.all.filter((one) => one.model.hide !== 2 && one.model.type !== "constant" && !(one.model.type === "datasource"));
  const set = (one: Variable, to: string[]) => setQuery({ [`var-${one.model.name}`]: to }, false);
  const toggle = (one: Variable, value: string) => {
    if (value === ALL) return set(one, [ALL]);
    const now = one.value.filter((other) => other !== ALL);
    const next = now.includes(value) ? now.filter((other) => other !== value) : [...now, value];
    set(one, next.length ? next : one.model.includeAll ? [ALL] : [value]);
  };
  const text = (one: Variable) => (one.value.includes(ALL) ? t("dash.all") : one.value.map((value) => one.options.find((option) => option.value === value)?.text ?? value).join(", ")) || "-";
  return (
    <Show when={shown().length}><div class="variables" role="group" aria-label={t("dash.value")}><For each={shown()}>{(one) => {
      const label = one.model.label || one.model.name;
      return (
        <Switch>
          <Match when={one.model.type === "textbox" || one.model.type === "adhoc"}><label><span>{label}</span><input class="field" value={one.value.join(" ")} placeholder={one.model.type === "adhoc" ? 'job=api' : ""} onChange={(event) => set(one, one.model.type === "adhoc" ? event.currentTarget.value.split(/\s+/).filter(Boolean) : [event.currentTarget.value])} /></label></Match>
          <Match when={one.model.multi}><div class="choices" title={one.error}><span>{one.model.hide === 1 ? "" : label}</span><details><summary aria-label={`${label}: ${text(one)}`}>{text(one)}</summary><div>
            <For each={[...(one.model.includeAll ? [{ value: ALL, text: t("dash.all") }] : []), ...one.options].slice(0, 500)}>{(option) => <label class="row"><input type="checkbox" checked={one.value.includes(option.value)} onChange={() => toggle(one, option.value)} /><span class="cut">{option.text}</span></label>}</For></div></details></div></Match>
          <Match when={true}><label title={one.error}><span>{label}</span><select class="field" onChange={(event) => set(one, [event.currentTarget.value])}><For each={[...(one.model.includeAll ? [{ value: ALL, text: t("dash.all") }] : []), ...one.options].slice(0, 1000)}>{(option) => <option value={option.value} selected={one.value.includes(option.value)}>{option.text}</option>}</For></select></label></Match>
        </Switch>);
    }}</For></div></Show>
  );
}

/// Answers that come close together are drawn together: each pass of layout and each frame takes its time, however little is new in it.
const TOGETHER = 80;
let waiting: (() => void)[] = [], asking = 0, due = 0;
function flush() {
  window.clearTimeout(due);
  due = 0;
  const all = waiting;
  waiting = [];
  batch(() => all.forEach((one) => one()));
}
function together<T>(work: Promise<T>, then: (answer: T) => void, failed: (error: Error) => void): void {
  asking += 1;
  const over = (show: () => void) => {
    asking -= 1;
    waiting.push(show);
    if (asking === 0) flush();
    else if (!due) due = window.setTimeout(flush, TOGETHER);
  };
  work.then((answer) => over(() => then(answer)), (error: Error) => over(() => failed(error)));
}

type Placed = { panel: Panel; scoped: Scope["scoped"]; id: string };
const repeatValues = (name: string | undefined, scope: Scope) => {
  const one = name ? scope.variables.find((variable) => variable.model.name === name) : undefined;
  return one ? chosen(one).map((value) => ({ value, text: one.options.find((option) => option.value === value)?.text ?? value })) : undefined;
};

/// Panels with their repeats beside or below each other, as their settings say.
function placed(panels: readonly Panel[], scope: Scope, scoped: Scope["scoped"], prefix: string): { all: Placed[]; rows: number } {
  const all: Placed[] = [];
  const top = Math.min(...panels.map((panel) => panel.gridPos?.y ?? 0), Infinity);
  let shift = Number.isFinite(top) ? -top : 0;
  let rows = 0;
  for (const [at, panel] of panels.entries()) {
    const grid = panel.gridPos ?? { x: 0, y: 0, w: 12, h: 8 };
    const values = repeatValues(panel.repeat, scope)?.slice(0, REPEATS);
    if (!values) {
      all.push({ panel: { ...panel, gridPos: { ...grid, y: grid.y + shift } }, scoped, id: `${prefix}${panel.id ?? at}` });
      rows = Math.max(rows, grid.y + shift + grid.h);
      continue;
    }
    const across = panel.repeatDirection !== "v", each = across ? Math.max(1, Math.min(panel.maxPerRow ?? 4, values.length)) : 1, w = across ? Math.floor(24 / each) : grid.w;
    values.forEach((value, n) => {
      const y = grid.y + shift + Math.floor(n / each) * grid.h;
      all.push({ panel: { ...panel, gridPos: { x: across ? (n % each) * w : grid.x, y, w, h: grid.h } }, scoped: { ...scoped, [panel.repeat!]: value }, id: `${prefix}${panel.id ?? at}/${value.value}` });
      rows = Math.max(rows, y + grid.h);
    });
    // What comes below moves down by what the repeats took.
    shift += Math.max(0, Math.ceil(values.length / each) - 1) * grid.h;
  }
  return { all, rows };
}

function Body(props: { panels: Panel[]; scope: Scope }) {
  /// The shape of the page: it changes with variables, and not with every refresh.
  const key = createMemo(() => JSON.stringify(props.scope.variables.map((one) => [one.model.name, one.value, one.value.includes(ALL) ? one.options : 0])));
  const shape = createMemo(on(key, () => sections(props.panels).flatMap((section, at) => {
    const values = section.row ? repeatValues(section.row.repeat, props.scope) : undefined;
    return values ? values.slice(0, REPEATS).map((value) => ({ section, scoped: { [section.row!.repeat!]: value }, id: `${at}/${value.value}` })) : [{ section, scoped: undefined as Scope["scoped"], id: String(at) }];
  })));
  return <For each={shape()}>{(one) => <SectionView section={one.section} scoped={one.scoped} scope={props.scope} id={one.id} />}</For>;
}

function SectionView(props: { section: ReturnType<typeof sections>[number]; scoped: Scope["scoped"]; scope: Scope; id: string }) {
  const [collapsed, setCollapsed] = createSignal(props.section.collapsed);
  const within = (): Scope => ({ ...props.scope, ...(props.scoped ? { scoped: props.scoped } : {}) });
  const key = createMemo(() => JSON.stringify(props.scope.variables.map((one) => [one.model.name, one.value, one.value.includes(ALL) ? one.options : 0])));
  const layout = createMemo(on(key, () => placed(props.section.panels, props.scope, props.scoped, `${props.id}/`)));
  const title = () => replaced(props.section.row?.title ?? "", within()) || " ";
  return (
    <>
      <Show when={props.section.row}>
        <div class="row-title"><h2><button aria-expanded={!collapsed()} onClick={() => setCollapsed(!collapsed())}><svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true" style={{ transform: collapsed() ? "none" : "rotate(90deg)" }}><path d="M3 1l4 4-4 4" fill="none" stroke="currentColor" stroke-width="1.600" /></svg>{title()}</button></h2></div>
      </Show>
      <Show when={!collapsed() && layout().all.length}>
        <div class="grid"><For each={layout().all}>{(one) => (
          <ErrorBoundary fallback={(failed: Error) => <div class="panel" style={position(one.panel)}><p class="wrong">{failed.message}</p></div>}>
            <PanelView panel={one.panel} scope={{ ...props.scope, ...(one.scoped ? { scoped: one.scoped } : {}) }} />
          </ErrorBoundary>)}</For></div></Show>
    </>
  );
}

const position = (panel: Panel) => { const grid = panel.gridPos!; return { "grid-column": `${grid.x + 1} / span ${Math.max(1, Math.min(24 - grid.x, grid.w))}`, "grid-row": `${grid.y + 1} / span ${grid.h}`, "min-height": `${Math.min(420, grid.h * 38 - 8)}px` }; };
const DRAWN = new Set(["timeseries", "stat", "gauge", "bargauge", "table", "heatmap", "text"]);

function PanelView(props: { panel: Panel; scope: Scope }) {
  const marks = useContext(Marks);
  let box!: HTMLElement, inside!: HTMLDivElement;
  const [seen, setSeen] = createSignal(false);
  const [size, setSize] = createSignal<[number, number]>([0, 0]);
  const [ran, setRan] = createSignal<Ran>();
  const [error, setError] = createSignal<string>();
  const asks = ["timeseries", "stat", "gauge", "bargauge", "table", "heatmap"].includes(props.panel.type);
  onMount(() => {
    const eye = new IntersectionObserver((all) => setSeen(all.some((one) => one.isIntersecting)), { rootMargin: "200px" });
    eye.observe(box);
    const rule = new ResizeObserver(() => setSize([inside.clientWidth - 16, inside.clientHeight - 6]));
    rule.observe(inside);
    onCleanup(() => { eye.disconnect(); rule.disconnect(); });
  });
  const wide = createMemo(() => Math.round(size()[0] / 50) * 50);
  /// What was asked last: a panel that comes into sight again asks only if something changed. What it asked goes on when it leaves.
  let asked: { scope: Scope; width: number; signal: AbortController; failed?: boolean } | undefined;
  createEffect(() => {
    const scope = props.scope, width = wide();
    if (!asks || !seen() || !width) return;
    if (asked && !asked.failed && asked.scope.range === scope.range && asked.scope.variables === scope.variables && asked.width === width) return;
    asked?.signal.abort();
    const own = (asked = { scope, width, signal: new AbortController() } as NonNullable<typeof asked>), { signal } = own.signal;
    together(run(props.panel, scope, width, signal),
      (answer) => { if (signal.aborted) return; setRan(answer); setError(undefined); },
      (failed: Error) => { if (signal.aborted) return; own.failed = true; setError(failed.message); },
    );
  });
  onCleanup(() => asked?.signal.abort());
  const replace = (text: string) => replaced(text, props.scope);
  const result = createMemo(() => {
    const answer = ran();
    if (!answer) return undefined;
    // Settings before transformations, which use the names that they give, and after, for columns that those make.
    const { frames, unknown } = transformed(applied(answer.frames, { defaults: {}, overrides: [] }, replace), props.panel.transformations);
    return { frames: applied(frames, props.panel.fieldConfig, replace), unknown };
  });
  const title = () => replace(props.panel.title ?? "");
  const explore = () => { const first = (props.panel.targets ?? []).filter((target) => target.expr && !target.hide); return first.length ? href(`/explore?${first.map((target) => `expr=${encodeURIComponent(replaced(target.expr!, { ...props.scope, interval: ran()?.step ?? 15 }, true))}`).join("&")}`) : undefined; };
  const given = () => ({ panel: props.panel, frames: result()!.frames, step: ran()!.step, range: ran()!.range, width: size()[0], height: size()[1], replace });
  const link = () => { const first = props.panel.links?.[0]; const url = first?.url ? safe(replace(first.url)) : undefined; return url ? { url, title: replace(first!.title ?? "") } : undefined; };
  return (
    <section class="panel" classList={{ small: (props.panel.gridPos?.w ?? 24) <= 6, clear: props.panel.transparent === true || (props.panel.type === "text" && !props.panel.title) }} style={position(props.panel)} ref={box} aria-label={title() || props.panel.type} data-panel={props.panel.type} data-state={error() ? "error" : !asks || result() ? "done" : "waiting"}>
      <Show when={title() || props.panel.description}>
        <header><h2 class="cut" title={[title(), props.panel.description].filter(Boolean).join("\n")}><Show when={link()} fallback={title()}>{(to) => <a href={to().url} title={to().title}>{title()}</a>}</Show></h2>
          <Show when={result()?.unknown.length}><span class="tag" title={result()!.unknown.join(", ")}>?</span></Show>
          <Show when={explore()}><a class="faint end small" href={explore()!} aria-label={`${t("dash.panelMenu")}: ${title()}`} title={t("dash.panelMenu")}>↗</a></Show></header></Show>
      <div class="inside" classList={{ scroll: props.panel.type === "text" }} ref={inside} {...(props.panel.type === "text" ? { tabindex: "0" } : {})}>
        <Show when={error()}><p class="wrong small" role="alert">{error()}</p></Show>
        <Show when={!DRAWN.has(props.panel.type)}><div class="empty">{t("dash.unknown", { type: props.panel.type })}</div></Show>
        <Show when={props.panel.type === "text"}><Text content={replace(String(props.panel.options?.content ?? ""))} mode={String(props.panel.options?.mode ?? "markdown")} /></Show>
        <Show when={asks && result() && size()[1] > 10}>
          <Switch>
            <Match when={props.panel.type === "timeseries"}><TimeSeries {...given()} marks={marks()} /></Match>
            <Match when={props.panel.type === "stat"}><Stat {...given()} /></Match>
            <Match when={props.panel.type === "gauge"}><Gauge {...given()} /></Match>
            <Match when={props.panel.type === "bargauge"}><BarGauge {...given()} /></Match>
            <Match when={props.panel.type === "table"}><TablePanel {...given()} /></Match>
            <Match when={props.panel.type === "heatmap"}><Heatmap {...given()} /></Match>
          </Switch></Show>
      </div>
    </section>
  );
}
