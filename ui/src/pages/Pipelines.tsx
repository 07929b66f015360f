/// Pipelines with their last runs as bars, and the Git repositories that are served here.
import { createMemo, createSignal, For, Match, Show, Switch } from "solid-js";
import { age, ageSeconds, bytes, exact, now, span } from "../format";
import { branchName, pipelinesPath, repositoriesPath, resultState, runsPath, runState, shortCommit, title, took, who, type Last, type Pipeline, type Repository, type Run } from "../kube/pipelines";
import type { State as Stated } from "../kube/status";
import { watch } from "../kube/watch";
import { Age, Fresh, Note } from "../parts/Small";
import { State } from "../parts/State";
import { StartRun } from "../parts/StartRun";
import { Table, type Column } from "../parts/Table";
import { href, parts, query } from "../router";
import { t, type Key } from "../words";

/// Runs that are drawn as bars.
const BARS = 16;
const COLOURS = { good: "var(--green)", warn: "var(--amber)", bad: "var(--red)", new: "var(--blue)", idle: "var(--faint)" } as const;

/// The last runs, the newest at the right: height by duration, colour by result, and a mark above what did not go well. `tight` takes no more
/// room than there are runs.
export function Bars(props: { runs: readonly Run[]; tight?: boolean }) {
  const shown = createMemo(() => [...props.runs].sort((a, b) => Date.parse(a.metadata.creationTimestamp ?? "") - Date.parse(b.metadata.creationTimestamp ?? "") || (a.status?.number ?? 0) - (b.status?.number ?? 0)).slice(-BARS));
  const lengths = createMemo(() => shown().map((run) => took(run.status ?? {}, now()) ?? 0));
  const most = createMemo(() => Math.max(1, ...lengths()));
  const wide = () => (props.tight ? shown().length : BARS) * 7;
  const words = () => shown().slice(-5).reverse().map((run) => `${title(run)} ${runState(run).word}`).join(", ");
  return (
    <Show when={shown().length} fallback={<span class="faint">-</span>}>
      <svg class="bars-runs" width={wide()} height="24" viewBox={`0 0 ${wide()} 24`} role="img" aria-label={words()}>
        <For each={shown()}>{(run, at) => {
          const state = runState(run), x = at() * 7, h = () => 3 + 14 * Math.sqrt(lengths()[at()]! / most());
          return <g><title>{`${title(run)} ${state.word}`}</title>
            <rect x={x} y={24 - h()} width="5" height={h()} rx="1" fill={state.kind === "new" ? "none" : COLOURS[state.kind]} stroke={state.kind === "new" ? COLOURS.new : "none"} stroke-dasharray="2 1" />
            <Show when={state.kind === "bad"}><path d={`M${x} ${18 - h()}l5 5m0-5l-5 5`} stroke={COLOURS.bad} stroke-width="1.500" fill="none" /></Show>
            <Show when={state.kind === "warn"}><path d={`M${x + 2.5} ${18 - h()}l2.500 4.500h-5z`} fill={COLOURS.warn} /></Show></g>;
        }}</For>
      </svg></Show>
  );
}

/// What to say of a pipeline: of its newest run.
export function pipelineState(it: Pipeline, newest: Run | undefined): Stated {
  if (it.metadata.deletionTimestamp) return { kind: "idle", word: t("state.deleting") };
  if (it.spec.suspend) return { kind: "idle", word: t("state.suspended") };
  if (newest) return runState(newest);
  if (it.status?.last?.result) return resultState(it.status.last.result);
  return it.status?.message ? { kind: "bad", word: t("pipeline.cannot"), detail: it.status.message } : { kind: "idle", word: t("pipeline.never") };
}

const lastTook = (last: Last | undefined) => { const length = last ? took(last, Date.now()) : undefined; return length === undefined ? "-" : span(length / 1000); };

export default function Pipelines() {
  const tab = () => parts()[1] ?? "";
  const tabs: [string, Key][] = [["", "nav.pipelines"], ["repositories", "repo.title"]];
  return (
    <div class="page">
      <header><h1>{t("nav.pipelines")}</h1></header>
      <nav class="tabs" aria-label={t("nav.pipelines")}><For each={tabs}>{([id, label]) => <a href={href(id ? `/pipelines/${id}` : "/pipelines")} aria-current={tab() === id ? "page" : undefined}>{t(label)}</a>}</For></nav>
      <Show when={`${query("ns")}/`} keyed>
        <Switch fallback={<List />}><Match when={tab() === "repositories"}><Repositories /></Match></Switch>
      </Show>
    </div>
  );
}

const COMMAND = `kubectl apply -f - <<YAML
apiVersion: madang.dev/v1alpha1
kind: Pipeline
metadata: {name: hello}
spec:
  script: |
    pipeline {
      agent any
      stages { stage('Hello') { steps { sh 'echo hello' } } }
    }
YAML`;

function List() {
  const namespace = query("ns");
  const found = watch<Pipeline>(pipelinesPath(namespace));
  const runs = watch<Run>(runsPath(namespace));
  const [starting, setStarting] = createSignal<Pipeline>();
  const byPipeline = createMemo(() => {
    const groups = new Map<string, Run[]>();
    for (const run of runs.items()) { const key = `${run.metadata.namespace}/${run.spec.pipelineRef.name}`; const own = groups.get(key); if (own) own.push(run); else groups.set(key, [run]); }
    for (const own of groups.values()) own.sort((a, b) => Date.parse(b.metadata.creationTimestamp ?? "") - Date.parse(a.metadata.creationTimestamp ?? "") || (b.status?.number ?? 0) - (a.status?.number ?? 0));
    return groups;
  });
  const runsFor = (row: Pipeline) => byPipeline().get(`${row.metadata.namespace}/${row.metadata.name}`) ?? [];
  const state = (row: Pipeline) => pipelineState(row, runsFor(row)[0]);
  const columns: Column<Pipeline>[] = [
    { id: "name", label: "col.name", first: true, sort: (row) => row.metadata.name, cell: (row) => <a data-row={row.metadata.uid} href={href(`/pipeline/${row.metadata.namespace}/${row.metadata.name}`)}>{row.metadata.name}</a> },
    ...(namespace ? [] : [{ id: "namespace", label: "col.namespace", sort: (row) => row.metadata.namespace ?? "", cell: (row) => row.metadata.namespace, narrow: false } as Column<Pipeline>]),
    { id: "state", label: "col.state", sort: (row) => state(row).word, text: (row) => `${state(row).word} ${state(row).kind}`, cell: (row) => <Show when={runsFor(row)[0]} fallback={<State state={state(row)} />}>{(run) => <a href={href(`/run/${row.metadata.namespace}/${run().metadata.name}`)} style={{ color: "inherit" }}><State state={state(row)} /></a>}</Show> },
    { id: "runs", label: "pipeline.runs", cell: (row) => <Bars runs={runsFor(row)} /> },
    { id: "branch", label: "run.branch", sort: (row) => row.status?.last?.branch ?? "", cell: (row) => branchName(runsFor(row)[0]?.status?.branch ?? row.status?.last?.branch) || "-", narrow: false },
    { id: "good", label: "pipeline.lastGood", number: true, sort: (row) => row.status?.lastSuccessful?.finished ?? "", text: (row) => age(row.status?.lastSuccessful?.finished), cell: (row) => <Show when={row.status?.lastSuccessful?.finished} fallback="-"><Age time={row.status!.lastSuccessful!.finished} /></Show>, narrow: false },
    { id: "bad", label: "pipeline.lastBad", number: true, sort: (row) => row.status?.lastFailed?.finished ?? "", text: (row) => age(row.status?.lastFailed?.finished), cell: (row) => <Show when={row.status?.lastFailed?.finished} fallback="-"><Age time={row.status!.lastFailed!.finished} /></Show>, narrow: false },
    { id: "took", label: "run.took", number: true, sort: (row) => took(row.status?.last ?? {}, Date.now()) ?? -1, cell: (row) => lastTook(row.status?.last), narrow: false },
    { id: "start", label: "pipeline.start", number: true, cell: (row) => <button class="button bare" aria-label={`${t("pipeline.start")}: ${row.metadata.name}`} title={t("pipeline.start")} onClick={() => setStarting(row)}>▶</button> },
  ];
  return (
    <>
      <Fresh of={found} />
      <Table id="pipelines" label={t("nav.pipelines")} rows={found.items()} columns={columns} key={(row) => row.metadata.uid} name={(row) => `${row.metadata.namespace}/${row.metadata.name}`} labels={(row) => row.metadata.labels}
        loading={found.phase() === "loading"} empty={<Note words={t("pipeline.none")} command={COMMAND} />} />
      <Show when={starting()}>{(it) => <StartRun pipeline={it()} onClose={() => setStarting(undefined)} />}</Show>
    </>
  );
}

function Repositories() {
  const namespace = query("ns");
  const found = watch<Repository>(repositoriesPath(namespace));
  const pipelines = watch<Pipeline>(pipelinesPath(namespace));
  const address = (row: Repository) => `${location.origin}/git/${row.status?.path ?? `${row.metadata.namespace}/${row.metadata.name}.git`}`.replace("/git//", "/git/").replace("/git/git/", "/git/");
  const last = (row: Repository) => row.status?.pushes?.at(-1);
  const heads = (row: Repository) => Object.keys(row.status?.references ?? {}).filter((name) => name.startsWith("refs/heads/"));
  const built = (row: Repository) => pipelines.items().filter((one) => one.metadata.namespace === row.metadata.namespace && one.spec.repository?.name === row.metadata.name);
  const columns: Column<Repository>[] = [
    { id: "name", label: "col.name", first: true, sort: (row) => row.metadata.name, cell: (row) => <span data-row={row.metadata.uid} title={row.spec.description}>{row.metadata.name}</span> },
    ...(namespace ? [] : [{ id: "namespace", label: "col.namespace", sort: (row) => row.metadata.namespace ?? "", cell: (row) => row.metadata.namespace, narrow: false } as Column<Repository>]),
    { id: "clone", label: "repo.address", text: address, cell: (row) => <code class="mono" title={address(row)}>{address(row)}</code> },
    { id: "branches", label: "repo.branches", number: true, sort: (row) => heads(row).length, text: (row) => heads(row).map(branchName).join(" "), cell: (row) => <span title={heads(row).map(branchName).join("\n")}>{heads(row).length}</span>, narrow: false },
    { id: "head", label: "repo.head", text: (row) => row.status?.head ?? "", cell: (row) => <span class="mono">{row.spec.defaultBranch ?? "main"} {shortCommit(row.status?.head)}</span>, narrow: false },
    { id: "pipelines", label: "nav.pipelines", cell: (row) => <For each={built(row)} fallback={<span class="faint">-</span>}>{(one) => <a href={href(`/pipeline/${one.metadata.namespace}/${one.metadata.name}`)}>{one.metadata.name} </a>}</For> },
    { id: "pushed", label: "repo.pushed", number: true, sort: (row) => last(row)?.time ?? "", text: (row) => last(row)?.user ?? "", cell: (row) => <Show when={last(row)} fallback={<span class="faint">{t("repo.empty")}</span>}>{(push) => <span title={[push().user && who(push().user!), exact(push().time)].filter(Boolean).join(", ")}><Age time={push().time} /></span>}</Show> },
    { id: "size", label: "col.size", number: true, sort: (row) => row.status?.bytes ?? 0, cell: (row) => bytes(row.status?.bytes ?? 0), narrow: false },
    { id: "age", label: "col.age", number: true, hidden: true, sort: (row) => ageSeconds(row.metadata.creationTimestamp), cell: (row) => <Age time={row.metadata.creationTimestamp} /> },
  ];
  return (
    <>
      <Fresh of={found} />
      <Table id="repositories" label={t("repo.title")} rows={found.items()} columns={columns} key={(row) => row.metadata.uid} name={(row) => `${row.metadata.namespace}/${row.metadata.name}`} labels={(row) => row.metadata.labels}
        loading={found.phase() === "loading"} empty={<Note words={t("repo.none")} command={"kubectl apply -f - <<YAML\napiVersion: madang.dev/v1alpha1\nkind: Repository\nmetadata: {name: hello}\nYAML\ngit push http://127.0.0.1:3000/git/default/hello.git HEAD:main"} />} />
    </>
  );
}
