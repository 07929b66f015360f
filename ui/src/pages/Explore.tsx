/// Explore: queries in PromQL with completion, drawn and listed. The queries stand in the address.
import { createMemo, For, lazy, onCleanup, Show, Suspense } from "solid-js";
import { coloursOf } from "../colours";
import { short } from "../format";
import Plot from "../parts/Plot";
import { withGaps } from "../plot-data";
import { Note, Wrong } from "../parts/Small";
import { queryInstant, queryRange, repeated, type Labels } from "../prometheus";
import { isLive, range, refresh, step } from "../range";
import { params, query, setQuery } from "../router";
import { t, tn } from "../words";

const Promql = lazy(() => import("../parts/Promql"));
const EXAMPLES = ['sum by (namespace) (rate(container_cpu_usage_seconds_total{container!=""}[5m]))', "histogram_quantile(0.99, sum by (le, verb) (rate(apiserver_request_duration_seconds_bucket[5m])))", "sum by (phase) (kube_pod_status_phase)", "up"];
/// Series that are drawn at most: more tell nobody anything, and the table has them all.
const DRAWN = 200;

export const seriesName = (labels: Labels, without: readonly string[] = []) => {
  const { __name__: name = "", ...rest } = labels;
  const pairs = Object.entries(rest).filter(([key]) => !without.includes(key)).map(([key, value]) => `${key}="${value}"`).join(", ");
  return pairs ? `${name}{${pairs}}` : name || "{}";
};

export default function Explore() {
  const queries = () => { const all = params().getAll("expr"); return all.length ? all : [""]; };
  const set = (at: number, text: string) => setQuery({ expr: queries().map((one, place) => (place === at ? text : one)) }, false);
  const every = createMemo(() => step(range(), 900));
  const asked = createMemo(() => queries().filter((one) => one.trim()).join("\u0000"));
  const table = () => query("view") === "table";
  const timer = setInterval(() => { if (isLive() && !document.hidden && asked()) refresh(); }, 15_000);
  onCleanup(() => clearInterval(timer));
  const answer = repeated(async (signal) => {
    const expressions = asked().split("\u0000").filter(Boolean), within = range(), size = every(), at = performance.now();
    const [series, samples] = table()
      ? [[], (await Promise.all(expressions.map((one) => queryInstant(one, within.to, signal)))).flat()]
      : [(await Promise.all(expressions.map((one) => queryRange(one, within, size, signal)))).flat(), []];
    return { series, samples, took: performance.now() - at, step: size, range: within };
  }, () => 0);
  const lines = createMemo(() => {
    const series = (answer.value()?.series ?? []).slice(0, DRAWN);
    // Labels that all have in common name nothing.
    const first = series[0]?.labels ?? {};
    const same = series.length > 1 ? Object.keys(first).filter((key) => key !== "__name__" && series.every((one) => one.labels[key] === first[key])) : [];
    const names = series.map((one) => seriesName(one.labels, same));
    const colours = coloursOf(names);
    return series.map((one, at) => ({ name: names[at]!, colour: colours[at]!, ...withGaps(one, answer.value()!.step) }));
  });
  return (
    <div class="page">
      <header><h1>{t("explore.title")}</h1></header>
      <div class="stack" style={{ gap: "8px" }}>
        <For each={queries().map((_, at) => at)}>{(at) => (
          <div class="row" style={{ "flex-wrap": "nowrap", "align-items": "flex-start" }}>
            <Suspense fallback={<div class="shape grow" style={{ height: "30px" }} />}><Promql value={queries()[at] ?? ""} onRun={(text) => { if (text !== queries()[at]) set(at, text); else answer.again(); }} label={`${t("explore.query")} ${at + 1}`} /></Suspense>
            <Show when={queries().length > 1}><button class="button" aria-label={t("explore.remove")} title={t("explore.remove")} onClick={() => setQuery({ expr: queries().filter((_, place) => place !== at) }, false)}>×</button></Show>
          </div>)}</For>
        <div class="row">
          <button class="button primary" onClick={() => { refresh(); answer.again(); }}>{t("action.run")}</button>
          <button class="button" onClick={() => setQuery({ expr: [...queries(), "vector(1)"] }, false)}>{t("explore.add")}</button>
          <span class="grow" />
          <Show when={answer.value() && asked()}><span class="soft small" role="status">{tn("explore.series", table() ? answer.value()!.samples.length : answer.value()!.series.length)} · {t("explore.took", { time: `${short(answer.value()!.took)} ms` })}</span></Show>
          <div class="row" role="group" aria-label={t("explore.title")} style={{ gap: "4px" }}>
            <button class="button" aria-pressed={!table()} onClick={() => setQuery({ view: "" })}>{t("explore.graph")}</button>
            <button class="button" aria-pressed={table()} onClick={() => setQuery({ view: "table" })}>{t("explore.table")}</button></div>
        </div>
      </div>
      <Wrong error={answer.error()} />
      <Show when={asked()} fallback={<div class="card"><div class="note"><p>{t("explore.empty")}</p><ul class="stack" style={{ gap: "4px" }}><For each={EXAMPLES}>{(one) => <li><button class="button mono" style={{ "white-space": "normal", "text-align": "left" }} onClick={() => set(0, one)}>{one}</button></li>}</For></ul></div></div>}>
        <Show when={!table()} fallback={<Samples samples={answer.value()?.samples ?? []} />}>
          <Show when={lines().length || !answer.value()} fallback={<Show when={!answer.error()}><div class="card"><Note words={t("explore.none")} /></div></Show>}>
            <section class="card"><div class="body" style={{ "padding-top": "12px" }}><Plot name={t("explore.title")} lines={lines()} range={answer.value()?.range ?? range()} height={360} legend legendHeight={280} columns={["lastNotNull", "min", "mean", "max"]} /></div></section>
          </Show></Show></Show>
    </div>
  );
}

function Samples(props: { samples: { labels: Labels; value: number }[] }) {
  const keys = createMemo(() => [...new Set(props.samples.flatMap((one) => Object.keys(one.labels)))].sort());
  return (
    <div class="table fill" tabindex="0" role="group" aria-label={t("explore.table")}><table>
      <thead><tr><For each={keys()}>{(key) => <th>{key}</th>}</For><th class="num">{t("col.value")}</th></tr></thead>
      <tbody><For each={props.samples.slice(0, 1000)}>{(one) => <tr><For each={keys()}>{(key) => <td><span class="cut" title={one.labels[key]}>{one.labels[key] ?? ""}</span></td>}</For><td class="num" title={String(one.value)}>{short(one.value, 6)}</td></tr>}</For></tbody>
    </table></div>
  );
}
