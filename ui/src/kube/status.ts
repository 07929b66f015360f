/// State in words: what kubectl says in codes, with what to do next.
import { t, type Key } from "../words";
import type { Condition, Node, Pod, Workload } from "./types";

export type Kind = "good" | "warn" | "bad" | "new" | "idle";
export interface State { kind: Kind; word: string; detail?: string; next?: string }

const state = (kind: Kind, word: string, detail?: string, next?: Key): State => ({
  kind, word, ...(detail ? { detail } : {}), ...(next ? { next: t(next) } : {}),
});
const condition = (all: Condition[] | undefined, type: string) => all?.find((one) => one.type === type);
/// A node that takes a moment to say it is not ready yet is no failure.
const GRACE = 30_000;

/// Reasons of waiting containers, as the kubelet gives them.
function waiting(reason: string, message: string | undefined, restarts: number, last: number | undefined): State {
  const seen = message ?? reason;
  switch (reason) {
    case "ContainerCreating": case "PodInitializing": return state("new", t("state.creating"));
    case "ErrImagePull": case "ImagePullBackOff": case "RegistryUnavailable": case "ErrImageNeverPull":
      return state("bad", t("state.imagePull"), seen, "next.imagePull");
    case "InvalidImageName": return state("bad", t("state.imageName"), seen, "next.imagePull");
    case "CrashLoopBackOff":
      return state("bad", t("state.crash"), [last === undefined ? "" : t("state.exit", { code: last }), restarts ? `${restarts}×` : ""].filter(Boolean).join(", "), "next.crash");
    case "CreateContainerConfigError": return state("bad", t("state.config"), seen, "next.config");
    default: return state("bad", t("state.start"), seen, "next.failed");
  }
}

/// What to say of a pod.
export function podState(pod: Pod): State {
  const status = pod.status;
  if (pod.metadata.deletionTimestamp) return state("idle", t("state.deleting"));
  if (status?.reason === "Evicted") return state("bad", t("state.evicted"), status.message);
  if (status?.reason === "NodeLost") return state("bad", t("state.nodeLost"), status.message, "next.node");
  const init = status?.initContainerStatuses ?? [];
  const specs = pod.spec.initContainers ?? [];
  for (const one of init) {
    const sidecar = specs.find((spec) => spec.name === one.name)?.restartPolicy === "Always";
    if (one.state?.terminated?.exitCode === 0 || (sidecar && one.started)) continue;
    if (one.state?.waiting?.reason && one.state.waiting.reason !== "PodInitializing")
      return waiting(one.state.waiting.reason, one.state.waiting.message, one.restartCount, one.lastState?.terminated?.exitCode);
    if (one.state?.terminated) return state("bad", t("state.exit", { code: one.state.terminated.exitCode }), one.name, "next.failed");
    if (one.state?.running) return state("new", t("state.init", { done: init.indexOf(one), all: init.length }));
  }
  if (status?.phase === "Succeeded") return state("idle", t("state.completed"));
  const containers = status?.containerStatuses ?? [];
  for (const one of containers) {
    if (one.state?.waiting?.reason) {
      const wait = one.state.waiting;
      if (one.lastState?.terminated?.reason === "OOMKilled") return state("bad", t("state.oom"), one.name, "next.oom");
      return waiting(wait.reason!, wait.message, one.restartCount, one.lastState?.terminated?.exitCode);
    }
    const ended = one.state?.terminated;
    if (ended?.reason === "OOMKilled") return state("bad", t("state.oom"), one.name, "next.oom");
    if (ended && ended.exitCode !== 0) return state("bad", t("state.exit", { code: ended.exitCode }), ended.message ?? one.name, "next.failed");
  }
  if (status?.phase === "Failed") return state("bad", t("state.failed"), status.message ?? status.reason, "next.failed");
  if (status?.phase === "Pending") {
    const placed = condition(status.conditions, "PodScheduled");
    if (placed?.status === "False" && placed.reason === "Unschedulable") return state("bad", t("state.noNode"), placed.message, "next.noNode");
    return pod.spec.nodeName ? state("new", t("state.creating")) : state("new", t("state.waiting"));
  }
  const ready = condition(status?.conditions, "Ready");
  if (status?.phase === "Running" && ready?.status !== "True") {
    const young = Date.now() - Date.parse(ready?.lastTransitionTime ?? pod.metadata.creationTimestamp ?? "") < GRACE;
    return young ? state("new", t("state.creating")) : state("warn", t("state.notReady"), ready?.message, "next.notReady");
  }
  if (status?.phase === "Running") return state("good", t("state.running"));
  return state("idle", t("state.unknown"));
}

export const restarts = (pod: Pod) => (pod.status?.containerStatuses ?? []).reduce((sum, one) => sum + one.restartCount, 0);
export const readyText = (pod: Pod) => {
  const all = pod.status?.containerStatuses ?? [];
  return `${all.filter((one) => one.ready).length}/${pod.spec.containers.length}`;
};

/// What to say of a node.
export function nodeState(node: Node): State {
  const ready = condition(node.status?.conditions, "Ready");
  if (ready?.status === "Unknown") return state("bad", t("state.nodeLost"), ready.message, "next.node");
  if (ready?.status !== "True") return state("bad", t("state.notReady"), ready?.message, "next.node");
  const pressed = (node.status?.conditions ?? []).filter((one) => one.type.endsWith("Pressure") && one.status === "True");
  if (pressed.length) return state("warn", t("state.pressure", { what: pressed.map((one) => one.type.replace("Pressure", "")).join(", ") }), pressed[0]!.message, "next.node");
  if (node.spec.unschedulable) return state("idle", t("state.cordoned"));
  return state("good", t("state.ready"));
}

/// What to say of a workload of any kind.
export function workloadState(kind: string, it: Workload): State {
  if (it.metadata.deletionTimestamp) return state("idle", t("state.deleting"));
  const status = it.status ?? {};
  if (kind === "jobs") {
    const failed = condition(status.conditions, "Failed");
    if (failed?.status === "True") return state("bad", t("state.failed"), failed.message, "next.failed");
    if (condition(status.conditions, "Complete")?.status === "True") return state("idle", t("state.completed"));
    if (it.spec.suspend) return state("idle", t("state.suspended"));
    return state("new", t("state.active", { n: Number(status.active ?? 0) }));
  }
  if (kind === "cronjobs") {
    if (it.spec.suspend) return state("idle", t("state.suspended"));
    const active = Array.isArray(status.active) ? status.active.length : 0;
    return active ? state("new", t("state.active", { n: active })) : state("good", t("state.scheduled"));
  }
  const wanted = kind === "daemonsets" ? (status.desiredNumberScheduled ?? 0) : (it.spec.replicas ?? 1);
  const ready = (kind === "daemonsets" ? status.numberReady : status.readyReplicas) ?? 0;
  const updated = (kind === "daemonsets" ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0;
  const progress = condition(status.conditions, "Progressing");
  if (progress?.status === "False") return state("bad", t("state.stuck"), progress.message, "next.stuck");
  if (wanted === 0 && ready === 0) return state("idle", t("state.scaledDown"));
  const old = (status.observedGeneration ?? 0) < (it.metadata.generation ?? 0);
  if (kind !== "replicasets" && (old || updated < wanted)) return state("new", t("state.rolling", { done: Math.min(updated, ready), all: wanted }));
  if (ready < wanted) return state("warn", t("state.partly", { done: ready, all: wanted }), condition(status.conditions, "ReplicaFailure")?.message, "next.stuck");
  return state("good", t("state.available"));
}
