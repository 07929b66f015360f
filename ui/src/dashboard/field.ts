/// What a field's settings make of its values: overrides, mappings, thresholds, colours, text.
import { coloursOf, dark, token } from "../colours";
import { format } from "./units";
import { displayName, type Field, type FieldConfig, type Frame, type Mapping, type Value } from "./frame";

export interface FieldSettings { defaults?: FieldConfig; overrides?: { matcher: { id: string; options?: unknown }; properties: { id: string; value?: unknown }[] }[] }

/// Grafana's names of colours, in a light and a dark variant.
const NAMED: Record<string, [string, string]> = {
  red: ["#c4162a", "#f2495c"], orange: ["#e0620d", "#ff9830"], yellow: ["#b78300", "#fade2a"], green: ["#37872d", "#73bf69"], blue: ["#1f60c4", "#5794f2"], purple: ["#8f3bb8", "#b877d9"],
  text: ["#17212b", "#e6ecf2"], white: ["#ffffff", "#ffffff"], black: ["#000000", "#000000"], gray: ["#6b7785", "#9aa7b4"], transparent: ["#00000000", "#00000000"],
};
export function colour(name: string | undefined, fallback = "text"): string {
  const text = name ?? fallback;
  const found = NAMED[text.replace(/^(super-light|light|semi-dark|dark)-/, "")];
  if (found) return dark() ? found[1] : found[0];
  return /^(#[0-9a-f]{3,8}|rgba?\([\d\s.,%]+\)|hsla?\([\d\s.,%deg]+\)|[a-z]+)$/i.test(text) ? text : colour(fallback);
}

/// A pattern as dashboards write it, `/.../flags` or bare; what is none fits nothing.
export function pattern(text: string): RegExp {
  const parts = /^\/(.*)\/([gimsuy]*)$/s.exec(text);
  try {
    return new RegExp(parts ? parts[1]! : text, parts ? parts[2]!.replace("g", "") : "");
  } catch {
    return /$^/;
  }
}

function matched(matcher: { id: string; options?: unknown }, field: Field, frame: Frame, all: readonly Frame[]): boolean {
  const options = matcher.options;
  const names = [displayName(field, frame, all), field.name];
  switch (matcher.id) {
    case "byName": return names.includes(String(options));
    case "byRegexp": return names.some((name) => pattern(String(options)).test(name));
    case "byRegexpOrNames": { const both = options as { pattern?: string; names?: string[] }; return names.some((name) => both.names?.includes(name) || (both.pattern ? pattern(both.pattern).test(name) : false)); }
    case "byNames": { const one = options as { mode?: string; names?: string[] }; const found = names.some((name) => one.names?.includes(name)); return one.mode === "exclude" ? !found && field.type === "number" : found; }
    case "byType": return field.type === options;
    case "byFrameRefID": return frame.refId === options;
    case "numeric": return field.type === "number";
    case "time": return field.type === "time";
    default: return false;
  }
}

/// Writes the settings that hold for each field into it.
export function applied(frames: readonly Frame[], settings: FieldSettings | undefined, replace: (text: string) => string): Frame[] {
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => {
      let config: FieldConfig = { ...settings?.defaults, ...field.config, custom: { ...settings?.defaults?.custom, ...field.config.custom } };
      if (field.type !== "number") { delete config.unit; delete config.displayName; if (field.config.displayName) config.displayName = field.config.displayName; }
      for (const override of settings?.overrides ?? []) {
        if (!matched(override.matcher, field, frame, frames)) continue;
        for (const { id, value } of override.properties) config = put(config, id.split("."), value);
      }
      if (config.displayName) config.displayName = replace(config.displayName);
      return { ...field, config };
    }),
  }));
}

/// Names that would change how objects work are no settings.
const BARRED = new Set(["__proto__", "constructor", "prototype"]);
function put<T extends object>(into: T, path: string[], value: unknown): T {
  const [first, ...rest] = path as [string, ...string[]];
  if (BARRED.has(first)) return into;
  const old = (into as Record<string, unknown>)[first];
  return { ...into, [first]: rest.length ? put((old ?? {}) as object, rest, value) : value };
}

export interface Shown { text: string; colour?: string; number?: number; share?: number }

/// The mapping that fits a value.
export function mapped(value: Value, mappings: readonly Mapping[] | undefined): { text?: string; color?: string } | undefined {
  for (const mapping of mappings ?? []) {
    const number = typeof value === "number" ? value : value === null || value === undefined || value === "" ? NaN : Number(value);
    // The form of old dashboards has no options.
    if (mapping.options === undefined) {
      if (String(mapping.type) === "1" && String(mapping.value) === String(value ?? "null")) return mapping.text === undefined ? {} : { text: mapping.text };
      if (String(mapping.type) === "2" && number >= Number(mapping.from) && number <= Number(mapping.to)) return mapping.text === undefined ? {} : { text: mapping.text };
      continue;
    }
    const result = (mapping.options as { result?: { text?: string; color?: string } }).result;
    if (mapping.type === "value") {
      const found = Object.hasOwn(mapping.options, String(value)) ? (mapping.options[String(value)] as { text?: string; color?: string }) : undefined;
      if (found) return found;
    } else if (mapping.type === "range") {
      const { from, to } = mapping.options as { from?: number | null; to?: number | null };
      if (!Number.isNaN(number) && number >= (from ?? -Infinity) && number <= (to ?? Infinity)) return result ?? {};
    } else if (mapping.type === "regex") {
      const text = String(value ?? ""), regex = pattern(String((mapping.options as { pattern?: string }).pattern ?? ""));
      if (regex.test(text)) return { ...result, ...(result?.text !== undefined ? { text: text.replace(regex, result.text) } : {}) };
    } else if (mapping.type === "special") {
      const match = (mapping.options as { match?: string }).match;
      const nothing = value === null || value === undefined, nan = typeof value === "number" && Number.isNaN(value);
      if ((match === "null" && nothing) || (match === "nan" && nan) || (match === "null+nan" && (nothing || nan)) || (match === "true" && value === true) || (match === "false" && value === false) || (match === "empty" && value === "")) return result ?? {};
    }
  }
  return undefined;
}

export function bounds(field: Field): [number, number] {
  const numbers = field.values.filter((value): value is number => typeof value === "number" && Number.isFinite(value));
  const unit = field.config.unit;
  const low = field.config.min ?? (unit === "percent" || unit === "percentunit" ? 0 : Math.min(0, ...numbers.slice(0, 10000)));
  const high = field.config.max ?? (unit === "percent" ? 100 : unit === "percentunit" ? 1 : Math.max(...numbers.slice(0, 10000), low + 1e-9));
  return [low, high];
}

export function thresholdColour(value: number, config: FieldConfig, range: [number, number]): string {
  const steps = config.thresholds?.steps ?? [{ value: null, color: "green" }, { value: 80, color: "red" }];
  const at = config.thresholds?.mode === "percentage" ? ((value - range[0]) / (range[1] - range[0] || 1)) * 100 : value;
  let found = steps[0]?.color ?? "green";
  for (const step of steps) if (step.value === null || step.value === undefined || at >= step.value) found = step.color;
  return colour(found);
}

const SCALES: Record<string, string[]> = {
  "continuous-GrYlRd": ["green", "yellow", "red"], "continuous-RdYlGr": ["red", "yellow", "green"], "continuous-BlYlRd": ["blue", "yellow", "red"], "continuous-YlRd": ["yellow", "red"], "continuous-BlPu": ["blue", "purple"], "continuous-YlBl": ["yellow", "blue"],
  "continuous-blues": ["#dbe9fb", "blue"], "continuous-reds": ["#fbdcdc", "red"], "continuous-greens": ["#dff3dc", "green"], "continuous-purples": ["#eedff7", "purple"],
};
function mixed(names: string[], share: number): string {
  const at = Math.min(1, Math.max(0, share)) * (names.length - 1), low = Math.floor(at), part = at - low;
  const hex = (name: string) => { const found = /^#(..)(..)(..)/.exec(colour(name)); return found ? found.slice(1, 4).map((one) => parseInt(one, 16)) : [128, 128, 128]; };
  const a = hex(names[low]!), b = hex(names[Math.min(names.length - 1, low + 1)]!);
  return `#${a.map((one, place) => Math.round(one + (b[place]! - one) * part).toString(16).padStart(2, "0")).join("")}`;
}

/// A value as it is shown: its text, and its colour where the settings give it one.
export function shown(value: Value, field: Field, range: [number, number] = bounds(field)): Shown {
  const config = field.config;
  const map = mapped(value, config.mappings);
  const number = typeof value === "number" ? value : undefined;
  const share = number === undefined ? undefined : Math.min(1, Math.max(0, (number - range[0]) / (range[1] - range[0] || 1)));
  let tint: string | undefined;
  const mode = config.color?.mode ?? "thresholds";
  if (map?.color) tint = colour(map.color);
  else if (mode === "fixed") tint = colour(config.color?.fixedColor);
  else if (mode === "thresholds" && number !== undefined) tint = thresholdColour(number, config, range);
  else if (SCALES[mode] && share !== undefined) tint = mixed(SCALES[mode]!, share);
  let text: string;
  if (map?.text !== undefined && map.text !== "") text = map.text;
  else if (value === null || value === undefined) text = config.noValue ?? "";
  else if (field.type === "time" && number !== undefined) text = format(number, config.unit?.startsWith("dateTime") ? config.unit : "dateTimeAsIso");
  else if (number !== undefined) text = format(number, config.unit, config.decimals);
  else text = String(value);
  return { text, ...(tint ? { colour: tint } : {}), ...(number !== undefined ? { number } : {}), ...(share !== undefined ? { share } : {}) };
}

/// Colours of series: fixed, by threshold of the last value, or from the palette by name.
export function seriesColours(fields: readonly { field: Field; name: string }[]): string[] {
  const palette = coloursOf(fields.map((one) => one.name));
  return fields.map(({ field }, at) => {
    const mode = field.config.color?.mode;
    if (mode === "fixed" || mode === "shades") return colour(field.config.color?.fixedColor, "blue");
    if (mode === "thresholds" || (mode && SCALES[mode])) {
      const last = field.values.filter((value): value is number => typeof value === "number").at(-1);
      return last === undefined ? palette[at]! : (shown(last, field).colour ?? palette[at]!);
    }
    return palette[at]!;
  });
}

/// Black or white, whichever can be read on a colour.
export function readable(on: string): string {
  const found = /^#(..)(..)(..)/.exec(on);
  if (!found) return token("text");
  const [r, g, b] = found.slice(1, 4).map((one) => { const part = parseInt(one, 16) / 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#101418" : "#ffffff";
}
