/// Built-in dashboards in the person's language: their titles, labels and names of columns. Others are shown as they were written.
import type { DashboardModel } from "../dashboard/model";

/// What is no text for people, whatever it says.
const PLAIN = new Set(["expr", "query", "definition", "regex", "uid", "name", "type", "refId", "id", "mode", "unit", "format", "color", "tags", "datasource"]);

/// A dashboard with every text replaced that the dictionary has. A name is replaced wherever it stands, so that settings still find it.
export function translated(model: DashboardModel, words: Readonly<Record<string, string>>): DashboardModel {
  const told = (value: unknown, key: string): unknown => {
    if (PLAIN.has(key)) return value;
    if (typeof value === "string") return Object.hasOwn(words, value) ? words[value] : value;
    if (Array.isArray(value)) return value.map((one) => told(one, key));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, told(one, name)]));
  };
  return told(model, "") as DashboardModel;
}
