/// A pod's log as it is written: lines drawn only where they are seen, the last of them kept.
import { createEffect, createMemo, createSignal, For, on, onCleanup, Show } from "solid-js";
import type { Pod } from "../kube/types";
import { get, socket } from "../kube/client";
import { query, setQuery } from "../router";
import { t, tn } from "../words";

const KEPT = 20_000;
const LINE = 18;
interface Entry { time: string; text: string }

/// Colours and cursor movements of terminals, left out.
// eslint-disable-next-line no-control-regex
const plain = (text: string) => text.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b[@-_]|[\u0000-\u0008\u000b-\u001f\u007f]/g, "");

export default function Logs(props: { pod: Pod }) {
  const { namespace, name } = props.pod.metadata;
  const containers = [...props.pod.spec.containers, ...(props.pod.spec.initContainers ?? [])].map((one) => one.name);
  const container = () => (containers.includes(query("container")) ? query("container") : containers[0]!);
  const previous = () => query("previous") === "true";
  const [lines, setLines] = createSignal<readonly Entry[]>([]);
  const [dropped, setDropped] = createSignal(0);
  const [ended, setEnded] = createSignal<string>();
  const [follow, setFollow] = createSignal(true);
  const [times, setTimes] = createSignal(false);
  const [filter, setFilter] = createSignal("");
  const [view, setView] = createSignal<[number, number]>([0, 60]);
  let box: HTMLDivElement | undefined;

  createEffect(on([container, previous], ([of, before]) => {
    setLines([]);
    setDropped(0);
    setEnded(undefined);
    const path = `/api/v1/namespaces/${namespace}/pods/${name}/log?container=${encodeURIComponent(of)}&timestamps=true&tailLines=5000&${before ? "previous=true" : "follow=true"}`;
    const decoder = new TextDecoder();
    let rest = "", waiting: Entry[] = [], due = 0, stopped = false, came = false;
    const flush = () => {
      due = 0;
      const more = waiting;
      waiting = [];
      setLines((old) => {
        const all = old.concat(more);
        if (all.length > KEPT) setDropped((n) => n + all.length - KEPT);
        return all.length > KEPT ? all.slice(-KEPT) : all;
      });
    };
    const take = (line: string) => {
      const at = line.indexOf(" ");
      const time = at > 0 && /^\d{4}-\d\d-\d\dT/.test(line) ? line.slice(0, at) : "";
      waiting.push({ time, text: plain(time ? line.slice(at + 1) : line) });
      if (!due) due = window.setTimeout(flush, 50);
    };
    const connection = new WebSocket(socket(`/k8s${path}`), "binary.k8s.io");
    connection.binaryType = "arraybuffer";
    connection.onmessage = (message) => {
      came = true;
      rest += typeof message.data === "string" ? message.data : decoder.decode(message.data as ArrayBuffer, { stream: true });
      const split = rest.split("\n");
      rest = split.pop() ?? "";
      // A line without an end must not grow for ever.
      if (rest.length > 1_000_000) { take(rest); rest = ""; }
      split.forEach(take);
    };
    connection.onclose = () => {
      if (stopped) return;
      if (rest) take(rest);
      if (came) return void setEnded(t("logs.ended"));
      get(path.replace("follow=true", "follow=false")).then((text) => { String(text).split("\n").filter(Boolean).forEach(take); setEnded(t("logs.ended")); }, (error: Error) => setEnded(error.message));
    };
    onCleanup(() => { stopped = true; window.clearTimeout(due); connection.close(); });
  }));

  const shown = createMemo(() => {
    const words = filter().toLowerCase();
    return words ? lines().filter((line) => line.text.toLowerCase().includes(words)) : lines();
  });
  const look = () => {
    if (!box) return;
    setView([Math.max(0, Math.floor(box.scrollTop / LINE) - 20), Math.ceil((box.scrollTop + box.clientHeight) / LINE) + 20]);
  };
  const scrolled = () => {
    if (!box) return;
    look();
    setFollow(box.scrollTop + box.clientHeight >= box.scrollHeight - LINE * 2);
  };
  createEffect(on(shown, () => queueMicrotask(() => {
    if (follow() && box) box.scrollTop = box.scrollHeight;
    look();
  })));
  const parts = (text: string) => {
    const words = filter();
    const at = words ? text.toLowerCase().indexOf(words.toLowerCase()) : -1;
    return at < 0 ? text : [text.slice(0, at), <mark>{text.slice(at, at + words.length)}</mark>, text.slice(at + words.length)];
  };
  return (
    <div class="stack" style={{ flex: 1, gap: "8px" }}>
      <div class="row">
        <label class="row" style={{ gap: "4px" }}><span class="soft">{t("pod.container")}</span>
          <select class="field" onChange={(event) => setQuery({ container: event.currentTarget.value })}><For each={containers}>{(one) => <option value={one} selected={one === container()}>{one}</option>}</For></select></label>
        <input class="field" type="search" data-filter aria-label={t("logs.filter")} placeholder={t("logs.filter")} value={filter()} onInput={(event) => setFilter(event.currentTarget.value)} />
        <span class="soft small" role="status">{tn("logs.lines", shown().length)}{dropped() ? `. ${t("logs.cut", { n: KEPT })}` : ""}</span>
        <span class="grow" />
        <button class="button" aria-pressed={times()} onClick={() => setTimes(!times())}>{t("logs.times")}</button>
        <button class="button" aria-pressed={previous()} onClick={() => setQuery({ previous: previous() ? "" : "true" })}>{t("logs.previous")}</button>
        <button class="button" aria-pressed={follow()} onClick={() => { setFollow(!follow()); if (follow() && box) box.scrollTop = box.scrollHeight; }}>{t("logs.follow")}</button>
      </div>
      <div class="logs" ref={(element) => (box = element)} onScroll={scrolled} tabindex="0" role="log" aria-live="off" aria-label={t("logs.label")}>
        <Show when={shown().length === 0}><p class="note">{ended() ?? t("logs.none")}</p></Show>
        <div style={{ height: `${Math.min(view()[0], shown().length) * LINE}px` }} />
        <For each={shown().slice(view()[0], view()[1])}>{(line) => <pre><Show when={times()}><time>{line.time.slice(0, 23).replace("T", " ")}</time></Show>{parts(line.text)}</pre>}</For>
        <div style={{ height: `${Math.max(0, shown().length - view()[1]) * LINE}px` }} />
      </div>
      <Show when={ended() && shown().length > 0}><p class="soft small" role="status">{ended()}</p></Show>
    </div>
  );
}
