/// What happened to an object: its events, newest first.
import { createMemo, For, Show } from "solid-js";
import { eventTime, type Event } from "../kube/types";
import { watch } from "../kube/watch";
import { t } from "../words";
import { Age, Fresh, Note } from "./Small";
import { State } from "./State";

export function Events(props: { uid: string; namespace: string; name: string }) {
  const events = watch<Event>(`/api/v1/namespaces/${props.namespace}/events?fieldSelector=${encodeURIComponent(`involvedObject.name=${props.name}`)}`);
  const rows = createMemo(() => events.items().filter((event) => !event.involvedObject?.uid || event.involvedObject.uid === props.uid || event.involvedObject.name === props.name)
    .sort((a, b) => Date.parse(eventTime(b) ?? "") - Date.parse(eventTime(a) ?? "")));
  return (
    <><Fresh of={events} />
      <Show when={rows().length} fallback={<Show when={events.phase() !== "loading"}><div class="card"><Note words={t("events.none")} /></div></Show>}>
        <div class="table" tabindex="0" role="group" aria-label={t("pod.events")}><table>
          <thead><tr><th>{t("col.reason")}</th><th>{t("col.message")}</th><th class="num">{t("col.count")}</th><th class="num">{t("col.age")}</th></tr></thead>
          <tbody><For each={rows()}>{(event) => <tr><td><State state={{ kind: event.type === "Warning" ? "warn" : "idle", word: event.reason ?? "" }} /></td><td style={{ "max-width": "none", "overflow-wrap": "anywhere" }}>{event.message}</td><td class="num">{event.series?.count ?? event.count ?? 1}</td><td class="num"><Age time={eventTime(event)} /></td></tr>}</For></tbody>
        </table></div></Show></>
  );
}
