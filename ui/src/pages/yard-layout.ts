/// Where boxes stand: pods of a bay in rows, namespaces together, as large as the room allows. Pure, and tested.

export interface Item { id: string; group: string; memory: number }
export interface Placed { id: string; x: number; y: number; w: number; h: number }
export interface Label { text: string; x: number; y: number; w: number }
export interface Bay { boxes: Placed[]; labels: Label[]; height: number }

const MIB = 1024 * 1024;
/// Units of width by memory request: a box twice as wide asks for four times as much.
export const units = (memory: number) => (memory <= 0 ? 1 : Math.min(6, Math.max(1, Math.round(Math.sqrt(memory / (128 * MIB))))));
const GAP = 3;
const LABEL = 16;
/// Below this many pixels names of namespaces are left out.
export const NAMED = 14;

/// Places items into rows of `width` with boxes `unit` high.
export function bay(items: readonly Item[], width: number, unit: number): Bay {
  const groups = new Map<string, Item[]>();
  for (const item of items) groups.set(item.group, [...(groups.get(item.group) ?? []), item]);
  const boxes: Placed[] = [];
  const labels: Label[] = [];
  const named = unit >= NAMED;
  const step = unit + GAP;
  let y = 0;
  let x = 0;
  let low = 0;
  for (const [group, members] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
    const widths = members.map((item) => Math.min(width, units(item.memory) * step - GAP));
    const all = widths.reduce((sum, one) => sum + one + GAP, 0);
    // A group that fits stands beside the one before; one that does not begins a row.
    const fits = x > 0 && x + Math.max(all, named ? 72 : 0) <= width;
    if (!fits) { y = low; x = 0; }
    const left = fits ? x : 0;
    const span = fits ? Math.max(all, named ? 72 : 0) : width;
    if (named) labels.push({ text: group, x: left, y: y + 11, w: Math.max(fits ? span : Math.min(width, Math.max(all, 72)), 24) - 4 });
    const top = y + (named ? LABEL : 0);
    let bx = left;
    let by = top;
    [...members].sort((a, b) => b.memory - a.memory || a.id.localeCompare(b.id)).forEach((item) => {
      const w = Math.min(width, units(item.memory) * step - GAP);
      if (bx + w > left + Math.max(span, w) + 0.5 || bx + w > width + 0.5) { bx = left; by += step; }
      boxes.push({ id: item.id, x: bx, y: by, w, h: unit });
      bx += w + GAP;
    });
    low = Math.max(low, by + step + (named ? 4 : 0));
    x = by === top ? left + Math.max(all, named ? 72 : 0) + 9 : width;
  }
  return { boxes, labels, height: low };
}

/// The largest unit with which all bays fit into `height`, from a fixed ladder so that boxes do not jitter.
export const LADDER = [88, 72, 60, 52, 44, 36, 30, 24, 20, 16, 13, 10] as const;
export function fit(bays: readonly (readonly Item[])[], columns: number, width: number, height: number, head: number): number {
  for (const unit of LADDER) {
    const rows = Math.ceil(bays.length / columns);
    let all = 0;
    for (let row = 0; row < rows; row += 1)
      all += head + Math.max(...bays.slice(row * columns, (row + 1) * columns).map((items) => bay(items, width, unit).height), unit);
    if (all <= height) return unit;
  }
  return LADDER[LADDER.length - 1]!;
}

/// The box that an arrow key leads to: the nearest one in that direction.
export function next(boxes: readonly Placed[], from: string | undefined, key: string): string | undefined {
  const start = boxes.find((box) => box.id === from);
  if (!start) return boxes[0]?.id;
  const middle = (box: Placed) => [box.x + box.w / 2, box.y + box.h / 2] as const;
  const [x, y] = middle(start);
  let best: string | undefined;
  let least = Infinity;
  for (const box of boxes) {
    const [bx, by] = middle(box);
    const [along, across] = key === "ArrowLeft" ? [x - bx, by - y] : key === "ArrowRight" ? [bx - x, by - y] : key === "ArrowUp" ? [y - by, bx - x] : [by - y, bx - x];
    if (along < 1) continue;
    const distance = along + Math.abs(across) * 3;
    if (distance < least) { least = distance; best = box.id; }
  }
  return best ?? from;
}
