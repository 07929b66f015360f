/// Workloads: a tab a kind, rows with state in words; pods with what they use now.
import { createMemo, createSignal, For, Show } from "solid-js";
import { age, ageSeconds, bytes, cores } from "../format";
import { KINDS, kindRow, listPath, objectPath } from "../kube/kinds";
import { remove } from "../kube/client";
import { podState, readyText, restarts, workloadState, type State as Stated } from "../kube/status";
import type { Pod, Thing, Workload } from "../kube/types";
import { watch } from "../kube/watch";
import { Age, Confirm, Fresh, Note } from "../parts/Small";
import { State } from "../parts/State";
import { Table, type Column } from "../parts/Table";
import { queryInstant, repeated } from "../prometheus";
import { href, parts, query } from "../router";
import { has } from "../session";
import { t, tn } from "../words";

export interface Row { thing: Thing; state: Stated; pod?: Pod; workload?: Workload; cpu?: number; memory?: number }

/// What pods use now, by namespace and name.
export function podUsage(namespace: () => string) {
  return repeated(async (signal) => {
    const usage = new Map<string, { cpu?: number; memory?: number }>();
    if (!has("metrics")) return usage;
    const only = namespace() ? `,namespace="${namespace()}"` : "";
    const [cpu, memory] = await Promise.all([
      queryInstant(`sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{container!="",pod!=""${only}}[2m]))`, Date.now(), signal),
      queryInstant(`sum by (namespace, pod) (container_memory_working_set_bytes{container!="",pod!=""${only}})`, Date.now(), signal),
    ]);
    const at = (labels: Record<string, string>) => {
      const key = `${labels.namespace}/${labels.pod}`;
      if (!usage.has(key)) usage.set(key, {});
      return usage.get(key)!;
    };
    cpu.forEach((one) => { at(one.labels).cpu = one.value; });
    memory.forEach((one) => { at(one.labels).memory = one.value; });
    return usage;
  }, () => (has("metrics") ? 15 : 0));
}

export const podColumns = (withNamespace: boolean): Column<Row>[] => [
  { id: "name", label: "col.name", first: true, sort: (row) => row.thing.metadata.name, cell: (row) => <a data-row={row.thing.metadata.uid} href={href(`/workloads/pods/${row.thing.metadata.namespace}/${row.thing.metadata.name}`)}>{row.thing.metadata.name}</a> },
  ...(withNamespace ? [{ id: "namespace", label: "col.namespace", sort: (row: Row) => row.thing.metadata.namespace ?? "", cell: (row: Row) => row.thing.metadata.namespace, narrow: false } as Column<Row>] : []),
  { id: "state", label: "col.state", sort: (row) => row.state.word, text: (row) => `${row.state.word} ${row.state.kind}`, cell: (row) => <State state={row.state} /> },
  { id: "ready", label: "col.ready", number: true, cell: (row) => readyText(row.pod!), narrow: false },
  { id: "restarts", label: "col.restarts", number: true, sort: (row) => restarts(row.pod!), cell: (row) => restarts(row.pod!) || "0", narrow: false },
  ...(has("metrics") ? [
    { id: "cpu", label: "col.cpu", number: true, sort: (row: Row) => row.cpu ?? -1, cell: (row: Row) => (row.cpu === undefined ? "-" : cores(row.cpu)) } as Column<Row>,
    { id: "memory", label: "col.memory", number: true, sort: (row: Row) => row.memory ?? -1, cell: (row: Row) => (row.memory === undefined ? "-" : bytes(row.memory)) } as Column<Row>,
  ] : []),
  { id: "node", label: "col.node", sort: (row) => row.pod!.spec.nodeName ?? "", cell: (row) => row.pod!.spec.nodeName ?? "-", narrow: false },
  { id: "ip", label: "col.ip", hidden: true, sort: (row) => row.pod!.status?.podIP ?? "", cell: (row) => <span class="mono">{row.pod!.status?.podIP ?? "-"}</span> },
  { id: "images", label: "col.images", hidden: true, text: (row) => row.pod!.spec.containers.map((one) => one.image).join(" "), cell: (row) => <span class="mono">{row.pod!.spec.containers.map((one) => one.image).join(", ")}</span> },
  { id: "age", label: "col.age", number: true, sort: (row) => ageSeconds(row.thing.metadata.creationTimestamp), text: (row) => age(row.thing.metadata.creationTimestamp), cell: (row) => <Age time={row.thing.metadata.creationTimestamp} /> },
];

const workloadColumns = (kind: string, withNamespace: boolean): Column<Row>[] => {
  const containers = (row: Row) => (row.workload!.spec.template ?? row.workload!.spec.jobTemplate?.spec?.template)?.spec.containers ?? [];
  const ready = (row: Row) => {
    const status = row.workload!.status ?? {};
    if (kind === "jobs") return `${status.succeeded ?? 0}/${row.workload!.spec.completions ?? 1}`;
    if (kind === "daemonsets") return `${status.numberReady ?? 0}/${status.desiredNumberScheduled ?? 0}`;
    return `${status.readyReplicas ?? 0}/${row.workload!.spec.replicas ?? 1}`;
  };
  return [
    { id: "name", label: "col.name", first: true, sort: (row) => row.thing.metadata.name, cell: (row) => <a data-row={row.thing.metadata.uid} href={href(`/workloads/${kind}/${row.thing.metadata.namespace}/${row.thing.metadata.name}`)}>{row.thing.metadata.name}</a> },
    ...(withNamespace ? [{ id: "namespace", label: "col.namespace", sort: (row: Row) => row.thing.metadata.namespace ?? "", cell: (row: Row) => row.thing.metadata.namespace, narrow: false } as Column<Row>] : []),
    { id: "state", label: "col.state", sort: (row) => row.state.word, text: (row) => `${row.state.word} ${row.state.kind}`, cell: (row) => <State state={row.state} /> },
    ...(kind === "cronjobs" ? [
      { id: "schedule", label: "col.schedule", cell: (row: Row) => <span class="mono">{row.workload!.spec.schedule}</span> } as Column<Row>,
      { id: "lastRun", label: "col.lastRun", number: true, sort: (row: Row) => row.workload!.status?.lastScheduleTime ?? "", cell: (row: Row) => <Age time={row.workload!.status?.lastScheduleTime} /> } as Column<Row>,
    ] : [{ id: "ready", label: "col.ready", number: true, cell: ready } as Column<Row>]),
    { id: "images", label: "col.images", text: (row) => containers(row).map((one) => one.image).join(" "), cell: (row) => <span class="mono">{containers(row).map((one) => one.image).join(", ")}</span>, narrow: false },
    { id: "age", label: "col.age", number: true, sort: (row) => ageSeconds(row.thing.metadata.creationTimestamp), cell: (row) => <Age time={row.thing.metadata.creationTimestamp} /> },
  ];
};

export default function Workloads() {
  const kind = () => kindRow(parts()[1] ?? "pods") ?? KINDS[0]!;
  return (
    <div class="page">
      <header><h1>{t("nav.workloads")}</h1></header>
      <nav class="tabs" aria-label={t("nav.workloads")}>
        <For each={KINDS}>{(one) => <a href={href(`/workloads/${one.name}`)} aria-current={kind().name === one.name ? "page" : undefined}>{t(one.label)}</a>}</For>
      </nav>
      <Show when={`${kind().name}/${query("ns")}`} keyed><List /></Show>
    </div>
  );
}

function List() {
  const kind = kindRow(parts()[1] ?? "pods") ?? KINDS[0]!;
  const namespace = query("ns");
  const things = watch<Thing>(listPath(kind, namespace));
  const usage = kind.name === "pods" ? podUsage(() => namespace) : undefined;
  const [deleting, setDeleting] = createSignal<Row[]>();
  const rows = createMemo(() => things.items().map((thing): Row => {
    if (kind.name !== "pods") return { thing, workload: thing as Workload, state: workloadState(kind.name, thing as Workload) };
    const used = usage?.value()?.get(`${thing.metadata.namespace}/${thing.metadata.name}`);
    return { thing, pod: thing as Pod, state: podState(thing as Pod), ...used };
  // ReplicaSets of revisions gone by say nothing.
  }).filter((row) => kind.name !== "replicasets" || (row.workload!.spec.replicas ?? 0) > 0));
  const columns = kind.name === "pods" ? podColumns(!namespace) : workloadColumns(kind.name, !namespace);
  const command = kind.name === "pods" ? "kubectl run hello --image=registry.madang.internal/hello" : `kubectl create ${kind.singular === "job" ? "job hello" : "deployment hello"} --image=registry.madang.internal/hello`;
  return (
    <>
      <Fresh of={things} />
      <Table id={kind.name} label={t(kind.label)} rows={rows()} columns={columns} key={(row) => row.thing.metadata.uid} name={(row) => `${row.thing.metadata.namespace}/${row.thing.metadata.name}`} labels={(row) => row.thing.metadata.labels}
        loading={things.phase() === "loading"} empty={<Note words={kind.name === "pods" ? t("empty.pods") : t("empty.workloads")} command={command} />}
        actions={(chosen) => <button class="button danger" onClick={() => setDeleting(chosen)}>{t("action.delete")}</button>} />
      <Show when={deleting()}>{(chosen) => (
        <Confirm title={t("action.delete")} danger name={chosen().length === 1 ? chosen()[0]!.thing.metadata.name : String(chosen().length)}
          what={kind.name === "pods" ? tn("action.deletePod", chosen().length) : t("action.deleteWorkload")}
          command={chosen().slice(0, 20).map((row) => `kubectl delete ${kind.singular} -n ${row.thing.metadata.namespace} ${row.thing.metadata.name}`).join("\n") + (chosen().length > 20 ? "\n..." : "")}
          act={() => Promise.all(chosen().map((row) => remove(objectPath(kind, row.thing.metadata.namespace!, row.thing.metadata.name), { propagationPolicy: "Background" })))}
          onClose={() => setDeleting(undefined)} />)}</Show>
    </>
  );
}

