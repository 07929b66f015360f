/// Small parts: ages, notes, errors, popups.
import { createSignal, onCleanup, onMount, Show, type JSX } from "solid-js";
import { age, clock, exact } from "../format";
import type { Watched } from "../kube/watch";
import { t } from "../words";

export const Age = (props: { time: string | undefined }) => <time dateTime={props.time} title={exact(props.time)}>{age(props.time)}</time>;

/// What stands where nothing is: what would be here, and how to get it.
export const Note = (props: { words: string; command?: string }) => (
  <div class="note">
    <p>{props.words}</p>
    <Show when={props.command}><pre tabindex="0"><code>{props.command}</code></pre></Show>
  </div>
);

export const Wrong = (props: { error: string | undefined }) => (
  <Show when={props.error}><p class="wrong" role="alert">{t("error.load", { error: props.error! })}</p></Show>
);

/// Says when a watch is not live.
export const Fresh = (props: { of: Watched<never> | Watched<any> }) => (
  <>
    <Show when={props.of.phase() === "stale"}>
      <p class="stale" role="status">{t("state.staleSince", { time: clock(props.of.since()) })}</p>
    </Show>
    <Show when={props.of.phase() !== "live" && props.of.error()}><Wrong error={props.of.error()!.message} /></Show>
  </>
);

/// A button that opens a sheet below it; Escape and a click elsewhere close it.
export function Popup(props: { label: JSX.Element; title: string; children: JSX.Element; plain?: boolean }) {
  const [open, setOpen] = createSignal(false);
  let box!: HTMLDivElement;
  const outside = (event: Event) => {
    if (!box.contains(event.target as globalThis.Node)) setOpen(false);
  };
  onMount(() => document.addEventListener("pointerdown", outside));
  onCleanup(() => document.removeEventListener("pointerdown", outside));
  return (
    <div class="popup" ref={box} onKeyDown={(event) => { if (event.key === "Escape" && open()) { setOpen(false); box.querySelector("button")?.focus(); event.stopPropagation(); } }}>
      <button class={`button ${props.plain ? "bare" : ""}`} aria-expanded={open()} aria-label={props.title} title={props.title} onClick={() => setOpen(!open())}>{props.label}</button>
      <Show when={open()}><div class="sheet" onClick={(event) => { if ((event.target as Element).closest("[data-close]")) setOpen(false); }}>{props.children}</div></Show>
    </div>
  );
}

/// A dialog that takes the focus and gives it back.
export function Dialog(props: { title: string; onClose: () => void; children: JSX.Element }) {
  let element!: HTMLDialogElement;
  const before = document.activeElement as HTMLElement | null;
  onMount(() => element.showModal());
  onCleanup(() => before?.focus?.());
  return (
    <dialog ref={element} aria-label={props.title} onClose={() => props.onClose()} onClick={(event) => { if (event.target === element) element.close(); }}>
      <div class="stack"><h2>{props.title}</h2>{props.children}</div>
    </dialog>
  );
}

/// Asks before something changes: what it touches, the same as a command, and for what destroys, the name.
export function Confirm(props: { title: string; what: string; command: string; name?: string; danger?: boolean; act: () => Promise<unknown>; onClose: () => void; extra?: JSX.Element }) {
  const [typed, setTyped] = createSignal("");
  const [error, setError] = createSignal<string>();
  const [busy, setBusy] = createSignal(false);
  const act = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await props.act();
      props.onClose();
    } catch (failed) {
      setError((failed as Error).message);
      setBusy(false);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form class="stack" onSubmit={act}>
        <p>{props.what}</p>
        {props.extra}
        <div><p class="soft small">{t("action.command")}</p><pre tabindex="0"><code>{props.command}</code></pre></div>
        <Show when={props.name}>
          <label><span>{t("action.typeName", { name: props.name! })}</span>
            <input class="field mono" autocomplete="off" spellcheck={false} value={typed()} onInput={(event) => setTyped(event.currentTarget.value)} /></label>
        </Show>
        <Show when={error()}><p class="wrong" role="alert">{error()}</p></Show>
        <div class="row"><span class="grow" />
          <button type="button" class="button" onClick={props.onClose}>{t("action.cancel")}</button>
          <button type="submit" class={`button ${props.danger ? "danger" : "primary"}`} disabled={busy() || (props.name !== undefined && typed() !== props.name)}>{props.title}</button>
        </div>
      </form>
    </Dialog>
  );
}
