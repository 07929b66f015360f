/// Alerts: what fires, with silences that quiet it; the rules behind; the silences.
import { createMemo, createSignal, For, Match, Show, Switch } from "solid-js";
import { exact, span } from "../format";
import { send } from "../kube/client";
import { Age, Confirm, Note, Wrong } from "../parts/Small";
import { State } from "../parts/State";
import type { Kind } from "../kube/status";
import { repeated, type Labels } from "../prometheus";
import { matches, parseMatchers, writeMatcher, type Matcher } from "../matchers";
import { href, parts, query, setQuery } from "../router";
import { person } from "../session";
import { t, tn } from "../words";

interface Alert { fingerprint: string; labels: Labels; annotations: Labels; startsAt: string; status: { state: string; silencedBy: string[]; inhibitedBy: string[] }; generatorURL?: string }
interface Rule { name: string; query: string; duration: number; state: string; health: string; lastError?: string; labels: Labels; annotations: Labels; alerts: { state: string; labels: Labels; activeAt?: string; value: string }[]; type: string }
interface Silence { id: string; matchers: Matcher[]; startsAt: string; endsAt: string; createdBy: string; comment: string; status: { state: string } }

const kindOf = (severity: string | undefined): Kind => (severity === "critical" || severity === "page" ? "bad" : severity === "warning" ? "warn" : "idle");
const RANK: Record<Kind, number> = { bad: 0, warn: 1, new: 2, idle: 3, good: 4 };
const words = (labels: Labels, without: string[] = []) => Object.entries(labels).filter(([name]) => !without.includes(name));

export default function Alerts() {
  const tab = () => parts()[1] ?? "firing";
  const every = () => 15;
  const alerts = repeated(async (signal) => (await send("GET", "/alertmanager/api/v2/alerts", undefined, undefined, signal)) as Alert[], every);
  const rules = repeated(async (signal) => ((await send("GET", "/prometheus/api/v1/rules?type=alert", undefined, undefined, signal)) as { data: { groups: { name: string; rules: Rule[] }[] } }).data.groups, every);
  const silences = repeated(async (signal) => (await send("GET", "/alertmanager/api/v2/silences", undefined, undefined, signal)) as Silence[], every);
  const [silencing, setSilencing] = createSignal<string>();
  const again = () => { alerts.again(); silences.again(); };
  const tabs = [["firing", "alerts.firing"], ["rules", "alerts.rules"], ["silences", "alerts.silences"]] as const;
  const shown = createMemo(() => (alerts.value() ?? []).filter((alert) => fits(alert.labels))
    .sort((a, b) => a.status.silencedBy.length - b.status.silencedBy.length || RANK[kindOf(a.labels.severity)] - RANK[kindOf(b.labels.severity)] || Date.parse(b.startsAt) - Date.parse(a.startsAt)));
  const fits = (labels: Labels) => {
    const filter = query("q").toLowerCase().split(/\s+/).filter(Boolean);
    return (!query("ns") || !labels.namespace || labels.namespace === query("ns")) && filter.every((word) => {
      const [key, value] = word.includes(":") ? [word.slice(0, word.indexOf(":")), word.slice(word.indexOf(":") + 1)] : ["", word];
      return key ? (labels[key] ?? "").toLowerCase().includes(value) : Object.values(labels).some((one) => one.toLowerCase().includes(value));
    });
  };
  const all = createMemo(() => (rules.value() ?? []).flatMap((group) => group.rules.map((rule) => ({ ...rule, group: group.name }))).filter((rule) => fits({ alertname: rule.name, group: rule.group, ...rule.labels }))
    .sort((a, b) => ["firing", "pending"].indexOf(b.state) - ["firing", "pending"].indexOf(a.state) || a.name.localeCompare(b.name)));
  const live = createMemo(() => (silences.value() ?? []).filter((one) => one.status.state !== "expired").sort((a, b) => Date.parse(a.endsAt) - Date.parse(b.endsAt)));
  return (
    <div class="page">
      <header><h1>{t("alerts.title")}</h1>
        <input class="field" type="search" data-filter aria-label={t("list.filter")} placeholder={t("list.filter")} value={query("q")} onInput={(event) => setQuery({ q: event.currentTarget.value })} style={{ width: "240px" }} />
        <button class="button end" onClick={() => setSilencing("")}>{t("alerts.new")}</button></header>
      <nav class="tabs" aria-label={t("alerts.title")}><For each={tabs}>{([id, label]) => <a href={href(id === "firing" ? "/alerts" : `/alerts/${id}`)} aria-current={tab() === id ? "page" : undefined}>{t(label)} <Show when={id === "firing" ? shown().length : id === "silences" ? live().length : 0}>{(n) => <span class="tag">{n()}</span>}</Show></a>}</For></nav>
      <Switch>
        <Match when={tab() === "firing"}>
          <Wrong error={alerts.error()} />
          <Show when={alerts.value()} fallback={<Show when={!alerts.error()}><div class="shape" style={{ height: "200px" }} /></Show>}>
            <Show when={shown().length} fallback={<div class="card"><Note words={t("alerts.none")} /></div>}>
              <ul class="card list"><For each={shown()}>{(alert) => (
                <li style={{ opacity: alert.status.silencedBy.length || alert.status.inhibitedBy.length ? 0.85 : 1 }}>
                  <div class="row"><State state={alert.status.silencedBy.length ? { kind: "idle", word: t("alerts.silenced") } : { kind: kindOf(alert.labels.severity), word: alert.labels.severity ?? t("alerts.firing") }} />
                    <strong>{alert.labels.alertname}</strong><span class="soft small">{t("col.since")} <Age time={alert.startsAt} /></span><span class="grow" />
                    <button class="button" onClick={() => setSilencing(words(alert.labels).map(([name, value]) => writeMatcher({ name, value, isRegex: false, isEqual: true })).join("\n"))}>{t("alerts.silence")}</button></div>
                  <p>{alert.annotations.summary ?? alert.annotations.message}</p><p class="soft small">{alert.annotations.description}</p>
                  <div class="row" style={{ gap: "4px" }}><For each={words(alert.labels, ["alertname", "severity", "prometheus"])}>{([name, value]) => <span class="tag mono">{name}={value}</span>}</For></div>
                </li>)}</For></ul>
            </Show></Show>
        </Match>
        <Match when={tab() === "rules"}>
          <Wrong error={rules.error()} />
          <Show when={rules.value()} fallback={<Show when={!rules.error()}><div class="shape" style={{ height: "200px" }} /></Show>}>
            <Show when={all().length} fallback={<div class="card"><Note words={t("alerts.noRules")} /></div>}>
              <div class="table" tabindex="0" role="group" aria-label={t("alerts.rules")}><table>
                <thead><tr><th>{t("col.state")}</th><th>{t("col.rule")}</th><th>{t("alerts.query")}</th><th class="num">{t("alerts.for")}</th></tr></thead>
                <tbody><For each={all()}>{(rule) => <tr>
                  <td><State state={rule.health === "err" ? { kind: "bad", word: t("state.failed"), detail: t("alerts.health", { error: rule.lastError ?? "" }) } : rule.state === "firing" ? { kind: kindOf(rule.labels.severity), word: t("alerts.firing") } : rule.state === "pending" ? { kind: "new", word: t("alerts.pending") } : { kind: "good", word: t("alerts.inactive") }} /></td>
                  <td><strong>{rule.name}</strong> <span class="soft small">{rule.group}</span><p class="soft small cut">{rule.annotations.summary ?? rule.annotations.description}</p></td>
                  <td style={{ "max-width": "480px" }}><a class="mono cut" title={rule.query} href={href(`/explore?expr=${encodeURIComponent(rule.query)}`)}>{rule.query}</a></td>
                  <td class="num">{rule.duration ? span(rule.duration) : "-"}</td></tr>}</For></tbody>
              </table></div></Show></Show>
        </Match>
        <Match when={tab() === "silences"}>
          <Wrong error={silences.error()} />
          <Show when={live().length} fallback={<Show when={silences.value()}><div class="card"><Note words={t("alerts.noSilences")} /></div></Show>}>
            <ul class="card list"><For each={live()}>{(one) => (
              <li class="row"><div class="grow"><div class="row" style={{ gap: "4px" }}><For each={one.matchers}>{(matcher) => <span class="tag mono">{writeMatcher(matcher)}</span>}</For></div>
                <p>{one.comment}</p><p class="soft small">{one.createdBy} · {t("col.until")} {exact(one.endsAt)} · {tn("alerts.affects", (alerts.value() ?? []).filter((alert) => matches(one.matchers, alert.labels)).length)}</p></div>
                <button class="button danger" onClick={() => void send("DELETE", `/alertmanager/api/v2/silence/${one.id}`).then(again)}>{t("alerts.expire")}</button></li>)}</For></ul></Show>
        </Match>
      </Switch>
      <Show when={silencing() !== undefined}><NewSilence start={silencing()!} alerts={alerts.value() ?? []} onClose={() => { setSilencing(undefined); again(); }} /></Show>
    </div>
  );
}

const LENGTHS = [3600, 2 * 3600, 8 * 3600, 86400, 7 * 86400];

function NewSilence(props: { start: string; alerts: Alert[]; onClose: () => void }) {
  const [text, setText] = createSignal(props.start);
  const [length, setLength] = createSignal(2 * 3600);
  const [comment, setComment] = createSignal("");
  const found = createMemo(() => parseMatchers(text()));
  const affected = () => (found() ? props.alerts.filter((alert) => matches(found()!, alert.labels)).length : 0);
  const act = async () => {
    if (!found()) throw new Error(t("alerts.badMatcher"));
    const now = new Date();
    await send("POST", "/alertmanager/api/v2/silences", { matchers: found(), startsAt: now.toISOString(), endsAt: new Date(now.getTime() + length() * 1000).toISOString(), createdBy: person()?.user ?? "", comment: comment() || "-" });
  };
  return (
    <Confirm title={t("alerts.silence")} what={found() ? tn("alerts.affects", affected()) : t("alerts.badMatcher")} command={`amtool silence add --duration=${span(length())} --comment='${comment().replace(/'/g, "")}' ${(found() ?? []).map((one) => `'${writeMatcher(one)}'`).join(" ")}`}
      act={act} onClose={props.onClose} extra={<>
        <label><span>{t("alerts.matchers")}</span><textarea class="field mono" rows="5" spellcheck={false} value={text()} onInput={(event) => setText(event.currentTarget.value)} placeholder={'alertname="KubePodCrashLooping"'} /></label>
        <label><span>{t("alerts.for")}</span><select class="field" onChange={(event) => setLength(Number(event.currentTarget.value))}><For each={LENGTHS}>{(one) => <option value={one} selected={one === length()}>{one < 86400 ? tn("unit.hours", one / 3600) : tn("unit.days", one / 86400)}</option>}</For></select></label>
        <label><span>{t("alerts.comment")}</span><input class="field" value={comment()} onInput={(event) => setComment(event.currentTarget.value)} /></label></>} />
  );
}

