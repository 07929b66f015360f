/// A run's log as it is written, whole or of one step, from the byte where a lost connection ended.
import { createEffect, createMemo, createSignal, on, onCleanup } from "solid-js";
import { send, socket } from "../kube/client";
import { isOver, left, type Run } from "../kube/pipelines";
import { t } from "../words";
import { keep, LogLines } from "./LogLines";

/// Of a long log only so many bytes at its end are read; the whole of it is there for download.
const TAIL = 4 << 20;

export default function RunLog(props: { run: Run; stage?: string | undefined; step?: string | undefined }) {
  const kept = keep(false);
  const [ended, setEnded] = createSignal<string>();
  const whole = () => left(props.run, "log");
  // The object changes with everything that happens in the run; whose log it is does not.
  const whose = createMemo(() => [props.run.metadata.uid, props.stage ?? "", props.step ?? ""] as const, undefined, { equals: (a, b) => a.every((one, at) => one === b[at]) });
  createEffect(on(whose, ([, stage, step]) => {
    kept.clear();
    setEnded(undefined);
    const decoder = new TextDecoder();
    const size = props.run.status?.log?.bytes ?? 0;
    let stopped = false, read = stage || step || size <= TAIL ? 0 : size - TAIL, delay = 500, timer = 0;
    let connection: WebSocket | undefined;
    const path = (follow: boolean) => `${whole()}?${new URLSearchParams({ ...(step ? { step } : stage ? { stage } : {}), ...(read ? { start: String(read) } : {}), ...(follow ? { follow: "true" } : {}) })}`;
    const open = () => {
      let came = false;
      connection = new WebSocket(socket(path(true)), "binary.k8s.io");
      connection.binaryType = "arraybuffer";
      connection.onmessage = (message) => {
        came = true;
        delay = 500;
        const bytes = new Uint8Array(message.data as ArrayBuffer);
        read += bytes.length;
        kept.take(decoder.decode(bytes, { stream: true }));
      };
      connection.onclose = (event) => {
        if (stopped) return;
        // A clean end is the log's; any other is the connection's, and begins again where it was.
        if (event.wasClean || isOver(props.run)) {
          kept.end();
          if (came || read > 0) return void setEnded(t("logs.ended"));
          // A WebSocket that is refused does not tell why; the same request does.
          send("GET", path(false)).then((text) => { kept.take(String(text)); kept.end(); setEnded(t("logs.ended")); }, (error: Error) => setEnded(error.message));
          return;
        }
        timer = window.setTimeout(open, delay);
        delay = Math.min(delay * 2, 15_000);
      };
    };
    // What has ended is read at once.
    if (isOver(props.run)) send("GET", path(false)).then((text) => { if (!stopped) { kept.take(typeof text === "string" ? text : JSON.stringify(text)); kept.end(); setEnded(t("logs.ended")); } }, (error: Error) => { if (!stopped) setEnded(error.message); });
    else open();
    onCleanup(() => { stopped = true; kept.stop(); window.clearTimeout(timer); connection?.close(); });
  }));
  return <LogLines kept={kept} ended={ended()} after={<a class="button" href={whole()} download={`${props.run.metadata.name}.log`}>{t("run.download")}</a>} />;
}
