/// A plot: uPlot, loaded when first needed, in the console's look, with a crosshair that all plots of a page share.
///
/// Lines of 1.5 px without markers, gaps as gaps, drag to zoom, double-click back, a legend that sorts.
import type uPlot from "uplot";
import { createEffect, createMemo, createSignal, For, on, onCleanup, onMount, Show } from "solid-js";
import { CALCS } from "../calcs";
import { aligned, isolated } from "../plot-data";
import { dark, token } from "../colours";
import { short } from "../format";
import type { Mark } from "../marks";
import { setRange, type Range } from "../range";
import { t } from "../words";
import { Shape } from "./State";

export interface Line {
  name: string; colour: string; times: number[]; values: (number | null)[];
  /// Filled below with this share of its colour.
  fill?: number; width?: number; dash?: number[]; stack?: string; negative?: boolean; bars?: boolean; points?: boolean; steps?: boolean;
  format?: (value: number) => string; right?: boolean; spanNulls?: boolean; hideLegend?: boolean;
}
export interface Band { from: number; colour: string; line: boolean; area: boolean }
export interface PlotProps {
  name: string; lines: Line[]; range: Range; height?: number;
  /// Pixels that there are from side to side, where they are known: to measure them costs a pass of layout for each plot.
  width?: number; format?: (value: number) => string; min?: number; max?: number;
  softMin?: number; softMax?: number; log?: number; legend?: boolean | "table" | "list"; legendHeight?: number; columns?: string[]; marks?: Mark[]; bands?: Band[]; zoom?: boolean;
}

/// Widths of so many digits in a font: measured once, since measuring takes long.
const WIDTHS = new Map<string, number>();
function digits(ctx: CanvasRenderingContext2D, font: string, n: number): number {
  const known = WIDTHS.get(`${n} ${font}`);
  if (known !== undefined) return known;
  ctx.save();
  ctx.font = font;
  const { width } = ctx.measureText("0".repeat(n));
  ctx.restore();
  WIDTHS.set(`${n} ${font}`, width);
  return width;
}

/// Distances of ticks for bytes.
const BINARY = Array.from({ length: 60 }, (_, at) => 2 ** at);
/// Colours of marks by how what they tell of ended.
const MARKS: Record<NonNullable<Mark["kind"]>, string> = { good: "green", bad: "red", warn: "amber", new: "blue", idle: "faint" };
/// Pixels beside the plot on its right.
const PADDING = 10;
/// Pixels from a mark within which the pointer is at it.
const NEAR = 7;
const CALC_WORDS: Record<string, () => string> = {
  last: () => t("plot.last"), lastNotNull: () => t("plot.last"), max: () => t("plot.max"), min: () => t("plot.min"), mean: () => t("plot.mean"), sum: () => t("plot.total"), total: () => t("plot.total"),
};

/// Comes while the first answers do.
const uplot = Promise.all([import("uplot"), import("uplot/dist/uPlot.min.css")]).then(([module]) => module.default);
// Who draws a plot is told if it does not come.
uplot.catch(() => undefined);

export default function Plot(props: PlotProps) {
  let box!: HTMLDivElement, inside!: HTMLDivElement;
  let plot: uPlot | undefined;
  let library: typeof uPlot | undefined;
  const [ready, setReady] = createSignal(false);
  const [off, setOff] = createSignal<ReadonlySet<string>>(new Set());
  const [tip, setTip] = createSignal<{ left: number; top: number; at: number; marks: Mark[] } | undefined>();
  const [sort, setSort] = createSignal<[string, boolean] | undefined>();
  const format = () => props.format ?? ((value: number) => short(value));

  const shown = createMemo(() => props.lines.filter((line) => !off().has(line.name)));
  /// Stacked values: what is drawn, beside what is said.
  const data = createMemo(() => {
    const { times, values } = aligned(shown());
    const sums = new Map<string, number[]>();
    const lines = shown(), stacked = values.filter((_, at) => lines[at]!.stack);
    const some = stacked.length ? times.map((_, place) => stacked.some((row) => row[place] != null)) : [];
    const drawn = values.map((row, at) => {
      const line = lines[at]!;
      let out = line.negative ? row.map((value) => (value == null ? value : -value)) : row;
      if (line.stack) {
        const key = line.stack + (line.negative ? "-" : "+");
        const sum = sums.get(key) ?? new Array<number>(times.length).fill(0);
        // Where others of the stack have values, a missing one counts nothing: what stands on it needs its height.
        out = out.map((value, place) => { sum[place]! += value ?? 0; return value == null && !some[place] ? value : sum[place]!; });
        sums.set(key, sum);
      }
      return out;
    });
    return { times, values, drawn };
  });

  const options = (Library: typeof uPlot): uPlot.Options => {
    const soft = token("soft"), grid = token("grid");
    const font = `11px ${token("sans")}`;
    const axis = { stroke: soft, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const right = shown().some((line) => line.right);
    /// Pixels from a time to the plot's right end, where a label that does not fit would be cut.
    const left = (self: uPlot, at: number) => PADDING + ((props.range.to / 1000 - at) * 1000 / (props.range.to - props.range.from)) * (self.width - 50) + (right ? 34 : 0);
    const wide = (self: uPlot, values: string[] | null) => {
      const longest = (values ?? []).reduce((a, b) => Math.max(a, b.length), 0);
      return Math.min(110, Math.max(34, digits(self.ctx, font, longest) + 12));
    };
    const scale = (side: boolean): uPlot.Scale => ({
      distr: props.log ? 3 : 1, log: (props.log === 2 ? 2 : 10) as 2 | 10,
      range: (self, low, high) => {
        void self;
        if (low === null || high === null || low === undefined || high === undefined || !Number.isFinite(low) || !Number.isFinite(high)) { low = props.min ?? 0; high = props.max ?? 1; }
        if (props.log) return [props.min && props.min > 0 ? props.min : Math.max(low, 1e-9) , props.max ?? Math.max(high, low * 10)];
        let from = side ? low : (props.min ?? Math.min(low, props.softMin ?? low)), to = side ? high : (props.max ?? Math.max(high, props.softMax ?? high));
        // Nothing but zeros lie on the ground, below a whole one.
        if (from === 0 && to === 0) return [0, 1];
        const room = (to - from || Math.abs(to) || 1) * 0.08;
        if ((side || props.min === undefined) && !(from >= 0 && from < (to - from) * 0.6)) from -= room; else if (props.min === undefined || side) from = Math.min(0, from);
        if (side || props.max === undefined) to += room;
        return [from, to <= from ? from + 1 : to];
      },
    });
    // Ticks of bytes lie on powers of two.
    const binary = format()(1024).includes("Ki") ? { incrs: BINARY } : {};
    const bars = Library.paths.bars!({ size: [0.8, 40] }), steps = Library.paths.stepped!({ align: 1 }), straight = Library.paths.linear!();
    return {
      width: Math.max(60, props.width ?? inside.clientWidth), height: Math.max(40, props.height ?? 160), legend: { show: false },
      cursor: { y: false, sync: { key: "all" }, drag: { x: props.zoom !== false, y: false, setScale: false }, points: { size: 5 }, focus: { prox: 24 } },
      padding: [8, PADDING, 0, 0],
      scales: { x: { time: true, range: () => [props.range.from / 1000, props.range.to / 1000] }, y: scale(false), ...(right ? { r: scale(true) } : {}) },
      axes: [
        { ...axis, size: 24, gap: 4, space: 56, values: (self, splits, _a, _s, increment) => splits.map((at) => { const label = timeLabel(at, increment); return left(self, at) < digits(self.ctx, font, label.length) / 2 ? "" : label; }) },
        { ...axis, ...binary, size: wide, gap: 6, space: 26, values: (_self, splits) => splits.map((value) => (value === null ? "" : format()(value))) },
        ...(right ? [{ ...axis, scale: "r", side: 1 as const, size: wide, grid: { show: false }, values: (_self: uPlot, splits: number[]) => splits.map((value) => (shown().find((line) => line.right)?.format ?? format())(value)) }] : []),
      ],
      series: [{}, ...shown().map((line): uPlot.Series => ({
        label: line.name, stroke: line.colour, width: line.width ?? 1.5, scale: line.right ? "r" : "y", spanGaps: line.spanNulls ?? false,
        ...(line.dash ? { dash: line.dash } : {}), ...(line.fill ? { fill: alpha(line.colour, line.fill) } : {}),
        // A point that no line leads to is still seen.
        points: { show: line.points ?? false, size: 4, ...(line.points ? { fill: line.colour } : {}), filter: (self, place, show) => { if (show || line.bars) return null; const lone = isolated(self.data[place]!, 0, self.data[0].length - 1); return lone.length ? lone : null; } },
        paths: line.bars ? bars : line.steps ? steps : line.width === 0 && line.points ? () => null : straight,
      }))],
      ...(shown().some((line) => line.stack) ? { bands: stackBands() } : {}),
      hooks: {
        // Round joins of lines this thin are not seen, and take most of the time of drawing them.
        init: [(self) => { self.ctx.lineJoin = "bevel"; Object.defineProperty(self.ctx, "lineJoin", { get: () => "bevel", set: () => undefined }); }],
        drawClear: [(self) => drawBands(self)],
        draw: [(self) => drawMarks(self)],
        setCursor: [(self) => {
          const { left, top, idx } = self.cursor;
          // Only the plot under the pointer says numbers; the others show the crosshair.
          setTip(idx == null || left == null || left < 0 || !self.over.matches(":hover") ? undefined : { left: left + self.over.offsetLeft, top: (top ?? 0) + self.over.offsetTop, at: idx, marks: (props.marks ?? []).filter((mark) => Math.abs(self.valToPos(mark.time / 1000, "x") - left) < NEAR).slice(0, 6) });
        }],
        setSelect: [(self) => {
          const { left, width } = self.select;
          if (width < 6 || props.zoom === false) return;
          self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          setRange(Math.round(self.posToVal(left, "x") * 1000), Math.round(self.posToVal(left + width, "x") * 1000));
        }],
      },
    };
  };
  const stackBands = (): uPlot.Band[] => {
    const bands: uPlot.Band[] = [];
    const last = new Map<string, number>();
    shown().forEach((line, at) => {
      if (!line.stack) return;
      const key = line.stack + (line.negative ? "-" : "+"), before = last.get(key);
      if (before !== undefined) bands.push({ series: [at + 1, before], fill: alpha(line.colour, line.fill ?? 0.5), ...(line.negative ? { dir: 1 as const } : {}) });
      last.set(key, at + 1);
    });
    return bands;
  };
  const drawBands = (self: uPlot) => {
    const bands = props.bands ?? [];
    const { ctx, bbox } = self;
    bands.forEach((band, at) => {
      const low = self.valToPos(Number.isFinite(band.from) ? band.from : (self.scales.y!.min ?? 0), "y", true);
      const next = bands[at + 1];
      const high = next ? self.valToPos(next.from, "y", true) : bbox.top;
      const clamp = (y: number) => Math.min(bbox.top + bbox.height, Math.max(bbox.top, y));
      ctx.save();
      if (band.area) { ctx.fillStyle = alpha(band.colour, 0.1); ctx.fillRect(bbox.left, clamp(high), bbox.width, clamp(low) - clamp(high)); }
      if (band.line && Number.isFinite(band.from) && low === clamp(low)) { ctx.strokeStyle = alpha(band.colour, 0.8); ctx.setLineDash([6, 4]); ctx.beginPath(); ctx.moveTo(bbox.left, low); ctx.lineTo(bbox.left + bbox.width, low); ctx.stroke(); }
      ctx.restore();
    });
  };
  const drawMarks = (self: uPlot) => {
    const { ctx, bbox } = self;
    for (const mark of props.marks ?? []) {
      const x = self.valToPos(mark.time / 1000, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.save();
      const colour = token(MARKS[mark.kind ?? "new"]), size = 4 * (window.devicePixelRatio || 1);
      ctx.strokeStyle = alpha(colour, 0.7); ctx.fillStyle = colour; ctx.setLineDash([3, 3]);
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      // A shape goes with the colour: a triangle begins, a square ends well, a cross does not.
      ctx.setLineDash([]); ctx.beginPath();
      if (mark.kind === "bad") { ctx.strokeStyle = colour; ctx.lineWidth = size / 2; ctx.moveTo(x - size, bbox.top); ctx.lineTo(x + size, bbox.top + 2 * size); ctx.moveTo(x + size, bbox.top); ctx.lineTo(x - size, bbox.top + 2 * size); ctx.stroke(); }
      else if (mark.kind === "good") { ctx.rect(x - size, bbox.top, 2 * size, 2 * size); ctx.fill(); }
      else { ctx.moveTo(x - size, bbox.top); ctx.lineTo(x + size, bbox.top); ctx.lineTo(x, bbox.top + 2 * size); ctx.fill(); }
      ctx.restore();
    }
  };
  const build = () => {
    if (!library || !inside.isConnected) return;
    plot?.destroy();
    setTip(undefined);
    plot = new library(options(library), [data().times, ...data().drawn] as uPlot.AlignedData, inside);
  };
  /// The same lines with newer values need no new plot.
  const shape = createMemo(() => JSON.stringify([dark(), props.height, props.min, props.max, props.log, props.bands, shown().map(({ times: _times, values: _values, ...rest }) => rest)]));
  createEffect(on([ready, shape], () => ready() && build()));
  createEffect(on([data, () => props.range, () => props.marks], () => {
    if (ready() && plot && plot.series.length === data().drawn.length + 1) plot.setData([data().times, ...data().drawn] as uPlot.AlignedData);
  }, { defer: true }));
  onMount(async () => {
    library = await uplot;
    setReady(true);
    const observer = new ResizeObserver(() => {
      const width = Math.max(60, inside.clientWidth), height = Math.max(40, props.height ?? 160);
      // What has its size is not drawn anew.
      if (plot && (plot.width !== width || plot.height !== height)) plot.setSize({ width, height });
    });
    observer.observe(box);
    onCleanup(() => observer.disconnect());
  });
  onCleanup(() => plot?.destroy());

  const columns = () => props.columns ?? ["lastNotNull", "max"];
  const legend = createMemo(() => {
    const rows = props.lines.filter((line) => !line.hideLegend).map((line) => ({ line, values: columns().map((name) => CALCS[name]?.(line.values) ?? null) }));
    const by = sort();
    if (by) {
      const at = columns().indexOf(by[0]);
      rows.sort((a, b) => (by[1] ? -1 : 1) * (at < 0 ? a.line.name.localeCompare(b.line.name) : (a.values[at] ?? -Infinity) - (b.values[at] ?? -Infinity)));
    }
    return rows;
  });
  const toggle = (name: string, event: MouseEvent) => {
    const all = props.lines.map((line) => line.name);
    if (event.ctrlKey || event.metaKey) setOff((old) => { const next = new Set(old); if (!next.delete(name)) next.add(name); return next; });
    else setOff((old) => (old.size === all.length - 1 && !old.has(name) ? new Set<string>() : new Set<string>(all.filter((one) => one !== name))));
  };
  const hovered = createMemo(() => {
    const at = tip()?.at;
    if (at === undefined) return [];
    const rows = shown().map((line, place) => ({ line, value: data().values[place]?.[at] })).filter((row) => row.value != null);
    return rows.sort((a, b) => b.value! - a.value!).slice(0, 12);
  });
  const sorter = (name: string) => () => setSort((old) => (old?.[0] === name ? [name, !old[1]] : [name, true]));
  const summary = () => `${t("plot.label", { name: props.name })}: ${props.lines.slice(0, 5).map((line) => { const value = CALCS.lastNotNull!(line.values); return `${line.name} ${value === null ? "-" : (line.format ?? format())(value)}`; }).join(", ")}${marked()}`;
  const marked = () => { const seen = (props.marks ?? []).filter((mark) => mark.time >= props.range.from && mark.time <= props.range.to); return seen.length ? `. ${t("plot.marks")}: ${seen.slice(-8).map((mark) => mark.words).join(", ")}` : ""; };

  return (
    <div class="plot" ref={box}>
      <div ref={inside} role="img" aria-label={summary()} style={{ "min-height": `${props.height ?? 160}px` }} onDblClick={() => setRange("now-1h", "now")} />
      <Show when={tip() && hovered().length > 0}>
        <div class="plot-tip" style={{ left: `${Math.min(tip()!.left + 14, Math.max(0, box.clientWidth - 240))}px`, top: `${Math.max(0, tip()!.top - 10)}px` }}>
          <strong>{new Date((data().times[tip()!.at] ?? 0) * 1000).toLocaleString()}</strong>
          <For each={tip()!.marks}>{(mark) => <div class={`state ${mark.kind ?? "new"}`} style={{ "white-space": "normal" }}><Shape kind={mark.kind ?? "new"} /><span>{mark.words}</span></div>}</For>
          <For each={hovered()}>{(row) => <div><i style={{ background: row.line.colour }} /><span class="cut grow">{row.line.name}</span><span class="num">{(row.line.format ?? format())(row.value!)}</span></div>}</For>
        </div>
      </Show>
      <Show when={props.legend}>
        <div class="legend" tabindex="0" role="group" aria-label={t("plot.series")} style={props.legendHeight ? { "max-height": `${props.legendHeight}px` } : {}}>
          <Show when={props.legend !== "list"} fallback={<div class="row" style={{ gap: "0 12px", padding: "0 8px" }}><For each={legend()}>{(row) => <button aria-pressed={!off().has(row.line.name)} style={{ opacity: off().has(row.line.name) ? 0.6 : 1 }} onClick={(event) => toggle(row.line.name, event)}><i style={{ background: row.line.colour }} /><span class="cut">{row.line.name}</span></button>}</For></div>}>
          <table>
            <thead><tr>
              <th><button onClick={sorter("")}>{t("plot.series")}</button></th>
              <For each={columns()}>{(name) => <th class="num"><button style={{ "margin-left": "auto" }} onClick={sorter(name)}>{CALC_WORDS[name]?.() ?? name}</button></th>}</For>
            </tr></thead>
            <tbody><For each={legend()}>{(row) => (
              <tr classList={{ off: off().has(row.line.name) }}>
                <td><button aria-pressed={!off().has(row.line.name)} onClick={(event) => toggle(row.line.name, event)}><i style={{ background: row.line.colour }} /><span class="cut" title={row.line.name}>{row.line.name}</span></button></td>
                <For each={row.values}>{(value) => <td class="num">{value === null ? "-" : (row.line.format ?? format())(value)}</td>}</For>
              </tr>)}</For></tbody>
          </table></Show>
        </div>
      </Show>
    </div>
  );
}

function timeLabel(at: number, increment: number): string {
  const date = new Date(at * 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  if (increment >= 86400 || (date.getHours() === 0 && date.getMinutes() === 0)) return `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return increment < 60 ? `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}` : `${two(date.getHours())}:${two(date.getMinutes())}`;
}

/// A colour with a share of it, for canvases.
export function alpha(colour: string, share: number): string {
  const hex = /^#([0-9a-f]{6})$/i.exec(colour);
  if (hex) return `${colour}${Math.round(share * 255).toString(16).padStart(2, "0")}`;
  const rgb = /^rgba?\(([^)]+)\)$/.exec(colour);
  if (rgb) return `rgba(${rgb[1]!.split(",").slice(0, 3).join(",")},${share})`;
  return colour;
}
