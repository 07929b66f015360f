/// What is said of pipelines and their runs, and how stages stand to each other.
import { expect, test } from "vitest";
import { runMarks } from "../src/marks";
import { againText, causeWords, initial, interesting, isOver, left, newRun, parametersOf, runState, stageState, stepState, took, tree, who, type Node, type Pipeline, type Run, type Stage } from "../src/kube/pipelines";

const run = (status: Run["status"], spec: Partial<Run["spec"]> = {}): Run => ({ metadata: { name: "shop-x", namespace: "shop", uid: "u" }, spec: { pipelineRef: { name: "shop" }, ...spec }, ...(status ? { status } : {}) });
const stage = (id: string, more: Partial<Stage> = {}): Stage => ({ id, name: id, path: id, phase: "Finished", result: "SUCCESS", ...more });

test("a run's state is said in words", () => {
  const cases: [Run, string, string][] = [
    [run(undefined), "new", "Begins"],
    [run({ phase: "Queued" }), "idle", "Waits for another run"],
    [run({ phase: "Running" }), "new", "Running"],
    [run({ phase: "Running" }, { abort: true }), "new", "Ending"],
    [run({ phase: "Paused", now: "Deploy?" }), "warn", "Waits for an answer"],
    [run({ phase: "Succeeded" }), "good", "Succeeded"],
    [run({ phase: "Unstable" }), "warn", "Unstable"],
    [run({ phase: "Failed", message: "exit code 2" }), "bad", "Failed"],
    [run({ phase: "NotBuilt" }), "idle", "Not built"],
    [run({ phase: "Aborted" }), "idle", "Aborted"],
  ];
  for (const [it, kind, word] of cases) expect([runState(it).kind, runState(it).word]).toEqual([kind, word]);
  expect(runState(run({ phase: "Failed", message: "exit code 2" })).detail).toBe("exit code 2");
  expect([isOver(run({ phase: "Paused" })), isOver(run({ phase: "NotBuilt" }))]).toEqual([false, true]);
});

test("who asks is told shortly, and a run that goes again says so in everybody's language", () => {
  expect([who("system:serviceaccount:shop:builder"), who("kim"), who("system:node:one")]).toEqual(["shop/builder", "kim", "system:node:one"]);
  expect(causeWords(run(undefined, { cause: { kind: "user", user: "ann", text: againText("#3") } }))).toBe("Again, after #3");
  expect(causeWords(run(undefined, { cause: { kind: "scm", user: "system:serviceaccount:a:b" } }))).toBe("Started by a push of a/b");
  const asks = new Set(["a"]);
  expect([stageState(stage("a", { phase: "Running" }), asks).word, stageState(stage("a"), asks).word, stageState(stage("b", { phase: "Running" }), asks).word]).toEqual(["Asks", "Succeeded", "Running"]);
});

test("stages and steps have states of their own", () => {
  expect([stage("a", { phase: "Waiting" }), stage("a", { phase: "Running" }), stage("a", { phase: "Skipped" }), stage("a"), stage("a", { result: "FAILURE" }), stage("a", { result: "UNSTABLE" })].map((one) => stageState(one).kind)).toEqual(["idle", "new", "idle", "good", "bad", "warn"]);
  expect((["Running", "Succeeded", "Failed", "Aborted"] as const).map((phase) => stepState({ id: "1", name: "sh", phase }).kind)).toEqual(["new", "good", "bad", "idle"]);
});

test("stages stand in their stages, one after another or side by side", () => {
  const drawn = (nodes: Node[]): string => nodes.map((node) => node.stage.id + (node.children.length ? (node.parallel ? `[${drawn(node.children)}]` : `(${drawn(node.children)})`) : "")).join(" ");
  expect(drawn(tree([stage("a"), stage("b"), stage("c", { parent: "b", kind: "branch" }), stage("d", { parent: "b", kind: "branch" }), stage("e", { parent: "d" }), stage("f", { parent: "d" }), stage("g")]))).toBe("a b[c d(e f)] g");
  // Without a kind, times tell.
  const at = (second: number) => new Date(1e12 + second * 1000).toISOString();
  expect(drawn(tree([stage("p"), stage("x", { parent: "p", started: at(0), finished: at(5) }), stage("y", { parent: "p", started: at(1), finished: at(3) })]))).toBe("p[x y]");
  expect(drawn(tree([stage("p"), stage("x", { parent: "p", started: at(0), finished: at(5) }), stage("y", { parent: "p", started: at(5), finished: at(8) })]))).toBe("p(x y)");
  // Nobody is lost whose parent is not there, or who names itself.
  expect(drawn(tree([stage("a", { parent: "gone" }), stage("b", { parent: "b" })]))).toBe("a b");
});

test("what runs, and then what failed, is looked at first", () => {
  expect(interesting([stage("a"), stage("b", { result: "FAILURE" }), stage("c", { phase: "Running" })])?.id).toBe("c");
  expect(interesting([stage("a"), stage("b", { result: "FAILURE" }), stage("c", { parent: "b", result: "FAILURE" })])?.id).toBe("c");
  expect(interesting([stage("a")])).toBeUndefined();
});

test("lengths are those that were told, or go on", () => {
  expect(took({ milliseconds: 1500 }, 0)).toBe(1500);
  expect(took({ started: new Date(1000).toISOString(), phase: "Running", milliseconds: 1 }, 5000)).toBe(4000);
  expect(took({ started: new Date(1000).toISOString(), finished: new Date(2000).toISOString() }, 5000)).toBe(1000);
  expect(took({}, 5000)).toBeUndefined();
});

test("a run is made with its parameters, and belongs to its pipeline", () => {
  const pipeline: Pipeline = { metadata: { name: "shop", namespace: "shop", uid: "u" }, spec: { parameters: [{ name: "TAG", default: "1" }] }, status: { parameters: [{ name: "TAG", default: "2" }, { name: "DEEP", type: "boolean", default: "true" }, { name: "PLACE", type: "choice", choices: ["eu", "us"] }] } };
  const all = parametersOf(pipeline);
  expect(all.map((one) => [one.name, initial(one)])).toEqual([["TAG", "1"], ["DEEP", true], ["PLACE", "eu"]]);
  const made = newRun({ name: `${"a".repeat(62)}-b`, namespace: "shop", uid: "u" }, { branch: "main" }) as { metadata: { generateName: string; labels: Record<string, string>; ownerReferences: { uid: string }[] }; spec: object };
  expect(made.metadata.labels["madang.dev/pipeline"]).toBe("a".repeat(62));
  expect(made.metadata.ownerReferences[0]!.uid).toBe("u");
  expect(made.spec).toEqual({ pipelineRef: { name: `${"a".repeat(62)}-b` }, branch: "main" });
  expect(left(run(undefined), "log")).toBe("/pipelines/shop/shop-x/log");
});

test("why a run started, and when it ended, is told", () => {
  expect([run(undefined, { cause: { kind: "user", user: "ann" } }), run(undefined, { cause: { kind: "timer" } }), run(undefined, { cause: { kind: "scm", user: "ann" } }), run(undefined, { cause: { kind: "upstream", upstream: { pipeline: "base", number: 3 } } }), run(undefined, { cause: { text: "because" } }), run(undefined)].map(causeWords))
    .toEqual(["Started by ann", "Started by the clock", "Started by a push of ann", "Started by base #3", "because", "Started by hand"]);
  expect(runMarks(run({ phase: "Failed", number: 7, commit: "0123456789abcdef", finished: "2026-01-01T00:00:00Z" }))).toEqual([{ time: Date.parse("2026-01-01T00:00:00Z"), words: "shop/shop #7 · 01234567 · Failed", kind: "bad" }]);
  expect(runMarks(run({ phase: "Running" }))).toEqual([]);
});
