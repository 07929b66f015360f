/// What is said of releases, and where traffic goes.
import { expect, test } from "vitest";
import { filled, releaseState, track, verdictState, waitsForApproval, type Release } from "../src/kube/releases";
import { alertMarks, releaseMarks } from "../src/marks";
import { badness, flows, rates, thickness } from "../src/pages/yard-traffic";

const release = (status: Release["status"], spec: Partial<Release["spec"]> = {}): Release => ({
  metadata: { name: "shop-v2", namespace: "shop", uid: "u" },
  spec: { route: { name: "shop" }, stable: { name: "v1", port: 80 }, canary: { name: "v2", port: 80 }, steps: [{ weight: 10, pause: "1m" }, { weight: 50, approve: true }], ...spec },
  ...(status ? { status } : {}),
});

test("a release's state is said in words", () => {
  const cases: [Release, string, string][] = [
    [release(undefined), "new", "Begins"],
    [release({ phase: "Progressing", step: 1, weight: 10 }), "new", "At 10%"],
    [release({ phase: "Progressing", message: "there is no HTTPRoute shop in shop" }), "bad", "Cannot go on"],
    [release({ phase: "Paused", step: 2, weight: 50 }), "warn", "Waits for approval"],
    [release({ phase: "Paused", step: 2, weight: 50 }, { approvedStep: 2 }), "idle", "Paused"],
    [release({ phase: "Paused", step: 1, weight: 10 }, { paused: true }), "idle", "Paused"],
    [release({ phase: "Succeeded", step: 3, weight: 100 }), "good", "Released"],
    [release({ phase: "RolledBack", step: 1, weight: 0, message: "errors failed 2 times" }), "bad", "Rolled back"],
  ];
  for (const [it, kind, word] of cases) expect([releaseState(it).kind, releaseState(it).word]).toEqual([kind, word]);
  expect(releaseState(release({ phase: "RolledBack", message: "errors failed 2 times" })).detail).toBe("errors failed 2 times");
  expect(waitsForApproval(release({ phase: "Paused", step: 2 }, { paused: true }))).toBe(false);
});

test("the track tells what was passed, where it is, and where it went back", () => {
  const states = (it: Release) => track(it).map((stop) => `${stop.weight}:${stop.state}`).join(" ");
  expect(states(release(undefined))).toBe("0:now 10:next 50:next 100:next");
  expect(states(release({ phase: "Progressing", step: 2 }))).toBe("0:done 10:done 50:now 100:next");
  expect(states(release({ phase: "RolledBack", step: 1 }))).toBe("0:done 10:failed 50:next 100:next");
  expect(states(release({ phase: "Succeeded", step: 3 }))).toBe("0:done 10:done 50:done 100:done");
});

test("questions are shown as they are asked", () => {
  expect(filled('x{namespace="$(namespace)",route="$(route)",service=~"$(stable)|$(canary)"} > $(other)', release(undefined))).toBe('x{namespace="shop",route="shop",service=~"v1|v2"} > $(other)');
  expect([verdictState(undefined).kind, verdictState({ name: "m", verdict: "Failure" }).kind, verdictState({ name: "m", verdict: "Success" }).kind, verdictState({ name: "m", verdict: "Unknown" }).kind]).toEqual(["idle", "bad", "good", "warn"]);
});

test("a release marks its begin and its end", () => {
  const marks = releaseMarks(release({ phase: "RolledBack", began: "2026-01-01T00:00:00Z", ended: "2026-01-01T00:05:00Z" }));
  expect(marks.map((mark) => [mark.time, mark.kind])).toEqual([[Date.parse("2026-01-01T00:00:00Z"), "new"], [Date.parse("2026-01-01T00:05:00Z"), "bad"]]);
  expect(releaseMarks(release(undefined))).toEqual([]);
});

test("traffic is counted by Service and shared by its ready pods", () => {
  const sample = (service: string, code: string, value: number) => ({ labels: { namespace: "shop", service, code }, value });
  const all = rates([sample("v1", "200", 6), sample("v1", "500", 2), sample("v2", "200", 1), sample("quiet", "200", 0), sample("odd", "200", NaN), { labels: { code: "404" }, value: 3 }]);
  expect(all).toEqual([{ namespace: "shop", service: "v1", rate: 8, errors: 0.25 }, { namespace: "shop", service: "v2", rate: 1, errors: 0 }]);
  const slice = (service: string, ...pods: [string, boolean][]) => ({ metadata: { name: service, namespace: "shop", uid: service, labels: { "kubernetes.io/service-name": service } }, endpoints: pods.map(([name, ready]) => ({ conditions: { ready }, targetRef: { kind: "Pod", name } })) });
  expect(flows(all, [slice("v1", ["a", true], ["b", true], ["c", false]), slice("v2", ["b", true])])).toEqual([{ pod: "shop/a", rate: 4, errors: 0.25 }, { pod: "shop/b", rate: 5, errors: 0.2 }]);
  expect([badness(0), badness(0.02), badness(0.5)]).toEqual(["good", "warn", "bad"]);
  expect(thickness(4, 4)).toBeGreaterThan(thickness(1, 4));
});

test("alerts mark when they fire and clear, and not where the plot begins or ends", () => {
  const alert = (times: number[], severity = "warning") => ({ labels: { alertname: "Slow", namespace: "shop", severity }, times, values: times.map(() => 1) });
  const within = { from: 0, to: 600_000 };
  expect(alertMarks([alert([0, 10, 20, 590, 600])], within, 10).map((mark) => [mark.time / 1000, mark.kind])).toEqual([[30, "good"], [590, "warn"]]);
  expect(alertMarks([alert([100, 110], "critical")], within, 10).map((mark) => [mark.time / 1000, mark.words, mark.kind])).toEqual([[100, "Alert Slow shop fires", "bad"], [120, "Alert Slow shop has cleared", "good"]]);
  expect(alertMarks(Array.from({ length: 90 }, () => alert([100])), within, 10)).toHaveLength(40);
});
