/// Catalogues: every key in every language, with the same names to fill in.
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { en } from "../src/words/en";
import { ko } from "../src/words/ko";
import { t, tn } from "../src/words";
import { translated } from "../src/words/boards";
import { words } from "../src/words/ko-boards";
import type { DashboardModel, Panel } from "../src/dashboard/model";

const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort();

test("every language has every key and fills in the same names", () => {
  expect(Object.keys(ko).sort()).toEqual(Object.keys(en).sort());
  for (const key of Object.keys(en) as (keyof typeof en)[]) {
    expect(names(ko[key]), key).toEqual(names(en[key]));
    expect(ko[key].trim(), key).not.toBe("");
  }
});

test("phrases with numbers have a form for one and for many", () => {
  for (const key of Object.keys(en).filter((one) => one.endsWith(".one"))) expect(en).toHaveProperty([key.replace(/\.one$/, ".other")]);
  expect(tn("yard.pods", 1)).toBe("1 pod");
  expect(tn("yard.pods", 1200)).toBe("1,200 pods");
  expect(t("range.last", { span: "1 hour" })).toBe("Last 1 hour");
});

test("no string shouts", () => {
  for (const [key, text] of Object.entries({ ...en, ...ko })) expect(text, key).not.toMatch(/!/);
});

/// What people read of a dashboard: titles, descriptions, labels, names of series and of columns.
const read = (board: DashboardModel): string[] => {
  const panels = (all: Panel[]): Panel[] => all.flatMap((panel) => [panel, ...panels(panel.panels ?? [])]);
  return [board.title, ...(board.templating?.list ?? []).map((one) => one.label ?? ""), ...panels(board.panels ?? []).flatMap((panel) => [panel.title ?? "", panel.description ?? "",
    ...(panel.targets ?? []).map((target) => target.legendFormat ?? ""), ...(panel.transformations ?? []).flatMap((one) => Object.values((one.options as { renameByName?: Record<string, string> } | undefined)?.renameByName ?? {}))])]
    // What is filled in, and what is the same in every language.
    .filter((text) => text.trim() && !text.includes("{{") && !text.startsWith("$") && !/^(p\d+|\d+%|CPU)$/.test(text));
};
test("the built-in dashboards are there in Korean, with the same queries", () => {
  const folder = new URL("../../crates/console/dashboards/", import.meta.url);
  const used = new Set<string>();
  for (const name of readdirSync(folder)) {
    const board = JSON.parse(readFileSync(new URL(name, folder), "utf8")) as DashboardModel;
    for (const text of read(board)) { expect(words, `${name}: ${text}`).toHaveProperty([text]); used.add(text); }
    const told = translated(board, words), queries = (of: DashboardModel) => JSON.stringify(of).match(/"(expr|query|unit|uid|mode|type|name)":"[^"]*"/g);
    expect(queries(told)).toEqual(queries(board));
    expect(read(told).filter((text) => /[a-z]{4}/.test(text)), name).toEqual([]);
  }
  expect(Object.keys(words).filter((text) => !used.has(text))).toEqual([]);
});
