/// What changed, on the time axis of plots: when runs and releases began and how they ended.
import { createMemo, type Accessor } from "solid-js";
import { isOver, runsPath, runState, shortCommit, title, type Run } from "./kube/pipelines";
import { RELEASES, releaseState, type Release } from "./kube/releases";
import type { Kind } from "./kube/status";
import { watch } from "./kube/watch";
import { has } from "./session";
import { t } from "./words";

export interface Mark { time: number; words: string; kind?: Kind }

/// A release's begin and end.
export function releaseMarks(it: Release): Mark[] {
  const { began, ended, phase } = it.status ?? {};
  const name = `${it.metadata.namespace}/${it.metadata.name}`;
  return [
    ...(began ? [{ time: Date.parse(began), words: t("release.mark.began", { name }), kind: "new" as const }] : []),
    ...(ended ? [{ time: Date.parse(ended), words: `${name}: ${releaseState(it).word}`, kind: phase === "RolledBack" ? "bad" as const : "good" as const }] : []),
  ];
}

/// A run that has ended, by its commit.
export function runMarks(it: Run): Mark[] {
  const { finished, commit } = it.status ?? {};
  if (!finished || !isOver(it)) return [];
  const state = runState(it);
  const name = `${it.metadata.namespace}/${it.spec.pipelineRef.name} ${title(it)}`;
  return [{ time: Date.parse(finished), words: [name, shortCommit(commit), state.word].filter(Boolean).join(" · "), kind: state.kind }];
}

/// Marks of a namespace, or of all where none is named.
export function marksOf(namespace: Accessor<string>): Accessor<Mark[]> {
  const within = (base: string, plural: string) => (namespace() ? `${base}/namespaces/${encodeURIComponent(namespace())}/${plural}` : `${base}/${plural}`);
  const releases = createMemo(() => (has("gateway") && has("metrics") ? watch<Release>(within(RELEASES, "releases")) : undefined));
  const runs = createMemo(() => (has("pipeline") ? watch<Run>(runsPath(namespace())) : undefined));
  return createMemo<Mark[]>(() => [...(releases()?.items() ?? []).flatMap(releaseMarks), ...(runs()?.items() ?? []).flatMap(runMarks)].sort((a, b) => a.time - b.time), [], { equals: same });
}

/// Plots are drawn anew only for marks that changed.
const same = (a: readonly Mark[], b: readonly Mark[]) => a.length === b.length && a.every((mark, at) => mark.time === b[at]!.time && mark.words === b[at]!.words && mark.kind === b[at]!.kind);
