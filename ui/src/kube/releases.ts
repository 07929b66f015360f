/// The kind `Release`: what its pages read, what is said of it, and where it stands on its track. Pure, and tested.
///
/// crates/release/src/definition.yaml says what each field means.
import { t } from "../words";
import type { State } from "./status";
import type { Thing } from "./types";

export const RELEASES = "/apis/madang.dev/v1alpha1";
export interface Backend { name: string; port: number }
export interface Step { weight: number; pause?: string; approve?: boolean }
export interface Metric { name: string; success?: string; failure?: string; interval?: string; delay?: string; successes?: number; failures?: number; unknowns?: number }
export interface Judged { name: string; successes?: number; failures?: number; unknowns?: number; asked?: string; verdict?: "Success" | "Failure" | "Unknown"; message?: string }
export interface Release extends Thing {
  spec: { route: { name: string; rule?: string }; stable: Backend; canary: Backend; steps: Step[]; metrics?: Metric[]; paused?: boolean; abort?: boolean; promote?: boolean; approvedStep?: number };
  status?: { phase?: "Progressing" | "Paused" | "Succeeded" | "RolledBack"; message?: string; step?: number; weight?: number; began?: string; stepBegan?: string; ended?: string; metrics?: Judged[] };
}

export const releasePath = (namespace: string, name: string) => `${RELEASES}/namespaces/${encodeURIComponent(namespace)}/releases/${encodeURIComponent(name)}`;
export const isOver = (it: Release) => it.status?.phase === "Succeeded" || it.status?.phase === "RolledBack";
/// Whether it stands still until somebody approves its step.
export const waitsForApproval = (it: Release) => it.status?.phase === "Paused" && !it.spec.paused && (it.spec.steps[(it.status.step ?? 1) - 1]?.approve ?? false) && (it.spec.approvedStep ?? 0) < (it.status.step ?? 1);

/// What to say of a release.
export function releaseState(it: Release): State {
  const { phase, message, weight = 0 } = it.status ?? {};
  if (it.metadata.deletionTimestamp) return { kind: "idle", word: t("state.deleting") };
  if (phase === "Succeeded") return { kind: "good", word: t("release.succeeded"), ...(message ? { detail: message } : {}) };
  if (phase === "RolledBack") return { kind: "bad", word: t("release.rolledBack"), ...(message ? { detail: message } : {}), next: t("release.nextRolledBack") };
  if (phase === "Paused" && waitsForApproval(it)) return { kind: "warn", word: t("release.waits"), next: t("release.nextApprove") };
  if (phase === "Paused") return { kind: "idle", word: t("release.paused") };
  if (phase === "Progressing" && !it.status?.step) return { kind: "bad", word: t("release.cannot"), ...(message ? { detail: message } : {}) };
  if (phase === "Progressing") return { kind: "new", word: t("release.at", { weight }) };
  return { kind: "new", word: t("release.begins") };
}

export interface Stop { label: "begin" | "step" | "end"; weight: number; state: "done" | "now" | "failed" | "next"; number: number; pause?: string; approve?: boolean }

/// Where it began, its steps, and the end, each with whether it was passed.
export function track(it: Release): Stop[] {
  const { phase, step = 0 } = it.status ?? {};
  const at = (number: number): Stop["state"] => {
    if (phase === "Succeeded") return "done";
    if (number < step) return "done";
    if (number === step) return phase === "RolledBack" ? "failed" : "now";
    return "next";
  };
  return [
    { label: "begin", weight: 0, state: step > 0 ? "done" : "now", number: 0 },
    ...it.spec.steps.map((one, index): Stop => ({ label: "step", weight: one.weight, state: at(index + 1), number: index + 1, ...(one.pause ? { pause: one.pause } : {}), ...(one.approve ? { approve: true } : {}) })),
    { label: "end", weight: 100, state: phase === "Succeeded" ? "done" : "next", number: it.spec.steps.length + 1 },
  ];
}

/// What a metric has said, in words.
export function verdictState(judged: Judged | undefined): State {
  if (judged?.verdict === "Success") return { kind: "good", word: t("release.well") };
  if (judged?.verdict === "Failure") return { kind: "bad", word: t("release.wrong") };
  if (judged?.verdict === "Unknown") return { kind: "warn", word: t("release.unknown") };
  return { kind: "idle", word: t("release.notAsked") };
}

/// A question with the names of this release in it, as it is asked.
export function filled(question: string, it: Release): string {
  const names: Record<string, string> = { namespace: it.metadata.namespace ?? "", route: it.spec.route.name, stable: it.spec.stable.name, canary: it.spec.canary.name };
  return question.replace(/\$\((namespace|route|stable|canary)\)/g, (_all, name: string) => names[name]!);
}
