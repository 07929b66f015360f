/// Releases: what moves from one version to the next, how far each is, and why one went back.
import { createMemo } from "solid-js";
import { age, ageSeconds } from "../format";
import { RELEASES, releaseState, type Release } from "../kube/releases";
import { watch } from "../kube/watch";
import { Age, Fresh, Note } from "../parts/Small";
import { State } from "../parts/State";
import { Table, type Column } from "../parts/Table";
import { href, query } from "../router";
import { t } from "../words";

const COMMAND = `kubectl apply -f - <<YAML
apiVersion: madang.dev/v1alpha1
kind: Release
metadata: {name: shop-v2}
spec:
  route: {name: shop}
  stable: {name: shop, port: 80}
  canary: {name: shop-v2, port: 80}
  steps: [{weight: 10, pause: 1m}, {weight: 50, pause: 1m}]
YAML`;

/// How much of the traffic the new version has: a bar and a number.
export const Weight = (props: { weight: number }) => (
  <span class="weight"><span class="bar-track" aria-hidden="true"><i style={{ width: `${props.weight}%` }} /></span><span class="num">{props.weight}%</span></span>
);

export default function Releases() {
  const path = createMemo(() => (query("ns") ? `${RELEASES}/namespaces/${encodeURIComponent(query("ns"))}/releases` : `${RELEASES}/releases`));
  const found = createMemo(() => watch<Release>(path()));
  const columns = createMemo((): Column<Release>[] => [
    { id: "name", label: "col.name", first: true, sort: (row) => row.metadata.name, cell: (row) => <a data-row={row.metadata.uid} href={href(`/releases/${row.metadata.namespace}/${row.metadata.name}`)}>{row.metadata.name}</a> },
    ...(query("ns") ? [] : [{ id: "namespace", label: "col.namespace", sort: (row) => row.metadata.namespace ?? "", cell: (row) => row.metadata.namespace, narrow: false } as Column<Release>]),
    { id: "state", label: "col.state", sort: (row) => releaseState(row).word, text: (row) => `${releaseState(row).word} ${releaseState(row).kind}`, cell: (row) => <State state={releaseState(row)} /> },
    { id: "weight", label: "release.weight", number: true, sort: (row) => row.status?.weight ?? 0, cell: (row) => <Weight weight={row.status?.weight ?? 0} /> },
    { id: "step", label: "release.step", number: true, sort: (row) => row.status?.step ?? 0, cell: (row) => `${Math.min(row.status?.step ?? 0, row.spec.steps.length)}/${row.spec.steps.length}`, narrow: false },
    { id: "canary", label: "release.canary", sort: (row) => row.spec.canary.name, cell: (row) => row.spec.canary.name, narrow: false },
    { id: "message", label: "col.message", text: (row) => row.status?.message ?? "", cell: (row) => <span class="soft" title={row.status?.message}>{row.status?.message}</span>, narrow: false },
    { id: "age", label: "col.age", number: true, sort: (row) => ageSeconds(row.metadata.creationTimestamp), text: (row) => age(row.metadata.creationTimestamp), cell: (row) => <Age time={row.metadata.creationTimestamp} /> },
  ]);
  return (
    <div class="page">
      <header><h1>{t("nav.releases")}</h1></header>
      <Fresh of={found()} />
      <Table id="releases" label={t("nav.releases")} rows={found().items()} columns={columns()} key={(row) => row.metadata.uid} name={(row) => `${row.metadata.namespace}/${row.metadata.name}`} labels={(row) => row.metadata.labels}
        loading={found().phase() === "loading"} empty={<Note words={t("release.none")} command={COMMAND} />} />
    </div>
  );
}
