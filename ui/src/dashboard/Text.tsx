/// A text panel.
import { createEffect, onMount } from "solid-js";
import { copied, escaped, markdown } from "./markdown";

export function Text(props: { content: string; mode: string }) {
  let box!: HTMLDivElement;
  const draw = () => {
    const html = props.mode === "html" ? props.content : props.mode === "code" ? `<pre><code>${escaped(props.content)}</code></pre>` : markdown(props.content);
    box.replaceChildren();
    // A document of its own runs nothing and asks for nothing.
    copied(new DOMParser().parseFromString(html.slice(0, 200_000), "text/html").body, box);
  };
  onMount(() => createEffect(draw));
  return <div class="text-panel" ref={box} />;
}
