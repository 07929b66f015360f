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
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? { accept: "application/json" } : { accept: "application/json", "content-type": type },
      body: body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body),
      credentials: "same-origin",
      signal: signal ?? null,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, t("error.network"));
  }
  const text = await answer.text();
  let parsed: unknown = text;
  try {
    parsed = text === "" ? {} : JSON.parse(text);
  } catch {
    /* Plain text is an answer too. */
  }
  if (answer.ok) return parsed;
  if (answer.status === 401) signedOut();
  const said = parsed as { message?: string; error?: string };
  throw new Refused(answer.status, said?.message ?? said?.error ?? (typeof parsed === "string" && parsed ? parsed.slice(0, 500) : answer.statusText));
}

export const get = <T>(path: string, signal?: AbortSignal) => send("GET", `/k8s${path}`, undefined, undefined, signal) as Promise<T>;
export const put = <T>(path: string, body: unknown) => send("PUT", `/k8s${path}`, body) as Promise<T>;
export const patch = <T>(path: string, body: unknown, type = "application/merge-patch+json") => send("PATCH", `/k8s${path}`, body, type) as Promise<T>;
export const remove = (path: string, body?: unknown) => send("DELETE", `/k8s${path}`, body);

/// The address of a WebSocket of this server.
export const socket = (path: string) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
