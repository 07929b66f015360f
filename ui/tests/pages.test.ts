/// What pages decide before they draw: states, places of boxes, filters, matchers.
import { expect, test } from "vitest";
import { aligned, withGaps } from "../src/plot-data";
import { podState, workloadState } from "../src/kube/status";
import type { Pod, Workload } from "../src/kube/types";
import { matches, parseMatchers, writeMatcher } from "../src/matchers";
import { fitsFilter } from "../src/filter";
import { bay, fit, next, units } from "../src/pages/yard-layout";

const pod = (status: Pod["status"], more: Partial<Pod> = {}): Pod => ({ metadata: { name: "p", uid: "u", creationTimestamp: "2020-01-01T00:00:00Z" }, spec: { containers: [{ name: "c" }], nodeName: "n" }, ...more, status: status ?? {} });
const container = (state: object, more: object = {}) => ({ name: "c", ready: false, restartCount: 0, image: "i", state, ...more }) as NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>[number];

test("a pod's state is said in words", () => {
  const cases: [Pod, string, string][] = [
    [pod({ phase: "Running", conditions: [{ type: "Ready", status: "True" }] }), "good", "Running"],
    [pod({ phase: "Running", conditions: [{ type: "Ready", status: "False", lastTransitionTime: "2020-01-01T00:00:00Z" }] }), "warn", "Not ready"],
    [pod({ phase: "Pending", conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/1 nodes" }] }), "bad", "No node fits"],
    [pod({ phase: "Pending", containerStatuses: [container({ waiting: { reason: "ImagePullBackOff", message: "m" } })] }), "bad", "Image cannot be pulled"],
    [pod({ phase: "Running", containerStatuses: [container({ waiting: { reason: "CrashLoopBackOff" } }, { restartCount: 3, lastState: { terminated: { exitCode: 3 } } })] }), "bad", "Keeps crashing"],
    [pod({ phase: "Running", containerStatuses: [container({ terminated: { exitCode: 137, reason: "OOMKilled" } })] }), "bad", "Ran out of memory"],
    [pod({ phase: "Pending", containerStatuses: [container({ waiting: { reason: "ContainerCreating" } })] }), "new", "Being created"],
    [pod({ phase: "Succeeded" }), "idle", "Completed"],
    [pod({ phase: "Failed", reason: "Evicted" }), "bad", "Evicted"],
    [pod({ phase: "Running" }, { metadata: { name: "p", uid: "u", deletionTimestamp: "x" } }), "idle", "Being deleted"],
  ];
  for (const [it, kind, word] of cases) expect([podState(it).kind, podState(it).word]).toEqual([kind, word]);
});

test("a workload's state tells rollouts from trouble", () => {
  const it = (spec: object, status: object): Workload => ({ metadata: { name: "w", uid: "u", generation: 1 }, spec, status: { observedGeneration: 1, ...status } }) as Workload;
  expect(workloadState("deployments", it({ replicas: 2 }, { readyReplicas: 2, updatedReplicas: 2 })).kind).toBe("good");
  expect(workloadState("deployments", it({ replicas: 2 }, { readyReplicas: 2, updatedReplicas: 1 })).kind).toBe("new");
  expect(workloadState("deployments", it({ replicas: 2 }, { readyReplicas: 1, updatedReplicas: 2 })).kind).toBe("warn");
  expect(workloadState("deployments", it({ replicas: 2 }, { conditions: [{ type: "Progressing", status: "False" }] })).kind).toBe("bad");
  expect(workloadState("deployments", it({ replicas: 0 }, {})).kind).toBe("idle");
});

test("boxes stand inside their bay and on no other, and five hundred fit", () => {
  const items = Array.from({ length: 500 }, (_, at) => ({ id: `p${at}`, group: `ns${at % 12}`, memory: (at % 7) * 128 * 2 ** 20 }));
  const unit = fit([items], 1, 860, 460, 64);
  const { boxes, height } = bay(items, 860, unit);
  expect(boxes).toHaveLength(500);
  expect(height).toBeLessThan(900);
  for (const box of boxes) expect(box.x >= 0 && box.x + box.w <= 861 && box.y + box.h <= height).toBe(true);
  const clash = boxes.some((a, at) => boxes.slice(at + 1).some((b) => a.x < b.x + b.w - 0.5 && b.x < a.x + a.w - 0.5 && a.y < b.y + b.h - 0.5 && b.y < a.y + a.h - 0.5));
  expect(clash).toBe(false);
  expect([units(0), units(128 * 2 ** 20), units(2 ** 29), units(2 ** 40)]).toEqual([1, 1, 2, 6]);
});

test("arrow keys walk to the nearest box that way", () => {
  const boxes = [{ id: "a", x: 0, y: 0, w: 10, h: 10 }, { id: "b", x: 20, y: 0, w: 10, h: 10 }, { id: "c", x: 0, y: 20, w: 10, h: 10 }];
  expect([next(boxes, undefined, "ArrowRight"), next(boxes, "a", "ArrowRight"), next(boxes, "a", "ArrowDown"), next(boxes, "b", "ArrowLeft"), next(boxes, "a", "ArrowUp")]).toEqual(["a", "b", "c", "a", "a"]);
});

test("filters understand words and key:value", () => {
  const columns = [{ id: "namespace", text: (row: { ns: string }) => row.ns }];
  const fits = (filter: string) => fitsFilter({ ns: "web" }, filter, columns, "web/front-1", { app: "front" });
  expect(["", "front", "FRONT-1", "ns:web", "ns:other", "app:front", "app:x", "front ns:web", "http://x"].map(fits)).toEqual([true, true, true, true, false, true, false, true, false]);
});

test("matchers are read as Alertmanager writes them", () => {
  const found = parseMatchers('alertname="A\\"b"\nseverity=~warning|critical\nteam != x');
  expect(found!.map(writeMatcher)).toEqual(['alertname="A\\"b"', 'severity=~"warning|critical"', 'team!="x"']);
  expect(matches(found!, { alertname: 'A"b', severity: "critical" })).toBe(true);
  expect(matches(found!, { alertname: 'A"b', severity: "criticals" })).toBe(false);
  expect([parseMatchers(""), parseMatchers("nonsense"), parseMatchers('a="x" b')]).toEqual([undefined, undefined, undefined]);
});

test("lines of several times share one axis, and gaps stay gaps", () => {
  expect(aligned([{ times: [1, 2], values: [1, 2] }, { times: [2, 3], values: [5, 6] }])).toEqual({ times: [1, 2, 3], values: [[1, 2, undefined], [undefined, 5, 6]] });
  expect(withGaps({ times: [0, 15, 60], values: [1, 2, 3] }, 15)).toEqual({ times: [0, 15, 30, 60], values: [1, 2, null, 3] });
});
