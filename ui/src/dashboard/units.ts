/// Grafana's units: what their identifiers mean. A number as its unit writes it, with the decimals that are asked for.
/// https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/#unit
import { numbers } from "../format";
import { language } from "../words";

function fixed(value: number, decimals: number | null | undefined, digits = 3): string {
  if (decimals !== undefined && decimals !== null) return numbers({ minimumFractionDigits: Math.min(20, decimals), maximumFractionDigits: Math.min(20, decimals) }).format(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-6) return value.toExponential(2);
  return numbers(size >= 100 ? { maximumFractionDigits: size >= 1000 ? 0 : 1 } : { maximumSignificantDigits: digits }).format(value);
}
type Format = (value: number, decimals?: number | null) => string;
const ladder = (base: number, names: readonly string[], start = 0, space = true): Format => (value, decimals) => {
  let at = start, size = value;
  while (Math.abs(size) >= base && at < names.length - 1) { size /= base; at += 1; }
  while (Math.abs(size) > 0 && Math.abs(size) < 1 && at > 0 && start > 0) { size *= base; at -= 1; }
  return `${fixed(size, decimals)}${names[at] ? (space ? " " : "") + names[at] : ""}`;
};
const suffix = (text: string): Format => (value, decimals) => `${fixed(value, decimals)}${text ? ` ${text}` : ""}`;
const prefixes = ["", "k", "M", "G", "T", "P", "E"], iec = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const named = (all: readonly string[], unit: string) => all.map((one) => one + unit);
/// Counts with a rate of their own: K, Mil, Bil as Grafana writes them.
const simple = (unit: string): Format => (value, decimals) => `${ladder(1000, ["", "K", "M", "B", "T"], 0, false)(value, decimals)}${unit ? ` ${unit}` : ""}`;

const TIMES: readonly [number, string][] = [[31557600, "year"], [604800, "week"], [86400, "day"], [3600, "hour"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];
const time = (scale: number): Format => (value, decimals) => {
  if (value === 0) return "0 s";
  const seconds = value * scale, size = Math.abs(seconds);
  const [unit, name] = TIMES.find(([one]) => size >= one) ?? TIMES[TIMES.length - 1]!;
  const shown = fixed(seconds / unit, decimals);
  return `${shown} ${name}${["year", "week", "day", "hour"].includes(name) && shown !== "1" ? "s" : ""}`;
};
const clock = (scale: number): Format => (value) => {
  let rest = Math.abs(Math.round(value * scale));
  const out: string[] = [];
  for (const [size, name] of [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]] as const) {
    const n = Math.floor(rest / size);
    if (n || (name === "s" && !out.length)) out.push(`${n}${name}`);
    rest %= size;
  }
  return (value < 0 ? "-" : "") + out.slice(0, 3).join(" ");
};
const date = (options: Intl.DateTimeFormatOptions): Format => (value) => new Intl.DateTimeFormat(language(), options).format(new Date(value));
const ago: Format = (value) => {
  const seconds = (value - Date.now()) / 1000, size = Math.abs(seconds);
  const [unit, name] = ([[31557600, "year"], [2629800, "month"], [86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]] as const).find(([one]) => size >= one) ?? [1, "second"];
  return new Intl.RelativeTimeFormat(language()).format(Math.round(seconds / unit), name);
};

const UNITS: Record<string, Format> = {
  none: suffix(""), short: simple(""), sishort: ladder(1000, prefixes), string: (value) => String(value), locale: (value, decimals) => numbers(decimals == null ? {} : { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).format(value),
  percent: (value, decimals) => `${fixed(value, decimals)}%`, percentunit: (value, decimals) => `${fixed(value * 100, decimals)}%`,
  bytes: ladder(1024, named(iec, "B")), kbytes: ladder(1024, named(iec, "B"), 1), mbytes: ladder(1024, named(iec, "B"), 2), gbytes: ladder(1024, named(iec, "B"), 3), decbytes: ladder(1000, named(prefixes, "B")), deckbytes: ladder(1000, named(prefixes, "B"), 1), decmbytes: ladder(1000, named(prefixes, "B"), 2), decgbytes: ladder(1000, named(prefixes, "B"), 3),
  bits: ladder(1024, named(iec, "b")), decbits: ladder(1000, named(prefixes, "b")),
  Bps: ladder(1000, named(prefixes, "B/s")), binBps: ladder(1024, named(iec, "B/s")), bps: ladder(1000, named(prefixes, "b/s")), binbps: ladder(1024, named(iec, "b/s")), KBs: ladder(1000, named(prefixes, "B/s"), 1), MBs: ladder(1000, named(prefixes, "B/s"), 2), Kbits: ladder(1000, named(prefixes, "b/s"), 1), Mbits: ladder(1000, named(prefixes, "b/s"), 2), pps: ladder(1000, named(prefixes, "p/s")),
  ns: time(1e-9), "µs": time(1e-6), ms: time(1e-3), s: time(1), m: time(60), h: time(3600), d: time(86400), dtdurations: clock(1), dtdurationms: clock(1e-3), dthms: clock(1), dthmsms: clock(1e-3), clocks: clock(1), clockms: clock(1e-3), timeticks: time(0.01), hertz: ladder(1000, named(prefixes, "Hz")), rothz: ladder(1000, named(prefixes, "Hz")), mhertz: ladder(1000, named(prefixes, "Hz"), 2),
  cps: simple("c/s"), ops: simple("ops/s"), reqps: simple("req/s"), rps: simple("rd/s"), wps: simple("wr/s"), iops: simple("io/s"), eps: simple("evt/s"), mps: simple("mps"), recps: simple("rec/s"), opm: simple("ops/min"), rpm: simple("rpm"), cpm: simple("c/min"), wpm: simple("wr/min"), iopm: simple("io/min"),
  celsius: suffix("°C"), fahrenheit: suffix("°F"), kelvin: suffix("K"), humidity: suffix("%H"), watt: ladder(1000, named(prefixes, "W")), kwatt: ladder(1000, named(prefixes, "W"), 1), mwatt: suffix("mW"), volt: ladder(1000, named(prefixes, "V")), amp: ladder(1000, named(prefixes, "A")), joule: ladder(1000, named(prefixes, "J")), watth: ladder(1000, named(prefixes, "Wh")), rotrpm: suffix("rpm"), degree: suffix("°"), lengthm: ladder(1000, named(prefixes, "m")), pressurembar: suffix("mBar"), dB: suffix("dB"), bool: (value) => (value ? "True" : "False"), bool_yes_no: (value) => (value ? "Yes" : "No"), bool_on_off: (value) => (value ? "On" : "Off"),
  currencyUSD: (value, decimals) => `$${simple("")(value, decimals)}`, currencyEUR: (value, decimals) => `€${simple("")(value, decimals)}`, currencyKRW: (value, decimals) => `₩${simple("")(value, decimals)}`,
  dateTimeAsIso: date({ dateStyle: "medium", timeStyle: "medium" }), dateTimeAsLocal: date({ dateStyle: "medium", timeStyle: "medium" }), dateTimeAsSystem: date({ dateStyle: "medium", timeStyle: "medium" }), dateTimeAsIsoNoDateIfToday: date({ timeStyle: "medium" }), dateTimeFromNow: ago, sci: (value, decimals) => value.toExponential(decimals ?? 2), hex: (value) => Math.round(value).toString(16).toUpperCase(), hex0x: (value) => `0x${Math.round(value).toString(16).toUpperCase()}`, ppm: suffix("ppm"), conppm: suffix("ppm"),
};

export function format(value: number, unit: string | undefined, decimals?: number | null): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  if (!unit) return simple("")(value, decimals);
  const known = UNITS[unit];
  if (known) return known(value, decimals);
  const [kind, ...rest] = unit.split(":");
  const text = rest.join(":");
  if (kind === "suffix") return `${fixed(value, decimals)}${text.startsWith(" ") ? "" : " "}${text}`.replace("  ", " ");
  if (kind === "prefix") return `${text}${fixed(value, decimals)}`;
  if (kind === "time") return date({ dateStyle: "medium", timeStyle: "medium" })(value);
  if (kind === "si") return ladder(1000, named(prefixes, text.replace(/^[munkMGT](?=.)/, "")))(value, decimals);
  if (kind === "count") return simple(text)(value, decimals);
  if (kind === "currency") return `${text}${simple("")(value, decimals)}`;
  return `${fixed(value, decimals)} ${unit}`;
}
export const known = (unit: string) => unit in UNITS || /^(suffix|prefix|time|si|count|currency):/.test(unit);
