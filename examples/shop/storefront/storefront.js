// The storefront: pages for people, and the same as JSON for programs.
//
//   GET  /             the catalogue, with a form
//   POST /order        the form's order
//   GET  /api/items    the inventory's answer
//   POST /api/orders   an order as JSON
//   GET  /healthz      this process works
//   GET  /readyz       and so do the services behind it
//   GET  /metrics

const LARGEST_BODY = 64 * 1024;
const PATIENCE = 5_000;

/** A request that cannot be served, with the status to say so. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Makes the function that answers requests. */
export function storefront(settings, metrics, fetch = globalThis.fetch) {
  const call = async (url, options = {}) => {
    let answer, text;
    try {
      answer = await fetch(url, { ...options, signal: AbortSignal.timeout(PATIENCE) });
      text = await answer.text();
    } catch (error) {
      throw new Refused(503, `${new URL(url).host} cannot be reached: ${error.cause?.code ?? error.name}`);
    }
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      throw new Refused(502, `${new URL(url).host} answers with something else than JSON`);
    }
    if (!answer.ok) throw new Refused(answer.status, body.error ?? "refused");
    return body;
  };
  const items = () => call(`${settings.inventory}/items`);
  const place = (order) =>
    call(`${settings.orders}/orders`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(order),
    });

  const routes = {
    "GET /": async () => html(200, catalogue(settings, await items())),
    "POST /order": async (request) => {
      const form = new URLSearchParams(await body(request));
      const lines = [...form]
        .filter(([name, value]) => name.startsWith("quantity:") && Number(value) > 0)
        .map(([name, value]) => ({ sku: name.slice("quantity:".length), quantity: Number(value) }));
      return html(201, confirmation(settings, await place({ customer: form.get("customer") ?? "", lines })));
    },
    "GET /api/items": async () => json(200, await items()),
    "POST /api/orders": async (request) => {
      let order;
      try {
        order = JSON.parse(await body(request));
      } catch (error) {
        throw error instanceof Refused ? error : new Refused(400, "the body is no JSON");
      }
      return json(201, await place(order));
    },
    "GET /readyz": async () => {
      await Promise.all([items(), call(`${settings.orders}/healthz`)]);
      return json(200, { status: "ok" });
    },
    "GET /healthz": async () => json(200, { status: "ok" }),
    "GET /metrics": async () => ({ status: 200, type: "text/plain; version=0.0.4; charset=utf-8", text: metrics.text() }),
  };
  const paths = new Set(Object.keys(routes).map((route) => route.split(" ")[1]));

  return async (request, response) => {
    const began = process.hrtime.bigint();
    const path = request.url.split("?")[0];
    const method = request.method === "HEAD" ? "GET" : request.method;
    const programs = path.startsWith("/api/") || path.endsWith("z");
    let answer;
    try {
      const route = routes[`${method} ${path}`];
      if (!route) throw paths.has(path) ? new Refused(405, "method not allowed") : new Refused(404, "no such page");
      answer = await route(request);
    } catch (error) {
      if (!(error instanceof Refused)) console.error(error);
      const status = error instanceof Refused ? error.status : 500;
      const reason = error instanceof Refused ? error.message : "internal error";
      answer = programs ? json(status, { error: reason }) : html(status, apology(settings, reason));
    }
    const headers = { "content-type": answer.type, "x-content-type-options": "nosniff" };
    // What was not read of a body must not be taken for the next request.
    if (!request.complete) headers.connection = "close";
    response.writeHead(answer.status, headers);
    response.end(request.method === "HEAD" ? undefined : answer.text);
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    metrics.observe(paths.has(path) ? path : "other", request.method, answer.status, seconds);
  };
}

const json = (status, body) => ({ status, type: "application/json", text: JSON.stringify(body) });
const html = (status, text) => ({ status, type: "text/html; charset=utf-8", text });

async function body(request) {
  const pieces = [];
  let length = 0;
  for await (const piece of request) {
    length += piece.length;
    if (length > LARGEST_BODY) throw new Refused(413, "the body is too large");
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
export const escape = (text) => String(text).replace(/[&<>"']/g, (letter) => escapes[letter]);
export const price = (cents) => `${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, "0")}`;

const page = (settings, content) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(settings.title)}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
  table { width: 100%; border-collapse: collapse } td, th { text-align: left; padding: .4rem; border-bottom: 1px solid #ddd }
  input[type=number] { width: 4rem } footer { color: #777; font-size: .8rem; margin-top: 3rem }
</style>
<h1>${escape(settings.title)}</h1>
${content}
<footer>version ${escape(settings.version)} ${escape(settings.pod)}</footer>
</html>
`;

const catalogue = (settings, items) =>
  page(
    settings,
    `<p>${escape(settings.greeting)}</p>
<form method="post" action="/order">
<table><tr><th>Article<th>Price<th>In stock<th>Quantity
${items
  .map(
    (item) => `<tr><td>${escape(item.name)}<td>${price(item.price_cents)}<td>${item.stock}
<td><input type="number" min="0" max="${item.stock}" value="0" name="quantity:${escape(item.sku)}">`,
  )
  .join("\n")}
</table>
<p><label>Your name <input name="customer" required maxlength="100"></label> <button>Order</button></p>
</form>`,
  );

const confirmation = (settings, order) =>
  page(
    settings,
    `<p>Thank you, ${escape(order.customer)}. Your order <code>${escape(order.id)}</code> over
${price(order.total_cents)} is accepted.</p><p><a href="/">Back</a></p>`,
  );

const apology = (settings, reason) =>
  page(settings, `<p>That did not work: ${escape(reason)}.</p><p><a href="/">Back</a></p>`);
