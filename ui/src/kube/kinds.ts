/// The kinds that have pages: where they lie, and what kubectl calls them.
import type { Key } from "../words";

export interface KindRow { name: string; base: string; singular: string; label: Key; scaled: boolean; restarted: boolean }
const row = (name: string, base: string, singular: string, scaled = false, restarted = false): KindRow => ({
  name, base, singular, label: `kind.${name}` as Key, scaled, restarted,
});
export const KINDS: readonly KindRow[] = [
  row("pods", "/api/v1", "pod"),
  row("deployments", "/apis/apps/v1", "deployment", true, true),
  row("statefulsets", "/apis/apps/v1", "statefulset", true, true),
  row("daemonsets", "/apis/apps/v1", "daemonset", false, true),
  row("replicasets", "/apis/apps/v1", "replicaset", true),
  row("jobs", "/apis/batch/v1", "job"),
  row("cronjobs", "/apis/batch/v1", "cronjob"),
];
export const kindRow = (name: string | undefined) => KINDS.find((kind) => kind.name === name);
export const objectPath = (kind: KindRow, namespace: string, name: string) =>
  `${kind.base}/namespaces/${encodeURIComponent(namespace)}/${kind.name}/${encodeURIComponent(name)}`;
export const listPath = (kind: KindRow, namespace: string) =>
  namespace ? `${kind.base}/namespaces/${encodeURIComponent(namespace)}/${kind.name}` : `${kind.base}/${kind.name}`;
/// The page of an owner or an event's object, where there is one.
export function pageOf(kind: string | undefined, namespace: string | undefined, name: string | undefined): string | undefined {
  const found = KINDS.find((one) => one.singular === kind?.toLowerCase());
  return found && namespace && name ? `/workloads/${found.name}/${namespace}/${name}` : undefined;
}
