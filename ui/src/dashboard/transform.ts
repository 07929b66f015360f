/// Transformations: frames in, frames out, pure. Those that public dashboards use, and what they need.
import { CALCS } from "../calcs";
import { displayName, frame, type Field, type Frame, type Value } from "./frame";
import { pattern } from "./field";

export interface Transformation { id: string; options?: Record<string, unknown>; disabled?: boolean; filter?: { id: string; options?: unknown } }
type Options = Record<string, any>;

const named = (field: Field, of: Frame, all: readonly Frame[]) => displayName(field, of, all);
const byName = (of: Frame, name: string, all: readonly Frame[]) => of.fields.find((field) => field.name === name) ?? of.fields.find((field) => named(field, of, all) === name);
const pick = (of: Frame, rows: readonly number[]): Frame => frame(of.refId, of.name, of.fields.map((field) => ({ ...field, values: rows.map((row) => field.values[row]) })));
const indices = (of: Frame) => Array.from({ length: of.rows }, (_, at) => at);
const compare = (a: Value, b: Value): number => {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
};

/// Renames, hides and orders columns.
function organize(frames: Frame[], options: Options): Frame[] {
  const { excludeByName = {}, includeByName = {}, indexByName = {}, renameByName = {} } = options;
  const including = Object.values(includeByName).some(Boolean);
  return frames.map((of) => {
    const place = (field: Field) => indexByName[field.name] ?? indexByName[named(field, of, frames)] ?? Infinity;
    const kept = of.fields.filter((field) => {
      const names = [field.name, named(field, of, frames)];
      return !names.some((name) => excludeByName[name]) && (!including || names.some((name) => includeByName[name]));
    });
    const sorted = kept.map((field, at) => ({ field, at })).sort((a, b) => { const [x, y] = [place(a.field), place(b.field)]; return x === y ? a.at - b.at : x - y; });
    return frame(of.refId, of.name, sorted.map(({ field }) => {
      const name = renameByName[field.name] || renameByName[named(field, of, frames)];
      return name ? { ...field, config: { ...field.config, displayName: name } } : field;
    }));
  });
}

/// One frame of all, rows met by the values of one column.
function joinByField(frames: Frame[], options: Options): Frame[] {
  const inner = options.mode === "inner";
  const sources = frames.map((of) => ({ of, key: options.byField ? byName(of, options.byField, frames) : of.fields.find((field) => field.type === "time") })).filter((one): one is { of: Frame; key: Field } => one.key !== undefined);
  if (sources.length === 0) return frames;
  // A value that a frame has several times makes several rows.
  const rows = new Map<string, { value: Value; at: number[][] }>();
  sources.forEach(({ key }, source) => key.values.forEach((value, row) => {
    const id = `${typeof value}:${String(value)}`;
    if (!rows.has(id)) rows.set(id, { value, at: sources.map(() => []) });
    rows.get(id)!.at[source]!.push(row);
  }));
  const joined = [...rows.values()].filter((row) => !inner || row.at.every((one) => one.length > 0));
  if (sources[0]!.key.type === "time") joined.sort((a, b) => compare(a.value, b.value));
  const lines = joined.flatMap((row) => Array.from({ length: Math.min(1000, Math.max(...row.at.map((one) => one.length))) }, (_, at) => ({ value: row.value, at: row.at.map((one) => one[Math.min(at, one.length - 1)]) })));
  const seen = new Map<string, number>();
  const fields: Field[] = [{ ...sources[0]!.key, values: lines.map((line) => line.value) }];
  sources.forEach(({ of, key }, source) => of.fields.filter((field) => field !== key).forEach((field) => {
    // Columns of the same name are counted, as Grafana does.
    const times = (seen.get(field.name) ?? 0) + 1;
    seen.set(field.name, times);
    const several = sources.filter(({ of: other }) => other.fields.some((one) => one.name === field.name)).length > 1 && !field.labels;
    fields.push({ ...field, name: several ? `${field.name} ${times}` : field.name, values: lines.map((line) => { const at = line.at[source]; return at === undefined ? null : field.values[at]; }) });
  }));
  return [frame(sources[0]!.of.refId, "joined", fields)];
}

/// Rows with the same values of the columns chosen become one; others are calculated or go.
function groupBy(frames: Frame[], options: Options): Frame[] {
  const settings: Record<string, { operation?: string; aggregations?: string[] }> = options.fields ?? {};
  const of = (field: Field, one: Frame) => settings[field.name] ?? settings[named(field, one, frames)];
  return frames.map((one) => {
    const keys = one.fields.filter((field) => of(field, one)?.operation === "groupby");
    if (!keys.length) return one;
    const groups = new Map<string, number[]>();
    indices(one).forEach((row) => { const id = JSON.stringify(keys.map((key) => key.values[row] ?? null)); groups.set(id, [...(groups.get(id) ?? []), row]); });
    const all = [...groups.values()];
    const fields: Field[] = keys.map((key) => ({ ...key, values: all.map((rows) => key.values[rows[0]!]) }));
    for (const field of one.fields) {
      const setting = of(field, one);
      if (setting?.operation !== "aggregate") continue;
      for (const calc of setting.aggregations ?? []) {
        fields.push({ name: `${named(field, one, frames)} (${calc})`, type: calc === "count" || field.type === "number" ? "number" : field.type, config: field.config, values: all.map((rows) => calculated(calc, rows.map((row) => field.values[row]))) });
      }
    }
    return frame(one.refId, one.name, fields);
  });
}

const calculated = (calc: string, values: Value[]): Value => {
  if (values.some((value) => typeof value === "string")) {
    if (calc === "count") return values.length;
    if (calc === "first" || calc === "firstNotNull") return values[0];
    if (calc === "distinctCount") return new Set(values).size;
    return values.at(-1);
  }
  if (calc === "distinctCount") return new Set(values).size;
  return CALCS[calc]?.(values as (number | null)[]) ?? null;
};

/// Adds a column: two others by an operator, a row's reduction, an index, or one column by a function.
function calculateField(frames: Frame[], options: Options): Frame[] {
  return frames.map((of) => {
    const numbers = of.fields.filter((field) => field.type === "number");
    let name: string = options.alias ?? "", values: Value[] = [];
    const mode = options.mode ?? "reduceRow";
    if (mode === "binary") {
      const side = (one: unknown): ((row: number) => number) => {
        const text = typeof one === "object" && one !== null ? String((one as Options).fixed ?? (one as Options).matcher?.options ?? "") : String(one ?? "");
        const field = byName(of, text, frames);
        if (field) return (row) => Number(field.values[row] ?? NaN);
        return () => (text.trim() === "" ? NaN : Number(text));
      };
      const binary = options.binary ?? {};
      const left = side(binary.left), right = side(binary.right), operator = String(binary.operator ?? "+");
      const work = (a: number, b: number) => (operator === "+" ? a + b : operator === "-" ? a - b : operator === "*" ? a * b : operator === "/" ? a / b : operator === "%" ? a % b : operator === "^" || operator === "**" ? a ** b : operator === "=" || operator === "==" ? Number(a === b) : operator === "!=" ? Number(a !== b) : operator === ">" ? Number(a > b) : operator === "<" ? Number(a < b) : operator === ">=" ? Number(a >= b) : operator === "<=" ? Number(a <= b) : NaN);
      values = indices(of).map((row) => { const value = work(left(row), right(row)); return Number.isNaN(value) ? null : value; });
      const word = (one: unknown) => (typeof one === "object" && one !== null ? String((one as Options).fixed ?? (one as Options).matcher?.options ?? "") : String(one ?? ""));
      name ||= `${word(binary.left)} ${operator} ${word(binary.right)}`;
    } else if (mode === "reduceRow") {
      const include: string[] = options.reduce?.include ?? [];
      const chosen = numbers.filter((field) => !include.length || include.includes(field.name) || include.includes(named(field, of, frames)));
      const reducer = String(options.reduce?.reducer ?? "sum");
      values = indices(of).map((row) => calculated(reducer, chosen.map((field) => field.values[row] ?? null)));
      name ||= reducer === "sum" ? "Total" : reducer;
    } else if (mode === "index") {
      values = indices(of).map((row) => (options.index?.asPercentile ? row / Math.max(1, of.rows - 1) : row));
      name ||= "Row";
    } else if (mode === "unary") {
      const field = byName(of, String(options.unary?.fieldName ?? ""), frames) ?? numbers[0];
      const functions: Record<string, (value: number) => number> = { abs: Math.abs, exp: Math.exp, ln: Math.log, floor: Math.floor, ceil: Math.ceil, round: Math.round, sqrt: Math.sqrt, log10: Math.log10, percent: (value) => value * 100 };
      const work = functions[String(options.unary?.operator ?? "abs")] ?? ((value: number) => value);
      values = indices(of).map((row) => { const value = field?.values[row]; return typeof value === "number" ? work(value) : null; });
      name ||= `${String(options.unary?.operator ?? "abs")}(${field?.name ?? ""})`;
    } else if (mode === "cumulativeFunctions") {
      const field = byName(of, String(options.cumulative?.field ?? ""), frames) ?? numbers[0];
      let sum = 0;
      values = indices(of).map((row) => { sum += Number(field?.values[row] ?? 0); return options.cumulative?.reducer === "mean" ? sum / (row + 1) : sum; });
      name ||= "cumulative";
    } else return of;
    const field: Field = { name, type: "number", values, config: {} };
    return frame(of.refId, of.name, options.replaceFields ? [...of.fields.filter((one) => one.type === "time"), field] : [...of.fields, field]);
  });
}

/// One table of all frames: rows whose shared columns agree become one.
function merge(frames: Frame[]): Frame[] {
  const filled = frames.filter((of) => of.fields.length > 0);
  if (filled.length < 2) return filled.length ? filled : frames;
  const names: string[] = [];
  const kinds = new Map<string, Field>();
  for (const of of filled) for (const field of of.fields) {
    const name = field.name;
    if (!kinds.has(name)) { kinds.set(name, field); names.push(name); }
  }
  // Columns that all frames have, but for numbers, say which rows are the same.
  const keys = names.filter((name) => kinds.get(name)!.type !== "number" && filled.every((of) => of.fields.some((field) => field.name === name)));
  const rows: Map<string, Value>[] = [];
  const places = new Map<string, Map<string, Value>[]>();
  for (const of of filled) {
    indices(of).forEach((row) => {
      const values = new Map(of.fields.map((field) => [field.name, field.values[row]]));
      const id = JSON.stringify(keys.map((key) => values.get(key) ?? null));
      const known = keys.length ? (places.get(id) ?? []) : [];
      const free = known.find((one) => [...values].every(([name, value]) => !one.has(name) || one.get(name) === value));
      if (free) { values.forEach((value, name) => free.set(name, value)); return; }
      rows.push(values);
      places.set(id, [...known, values]);
    });
  }
  return [frame(filled[0]!.refId, "merged", names.map((name) => ({ ...kinds.get(name)!, values: rows.map((row) => row.get(name) ?? null) })))];
}

/// Labels become columns; in mode `rows`, a row each.
function labelsToFields(frames: Frame[], options: Options): Frame[] {
  const keep: string[] | undefined = options.keepLabels;
  if (options.mode === "rows") {
    return frames.flatMap((of) => of.fields.filter((field) => field.labels).map((field) => {
      const pairs = Object.entries(field.labels!).filter(([key]) => !keep || keep.includes(key));
      return frame(of.refId, named(field, of, frames), [{ name: "label", type: "string", values: pairs.map(([key]) => key), config: {} }, { name: "value", type: "string", values: pairs.map(([, value]) => value), config: {} }]);
    }));
  }
  const made = frames.map((of) => {
    const value = of.fields.find((field) => field.labels);
    if (!value) return of;
    const labels = Object.entries(value.labels!).filter(([key]) => key !== "__name__" && (!keep || keep.includes(key)));
    const title = options.valueLabel ? value.labels![options.valueLabel] : undefined;
    const { nameFromSource: _name, labels: _labels, ...plain } = value;
    return frame(of.refId, of.name, [
      ...of.fields.filter((field) => field !== value),
      ...labels.filter(([key]) => key !== options.valueLabel).map(([key, text]): Field => ({ name: key, type: "string", values: new Array<Value>(of.rows).fill(text), config: {} })),
      { ...plain, name: title ?? (value.labels!.__name__ || value.name) },
    ]);
  });
  return merge(made);
}

function sortBy(frames: Frame[], options: Options): Frame[] {
  const sort = options.sort?.[0] ?? options.fields?.[0];
  if (!sort) return frames;
  return frames.map((of) => {
    const field = byName(of, String(sort.field ?? sort.displayName ?? ""), frames);
    if (!field) return of;
    return pick(of, indices(of).sort((a, b) => (sort.desc ? -1 : 1) * compare(field.values[a], field.values[b])));
  });
}

function filterFieldsByName(frames: Frame[], options: Options): Frame[] {
  const test = (side: Options | undefined, field: Field, of: Frame): boolean | undefined => {
    if (!side || (!side.names?.length && !side.pattern)) return undefined;
    const names = [field.name, named(field, of, frames)];
    return names.some((name) => side.names?.includes(name) || (side.pattern ? pattern(side.pattern).test(name) : false));
  };
  return frames.map((of) => frame(of.refId, of.name, of.fields.filter((field) => (test(options.include, field, of) ?? true) && !(test(options.exclude, field, of) ?? false)))).filter((of) => of.fields.length > 0);
}

/// Each series becomes a row with what is calculated from it.
function reduce(frames: Frame[], options: Options): Frame[] {
  const calcs: string[] = options.reducers ?? ["max"];
  if (options.mode === "reduceFields") return frames.map((of) => frame(of.refId, of.name, of.fields.filter((field) => field.type === "number").map((field) => ({ ...field, values: [calculated(calcs[0]!, field.values)] }))));
  const rows = frames.flatMap((of) => of.fields.filter((field) => field.type === "number").map((field) => ({ name: named(field, of, frames), labels: field.labels ?? {}, values: calcs.map((calc) => calculated(calc, field.values)) })));
  const labels = options.labelsToFields ? [...new Set(rows.flatMap((row) => Object.keys(row.labels)))].sort() : [];
  const words: Record<string, string> = { lastNotNull: "Last *", last: "Last", firstNotNull: "First *", first: "First", max: "Max", min: "Min", mean: "Mean", sum: "Total", count: "Count", range: "Range", delta: "Delta", diff: "Difference" };
  return [frame("reduce", "reduce", [
    ...(labels.length ? labels.map((label): Field => ({ name: label, type: "string", values: rows.map((row) => row.labels[label] ?? ""), config: {} })) : [{ name: "Field", type: "string" as const, values: rows.map((row) => row.name), config: {} }]),
    ...calcs.map((calc, at): Field => ({ name: words[calc] ?? calc, type: "number", values: rows.map((row) => row.values[at]), config: {} })),
  ])];
}

function renameByRegex(frames: Frame[], options: Options): Frame[] {
  const regex = pattern(String(options.regex ?? ""));
  return frames.map((of) => frame(of.refId, of.name, of.fields.map((field) => {
    const old = named(field, of, frames), name = old.replace(regex, String(options.renamePattern ?? ""));
    return field.type === "time" || name === old ? field : { ...field, config: { ...field.config, displayName: name } };
  })));
}

function filterByValue(frames: Frame[], options: Options): Frame[] {
  const filters: { fieldName: string; config: { id: string; options: Options } }[] = options.filters ?? [];
  const holds = (value: Value, { id, options: given }: { id: string; options: Options }): boolean => {
    const number = Number(value), wanted = Number(given?.value);
    switch (id) {
      case "equal": return String(value) === String(given?.value);
      case "notEqual": return String(value) !== String(given?.value);
      case "greater": return number > wanted;
      case "greaterOrEqual": return number >= wanted;
      case "lower": return number < wanted;
      case "lowerOrEqual": return number <= wanted;
      case "between": return number >= Number(given?.from) && number <= Number(given?.to);
      case "isNull": return value === null || value === undefined;
      case "isNotNull": return value !== null && value !== undefined;
      case "regex": return pattern(String(given?.value ?? "")).test(String(value));
      case "substring": return String(value).toLowerCase().includes(String(given?.value ?? "").toLowerCase());
      default: return true;
    }
  };
  return frames.map((of) => pick(of, indices(of).filter((row) => {
    const results = filters.map((filter) => { const field = byName(of, filter.fieldName, frames); return field ? holds(field.values[row], filter.config) : options.match !== "any"; });
    const found = !results.length || (options.match === "any" ? results.some(Boolean) : results.every(Boolean));
    return options.type === "exclude" ? !found : found;
  })));
}

const TRANSFORMATIONS: Record<string, (frames: Frame[], options: Options) => Frame[]> = {
  organize, joinByField, seriesToColumns: joinByField, groupBy, calculateField, merge, seriesToRows: (frames) => {
    const rows = frames.flatMap((of) => { const time = of.fields.find((field) => field.type === "time"), value = of.fields.find((field) => field.type === "number"); return time && value ? time.values.map((at, row) => [at, named(value, of, frames), value.values[row]] as const) : []; }).sort((a, b) => compare(b[0], a[0]));
    return [frame("rows", "rows", [{ name: "Time", type: "time", values: rows.map((row) => row[0]), config: {} }, { name: "Metric", type: "string", values: rows.map((row) => row[1]), config: {} }, { name: "Value", type: "number", values: rows.map((row) => row[2]), config: {} }])];
  },
  labelsToFields, sortBy, filterFieldsByName, reduce, renameByRegex, filterByValue,
  limit: (frames, options) => frames.map((of) => pick(of, indices(of).slice(0, Math.max(0, Number(options.limitField ?? 10))))),
  filterByRefId: (frames, options) => frames.filter((of) => pattern(`^(?:${String(options.include ?? ".*")})$`).test(of.refId)),
  convertFieldType: (frames, options) => frames.map((of) => frame(of.refId, of.name, of.fields.map((field) => {
    const wanted = (options.conversions ?? []).find((one: Options) => one.targetField === field.name || one.targetField === named(field, of, frames))?.destinationType;
    if (wanted === "number") return { ...field, type: "number" as const, values: field.values.map((value) => (value === "" || value == null || Number.isNaN(Number(value)) ? null : Number(value))) };
    if (wanted === "string") return { ...field, type: "string" as const, values: field.values.map((value) => (value == null ? value : String(value))) };
    return field;
  }))),
};

/// Applies all in their order; one that is not known leaves the frames as they are, and is named.
export function transformed(frames: Frame[], all: readonly Transformation[] | undefined): { frames: Frame[]; unknown: string[] } {
  const unknown: string[] = [];
  let now = frames;
  for (const one of all ?? []) {
    if (one.disabled) continue;
    const work = TRANSFORMATIONS[one.id];
    if (!work) { unknown.push(one.id); continue; }
    if (one.filter?.id === "byRefId") {
      const fits = pattern(`^(?:${String(one.filter.options ?? "")})$`);
      const [chosen, others] = [now.filter((of) => fits.test(of.refId)), now.filter((of) => !fits.test(of.refId))];
      now = [...work(chosen, one.options ?? {}), ...others];
    } else now = work(now, one.options ?? {});
  }
  return { frames: now, unknown };
}
