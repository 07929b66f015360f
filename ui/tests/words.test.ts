/// Catalogues: every key in every language, with the same names to fill in.
import { expect, test } from "vitest";
import { en } from "../src/words/en";
import { ko } from "../src/words/ko";
import { t, tn } from "../src/words";

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
