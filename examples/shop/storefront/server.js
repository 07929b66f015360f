// Starts the storefront: settings from the environment, a graceful end on SIGTERM.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

import { Metrics } from "./metrics.js";
import { storefront } from "./storefront.js";

/** What the image was built as. */
function builtVersion() {
  try {
    return readFileSync(new URL("version", import.meta.url), "utf8").trim();
  } catch {
    return "unknown";
  }
}

const settings = {
  inventory: process.env.INVENTORY_URL ?? "http://inventory:8080",
  orders: process.env.ORDERS_URL ?? "http://orders:8080",
  title: process.env.SHOP_TITLE ?? "The Shop",
  greeting: process.env.SHOP_GREETING ?? "Welcome.",
  version: process.env.SHOP_VERSION ?? builtVersion(),
  pod: process.env.POD_NAME ?? "",
};
const port = Number(process.env.PORT ?? 8080);

const server = createServer(storefront(settings, new Metrics(settings.version)));
server.requestTimeout = 15_000;
server.listen(port, () => console.log(`storefront ${settings.version} listens on ${port}`));

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, async () => {
    console.log("storefront ends");
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    await sleep(8_000);
    process.exit(0);
  });
}
