/// Dashboards: all there are, by words, tags and folders; uploads of Grafana's JSON.
import { createMemo, createResource, createSignal, For, Show } from "solid-js";
import { send } from "../kube/client";
import { Note, Wrong } from "../parts/Small";
import { go, href, query, setQuery } from "../router";
import { language, t, tn } from "../words";

interface Listed { uid: string; title: string; url: string; tags: string[]; folderTitle: string }

export default function Dashboards() {
  const [error, setError] = createSignal<string>();
  const [all] = createResource(async () => {
    try { return (await send("GET", "/api/search?limit=5000")) as Listed[]; } catch (failed) { setError((failed as Error).message); return []; }
  });
  // What comes with the program has names in the person's language.
  const [words] = createResource(language, async (spoken): Promise<Readonly<Record<string, string>>> => (spoken === "ko" ? (await import("../words/ko-boards")).words : {}));
  const titleOf = (one: Listed) => (one.uid.startsWith("madang-") ? (words.latest?.[one.title] ?? one.title) : one.title);
  let file!: HTMLInputElement;
  const upload = async () => {
    const chosen = file.files?.[0];
    file.value = "";
    if (!chosen) return;
    try {
      let dashboard: Record<string, unknown>;
      try { const parsed = JSON.parse(await chosen.text()); dashboard = parsed.dashboard ?? parsed; } catch { throw new Error(t("dash.noDash")); }
      if (!Array.isArray(dashboard.panels) && !Array.isArray(dashboard.rows)) throw new Error(t("dash.noDash"));
      const kept = (await send("POST", "/api/dashboards/db", { dashboard, overwrite: true })) as { url: string };
      go(kept.url);
    } catch (failed) {
      setError((failed as Error).message);
    }
  };
  const shown = createMemo(() => {
    const words = query("q").toLowerCase().split(/\s+/).filter(Boolean);
    return (all() ?? []).filter((one) => words.every((word) => (word.startsWith("tag:") ? one.tags.some((tag) => tag.toLowerCase() === word.slice(4)) : `${one.title} ${titleOf(one)} ${one.folderTitle} ${one.tags.join(" ")}`.toLowerCase().includes(word))))
      .sort((a, b) => a.folderTitle.localeCompare(b.folderTitle) || titleOf(a).localeCompare(titleOf(b)));
  });
  return (
    <div class="page">
      <header><h1>{t("dash.title")}</h1>
        <input class="field" type="search" data-filter aria-label={t("dash.filter")} placeholder={t("dash.filter")} value={query("q")} onInput={(event) => setQuery({ q: event.currentTarget.value })} style={{ width: "240px" }} />
        <span class="soft small" role="status">{tn("list.count", shown().length)}</span>
        <input ref={file} type="file" accept=".json,application/json" class="hidden" tabindex="-1" aria-label={t("dash.upload")} onChange={() => void upload()} />
        <button class="button end" onClick={() => file.click()}>{t("dash.upload")}</button></header>
      <Wrong error={error()} />
      <Show when={!all.loading} fallback={<div class="shape" style={{ height: "240px" }} />}>
        <Show when={shown().length} fallback={<div class="card"><Note words={all()?.length ? t("list.none") : t("dash.none")} {...(all()?.length ? {} : { command: "kubectl label configmap NAME grafana_dashboard=1" })} /></div>}>
          <div class="table" tabindex="0" role="group" aria-label={t("dash.title")}><table>
            <thead><tr><th>{t("col.name")}</th><th class="wide-only">{t("col.folder")}</th><th>{t("col.tags")}</th></tr></thead>
            <tbody><For each={shown()}>{(one) => <tr><td><a href={href(one.url)}>{titleOf(one)}</a></td><td class="wide-only soft">{one.folderTitle}</td><td><span class="row" style={{ gap: "4px" }}><For each={one.tags.slice(0, 6)}>{(tag) => <button class="tag" style={{ background: "none", "min-height": "24px" }} onClick={() => setQuery({ q: `tag:${tag.toLowerCase()}` })}>{tag}</button>}</For></span></td></tr>}</For></tbody>
          </table></div></Show></Show>
    </div>
  );
}
