/// Matchers of silences: read, written, and tried on alerts.
import type { Labels } from "./prometheus";

export interface Matcher { name: string; value: string; isRegex: boolean; isEqual: boolean }

/// Matchers as Alertmanager writes them, one a line; undefined if one cannot be read.
export function parseMatchers(text: string): Matcher[] | undefined {
  const found: Matcher[] = [];
  for (const line of text.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const parts = /^([A-Za-z_][\w.]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^"]*))$/.exec(line);
    if (!parts) return undefined;
    const value = parts[3] !== undefined ? parts[3].replace(/\\(.)/g, (_whole, c: string) => (c === "n" ? "\n" : c)) : parts[4]!.trim();
    found.push({ name: parts[1]!, value, isRegex: parts[2]!.endsWith("~"), isEqual: !parts[2]!.startsWith("!") });
  }
  return found.length ? found : undefined;
}
export const writeMatcher = (one: Matcher) => `${one.name}${one.isEqual ? (one.isRegex ? "=~" : "=") : one.isRegex ? "!~" : "!="}"${one.value.replace(/["\\]/g, "\\$&")}"`;
export const matches = (all: Matcher[], labels: Labels) => all.every((one) => {
  const value = labels[one.name] ?? "";
  let same: boolean;
  try { same = one.isRegex ? new RegExp(`^(?:${one.value})$`).test(value) : value === one.value; } catch { same = false; }
  return same === one.isEqual;
});
