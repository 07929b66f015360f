/// Variables of a dashboard: what each can be, what it is, and what stands for it in a query.
/// https://grafana.com/docs/grafana/latest/dashboards/variables/
import { labelNames, labelValues, queryInstant } from "../prometheus";
import type { Range } from "../range";
import type { VariableModel } from "./model";
import { pattern } from "./field";

export interface Option { value: string; text: string }
export interface Variable { model: VariableModel; options: Option[]; value: string[]; error?: string }
export const ALL = "$__all";

const values = (of: unknown): string[] => (Array.isArray(of) ? of.map(String) : of === undefined || of === null || of === "" ? [] : [String(of)]);

/// Escapes as Grafana's Prometheus source does for a value inside a quoted string.
const quoted = (text: string) => text.replace(/\\/g, "\\\\").replace(/"/g, '\\"');
const regex = (text: string) => text.replace(/\\/g, "\\\\\\\\").replace(/[$^*{}[\]+?.()|]/g, "\\\\$&");
const plainRegex = (text: string) => text.replace(/[\\^$*+?.()|[\]{}/]/g, "\\$&");

/// One or several values in a format such as `${name:csv}`; without one, as PromQL wants it.
export function formatted(all: string[], format: string | undefined, model: VariableModel | undefined, inQuery: boolean): string {
  const one = all.length === 1;
  switch (format) {
    case undefined: case "":
      if (!inQuery) return one ? all[0]! : all.length ? `{${all.join(",")}}` : "";
      if (!model?.multi && !model?.includeAll) return quoted(all[0] ?? "");
      return one ? regex(all[0]!) : `(${all.map(regex).join("|")})`;
    case "raw": return one ? all[0]! : `{${all.join(",")}}`;
    case "regex": return one ? plainRegex(all[0]!) : `(${all.map(plainRegex).join("|")})`;
    case "pipe": return all.join("|");
    case "csv": case "text": return all.join(format === "csv" ? "," : " + ");
    case "json": return JSON.stringify(one ? all[0] : all);
    case "glob": return one ? all[0]! : `{${all.join(",")}}`;
    case "doublequote": return all.map((text) => `"${text.replace(/"/g, '\\"')}"`).join(",");
    case "singlequote": return all.map((text) => `'${text.replace(/'/g, "\\'")}'`).join(",");
    case "sqlstring": return all.map((text) => `'${text.replace(/'/g, "''")}'`).join(",");
    case "percentencode": return encodeURIComponent(one ? all[0]! : `{${all.join(",")}}`);
    case "queryparam": return all.map((text) => `var-${encodeURIComponent(model?.name ?? "")}=${encodeURIComponent(text)}`).join("&");
    case "lucene": return one ? all[0]! : `(${all.map((text) => `"${text}"`).join(" OR ")})`;
    case "distributed": return all.map((text, at) => (at ? `${model?.name ?? ""}=${text}` : text)).join(",");
    default: return one ? all[0]! : all.join(",");
  }
}

export interface Scope { variables: readonly Variable[]; range: Range; interval: number; scoped?: Record<string, { value: string; text: string }>; dashboard?: { uid: string; title: string } }
const SCRAPE = 15;

const whole = (seconds: number) => `${Math.max(1, Math.round(seconds))}s`;
function builtIn(name: string, format: string | undefined, scope: Scope): string | undefined {
  const { from, to } = scope.range, length = (to - from) / 1000;
  const time = (at: number) => (format?.startsWith("date") ? (format === "date:seconds" ? String(Math.floor(at / 1000)) : new Date(at).toISOString()) : String(Math.round(at)));
  switch (name) {
    case "__interval": return whole(scope.interval);
    case "__interval_ms": return String(Math.round(scope.interval * 1000));
    case "__rate_interval": return whole(Math.max(scope.interval + SCRAPE, 4 * SCRAPE));
    case "__rate_interval_ms": return String(Math.max(scope.interval + SCRAPE, 4 * SCRAPE) * 1000);
    case "__range": return whole(length);
    case "__range_s": return String(Math.round(length));
    case "__range_ms": return String(Math.round(length * 1000));
    case "__from": return time(from);
    case "__to": return time(to);
    case "__dashboard": return scope.dashboard?.title ?? "";
    case "__name": return "";
    case "__timezone": return Intl.DateTimeFormat().resolvedOptions().timeZone;
    case "__url_time_range": return `from=${Math.round(from)}&to=${Math.round(to)}`;
    case "__all_variables": return scope.variables.flatMap((one) => one.value.map((value) => `var-${encodeURIComponent(one.model.name)}=${encodeURIComponent(value)}`)).join("&");
    default: return undefined;
  }
}

/// What a variable's values are in a query: `All` is its own pattern, or every option.
export const chosen = (one: Variable): string[] => (one.value.includes(ALL) ? (one.model.allValue ? [one.model.allValue] : one.options.map((option) => option.value)) : one.value);

/// Fills in `$name`, `${name}`, `${name:format}` and `[[name]]`; names that nobody knows stay.
export function replaced(text: string, scope: Scope, inQuery = false, usual?: string): string {
  return text.replace(/\$(\w+)|\$\{(\w+)(?:\.([^:}]+))?(?::([^}]+))?\}|\[\[(\w+?)(?::(\w+))?\]\]/g, (all, a?: string, b?: string, _field?: string, f?: string, c?: string, g?: string) => {
    const name = (a ?? b ?? c)!, format = f ?? g ?? usual;
    const scoped = scope.scoped?.[name];
    const one = scope.variables.find((variable) => variable.model.name === name);
    if (scoped) return format === "text" ? scoped.text : formatted([scoped.value], format, one?.model, inQuery);
    const own = builtIn(name, format, scope);
    if (own !== undefined) return own;
    if (!one) return all;
    if (format === "text" || (!inQuery && format === undefined && one.value.includes(ALL))) return one.value.includes(ALL) ? "All" : one.value.map((value) => one.options.find((option) => option.value === value)?.text ?? value).join(" + ");
    if (one.value.includes(ALL) && one.model.allValue) return one.model.allValue;
    if (one.model.type === "interval" && one.value[0] === "$__auto_interval") return whole(scope.interval);
    return formatted(chosen(one), format, one.model, inQuery);
  });
}

/// Keeps what the variable's regular expression finds; named groups give value and text apart.
function filtered(all: string[], model: VariableModel, scope: Scope): Option[] {
  if (!model.regex) return all.map((value) => ({ value, text: value }));
  const found: Option[] = [];
  const expression = pattern(replaced(model.regex, scope, false, "regex"));
  for (const one of all) {
    const parts = expression.exec(one);
    if (!parts) continue;
    const value = parts.groups?.value ?? parts[1] ?? (parts.length > 1 ? one : parts[0]);
    found.push({ value, text: parts.groups?.text ?? value });
  }
  return [...new Map(found.map((one) => [one.value, one])).values()];
}

function sorted(options: Option[], sort: number | undefined): Option[] {
  if (!sort) return options;
  const number = (text: string) => Number(/-?\d+(\.\d+)?/.exec(text)?.[0] ?? NaN);
  const by = sort <= 2 ? (a: Option, b: Option) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0)
    : sort <= 4 ? (a: Option, b: Option) => (number(a.text) || 0) - (number(b.text) || 0)
    : sort <= 6 ? (a: Option, b: Option) => a.text.toLowerCase().localeCompare(b.text.toLowerCase())
    : (a: Option, b: Option) => a.text.localeCompare(b.text, undefined, { numeric: true });
  const out = [...options].sort(by);
  return sort % 2 === 0 ? out.reverse() : out;
}

async function asked(text: string, range: Range): Promise<string[]> {
  const query = text.trim();
  let parts = /^label_values\((?:(.+)\s*,\s*)?([a-zA-Z_$][\w]*)\)\s*$/s.exec(query);
  if (parts) return labelValues(parts[2]!, parts[1]?.trim() || undefined, range);
  parts = /^label_names\((.*)\)\s*$/s.exec(query);
  if (parts) return labelNames(parts[1]?.trim() || undefined);
  parts = /^metrics\((.*)\)\s*$/s.exec(query);
  if (parts) { const wanted = pattern(parts[1]!); return (await labelValues("__name__", undefined, range)).filter((name) => wanted.test(name)); }
  parts = /^query_result\((.*)\)\s*$/s.exec(query);
  if (parts) return (await queryInstant(parts[1]!, range.to)).map((one) => { const { __name__: name = "", ...rest } = one.labels; return `${name}{${Object.entries(rest).map(([key, value]) => `${key}="${value}"`).join(",")}} ${one.value} ${Math.round(one.time * 1000)}`; });
  // Anything else is a query whose series are listed.
  return (await queryInstant(query, range.to)).map((one) => { const { __name__: name = "", ...rest } = one.labels; return `${name}{${Object.entries(rest).map(([key, value]) => `${key}="${value}"`).join(",")}}`; });
}

const split = (text: string) => text.match(/(?:\\,|[^,])+/g)?.map((one) => one.replace(/\\,/g, ",").trim()) ?? [];

/// The options of one variable, given those before it.
export async function optionsOf(model: VariableModel, scope: Scope): Promise<Option[]> {
  switch (model.type) {
    case "query": {
      const raw = typeof model.query === "string" ? model.query : ((model.query as { query?: string } | undefined)?.query ?? model.definition ?? "");
      if (!raw) return [];
      return sorted(filtered(await asked(replaced(raw, scope, true), scope.range), model, scope), model.sort ?? 0);
    }
    case "custom": return split(String(model.query ?? "")).map((one) => { const parts = /^(.+?)\s:\s(.+)$/.exec(one); return parts ? { text: parts[1]!.trim(), value: parts[2]!.trim() } : { text: one, value: one }; });
    case "interval": return [...(model.auto ? [{ text: "auto", value: "$__auto_interval" }] : []), ...split(String(model.query ?? "")).map((one) => ({ text: one, value: one }))];
    case "datasource": return [{ text: "Prometheus", value: "prometheus" }];
    case "constant": return [{ text: String(model.query ?? ""), value: replaced(String(model.query ?? ""), scope) }];
    case "switch": return (model.options ?? []).map((one) => ({ text: String(one.text ?? one.value), value: String(one.value) }));
    default: return (model.options ?? []).map((one) => ({ text: String(one.text), value: String(one.value) }));
  }
}

/// What a variable is: the address, else the dashboard's own, where that is still an option; else the first.
export function settled(model: VariableModel, options: Option[], given: string[]): string[] {
  if (model.type === "textbox") return [given[0] ?? values(model.current?.value)[0] ?? String(model.query ?? "")];
  if (model.type === "constant" || model.type === "datasource") return [options[0]?.value ?? ""];
  if (model.type === "adhoc") return (given.length ? given : (model.filters ?? []).map((one) => `${one.key}${one.operator}${one.value}`)).map((text) => text.replace(/^([^|]+)\|(=~|!~|!=|=)\|/, "$1$2"));
  const before = given.length ? given : values(model.current?.value);
  const found = before.map((value) => (value === "All" && model.includeAll && !options.some((one) => one.value === "All") ? ALL : value))
    .filter((value) => value === ALL ? model.includeAll : given.length ? true : options.some((one) => one.value === value));
  if (found.length) return model.multi ? (found.includes(ALL) ? [ALL] : found) : [found[0]!];
  if (model.includeAll) return [ALL];
  return options[0] ? [options[0].value] : [];
}

/// Whether what a variable can be depends on another one.
const mentions = (model: VariableModel, name: string) => new RegExp(`\\$${name}\\b|\\$\\{${name}[:.}]|\\[\\[${name}[:\\]]`).test(JSON.stringify([model.query ?? "", model.definition ?? "", model.regex ?? ""]));

/// Those that one asks for before it, in whatever order the dashboard has them; two that ask for each other stay as they are.
export function inTurn(models: readonly VariableModel[]): VariableModel[] {
  const done: VariableModel[] = [], seen = new Set<VariableModel>();
  const visit = (model: VariableModel) => {
    if (seen.has(model)) return;
    seen.add(model);
    for (const other of models) if (other !== model && /^\w+$/.test(other.name) && mentions(model, other.name)) visit(other);
    done.push(model);
  };
  models.forEach(visit);
  return done;
}

/// Settles all, each after those that it asks for.
export async function settle(models: readonly VariableModel[], given: (name: string) => string[], scope: Omit<Scope, "variables">): Promise<Variable[]> {
  const done: Variable[] = [];
  for (const model of inTurn(models)) {
    let options: Option[] = [], error: string | undefined;
    try {
      options = await optionsOf(model, { ...scope, variables: done });
    } catch (failed) {
      error = (failed as Error).message;
    }
    done.push({ model, options, value: settled(model, options, given(model.name)), ...(error ? { error } : {}) });
  }
  return models.map((model) => done.find((one) => one.model === model)!);
}

export interface Filter { key: string; operator: string; value: string }
/// What is written for an ad hoc filter, such as `job=api`.
export function filtersOf(variables: readonly Variable[]): Filter[] {
  const texts = variables.filter((one) => one.model.type === "adhoc").flatMap((one) => one.value);
  return texts.map((text) => /^(.+?)(=~|!~|!=|=)(.*)$/s.exec(text)).filter((parts) => parts !== null).map((parts) => ({ key: parts[1]!, operator: parts[2]!, value: parts[3]! }));
}

/// Puts the filters of ad hoc variables into every selector of a query, wherever it stands; the parser comes when there are some.
export async function withFilters(expression: string, filters: readonly Filter[]): Promise<string> {
  if (!filters.length) return expression;
  const { parser } = await import("@prometheus-io/lezer-promql");
  const more = filters.map((one) => `${one.key}${one.operator}"${quoted(one.value)}"`).join(",");
  const places: { at: number; text: string }[] = [];
  parser.parse(expression).iterate({
    enter: ({ name, node }) => {
      if (name !== "VectorSelector") return;
      const own = node.getChild("LabelMatchers");
      if (!own) places.push({ at: node.to, text: `{${more}}` });
      else places.push({ at: own.from + 1, text: /^\{\s*\}$/.test(expression.slice(own.from, own.to)) ? more : `${more},` });
    },
  });
  return places.reverse().reduce((text, { at, text: put }) => text.slice(0, at) + put + text.slice(at), expression);
}
