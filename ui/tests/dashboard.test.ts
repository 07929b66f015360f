/// Dashboards: old forms, variables, transformations, fields, text.
import { expect, test } from "vitest";
import { applied, mapped, pattern, shown } from "../src/dashboard/field";
import { asTable, displayName, frame, fromSeries, legend, type Field, type Frame, type Value } from "../src/dashboard/frame";
import { markdown, safe } from "../src/dashboard/markdown";
import { panelsOf, sections } from "../src/dashboard/model";
import { buckets, seconds } from "../src/dashboard/run";
import { transformed } from "../src/dashboard/transform";
import { ALL, filtersOf, inTurn, replaced, settled, withFilters, type Scope, type Variable } from "../src/dashboard/variables";

const text = (name: string, values: Value[]): Field => ({ name, type: "string", values, config: {} });
const number = (name: string, values: Value[], labels?: Record<string, string>): Field => ({ name, type: "number", values, config: {}, ...(labels ? { labels } : {}) });
const columns = (of: Frame | undefined) => Object.fromEntries((of?.fields ?? []).map((field) => [displayName(field, of!, [of!]), field.values]));
const one = (id: string, options: Record<string, unknown>, frames: Frame[]) => transformed(frames, [{ id, options }]).frames;

test("organize renames, hides and orders", () => {
  const frames = one("organize", { excludeByName: { b: true }, indexByName: { c: 0, a: 1 }, renameByName: { a: "A" } }, [frame("A", "", [text("a", ["1"]), text("b", ["2"]), text("c", ["3"])])]);
  expect(Object.entries(columns(frames[0]))).toEqual([["c", ["3"]], ["A", ["1"]]]);
});

test("joinByField meets rows by a column, outer and inner", () => {
  const frames = [frame("A", "", [text("pod", ["x", "y"]), number("Value #A", [1, 2])]), frame("B", "", [text("pod", ["y", "z"]), number("Value #B", [3, 4])])];
  expect(columns(one("joinByField", { byField: "pod" }, frames)[0])).toEqual({ pod: ["x", "y", "z"], "Value #A": [1, 2, null], "Value #B": [null, 3, 4] });
  expect(columns(one("joinByField", { byField: "pod", mode: "inner" }, frames)[0])).toEqual({ pod: ["y"], "Value #A": [2], "Value #B": [3] });
  expect(columns(one("seriesToColumns", { byField: "pod" }, frames)[0])).toEqual(columns(one("joinByField", { byField: "pod" }, frames)[0]));
});

test("groupBy groups and calculates", () => {
  const frames = one("groupBy", { fields: { ns: { operation: "groupby" }, v: { operation: "aggregate", aggregations: ["sum", "max"] } } }, [frame("A", "", [text("ns", ["a", "b", "a"]), number("v", [1, 2, 3])])]);
  expect(columns(frames[0])).toEqual({ ns: ["a", "b"], "v (sum)": [4, 2], "v (max)": [3, 2] });
});

test("calculateField adds columns", () => {
  const frames = () => [frame("A", "", [number("a", [6, 8, 1]), number("b", [2, 4, 0])])];
  expect(columns(one("calculateField", { mode: "binary", alias: "q", binary: { left: "a", operator: "/", right: "b" } }, frames())[0])!.q).toEqual([3, 2, Infinity]);
  expect(columns(one("calculateField", { mode: "binary", alias: "q", binary: { left: { matcher: { id: "byName", options: "a" } }, operator: "*", right: { fixed: "2" } } }, frames())[0])!.q).toEqual([12, 16, 2]);
  expect(columns(one("calculateField", { mode: "reduceRow", reduce: { reducer: "sum" } }, frames())[0])!.Total).toEqual([8, 12, 1]);
});

test("merge makes one table of rows that agree", () => {
  const frames = [asTable([{ labels: { pod: "x" }, time: 1, value: 1 }, { labels: { pod: "y" }, time: 1, value: 2 }], "A", true), asTable([{ labels: { pod: "y" }, time: 1, value: 3 }], "B", true)];
  expect(columns(one("merge", {}, frames)[0])).toEqual({ Time: [1000, 1000], pod: ["x", "y"], "Value #A": [1, 2], "Value #B": [null, 3] });
});

test("labelsToFields makes columns of labels", () => {
  const frames = fromSeries([{ labels: { job: "a" }, times: [1], values: [5] }, { labels: { job: "b" }, times: [1], values: [6] }], "A", undefined, "x");
  expect(columns(one("labelsToFields", {}, frames)[0])).toEqual({ Time: [1000, 1000], job: ["a", "b"], Value: [5, 6] });
});

test("sortBy, filterFieldsByName, limit, reduce and renameByRegex do what they say", () => {
  const frames = () => [frame("A", "", [text("n", ["a", "b", "c"]), number("v", [2, null, 10])])];
  expect(columns(one("sortBy", { sort: [{ field: "v", desc: true }] }, frames())[0])!.n).toEqual(["c", "a", "b"]);
  expect(Object.keys(columns(one("filterFieldsByName", { include: { names: ["v"] } }, frames())[0]))).toEqual(["v"]);
  expect(Object.keys(columns(one("filterFieldsByName", { exclude: { pattern: "/^v/" } }, frames())[0]))).toEqual(["n"]);
  expect(columns(one("limit", { limitField: 1 }, frames())[0])!.n).toEqual(["a"]);
  expect(columns(one("reduce", { reducers: ["max", "mean"] }, frames())[0])).toEqual({ Field: ["v"], Max: [10], Mean: [6] });
  expect(Object.keys(columns(one("renameByRegex", { regex: "v(.*)", renamePattern: "w$1" }, frames())[0]))).toEqual(["n", "w"]);
  expect(transformed(frames(), [{ id: "nobody" }]).unknown).toEqual(["nobody"]);
});

const variable = (name: string, value: string[], more: Partial<Variable["model"]> = {}, options = value): Variable => ({ model: { name, type: "query", ...more }, value, options: options.map((one) => ({ value: one, text: one })) });
const scope = (variables: Variable[]): Scope => ({ variables, range: { from: 0, to: 3_600_000 }, interval: 30 });

test("variables stand in queries as PromQL needs them", () => {
  const all = scope([variable("ns", ["a.b", "c"], { multi: true }), variable("one", ['x"y']), variable("every", [ALL], { includeAll: true, multi: true }, ["p", "q"]), variable("any", [ALL], { includeAll: true, allValue: ".*" })]);
  const cases: [string, string][] = [
    ['{ns=~"$ns"}', '{ns=~"(a\\\\.b|c)"}'], ["${one}", 'x\\"y'], ["[[every]]", "(p|q)"], ["$any", ".*"], ["${ns:csv}", "a.b,c"], ["${ns:pipe}", "a.b|c"], ["${every:json}", '["p","q"]'],
    ["rate(x[$__rate_interval])", "rate(x[60s])"], ["$__interval $__range_s ${__from}", "30s 3600 0"], ["$nobody ${nobody}", "$nobody ${nobody}"],
  ];
  for (const [query, expected] of cases) expect(replaced(query, all, true), query).toBe(expected);
  expect(replaced("Pods of $ns, ${every:text}", all)).toBe("Pods of {a.b,c}, All");
  expect(replaced("$ns", { ...all, scoped: { ns: { value: "c", text: "C" } } }, true)).toBe("c");
});

test("a variable is what the address says, else what the dashboard says, else the first", () => {
  const options = [{ value: "a", text: "a" }, { value: "b", text: "b" }];
  expect(settled({ name: "v", type: "query" }, options, ["b"])).toEqual(["b"]);
  expect(settled({ name: "v", type: "query", current: { value: "gone" } }, options, [])).toEqual(["a"]);
  expect(settled({ name: "v", type: "query", current: { value: ["b"] }, multi: true }, options, [])).toEqual(["b"]);
  expect(settled({ name: "v", type: "query", includeAll: true, current: { value: "$__all" } }, options, [])).toEqual([ALL]);
  expect(settled({ name: "v", type: "textbox", query: "t" }, [], [])).toEqual(["t"]);
});

test("filters stand in every selector and in no string", async () => {
  const cases: [string, string][] = [
    ['sum(a{x="{"}) / b{}', 'sum(a{job="j\\"",x="{"}) / b{job="j\\""}'], ["sum by (a) (rate(up[5m])) / on (a) b offset 1m", 'sum by (a) (rate(up{job="j\\""}[5m])) / on (a) b{job="j\\""} offset 1m'],
    ['{__name__="a"} > bool 0', '{job="j\\"",__name__="a"} > bool 0'], ["vector(1)", "vector(1)"],
  ];
  for (const [query, expected] of cases) expect(await withFilters(query, [{ key: "job", operator: "=", value: 'j"' }])).toBe(expected);
  const written: Variable = { model: { name: "f", type: "adhoc", filters: [{ key: "job", operator: "=~", value: "a=b" }] }, options: [], value: [] };
  expect(filtersOf([{ ...written, value: settled(written.model, [], []) }])).toEqual([{ key: "job", operator: "=~", value: "a=b" }]);
  expect(filtersOf([{ ...written, value: settled(written.model, [], ["job|!=|api"]) }])).toEqual([{ key: "job", operator: "!=", value: "api" }]);
});

test("a variable is settled after those that it asks for", () => {
  const models = [{ name: "pod", type: "query", query: 'label_values(kube_pod_info{namespace="$namespace"}, pod)' }, { name: "namespace", type: "query", query: { query: 'label_values(up{cluster="${cluster:raw}"}, namespace)' } }, { name: "cluster", type: "query", query: "label_values(up, cluster)" }, { name: "name", type: "custom", query: "a,b" }];
  expect(inTurn(models).map((one) => one.name)).toEqual(["cluster", "namespace", "pod", "name"]);
  const circle = [{ name: "a", type: "query", query: "$b" }, { name: "b", type: "query", query: "[[a]]" }];
  expect(inTurn(circle).map((one) => one.name)).toEqual(["b", "a"]);
});

test("old panels become new ones", () => {
  const [row, panel] = panelsOf({ uid: "u", title: "T", rows: [{ title: "R", showTitle: true, panels: [{ type: "graph", title: "G", span: 6, yaxes: [{ format: "bytes", min: 0 }], stack: true, seriesOverrides: [{ alias: "/x/", transform: "negative-Y" }], targets: [{ expr: "up" }] } as never] }] });
  expect([row!.type, panel!.type, panel!.gridPos!.w, panel!.targets![0]!.refId]).toEqual(["row", "timeseries", 12, "A"]);
  expect(panel!.fieldConfig!.defaults).toMatchObject({ unit: "bytes", min: 0, custom: { stacking: { mode: "normal" } } });
  expect(panel!.fieldConfig!.overrides![0]).toMatchObject({ matcher: { options: "/x/" }, properties: [{ id: "custom.transform", value: "negative-Y" }] });
  expect(sections([row!, panel!]).map((section) => section.panels.length)).toEqual([1]);
});

test("overrides, mappings and thresholds decide what is shown", () => {
  const [done] = applied([frame("A", "s", [number("Value", [1, 95], { job: "a" })])], { defaults: { unit: "percent" }, overrides: [{ matcher: { id: "byRegexp", options: "/^Val/" }, properties: [{ id: "displayName", value: "${__field.labels.job}" }, { id: "custom.width", value: 5 }, { id: "__proto__.polluted", value: 1 }] }] }, (text) => text);
  const field = done!.fields[0]!;
  expect([displayName(field, done!, [done!]), field.config.custom!.width, shown(95, field).text]).toEqual(["a", 5, "95%"]);
  expect(({} as { polluted?: number }).polluted).toBeUndefined();
  const steps = { steps: [{ value: null, color: "#00ff00" }, { value: 90, color: "#ff0000" }] };
  expect([shown(10, { ...field, config: { thresholds: steps } }).colour, shown(95, { ...field, config: { thresholds: steps } }).colour]).toEqual(["#00ff00", "#ff0000"]);
  const mappings = [{ type: "value", options: { "1": { text: "Up" } } }, { type: "range", options: { from: 2, to: 3, result: { text: "Some" } } }, { type: "special", options: { match: "null", result: { text: "N/A" } } }, { type: "regex", options: { pattern: "^a(.*)", result: { text: "b$1" } } }];
  expect([1, 2.5, null, "ax", 7].map((value) => mapped(value, mappings)?.text)).toEqual(["Up", "Some", "N/A", "bx", undefined]);
  expect(mapped("constructor", mappings)?.text).toBeUndefined();
  expect(pattern("/a[/").test("a[")).toBe(false);
});

test("series are called by their labels or their format", () => {
  expect(legend({ __name__: "up", job: "a" }, undefined, "x")).toBe('up{job="a"}');
  expect(legend({ job: "a" }, "{{job}} {{ none }}", "x")).toBe("a ");
  expect(legend({}, undefined, "sum(x)")).toBe("sum(x)");
  expect(seconds("1m30s")).toBe(90);
  const found = buckets(fromSeries([{ labels: { le: "+Inf" }, times: [1], values: [9] }, { labels: { le: "1" }, times: [1], values: [4] }], "A", undefined, "x"));
  expect(found.map((of) => of.fields[1]!.values[0])).toEqual([4, 5]);
});

test("text runs nothing and leads nowhere harmful", () => {
  const bad = ["javascript:alert(1)", " java\nscript:alert(1)", "data:text/html,x", "//evil.example/x", "vbscript:x", undefined];
  for (const url of bad) expect(safe(url), String(url)).toBeUndefined();
  for (const url of ["https://example.com/", "/d/x", "mailto:a@b"]) expect(safe(url)).toBe(url);
  expect(markdown("# A\n- b **c**\n```\n<x>\n```")).toBe("<h1>A</h1>\n<ul><li>b <strong>c</strong></li></ul>\n<pre><code>&lt;x&gt;</code></pre>");
});
