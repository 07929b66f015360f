/// Words in the person's language: `t` finds and fills in, `tn` also chooses by number.
import { createSignal } from "solid-js";
import { en, type Key } from "./words/en";

export type { Key };
export type Language = "en" | "ko";
export const LANGUAGES: readonly (readonly [Language, string])[] = [["en", "English"], ["ko", "한국어"]];

const stored = localStorage.getItem("language");
const first: Language = stored === "ko" || stored === "en" ? stored : navigator.language.startsWith("ko") ? "ko" : "en";
const [catalogue, setCatalogue] = createSignal<Record<Key, string>>(en);
const [language, setLanguageSignal] = createSignal<Language>("en");
export { language };

/// Changes the language; the other catalogue is loaded when first asked for.
export async function setLanguage(to: Language): Promise<void> {
  const words = to === "ko" ? (await import("./words/ko")).ko : en;
  localStorage.setItem("language", to);
  document.documentElement.lang = to;
  setCatalogue(() => words);
  setLanguageSignal(to);
}

export const startLanguage = () => setLanguage(first);

export function t(key: Key, values?: Record<string, string | number>): string {
  const text = catalogue()[key];
  return values ? text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : text;
}

type Counted = Key extends infer K ? (K extends `${infer Base}.one` ? Base : never) : never;

/// A phrase with a number in it.
export function tn(key: Counted, n: number, values?: Record<string, string | number>): string {
  const rule = new Intl.PluralRules(language()).select(n) === "one" ? "one" : "other";
  return t(`${key}.${rule}` as Key, { n: new Intl.NumberFormat(language()).format(n), ...values });
}
