/// Starts a run: its branch and parameters, and the same as a command.
import { createSignal, Show } from "solid-js";
import { send } from "../kube/client";
import { newRun, parametersOf, runsPath, type Pipeline, type Run } from "../kube/pipelines";
import { go } from "../router";
import { person } from "../session";
import { t } from "../words";
import { begin, Fields, given } from "./Fields";
import { Confirm } from "./Small";

/// Makes a run and goes to its page.
export async function start(pipeline: { name: string; namespace: string; uid: string }, spec: Omit<Run["spec"], "pipelineRef">): Promise<void> {
  const made = (await send("POST", `/k8s${runsPath(pipeline.namespace)}`, newRun(pipeline, spec))) as Run;
  go(`/run/${pipeline.namespace}/${made.metadata.name}`);
}

export function StartRun(props: { pipeline: Pipeline; onClose: () => void }) {
  const all = parametersOf(props.pipeline);
  const [values, setValues] = createSignal(begin(all));
  const [branch, setBranch] = createSignal("");
  const sourced = () => Boolean(props.pipeline.spec.repository ?? props.pipeline.spec.git);
  const about = () => ({ name: props.pipeline.metadata.name, namespace: props.pipeline.metadata.namespace ?? "", uid: props.pipeline.metadata.uid });
  const spec = () => ({ ...(branch() ? { branch: branch() } : {}), ...(all.length ? { parameters: given(all, values()) } : {}), cause: { kind: "user" as const, ...(person() ? { user: person()!.user } : {}) } });
  /// A password is nobody's to read.
  const shown = () => { const told = spec(); return { ...told, ...(told.parameters ? { parameters: told.parameters.map((one) => (all.find((other) => other.name === one.name)?.type === "password" ? { ...one, value: "********" } : one)) } : {}) }; };
  return (
    <Confirm title={t("pipeline.start")} what={t("pipeline.startWhat", { name: props.pipeline.metadata.name })} command={`kubectl create -f - <<'JSON'\n${JSON.stringify(newRun(about(), shown()), null, 1)}\nJSON`} act={() => start(about(), spec())} onClose={props.onClose}
      extra={<>
        <Show when={sourced()}><label><span>{t("run.branch")}</span><input class="field mono" list="branches" autocomplete="off" spellcheck={false} placeholder={t("pipeline.defaultBranch")} value={branch()} onInput={(event) => setBranch(event.currentTarget.value.trim())} />
          <datalist id="branches">{(props.pipeline.status?.branches ?? []).map((one) => <option value={one.name} />)}</datalist></label></Show>
        <Fields all={all} values={values()} set={(name, value) => setValues((old) => ({ ...old, [name]: value }))} /></>} />
  );
}
