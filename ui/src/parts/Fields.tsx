/// Fields for the parameters of a run, or of what a run asks: each by its type.
import { For, Match, Show, Switch } from "solid-js";
import { initial, type Given, type Parameter } from "../kube/pipelines";

export type Values = Record<string, string | boolean>;
export const begin = (all: readonly Parameter[]): Values => Object.fromEntries(all.map((one) => [one.name, initial(one)]));
export const given = (all: readonly Parameter[], values: Values): Given[] => all.map((one) => ({ name: one.name, value: values[one.name] ?? initial(one) }));

export function Fields(props: { all: readonly Parameter[]; values: Values; set: (name: string, value: string | boolean) => void }) {
  const text = (one: Parameter) => String(props.values[one.name] ?? "");
  return (
    <For each={props.all}>{(one) => (
      <label style={one.type === "boolean" ? { "flex-direction": "row", "align-items": "center", gap: "8px" } : {}}>
        <Switch>
          <Match when={one.type === "boolean"}><input type="checkbox" checked={props.values[one.name] === true} onChange={(event) => props.set(one.name, event.currentTarget.checked)} /><span>{one.name}</span></Match>
          <Match when={one.type === "choice"}><span>{one.name}</span><select class="field" onChange={(event) => props.set(one.name, event.currentTarget.value)}><For each={one.choices ?? []}>{(choice) => <option value={choice} selected={choice === text(one)}>{choice}</option>}</For></select></Match>
          <Match when={one.type === "text"}><span>{one.name}</span><textarea class="field mono" rows="4" value={text(one)} onInput={(event) => props.set(one.name, event.currentTarget.value)} /></Match>
          <Match when={true}><span>{one.name}</span><input class="field" type={one.type === "password" ? "password" : "text"} autocomplete="off" value={text(one)} onInput={(event) => props.set(one.name, event.currentTarget.value)} /></Match>
        </Switch>
        <Show when={one.description}><span class="soft small">{one.description}</span></Show>
      </label>)}</For>
  );
}
