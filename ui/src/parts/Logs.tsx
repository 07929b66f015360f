/// A pod's log as it is written, of any container or the run before.
import { createEffect, createMemo, createSignal, For, on, onCleanup } from "solid-js";
import type { Pod } from "../kube/types";
import { get, socket } from "../kube/client";
import { query, setQuery } from "../router";
import { t } from "../words";
import { keep, LogLines } from "./LogLines";

export default function Logs(props: { pod: Pod }) {
  const { namespace, name } = props.pod.metadata;
  const containers = [...props.pod.spec.containers, ...(props.pod.spec.initContainers ?? [])].map((one) => one.name);
  const container = createMemo(() => (containers.includes(query("container")) ? query("container") : containers[0]!));
  const previous = createMemo(() => query("previous") === "true");
  const kept = keep(true);
  const [ended, setEnded] = createSignal<string>();

  createEffect(on([container, previous], ([of, before]) => {
    kept.clear();
    setEnded(undefined);
    const path = `/api/v1/namespaces/${namespace}/pods/${name}/log?container=${encodeURIComponent(of)}&timestamps=true&tailLines=5000&${before ? "previous=true" : "follow=true"}`;
    const decoder = new TextDecoder();
    let stopped = false, came = false;
    const connection = new WebSocket(socket(`/k8s${path}`), "binary.k8s.io");
    connection.binaryType = "arraybuffer";
    connection.onmessage = (message) => {
      came = true;
      kept.take(typeof message.data === "string" ? message.data : decoder.decode(message.data as ArrayBuffer, { stream: true }));
    };
    connection.onclose = () => {
      if (stopped) return;
      kept.end();
      if (came) return void setEnded(t("logs.ended"));
      get(path.replace("follow=true", "follow=false")).then((text) => { kept.take(String(text)); kept.end(); setEnded(t("logs.ended")); }, (error: Error) => setEnded(error.message));
    };
    onCleanup(() => { stopped = true; kept.stop(); connection.close(); });
  }));
  return (
    <LogLines kept={kept} ended={ended()} stamped
      before={<label class="row" style={{ gap: "4px" }}><span class="soft">{t("pod.container")}</span>
        <select class="field" onChange={(event) => setQuery({ container: event.currentTarget.value })}><For each={containers}>{(one) => <option value={one} selected={one === container()}>{one}</option>}</For></select></label>}
      after={<button class="button" aria-pressed={previous()} onClick={() => setQuery({ previous: previous() ? "" : "true" })}>{t("logs.previous")}</button>} />
  );
}
