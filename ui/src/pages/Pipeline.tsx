/// One pipeline: its runs, what starts them, and a start by hand.
import { createMemo, createSignal, For, lazy, Match, Show, Suspense, Switch } from "solid-js";
import { ageSeconds, exact, now, span } from "../format";
import { patch, remove } from "../kube/client";
import { branchName, causeWords, pipelinesPath, runsOf, runState, shortCommit, title, took, type Pipeline as It, type Run, type Triggers } from "../kube/pipelines";
import { watch } from "../kube/watch";
import { Events } from "../parts/Events";
import { Age, Confirm, Fresh, Note } from "../parts/Small";
import { StartRun } from "../parts/StartRun";
import { State } from "../parts/State";
import { Table, type Column } from "../parts/Table";
import { go, href, parts } from "../router";
import { t, tn, type Key } from "../words";
import { Bars, pipelineState } from "./Pipelines";

const Yaml = lazy(() => import("../parts/Yaml"));

export default function Pipeline() {
  const [, namespace, name] = parts() as [string, string, string];
  const path = `${pipelinesPath(namespace)}/${encodeURIComponent(name)}`;
  const found = watch<It>(`${pipelinesPath(namespace)}?fieldSelector=${encodeURIComponent(`metadata.name=${name}`)}`);
  const runs = watch<Run>(runsOf(namespace, name));
  const it = createMemo(() => found.items()[0]);
  const newest = createMemo(() => [...runs.items()].sort((a, b) => (b.status?.number ?? Infinity) - (a.status?.number ?? Infinity) || Date.parse(b.metadata.creationTimestamp ?? "") - Date.parse(a.metadata.creationTimestamp ?? ""))[0]);
  const state = createMemo(() => (it() ? pipelineState(it()!, newest()) : undefined));
  const base = `/pipeline/${namespace}/${name}`;
  const tab = () => parts()[3] ?? "runs";
  const tabs: [string, Key][] = [["runs", "pipeline.runs"], ["events", "pod.events"], ["yaml", "pod.yaml"]];
  const [asking, setAsking] = createSignal<"start" | "suspend" | "delete">();
  const suspended = () => it()?.spec.suspend === true;
  return (
    <div class="page">
      <header>
        <a href={href("/pipelines")}>{t("nav.pipelines")}</a><span class="faint">/</span>
        <h1 style={{ "overflow-wrap": "anywhere" }}>{name}</h1><span class="tag">{namespace}</span>
        <Show when={state()}>{(value) => <State state={value()} />}</Show>
        <Bars runs={runs.items()} tight />
        <span class="grow" />
        <Show when={it()}>
          <button class="button primary" onClick={() => setAsking("start")}>{t("pipeline.start")}</button>
          <button class="button" onClick={() => setAsking("suspend")}>{suspended() ? t("pipeline.resume") : t("pipeline.suspend")}</button>
          <button class="button danger" onClick={() => setAsking("delete")}>{t("action.delete")}</button>
        </Show>
      </header>
      <Show when={it()?.spec.description}><p class="soft">{it()!.spec.description}</p></Show>
      <Show when={it()?.status?.message}><p class="wrong">{it()!.status!.message}</p></Show>
      <Fresh of={found} />
      <nav class="tabs" aria-label={name}><For each={tabs}>{([id, label]) => <a href={href(id === "runs" ? base : `${base}/${id}`)} aria-current={tab() === id ? "page" : undefined}>{t(label)}</a>}</For></nav>
      <Show when={found.phase() !== "loading"} fallback={<div class="shape" style={{ height: "240px" }} />}>
        <Show when={it()} fallback={<div class="card"><Note words={t("pod.gone")} /></div>}>
          <Suspense fallback={<div class="shape" style={{ height: "320px" }} />}>
            <Switch>
              <Match when={tab() === "events"}><Events uid={it()!.metadata.uid} namespace={namespace} name={name} /></Match>
              <Match when={tab() === "yaml"}><Yaml path={path} name={`pipeline/${name}`} version={it()!.metadata.resourceVersion ?? ""} /></Match>
              <Match when={true}><Facts it={it()!} /><Runs runs={runs.items()} loading={runs.phase() === "loading"} /></Match>
            </Switch>
          </Suspense>
        </Show>
      </Show>
      <Show when={asking() === "start" && it()}>{(one) => <StartRun pipeline={one()} onClose={() => setAsking(undefined)} />}</Show>
      <Show when={asking() === "suspend"}><Confirm title={suspended() ? t("pipeline.resume") : t("pipeline.suspend")} what={suspended() ? t("pipeline.resumeWhat") : t("pipeline.suspendWhat")} command={`kubectl patch pipeline -n ${namespace} ${name} --type=merge -p '{"spec":{"suspend":${!suspended()}}}'`} act={() => patch(path, { spec: { suspend: !suspended() } })} onClose={() => setAsking(undefined)} /></Show>
      <Show when={asking() === "delete"}><Confirm title={t("action.delete")} danger name={name} what={tn("pipeline.deleteWhat", runs.items().length)} command={`kubectl delete pipeline -n ${namespace} ${name}`} act={async () => { await remove(path, { propagationPolicy: "Background" }); go("/pipelines"); }} onClose={() => setAsking(undefined)} /></Show>
    </div>
  );
}

/// What starts runs, in words.
function started(...all: (Triggers | undefined)[]): string[] {
  return all.flatMap((one) => [
    ...(one?.cron ?? []).map((when) => t("pipeline.cron", { when })), ...(one?.poll ?? []).map((when) => t("pipeline.poll", { when })),
    ...(one?.upstream ?? []).map((other) => t("pipeline.after", { name: other.pipeline })), ...(one?.webhook ? [t("pipeline.webhook")] : []),
  ]);
}

function Facts(props: { it: It }) {
  const it = () => props.it;
  return (
    <section class="card"><div class="body" style={{ "padding-top": "12px" }}><dl class="facts">
      <Show when={it().spec.repository}><dt>{t("repo.single")}</dt><dd><a href={href(`/pipelines/repositories?q=${encodeURIComponent(it().spec.repository!.name)}`)}>{it().spec.repository!.name}</a></dd></Show>
      <Show when={it().spec.git}><dt>{t("repo.single")}</dt><dd class="mono">{it().spec.git!.url}</dd></Show>
      <dt>{t("pipeline.script")}</dt><dd class="mono">{it().spec.script ? t("pipeline.inline") : (it().spec.scriptPath ?? "Jenkinsfile")}</dd>
      <Show when={it().spec.branches?.length}><dt>{t("repo.branches")}</dt><dd class="mono">{it().spec.branches!.join(", ")}</dd></Show>
      <dt>{t("pipeline.triggers")}</dt><dd>{[...(it().spec.repository && it().spec.triggers?.push !== false ? [t("pipeline.push")] : []), ...started(it().spec.triggers, it().status?.triggers)].join(", ") || t("pipeline.byHand")}</dd>
      <dt>{t("pod.account")}</dt><dd class="mono">{it().spec.serviceAccountName ?? "default"}</dd>
    </dl></div></section>
  );
}

function Runs(props: { runs: readonly Run[]; loading: boolean }) {
  const length = (row: Run) => took(row.status ?? {}, now());
  const columns: Column<Run>[] = [
    { id: "number", label: "run.number", number: true, first: true, sort: (row) => -(row.status?.number ?? Infinity), cell: (row) => <a data-row={row.metadata.uid} href={href(`/run/${row.metadata.namespace}/${row.metadata.name}`)}>{title(row)}</a> },
    { id: "state", label: "col.state", sort: (row) => runState(row).word, text: (row) => `${runState(row).word} ${runState(row).kind}`, cell: (row) => <State state={runState(row)} /> },
    { id: "branch", label: "run.branch", sort: (row) => row.status?.branch ?? row.spec.branch ?? "", cell: (row) => branchName(row.status?.branch ?? row.spec.branch) || "-", narrow: false },
    { id: "commit", label: "run.commit", text: (row) => row.status?.commit ?? "", cell: (row) => <span class="mono" title={row.status?.commit}>{shortCommit(row.status?.commit) || "-"}</span>, narrow: false },
    { id: "cause", label: "run.cause", text: causeWords, cell: (row) => <span title={causeWords(row)}>{causeWords(row)}</span>, narrow: false },
    { id: "tests", label: "run.tests", number: true, sort: (row) => row.status?.tests?.failed ?? -1, cell: (row) => (row.status?.tests?.total ? <span classList={{ "state bad": (row.status.tests.failed ?? 0) > 0 }}>{row.status.tests.failed ? t("run.testsFailed", { failed: row.status.tests.failed, all: row.status.tests.total }) : String(row.status.tests.total)}</span> : "-"), narrow: false },
    { id: "message", label: "col.message", text: (row) => row.status?.message ?? "", cell: (row) => <span class="soft" title={row.status?.message}>{row.status?.message ?? row.status?.now ?? ""}</span>, narrow: false },
    { id: "took", label: "run.took", number: true, sort: (row) => length(row) ?? -1, cell: (row) => (length(row) === undefined ? "-" : span(length(row)! / 1000)) },
    { id: "age", label: "col.age", number: true, sort: (row) => ageSeconds(row.metadata.creationTimestamp), text: (row) => exact(row.metadata.creationTimestamp), cell: (row) => <Age time={row.metadata.creationTimestamp} /> },
  ];
  return <Table id="runs" label={t("pipeline.runs")} rows={props.runs} columns={columns} key={(row) => row.metadata.uid} name={(row) => row.metadata.name} labels={(row) => row.metadata.labels} loading={props.loading} empty={<Note words={t("pipeline.noRuns")} />} />;
}
