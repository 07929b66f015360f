/// Requests to the API server, through the console, with the person's own rights.
import { signedOut } from "../session";
import { t } from "../words";

/// What the server said instead of an answer.
export class Refused extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/// Sends a request; every refusal becomes a [`Refused`] with the server's own words.
export async function send(method: string, path: string, body?: unknown, type = "application/json", signal?: AbortSignal): Promise<unknown> {
  return parsed(await (await answered(method, path, body, type, signal)).text());
}

const parsed = (text: string): unknown => {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    /* Plain text is an answer too. */
    return text;
  }
};

/// Answers that were asked for before anybody wanted them, by path.
const early = new Map<string, Promise<Response>>();
/// Asks for what will be wanted once the page stands; the first who wants it takes the answer.
export function ahead(path: string): void {
  const asked = fetch(path, { headers: { accept: "application/json" }, credentials: "same-origin" });
  // Who wants it is told if it does not come.
  asked.catch(() => undefined);
  early.set(path, asked);
}

/// The answer of a request that was not refused, to be read in the form that it has.
export async function answered(method: string, path: string, body: unknown, type: string, signal?: AbortSignal, accept = "application/json"): Promise<Response> {
  let answer: Response;
  const asked = method === "GET" ? early.get(path) : undefined;
  early.delete(path);
  try {
    answer = asked ? await asked : await fetch(path, {
      method,
      headers: body === undefined ? { accept } : { accept, "content-type": type },
      body: body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body),
      credentials: "same-origin",
      signal: signal ?? null,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, t("error.network"));
  }
  if (answer.ok) return answer;
  const words = parsed(await answer.text());
  if (answer.status === 401) signedOut();
  const said = words as { message?: string; error?: string };
  throw new Refused(answer.status, said?.message ?? said?.error ?? (typeof words === "string" && words ? words.slice(0, 500) : answer.statusText));
}

export const get = <T>(path: string, signal?: AbortSignal) => send("GET", `/k8s${path}`, undefined, undefined, signal) as Promise<T>;
export const put = <T>(path: string, body: unknown) => send("PUT", `/k8s${path}`, body) as Promise<T>;
export const patch = <T>(path: string, body: unknown, type = "application/merge-patch+json") => send("PATCH", `/k8s${path}`, body, type) as Promise<T>;
export const remove = (path: string, body?: unknown) => send("DELETE", `/k8s${path}`, body);

/// The address of a WebSocket of this server.
export const socket = (path: string) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
