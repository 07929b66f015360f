/// One release: its steps as a track, what its metrics say and why, the traffic of both versions, and what a person may do.
import { createMemo, createSignal, For, lazy, Match, onCleanup, Show, Suspense, Switch } from "solid-js";
import { coloursOf } from "../colours";
import { exact, latency, percent, short } from "../format";
import { patch, remove } from "../kube/client";
import { filled, isOver, RELEASES, releasePath, releaseState, track, verdictState, waitsForApproval, type Release as It, type Stop } from "../kube/releases";
import { watch } from "../kube/watch";
import { Events } from "../parts/Events";
import Plot from "../parts/Plot";
import { Age, Confirm, Fresh, Note, Wrong } from "../parts/Small";
import { Shape, State } from "../parts/State";
import { withGaps } from "../plot-data";
import { queryRange, repeated } from "../prometheus";
import { isLive, range, refresh, step } from "../range";
import { go, href, parts } from "../router";
import { has } from "../session";
import { t, tn, type Key } from "../words";

const Yaml = lazy(() => import("../parts/Yaml"));
type Ask = "approve" | "pause" | "resume" | "promote" | "abort" | "delete";

/// What each action changes, and the same for a command line.
const CHANGES: Record<Exclude<Ask, "delete">, (it: It) => Record<string, unknown>> = {
  approve: (it) => ({ approvedStep: it.status?.step ?? 1 }), pause: () => ({ paused: true }), resume: () => ({ paused: false }), promote: () => ({ promote: true }), abort: () => ({ abort: true }),
};

export default function Release() {
  const [, namespace, name] = parts() as [string, string, string];
  const path = releasePath(namespace, name);
  const found = watch<It>(`${RELEASES}/namespaces/${encodeURIComponent(namespace)}/releases?fieldSelector=${encodeURIComponent(`metadata.name=${name}`)}`);
  const it = createMemo(() => found.items()[0]);
  const state = createMemo(() => (it() ? releaseState(it()!) : undefined));
  const base = `/releases/${namespace}/${name}`;
  const tab = () => parts()[3] ?? "overview";
  const tabs: [string, Key][] = [["overview", "pod.overview"], ["events", "pod.events"], ["yaml", "pod.yaml"]];
  const [asking, setAsking] = createSignal<Ask>();
  const actions = createMemo((): Ask[] => (!it() || isOver(it()!) ? [] : [...(waitsForApproval(it()!) ? ["approve" as const] : []), it()!.spec.paused ? "resume" : "pause", "promote", "abort"]));
  const change = () => CHANGES[asking() as Exclude<Ask, "delete">](it()!);
  return (
    <div class="page">
      <header>
        <a href={href("/releases")}>{t("nav.releases")}</a><span class="faint">/</span>
        <h1 style={{ "overflow-wrap": "anywhere" }}>{name}</h1><span class="tag">{namespace}</span>
        <Show when={state()}>{(value) => <State state={value()} />}</Show>
        <span class="grow" />
        <For each={actions()}>{(one) => <button class="button" classList={{ primary: one === "approve", danger: one === "abort" }} onClick={() => setAsking(one)}>{t(`release.do.${one}` as Key)}</button>}</For>
        <Show when={it() && isOver(it()!)}><button class="button danger" onClick={() => setAsking("delete")}>{t("action.delete")}</button></Show>
      </header>
      <Show when={state()?.detail}><p class={state()!.kind === "bad" ? "wrong" : "soft"} style={{ "overflow-wrap": "anywhere" }}>{state()!.detail}{state()!.next ? ` ${state()!.next}` : ""}</p></Show>
      <Fresh of={found} />
      <nav class="tabs" aria-label={name}><For each={tabs}>{([id, label]) => <a href={href(id === "overview" ? base : `${base}/${id}`)} aria-current={tab() === id ? "page" : undefined}>{t(label)}</a>}</For></nav>
      <Show when={found.phase() !== "loading"} fallback={<div class="shape" style={{ height: "240px" }} />}>
        <Show when={it()} fallback={<div class="card"><Note words={t("pod.gone")} /></div>}>
          <Suspense fallback={<div class="shape" style={{ height: "320px" }} />}>
            <Switch fallback={<Overview it={it()!} />}>
              <Match when={tab() === "events"}><Events uid={it()!.metadata.uid} namespace={namespace} name={name} /></Match>
              <Match when={tab() === "yaml"}><Yaml path={path} name={`release/${name}`} version={it()!.metadata.resourceVersion ?? ""} /></Match>
            </Switch>
          </Suspense>
        </Show>
      </Show>
      <Show when={asking() && asking() !== "delete" && it()}>
        <Confirm title={t(`release.do.${asking()!}` as Key)} danger={asking() === "abort"} {...(asking() === "abort" ? { name } : {})}
          what={t(`release.what.${asking()!}` as Key, { canary: it()!.spec.canary.name, stable: it()!.spec.stable.name, step: it()!.status?.step ?? 1 })}
          command={`kubectl patch release -n ${namespace} ${name} --type=merge -p '${JSON.stringify({ spec: change() })}'`}
          act={() => patch(path, { spec: change() })} onClose={() => setAsking(undefined)} />
      </Show>
      <Show when={asking() === "delete"}>
        <Confirm title={t("action.delete")} danger name={name} what={t("release.what.delete")} command={`kubectl delete release -n ${namespace} ${name}`} act={async () => { await remove(path); go("/releases"); }} onClose={() => setAsking(undefined)} />
      </Show>
    </div>
  );
}

const STOPS: Record<Stop["state"], "good" | "new" | "bad" | "idle"> = { done: "good", now: "new", failed: "bad", next: "idle" };

function Track(props: { it: It }) {
  const weight = () => props.it.status?.weight ?? 0;
  const words = (stop: Stop) => [stop.pause ? t("release.atLeast", { time: stop.pause }) : "", stop.approve ? t("release.asksApproval") : ""].filter(Boolean).join(", ");
  const title = (stop: Stop) => (stop.label === "begin" ? t("release.begin") : stop.label === "end" ? t("release.end") : t("release.stepN", { n: stop.number }));
  return (
    <section class="card"><header><h2>{t("release.steps")}</h2><Show when={props.it.status?.stepBegan && !isOver(props.it)}><span class="soft small end">{t("release.since")} <Age time={props.it.status!.stepBegan} /></span></Show></header>
      <div class="body stack">
        <div class="share" role="img" aria-label={t("release.share", { stable: props.it.spec.stable.name, rest: 100 - weight(), canary: props.it.spec.canary.name, weight: weight() })}>
          <Show when={weight() < 100}><span class="stable" style={{ "flex-grow": 100 - weight() }}><span class="cut">{props.it.spec.stable.name} {100 - weight()}%</span></span></Show>
          <Show when={weight() > 0}><span class="canary" style={{ "flex-grow": weight() }}><span class="cut">{props.it.spec.canary.name} {weight()}%</span></span></Show>
        </div>
        <ol class="track"><For each={track(props.it)}>{(stop) => (
          <li data-stop={stop.state} aria-current={stop.state === "now" ? "step" : undefined}>
            <span class={`state ${STOPS[stop.state]}`}><Shape kind={STOPS[stop.state]} /><strong class="num">{stop.weight}%</strong></span>
            <span class="small">{title(stop)}</span><span class="small soft">{words(stop)}</span><span class="hidden">{t(`release.stop.${stop.state}` as Key)}</span>
          </li>)}</For></ol>
      </div></section>
  );
}

/// What a metric said, its number with as many digits as anybody reads.
const rounded = (message: string | undefined) => (message ?? "-").replace(/^-?\d+\.\d{4,}(?:e-?\d+)?/, (number) => short(Number(number), 3));

function Overview(props: { it: It }) {
  const it = () => props.it;
  const judged = (name: string) => it().status?.metrics?.find((one) => one.name === name);
  return (
    <div class="stack">
      <Track it={it()} />
      <section class="card"><header><h2>{t("release.metrics")}</h2></header>
        <Show when={it().spec.metrics?.length} fallback={<p class="body soft">{t("release.noMetrics")}</p>}>
          <ul class="list"><For each={it().spec.metrics}>{(metric) => (
            <li data-metric={metric.name}>
              <div class="row" style={{ gap: "4px 16px" }}><strong>{metric.name}</strong><State state={verdictState(judged(metric.name))} />
                <span class="soft small">{t("release.wells")} <span class="num">{t("yard.of", { used: Math.min(judged(metric.name)?.successes ?? 0, metric.successes ?? 1), all: metric.successes ?? 1 })}</span></span>
                <span class="small" classList={{ soft: !judged(metric.name)?.failures, "state bad": (judged(metric.name)?.failures ?? 0) > 0 }}>{t("release.wrongs")} <span class="num">{t("yard.of", { used: judged(metric.name)?.failures ?? 0, all: metric.failures ?? 1 })}</span></span>
                <Show when={judged(metric.name)?.unknowns}><span class="soft small">{tn("release.unknowns", judged(metric.name)!.unknowns!)}</span></Show>
                <span class="soft small end"><Show when={judged(metric.name)?.asked} fallback={t("release.notAsked")}>{t("release.asked")} <Age time={judged(metric.name)!.asked} /></Show></span></div>
              <Show when={judged(metric.name)?.message}><p class="small" title={judged(metric.name)!.message}><span class="soft">{t("release.why")}:</span> {rounded(judged(metric.name)!.message)}</p></Show>
              <For each={[["release.failsWhen", metric.failure], ["release.wellWhen", metric.success]] as [Key, string | undefined][]}>{([label, question]) => <Show when={question}><p class="small soft">{t(label)} <a class="mono" href={href(`/explore?expr=${encodeURIComponent(filled(question!, it()).trim())}`)}>{filled(question!, it()).trim()}</a></p></Show>}</For>
            </li>)}</For></ul></Show></section>
      <Show when={has("metrics")}><Traffic it={it()} /></Show>
      <section class="card"><div class="body" style={{ "padding-top": "12px" }}><dl class="facts">
        <dt>{t("release.route")}</dt><dd>{it().spec.route.name}{it().spec.route.rule ? `, ${it().spec.route.rule}` : ""}</dd>
        <dt>{t("release.stable")}</dt><dd class="mono">{it().spec.stable.name}:{it().spec.stable.port}</dd>
        <dt>{t("release.canary")}</dt><dd class="mono">{it().spec.canary.name}:{it().spec.canary.port}</dd>
        <dt>{t("pod.started")}</dt><dd>{exact(it().status?.began) || "-"}</dd>
        <Show when={it().status?.ended}><dt>{t("release.ended")}</dt><dd>{exact(it().status!.ended)}</dd></Show>
      </dl></div></section>
    </div>
  );
}

/// Requests and errors of both versions, as the gateway counts them.
function Traffic(props: { it: It }) {
  const every = createMemo(() => step(range(), 420));
  const timer = setInterval(() => { if (isLive() && !document.hidden) refresh(); }, 15_000);
  onCleanup(() => clearInterval(timer));
  const at = () => `namespace="${props.it.metadata.namespace}",service=~"${props.it.spec.stable.name}|${props.it.spec.canary.name}"`;
  const plots = [
    { title: "release.requests" as Key, expression: () => `sum by (service) (rate(gateway_requests_total{${at()}}[1m]))`, format: (value: number) => `${short(value)}/s` },
    { title: "release.errors" as Key, expression: () => `(sum by (service) (rate(gateway_requests_total{${at()},code=~"5.."}[1m])) or 0 * sum by (service) (rate(gateway_requests_total{${at()}}[1m]))) / (sum by (service) (rate(gateway_requests_total{${at()}}[1m])) > 0)`, format: percent },
    { title: "release.latency" as Key, expression: () => `histogram_quantile(0.95, sum by (service, le) (rate(gateway_request_duration_seconds_bucket{${at()}}[1m])))`, format: latency },
  ];
  /// Where it stood when.
  const marks = createMemo(() => [
    ...(props.it.status?.began ? [{ time: Date.parse(props.it.status.began), words: t("release.mark.began", { name: props.it.metadata.name }) }] : []),
    ...(props.it.status?.ended ? [{ time: Date.parse(props.it.status.ended), words: `${props.it.metadata.name}: ${releaseState(props.it).word}`, kind: props.it.status.phase === "RolledBack" ? "bad" as const : "good" as const }] : []),
  ]);
  return (
    <div class="plots" style={{ "grid-template-columns": "repeat(auto-fit, minmax(min(300px, 100%), 1fr))" }}><For each={plots}>{(plot) => {
      const answer = repeated((signal) => queryRange(plot.expression(), range(), every(), signal), () => 0);
      const lines = createMemo(() => {
        const series = answer.value() ?? [];
        const names = series.map((one) => one.labels.service ?? "");
        const colours = coloursOf([props.it.spec.stable.name, props.it.spec.canary.name]);
        return series.map((one, place) => ({ name: names[place]!, colour: colours[names[place] === props.it.spec.stable.name ? 0 : 1]!, ...withGaps(one, every()) }));
      });
      return <section class="card"><header><h2>{t(plot.title)}</h2></header><div class="body"><Wrong error={answer.error()} /><Plot name={t(plot.title)} lines={lines()} range={range()} min={0} format={plot.format} height={130} legend={lines().length > 1 ? "list" : false} marks={marks()} /></div></section>;
    }}</For></div>
  );
}
