/// The yard: nodes as bays, pods as boxes; beside it what is wrong, what changed, what is under pressure; below it four plots.
import { createEffect, createMemo, createSignal, For, on, onCleanup, onMount, Show } from "solid-js";
import { alpha, default as Plot } from "../parts/Plot";
import { withGaps } from "../plot-data";
import { coloursOf, dark, token } from "../colours";
import { brief, bytes, cores, latency, percent, quantity, short } from "../format";
import { pageOf } from "../kube/kinds";
import { runsPath, runState, shortCommit, title, type Run } from "../kube/pipelines";
import { RELEASES, releaseState, type Release } from "../kube/releases";
import { nodeState, podState, restarts, workloadState, type Kind, type State as Stated } from "../kube/status";
import type { Event, Node, Pod, Workload } from "../kube/types";
import { eventTime } from "../kube/types";
import { watch } from "../kube/watch";
import { queryInstant, queryRange, repeated } from "../prometheus";
import { marksOf } from "../marks";
import { isLive, range, refresh, step } from "../range";
import { go, href, query, setQuery } from "../router";
import { has } from "../session";
import { Age, Fresh, Note, Wrong } from "../parts/Small";
import { Shape } from "../parts/State";
import { send } from "../kube/client";
import { t, tn } from "../words";
import { bay, fit, next, NAMED, type Placed } from "./yard-layout";
import { badness, flows, rates, thickness, type EndpointSlice, type Flow, type Rate } from "./yard-traffic";

const HEAD = 40, PAD = 12, BAY_GAP = 16;
/// The room above the bays where the gateway stands while traffic is drawn.
const GATE = 52;
/// What a pod that asks for nothing is measured against, in cores.
const NOMINAL = 0.1;
const MOTION = 150;
const STATES: Record<Kind, string> = { good: "green", warn: "amber", bad: "red", new: "blue", idle: "faint" };

interface Box { pod: Pod; state: Stated; load: number | undefined; request: number; memory: number; restarts: number }
const keyOf = (pod: Pod) => `${pod.metadata.namespace}/${pod.metadata.name}`;
const asks = (pod: Pod, what: string) => pod.spec.containers.reduce((sum, one) => sum + quantity(one.resources?.requests?.[what]), 0);

/// Whether a pod fits the filter: words in its name, `key:value` for namespace, node, state and labels.
export function fits(box: { pod: Pod; state: Stated }, filter: string): boolean {
  return filter.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const [key, ...rest] = word.split(":");
    const value = rest.join(":");
    if (rest.length === 0) return keyOf(box.pod).toLowerCase().includes(word);
    if (key === "ns" || key === "namespace") return box.pod.metadata.namespace === value;
    if (key === "node") return (box.pod.spec.nodeName ?? "").includes(value);
    if (key === "state") return box.state.kind === value || box.state.word.toLowerCase().includes(value);
    return (box.pod.metadata.labels?.[key!] ?? "").toLowerCase().includes(value);
  });
}

export function Yard() {
  const pods = watch<Pod>("/api/v1/pods");
  const nodes = watch<Node>("/api/v1/nodes");
  const deployments = watch<Workload>("/apis/apps/v1/deployments");
  const events = watch<Event>("/api/v1/events");
  const [filter, setFilter] = createSignal(query("q"));
  createEffect(on(filter, (text) => setQuery({ q: text }), { defer: true }));

  const metrics = has("metrics");
  const usage = repeated(async (signal) => {
    if (!metrics) return new Map<string, number>();
    const samples = await queryInstant('sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{container!="",pod!=""}[2m]))', Date.now(), signal);
    return new Map(samples.map((sample) => [`${sample.labels.namespace}/${sample.labels.pod}`, sample.value]));
  }, () => (metrics ? 15 : 0));
  const boxes = createMemo(() => new Map(pods.items()
    .filter((pod) => !query("ns") || pod.metadata.namespace === query("ns"))
    .map((pod): [string, Box] => [keyOf(pod), { pod, state: podState(pod), load: usage.value()?.get(keyOf(pod)), request: asks(pod, "cpu"), memory: asks(pod, "memory"), restarts: restarts(pod) }])));
  // Traffic is known from the gateway only, and drawn when asked for.
  const gated = metrics && has("gateway");
  const drawn = () => gated && query("traffic") === "on";
  const traffic = repeated(async (signal) => (gated ? rates(await queryInstant("sum by (namespace, service, code) (rate(gateway_requests_total[1m]))", Date.now(), signal)) : []), () => (gated ? 15 : 0));
  const seen = createMemo(() => (traffic.value() ?? []).filter((one) => !query("ns") || one.namespace === query("ns")));
  const slices = createMemo(() => (drawn() ? watch<EndpointSlice>("/apis/discovery.k8s.io/v1/endpointslices") : undefined));
  const flowing = createMemo(() => (drawn() ? flows(seen(), slices()?.items() ?? []).filter((one) => boxes().has(one.pod)) : undefined));
  const bad = createMemo(() => [...boxes().values()].filter((box) => box.state.kind === "bad" || box.state.kind === "warn"));
  const loaded = () => pods.phase() !== "loading" && nodes.phase() !== "loading";

  return (
    <div class="page">
      <header>
        <h1>{t("yard.title")}</h1>
        <Show when={loaded()}>
          <p class="soft" role="status">{t("yard.summary", { pods: tn("yard.pods", boxes().size), nodes: tn("yard.nodes", nodes.items().length), bad: bad().length })}</p>
        </Show>
        <Show when={gated}><button class="button end" aria-pressed={drawn()} onClick={() => setQuery({ traffic: drawn() ? "" : "on" })}>{t("yard.traffic")}</button></Show>
        <input class="field" classList={{ end: !gated }} type="search" data-filter placeholder={t("yard.filter")} aria-label={t("yard.filter")} value={filter()} onInput={(event) => setFilter(event.currentTarget.value)} onKeyDown={(event) => { if (event.key === "Escape") { setFilter(""); event.currentTarget.blur(); } }} style={{ width: "240px" }} />
      </header>
      <Fresh of={pods} /><Fresh of={nodes} />
      <div class="yard">
        <div class="stack">
          <Show when={loaded()} fallback={<div class="card shape" style={{ height: "420px" }} />}>
            <Show when={boxes().size > 0} fallback={<div class="card"><Note words={t("yard.empty")} command={"kubectl create deployment hello --image=registry.madang.internal/hello"} /></div>}>
              <Ground boxes={boxes()} nodes={nodes.items()} filter={filter()} flows={flowing()} rate={seen().reduce((sum, one) => sum + one.rate, 0)} />
            </Show>
          </Show>
          <Show when={metrics && (!gated || traffic.value() || traffic.error())}><Golden gateway={(traffic.value() ?? []).length > 0} /></Show>
        </div>
        <aside class="stack">
          <Show when={drawn()}><Traffic rates={seen()} error={traffic.error()} /></Show>
          <WrongNow bad={bad()} nodes={nodes.items()} deployments={deployments.items()} />
          <Changed events={events.items()} deployments={deployments.items()} />
          <Pressure />
        </aside>
      </div>
    </div>
  );
}

function Ground(props: { boxes: Map<string, Box>; nodes: readonly Node[]; filter: string; flows: readonly Flow[] | undefined; rate: number }) {
  let ground!: HTMLDivElement, canvas!: HTMLCanvasElement;
  const [width, setWidth] = createSignal(0);
  const [hover, setHover] = createSignal<string>();
  const [focus, setFocus] = createSignal<string>();
  const [seen, setSeen] = createSignal("");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  /// When boxes came, blinked, and went; where they stood.
  const came = new Map<string, number>(), blinked = new Map<string, number>();
  const gone = new Map<string, { place: Placed; at: number }>();
  let counts = new Map<string, number>();
  let frame = 0;

  const layout = createMemo(() => {
    const wide = width();
    const names = props.nodes.map((node) => node.metadata.name).sort();
    const homeless = [...props.boxes.values()].some((box) => !names.includes(box.pod.spec.nodeName ?? ""));
    const all = [...names, ...(homeless ? [""] : [])];
    const columns = Math.max(1, Math.min(all.length, Math.floor(wide / 340) || 1));
    const inner = (wide - BAY_GAP * (columns - 1)) / columns - 2 * PAD;
    const members = all.map((name) => [...props.boxes.entries()]
      .filter(([, box]) => (names.includes(box.pod.spec.nodeName ?? "") ? box.pod.spec.nodeName : "") === name)
      .map(([id, box]) => ({ id, group: box.pod.metadata.namespace ?? "", memory: box.memory })));
    const unit = fit(members, columns, inner, 460, HEAD + 2 * PAD + BAY_GAP);
    let top = props.flows ? GATE : 0;
    const bays: { name: string; x: number; y: number; w: number; h: number; boxes: Placed[]; labels: { text: string; x: number; y: number; w: number }[] }[] = [];
    for (let row = 0; row * columns < all.length; row += 1) {
      const cells = members.slice(row * columns, (row + 1) * columns).map((items) => bay(items, inner, unit));
      const height = HEAD + 2 * PAD + Math.max(unit, ...cells.map((cell) => cell.height));
      cells.forEach((cell, at) => {
        const x = at * (inner + 2 * PAD + BAY_GAP), y = top;
        const move = (place: { x: number; y: number }) => ({ x: place.x + x + PAD, y: place.y + y + HEAD + PAD / 2 });
        bays.push({
          name: all[row * columns + at]!, x, y, w: inner + 2 * PAD, h: height,
          boxes: cell.boxes.map((box) => ({ ...box, ...move(box) })), labels: cell.labels.map((label) => ({ ...label, ...move(label) })),
        });
      });
      top += height + BAY_GAP;
    }
    return { bays, height: Math.max(120, top - BAY_GAP), unit };
  });
  const places = createMemo(() => new Map(layout().bays.flatMap((one) => one.boxes.map((box) => [box.id, box] as const))));

  /// What came, went and restarted since the last look.
  createEffect(on([() => props.boxes, places], ([boxes], before) => {
    const at = performance.now();
    const old = before?.[1] as Map<string, Placed> | undefined;
    if (old && !calm.matches) {
      for (const id of boxes.keys()) if (!old.has(id)) came.set(id, at);
      for (const [id, place] of old) if (!boxes.has(id)) gone.set(id, { place, at });
    }
    for (const [id, box] of boxes) if (old && (counts.get(id) ?? box.restarts) < box.restarts && !calm.matches) blinked.set(id, at);
    counts = new Map([...boxes].map(([id, box]) => [id, box.restarts]));
    schedule();
  }));

  /// Thin lines from the gateway to the pods behind it: width by rate, colour and dashes by the share of errors.
  const drawTraffic = (ctx: CanvasRenderingContext2D, wide: number, look: Record<"surface" | "accent" | "text" | "soft", string>, states: Record<Kind, string>, sans: string) => {
    const all = props.flows!, most = Math.max(0, ...all.map((one) => one.rate));
    const x = wide / 2, y = GATE - 20;
    for (const flow of all) {
      const place = places().get(flow.pod);
      if (!place) continue;
      const px = place.x + place.w / 2, py = place.y, how = badness(flow.errors);
      ctx.strokeStyle = alpha(how === "good" ? look.accent : states[how], 0.6);
      ctx.lineWidth = thickness(flow.rate, most);
      ctx.setLineDash(how === "bad" ? [5, 4] : how === "warn" ? [10, 3] : []);
      ctx.beginPath(); ctx.moveTo(x, y); ctx.bezierCurveTo(x, y + (py - y) * 0.5, px, py - (py - y) * 0.5, px, py); ctx.stroke();
      ctx.setLineDash([]);
      ctx.fillStyle = ctx.strokeStyle; ctx.beginPath(); ctx.arc(px, py, 2.5, 0, 2 * Math.PI); ctx.fill();
    }
    const words = props.rate > 0 ? `${t("yard.gateway")}  ${short(props.rate)}/s` : `${t("yard.gateway")}: ${t("yard.traffic.none")}`;
    ctx.font = `600 12px ${sans}`;
    const room = ctx.measureText(words).width + 24;
    ctx.beginPath(); ctx.roundRect(x - room / 2, y - 26, room, 26, 6);
    ctx.fillStyle = look.surface; ctx.fill(); ctx.strokeStyle = look.accent; ctx.lineWidth = 1.5; ctx.stroke();
    ctx.fillStyle = look.text; ctx.textAlign = "center"; ctx.fillText(words, x, y - 9); ctx.textAlign = "left";
  };
  const schedule = () => { if (!frame) frame = requestAnimationFrame(draw); };
  const draw = () => {
    frame = 0;
    const wide = width();
    if (!wide) return;
    const ratio = window.devicePixelRatio || 1, high = layout().height;
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(high * ratio);
      canvas.style.height = `${high}px`;
    }
    const ctx = canvas.getContext("2d")!;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, wide, high);
    const sans = getComputedStyle(document.body).fontFamily;
    const look = { surface: token("surface"), line: token("line"), text: token("text"), soft: token("soft"), box: token("box"), fill: token("box-fill"), boxText: token("box-text"), accent: token("accent"), bg: token("bg") };
    const states = Object.fromEntries(Object.entries(STATES).map(([kind, name]) => [kind, token(name)])) as Record<Kind, string>;
    const now = performance.now();
    let moving = false;
    const progress = (map: Map<string, number>, id: string, length: number) => {
      const at = map.get(id);
      if (at === undefined) return 1;
      const done = (now - at) / length;
      if (done >= 1) { map.delete(id); return 1; }
      moving = true;
      return Math.max(0, done);
    };
    const cut = (text: string, room: number) => {
      if (ctx.measureText(text).width <= room) return text;
      let end = text.length;
      while (end > 1 && ctx.measureText(`${text.slice(0, end)}…`).width > room) end -= 1;
      return `${text.slice(0, end)}…`;
    };
    const box = (place: Placed, it: Box | undefined, opacity: number, shift: number, blink: number) => {
      const { w, h } = place, x = place.x, y = place.y - shift;
      const radius = Math.min(4, h / 4);
      const kind = it?.state.kind ?? "idle";
      ctx.globalAlpha = opacity;
      ctx.beginPath(); ctx.roundRect(x, y, w, h, radius);
      ctx.fillStyle = look.box; ctx.fill();
      if (it?.load !== undefined) {
        const share = Math.min(1, it.load / (it.request || NOMINAL));
        ctx.save(); ctx.clip();
        ctx.fillStyle = share >= 0.95 ? alpha(states.warn, 0.4) : look.fill;
        ctx.fillRect(x, y + h * (1 - share), w, h * share);
        ctx.restore();
      }
      if (kind === "bad" || kind === "warn" || kind === "new") {
        const line = kind === "new" ? 1.5 : h > 18 ? 2.5 : 2;
        ctx.lineWidth = line; ctx.strokeStyle = states[kind];
        if (kind === "new") ctx.setLineDash([4, 3]);
        ctx.beginPath(); ctx.roundRect(x + line / 2, y + line / 2, w - line, h - line, radius); ctx.stroke();
        ctx.setLineDash([]);
      }
      if (blink < 1) { ctx.fillStyle = alpha(token("blue"), 0.6 * (1 - blink)); ctx.fillRect(x, y, w, h); }
      // A shape goes with the colour: a cross, a bar.
      if (kind === "bad" && h >= 13) {
        const s = Math.min(9, h / 3.2), cx = x + w - s - 3, cy = y + 4;
        ctx.strokeStyle = states.bad; ctx.lineWidth = 2;
        ctx.beginPath(); ctx.moveTo(cx, cy); ctx.lineTo(cx + s, cy + s); ctx.moveTo(cx + s, cy); ctx.lineTo(cx, cy + s); ctx.stroke();
      } else if (kind === "warn" && h >= 13) {
        const s = Math.min(9, h / 3), cx = x + w - s - 3, cy = y + 4;
        ctx.fillStyle = states.warn; ctx.beginPath(); ctx.moveTo(cx + s / 2, cy); ctx.lineTo(cx + s, cy + s); ctx.lineTo(cx, cy + s); ctx.fill();
      }
      if (h >= 24 && w >= 40 && it) {
        ctx.font = `11px ${sans}`; ctx.fillStyle = look.boxText;
        const lines = h >= 36 ? 2 : 1;
        const words = it.pod.metadata.name;
        ctx.fillText(cut(words, w - (kind === "bad" || kind === "warn" ? 20 : 10)), x + 5, y + (lines === 2 ? 14 : h / 2 + 4));
        if (lines === 2) { ctx.globalAlpha = opacity * 0.85; ctx.fillText(cut(it.load === undefined ? it.state.word : cores(it.load), w - 10), x + 5, y + h - 7); }
      }
      ctx.globalAlpha = 1;
    };
    for (const one of layout().bays) {
      ctx.beginPath(); ctx.roundRect(one.x + 0.5, one.y + 0.5, one.w - 1, one.h - 1, 6);
      ctx.fillStyle = look.surface; ctx.fill(); ctx.lineWidth = 1; ctx.strokeStyle = look.line; ctx.stroke();
      const node = props.nodes.find((it) => it.metadata.name === one.name);
      const said = node ? nodeState(node) : undefined;
      ctx.font = `600 13px ${sans}`; ctx.fillStyle = look.text;
      ctx.fillText(cut(one.name || t("yard.unplaced"), one.w - 2 * PAD - 150), one.x + PAD, one.y + 24);
      if (node && said) {
        const cpu = quantity(node.status?.allocatable?.cpu), memory = quantity(node.status?.allocatable?.memory);
        const used = one.boxes.reduce((sum, place) => sum + (props.boxes.get(place.id)?.load ?? 0), 0);
        const asked = one.boxes.reduce((sum, place) => sum + (props.boxes.get(place.id)?.memory ?? 0), 0);
        ctx.font = `12px ${sans}`; ctx.textAlign = "right";
        ctx.fillStyle = said.kind === "good" ? look.soft : states[said.kind];
        const facts = `${t("yard.cpu")} ${percent(cpu ? used / cpu : 0)}  ${t("yard.memory")} ${bytes(asked)} / ${bytes(memory)}`;
        ctx.fillText(cut(said.kind === "good" ? facts : said.word, one.w * 0.6), one.x + one.w - PAD, one.y + 24);
        ctx.textAlign = "left";
      }
      if (layout().unit >= NAMED) for (const label of one.labels) { ctx.font = `11px ${sans}`; ctx.fillStyle = look.soft; ctx.fillText(cut(label.text, label.w), label.x, label.y); }
      for (const place of one.boxes) {
        const it = props.boxes.get(place.id);
        const appear = progress(came, place.id, MOTION), blink = progress(blinked, place.id, 4 * MOTION);
        const dimmed = props.filter && it && !fits(it, props.filter);
        const fading = it?.pod.metadata.deletionTimestamp ? 0.45 : 1;
        box(place, it, (dimmed ? 0.15 : 1) * fading * (0.3 + 0.7 * appear), (1 - appear) * 16, blink);
      }
    }
    if (props.flows) drawTraffic(ctx, wide, look, states, sans);
    for (const [id, { place, at }] of gone) {
      const left = 1 - (now - at) / MOTION;
      if (left <= 0) gone.delete(id); else { moving = true; box(place, undefined, left, 0, 1); }
    }
    for (const id of [hover(), focus()]) {
      const place = id ? places().get(id) : undefined;
      if (!place) continue;
      ctx.lineWidth = 2; ctx.strokeStyle = look.accent;
      ctx.beginPath(); ctx.roundRect(place.x - 2, place.y - 2, place.w + 4, place.h + 4, 5); ctx.stroke();
    }
    if (moving) schedule();
  };
  createEffect(() => { layout(); hover(); focus(); props.filter; props.boxes; props.flows; props.rate; dark(); schedule(); });
  onMount(() => {
    const observer = new ResizeObserver(() => setWidth(ground.clientWidth));
    observer.observe(ground);
    setWidth(ground.clientWidth);
    onCleanup(() => { observer.disconnect(); cancelAnimationFrame(frame); });
  });

  const under = (event: MouseEvent) => {
    const bounds = canvas.getBoundingClientRect();
    const x = event.clientX - bounds.left, y = event.clientY - bounds.top;
    for (const place of places().values()) if (x >= place.x && x <= place.x + place.w && y >= place.y && y <= place.y + place.h) return place.id;
    return undefined;
  };
  const open = (id: string | undefined) => { if (id) go(`/workloads/pods/${id}`); };
  const described = (id: string) => {
    const box = props.boxes.get(id);
    if (!box) return "";
    return `${id}: ${box.state.word}${box.state.detail ? `, ${box.state.detail}` : ""}`;
  };
  const press = (event: KeyboardEvent) => {
    if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      const to = next([...places().values()], focus(), event.key);
      setFocus(to);
      if (to) setSeen(described(to));
    } else if (event.key === "Enter") open(focus());
    else if (event.key === "Escape") setFocus(undefined);
  };
  const shown = () => hover() ?? focus();
  const tip = () => {
    const id = shown(), place = id ? places().get(id) : undefined, box = id ? props.boxes.get(id) : undefined;
    return place && box ? { place, box } : undefined;
  };
  return (
    <div class="ground" ref={ground}>
      <canvas ref={canvas} tabindex="0" role="application" aria-label={t("yard.canvas")} style={{ cursor: hover() ? "pointer" : "default" }}
        onPointerMove={(event) => setHover(under(event))} onPointerLeave={() => setHover(undefined)} onClick={(event) => open(under(event))} onKeyDown={press} onBlur={() => setFocus(undefined)} />
      <p class="small soft" style={{ "margin-top": "4px" }}>{t("yard.legend")}</p>
      <p class="hidden" aria-live="polite">{seen()}</p>
      <Show when={tip()}>{(it) => (
        <div class="tip" style={{ left: `${Math.max(0, Math.min(it().place.x, width() - 300))}px`, top: `${it().place.y + it().place.h + 8}px` }}>
          <strong>{it().box.pod.metadata.name}</strong> <span class="soft">{it().box.pod.metadata.namespace}</span>
          <div class={`state ${it().box.state.kind}`}><Shape kind={it().box.state.kind} />{it().box.state.word}</div>
          <Show when={it().box.state.detail}><p class="small soft">{brief(it().box.state.detail!, 240)}</p></Show>
          <p class="small">{t("yard.cpu")}: {t("yard.request", { used: it().box.load === undefined ? "-" : cores(it().box.load!), all: it().box.request ? cores(it().box.request) : "-" })}</p>
          <p class="small">{t("yard.memory")}: {it().box.memory ? bytes(it().box.memory) : "-"} · <Age time={it().box.pod.metadata.creationTimestamp} />{it().box.restarts ? ` · ${tn("yard.restarts", it().box.restarts)}` : ""}</p>
        </div>)}</Show>
    </div>
  );
}

const MOST = 6;

/// The same as the lines say, in words.
function Traffic(props: { rates: readonly Rate[]; error: string | undefined }) {
  return (
    <section class="card"><header><h2>{t("yard.traffic.title")}</h2><a class="end small" href={href("/d/madang-gateway")}>{t("dash.title")}</a></header>
      <Wrong error={props.error} />
      <Show when={props.rates.length} fallback={<p class="body soft">{t("yard.traffic.none")}</p>}>
        <ul class="list"><For each={props.rates.slice(0, MOST)}>{(one) => (
          <li class="row" style={{ "flex-wrap": "nowrap" }}><span class={`state ${badness(one.errors)}`}><Shape kind={badness(one.errors)} /></span><span class="cut grow">{one.service} <span class="faint small">{one.namespace}</span></span><span class="num">{short(one.rate)}/s</span><span class="num soft small" title={t("yard.errors.share")}>{percent(one.errors)}<span class="hidden"> {t("yard.errors.share")}</span></span></li>)}</For>
          <Show when={props.rates.length > MOST}><li class="small soft">{tn("yard.more", props.rates.length - MOST)}</li></Show></ul>
      </Show></section>
  );
}

function WrongNow(props: { bad: Box[]; nodes: readonly Node[]; deployments: readonly Workload[] }) {
  const alerts = repeated(async (signal) => (has("metrics")
    ? ((await send("GET", "/alertmanager/api/v2/alerts?active=true&silenced=false&inhibited=false", undefined, undefined, signal)) as { labels: Record<string, string>; annotations: Record<string, string>; startsAt: string }[])
    : []), () => (has("metrics") ? 30 : 0));
  const rows = createMemo(() => {
    // Pods of one owner with one trouble are one line.
    const groups = new Map<string, { title: string; link: string; state: Stated; count: number }>();
    for (const { pod, state } of props.bad) {
      const owner = pod.metadata.ownerReferences?.[0];
      const key = `${pod.metadata.namespace}/${owner?.uid ?? pod.metadata.uid}/${state.word}`;
      const known = groups.get(key);
      if (known) known.count += 1;
      else groups.set(key, { title: pod.metadata.name, link: `/workloads/pods/${keyOf(pod)}`, state, count: 1 });
    }
    const nodes = props.nodes.map((node) => ({ node, state: nodeState(node) })).filter(({ state }) => state.kind === "bad" || state.kind === "warn")
      .map(({ node, state }) => ({ title: node.metadata.name, link: `/?q=node:${node.metadata.name}`, state, count: 1 }));
    const stuck = props.deployments.map((it) => ({ it, state: workloadState("deployments", it) })).filter(({ state }) => state.kind === "bad")
      .map(({ it, state }) => ({ title: it.metadata.name, link: `/workloads/deployments/${it.metadata.namespace}/${it.metadata.name}`, state, count: 1 }));
    const fired = (alerts.value() ?? []).filter((alert) => !["Watchdog", "InfoInhibitor"].includes(alert.labels.alertname ?? ""))
      .map((alert) => ({ title: t("yard.alert", { name: alert.labels.alertname ?? "" }), link: "/alerts", count: 1, state: { kind: (alert.labels.severity === "critical" ? "bad" : "warn") as Kind, word: alert.annotations.summary ?? alert.annotations.description ?? alert.annotations.message ?? "" } as Stated }));
    const order: Record<Kind, number> = { bad: 0, warn: 1, new: 2, idle: 3, good: 4 };
    return [...nodes, ...groups.values(), ...stuck, ...fired].sort((a, b) => order[a.state.kind] - order[b.state.kind]);
  });
  return (
    <section class="card"><header><h2>{t("yard.wrong")}</h2><Show when={rows().length}><span class="tag end">{rows().length}</span></Show></header>
      <Show when={rows().length} fallback={<p class="body soft">{t("yard.wrong.none")}</p>}>
        <ul class="list"><For each={rows().slice(0, MOST)}>{(row) => (
          <li><div class="row" style={{ "flex-wrap": "nowrap" }}><span class={`state ${row.state.kind}`}><Shape kind={row.state.kind} /></span><a class="cut grow" href={href(row.link)}>{row.title}</a><Show when={row.count > 1}><span class="tag">×{row.count}</span></Show></div>
            <p class="small">{[row.state.word, brief(row.state.detail ?? "", 160)].filter(Boolean).join(": ")}</p>
            <Show when={row.state.next}><p class="small soft">{row.state.next}</p></Show></li>)}</For>
          <Show when={rows().length > MOST}><li class="small soft">{tn("yard.more", rows().length - MOST)}</li></Show></ul>
      </Show></section>
  );
}

/// Reasons of events that tell of a change somebody made.
const CHANGES = new Set(["ScalingReplicaSet", "SuccessfulRescale", "SuccessfulDelete", "Completed", "NodeReady", "NodeNotReady", "Provisioned"]);

function Changed(props: { events: readonly Event[]; deployments: readonly Workload[] }) {
  const released = has("gateway") && has("metrics") ? watch<Release>(`${RELEASES}/releases`) : undefined;
  const ran = has("pipeline") ? watch<Run>(runsPath()) : undefined;
  const mine = (it: { metadata: { namespace?: string } }) => !query("ns") || it.metadata.namespace === query("ns");
  const rows = createMemo(() => {
    const from = range().from;
    const events = props.events.filter((event) => CHANGES.has(event.reason ?? "") && !query("ns") || (CHANGES.has(event.reason ?? "") && event.metadata.namespace === query("ns")))
      .map((event) => ({ title: `${event.involvedObject?.kind ?? ""} ${event.involvedObject?.name ?? ""}`, words: event.message ?? "", time: eventTime(event), link: pageOf(event.involvedObject?.kind, event.involvedObject?.namespace, event.involvedObject?.name) }));
    const made = props.deployments.map((it) => ({ title: `Deployment ${it.metadata.name}`, words: it.metadata.annotations?.["kubernetes.io/change-cause"] ?? "", time: it.status?.conditions?.find((one) => one.type === "Progressing")?.lastTransitionTime, link: pageOf("Deployment", it.metadata.namespace, it.metadata.name) })).filter((row) => row.words);
    const releases = (released?.items() ?? []).filter(mine).map((it) => ({ title: `${t("release.single")} ${it.metadata.name}`, words: it.status?.message ?? releaseState(it).word, time: it.status?.ended ?? it.status?.stepBegan ?? it.status?.began, link: `/releases/${it.metadata.namespace}/${it.metadata.name}` as string | undefined }));
    const runs = (ran?.items() ?? []).filter(mine).filter((it) => it.status?.started).map((it) => ({ title: `${it.spec.pipelineRef.name} ${title(it)}`, words: [runState(it).word, shortCommit(it.status?.commit), it.status?.message].filter(Boolean).join(" · "), time: it.status?.finished ?? it.status?.started, link: `/run/${it.metadata.namespace}/${it.metadata.name}` as string | undefined }));
    const seen = new Set<string>();
    return [...releases, ...runs, ...made, ...events].filter((row) => row.time && Date.parse(row.time) >= from).sort((a, b) => Date.parse(b.time!) - Date.parse(a.time!))
      .filter((row) => { const key = row.title + row.words; return seen.has(key) ? false : (seen.add(key), true); });
  });
  return (
    <section class="card"><header><h2>{t("yard.changed")}</h2></header>
      <Show when={rows().length} fallback={<p class="body soft">{t("yard.changed.none")}</p>}>
        <ul class="list"><For each={rows().slice(0, MOST)}>{(row) => (
          <li><div class="row" style={{ "flex-wrap": "nowrap" }}><Show when={row.link} fallback={<span class="cut grow">{row.title}</span>}><a class="cut grow" href={href(row.link!)}>{row.title}</a></Show><span class="faint small"><Age time={row.time} /></span></div>
            <p class="small soft">{brief(row.words, 160)}</p></li>)}</For></ul>
      </Show></section>
  );
}

function Pressure() {
  const asked: readonly [string, string][] = [
    ["yard.cpu", '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))'],
    ["yard.memory", "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"],
    ["", '1 - node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs",mountpoint!~".*/(pods|run)/.*"} / node_filesystem_size_bytes > 0.7'],
    ["", "kubelet_volume_stats_used_bytes / kubelet_volume_stats_capacity_bytes > 0.7"],
    ["", 'kube_resourcequota{type="used"} / ignoring(type) (kube_resourcequota{type="hard"} > 0) > 0.7'],
  ];
  const found = repeated(async (signal) => {
    if (!has("metrics")) return [];
    const answers = await Promise.all(asked.map(([, expression]) => queryInstant(expression, Date.now(), signal).catch(() => [])));
    return answers.flatMap((samples, at) => samples.map((sample) => ({ key: asked[at]![0], labels: sample.labels, value: sample.value })))
      .filter((row) => row.value >= 0.7 && Number.isFinite(row.value)).sort((a, b) => b.value - a.value);
  }, () => (has("metrics") ? 30 : 0));
  const name = (row: { key: string; labels: Record<string, string> }) => [row.key ? t(row.key as "yard.cpu") : "", row.labels.persistentvolumeclaim ?? row.labels.mountpoint ?? row.labels.resourcequota ?? row.labels.node ?? row.labels.instance ?? "", row.labels.resource ?? ""].filter(Boolean).join(" ");
  return (
    <section class="card"><header><h2>{t("yard.pressure")}</h2></header>
      <Show when={(found.value() ?? []).length} fallback={<p class="body soft">{found.error() ? t("error.load", { error: found.error()! }) : t("yard.pressure.none")}</p>}>
        <ul class="list"><For each={(found.value() ?? []).slice(0, MOST)}>{(row) => (
          <li class="row" style={{ "flex-wrap": "nowrap" }}><span class={`state ${row.value > 0.9 ? "bad" : "warn"}`}><Shape kind={row.value > 0.9 ? "bad" : "warn"} /></span><span class="cut grow">{name(row)}</span><span class="num">{percent(row.value)}</span></li>)}</For></ul>
      </Show></section>
  );
}

/// Four plots of one line each: requests, errors, latency, saturation; through the gateway where that has any, else of the API.
const API = [
  { key: "yard.requests", expression: "sum(rate(apiserver_request_total[2m]))", format: (value: number) => `${short(value)}/s` },
  { key: "yard.errors", expression: '(sum(rate(apiserver_request_total{code=~"5.."}[2m])) or vector(0)) / sum(rate(apiserver_request_total[2m]))', format: percent },
  { key: "yard.latency", expression: 'histogram_quantile(0.99, sum by (le) (rate(apiserver_request_duration_seconds_bucket{verb!~"WATCH|CONNECT"}[2m])))', format: latency },
] as const;
const GATEWAY = [
  { key: "yard.gateway.requests", expression: "sum(rate(gateway_requests_total[2m]))", format: (value: number) => `${short(value)}/s` },
  { key: "yard.gateway.errors", expression: '(sum(rate(gateway_requests_total{code=~"5.."}[2m])) or vector(0)) / (sum(rate(gateway_requests_total[2m])) > 0)', format: percent },
  { key: "yard.gateway.latency", expression: "histogram_quantile(0.99, sum by (le) (rate(gateway_request_duration_seconds_bucket[2m])))", format: latency },
] as const;
const SATURATION = { key: "yard.saturation", expression: '1 - avg(rate(node_cpu_seconds_total{mode="idle"}[2m]))', format: percent } as const;

function Golden(props: { gateway: boolean }) {
  const plots = createMemo(() => [...(props.gateway ? GATEWAY : API), SATURATION]);
  const marks = marksOf(() => query("ns"));
  const every = createMemo(() => step(range(), 260));
  const timer = setInterval(() => { if (isLive() && !document.hidden) refresh(); }, 15_000);
  onCleanup(() => clearInterval(timer));
  return (
    <div class="plots">
      <For each={plots()}>{(plot) => {
        const answer = repeated((signal) => queryRange(plot.expression, range(), every(), signal), () => 0);
        const lines = createMemo(() => {
          const series = answer.value()?.[0];
          return series ? [{ name: t(plot.key), colour: coloursOf(["a"])[0]!, fill: 0.12, ...withGaps(series, every()) }] : [];
        });
        const last = () => lines()[0]?.values.at(-1);
        return (
          <section class="card"><header><h2 class="cut">{t(plot.key)}</h2><span class="end num">{last() == null ? "-" : plot.format(last()!)}</span></header>
            <div class="body"><Wrong error={answer.error()} /><Plot name={t(plot.key)} lines={lines()} range={range()} height={110} min={0} format={plot.format} marks={marks()} /></div></section>
        );
      }}</For>
    </div>
  );
}

