/// The kinds `Pipeline`, `PipelineRun` and `Repository`: what their pages read, and what is said of them. Pure, and tested.
///
/// crates/pipeline/src/kind/*.yaml and crates/pipeline/src/repositories/definition.yaml say what each field means.
import { t } from "../words";
import type { Kind, State } from "./status";
import type { Thing } from "./types";

export const GROUP = "/apis/madang.dev/v1alpha1";
export interface Parameter { name: string; type?: string; description?: string; default?: unknown; choices?: string[] }
export interface Given { name: string; value?: unknown }
export interface Last { name?: string; number?: number; result?: string; branch?: string; commit?: string; started?: string; finished?: string }
export interface Triggers { push?: boolean; cron?: string[]; poll?: string[]; upstream?: { pipeline: string }[]; webhook?: { secretName: string } }
export interface Pipeline extends Thing {
  spec: { repository?: { name: string }; git?: { url: string }; branches?: string[]; scriptPath?: string; script?: string; description?: string; parameters?: Parameter[]; triggers?: Triggers; suspend?: boolean; serviceAccountName?: string };
  status?: { number?: number; active?: number; queued?: number; last?: Last; lastSuccessful?: Last; lastFailed?: Last; parameters?: Parameter[]; triggers?: Triggers; branches?: { name: string; commit?: string; number?: number; result?: string }[]; message?: string };
}
export interface Step { id: string; name: string; label?: string; phase?: "Running" | "Succeeded" | "Failed" | "Aborted"; started?: string; milliseconds?: number; message?: string }
export interface Stage {
  id: string; name: string; path: string; parent?: string; kind?: "stage" | "branch"; phase?: "Waiting" | "Running" | "Finished" | "Skipped"; result?: string;
  started?: string; finished?: string; milliseconds?: number; reason?: string; pod?: string; dropped?: number; steps?: Step[];
}
export interface Question { id: string; message?: string; ok?: string; submitter?: string; submitterParameter?: string; stage?: string; since?: string; parameters?: Parameter[] }
export interface Cause { kind?: "user" | "timer" | "scm" | "upstream" | "webhook" | "remote"; user?: string; text?: string; upstream?: { name?: string; pipeline?: string; number?: number } }
export interface Run extends Thing {
  spec: { pipelineRef: { name: string }; branch?: string; commit?: string; script?: string; parameters?: Given[]; cause?: Cause; abort?: boolean; keep?: boolean; inputs?: { id: string; abort?: boolean; user?: string; parameters?: Given[] }[] };
  status?: {
    phase?: "Pending" | "Queued" | "Running" | "Paused" | "Succeeded" | "Unstable" | "Failed" | "NotBuilt" | "Aborted"; result?: string; number?: number; branch?: string; commit?: string; url?: string; displayName?: string; description?: string;
    started?: string; finished?: string; progress?: string; now?: string; message?: string; culprits?: string[]; changes?: number; stages?: Stage[]; inputs?: Question[];
    agents?: { pod: string; node?: string; label?: string; container?: string; phase?: string }[]; log?: { bytes?: number; truncated?: boolean }; tests?: { total?: number; failed?: number; skipped?: number; seconds?: number }; artifacts?: { files?: number; bytes?: number };
  };
}
export interface Repository extends Thing {
  spec: { defaultBranch?: string; description?: string; protected?: string[] };
  status?: { path?: string; head?: string; bytes?: number; sequence?: number; references?: Record<string, string>; pushes?: { number: number; time?: string; user?: string; updates?: { reference: string; old?: string; new?: string }[] }[] };
}

const within = (plural: string, namespace: string) => (namespace ? `${GROUP}/namespaces/${encodeURIComponent(namespace)}/${plural}` : `${GROUP}/${plural}`);
export const pipelinesPath = (namespace = "") => within("pipelines", namespace);
export const runsPath = (namespace = "") => within("pipelineruns", namespace);
export const repositoriesPath = (namespace = "") => within("repositories", namespace);
export const runsOf = (namespace: string, pipeline: string) => `${runsPath(namespace)}?fieldSelector=${encodeURIComponent(`spec.pipelineRef.name=${pipeline}`)}`;
/// What a run has left, over HTTP: log, artifacts, tests.
export const left = (it: Run, what: string) => `/pipelines/${encodeURIComponent(it.metadata.namespace ?? "")}/${encodeURIComponent(it.metadata.name)}/${what}`;

const FINAL = new Set(["Succeeded", "Unstable", "Failed", "NotBuilt", "Aborted"]);
export const isOver = (it: Run) => FINAL.has(it.status?.phase ?? "");
export const title = (it: Run) => it.status?.displayName ?? (it.status?.number ? `#${it.status.number}` : it.metadata.name);

const RESULTS: Record<string, [Kind, Parameters<typeof t>[0]]> = {
  SUCCESS: ["good", "run.succeeded"], UNSTABLE: ["warn", "run.unstable"], FAILURE: ["bad", "run.failed"], NOT_BUILT: ["idle", "run.notBuilt"], ABORTED: ["idle", "run.aborted"],
};
/// What to say of a result by Jenkins' names.
export function resultState(result: string | undefined): State {
  const [kind, word] = RESULTS[result ?? ""] ?? ["idle", "state.unknown"];
  return { kind, word: t(word) };
}

/// What to say of a run.
export function runState(it: Run): State {
  const { phase, message, now } = it.status ?? {};
  const said = message ? { detail: message } : {};
  if (it.metadata.deletionTimestamp) return { kind: "idle", word: t("state.deleting") };
  switch (phase) {
    case "Succeeded": return { ...resultState("SUCCESS"), ...said };
    case "Unstable": return { ...resultState("UNSTABLE"), ...said };
    case "Failed": return { ...resultState("FAILURE"), ...said, next: t("run.nextFailed") };
    case "NotBuilt": return { ...resultState("NOT_BUILT"), ...said };
    case "Aborted": return { ...resultState("ABORTED"), ...said };
    case "Queued": return { kind: "idle", word: t("run.queued"), ...said };
    case "Paused": return { kind: "warn", word: t("run.paused"), ...(now ? { detail: now } : {}) };
    case "Running": return it.spec.abort ? { kind: "new", word: t("run.ending") } : { kind: "new", word: t("state.running"), ...(now ? { detail: now } : {}) };
    default: return { kind: "new", word: t("run.pending"), ...said };
  }
}

/// What to say of a stage; `asks` are those in which somebody is asked.
export function stageState(stage: Stage, asks?: ReadonlySet<string>): State {
  if (asks?.has(stage.id) && stage.phase !== "Finished") return { kind: "warn", word: t("stage.asks") };
  const reason = stage.reason ? { detail: stage.reason } : {};
  if (stage.phase === "Skipped") return { kind: "idle", word: t("stage.skipped"), ...reason };
  if (stage.phase === "Running") return { kind: "new", word: t("state.running") };
  if (stage.phase === "Finished") return { ...resultState(stage.result ?? "SUCCESS"), ...reason };
  return { kind: "idle", word: t("stage.waiting") };
}
export function stepState(step: Step): State {
  const message = step.message ? { detail: step.message } : {};
  if (step.phase === "Succeeded") return { kind: "good", word: t("run.succeeded") };
  if (step.phase === "Failed") return { kind: "bad", word: t("run.failed"), ...message };
  if (step.phase === "Aborted") return { kind: "idle", word: t("run.aborted"), ...message };
  return { kind: "new", word: t("state.running") };
}

/// How long something took, or has taken so far, in milliseconds; undefined before it began.
export function took(one: { started?: string; finished?: string; milliseconds?: number; phase?: string }, now: number): number | undefined {
  if (one.milliseconds !== undefined && one.phase !== "Running") return one.milliseconds;
  if (!one.started) return undefined;
  const end = one.finished ? Date.parse(one.finished) : now;
  return Math.max(0, end - Date.parse(one.started));
}

export interface Node { stage: Stage; parallel: boolean; children: Node[] }

/// Stages as a tree: what is inside a stage stands one after another, or side by side.
export function tree(stages: readonly Stage[]): Node[] {
  const nodes = new Map(stages.map((stage) => [stage.id, { stage, parallel: false, children: [] } as Node]));
  const roots: Node[] = [];
  for (const node of nodes.values()) {
    const parent = node.stage.parent === undefined ? undefined : nodes.get(node.stage.parent);
    (parent && parent !== node ? parent.children : roots).push(node);
  }
  for (const node of nodes.values()) node.parallel = sideBySide(node.children.map((child) => child.stage));
  return roots;
}

/// Whether stages run side by side: as their kind says, or where nothing does, as their times tell.
function sideBySide(stages: readonly Stage[]): boolean {
  if (stages.length < 2) return false;
  if (stages.some((stage) => stage.kind)) return stages.some((stage) => stage.kind === "branch");
  return stages.some((stage, at) => at > 0 && stage.started !== undefined && stages[at - 1]!.started !== undefined && Date.parse(stage.started) < Date.parse(stages[at - 1]!.finished ?? "9999-12-31T00:00:00Z"));
}

/// The stage to look at first: one that runs, else one that failed.
export function interesting(stages: readonly Stage[]): Stage | undefined {
  const leaves = stages.filter((stage) => !stages.some((other) => other.parent === stage.id));
  return leaves.find((stage) => stage.phase === "Running") ?? leaves.find((stage) => stage.result === "FAILURE") ?? leaves.find((stage) => stage.result === "UNSTABLE");
}

/// A name of a commit as people read it.
export const shortCommit = (commit: string | undefined) => (commit ?? "").slice(0, 8);
export const branchName = (reference: string | undefined) => (reference ?? "").replace(/^refs\/(heads|tags)\//, "");

/// All parameters that a run can be given: the object's go before those that the script declared.
export function parametersOf(it: Pipeline): Parameter[] {
  const own = it.spec.parameters ?? [];
  return [...own, ...(it.status?.parameters ?? []).filter((one) => !own.some((other) => other.name === one.name))];
}
/// The value that a parameter begins with.
export const initial = (one: Parameter): string | boolean => (one.type === "boolean" ? one.default === true || one.default === "true" : one.type === "choice" ? String(one.default ?? one.choices?.[0] ?? "") : String(one.default ?? ""));

/// A new run of a pipeline, as an object.
export function newRun(pipeline: { name: string; namespace: string; uid: string }, spec: Omit<Run["spec"], "pipelineRef">): Record<string, unknown> {
  const label = pipeline.name.slice(0, 63).replace(/[-.]+$/, "");
  return {
    apiVersion: "madang.dev/v1alpha1", kind: "PipelineRun",
    metadata: { generateName: `${pipeline.name.slice(0, 200)}-`, namespace: pipeline.namespace, labels: { "madang.dev/pipeline": label }, ownerReferences: [{ apiVersion: "madang.dev/v1alpha1", kind: "Pipeline", name: pipeline.name, uid: pipeline.uid }] },
    spec: { pipelineRef: { name: pipeline.name }, ...spec },
  };
}

/// Somebody as people call them: ServiceAccounts by namespace and name.
export const who = (user: string) => user.replace(/^system:serviceaccount:([^:]+):/, "$1/");

/// Why a run goes again, as it stands in the object: in English, since not everybody who reads it has the language of who started it.
export const againText = (number: string) => `Again, after ${number}`;
const AGAIN = /^Again, after (.+)$/;

/// What started a run, in words.
export function causeWords(it: Run): string {
  const { kind, text, upstream } = it.spec.cause ?? {};
  const user = it.spec.cause?.user && who(it.spec.cause.user), again = text ? AGAIN.exec(text)?.[1] : undefined;
  if (again) return t("run.cause.again", { number: again });
  if (text) return text;
  if (kind === "upstream" && upstream) return t("run.cause.upstream", { name: `${upstream.pipeline ?? ""} #${upstream.number ?? ""}` });
  if (kind === "timer") return t("run.cause.timer");
  if (kind === "scm" || kind === "webhook") return user ? t("run.cause.pushBy", { user }) : t("run.cause.push");
  return user ? t("run.cause.user", { user }) : t("run.cause.unknown");
}
