/// A terminal in a container: xterm.js over the API server's exec, channel protocol version 5.
///
/// Each message begins with its channel: 0 input, 1 output, 2 error output, 3 how it ended, 4 size, 255 closes a channel.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal as Screen } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { createEffect, createSignal, For, on, onCleanup, Show } from "solid-js";
import type { Pod } from "../kube/types";
import { get, socket } from "../kube/client";
import { query, setQuery } from "../router";
import { t } from "../words";

/// The best shell that the image has.
const SHELL = ["/bin/sh", "-c", "TERM=xterm-256color; export TERM; if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"];

export default function Terminal(props: { pod: Pod }) {
  const { namespace, name } = props.pod.metadata;
  const containers = props.pod.spec.containers.map((one) => one.name);
  const container = () => (containers.includes(query("container")) ? query("container") : containers[0]!);
  const [turn, setTurn] = createSignal(0);
  const [ended, setEnded] = createSignal<string>();
  let box!: HTMLDivElement, choice!: HTMLSelectElement;

  createEffect(on([container, turn], ([of]) => {
    setEnded(undefined);
    const screen = new Screen({ cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches, fontSize: 13, fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"), theme: { background: "#10151b", foreground: "#e6ecf2", cursor: "#4fc4b6" }, scrollback: 5000, screenReaderMode: false });
    const fit = new FitAddon();
    screen.loadAddon(fit);
    screen.open(box);
    fit.fit();
    screen.textarea?.setAttribute("aria-label", t("term.label", { container: of }));
    const path = `/api/v1/namespaces/${namespace}/pods/${name}/exec?container=${encodeURIComponent(of)}&stdin=true&stdout=true&tty=true${SHELL.map((word) => `&command=${encodeURIComponent(word)}`).join("")}`;
    const connection = new WebSocket(socket(`/k8s${path}`), "v5.channel.k8s.io");
    connection.binaryType = "arraybuffer";
    const encoder = new TextEncoder();
    const say = (channel: number, text: string) => {
      if (connection.readyState !== WebSocket.OPEN) return;
      const bytes = encoder.encode(text);
      const message = new Uint8Array(bytes.length + 1);
      message[0] = channel;
      message.set(bytes, 1);
      connection.send(message);
    };
    const size = () => say(4, JSON.stringify({ Width: screen.cols, Height: screen.rows }));
    let stopped = false, opened = false;
    connection.onopen = () => { opened = true; size(); screen.focus(); };
    connection.onmessage = (message) => {
      const bytes = new Uint8Array(message.data as ArrayBuffer);
      if (bytes[0] === 1 || bytes[0] === 2) screen.write(bytes.subarray(1));
      else if (bytes[0] === 3) {
        const status = JSON.parse(new TextDecoder().decode(bytes.subarray(1)) || "{}") as { status?: string; message?: string };
        setEnded(status.status === "Failure" ? status.message : t("term.ended"));
      }
    };
    connection.onclose = () => {
      if (stopped) return;
      if (!ended()) setEnded(t("term.ended"));
      // A refused WebSocket tells no reason; the same request without upgrade does.
      if (!opened) get(path).catch((error: Error) => setEnded(error.message));
    };
    // The shell gets Tab like every other key, so another one leads on.
    screen.attachCustomKeyEventHandler((event) => {
      if (event.key !== "F6") return true;
      if (event.type === "keydown") { event.preventDefault(); choice.focus(); }
      return false;
    });
    screen.onData((text) => say(0, text));
    screen.onResize(size);
    const observer = new ResizeObserver(() => { try { fit.fit(); } catch { /* It is being taken away. */ } });
    observer.observe(box);
    onCleanup(() => { stopped = true; observer.disconnect(); connection.close(); screen.dispose(); });
  }));
  return (
    <div class="stack" style={{ gap: "8px" }}>
      <div class="row">
        <label class="row" style={{ gap: "4px" }}><span class="soft">{t("pod.container")}</span>
          <select class="field" ref={choice} onChange={(event) => setQuery({ container: event.currentTarget.value })}><For each={containers}>{(one) => <option value={one} selected={one === container()}>{one}</option>}</For></select></label>
        <span class="soft small" role="status">{ended() ?? ""}</span><span class="grow" />
        <span class="soft small"><kbd>F6</kbd> {t("term.leave")}</span>
        <Show when={ended()}><button class="button primary" onClick={() => setTurn(turn() + 1)}>{t("term.connect")}</button></Show>
      </div>
      <div class="shell" ref={box} />
    </div>
  );
}
