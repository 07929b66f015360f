/// Filters of lists: words, and `key:value` of columns and labels.

/// A column, as far as a filter reads it.
export interface Filtered<T> { id: string; text?: (row: T) => string; sort?: (row: T) => string | number }

/// Whether words and `key:value` pairs all fit: keys are columns, or labels.
export function fitsFilter<T>(row: T, filter: string, columns: readonly Filtered<T>[], name: string, labels?: Record<string, string>): boolean {
  const text = (column: Filtered<T>) => String(column.text?.(row) ?? column.sort?.(row) ?? "").toLowerCase();
  return filter.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const at = word.indexOf(":");
    if (at <= 0) return name.toLowerCase().includes(word) || columns.some((column) => text(column).includes(word));
    const [key, value] = [word.slice(0, at), word.slice(at + 1)];
    const column = columns.find((one) => one.id === key || (key === "ns" && one.id === "namespace"));
    if (column) return text(column).includes(value);
    return Object.entries(labels ?? {}).some(([label, own]) => label.toLowerCase() === key && own.toLowerCase().includes(value));
  });
}
