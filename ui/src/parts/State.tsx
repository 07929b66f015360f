/// State as a shape and a word.
import { Show } from "solid-js";
import type { Kind, State as Stated } from "../kube/status";

const SHAPES: Record<Kind, string> = {
  good: "M6 1a5 5 0 1 0 0 10A5 5 0 0 0 6 1Z",
  warn: "M6 .8 11.6 11H.4Z",
  bad: "M3.5.5h5l3 3v5l-3 3h-5l-3-3v-5Z",
  new: "M6 1a5 5 0 0 1 0 10V1Zm0 0a5 5 0 0 0 0 10V9.6a3.6 3.6 0 0 1 0-7.2Z",
  idle: "M6 1a5 5 0 1 0 0 10A5 5 0 0 0 6 1Zm0 1.6a3.4 3.4 0 1 1 0 6.8 3.4 3.4 0 0 1 0-6.8Z",
};

export const Shape = (props: { kind: Kind }) => (
  <svg viewBox="0 0 12 12" aria-hidden="true"><path fill="currentColor" fill-rule="evenodd" d={SHAPES[props.kind]} /></svg>
);

export function State(props: { state: Stated }) {
  return (
    <span class={`state ${props.state.kind}`} title={props.state.detail}>
      <Shape kind={props.state.kind} />
      <span>{props.state.word}</span>
      <Show when={props.state.detail}><span class="hidden">{props.state.detail}</span></Show>
    </span>
  );
}
