/// Numbers, quantities, times, units.
import { expect, test } from "vitest";
import { columns as read } from "../src/columns";
import { format } from "../src/dashboard/units";
import { isolated } from "../src/plot-data";
import { brief, bytes, cores, percent, quantity, short, span } from "../src/format";
import { moment, step } from "../src/range";

test("numbers have three significant digits and units that people use", () => {
  expect([short(0), short(1234.5), short(0.012345), short(NaN), short(-Infinity)]).toEqual(["0", "1,235", "0.0123", "NaN", "-Inf"]);
  expect([bytes(0), bytes(1536), bytes(3.25 * 2 ** 30)]).toEqual(["0 B", "1.5 KiB", "3.25 GiB"]);
  expect([cores(0), cores(0.0175), cores(2.5), percent(0.1234)]).toEqual(["0", "17.5m", "2.5", "12.3%"]);
  expect([span(5), span(65), span(3600), span(90061)]).toEqual(["5s", "1m5s", "1h", "1d1h"]);
});

test("a text that is cut ends with a word and says that more follows", () => {
  expect([brief("short", 5), brief("one two three four", 12), brief("sum(rate(gateway_requests_total[1m]))", 12)]).toEqual(["short", "one two…", "sum(rate(ga…"]);
});

test("quantities are read as Kubernetes writes them", () => {
  expect(["100m", "1", "128Mi", "1G", "1e3", "5k", "nonsense", undefined].map(quantity)).toEqual([0.1, 1, 134217728, 1e9, 1000, 5000, 0, 0]);
});

test("units are Grafana's", () => {
  const cases: [number, string | undefined, number | undefined, string][] = [
    [1536, "bytes", undefined, "1.5 KiB"], [1500, "decbytes", undefined, "1.5 kB"], [1500, "Bps", undefined, "1.5 kB/s"], [0.5, "percentunit", undefined, "50%"], [12.345, "percent", 1, "12.3%"],
    [0.0015, "s", undefined, "1.5 ms"], [90, "s", undefined, "1.5 min"], [1500, "short", undefined, "1.5 K"], [12, "reqps", undefined, "12 req/s"], [3, "suffix: pods", undefined, "3 pods"], [39180, "s", 1, "10.9 hours"], [5, "dtdurations", undefined, "5s"], [NaN, "bytes", undefined, "NaN"],
    [1, "unheard", undefined, "1 unheard"],
  ];
  for (const [value, unit, decimals, expected] of cases) expect(format(value, unit, decimals).replace(/(\d)([KMBT])$/, "$1 $2"), `${value} ${unit}`).toBe(expected);
});

test("times are understood as Grafana writes them", () => {
  const now = Date.UTC(2026, 10, 21, 13, 45, 10);
  expect(moment("now", now)).toBe(now);
  expect(moment("now-1h", now)).toBe(now - 3_600_000);
  expect(moment("now-1d/d", now)).toBe(Date.UTC(2026, 10, 20));
  expect(moment("now/h", now, true)).toBe(Date.UTC(2026, 10, 21, 14) - 1);
  expect(moment("1700000000000", now)).toBe(1700000000000);
  expect(moment("2026-11-21T00:00:00Z", now)).toBe(Date.UTC(2026, 10, 21));
  expect(moment("sometime", now)).toBeUndefined();
  expect(step({ from: 0, to: 3_600_000 }, 600)).toBe(15);
  expect(step({ from: 0, to: 86_400_000 * 7 }, 600)).toBe(1200);
});

test("columns are read as they are written, and only whole", () => {
  const write = (series: { labels: string; first: number; times: number[]; values: number[] }[]) => {
    const bytes: number[] = [...new TextEncoder().encode("columns1")];
    const u32 = (n: number) => bytes.push(...new Uint8Array(new Uint32Array([n]).buffer)), f64 = (n: number) => bytes.push(...new Uint8Array(new Float64Array([n]).buffer));
    for (const one of series) {
      const labels = [...new TextEncoder().encode(one.labels)];
      while (labels.length % 8) labels.push(32);
      u32(labels.length); u32(one.values.length); u32(one.times.length); u32(0); f64(one.first);
      bytes.push(...labels);
      [...one.times, ...one.values].forEach(f64);
    }
    u32(0xffffffff); u32(2);
    bytes.push(...new TextEncoder().encode("{}"));
    return new Uint8Array(bytes).buffer;
  };
  const found = read(write([{ labels: '{"a":"é"}', first: 5000, times: [], values: [1, NaN, -Infinity, 2.5] }, { labels: "{}", first: 5000, times: [5000, 9000], values: [1, 2] }, { labels: '{"b":"c"}', first: 5000, times: [], values: [1, 2, 3, 4] }]), 2);
  expect(found.map(({ labels, times, values }) => [labels, times, values])).toEqual([[{ a: "é" }, [5, 7, 9, 11], [1, null, null, 2.5]], [{}, [5, 9], [1, 2]], [{ b: "c" }, [5, 7, 9, 11], [1, 2, 3, 4]]]);
  expect(found[0]!.times).toBe(found[2]!.times);
  const whole = write([{ labels: "{}", first: 1, times: [], values: [1, 2, 3] }]);
  for (let length = 0; length < whole.byteLength - 6; length += 1) expect(() => read(whole.slice(0, length), 1), String(length)).toThrow();
});

test("points that no line leads to are found", () => {
  expect(isolated([1, null, 2, undefined, null, 3, undefined, 4, null, 5], 0, 9)).toEqual([0, 2, 9]);
  expect(isolated([1, 2, 3], 0, 2)).toEqual([]);
});
