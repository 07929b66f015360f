/// A run's log as it is written, whole or of one stage or step, from the byte where a lost connection ended.
import { createEffect, createMemo, createSignal, on, onCleanup } from "solid-js";
import { Refused } from "../kube/client";
import { isOver, left, type Run } from "../kube/pipelines";
import { t } from "../words";
import { keep, LogLines } from "./LogLines";

/// Of a long log only so many bytes at its end are read; the whole of it is there for download.
const TAIL = 4 << 20;
/// Milliseconds until a connection that was lost is begun again, at first and at last.
const AGAIN = 500, LATEST = 15_000;

export default function RunLog(props: { run: Run; stage?: string | undefined; step?: string | undefined }) {
  const kept = keep(false);
  const [ended, setEnded] = createSignal<string>();
  const whole = () => left(props.run, "log");
  // The object changes with everything that happens in the run; whose log it is does not.
  const whose = createMemo(() => [props.run.metadata.uid, props.stage ?? "", props.step ?? "", Boolean(props.run.status?.started ?? props.run.status?.log)] as const, undefined, { equals: (a, b) => a.every((one, at) => one === b[at]) });
  createEffect(on(whose, ([, stage, step, begun]) => {
    kept.clear();
    setEnded(undefined);
    // A run has no log before it begins.
    if (!begun) return;
    const decoder = new TextDecoder();
    const size = props.run.status?.log?.bytes ?? 0;
    const stop = new AbortController();
    let read = stage || step || size <= TAIL ? 0 : size - TAIL, delay = AGAIN, timer = 0;
    /// Reads on until the log ends; what breaks off is begun again where it was.
    const follow = async () => {
      const before = read;
      try {
        const query = new URLSearchParams({ ...(step ? { step } : stage ? { stage } : {}), from: String(read), follow: "true" });
        const answer = await fetch(`${whole()}?${query}`, { credentials: "same-origin", signal: stop.signal });
        if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim() || answer.statusText);
        const pieces = answer.body!.getReader();
        for (;;) {
          const { done, value } = await pieces.read();
          if (done) break;
          delay = AGAIN;
          read += value.length;
          kept.take(decoder.decode(value, { stream: true }));
        }
        // An answer ends with the run, or because nothing follows it now.
        if (!isOver(props.run)) {
          timer = window.setTimeout(() => void follow(), delay);
          if (read === before) delay = Math.min(delay * 2, LATEST);
          return;
        }
        kept.end();
        setEnded(t("logs.ended"));
      } catch (failed) {
        if (stop.signal.aborted) return;
        const refused = failed instanceof Refused ? failed : undefined;
        // Who may not read will not be let in later; a run that has just begun has no record yet.
        if (refused && refused.status < 500 && (refused.status !== 404 || isOver(props.run))) { kept.end(); return void setEnded(refused.message); }
        timer = window.setTimeout(() => void follow(), delay);
        delay = Math.min(delay * 2, LATEST);
      }
    };
    void follow();
    onCleanup(() => { stop.abort(); kept.stop(); window.clearTimeout(timer); });
  }));
  /// An answer has so much of a log; all of them together are the file.
  const [loading, setLoading] = createSignal(false);
  const download = async () => {
    setLoading(true);
    try {
      const parts: ArrayBuffer[] = [];
      for (let from = 0, all = 1; from < all;) {
        const answer = await fetch(`${whole()}?from=${from}`, { credentials: "same-origin" });
        if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
        const part = await answer.arrayBuffer();
        all = Number(answer.headers.get("x-log-bytes") ?? 0);
        if (part.byteLength === 0) break;
        from += part.byteLength;
        parts.push(part);
      }
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(parts, { type: "text/plain" }));
      link.download = `${props.run.metadata.name}.log`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (failed) {
      setEnded((failed as Error).message);
    }
    setLoading(false);
  };
  return <LogLines kept={kept} ended={ended()} after={<button class="button" disabled={loading()} onClick={() => void download()}>{t("run.download")}</button>} />;
}
