/// Data frames, as Grafana's panels and transformations think of them: columns with labels and settings.
import type { Labels, Sample, Series } from "../prometheus";

export interface FieldConfig {
  displayName?: string; unit?: string; decimals?: number | null; min?: number; max?: number; noValue?: string;
  color?: { mode?: string; fixedColor?: string; seriesBy?: string }; thresholds?: { mode?: string; steps?: { value: number | null; color: string }[] };
  mappings?: Mapping[]; links?: Link[]; custom?: Record<string, unknown>; fieldMinMax?: boolean;
}
export interface Link { title?: string; url?: string; targetBlank?: boolean }
export interface Mapping { type: string; options: Record<string, unknown>; value?: string; text?: string; from?: string; to?: string; id?: number }
export type Value = number | string | boolean | null | undefined;
export interface Field { name: string; type: "time" | "number" | "string"; values: Value[]; labels?: Labels; config: FieldConfig; nameFromSource?: string }
export interface Frame { name: string; refId: string; fields: Field[]; rows: number }

export const frame = (refId: string, name: string, fields: Field[]): Frame => ({ refId, name, fields, rows: fields.reduce((n, one) => Math.max(n, one.values.length), 0) });

/// The name of a series: its format filled in, or its labels.
export function legend(labels: Labels, format: string | undefined, expression: string): string {
  if (format && format !== "__auto") return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_whole, name: string) => labels[name] ?? "");
  const { __name__: metric = "", ...rest } = labels;
  const pairs = Object.entries(rest);
  if (!pairs.length) return metric || expression;
  return `${metric}{${pairs.map(([key, value]) => `${key}="${value}"`).join(", ")}}`;
}

/// With the automatic format, series that differ in one label are called by its value.
export function autoLegend(all: Labels[]): string | undefined {
  const keys = [...new Set(all.flatMap((one) => Object.keys(one)))].filter((key) => key !== "__name__" && new Set(all.map((one) => one[key])).size > 1);
  return all.length > 1 && keys.length === 1 ? `{{${keys[0]}}}` : undefined;
}

export function fromSeries(series: Series[], refId: string, format: string | undefined, expression: string): Frame[] {
  const pattern = format && format !== "__auto" ? format : format === "__auto" ? autoLegend(series.map((one) => one.labels)) : undefined;
  // Times that several series share stay shared.
  const stamps = new Map<readonly number[], number[]>();
  return series.map((one) => {
    const name = legend(one.labels, pattern, expression);
    const values = stamps.get(one.times) ?? one.times.map((time) => time * 1000);
    stamps.set(one.times, values);
    return frame(refId, name, [
      { name: "Time", type: "time", values, config: {} },
      { name: "Value", type: "number", values: one.values, labels: one.labels, config: {}, nameFromSource: name },
    ]);
  });
}

export function fromSamples(samples: Sample[], refId: string, format: string | undefined, expression: string): Frame[] {
  return fromSeries(samples.map((one) => ({ labels: one.labels, times: [one.time], values: [Number.isFinite(one.value) ? one.value : null] })), refId, format, expression);
}

/// One frame with a column a label, as Grafana's table format.
export function asTable(samples: { labels: Labels; time: number; value: number | null }[], refId: string, several: boolean): Frame {
  const keys = [...new Set(samples.flatMap((one) => Object.keys(one.labels)))].sort();
  return frame(refId, refId, [
    { name: "Time", type: "time", values: samples.map((one) => one.time * 1000), config: {} },
    ...keys.map((key): Field => ({ name: key, type: "string", values: samples.map((one) => one.labels[key] ?? ""), config: {} })),
    { name: several ? `Value #${refId}` : "Value", type: "number", values: samples.map((one) => one.value), config: {} },
  ]);
}

/// What a field is called where it is shown.
export function displayName(field: Field, of: Frame, all: readonly Frame[]): string {
  if (field.config.displayName) {
    return field.config.displayName.replace(/\$\{__field\.labels(?:\.([\w]+)|\["([^"]+)"\])\}/g, (_whole, a: string, b: string) => field.labels?.[a ?? b] ?? "")
      .replace(/\$\{__field\.name\}/g, field.name).replace(/\$\{__series\.name\}/g, of.name).replace(/\$\{__field\.displayName\}/g, field.nameFromSource ?? field.name);
  }
  if (field.nameFromSource) return field.nameFromSource;
  if (field.name === "Value" && field.labels && all.length > 1) return legend(field.labels, undefined, field.name);
  return field.name;
}
