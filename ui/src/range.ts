/// The time range of the address: `from` and `to` as Grafana writes them, `now-1h` or milliseconds.
import { createMemo, createSignal } from "solid-js";
import { query, setQuery } from "./router";

const [tick, setTick] = createSignal(Date.now());

/// Milliseconds of `now-6h/d`, a number or a date; undefined if it is none of these.
export function moment(text: string, now: number, end = false): number | undefined {
  const trimmed = text.trim();
  if (/^\d{9,}$/.test(trimmed)) return Number(trimmed);
  const found = /^now((?:[+-]\d+[smhdwMy])*)(?:\/([smhdwMy]))?$/.exec(trimmed);
  if (!found) {
    const date = Date.parse(trimmed);
    return Number.isNaN(date) ? undefined : date;
  }
  const at = new Date(now);
  for (const step of found[1]?.matchAll(/([+-]\d+)([smhdwMy])/g) ?? []) {
    const n = Number(step[1]);
    if (step[2] === "M") at.setMonth(at.getMonth() + n);
    else if (step[2] === "y") at.setFullYear(at.getFullYear() + n);
    else at.setTime(at.getTime() + n * (SIZES[step[2]!] ?? 0) * 1000);
  }
  return found[2] ? rounded(at, found[2], end) : at.getTime();
}

const SIZES: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

function rounded(at: Date, unit: string, end: boolean): number {
  const start = new Date(at);
  start.setMilliseconds(0);
  if ("mhdwMy".includes(unit)) start.setSeconds(0);
  if ("hdwMy".includes(unit)) start.setMinutes(0);
  if ("dwMy".includes(unit)) start.setHours(0);
  if (unit === "w") start.setDate(start.getDate() - start.getDay());
  if (unit === "M" || unit === "y") start.setDate(1);
  if (unit === "y") start.setMonth(0);
  if (!end) return start.getTime();
  const after = new Date(start);
  if (unit === "M") after.setMonth(after.getMonth() + 1);
  else if (unit === "y") after.setFullYear(after.getFullYear() + 1);
  else after.setTime(after.getTime() + (SIZES[unit] ?? 0) * 1000);
  return after.getTime() - 1;
}

export type Range = { from: number; to: number };
const [fallback, setFallback] = createSignal<[string, string]>(["now-1h", "now"]);
/// A dashboard brings its own range, for addresses that name none.
export const setDefaultRange = (from: string, to: string) => setFallback([from, to]);
export const rangeText = (): [string, string] => [query("from") || fallback()[0], query("to") || fallback()[1]];

export const range = createMemo<Range>(() => {
  const now = tick();
  const [from, to] = rangeText();
  const end = moment(to, now, true) ?? now;
  const start = moment(from, now) ?? end - 3_600_000;
  return { from: Math.min(start, end - 1000), to: end };
});
export const isLive = () => rangeText()[1].startsWith("now");

/// Moves "now" forward.
export const refresh = () => setTick(Date.now());
export const setRange = (from: string | number, to: string | number) => setQuery({ from: String(from), to: String(to) }, false);

/// Seconds between points when `width` pixels are to be filled.
export function step(within: Range, width = 600, least = 15): number {
  const raw = (within.to - within.from) / 1000 / Math.max(50, width);
  for (const nice of [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400])
    if (nice >= raw && nice >= least) return nice;
  return Math.max(least, Math.ceil(raw / 86400) * 86400);
}
