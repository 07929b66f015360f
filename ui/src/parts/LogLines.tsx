/// Lines of a log: drawn only where they are seen, filtered, followed while they are written; the last of them kept.
import { createEffect, createMemo, createSignal, For, on, Show, type Accessor, type JSX } from "solid-js";
import { t, tn } from "../words";

const KEPT = 20_000;
const LINE = 18;
/// Bytes of a line without an end, so that none grows for ever.
const LONGEST = 1_000_000;
export interface Entry { time: string; text: string }
export interface Kept { lines: Accessor<readonly Entry[]>; dropped: Accessor<number>; take: (text: string) => void; end: () => void; clear: () => void; stop: () => void }

/// Colours and cursor movements of terminals, left out.
// eslint-disable-next-line no-control-regex
const plain = (text: string) => text.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b[@-_]|[\u0000-\u0008\u000b-\u001f\u007f]/g, "");

/// Keeps the lines of text that comes in pieces; `stamped` ones begin with their time.
export function keep(stamped: boolean): Kept {
  const [lines, setLines] = createSignal<readonly Entry[]>([]);
  const [dropped, setDropped] = createSignal(0);
  let rest = "", waiting: Entry[] = [], due = 0;
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
  const line = (text: string) => {
    const at = stamped ? text.indexOf(" ") : -1;
    const time = at > 0 && /^\d{4}-\d\d-\d\dT/.test(text) ? text.slice(0, at) : "";
    waiting.push({ time, text: plain(time ? text.slice(at + 1) : text) });
    // Lines of one moment are shown together.
    if (!due) due = window.setTimeout(flush, 50);
  };
  return {
    lines, dropped,
    take: (text) => {
      rest += text;
      const split = rest.split("\n");
      rest = split.pop() ?? "";
      if (rest.length > LONGEST) { line(rest); rest = ""; }
      split.forEach(line);
    },
    end: () => { if (rest) line(rest); rest = ""; },
    clear: () => { window.clearTimeout(due); due = 0; waiting = []; rest = ""; setLines([]); setDropped(0); },
    stop: () => window.clearTimeout(due),
  };
}

export function LogLines(props: { kept: Kept; ended: string | undefined; before?: JSX.Element; after?: JSX.Element; stamped?: boolean; empty?: string }) {
  const [follow, setFollow] = createSignal(true);
  const [times, setTimes] = createSignal(false);
  const [filter, setFilter] = createSignal("");
  const [view, setView] = createSignal<[number, number]>([0, 60]);
  let box: HTMLDivElement | undefined;
  const shown = createMemo(() => {
    const words = filter().toLowerCase();
    return words ? props.kept.lines().filter((line) => line.text.toLowerCase().includes(words)) : props.kept.lines();
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
        {props.before}
        <input class="field" type="search" data-filter aria-label={t("logs.filter")} placeholder={t("logs.filter")} value={filter()} onInput={(event) => setFilter(event.currentTarget.value)} />
        <span class="soft small" role="status">{tn("logs.lines", shown().length)}{props.kept.dropped() ? `. ${t("logs.cut", { n: KEPT })}` : ""}</span>
        <span class="grow" />
        <Show when={props.stamped}><button class="button" aria-pressed={times()} onClick={() => setTimes(!times())}>{t("logs.times")}</button></Show>
        {props.after}
        <button class="button" aria-pressed={follow()} onClick={() => { setFollow(!follow()); if (follow() && box) box.scrollTop = box.scrollHeight; }}>{t("logs.follow")}</button>
      </div>
      <div class="logs" ref={(element) => (box = element)} onScroll={scrolled} tabindex="0" role="log" aria-live="off" aria-label={t("logs.label")}>
        <Show when={shown().length === 0}><p class="note">{props.ended ?? props.empty ?? t("logs.none")}</p></Show>
        <div style={{ height: `${Math.min(view()[0], shown().length) * LINE}px` }} />
        <For each={shown().slice(view()[0], view()[1])}>{(line) => <pre><Show when={times()}><time>{line.time.slice(0, 23).replace("T", " ")}</time></Show>{parts(line.text)}</pre>}</For>
        <div style={{ height: `${Math.max(0, shown().length - view()[1]) * LINE}px` }} />
      </div>
      <Show when={props.ended && shown().length > 0}><p class="soft small" role="status">{props.ended}</p></Show>
    </div>
  );
}
