// Unit tests: node --test

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { Metrics } from "./metrics.js";
import { escape, price, storefront } from "./storefront.js";

const settings = {
  inventory: "http://inventory:8080",
  orders: "http://orders:8080",
  title: "Pots & Pans",
  greeting: "Hello.",
  version: "7",
  pod: "pod-1",
};
const bowl = { sku: "bowl", name: "<Bowl>", price_cents: 1205, stock: 3 };

/** Serves a storefront whose services answer from a table; gives `ask` to the test. */
async function withStorefront(answers, use) {
  const asked = [];
  const fetch = async (url, options) => {
    const key = `${options.method ?? "GET"} ${url}`;
    asked.push([key, options.body]);
    const answer = answers[key];
    if (!answer) throw Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNREFUSED" } });
    const [status, body] = answer;
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
  };
  const server = createServer(storefront(settings, new Metrics("7"), fetch));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${server.address().port}`;
  const ask = async (path, options) => {
    const answer = await globalThis.fetch(base + path, { ...options, keepalive: false });
    return { status: answer.status, type: answer.headers.get("content-type"), text: await answer.text() };
  };
  try {
    await use(ask, asked);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const inventory = { "GET http://inventory:8080/items": [200, [bowl]] };

test("the catalogue is a page with prices and stock", () =>
  withStorefront(inventory, async (ask) => {
    const { status, type, text } = await ask("/");
    assert.equal(status, 200);
    assert.match(type, /text\/html/);
    for (const part of ["Pots &amp; Pans", "&lt;Bowl&gt;", "12.05", 'name="quantity:bowl"', "version 7", "pod-1"]) {
      assert.ok(text.includes(part), part);
    }
  }));

test("a form becomes an order", () => {
  const accepted = { id: "o1", customer: "A<b>", total_cents: 2410 };
  const answers = { ...inventory, "POST http://orders:8080/orders": [201, accepted] };
  return withStorefront(answers, async (ask, asked) => {
    const form = new URLSearchParams({ customer: "A<b>", "quantity:bowl": "2", "quantity:cup": "0" });
    const { status, text } = await ask("/order", { method: "POST", body: form });
    assert.equal(status, 201);
    assert.ok(text.includes("o1") && text.includes("24.10") && text.includes("A&lt;b&gt;"));
    assert.deepEqual(JSON.parse(asked.at(-1)[1]), { customer: "A<b>", lines: [{ sku: "bowl", quantity: 2 }] });
  });
});

test("programs get JSON, refusals too", () => {
  const answers = { ...inventory, "POST http://orders:8080/orders": [409, { error: "bowl: not enough in stock" }] };
  return withStorefront(answers, async (ask) => {
    assert.deepEqual(JSON.parse((await ask("/api/items")).text), [bowl]);
    const refused = await ask("/api/orders", { method: "POST", body: "{}" });
    assert.deepEqual([refused.status, JSON.parse(refused.text).error], [409, "bowl: not enough in stock"]);
    assert.equal((await ask("/api/orders", { method: "POST", body: "{" })).status, 400);
    assert.equal((await ask("/api/orders", { method: "POST", body: "x".repeat(70_000) })).status, 413);
    assert.equal((await ask("/order", { method: "POST", body: "customer=A" })).status, 409);
    assert.equal((await ask("/gone")).status, 404);
    assert.equal((await ask("/", { method: "DELETE" })).status, 405);
    assert.equal((await ask("/", { method: "HEAD" })).text, "");
  });
});

test("readiness needs the services, health does not", async () => {
  await withStorefront({ ...inventory, "GET http://orders:8080/healthz": [200, {}] }, async (ask) => {
    assert.equal((await ask("/readyz")).status, 200);
  });
  await withStorefront({}, async (ask) => {
    assert.equal((await ask("/healthz")).status, 200);
    const { status, text } = await ask("/readyz");
    assert.equal(status, 503);
    assert.match(text, /cannot be reached: ECONNREFUSED/);
    assert.match((await ask("/")).text, /That did not work/);
  });
  await withStorefront({ "GET http://inventory:8080/items": [200, "<html>"] }, async (ask) => {
    assert.equal((await ask("/")).status, 502);
  });
});

test("requests are counted", () =>
  withStorefront(inventory, async (ask) => {
    await ask("/");
    await ask("/?page=2");
    await ask("/made-up");
    const { text } = await ask("/metrics");
    for (const line of [
      'http_requests_total{handler="/",method="GET",code="200"} 2',
      'http_requests_total{handler="other",method="GET",code="404"} 1',
      'http_request_duration_seconds_count{handler="/"} 2',
      'shop_storefront_info{version="7"} 1',
    ]) {
      assert.ok(text.includes(line), `${line} in\n${text}`);
    }
  }));

test("prices and names are written for people", () => {
  assert.equal(price(5), "0.05");
  assert.equal(price(123_400), "1234.00");
  assert.equal(escape(`<a href="x">'&`), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
});
