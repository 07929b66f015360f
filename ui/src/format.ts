/// Numbers and times as people read them: units that people use, at most three significant digits.
import { createSignal } from "solid-js";
import { language, t } from "./words";

/// How numbers are written in a language, by settings: made once, since to make one takes longer than to write a hundred numbers with it.
const NUMBERS = new Map<string, Intl.NumberFormat>();
export function numbers(options: Intl.NumberFormatOptions = {}): Intl.NumberFormat {
  const key = `${language()} ${JSON.stringify(options)}`;
  let known = NUMBERS.get(key);
  if (!known) NUMBERS.set(key, (known = new Intl.NumberFormat(language(), options)));
  return known;
}

/// A number with three significant digits at most, without an exponent for usual sizes.
export function short(value: number, digits = 3): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-6) return value.toExponential(digits - 1);
  if (size >= 100) return numbers({ maximumFractionDigits: 0 }).format(value);
  return numbers({ maximumSignificantDigits: digits }).format(value);
}

function scaled(value: number, base: number, names: readonly string[], digits = 3): string {
  let at = 0;
  let size = value;
  while (Math.abs(size) >= base && at < names.length - 1) {
    size /= base;
    at += 1;
  }
  const name = names[at] ?? "";
  return name ? `${short(size, digits)} ${name}` : short(size, digits);
}

const IEC = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] as const;
export const bytes = (value: number) => scaled(value, 1024, IEC);
/// CPU: cores, or thousandths below one.
export const cores = (value: number) => (value === 0 ? "0" : Math.abs(value) < 1 ? `${short(value * 1000)}m` : short(value));
export const percent = (ratio: number) => `${short(ratio * 100)}%`;
export const count = (value: number) => scaled(value, 1000, ["", "K", "M", "G", "T"]);

/// How long a request takes: milliseconds below a second.
export const latency = (seconds: number) => (Math.abs(seconds) < 1 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`);

/// A length of time in one or two units.
export function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const units: [number, string][] = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const at = units.findIndex(([size]) => whole >= size);
  if (at < 0) return "0s";
  const [size, name] = units[at]!;
  const first = Math.floor(whole / size);
  const next = units[at + 1];
  const rest = next && first < 10 ? Math.floor((whole % size) / next[0]) : 0;
  return `${first}${name}${rest && next ? `${rest}${next[1]}` : ""}`;
}

/// The clock that ages follow: every ten seconds, while the page is looked at.
const [now, setNow] = createSignal(Date.now());
setInterval(() => {
  if (!document.hidden) setNow(Date.now());
}, 10_000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) setNow(Date.now());
});
export { now };

export const ageSeconds = (time: string | undefined) => (time ? Math.max(0, (Math.max(now(), Date.now()) - Date.parse(time)) / 1000) : 0);
export function age(time: string | undefined): string {
  if (!time) return "-";
  const seconds = ageSeconds(time);
  now();
  return seconds < 1 ? t("time.now") : span(seconds);
}
export const exact = (time: string | number | undefined) =>
  time === undefined ? "" : new Intl.DateTimeFormat(language(), { dateStyle: "medium", timeStyle: "medium" }).format(new Date(time));
export const clock = (time: number) => new Intl.DateTimeFormat(language(), { timeStyle: "medium" }).format(new Date(time));

/// A Kubernetes quantity as a number: bytes, cores.
export function quantity(text: string | number | undefined): number {
  if (text === undefined) return 0;
  if (typeof text === "number") return text;
  const found = /^([+-]?[0-9.]+(?:[eE][+-]?\d+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$/.exec(text);
  if (!found) return 0;
  const sizes: Record<string, number> = {
    n: 1e-9, u: 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
    Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
  };
  return Number(found[1]) * (found[2] ? (sizes[found[2]] ?? 1) : 1);
}

/// A text of so many characters at most: what is longer ends with a word and with dots.
export function brief(text: string, most: number): string {
  if (text.length <= most) return text;
  const cut = text.slice(0, most - 1), word = cut.search(/\s\S*$/);
  return `${(word > most / 2 ? cut.slice(0, word) : cut).trimEnd()}…`;
}
