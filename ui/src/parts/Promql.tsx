/// A line of PromQL with completion of metrics, labels and functions, and mistakes marked while writing.
import { PromQLExtension } from "@prometheus-io/codemirror-promql";
import { createEffect, on, onCleanup, onMount } from "solid-js";
import { t } from "../words";
import { editor, type Editor } from "./editor";

export default function Promql(props: { value: string; onRun: (text: string) => void; label?: string }) {
  let box!: HTMLDivElement;
  let view: Editor | undefined;
  onMount(() => {
    const language = new PromQLExtension().setComplete({ remote: { url: "/prometheus", httpMethod: "GET", fetchFn: (input, init) => fetch(input, { ...init, credentials: "same-origin" }) } });
    const run = () => { props.onRun(view!.get()); return true; };
    view = editor(box, {
      text: props.value, label: props.label ?? t("explore.query"), extensions: [language.asExtension()], onChange: () => undefined, placeholder: t("explore.query"),
      keys: [{ key: "Mod-Enter", run }, { key: "Enter", run: () => (box.querySelector(".cm-tooltip-autocomplete") ? false : run()) }],
    });
  });
  createEffect(on(() => props.value, (value) => view?.set(value), { defer: true }));
  onCleanup(() => view?.destroy());
  return <div class="editor grow" ref={box} onFocusOut={(event) => { if (view && view.get() !== props.value && !box.contains(event.relatedTarget as globalThis.Node | null)) props.onRun(view.get()); }} />;
}
