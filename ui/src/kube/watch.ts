/// Objects as they are now: one WebSocket a kind, shared by all that show it, begun again when it breaks.
///
///   loading ─ first objects, then a bookmark ─► live ─ connection lost ─► stale ─ first objects anew ─► live
///
/// The first state comes over the watch itself (sendInitialEvents), so nothing is asked twice.
/// https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists
import { createSignal, onCleanup, type Accessor } from "solid-js";
import { signedIn } from "../session";
import { get, Refused, socket } from "./client";
import type { Thing } from "./types";

export type Phase = "loading" | "live" | "stale";
export interface Watched<T> {
  items: Accessor<readonly T[]>;
  phase: Accessor<Phase>;
  /// Since when what is shown may be old.
  since: Accessor<number>;
  error: Accessor<Refused | undefined>;
}
interface Shared<T> extends Watched<T> { users: number; stop: () => void }

const shared = new Map<string, Shared<Thing>>();
/// A stream that nobody looks at any more goes on for so long, for who comes back.
const LINGER = 5_000;

/// Objects of one path such as `/api/v1/pods`, with selectors in its query, while the caller is shown.
export function watch<T extends Thing>(path: string): Watched<T> {
  let stream = shared.get(path);
  if (!stream) {
    stream = begin(path);
    shared.set(path, stream);
  }
  const own = stream;
  own.users += 1;
  onCleanup(() => {
    own.users -= 1;
    if (own.users > 0) return;
    setTimeout(() => {
      if (own.users > 0 || shared.get(path) !== own) return;
      shared.delete(path);
      own.stop();
    }, LINGER);
  });
  return own as unknown as Watched<T>;
}

function begin(path: string): Shared<Thing> {
  const [items, setItems] = createSignal<readonly Thing[]>([]);
  const [phase, setPhase] = createSignal<Phase>("loading");
  const [since, setSince] = createSignal(Date.now());
  const [error, setError] = createSignal<Refused>();
  let objects = new Map<string, Thing>();
  let fresh: Map<string, Thing> | undefined;
  let connection: WebSocket | undefined;
  let stopped = false;
  let delay = 500;
  let due = 0;

  const publish = () => {
    if (due) return;
    // Changes of one moment are shown together.
    due = window.setTimeout(() => {
      due = 0;
      setItems([...objects.values()]);
    }, 50);
  };
  const take = (event: { type: string; object: Thing & { message?: string; code?: number } }) => {
    const object = event.object;
    if (event.type === "BOOKMARK") {
      if (object.metadata.annotations?.["k8s.io/initial-events-end"] === "true" && fresh) {
        objects = fresh;
        fresh = undefined;
        delay = 500;
        setPhase("live");
        setError(undefined);
        publish();
      }
      return;
    }
    if (event.type === "ERROR") {
      setError(new Refused(object.code ?? 500, object.message ?? "watch failed"));
      connection?.close();
      return;
    }
    delete (object.metadata as { managedFields?: unknown }).managedFields;
    const into = fresh ?? objects;
    if (event.type === "DELETED") into.delete(object.metadata.uid);
    else into.set(object.metadata.uid, object);
    if (!fresh) publish();
  };
  const connect = () => {
    if (stopped) return;
    if (!signedIn()) return;
    fresh = new Map();
    const query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    const decoder = new TextDecoder();
    let rest = "";
    const own = new WebSocket(socket(`/k8s${path}${path.includes("?") ? "&" : "?"}${query}`), "binary.k8s.io");
    connection = own;
    own.binaryType = "arraybuffer";
    own.onmessage = (message) => {
      rest += typeof message.data === "string" ? message.data : decoder.decode(message.data as ArrayBuffer, { stream: true });
      let end: number;
      while ((end = rest.indexOf("\n")) >= 0) {
        const line = rest.slice(0, end);
        rest = rest.slice(end + 1);
        if (line.trim()) take(JSON.parse(line));
      }
      // Some servers send one object a message, and no line's end.
      if (rest.startsWith("{") && rest.endsWith("}")) {
        try {
          const event = JSON.parse(rest);
          rest = "";
          take(event);
        } catch {
          /* The rest is still to come. */
        }
      }
    };
    own.onclose = () => {
      if (stopped || connection !== own) return;
      if (phase() === "live") {
        setSince(Date.now());
        setPhase("stale");
      }
      void why();
      window.setTimeout(connect, delay * (0.75 + Math.random() / 2));
      delay = Math.min(delay * 2, 15_000);
    };
  };
  /// A WebSocket that is refused does not tell why; the list does.
  const why = async () => {
    if (delay < 1000) return;
    try {
      await get(`${path}${path.includes("?") ? "&" : "?"}limit=1`);
    } catch (refused) {
      if (refused instanceof Refused && refused.status !== 0) setError(refused);
    }
  };
  connect();
  return {
    items, phase, since, error, users: 0,
    stop: () => {
      stopped = true;
      connection?.close();
    },
  };
}
