/// The panels: how each type shows its frames.
import { createMemo, createSignal, For, Index, onCleanup, onMount, Show } from "solid-js";
import { CALCS } from "../calcs";
import { dark, token } from "../colours";
import { clock } from "../format";
import { default as Plot, type Band, type Line } from "../parts/Plot";
import type { Mark } from "../marks";
import { hasGaps, withGaps } from "../plot-data";
import type { Range } from "../range";
import { t } from "../words";
import { format } from "./units";
import { bounds, colour, readable, seriesColours, shown, thresholdColour, pattern, type Shown } from "./field";
import { displayName, type Field, type Frame, type Link } from "./frame";
import { safe } from "./markdown";
import type { Panel } from "./model";

export interface PanelProps { panel: Panel; frames: Frame[]; step: number; range: Range; width: number; height: number; replace: (text: string, row?: Record<string, string>) => string; marks?: Mark[] }

const Empty = (props: { words?: string | undefined }) => <div class="empty">{props.words ?? t("dash.noData")}</div>;

/// Links of a value, with what they ask for filled in.
function linkOf(field: Field, name: string, value: Shown, replace: PanelProps["replace"], row?: (column: string) => string): { href: string; title: string; blank: boolean } | undefined {
  const link = (field.config.links as Link[] | undefined)?.[0];
  if (!link?.url) return undefined;
  const fill = (text: string) => replace(text.replace(/\$\{__data\.fields(?:\.(\w+)|\["?([^"\]]+)"?\])(?:\.\w+)?\}/g, (_all, a?: string, b?: string) => encodeURIComponent(row?.(a ?? b ?? "") ?? ""))
    .replace(/\$\{__value\.(?:text|raw|numeric)\}/g, encodeURIComponent(value.text)).replace(/\$\{__series\.name\}/g, encodeURIComponent(name)).replace(/\$\{__field\.labels\.(\w+)\}/g, (_all, label: string) => encodeURIComponent(field.labels?.[label] ?? "")).replace(/\$\{__field\.name\}/g, encodeURIComponent(name))
    .replace(/\$__cell_(\d+)/g, (_all, at: string) => encodeURIComponent(row?.(`#${at}`) ?? "")).replace(/\$\{?__cell(?::\w+)?\}?/g, encodeURIComponent(value.text)));
  const href = safe(fill(link.url));
  return href ? { href, title: fill(link.title ?? ""), blank: link.targetBlank ?? false } : undefined;
}

/// Lines of one plot from which on they are thin.
const MANY = 8;

/// The least distance of two times: queries may ask for fewer points than the panel.
const nearest = (times: number[]) => { let least = Infinity; for (let at = 1; at < times.length; at += 1) least = Math.min(least, times[at]! - times[at - 1]!); return Number.isFinite(least) ? least : 0; };

export function TimeSeries(props: PanelProps) {
  const series = createMemo(() => {
    const found: { field: Field; name: string; of: Frame; times: number[] }[] = [];
    const seconds = new Map<readonly unknown[], number[]>();
    for (const of of props.frames) {
      const time = of.fields.find((field) => field.type === "time");
      if (!time) continue;
      const times = seconds.get(time.values) ?? time.values.map((value) => Number(value) / 1000);
      seconds.set(time.values, times);
      for (const field of of.fields) if (field.type === "number" && (field.config.custom?.hideFrom as { viz?: boolean } | undefined)?.viz !== true) found.push({ field, name: displayName(field, of, props.frames), of, times });
    }
    return found;
  });
  const lines = createMemo(() => {
    const colours = seriesColours(series());
    // Of many lines each is thinner, which also draws several times faster.
    const thick = series().length > MANY ? 1 : 1.5;
    // Series mostly share their times: those are looked at once.
    const rhythms = new Map<number[], { step: number; gaps: boolean }>();
    const rhythm = (times: number[]) => {
      let known = rhythms.get(times);
      if (!known) { const step = Math.max(props.step, nearest(times)); rhythms.set(times, (known = { step, gaps: hasGaps(times, step) })); }
      return known;
    };
    const made = series().map(({ field, name, times }, at): Line => {
      const custom = (field.config.custom ?? {}) as Record<string, any>;
      const style = custom.drawStyle ?? "line", stacking = custom.stacking?.mode, negative = custom.transform === "negative-Y";
      const values = field.values as (number | null)[], { step, gaps } = rhythm(times);
      return {
        name, colour: colours[at]!, ...(gaps ? withGaps({ times, values }, step) : { times, values }), fill: style === "points" ? 0 : Number(custom.fillOpacity ?? 0) / 100, width: style === "points" ? 0 : Number(custom.lineWidth ?? thick) || (custom.fillOpacity ? 0.5 : thick),
        ...(custom.lineStyle?.fill === "dash" ? { dash: custom.lineStyle.dash ?? [10, 10] } : custom.lineStyle?.fill === "dot" ? { dash: [2, 4] } : {}), ...(stacking && stacking !== "none" ? { stack: String(custom.stacking.group ?? "A") } : {}), negative,
        bars: style === "bars", points: style === "points" || custom.showPoints === "always", steps: custom.lineInterpolation === "stepAfter" || custom.lineInterpolation === "stepBefore", right: custom.axisPlacement === "right", spanNulls: custom.spanNulls === true,
        hideLegend: custom.hideFrom?.legend === true, format: (value: number) => format(value, field.config.unit, field.config.decimals),
      };
    });
    // Shares of a whole: each moment's values of the sum of all.
    if (series().some(({ field }) => (field.config.custom?.stacking as { mode?: string } | undefined)?.mode === "percent")) {
      const sums = new Map<number, number>();
      made.forEach((line) => line.times.forEach((time, at) => sums.set(time, (sums.get(time) ?? 0) + Math.abs(line.values[at] ?? 0))));
      made.forEach((line) => { line.values = line.values.map((value, at) => (value == null ? value : (value / (sums.get(line.times[at]!) || 1)) * 100)); line.format = (value) => format(value, "percent"); });
    }
    return made;
  });
  const first = () => series()[0]?.field.config;
  const axis = (): Record<string, any> => (first()?.custom ?? {}) as Record<string, any>;
  const bands = createMemo<Band[]>(() => {
    const mode = (axis().thresholdsStyle as { mode?: string } | undefined)?.mode ?? "off", steps = first()?.thresholds?.steps ?? [];
    if (mode === "off") return [];
    return steps.map((step) => ({ from: step.value ?? -Infinity, colour: colour(step.color), line: mode.includes("line") || mode.startsWith("dashed"), area: mode.includes("area") }));
  });
  const legend = () => props.panel.options?.legend ?? {};
  const hasLegend = () => legend().showLegend !== false && legend().displayMode !== "hidden" && props.height > 110;
  const columns = () => { const calcs = (legend().calcs ?? []) as string[]; return calcs.filter((name) => CALCS[name]).slice(0, props.width < 420 ? 2 : 5); };
  const legendRoom = () => (hasLegend() ? Math.min(columns().length || legend().displayMode === "table" ? lines().length * 24 + 26 : Math.ceil(lines().reduce((sum, line) => sum + 34 + line.name.length * 6.2, 0) / Math.max(1, props.width)) * 22 + 4, Math.max(50, 26 + Math.floor((props.height * 0.36 - 26) / 24) * 24), 146) : 0);
  const unit = () => { const left = series().find(({ field }) => field.config.custom?.axisPlacement !== "right") ?? series()[0]; return left?.field.config; };
  const percent = () => series().some(({ field }) => (field.config.custom?.stacking as { mode?: string } | undefined)?.mode === "percent");
  return (
    <Show when={series().length} fallback={<Empty words={props.panel.fieldConfig?.defaults?.noValue} />}>
      <Plot name={props.panel.title ?? ""} lines={lines()} range={props.range} width={props.width} height={Math.max(60, props.height - legendRoom() - 4)} bands={bands()} marks={props.marks ?? []} legend={hasLegend() ? (columns().length || legend().displayMode === "table" ? "table" : "list") : false} legendHeight={legendRoom()} columns={columns()}
        {...(unit()?.min !== undefined ? { min: unit()!.min } : percent() ? { min: 0 } : {})} {...(unit()?.max !== undefined ? { max: unit()!.max } : percent() ? { max: 100 } : {})} {...(axis().axisSoftMin !== undefined ? { softMin: axis().axisSoftMin } : {})} {...(axis().axisSoftMax !== undefined ? { softMax: axis().axisSoftMax } : {})}
        {...(axis().scaleDistribution?.type === "log" ? { log: axis().scaleDistribution.log ?? 10 } : {})} format={(value) => (percent() ? format(value, "percent") : format(Math.abs(value) < 1e-12 ? 0 : value, unit()?.unit))} />
    </Show>
  );
}

interface Reduced { name: string; field: Field; value: Shown; raw: number | string | null; history: (number | null)[]; range: [number, number] }

/// One value a series, or a row, as stat, gauge and bar gauge show.
export function reduced(panel: Panel, frames: readonly Frame[]): Reduced[] {
  const options = panel.options?.reduceOptions ?? {};
  const calc = (options.calcs as string[] | undefined)?.[0] ?? "lastNotNull";
  const wanted = String(options.fields ?? "");
  const out: Reduced[] = [];
  for (const of of frames) {
    const fits = (field: Field) => {
      const name = displayName(field, of, frames);
      if (!wanted) return field.type === "number";
      return wanted.startsWith("/") ? pattern(wanted).test(name) || pattern(wanted).test(field.name) : name === wanted || field.name === wanted;
    };
    const text = of.fields.find((field) => field.type === "string");
    for (const field of of.fields.filter(fits)) {
      const range = bounds(field);
      if (options.values) {
        field.values.slice(0, Number(options.limit ?? 25)).forEach((value, row) => out.push({ name: text ? String(text.values[row] ?? "") : displayName(field, of, frames), field, value: shown(value, field, range), raw: value as number, history: [], range }));
        continue;
      }
      const numbers = field.values as (number | null)[];
      const raw = field.type === "number" ? (CALCS[calc]?.(numbers) ?? null) : ((calc === "first" || calc === "firstNotNull" ? field.values[0] : field.values.at(-1)) as string | null);
      out.push({ name: displayName(field, of, frames), field, value: shown(raw ?? null, field, range), raw: raw ?? null, history: field.type === "number" ? numbers : [], range });
    }
  }
  return out;
}

const spark = (values: (number | null)[]) => {
  const points = values.map((value, at) => [at, value] as const).filter((one): one is readonly [number, number] => one[1] !== null && one[1] !== undefined);
  if (points.length < 2) return undefined;
  const low = Math.min(...points.map((one) => one[1])), high = Math.max(...points.map((one) => one[1])), wide = values.length - 1 || 1;
  const line = points.map(([x, y]) => `${((x / wide) * 100).toFixed(2)},${(30 - ((y - low) / (high - low || 1)) * 28).toFixed(2)}`).join(" ");
  return { line, area: `${((points[0]![0] / wide) * 100).toFixed(2)},32 ${line} ${((points.at(-1)![0] / wide) * 100).toFixed(2)},32` };
};

/// Columns in which `n` cells of a panel are largest.
const columnsFor = (n: number, width: number, height: number, orientation: string | undefined): number => {
  if (orientation === "horizontal") return 1;
  if (orientation === "vertical") return n;
  let best = 1, size = 0;
  for (let columns = 1; columns <= n; columns += 1) {
    const cell = Math.min(width / columns / 1.8, height / Math.ceil(n / columns));
    if (cell > size) { size = cell; best = columns; }
  }
  return best;
};

export function Stat(props: PanelProps) {
  const rows = createMemo(() => reduced(props.panel, props.frames).slice(0, 60));
  const options = () => props.panel.options ?? {};
  const columns = () => columnsFor(rows().length, props.width, props.height, options().orientation);
  return (
    <Show when={rows().length} fallback={<Empty words={props.panel.fieldConfig?.defaults?.noValue} />}>
      <div class="stats" style={{ "grid-template-columns": `repeat(${columns()}, minmax(0, 1fr))` }}>
        <Index each={rows()}>{(row) => {
          const background = () => ["background", "background_solid"].includes(options().colorMode ?? "value") && row().value.colour !== undefined;
          const tint = () => row().value.colour ?? token("text");
          const named = () => options().textMode === "name" || options().textMode === "value_and_name" || ((options().textMode ?? "auto") === "auto" && rows().length > 1) || (options().textMode === "auto" && row().field.config.displayName !== undefined);
          const text = () => (options().textMode === "name" ? row().name : row().value.text || t("dash.noData"));
          const size = () => Math.max(12, Math.min((props.width / columns()) / Math.max(4, text().length) * 1.25, (props.height / Math.ceil(rows().length / columns())) * (named() ? 0.42 : 0.6), 56));
          const link = () => linkOf(row().field, row().name, row().value, props.replace);
          const drawn = () => (options().graphMode === "area" ? spark(row().history) : undefined);
          return (
            <div class="stat" style={background() ? { background: tint(), color: readable(tint()) } : {}}>
              <Show when={drawn()}>{(it) => <svg class="spark" viewBox="0 0 100 32" preserveAspectRatio="none" aria-hidden="true"><polygon points={it().area} fill={background() ? "#ffffff" : tint()} opacity=".4" /><polyline points={it().line} fill="none" stroke={background() ? readable(tint()) : tint()} stroke-width="1.5" vector-effect="non-scaling-stroke" /></svg>}</Show>
              <Show when={named() && options().textMode !== "name"}><span class="name" style={background() ? { color: "inherit" } : {}}>{row().name}</span></Show>
              <Show when={options().textMode !== "none"}><span class="value" style={{ "font-size": `${size()}px`, color: background() || options().colorMode === "none" ? "inherit" : tint() }}><Show when={link()} fallback={text()}>{(to) => <a href={to().href} target={to().blank ? "_blank" : undefined} rel="noopener" title={to().title} style={{ color: "inherit" }}>{text()}</a>}</Show></span></Show>
            </div>);
        }}</Index>
      </div></Show>
  );
}

const arc = (from: number, to: number, radius: number) => {
  const at = (share: number) => { const angle = Math.PI * (1 - share) + (share - 0.5) * 0.5; return [50 - Math.cos(Math.PI * share * 1.16 - 0.08 * Math.PI) * radius, 50 - Math.sin(Math.PI * share * 1.16 - 0.08 * Math.PI) * radius, angle] as const; };
  const [x1, y1] = at(from), [x2, y2] = at(to);
  return `M${x1.toFixed(2)} ${y1.toFixed(2)}A${radius} ${radius} 0 ${(to - from) * 1.16 > 1 ? 1 : 0} 1 ${x2.toFixed(2)} ${y2.toFixed(2)}`;
};

export function Gauge(props: PanelProps) {
  const rows = createMemo(() => reduced(props.panel, props.frames).slice(0, 24));
  const columns = () => columnsFor(rows().length, props.width, props.height, props.panel.options?.orientation);
  return (
    <Show when={rows().length} fallback={<Empty words={props.panel.fieldConfig?.defaults?.noValue} />}>
      <div class="stats" style={{ "grid-template-columns": `repeat(${columns()}, minmax(0, 1fr))` }}>
        <Index each={rows()}>{(row) => {
          const steps = () => row().field.config.thresholds?.steps ?? [];
          const [low, high] = row().range;
          const share = (value: number) => Math.min(1, Math.max(0, row().field.config.thresholds?.mode === "percentage" ? value / 100 : (value - low) / (high - low || 1)));
          return (
            <div class="stat">
              <svg viewBox="0 0 100 66" role="img" aria-label={`${row().name}: ${row().value.text}`} style={{ width: "100%", height: "100%", "min-height": "0" }}>
                <path d={arc(0, 1, 40)} fill="none" stroke="var(--sunk)" stroke-width="9" />
                <Show when={props.panel.options?.showThresholdMarkers !== false}><For each={steps()}>{(step, at) => { const a = step.value === null || step.value === undefined ? 0 : share(step.value), next = steps()[at() + 1], b = next?.value != null ? share(next.value) : 1; return <Show when={b > a}><path d={arc(a, b, 46.500)} fill="none" stroke={colour(step.color)} stroke-width="2" /></Show>; }}</For></Show>
                <Show when={(row().value.share ?? 0) > 0.001}><path d={arc(0, Math.min(1, row().value.share!), 40)} fill="none" stroke={row().value.colour ?? "var(--accent)"} stroke-width="9" /></Show>
                <text x="50" y="50" text-anchor="middle" font-size={String(Math.min(16, 90 / Math.max(5, row().value.text.length)))} font-weight="600" fill={row().value.colour ?? "var(--text)"}>{row().value.text || t("dash.noData")}</text>
              </svg>
              <Show when={rows().length > 1 || row().field.config.displayName}><span class="name">{row().name}</span></Show>
            </div>);
        }}</Index>
      </div></Show>
  );
}

export function BarGauge(props: PanelProps) {
  const rows = createMemo(() => reduced(props.panel, props.frames).slice(0, 100));
  /// All bars are measured by one rule, unless a field has its own.
  const all = createMemo<[number, number]>(() => { const numbers = rows().map((row) => (typeof row.raw === "number" ? row.raw : 0)); return [Math.min(0, ...numbers), Math.max(...numbers, 1e-9)]; });
  const share = (row: Reduced) => { const low = row.field.config.min ?? all()[0], high = row.field.config.max ?? all()[1]; return typeof row.raw === "number" ? Math.min(1, Math.max(0, (row.raw - low) / (high - low || 1))) : 0; };
  const tint = (row: Reduced) => (typeof row.raw === "number" && (row.field.config.color?.mode ?? "thresholds") === "thresholds" ? thresholdColour(row.raw, row.field.config, [row.field.config.min ?? all()[0], row.field.config.max ?? all()[1]]) : (row.value.colour ?? "var(--accent)"));
  return (
    <Show when={rows().length} fallback={<Empty words={props.panel.fieldConfig?.defaults?.noValue} />}>
      <div class="bars" tabindex="0" role="group" aria-label={props.panel.title || t("dash.value")} style={rows().length * 24 > props.height ? { "justify-content": "flex-start" } : {}}><For each={rows()}>{(row) => (
        <div class="bar-row"><span class="cut" title={row.name}>{row.name}</span><div class="track"><i style={{ width: `${share(row) * 100}%`, background: tint(row) }} /></div><span class="num">{row.value.text}</span></div>)}</For></div></Show>
  );
}

/// Rows of a table that are drawn: more are told in words.
const ROWS = 500;

export function TablePanel(props: PanelProps) {
  const [page, setPage] = createSignal(0);
  const of = createMemo(() => props.frames[Math.min(page(), props.frames.length - 1)]);
  const [sort, setSort] = createSignal<[string, boolean] | undefined>();
  const columns = createMemo(() => (of()?.fields ?? []).filter((field) => field.config.custom?.hidden !== true && (field.config.custom?.hideFrom as { viz?: boolean } | undefined)?.viz !== true).map((field) => ({ field, name: displayName(field, of()!, [of()!]), range: bounds(field) })));
  const order = createMemo(() => {
    const rows = Array.from({ length: of()?.rows ?? 0 }, (_, at) => at);
    const first = (props.panel.options?.sortBy as { displayName?: string; desc?: boolean }[] | undefined)?.[0];
    const by = sort() ?? (first?.displayName ? [first.displayName, first.desc ?? false] as [string, boolean] : undefined);
    const column = by && columns().find((one) => one.name === by[0] || one.field.name === by[0]);
    if (!column) return rows;
    const values = column.field.values;
    return rows.sort((a, b) => { const [x, y] = [values[a], values[b]]; const r = typeof x === "number" && typeof y === "number" ? x - y : x == null ? -1 : y == null ? 1 : String(x).localeCompare(String(y), undefined, { numeric: true }); return by![1] ? -r : r; });
  });
  const cell = (at: number, row: number) => {
    const column = columns()[at]!;
    const value = shown(column.field.values[row], column.field, column.range);
    const custom = (column.field.config.custom ?? {}) as Record<string, any>;
    const type = custom.cellOptions?.type ?? custom.displayMode ?? "auto";
    const link = linkOf(column.field, column.name, value, props.replace, (name) => { if (name.startsWith("#")) return String(of()!.fields[Number(name.slice(1))]?.values[row] ?? ""); const found = columns().find((one) => one.name === name || one.field.name === name) ?? of()!.fields.map((field) => ({ field })).find((one) => one.field.name === name); return String(found?.field.values[row] ?? ""); });
    return { value, type: String(type), link, number: column.field.type === "number" };
  };
  return (
    <Show when={of() && of()!.rows > 0} fallback={<Empty words={props.panel.fieldConfig?.defaults?.noValue} />}>
      <Show when={props.frames.length > 1}><select class="field" aria-label={t("plot.series")} onChange={(event) => setPage(event.currentTarget.selectedIndex)}><For each={props.frames}>{(one) => <option>{one.name}</option>}</For></select></Show>
      <div style={{ flex: "1", overflow: "auto", "min-height": "0" }} tabindex="0" role="group" aria-label={props.panel.title || t("explore.table")}><table>
        <Show when={props.panel.options?.showHeader !== false}><thead><tr><For each={columns()}>{(column) => <th class={column.field.type === "number" ? "num" : ""}><button onClick={() => setSort([column.name, sort()?.[0] === column.name ? !sort()![1] : true])}>{column.name}{sort()?.[0] === column.name ? (sort()![1] ? " ↓" : " ↑") : ""}</button></th>}</For></tr></thead></Show>
        <tbody><For each={order().slice(0, ROWS)}>{(row) => <tr><For each={columns()}>{(_column, at) => {
          const it = cell(at(), row);
          const painted = it.type.startsWith("color-background") && it.value.colour;
          return <td class={it.number ? "num" : ""} style={painted ? { background: it.value.colour!, color: readable(it.value.colour!) } : it.type === "color-text" && it.value.colour ? { color: it.value.colour } : {}}>
            <Show when={(it.type === "gauge" || it.type.endsWith("-gauge")) && it.value.share !== undefined} fallback={<Show when={it.link} fallback={<span class="cut" title={it.value.text}>{it.value.text}</span>}>{(to) => <a class="cut" href={to().href} target={to().blank ? "_blank" : undefined} rel="noopener" title={to().title || it.value.text} style={painted ? { color: "inherit" } : {}}>{it.value.text}</a>}</Show>}>
              <div class="bar-row" style={{ display: "flex", gap: "8px", "align-items": "center", "min-width": "120px" }}><div style={{ flex: 1, background: "var(--sunk)", height: "12px", "border-radius": "3px", overflow: "hidden" }}><i style={{ display: "block", height: "100%", width: `${it.value.share! * 100}%`, background: it.value.colour ?? "var(--accent)" }} /></div><span>{it.value.text}</span></div></Show></td>;
        }}</For></tr>}</For></tbody>
      </table></div>
      <Show when={order().length > ROWS}><p class="small soft">{ROWS} / {order().length}</p></Show>
    </Show>
  );
}

/// One colour, from hardly seen to full, over the surface.
const heat = (share: number) => { const a = dark() ? [23, 42, 58] : [226, 238, 246], b = dark() ? [120, 225, 205] : [6, 84, 92]; return `rgb(${a.map((one, at) => Math.round(one + (b[at]! - one) * share)).join(",")})`; };

export function Heatmap(props: PanelProps) {
  let canvas!: HTMLCanvasElement;
  const [tip, setTip] = createSignal<{ x: number; y: number; words: string }>();
  const data = createMemo(() => {
    const rows = props.frames.flatMap((of) => { const time = of.fields.find((field) => field.type === "time"); return time ? of.fields.filter((field) => field.type === "number").map((field) => ({ name: field.labels?.le ?? displayName(field, of, props.frames), values: new Map(time.values.map((at, row) => [Number(at), field.values[row] as number | null])), field })) : []; });
    const times = [...new Set(rows.flatMap((row) => [...row.values.keys()]))].sort((a, b) => a - b);
    const top = Math.max(1e-9, ...rows.flatMap((row) => [...row.values.values()].map((value) => value ?? 0)));
    return { rows, times, top };
  });
  const LEFT = 64, BOTTOM = 22;
  const label = (name: string) => { const unit = props.panel.options?.yAxis?.unit ?? props.panel.fieldConfig?.defaults?.unit; return Number.isFinite(Number(name)) ? format(Number(name), unit) : name; };
  const draw = () => {
    const { rows, times, top } = data(), ratio = window.devicePixelRatio || 1, wide = props.width, high = props.height - 4;
    if (!canvas || !rows.length) return;
    canvas.width = wide * ratio; canvas.height = high * ratio; canvas.style.height = `${high}px`; canvas.style.width = `${wide}px`;
    const ctx = canvas.getContext("2d")!;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, wide, high);
    const w = wide - LEFT, h = high - BOTTOM, cell = h / rows.length, span = props.range.to - props.range.from, each = ((props.step * 1000) / span) * w;
    ctx.font = `11px ${token("sans")}`;
    rows.forEach((row, at) => {
      const y = h - (at + 1) * cell;
      row.values.forEach((value, time) => { if (!value) return; ctx.fillStyle = heat(Math.sqrt(value / top)); ctx.fillRect(LEFT + ((time - props.range.from) / span) * w, y, Math.max(1, each + 0.5), Math.max(1, cell - 0.5)); });
      if (at % Math.ceil(16 / cell) === 0) { ctx.fillStyle = token("soft"); ctx.textAlign = "right"; ctx.fillText(label(row.name), LEFT - 6, y + cell / 2 + 4); }
    });
    ctx.textAlign = "center"; ctx.fillStyle = token("soft");
    for (let at = 0; at <= 4; at += 1) { const time = props.range.from + (span * at) / 4; ctx.fillText(new Date(time).toTimeString().slice(0, 5), Math.min(wide - 16, LEFT + (w * at) / 4), high - 6); }
    void times;
  };
  const move = (event: PointerEvent) => {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top, { rows, times } = data();
    const row = rows[Math.floor((1 - y / (props.height - 4 - BOTTOM)) * rows.length)], at = props.range.from + ((x - LEFT) / (props.width - LEFT)) * (props.range.to - props.range.from);
    const time = times.filter((one) => one <= at).at(-1);
    setTip(row && time !== undefined && x > LEFT ? { x, y, words: `${clock(time)}  ≤ ${label(row.name)}: ${format(row.values.get(time) ?? 0, "short")}` } : undefined);
  };
  const timer = createMemo(() => { data(); dark(); void props.width; void props.height; queueMicrotask(draw); return 0; });
  onMount(() => { timer(); draw(); });
  onCleanup(() => setTip(undefined));
  return (
    <Show when={data().rows.length && data().times.length} fallback={<Empty words={props.panel.fieldConfig?.defaults?.noValue} />}>
      <canvas ref={canvas} role="img" aria-label={t("plot.label", { name: props.panel.title ?? "" })} onPointerMove={move} onPointerLeave={() => setTip(undefined)} />
      <Show when={tip()}>{(it) => <div class="plot-tip" style={{ left: `${Math.min(it().x + 12, props.width - 180)}px`, top: `${Math.max(0, it().y - 30)}px` }}>{it().words}</div>}</Show>
    </Show>
  );
}
