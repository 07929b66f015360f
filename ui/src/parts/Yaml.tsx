/// An object as YAML, to read and to change. What is saved must be the version that was read.
import { yaml } from "@codemirror/lang-yaml";
import { createEffect, createSignal, on, onCleanup, onMount, Show } from "solid-js";
import { parse, stringify } from "yaml";
import { get, put } from "../kube/client";
import { t } from "../words";
import { editor, type Editor } from "./editor";
import { Wrong } from "./Small";

export default function Yaml(props: { path: string; name: string; version: string }) {
  let box!: HTMLDivElement;
  let view: Editor | undefined;
  const [original, setOriginal] = createSignal("");
  const [text, setText] = createSignal("");
  const [error, setError] = createSignal<string>();
  const [said, setSaid] = createSignal<string>();
  const [read, setRead] = createSignal("");
  const changed = () => text() !== original();
  const load = async () => {
    try {
      const object = await get<{ metadata: { managedFields?: unknown; resourceVersion?: string } }>(props.path);
      delete object.metadata.managedFields;
      const written = stringify(object, { lineWidth: 0 });
      setRead(object.metadata.resourceVersion ?? "");
      setOriginal(written);
      setText(written);
      setError(undefined);
      view?.set(written);
    } catch (failed) {
      setError((failed as Error).message);
    }
  };
  onMount(() => {
    view = editor(box, { text: "", label: t("yaml.editing", { name: props.name }), extensions: [yaml()], onChange: (now) => { if (now !== text()) { setText(now); setSaid(undefined); } }, lines: true });
    void load();
  });
  onCleanup(() => view?.destroy());
  // What nobody is changing follows the server.
  createEffect(on(() => props.version, (version) => { if (version !== read() && !changed()) void load(); }, { defer: true }));
  const save = async () => {
    setSaid(undefined);
    try {
      const object: unknown = parse(text(), { maxAliasCount: 100 });
      await put(props.path, object);
      setOriginal(text());
      await load();
      setSaid(t("yaml.saved"));
    } catch (failed) {
      setError((failed as Error).message);
    }
  };
  return (
    <div class="stack" style={{ gap: "8px" }}>
      <div class="row">
        <span class="soft small" role="status">{said() ?? (changed() && props.version !== read() ? t("yaml.changed") : changed() ? "" : t("yaml.unchanged"))}</span><span class="grow" />
        <button class="button" onClick={() => void load()}>{changed() ? t("action.discard") : t("action.reload")}</button>
        <button class="button primary" disabled={!changed()} onClick={() => void save()}>{t("action.save")}</button>
      </div>
      <Wrong error={error()} />
      <div class="editor tall" ref={box} />
      <Show when={changed()}><pre class="small soft" tabindex="0" style={{ margin: 0 }}>kubectl replace -f {props.name.replace("/", "-")}.yaml</pre></Show>
    </div>
  );
}
