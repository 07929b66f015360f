/// Points of plots: on one time axis, with gaps as gaps. Pure, and tested.

export interface Points { times: number[]; values: (number | null)[] }

/// All lines on one time axis; uPlot wants each at every time.
export function aligned(lines: readonly Points[]): { times: number[]; values: (number | null | undefined)[][] } {
  const first = lines[0]?.times;
  if (first && lines.every((line) => line.times === first || (line.times.length === first.length && line.times.every((time, at) => time === first[at]))))
    return { times: first, values: lines.map((line) => line.values) };
  const times = [...new Set(lines.flatMap((line) => line.times))].sort((a, b) => a - b);
  const places = new Map(times.map((time, at) => [time, at]));
  const values = lines.map((line) => {
    const row: (number | null | undefined)[] = new Array(times.length).fill(undefined);
    line.times.forEach((time, at) => { row[places.get(time)!] = line.values[at]; });
    return row;
  });
  return { times, values };
}

/// Whether samples are missing between some times that should be a step apart.
export function hasGaps(times: readonly number[], step: number): boolean {
  for (let at = 1; at < times.length; at += 1) if (times[at]! - times[at - 1]! > step * 1.5) return true;
  return false;
}

/// Times without a sample for more than two steps become gaps, rather than lines drawn across.
export function withGaps(line: { times: number[]; values: (number | null)[] }, step: number): { times: number[]; values: (number | null)[] } {
  if (!hasGaps(line.times, step)) return line;
  const times: number[] = [], values: (number | null)[] = [];
  line.times.forEach((time, at) => {
    const before = line.times[at - 1];
    if (before !== undefined && time - before > step * 1.5) { times.push(before + step); values.push(null); }
    times.push(time);
    values.push(line.values[at]!);
  });
  return { times, values };
}

/// Places of points that stand alone between gaps, from one place to another: no line is drawn to them. What is `undefined` is another line's time, and no gap.
export function isolated(values: ArrayLike<number | null | undefined>, from: number, to: number): number[] {
  const out: number[] = [];
  let run = 0, last = 0;
  for (let at = from; at <= to; at += 1) {
    const value = values[at];
    if (value === undefined) continue;
    if (value !== null) { run += 1; last = at; continue; }
    if (run === 1) out.push(last);
    run = 0;
  }
  if (run === 1) out.push(last);
  return out;
}
