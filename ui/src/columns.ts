/// Series as columns of numbers, as crates/metrics/src/web/columns.rs writes them: read where they lie, without parsing text. Pure, and tested.
import type { Labels, Series } from "./prometheus";

export const COLUMNS = "application/vnd.madang.columns";
const END = 0xffffffff;

/// Reads an answer of a range query with this step, in seconds; what is not whole is an error.
export function columns(buffer: ArrayBuffer, step: number): Series[] {
  const view = new DataView(buffer), decoder = new TextDecoder();
  const text = (at: number, length: number) => decoder.decode(new Uint8Array(buffer, at, length));
  if (buffer.byteLength < 16 || text(0, 8) !== "columns1") throw new Error("not columns");
  const out: Series[] = [];
  // Series of one question mostly have the same times: those are kept once.
  const shared = new Map<string, number[]>();
  let at = 8;
  for (;;) {
    const length = view.getUint32(at, true);
    if (length === END) return out;
    const points = view.getUint32(at + 4, true), uneven = view.getUint32(at + 8, true), first = view.getFloat64(at + 16, true) / 1000;
    const labels = JSON.parse(text(at + 24, length)) as Labels;
    at += 24 + length;
    let times: number[] | undefined;
    if (uneven) {
      times = Array.from(new Float64Array(buffer, at, uneven), (time) => time / 1000);
      at += 8 * uneven;
    } else {
      const key = `${first} ${points}`;
      times = shared.get(key);
      if (!times) shared.set(key, (times = Array.from({ length: points }, (_, nth) => first + nth * step)));
    }
    const raw = new Float64Array(buffer, at, points), values = new Array<number | null>(points);
    // A gap where there is no number.
    for (let nth = 0; nth < points; nth += 1) values[nth] = Number.isFinite(raw[nth]) ? raw[nth]! : null;
    at += 8 * points;
    out.push({ labels, times, values });
  }
}
