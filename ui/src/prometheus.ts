/// Questions to Prometheus' API. Answers are typed arrays, ready for plots.
import { createEffect, createSignal, onCleanup, untrack, type Accessor } from "solid-js";
import { columns, COLUMNS } from "./columns";
import { answered, Refused, send } from "./kube/client";
import type { Range } from "./range";

export type Labels = Record<string, string>;
export interface Series { labels: Labels; times: number[]; values: (number | null)[] }
export interface Sample { labels: Labels; time: number; value: number; text?: string }
interface Answer { data: { resultType: string; result: never } }

const form = (fields: Record<string, string | number>) =>
  new URLSearchParams(Object.entries(fields).map(([name, value]) => [name, String(value)])).toString();
const FORM = "application/x-www-form-urlencoded";
const ask = async (path: string, fields: Record<string, string | number>, signal?: AbortSignal) => (await send("POST", `/prometheus/api/v1/${path}`, form(fields), FORM, signal)) as Answer;

export async function queryRange(expression: string, range: Range, step: number, signal?: AbortSignal): Promise<Series[]> {
  // Points lie on multiples of the step, so that a plot that moves on keeps its points.
  const start = Math.floor(range.from / 1000 / step) * step;
  const end = Math.max(start, Math.floor(range.to / 1000 / step) * step);
  const response = await answered("POST", "/prometheus/api/v1/query_range", form({ query: expression, start, end, step }), FORM, signal, `${COLUMNS}, application/json;q=0.9`);
  if (response.headers.get("content-type") === COLUMNS) return columns(await response.arrayBuffer(), step);
  // Other servers, and histograms, come as JSON.
  const answer = (await response.json()) as Answer;
  let times: number[] = [];
  return (answer.data.result as { metric: Labels; values: [number, string][] }[]).map(({ metric, values }) => {
    // Series of one question mostly have the same times, at every step: those are kept once.
    const first = values[0]?.[0], last = values.at(-1)?.[0];
    const whole = first !== undefined && last !== undefined && Math.abs(last - first - (values.length - 1) * step) < step / 2;
    if (!whole || times.length !== values.length || times[0] !== first || times.at(-1) !== last) times = values.map(([time]) => time);
    return { labels: metric, times, values: values.map(([, value]) => number(value)) };
  });
}

export async function queryInstant(expression: string, time: number, signal?: AbortSignal): Promise<Sample[]> {
  const { data } = await ask("query", { query: expression, time: time / 1000 }, signal);
  if (data.resultType === "scalar" || data.resultType === "string") {
    const [at, text] = data.result as unknown as [number, string];
    return [{ labels: {}, time: at, value: Number(text), text }];
  }
  return (data.result as { metric: Labels; value?: [number, string]; histogram?: [number, { sum: string }] }[])
    .filter((one) => one.value)
    .map(({ metric, value }) => ({ labels: metric, time: value![0], value: parse(value![1]) }));
}

const parse = (text: string) => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));
/// A gap where there is no number.
const number = (text: string) => {
  const value = parse(text);
  return Number.isFinite(value) ? value : null;
};

export async function labelValues(label: string, match: string | undefined, range: Range): Promise<string[]> {
  const fields: Record<string, string | number> = { start: range.from / 1000, end: range.to / 1000 };
  if (match) fields["match[]"] = match;
  const answer = (await send("GET", `/prometheus/api/v1/label/${encodeURIComponent(label)}/values?${form(fields)}`)) as { data: string[] };
  return answer.data;
}

export async function labelNames(match: string | undefined): Promise<string[]> {
  const answer = (await send("GET", `/prometheus/api/v1/labels${match ? `?${form({ "match[]": match })}` : ""}`)) as { data: string[] };
  return answer.data;
}

/// Runs `work` now and every `seconds` while the page is looked at and the caller is shown; its answer, and its error.
export function repeated<T>(work: (signal: AbortSignal) => Promise<T>, seconds: Accessor<number>): { value: Accessor<T | undefined>; error: Accessor<string | undefined>; again: () => void } {
  const [value, setValue] = createSignal<T>();
  const [error, setError] = createSignal<string>();
  const [turn, setTurn] = createSignal(0);
  let running: AbortController | undefined;
  createEffect(() => {
    turn();
    running?.abort();
    const own = (running = new AbortController());
    work(own.signal).then(
      (answer) => {
        if (own.signal.aborted) return;
        setValue(() => answer);
        setError(undefined);
      },
      (failed: unknown) => {
        if (!own.signal.aborted) setError(failed instanceof Refused || failed instanceof Error ? failed.message : String(failed));
      },
    );
  });
  createEffect(() => {
    const every = seconds();
    if (every <= 0) return;
    const timer = setInterval(() => {
      if (!document.hidden) setTurn(untrack(turn) + 1);
    }, every * 1000);
    onCleanup(() => clearInterval(timer));
  });
  onCleanup(() => running?.abort());
  return { value, error, again: () => setTurn(untrack(turn) + 1) };
}
