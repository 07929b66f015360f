/// A list: one filter line, columns chosen by the person and kept, rows drawn only where they are seen, several chosen at once.
import { createEffect, createMemo, createSignal, For, on, onCleanup, Show, type JSX } from "solid-js";
import { query, setQuery } from "../router";
import { t, tn, type Key } from "../words";
import { fitsFilter } from "../filter";
import { Popup } from "./Small";

export interface Column<T> {
  id: string; label: Key; cell: (row: T) => JSX.Element; sort?: (row: T) => string | number; number?: boolean; text?: (row: T) => string; first?: boolean; hidden?: boolean; narrow?: boolean;
}
export interface TableProps<T> {
  id: string; rows: readonly T[]; columns: readonly Column<T>[]; key: (row: T) => string; name: (row: T) => string; actions?: (chosen: T[]) => JSX.Element; empty: JSX.Element; label: string; loading?: boolean;
  labels?: (row: T) => Record<string, string> | undefined; extra?: JSX.Element;
}

const ROW = 30;
/// Rows drawn above and below those that are seen.
const AROUND = 12;

export function Table<T>(props: TableProps<T>) {
  const [filter, setFilter] = createSignal(query("q"));
  createEffect(on(filter, (text) => setQuery({ q: text }), { defer: true }));
  const kept = `columns/${props.id}`;
  const [off, setOff] = createSignal<ReadonlySet<string>>(new Set(JSON.parse(localStorage.getItem(kept) ?? "null") ?? props.columns.filter((one) => one.hidden).map((one) => one.id)));
  createEffect(() => localStorage.setItem(kept, JSON.stringify([...off()])));
  const [chosen, setChosen] = createSignal<ReadonlySet<string>>(new Set());
  const columns = createMemo(() => props.columns.filter((column) => column.first || !off().has(column.id)));
  const sortBy = () => query("sort") || props.columns.find((column) => column.sort)?.id || "";
  const rows = createMemo(() => {
    const found = props.rows.filter((row) => fitsFilter(row, filter(), props.columns, props.name(row), props.labels?.(row)));
    const down = sortBy().startsWith("-");
    const column = props.columns.find((one) => one.id === sortBy().replace("-", ""));
    if (!column?.sort) return found;
    const keys = new Map(found.map((row) => [row, column.sort!(row)]));
    return found.sort((a, b) => {
      const [x, y] = [keys.get(a)!, keys.get(b)!];
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
      return (down ? -order : order) || props.name(a).localeCompare(props.name(b), undefined, { numeric: true });
    });
  });
  const picked = createMemo(() => props.rows.filter((row) => chosen().has(props.key(row))));
  let box: HTMLDivElement | undefined;
  const [view, setView] = createSignal<[number, number]>([0, 60]);
  const look = () => {
    if (!box) return;
    const main = box.closest<HTMLElement>(".main");
    const top = Math.max(0, box.scrollTop);
    const high = Math.min(box.clientHeight, main?.clientHeight ?? 900) || 600;
    setView([Math.max(0, Math.floor(top / ROW) - AROUND), Math.ceil((top + high) / ROW) + AROUND]);
  };
  // The box comes and goes with the rows.
  const observer = new ResizeObserver(look);
  onCleanup(() => observer.disconnect());
  const boxed = (element: HTMLDivElement) => {
    box = element;
    observer.disconnect();
    observer.observe(element);
  };
  const window_ = createMemo(() => ({ before: Math.min(view()[0], rows().length), shown: rows().slice(view()[0], view()[1]), after: Math.max(0, rows().length - view()[1]) }));
  /// Pixels that all rows take, of which some are higher than the others.
  const room = () => Math.max(2, rows().length) * (ROW + 8) + 56;
  const toggle = (key: string) => setChosen((old) => { const next = new Set(old); if (!next.delete(key)) next.add(key); return next; });
  const press = (event: KeyboardEvent) => {
    const links = [...(box?.querySelectorAll<HTMLElement>("tbody a[data-row]") ?? [])];
    const at = links.indexOf(document.activeElement as HTMLElement);
    if (event.key === "ArrowDown" || event.key === "ArrowUp" || event.key === "j" || event.key === "k") {
      event.preventDefault();
      const to = links[Math.min(links.length - 1, Math.max(0, at + (event.key === "ArrowDown" || event.key === "j" ? 1 : -1)))];
      to?.focus();
      to?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "x" && at >= 0) { event.preventDefault(); toggle(links[at]!.dataset.row!); }
  };
  const sort = (id: string) => setQuery({ sort: sortBy() === id ? `-${id}` : id });
  return (
    <div class="stack" style={{ flex: "1 1 auto", gap: "8px" }}>
      <div class="row">
        <input class="field grow" style={{ "max-width": "360px", "min-width": "160px" }} type="search" data-filter aria-label={t("list.filter")} placeholder={t("list.filter")} value={filter()}
          onInput={(event) => setFilter(event.currentTarget.value)} onKeyDown={(event) => { if (event.key === "Escape") setFilter(""); if (event.key === "ArrowDown") box?.querySelector<HTMLElement>("a[data-row]")?.focus(); }} />
        <span class="soft small" role="status">{tn("list.count", rows().length)}</span>
        <span class="grow" />
        {props.extra}
        <Popup label={t("list.columns")} title={t("list.columns")}>
          <For each={props.columns.filter((column) => !column.first)}>{(column) => (
            <label class="row"><input type="checkbox" checked={!off().has(column.id)} onChange={() => setOff((old) => { const next = new Set(old); if (!next.delete(column.id)) next.add(column.id); return next; })} />{t(column.label)}</label>)}</For>
        </Popup>
      </div>
      <Show when={props.actions && picked().length > 0}>
        <div class="row card" style={{ padding: "6px 12px" }}><strong>{tn("list.selected", picked().length)}</strong>{props.actions!(picked())}<button class="button bare" onClick={() => setChosen(new Set<string>())}>{t("list.clear")}</button></div>
      </Show>
      <Show when={!props.loading} fallback={<div class="shape" style={{ height: "240px" }} />}>
        <Show when={props.rows.length > 0} fallback={<div class="card">{props.empty}</div>}>
          <div class="table fill" style={{ "max-height": `${room()}px`, "min-height": `${Math.min(240, room())}px` }} ref={boxed} onScroll={look} onKeyDown={press} tabindex="0" role="group" aria-label={props.label}>
            <table aria-rowcount={rows().length + 1}>
              <thead><tr>
                <Show when={props.actions}><th style={{ width: "32px" }}><input type="checkbox" aria-label={t("list.selectAll")} checked={picked().length > 0 && picked().length === rows().length} onChange={(event) => setChosen(event.currentTarget.checked ? new Set(rows().map(props.key)) : new Set<string>())} /></th></Show>
                <For each={columns()}>{(column) => (
                  <th class={column.number ? "num" : ""} classList={{ "wide-only": column.narrow === false }} aria-sort={sortBy().replace("-", "") === column.id ? (sortBy().startsWith("-") ? "descending" : "ascending") : undefined}>
                    <Show when={column.sort} fallback={t(column.label)}><button onClick={() => sort(column.id)} title={t("list.sort", { name: t(column.label) })}>{t(column.label)}{sortBy() === column.id ? " ↑" : sortBy() === `-${column.id}` ? " ↓" : ""}</button></Show></th>)}</For>
              </tr></thead>
              <tbody>
                <Show when={window_().before > 0}><tr class="gap" aria-hidden="true"><td colspan={columns().length + 1} style={{ height: `${window_().before * ROW}px` }} /></tr></Show>
                <For each={window_().shown}>{(row) => (
                  <tr aria-selected={chosen().has(props.key(row))}>
                    <Show when={props.actions}><td><input type="checkbox" aria-label={t("list.select", { name: props.name(row) })} checked={chosen().has(props.key(row))} onChange={() => toggle(props.key(row))} /></td></Show>
                    <For each={columns()}>{(column) => <td class={column.number ? "num" : ""} classList={{ "wide-only": column.narrow === false }}><span class="cut">{column.cell(row)}</span></td>}</For>
                  </tr>)}</For>
                <Show when={window_().after > 0}><tr class="gap" aria-hidden="true"><td colspan={columns().length + 1} style={{ height: `${window_().after * ROW}px` }} /></tr></Show>
              </tbody>
            </table>
            <Show when={rows().length === 0}><p class="note">{t("list.none")}</p></Show>
          </div>
        </Show>
      </Show>
    </div>
  );
}
