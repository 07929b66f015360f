/// One object: state in words, then tabs that keep their place in the address.
import { createMemo, createSignal, For, lazy, Match, Show, Suspense, Switch } from "solid-js";
import { bytes, cores, exact, quantity } from "../format";
import { kindRow, objectPath, pageOf } from "../kube/kinds";
import { patch, remove } from "../kube/client";
import { podState, workloadState, type State as Stated } from "../kube/status";
import type { ContainerSpec, Pod, Workload } from "../kube/types";
import { watch } from "../kube/watch";
import { Age, Confirm, Fresh, Note, Wrong } from "../parts/Small";
import { Events } from "../parts/Events";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import Plot from "../parts/Plot";
import { withGaps } from "../plot-data";
import { coloursOf } from "../colours";
import { queryRange, repeated } from "../prometheus";
import { marksOf } from "../marks";
import { isLive, range, refresh, step } from "../range";
import { go, href, parts } from "../router";
import { has } from "../session";
import { t, tn, type Key } from "../words";
import { podColumns, podUsage, type Row } from "./Workloads";
import { onCleanup } from "solid-js";

const Logs = lazy(() => import("../parts/Logs"));
const Terminal = lazy(() => import("../parts/Terminal"));
const Yaml = lazy(() => import("../parts/Yaml"));

export default function Detail() {
  const [, kindName, namespace, name] = parts() as [string, string, string, string];
  const kind = kindRow(kindName);
  if (!kind) return <Note words={t("error.page")} />;
  const base = `/workloads/${kindName}/${namespace}/${name}`;
  const path = objectPath(kind, namespace, name);
  const found = watch<Pod & Workload>(`${kind.base}/namespaces/${encodeURIComponent(namespace)}/${kind.name}?fieldSelector=${encodeURIComponent(`metadata.name=${name}`)}`);
  const it = createMemo(() => found.items()[0]);
  const state = createMemo<Stated | undefined>(() => { const thing = it(); return thing && (kind.name === "pods" ? podState(thing as Pod) : workloadState(kind.name, thing as Workload)); });
  const tab = () => parts()[4] ?? "overview";
  const [asking, setAsking] = createSignal<"delete" | "restart" | "scale">();
  const [scale, setScale] = createSignal(1);
  const isPod = kind.name === "pods";
  const tabs: [string, Key][] = isPod
    ? [["overview", "pod.overview"], ["logs", "pod.logs"], ["terminal", "pod.terminal"], ["events", "pod.events"], ["yaml", "pod.yaml"]]
    : [["overview", "pod.overview"], ["events", "pod.events"], ["yaml", "pod.yaml"]];
  return (
    <div class="page">
      <header>
        <a href={href(`/workloads/${kindName}`)}>{t(kind.label)}</a><span class="faint">/</span>
        <h1 style={{ "overflow-wrap": "anywhere" }}>{name}</h1><span class="tag">{namespace}</span>
        <Show when={state()}>{(value) => <State state={value()} />}</Show>
        <span class="grow" />
        <Show when={it()}>
          <Show when={kind.scaled}><button class="button" onClick={() => { setScale(it()!.spec.replicas ?? 1); setAsking("scale"); }}>{t("action.scale")}</button></Show>
          <Show when={kind.restarted}><button class="button" onClick={() => setAsking("restart")}>{t("action.restart")}</button></Show>
          <button class="button danger" onClick={() => setAsking("delete")}>{t("action.delete")}</button>
        </Show>
      </header>
      <Show when={state()?.detail}><p class={state()!.kind === "bad" ? "wrong" : "soft"}>{state()!.detail}{state()!.next ? ` ${state()!.next}` : ""}</p></Show>
      <Fresh of={found} />
      <nav class="tabs" aria-label={name}><For each={tabs}>{([id, label]) => <a href={href(id === "overview" ? base : `${base}/${id}`)} aria-current={tab() === id ? "page" : undefined}>{t(label)}</a>}</For></nav>
      <Show when={found.phase() !== "loading"} fallback={<div class="shape" style={{ height: "240px" }} />}>
        <Show when={it()} fallback={<div class="card"><Note words={t("pod.gone")} /></div>}>
          <Suspense fallback={<div class="shape" style={{ height: "320px" }} />}>
            <Switch>
              <Match when={tab() === "logs" && isPod}><Logs pod={it() as Pod} /></Match>
              <Match when={tab() === "terminal" && isPod}><Terminal pod={it() as Pod} /></Match>
              <Match when={tab() === "events"}><Events uid={it()!.metadata.uid} namespace={namespace} name={name} /></Match>
              <Match when={tab() === "yaml"}><Yaml path={path} name={`${kind.singular}/${name}`} version={it()!.metadata.resourceVersion ?? ""} /></Match>
              <Match when={isPod}><PodOverview pod={it() as Pod} /></Match>
              <Match when={true}><WorkloadOverview it={it() as Workload} kind={kind.name} /></Match>
            </Switch>
          </Suspense>
        </Show>
      </Show>
      <Switch>
        <Match when={asking() === "delete"}>
          <Confirm title={t("action.delete")} danger name={name} what={isPod ? tn("action.deletePod", 1) : t("action.deleteWorkload")} command={`kubectl delete ${kind.singular} -n ${namespace} ${name}`}
            act={async () => { await remove(path, { propagationPolicy: "Background" }); go(`/workloads/${kindName}`); }} onClose={() => setAsking(undefined)} />
        </Match>
        <Match when={asking() === "restart"}>
          <Confirm title={t("action.restart")} what={t("action.restartWhat")} command={`kubectl rollout restart ${kind.singular} -n ${namespace} ${name}`}
            act={() => patch(path, { spec: { template: { metadata: { annotations: { "kubectl.kubernetes.io/restartedAt": new Date().toISOString() } } } } }, "application/strategic-merge-patch+json")} onClose={() => setAsking(undefined)} />
        </Match>
        <Match when={asking() === "scale"}>
          <Confirm title={t("action.scale")} what={`${kind.singular}/${name}`} command={`kubectl scale ${kind.singular} -n ${namespace} ${name} --replicas=${scale()}`}
            extra={<label><span>{t("action.scaleTo")}</span><input class="field num" type="number" min="0" max="1000" value={scale()} onInput={(event) => setScale(Math.max(0, Number(event.currentTarget.value)))} /></label>}
            act={() => patch(`${path}/scale`, { spec: { replicas: scale() } })} onClose={() => setAsking(undefined)} />
        </Match>
      </Switch>
    </div>
  );
}

const Labels = (props: { labels: Record<string, string> | undefined }) => (
  <div class="row" style={{ gap: "4px" }}><For each={Object.entries(props.labels ?? {})}>{([key, value]) => <span class="tag mono" title={`${key}=${value}`}>{key}={value}</span>}</For></div>
);

function Resources(props: { spec: ContainerSpec }) {
  const words = (of: Record<string, string> | undefined) => [of?.cpu && `${t("yard.cpu")} ${cores(quantity(of.cpu))}`, of?.memory && `${t("yard.memory")} ${bytes(quantity(of.memory))}`].filter(Boolean).join(", ") || "-";
  return <><dt>{t("pod.requests")}</dt><dd>{words(props.spec.resources?.requests)}</dd><dt>{t("pod.limits")}</dt><dd>{words(props.spec.resources?.limits)}</dd></>;
}

function PodOverview(props: { pod: Pod }) {
  const pod = () => props.pod;
  const owner = () => pod().metadata.ownerReferences?.[0];
  const status = (name: string) => [...(pod().status?.containerStatuses ?? []), ...(pod().status?.initContainerStatuses ?? [])].find((one) => one.name === name);
  const said = (name: string): Stated => {
    const one = status(name)?.state;
    if (one?.running) return { kind: status(name)!.ready ? "good" : "warn", word: status(name)!.ready ? t("state.running") : t("state.notReady") };
    if (one?.terminated) return { kind: one.terminated.exitCode ? "bad" : "idle", word: one.terminated.exitCode ? t("state.exit", { code: one.terminated.exitCode }) : t("state.completed") };
    return { kind: "new", word: one?.waiting?.reason ?? t("state.creating"), ...(one?.waiting?.message ? { detail: one.waiting.message } : {}) };
  };
  return (
    <div class="stack">
      <Show when={has("metrics")}><Usage namespace={pod().metadata.namespace!} selector={`pod="${pod().metadata.name}"`} by="container" /></Show>
      <section class="card"><div class="body" style={{ "padding-top": "12px" }}><dl class="facts">
        <dt>{t("pod.node")}</dt><dd>{pod().spec.nodeName ? <a href={href(`/?q=node:${pod().spec.nodeName}`)}>{pod().spec.nodeName}</a> : "-"}</dd>
        <dt>{t("pod.address")}</dt><dd class="mono">{pod().status?.podIP ?? "-"}</dd>
        <dt>{t("pod.started")}</dt><dd>{exact(pod().status?.startTime)} <span class="soft">(<Age time={pod().status?.startTime} />)</span></dd>
        <dt>{t("pod.owner")}</dt><dd>{(() => { const link = pageOf(owner()?.kind, pod().metadata.namespace, owner()?.name); return link ? <a href={href(link)}>{owner()!.kind} {owner()!.name}</a> : owner() ? `${owner()!.kind} ${owner()!.name}` : "-"; })()}</dd>
        <dt>{t("pod.account")}</dt><dd>{pod().spec.serviceAccountName ?? "-"}</dd>
        <dt>{t("pod.qos")}</dt><dd>{pod().status?.qosClass ?? "-"}</dd>
        <Show when={Object.keys(pod().metadata.labels ?? {}).length}><dt>{t("pod.labels")}</dt><dd><Labels labels={pod().metadata.labels} /></dd></Show>
      </dl></div></section>
      <section class="card"><header><h2>{t("pod.containers")}</h2></header>
        <For each={[...(pod().spec.initContainers ?? []), ...pod().spec.containers]}>{(spec) => (
          <div class="body" style={{ "border-top": "1px solid var(--line)", "padding-top": "12px" }}>
            <div class="row" style={{ "margin-bottom": "6px" }}><h3>{spec.name}</h3><State state={said(spec.name)} />
              <Show when={status(spec.name)?.restartCount}><span class="tag">{tn("yard.restarts", status(spec.name)!.restartCount)}</span></Show>
              <a class="end" href={href(`/workloads/pods/${pod().metadata.namespace}/${pod().metadata.name}/logs?container=${spec.name}`)}>{t("pod.logs")}</a></div>
            <dl class="facts">
              <dt>{t("pod.image")}</dt><dd class="mono">{spec.image}</dd>
              <dt>{t("pod.ports")}</dt><dd class="mono">{(spec.ports ?? []).map((port) => `${port.containerPort}/${port.protocol ?? "TCP"}${port.name ? ` ${port.name}` : ""}`).join(", ") || "-"}</dd>
              <Resources spec={spec} />
              <Show when={status(spec.name)?.lastState?.terminated}>{(last) => <><dt>{t("pod.last")}</dt><dd>{t("state.exit", { code: last().exitCode })} {last().reason ?? ""} <span class="soft"><Age time={last().finishedAt} /></span></dd></>}</Show>
            </dl></div>)}</For></section>
      <Conditions all={pod().status?.conditions} />
    </div>
  );
}

const Conditions = (props: { all: { type: string; status: string; reason?: string; message?: string; lastTransitionTime?: string }[] | undefined }) => (
  <Show when={props.all?.length}><section class="card"><header><h2>{t("pod.conditions")}</h2></header>
    <div class="table" style={{ border: 0 }} tabindex="0" role="group" aria-label={t("pod.conditions")}><table><tbody><For each={props.all}>{(one) => <tr><td>{one.type}</td><td>{one.status}</td><td>{one.reason}</td><td>{one.message}</td><td class="num"><Age time={one.lastTransitionTime} /></td></tr>}</For></tbody></table></div></section></Show>
);

function WorkloadOverview(props: { it: Workload; kind: string }) {
  const it = () => props.it;
  const labels = () => it().spec.selector?.matchLabels ?? (props.kind === "jobs" ? { "batch.kubernetes.io/job-name": it().metadata.name } : undefined);
  const namespace = it().metadata.namespace!;
  const selector = labels() ? Object.entries(labels()!).map(([key, value]) => `${key}=${value}`).join(",") : "none=none";
  const pods = watch<Pod>(`/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(selector)}`);
  const usage = podUsage(() => namespace);
  const rows = createMemo(() => pods.items().map((pod): Row => ({ thing: pod, pod, state: podState(pod), ...usage.value()?.get(`${namespace}/${pod.metadata.name}`) })));
  return (
    <div class="stack">
      <Show when={has("metrics") && props.kind !== "cronjobs"}><Usage namespace={namespace} selector={`pod=~"${it().metadata.name.replace(/[.\\]/g, "\\\\$&")}-.*"`} by="pod" /></Show>
      <section class="card"><div class="body" style={{ "padding-top": "12px" }}><dl class="facts">
        <Show when={it().spec.schedule}><dt>{t("col.schedule")}</dt><dd class="mono">{it().spec.schedule}</dd></Show>
        <Show when={it().spec.replicas !== undefined}><dt>{t("pod.replicas")}</dt><dd>{it().status?.readyReplicas ?? 0} / {it().spec.replicas}</dd></Show>
        <dt>{t("pod.image")}</dt><dd class="mono">{((it().spec.template ?? it().spec.jobTemplate?.spec?.template)?.spec.containers ?? []).map((one) => one.image).join(", ")}</dd>
        <Show when={it().spec.strategy?.type ?? it().spec.updateStrategy?.type}><dt>{t("pod.strategy")}</dt><dd>{it().spec.strategy?.type ?? it().spec.updateStrategy?.type}</dd></Show>
        <Show when={it().metadata.annotations?.["deployment.kubernetes.io/revision"]}><dt>{t("pod.generation")}</dt><dd>{it().metadata.annotations!["deployment.kubernetes.io/revision"]}</dd></Show>
        <dt>{t("pod.created")}</dt><dd>{exact(it().metadata.creationTimestamp)} <span class="soft">(<Age time={it().metadata.creationTimestamp} />)</span></dd>
        <dt>{t("pod.selector")}</dt><dd><Labels labels={labels()} /></dd>
        <Show when={Object.keys(it().metadata.labels ?? {}).length}><dt>{t("pod.labels")}</dt><dd><Labels labels={it().metadata.labels} /></dd></Show>
      </dl></div></section>
      <Show when={props.kind !== "cronjobs"}>
        <h2>{t("pod.pods")}</h2>
        <Table id="pods-of" label={t("pod.pods")} rows={rows()} columns={podColumns(false)} key={(row) => row.thing.metadata.uid} name={(row) => row.thing.metadata.name} loading={pods.phase() === "loading"} empty={<Note words={t("state.scaledDown")} />} />
      </Show>
      <Conditions all={it().status?.conditions} />
    </div>
  );
}

/// CPU and memory, a line a container or pod.
function Usage(props: { namespace: string; selector: string; by: "container" | "pod" }) {
  const marks = marksOf(() => props.namespace);
  const every = createMemo(() => step(range(), 420));
  const timer = setInterval(() => { if (isLive() && !document.hidden) refresh(); }, 15_000);
  onCleanup(() => clearInterval(timer));
  const at = () => `{namespace="${props.namespace}",${props.selector},container!=""}`;
  const plots = [
    { title: "col.cpu" as Key, expression: () => `sum by (${props.by}) (rate(container_cpu_usage_seconds_total${at()}[2m]))`, format: cores },
    { title: "col.memory" as Key, expression: () => `sum by (${props.by}) (container_memory_working_set_bytes${at()})`, format: bytes },
  ];
  return (
    <div class="plots" style={{ "grid-template-columns": "repeat(auto-fit, minmax(min(320px, 100%), 1fr))" }}><For each={plots}>{(plot) => {
      const answer = repeated((signal) => queryRange(plot.expression(), range(), every(), signal), () => 0);
      const lines = createMemo(() => {
        const series = answer.value() ?? [];
        const names = series.map((one) => one.labels[props.by] ?? "");
        const colours = coloursOf(names);
        return series.map((one, place) => ({ name: names[place]!, colour: colours[place]!, ...withGaps(one, every()) }));
      });
      return <section class="card"><header><h2>{t(plot.title)}</h2></header><div class="body"><Wrong error={answer.error()} /><Plot name={t(plot.title)} lines={lines()} range={range()} min={0} format={plot.format} height={130} legend={lines().length > 1} marks={marks()} /></div></section>;
    }}</For></div>
  );
}
