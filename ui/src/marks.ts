/// What changed, on the time axis of plots: when runs and releases began and how they ended, when alerts fired and cleared.
import { createMemo, type Accessor } from "solid-js";
import { isOver, runsPath, runState, shortCommit, title, type Run } from "./kube/pipelines";
import { RELEASES, releaseState, type Release } from "./kube/releases";
import type { Kind } from "./kube/status";
import { watch } from "./kube/watch";
import { queryRange, repeated, type Series } from "./prometheus";
import { range, step, type Range } from "./range";
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

/// Alerts of a page's plots that are marked: more would hide the plots.
const ALERTS = 40;

/// When alerts began to fire and when they cleared, as their samples tell: what began before or still fires has no such end.
export function alertMarks(series: readonly Series[], within: Range, step: number): Mark[] {
  const marks: Mark[] = [];
  for (const { labels, times } of series) {
    const name = [labels.alertname, labels.namespace ?? labels.service ?? labels.instance].filter(Boolean).join(" ");
    times.forEach((time, at) => {
      const before = times[at - 1], after = times[at + 1];
      if ((before === undefined ? time * 1000 - within.from > 2 * step * 1000 : time - before > 1.5 * step)) marks.push({ time: time * 1000, words: t("mark.fires", { name }), kind: labels.severity === "critical" || labels.severity === "page" ? "bad" : "warn" });
      if ((after === undefined ? within.to - time * 1000 > 2 * step * 1000 : after - time > 1.5 * step)) marks.push({ time: (time + step) * 1000, words: t("mark.clears", { name }), kind: "good" });
    });
  }
  return marks.sort((a, b) => a.time - b.time).slice(-ALERTS);
}

/// Marks of a namespace, or of all where none is named.
export function marksOf(namespace: Accessor<string>): Accessor<Mark[]> {
  const within = (base: string, plural: string) => (namespace() ? `${base}/namespaces/${encodeURIComponent(namespace())}/${plural}` : `${base}/${plural}`);
  const releases = createMemo(() => (has("gateway") && has("metrics") ? watch<Release>(within(RELEASES, "releases")) : undefined));
  const runs = createMemo(() => (has("pipeline") ? watch<Run>(runsPath(namespace())) : undefined));
  const every = createMemo(() => step(range(), 200));
  const fired = repeated(async (signal) => {
    const within = range(), size = every();
    if (!has("metrics")) return [];
    // Alerts of no namespace are everybody's. Where samples cannot be asked for, the plots themselves say so.
    const found = await queryRange(`ALERTS{alertstate="firing",alertname!~"Watchdog|InfoInhibitor"${namespace() ? `,namespace=~"${namespace()}|"` : ""}}`, within, size, signal).catch(() => []);
    return alertMarks(found, within, size);
  }, () => 0);
  return createMemo<Mark[]>(() => [...(fired.value() ?? []), ...(releases()?.items() ?? []).flatMap(releaseMarks), ...(runs()?.items() ?? []).flatMap(runMarks)].sort((a, b) => a.time - b.time), [], { equals: same });
}

/// Plots are drawn anew only for marks that changed.
const same = (a: readonly Mark[], b: readonly Mark[]) => a.length === b.length && a.every((mark, at) => mark.time === b[at]!.time && mark.words === b[at]!.words && mark.kind === b[at]!.kind);
