/// Who is signed in.
import { createSignal } from "solid-js";

export interface Person { user: string; groups: string[]; parts: string[]; version: string }
const [person, setPersonSignal] = createSignal<Person | null | undefined>(undefined);
/// The cookie is not for scripts: that somebody was signed in when the page was open last is noted apart.
const NOTE = "signed-in";
const setPerson = (to: Person | null) => {
  if (to) localStorage.setItem(NOTE, "yes");
  else localStorage.removeItem(NOTE);
  setPersonSignal(to);
};
/// Whether somebody most likely is signed in, before the server has said so.
export const likelySignedIn = () => localStorage.getItem(NOTE) !== null;
/// Undefined until known; null when nobody is.
export { person };
export const signedIn = () => Boolean(person());
export const has = (part: string) => person()?.parts.includes(part) ?? false;

async function ask(method: string, body?: unknown): Promise<{ status: number; answer: Person & { message?: string } }> {
  const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const answer = await fetch("/session", { method, credentials: "same-origin", ...sent });
  return { status: answer.status, answer: await answer.json() };
}

export async function lookUp(): Promise<void> {
  const { status, answer } = await ask("GET");
  setPerson(status === 200 && answer.user ? answer : null);
}

/// Signs in; the server's words if it refuses.
export async function signIn(how: { token: string } | { code: string }): Promise<string | undefined> {
  const { status, answer } = await ask("POST", how);
  if (status !== 200) return answer.message ?? String(status);
  setPerson(answer);
  return undefined;
}

export async function signOut(): Promise<void> {
  await ask("DELETE");
  setPerson(null);
}

/// A request was refused because nobody is signed in any more.
export const signedOut = () => setPerson(null);
