/// A text panel.
import { createEffect, onMount } from "solid-js";
import { copied, escaped, markdown } from "./markdown";

export function Text(props: { content: string; mode: string }) {
  let box!: HTMLDivElement;
  const draw = () => {
    const html = props.mode === "html" ? props.content : props.mode === "code" ? `<pre><code>${escaped(props.content)}</code></pre>` : markdown(props.content);
    box.replaceChildren();
    // A document of its own runs nothing and asks for nothing; handlers go before, since browsers write about each that they refuse.
    const quiet = html.slice(0, 200_000).replace(/([\s"'/])on\w+\s*=/gi, "$1data-gone=");
    copied(new DOMParser().parseFromString(quiet, "text/html").body, box);
  };
  onMount(() => createEffect(draw));
  return <div class="text-panel" ref={box} />;
}
