/// Asks a panel's queries and makes frames of the answers.
import { queryInstant, queryRange } from "../prometheus";
import { step, type Range } from "../range";
import type { Panel } from "./model";
import { asTable, frame, fromSamples, fromSeries, type Frame } from "./frame";
import { filtersOf, replaced, withFilters, type Scope } from "./variables";
import { moment } from "../range";

/// Seconds of a span such as `1m30s`, or undefined.
export function seconds(text: string | undefined): number | undefined {
  if (!text) return undefined;
  const sizes: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31557600 };
  let sum = 0;
  for (const part of text.replace(/^>/, "").matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w|y)/g)) sum += Number(part[1]) * sizes[part[2]!]!;
  return sum || undefined;
}

/// Series of one panel at most: more make a page that nobody can read and no browser draws.
const SERIES = 500;

/// The panel's own time: a shorter range, or one shifted back.
export function ownRange(panel: Panel, range: Range): Range {
  let { from, to } = range;
  if (panel.timeFrom) from = moment(`now-${panel.timeFrom.replace(/^now-?/, "")}`, to) ?? from;
  const shift = seconds(panel.timeShift) ?? 0;
  return { from: from - shift * 1000, to: to - shift * 1000 };
}

export interface Ran { frames: Frame[]; step: number; range: Range; cut: boolean }

export async function run(panel: Panel, scope: Scope, width: number, signal: AbortSignal): Promise<Ran> {
  const range = ownRange(panel, scope.range);
  const targets = (panel.targets ?? []).filter((target) => !target.hide && target.expr?.trim());
  const least = seconds(panel.interval ? replaced(panel.interval, scope) : undefined) ?? 15;
  // As many points as the panel asks for, else one a pixel; Prometheus gives 11,000 at most.
  const every = step(range, Math.min(11_000, panel.maxDataPoints ?? Math.max(60, width)), least);
  const filters = filtersOf(scope.variables);
  let cut = false;
  const answers = await Promise.all(targets.map(async (target): Promise<Frame[]> => {
    const own = Math.max(every, seconds(target.interval ? replaced(target.interval, scope) : undefined) ?? 0) * (target.intervalFactor && target.intervalFactor > 1 ? target.intervalFactor : 1);
    const within: Scope = { ...scope, range, interval: own };
    const expression = await withFilters(replaced(target.expr!, within, true), filters);
    const refId = target.refId ?? "A";
    const format = target.legendFormat === undefined ? undefined : replaced(target.legendFormat, within);
    // Old dashboards ask for a range unless they say instant.
    const instant = target.instant === true && target.range !== true;
    if (instant) {
      const samples = await queryInstant(expression, range.to, signal);
      if (samples.length > 5000) cut = true;
      const kept = samples.slice(0, 5000);
      return target.format === "table" ? [asTable(kept.map((one) => ({ ...one, value: Number.isNaN(one.value) ? null : one.value })), refId, targets.length > 1)] : fromSamples(kept, refId, format, expression);
    }
    let series = await queryRange(expression, range, own, signal);
    if (series.length > SERIES) { cut = true; series = series.slice(0, SERIES); }
    if (target.format === "table") return [asTable(series.flatMap((one) => one.times.map((time, at) => ({ labels: one.labels, time, value: one.values[at]! }))), refId, targets.length > 1)];
    if (target.format === "heatmap") return buckets(fromSeries(series, refId, format, expression));
    return fromSeries(series, refId, format, expression);
  }));
  return { frames: answers.flat(), step: every, range, cut };
}

const bound = (of: Frame) => { const text = of.fields[1]?.labels?.le ?? of.name; return text === "+Inf" ? Infinity : Number(text); };

/// Cumulative buckets of a histogram, each less the one before.
export function buckets(frames: Frame[]): Frame[] {
  const sorted = [...frames].sort((a, b) => bound(a) - bound(b));
  return sorted.map((of, at) => {
    const before = sorted[at - 1];
    if (!before || !of.fields[1]?.labels?.le) return of;
    const lower = new Map(before.fields[0]!.values.map((time, row) => [time, before.fields[1]!.values[row]]));
    const values = of.fields[1]!.values.map((value, row) => (typeof value === "number" ? Math.max(0, value - Number(lower.get(of.fields[0]!.values[row]) ?? 0)) : value));
    return frame(of.refId, of.name, [of.fields[0]!, { ...of.fields[1]!, values }]);
  });
}
