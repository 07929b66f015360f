/// Finds anything by name: pages, workloads, pods, nodes, dashboards. Ctrl K.
import { createMemo, createResource, createSignal, For, Show } from "solid-js";
import { send } from "../kube/client";
import { KINDS } from "../kube/kinds";
import { pipelinesPath } from "../kube/pipelines";
import { RELEASES } from "../kube/releases";
import type { Thing } from "../kube/types";
import { watch } from "../kube/watch";
import { isThere, SECTIONS } from "../Frame";
import { Dialog } from "../parts/Small";
import { go } from "../router";
import { has } from "../session";
import { t } from "../words";

interface Found { title: string; kind: string; link: string }

export default function Find(props: { onClose: () => void }) {
  const [words, setWords] = createSignal("");
  const [at, setAt] = createSignal(0);
  const lists = KINDS.filter((kind) => kind.name !== "replicasets").map((kind) => ({ kind, list: watch<Thing>(`${kind.base}/${kind.name}`) }));
  const pipelines = has("pipeline") ? watch<Thing>(pipelinesPath()) : undefined;
  const releases = has("gateway") && has("metrics") ? watch<Thing>(`${RELEASES}/releases`) : undefined;
  const [boards] = createResource(async () => (has("metrics") ? ((await send("GET", "/api/search").catch(() => [])) as { title: string; url: string }[]) : []));
  const all = createMemo<Found[]>(() => [
    ...SECTIONS.filter(isThere).map((section) => ({ title: t(section.label), kind: "", link: section.path })),
    ...lists.flatMap(({ kind, list }) => list.items().map((thing) => ({ title: `${thing.metadata.namespace}/${thing.metadata.name}`, kind: t(kind.label), link: `/workloads/${kind.name}/${thing.metadata.namespace}/${thing.metadata.name}` }))),
    ...(pipelines?.items() ?? []).map((thing) => ({ title: `${thing.metadata.namespace}/${thing.metadata.name}`, kind: t("nav.pipelines"), link: `/pipeline/${thing.metadata.namespace}/${thing.metadata.name}` })),
    ...(releases?.items() ?? []).map((thing) => ({ title: `${thing.metadata.namespace}/${thing.metadata.name}`, kind: t("nav.releases"), link: `/releases/${thing.metadata.namespace}/${thing.metadata.name}` })),
    ...(boards() ?? []).map((board) => ({ title: board.title, kind: t("dash.title"), link: board.url })),
  ]);
  const found = createMemo(() => {
    const parts = words().toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = all().filter((one) => parts.every((part) => `${one.title} ${one.kind}`.toLowerCase().includes(part)));
    // What begins so comes first.
    const rank = (one: Found) => (parts[0] && (one.title.split("/").pop() ?? "").toLowerCase().startsWith(parts[0]) ? 0 : 1);
    return fitting.sort((a, b) => rank(a) - rank(b)).slice(0, 12);
  });
  const open = (one: Found | undefined) => { if (one) { props.onClose(); go(one.link); } };
  const press = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") setAt(Math.min(found().length - 1, at() + 1));
    else if (event.key === "ArrowUp") setAt(Math.max(0, at() - 1));
    else if (event.key === "Enter") open(found()[at()]);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog title={t("search.title")} onClose={props.onClose}>
      <input class="field" type="search" autofocus role="combobox" aria-expanded="true" aria-controls="found" aria-activedescendant={found().length ? `found-${at()}` : undefined} aria-label={t("search.hint")} placeholder={t("search.hint")} value={words()} onInput={(event) => { setWords(event.currentTarget.value); setAt(0); }} onKeyDown={press} />
      <Show when={found().length} fallback={<p class="soft">{t("search.none")}</p>}>
        <div id="found" role="listbox" aria-label={t("search.title")}>
          <For each={found()}>{(one, place) => (
            <div id={`found-${place()}`} role="option" aria-selected={place() === at()} class="row" style={{ padding: "4px 8px", "border-radius": "6px", cursor: "pointer", "flex-wrap": "nowrap", background: place() === at() ? "var(--accent-wash)" : "none" }} onPointerEnter={() => setAt(place())} onClick={() => open(one)}>
              <span class="cut grow">{one.title}</span><span class="soft small">{one.kind}</span></div>)}</For>
        </div></Show>
    </Dialog>
  );
}
