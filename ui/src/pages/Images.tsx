/// Images on the nodes: what each is called, how large it is, and which pods use it.
import { createMemo } from "solid-js";
import { bytes } from "../format";
import type { Node, Pod } from "../kube/types";
import { watch } from "../kube/watch";
import { Fresh, Note } from "../parts/Small";
import { Table, type Column } from "../parts/Table";
import { href } from "../router";
import { t, tn } from "../words";

interface Row { name: string; others: string[]; digest: string; size: number; nodes: string[]; pods: Pod[] }

/// A name as people write it: without the registry and path that are understood.
const usual = (name: string) => name.replace(/^docker\.io\/(library\/)?/, "");

export default function Images() {
  const nodes = watch<Node>("/api/v1/nodes");
  const pods = watch<Pod>("/api/v1/pods");
  const rows = createMemo(() => {
    const found = new Map<string, Row>();
    for (const node of nodes.items()) {
      for (const image of node.status?.images ?? []) {
        const names = image.names ?? [];
        const digest = names.find((name) => name.includes("@"))?.split("@")[1] ?? "";
        const tags = names.filter((name) => !name.includes("@"));
        const key = tags[0] ?? names[0] ?? "";
        const known = found.get(key);
        if (known) { known.nodes.push(node.metadata.name); continue; }
        found.set(key, { name: usual(key), others: tags.slice(1), digest, size: image.sizeBytes ?? 0, nodes: [node.metadata.name], pods: [] });
      }
    }
    const byName = new Map([...found.values()].flatMap((row) => [[row.name, row] as const, ...row.others.map((name) => [usual(name), row] as const)]));
    for (const pod of pods.items()) {
      const used = new Set((pod.status?.containerStatuses ?? []).map((one) => one.image).concat(pod.spec.containers.map((one) => one.image ?? "")));
      const rows = new Set([...used].map((name) => byName.get(usual(name)) ?? byName.get(`${usual(name)}:latest`)).filter((row) => row !== undefined));
      rows.forEach((row) => row.pods.push(pod));
    }
    return [...found.values()];
  });
  const columns: Column<Row>[] = [
    { id: "name", label: "col.name", first: true, sort: (row) => row.name, cell: (row) => <span class="mono" title={[row.name, ...row.others].join("\n")}>{row.name}{row.others.length ? <span class="tag">+{row.others.length}</span> : ""}</span> },
    { id: "size", label: "col.size", number: true, sort: (row) => row.size, cell: (row) => bytes(row.size) },
    { id: "pods", label: "col.pods", number: true, sort: (row) => row.pods.length, cell: (row) => row.pods.length ? <a data-row={row.name} href={href(`/workloads/pods?q=${encodeURIComponent(`images:${row.name.split("/").at(-1)!.replace(/:latest$/, "")}`)}`)}>{tn("yard.pods", row.pods.length)}</a> : <span class="faint">{t("images.unused")}</span> },
    { id: "nodes", label: "col.nodes", sort: (row) => row.nodes.length, text: (row) => row.nodes.join(" "), cell: (row) => row.nodes.join(", "), narrow: false },
    { id: "digest", label: "col.digest", text: (row) => row.digest, cell: (row) => <span class="mono faint" title={row.digest}>{row.digest.replace("sha256:", "").slice(0, 12) || "-"}</span>, narrow: false },
  ];
  return (
    <div class="page">
      <header><h1>{t("images.title")}</h1></header>
      <Fresh of={nodes} />
      <Table id="images" label={t("images.title")} rows={rows()} columns={columns} key={(row) => row.name} name={(row) => row.name} loading={nodes.phase() === "loading"} empty={<Note words={t("images.none")} command="madang pull registry.madang.internal/hello" />} />
    </div>
  );
}
