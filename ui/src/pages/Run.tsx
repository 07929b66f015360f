/// One run: its stages as they stand to each other, the log of what is looked at, what it asks, tests and artifacts.
import { createMemo, createResource, createSignal, For, Index, lazy, Match, onCleanup, Show, Suspense, Switch } from "solid-js";
import { bytes, exact, short, span } from "../format";
import { patch, remove, send } from "../kube/client";
import { againText, branchName, causeWords, interesting, isOver, left, runsPath, runState, shortCommit, stageState, stepState, title, took, tree, type Node, type Question, type Run as It, type Stage } from "../kube/pipelines";
import { watch } from "../kube/watch";
import { Events } from "../parts/Events";
import { begin, Fields, given } from "../parts/Fields";
import { Age, Confirm, Fresh, Note, Wrong } from "../parts/Small";
import { start } from "../parts/StartRun";
import { Shape, State } from "../parts/State";
import { go, href, parts, query, setQuery } from "../router";
import { person } from "../session";
import { t, tn, type Key } from "../words";

const Yaml = lazy(() => import("../parts/Yaml"));
const RunLog = lazy(() => import("../parts/RunLog"));

/// The second that lengths of what runs follow, while the page is looked at.
function clock(runs: () => boolean) {
  const [now, setNow] = createSignal(Date.now());
  const timer = setInterval(() => { if (runs() && !document.hidden) setNow(Date.now()); }, 1000);
  onCleanup(() => clearInterval(timer));
  return now;
}
const length = (one: Parameters<typeof took>[0], now: number) => { const ms = took(one, now); return ms === undefined ? "" : ms < 1000 ? `${Math.round(ms)} ms` : span(ms / 1000); };

export default function Run() {
  const [, namespace, name] = parts() as [string, string, string];
  const path = `${runsPath(namespace)}/${encodeURIComponent(name)}`;
  const found = watch<It>(`${runsPath(namespace)}?fieldSelector=${encodeURIComponent(`metadata.name=${name}`)}`);
  const it = createMemo(() => found.items()[0]);
  const state = createMemo(() => (it() ? runState(it()!) : undefined));
  const now = clock(() => it() !== undefined && !isOver(it()!));
  // What somebody is writing into an answer stays when something else of the run changes.
  const questions = createMemo(() => (it()?.status?.inputs ?? []).map((one) => one.id), [], { equals: (a, b) => a.length === b.length && a.every((id, at) => id === b[at]) });
  const question = (id: string) => it()?.status?.inputs?.find((one) => one.id === id) ?? { id };
  const base = `/run/${namespace}/${name}`;
  const tab = () => parts()[3] ?? "stages";
  const tabs = createMemo((): [string, Key, string][] => [["stages", "run.stages", ""], ["tests", "run.tests", it()?.status?.tests?.total ? String(it()!.status!.tests!.failed || it()!.status!.tests!.total) : ""], ["artifacts", "run.artifacts", it()?.status?.artifacts?.files ? String(it()!.status!.artifacts!.files) : ""], ["events", "pod.events", ""], ["yaml", "pod.yaml", ""]]);
  const [asking, setAsking] = createSignal<"abort" | "rerun" | "delete">();
  const pipeline = () => it()?.spec.pipelineRef.name ?? "";
  const again = () => {
    const { abort: _abort, inputs: _inputs, keep: _keep, cause: _cause, pipelineRef: _pipeline, ...spec } = it()!.spec;
    const commit = it()!.status?.commit, branch = it()!.status?.branch;
    return { ...spec, ...(branch ? { branch } : {}), ...(commit ? { commit } : {}), cause: { kind: "user" as const, ...(person() ? { user: person()!.user } : {}), text: againText(title(it()!)) } };
  };
  const owner = () => ({ name: pipeline(), namespace, uid: it()!.metadata.ownerReferences?.find((one) => one.kind === "Pipeline")?.uid ?? "" });
  return (
    <div class="page">
      <header>
        <a href={href("/pipelines")}>{t("nav.pipelines")}</a><span class="faint">/</span>
        <Show when={pipeline()}><a href={href(`/pipeline/${namespace}/${pipeline()}`)}>{pipeline()}</a><span class="faint">/</span></Show>
        <h1 style={{ "overflow-wrap": "anywhere" }}>{it() ? title(it()!) : name}</h1><span class="tag">{namespace}</span>
        <Show when={state()}>{(value) => <State state={value()} />}</Show>
        <span class="grow" />
        <Show when={it()}>
          <Show when={!isOver(it()!)} fallback={<><button class="button" onClick={() => setAsking("rerun")}>{t("run.again")}</button><button class="button danger" onClick={() => setAsking("delete")}>{t("action.delete")}</button></>}>
            <button class="button danger" disabled={it()!.spec.abort === true} onClick={() => setAsking("abort")}>{t("run.abort")}</button></Show>
        </Show>
      </header>
      <Show when={it()}>{(run) => (
        <p class="soft row" style={{ gap: "4px 16px" }}>
          <Show when={run().status?.branch ?? run().spec.branch}><span>{t("run.branch")} <strong>{branchName(run().status?.branch ?? run().spec.branch)}</strong></span></Show>
          <Show when={run().status?.commit}><span>{t("run.commit")} <code title={run().status!.commit}>{shortCommit(run().status!.commit)}</code></span></Show>
          <span>{causeWords(run())}</span>
          <Show when={run().status?.started}><span title={exact(run().status!.started)}>{t("pod.started")} <Age time={run().status!.started} /></span><span>{t("run.took")} <span class="num">{length(run().status!, now())}</span></span></Show>
          <Show when={run().status?.changes}><span title={run().status!.culprits?.join("\n")}>{tn("run.changes", run().status!.changes!)}</span></Show>
        </p>)}</Show>
      <Show when={it()?.status?.message}><p class={state()!.kind === "bad" ? "wrong" : "soft"} style={{ "overflow-wrap": "anywhere" }}>{it()!.status!.message}</p></Show>
      <Fresh of={found} />
      <For each={questions()}>{(id) => <Asked run={it()!} question={question(id)} path={path} />}</For>
      <nav class="tabs" aria-label={name}><For each={tabs()}>{([id, label, count]) => <a href={href(id === "stages" ? base : `${base}/${id}`)} aria-current={tab() === id ? "page" : undefined}>{t(label)} <Show when={count}><span class="tag">{count}</span></Show></a>}</For></nav>
      <Show when={found.phase() !== "loading"} fallback={<div class="shape" style={{ height: "240px" }} />}>
        <Show when={it()} fallback={<div class="card"><Note words={t("pod.gone")} /></div>}>
          <Suspense fallback={<div class="shape" style={{ height: "320px" }} />}>
            <Switch fallback={<Stages run={it()!} now={now()} />}>
              <Match when={tab() === "tests"}><Tests run={it()!} /></Match>
              <Match when={tab() === "artifacts"}><Artifacts run={it()!} /></Match>
              <Match when={tab() === "events"}><Events uid={it()!.metadata.uid} namespace={namespace} name={name} /></Match>
              <Match when={tab() === "yaml"}><Yaml path={path} name={`pipelinerun/${name}`} version={it()!.metadata.resourceVersion ?? ""} /></Match>
            </Switch>
          </Suspense>
        </Show>
      </Show>
      <Show when={asking() === "abort"}><Confirm title={t("run.abort")} danger what={t("run.abortWhat")} command={`kubectl patch pipelinerun -n ${namespace} ${name} --type=merge -p '{"spec":{"abort":true}}'`} act={() => patch(path, { spec: { abort: true, abortedBy: person()?.user ?? "" } })} onClose={() => setAsking(undefined)} /></Show>
      <Show when={asking() === "rerun" && it()}><Confirm title={t("run.again")} what={t("run.againWhat")} command={`kubectl create -f - <<'JSON'\n${JSON.stringify({ apiVersion: "madang.dev/v1alpha1", kind: "PipelineRun", metadata: { generateName: `${pipeline()}-`, namespace }, spec: { pipelineRef: { name: pipeline() }, ...again() } }, null, 1)}\nJSON`} act={() => start(owner(), again())} onClose={() => setAsking(undefined)} /></Show>
      <Show when={asking() === "delete"}><Confirm title={t("action.delete")} danger name={name} what={t("run.deleteWhat")} command={`kubectl delete pipelinerun -n ${namespace} ${name}`} act={async () => { await remove(path); go(`/pipeline/${namespace}/${pipeline()}`); }} onClose={() => setAsking(undefined)} /></Show>
    </div>
  );
}

/// What the run asks, and buttons that answer.
function Asked(props: { run: It; question: Question; path: string }) {
  const [values, setValues] = createSignal(begin(props.question.parameters ?? []));
  const [error, setError] = createSignal<string>();
  const [busy, setBusy] = createSignal(false);
  const answered = () => props.run.spec.inputs?.some((one) => one.id === props.question.id) ?? false;
  const answer = async (abort: boolean) => {
    setBusy(true);
    setError(undefined);
    // The version makes sure that an answer that somebody gives at the same time is not lost.
    const inputs = [...(props.run.spec.inputs ?? []), { id: props.question.id, ...(abort ? { abort } : { parameters: given(props.question.parameters ?? [], values()) }), user: person()?.user ?? "" }];
    try { await patch(props.path, { metadata: { resourceVersion: props.run.metadata.resourceVersion }, spec: { inputs } }); } catch (failed) { setError((failed as Error).message); }
    setBusy(false);
  };
  return (
    <section class="card ask" role="group" aria-label={t("run.asks")}>
      <header><span class="state warn"><Shape kind="warn" /></span><h2>{props.question.message || t("run.asks")}</h2><span class="soft small end"><Show when={props.question.since}><Age time={props.question.since} /></Show></span></header>
      <form class="body stack" onSubmit={(event) => { event.preventDefault(); void answer(false); }}>
        <Fields all={props.question.parameters ?? []} values={values()} set={(name, value) => setValues((old) => ({ ...old, [name]: value }))} />
        <Show when={props.question.submitter}><p class="soft small">{t("run.submitter", { who: props.question.submitter! })}</p></Show>
        <Show when={error()}><p class="wrong" role="alert">{error()}</p></Show>
        <div class="row"><button type="submit" class="button primary" disabled={busy() || answered()}>{props.question.ok || t("run.proceed")}</button><button type="button" class="button danger" disabled={busy() || answered()} onClick={() => void answer(true)}>{t("run.abort")}</button><Show when={answered()}><span class="soft" role="status">{t("run.answered")}</span></Show></div>
      </form></section>
  );
}

/// Stages from left to right, those side by side below each other; below them the steps and the log of the one that is chosen.
function Stages(props: { run: It; now: number }) {
  const stages = () => props.run.status?.stages ?? [];
  const roots = createMemo(() => tree(stages()));
  const longest = createMemo(() => Math.max(1, ...stages().filter((stage) => !stages().some((other) => other.parent === stage.id)).map((stage) => took(stage, props.now) ?? 0)));
  /// Chosen by the person, else what is worth looking at.
  const chosen = createMemo(() => (query("stage") === "all" ? undefined : (stages().find((stage) => stage.id === query("stage")) ?? interesting(stages()))));
  const step = createMemo(() => chosen()?.steps?.find((one) => one.id === query("step")));
  const asks = createMemo(() => new Set((props.run.status?.inputs ?? []).flatMap((one) => one.stage ?? [])));
  const choose = (stage: Stage) => setQuery({ stage: stage.id, step: "" });
  return (
    <>
      <section class="card"><header><h2>{t("run.stages")}</h2><Show when={props.run.status?.progress}><span class="soft small num">{props.run.status!.progress}</span></Show><button class="button end" aria-pressed={chosen() === undefined} onClick={() => setQuery({ stage: "all", step: "" })}>{t("run.wholeLog")}</button></header>
        <Show when={roots().length} fallback={<p class="body soft">{isOver(props.run) ? t("run.noStages") : t("run.stagesCome")}</p>}>
          <div class="body" tabindex="0" role="group" aria-label={t("run.stages")} style={{ "overflow-x": "auto" }}><Flow nodes={roots()} chosen={chosen()?.id} choose={choose} now={props.now} longest={longest()} asks={asks()} across /></div></Show></section>
      <div class="run-body">
        <section class="card steps"><header><h2 class="cut">{chosen()?.name ?? t("run.wholeLog")}</h2></header>
          <Show when={chosen()} fallback={<p class="body soft small">{t("run.chooseStage")}</p>}>{(stage) => (
            <>
              <Show when={stage().reason}><p class="body soft small" style={{ "overflow-wrap": "anywhere" }}>{stage().reason}</p></Show>
              <Show when={stage().pod && !isOver(props.run)}><p class="body small"><a href={href(`/workloads/pods/${props.run.metadata.namespace}/${stage().pod}`)}>{stage().pod}</a></p></Show>
              <Index each={stage().steps ?? []} fallback={<p class="body soft small">{t("run.noSteps")}</p>}>{(one) => (
                <button aria-pressed={step()?.id === one().id} onClick={() => setQuery({ stage: stage().id, step: step()?.id === one().id ? "" : one().id })} title={[one().label, one().message].filter(Boolean).join("\n")}>
                  <span class={`state ${stepState(one()).kind}`}><Shape kind={stepState(one()).kind} /><span class="hidden">{stepState(one()).word}</span></span><span class="cut grow"><code>{one().name}</code> <span class="soft small">{one().label}</span></span><span class="num small soft">{length(one(), props.now)}</span></button>)}</Index>
              <Show when={stage().dropped}><p class="body soft small">{tn("yard.more", stage().dropped!)}</p></Show>
            </>)}</Show></section>
        <Suspense fallback={<div class="shape" style={{ height: "320px" }} />}><RunLog run={props.run} stage={chosen()?.id} step={step()?.id} /></Suspense>
      </div>
    </>
  );
}

function Flow(props: { nodes: readonly Node[]; chosen: string | undefined; choose: (stage: Stage) => void; now: number; longest: number; asks: ReadonlySet<string>; across?: boolean }) {
  return <ol class="flow" classList={{ across: props.across === true }}><Index each={props.nodes}>{(node) => <li><Box {...props} node={node()} /></li>}</Index></ol>;
}

function Box(props: { node: Node; chosen: string | undefined; choose: (stage: Stage) => void; now: number; longest: number; asks: ReadonlySet<string> }) {
  const stage = () => props.node.stage, state = () => stageState(stage(), props.asks);
  const rest = { get chosen() { return props.chosen; }, choose: props.choose, get now() { return props.now; }, get longest() { return props.longest; }, get asks() { return props.asks; } };
  return (
    <Show when={props.node.children.length} fallback={
      <button class="stage" data-kind={state().kind} aria-pressed={props.chosen === stage().id} onClick={() => props.choose(stage())} title={[stage().path, state().word, state().detail].filter(Boolean).join("\n")}>
        <strong class="cut">{stage().name}</strong>
        <span class="row" style={{ gap: "4px", "flex-wrap": "nowrap" }}><span class={`state small ${state().kind}`}><Shape kind={state().kind} /><span>{state().word}</span></span><span class="num small soft end">{length(stage(), props.now)}</span></span>
        <span class="took" aria-hidden="true"><i style={{ width: `${Math.min(100, ((took(stage(), props.now) ?? 0) / props.longest) * 100)}%` }} /></span>
      </button>}>
      <div class="group stack" style={{ gap: "4px" }}>
        <span class="group-name"><span class={`state ${state().kind}`}><Shape kind={state().kind} /></span><span class="cut">{stage().name}</span><span class="hidden">{state().word}</span><span class="num">{length(stage(), props.now)}</span></span>
        <Show when={props.node.parallel} fallback={<Flow nodes={props.node.children} {...rest} />}>
          <ol class="lanes" aria-label={t("run.sideBySide")}><Index each={props.node.children}>{(child) => <li><Box node={child()} {...rest} /></li>}</Index></ol></Show>
      </div></Show>
  );
}

/// As crates/pipeline/src/left/junit.rs writes them.
type Outcome = "passed" | "fixed" | { failed: { message?: string; trace?: string; since?: number } } | { skipped: { message?: string } };
interface Case { name: string; class: string; seconds?: number; outcome: Outcome; output?: string; errors?: string }
interface Suite { name: string; cases: Case[] }

const CASES = 2000;

function Tests(props: { run: It }) {
  const [error, setError] = createSignal<string>();
  const [found] = createResource(() => (props.run.status?.tests?.total ? `${props.run.metadata.uid}/${props.run.status.tests.total}` : undefined), async () => {
    try { return ((await send("GET", left(props.run, "tests"))) as { suites: Suite[] }).suites; } catch (failed) { setError((failed as Error).message); return []; }
  });
  const state = (one: Case): "failed" | "skipped" | "passed" => (typeof one.outcome === "string" ? "passed" : "failed" in one.outcome ? "failed" : "skipped");
  const told = (one: Case) => (typeof one.outcome === "string" ? {} : "failed" in one.outcome ? one.outcome.failed : one.outcome.skipped) as { message?: string; trace?: string; since?: number };
  const details = (one: Case) => [told(one).trace, one.output, one.errors].filter(Boolean).join("\n\n");
  const rows = createMemo(() => (found() ?? []).flatMap((suite) => suite.cases.map((one) => ({ suite: suite.name, one, state: state(one) })))
    .filter(({ suite, one }) => query("q").toLowerCase().split(/\s+/).filter(Boolean).every((word) => `${suite} ${one.class} ${one.name}`.toLowerCase().includes(word)))
    .sort((a, b) => ["failed", "skipped", "passed"].indexOf(a.state) - ["failed", "skipped", "passed"].indexOf(b.state) || (b.one.seconds ?? 0) - (a.one.seconds ?? 0)));
  const KINDS = { failed: "bad", skipped: "idle", passed: "good" } as const;
  const tests = () => props.run.status?.tests;
  return (
    <Show when={tests()?.total} fallback={<div class="card"><Note words={t("run.noTests")} command={"junit 'reports/**/*.xml'"} /></div>}>
      <div class="row"><input class="field" type="search" data-filter aria-label={t("list.filter")} placeholder={t("list.filter")} value={query("q")} onInput={(event) => setQuery({ q: event.currentTarget.value })} style={{ width: "240px" }} />
        <State state={{ kind: tests()!.failed ? "bad" : "good", word: t("run.testsSum", { all: tests()!.total ?? 0, failed: tests()!.failed ?? 0, skipped: tests()!.skipped ?? 0 }) }} /><span class="soft small num">{span(tests()!.seconds ?? 0)}</span></div>
      <Wrong error={error()} />
      <div class="table" tabindex="0" role="group" aria-label={t("run.tests")}><table>
        <thead><tr><th>{t("col.state")}</th><th>{t("run.test")}</th><th class="wide-only">{t("run.suite")}</th><th class="num">{t("run.took")}</th></tr></thead>
        <tbody><For each={rows().slice(0, CASES)}>{(row) => (
          <tr><td><State state={{ kind: KINDS[row.state], word: t(`test.${row.state}` as Key) }} /></td>
            <td style={{ "max-width": "none" }}><span style={{ "overflow-wrap": "anywhere" }}><span class="soft">{row.one.class ? `${row.one.class}.` : ""}</span>{row.one.name}</span>
              <Show when={told(row.one).message}><p class="small" style={{ "overflow-wrap": "anywhere" }}>{told(row.one).message}</p></Show><Show when={row.state === "failed" && details(row.one)}><details><summary class="small soft">{t("run.details")}</summary><pre class="small" tabindex="0" style={{ overflow: "auto", "max-height": "320px", margin: 0 }}>{details(row.one)}</pre></details></Show></td>
            <td class="wide-only soft">{row.suite}</td><td class="num">{row.one.seconds === undefined ? "-" : row.one.seconds < 1 ? `${short(row.one.seconds * 1000)} ms` : span(row.one.seconds)}</td></tr>)}</For></tbody>
      </table></div>
      <Show when={rows().length > CASES}><p class="soft small">{tn("yard.more", rows().length - CASES)}</p></Show>
    </Show>
  );
}

interface Artifact { path: string; bytes?: number; size?: number }

function Artifacts(props: { run: It }) {
  const [error, setError] = createSignal<string>();
  const [found] = createResource(() => (props.run.status?.artifacts?.files ? `${props.run.metadata.uid}/${props.run.status.artifacts.files}` : undefined), async () => {
    try {
      const answer = (await send("GET", left(props.run, "artifacts"))) as Artifact[] | { artifacts: Artifact[] };
      return Array.isArray(answer) ? answer : answer.artifacts;
    } catch (failed) { setError((failed as Error).message); return []; }
  });
  const shown = createMemo(() => (found() ?? []).filter((one) => one.path.toLowerCase().includes(query("q").toLowerCase())).sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true })));
  return (
    <Show when={props.run.status?.artifacts?.files} fallback={<div class="card"><Note words={t("run.noArtifacts")} command={"archiveArtifacts 'build/*.tar.gz'"} /></div>}>
      <div class="row"><input class="field" type="search" data-filter aria-label={t("list.filter")} placeholder={t("list.filter")} value={query("q")} onInput={(event) => setQuery({ q: event.currentTarget.value })} style={{ width: "240px" }} /><span class="soft small">{bytes(props.run.status!.artifacts!.bytes ?? 0)}</span></div>
      <Wrong error={error()} />
      <div class="table" tabindex="0" role="group" aria-label={t("run.artifacts")}><table>
        <thead><tr><th>{t("col.name")}</th><th class="num">{t("col.size")}</th></tr></thead>
        <tbody><For each={shown()}>{(one) => <tr><td><a class="mono" href={left(props.run, `artifacts/${one.path.split("/").map(encodeURIComponent).join("/")}`)} download={one.path.split("/").pop()}>{one.path}</a></td><td class="num">{bytes(one.bytes ?? one.size ?? 0)}</td></tr>}</For></tbody>
      </table></div>
    </Show>
  );
}
