/// What is calculated from a row of values, under Grafana's names.
const reduced = (values: (number | null)[]) => values.filter((value): value is number => value !== null && value !== undefined);
export const CALCS: Record<string, (values: (number | null)[]) => number | null> = {
  last: (values) => values[values.length - 1] ?? null,
  lastNotNull: (values) => { for (let at = values.length - 1; at >= 0; at -= 1) if (values[at] != null) return values[at]!; return null; },
  first: (values) => values[0] ?? null,
  firstNotNull: (values) => reduced(values)[0] ?? null,
  max: (values) => reduced(values).reduce<number | null>((a, b) => (a === null || b > a ? b : a), null),
  min: (values) => reduced(values).reduce<number | null>((a, b) => (a === null || b < a ? b : a), null),
  mean: (values) => { const all = reduced(values); return all.length ? all.reduce((a, b) => a + b, 0) / all.length : null; },
  sum: (values) => reduced(values).reduce((a, b) => a + b, 0),
  total: (values) => reduced(values).reduce((a, b) => a + b, 0),
  count: (values) => values.length,
  range: (values) => { const all = reduced(values); return all.length ? Math.max(...all) - Math.min(...all) : null; },
  delta: (values) => { const all = reduced(values); return all.reduce((sum, value, at) => sum + (at && value > all[at - 1]! ? value - all[at - 1]! : 0), 0); },
  diff: (values) => { const all = reduced(values); return all.length ? all.at(-1)! - all[0]! : null; },
};
