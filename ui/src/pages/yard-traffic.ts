/// Traffic through the gateway, as lines from it to the pods behind each Service. Pure, and tested.
import type { Thing } from "../kube/types";

export interface EndpointSlice extends Thing { endpoints?: { conditions?: { ready?: boolean }; targetRef?: { kind?: string; name?: string; namespace?: string } }[] }
/// Requests a second of a Service, and which share of them failed.
export interface Rate { namespace: string; service: string; rate: number; errors: number }
/// What flows to one pod.
export interface Flow { pod: string; rate: number; errors: number }
const SERVICE = "kubernetes.io/service-name";
/// Slower than this is nothing.
const LEAST = 0.001;

/// Rates by Service, the busiest first, from samples by Service and code.
export function rates(samples: readonly { labels: Record<string, string>; value: number }[]): Rate[] {
  const found = new Map<string, { namespace: string; service: string; rate: number; bad: number }>();
  for (const { labels, value } of samples) {
    if (!labels.service || !Number.isFinite(value)) continue;
    const key = `${labels.namespace}/${labels.service}`;
    const one = found.get(key) ?? { namespace: labels.namespace ?? "", service: labels.service, rate: 0, bad: 0 };
    one.rate += value;
    if (labels.code?.startsWith("5")) one.bad += value;
    found.set(key, one);
  }
  return [...found.values()].filter((one) => one.rate > LEAST).map(({ namespace, service, rate, bad }) => ({ namespace, service, rate, errors: bad / rate })).sort((a, b) => b.rate - a.rate);
}

/// What flows to each pod: its Service's traffic, in equal parts.
export function flows(all: readonly Rate[], slices: readonly EndpointSlice[]): Flow[] {
  const pods = new Map<string, Set<string>>();
  for (const slice of slices) {
    const service = slice.metadata.labels?.[SERVICE];
    if (!service) continue;
    const key = `${slice.metadata.namespace}/${service}`;
    const own = pods.get(key) ?? new Set<string>();
    for (const one of slice.endpoints ?? []) if (one.conditions?.ready !== false && one.targetRef?.kind === "Pod" && one.targetRef.name) own.add(`${one.targetRef.namespace ?? slice.metadata.namespace}/${one.targetRef.name}`);
    pods.set(key, own);
  }
  const out = new Map<string, Flow>();
  for (const { namespace, service, rate, errors } of all) {
    const own = pods.get(`${namespace}/${service}`) ?? new Set<string>();
    for (const pod of own) {
      const known = out.get(pod) ?? { pod, rate: 0, errors: 0 };
      const more = rate / own.size;
      out.set(pod, { pod, rate: known.rate + more, errors: (known.errors * known.rate + errors * more) / (known.rate + more) });
    }
  }
  return [...out.values()];
}

/// How bad a share of errors is.
export const badness = (errors: number): "good" | "warn" | "bad" => (errors >= 0.05 ? "bad" : errors >= 0.01 ? "warn" : "good");
/// Pixels of a line by its share of the busiest.
export const thickness = (rate: number, most: number) => 0.75 + 2.75 * Math.sqrt(most > 0 ? rate / most : 0);
