"""Orders takes customers' orders and has the inventory set the goods aside.

    POST /orders        {"customer": "...", "lines": [{"sku": "...", "quantity": 1}]}
    GET  /orders        the latest
    GET  /orders/ID
    GET  /healthz       this process works
    GET  /readyz        and the inventory answers
    GET  /metrics

An order is written down as "pending" before the inventory is asked, and asked for again by the same id after a crash or
a lost answer, so that no goods stay set aside for an order that nobody knows.
"""

import json
import os
import signal
import sqlite3
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

LARGEST_BODY = 64 * 1024
LISTED = 50


class Refused(Exception):
    """An order that cannot be taken, with the status to say so."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class Inventory:
    """The inventory service, over HTTP."""

    def __init__(self, url, token, timeout=3.0):
        self.url = url.rstrip("/")
        self.token = token
        self.timeout = timeout

    def prices(self):
        return {item["sku"]: item for item in self._call("GET", "/items")}

    def reserve(self, order, lines):
        self._call("POST", "/reservations", {"order": order, "lines": lines})

    def release(self, order):
        self._call("DELETE", "/reservations/" + urllib.parse.quote(order, safe=""))

    def _call(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", "Bearer " + self.token)
        data = None
        if body is not None:
            request.add_header("Content-Type", "application/json")
            data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, timeout=self.timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            if error.code in (400, 404, 409):
                raise Refused(error.code, json.loads(text).get("error", "refused")) from None
            raise Refused(502, f"inventory answers {error.code}") from None
        except OSError as error:
            raise Refused(503, f"inventory cannot be reached: {error}") from None
        return json.loads(text) if text else None


class Orders:
    """What was ordered, in SQLite."""

    def __init__(self, path, inventory):
        self.inventory = inventory
        self.lock = threading.Lock()
        self.database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = FULL")
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, placed REAL, state TEXT, body TEXT)"
        )

    def place(self, customer, lines):
        """Takes an order, or raises Refused."""
        check(customer, lines)
        catalogue = self.inventory.prices()
        total = 0
        for line in lines:
            item = catalogue.get(line["sku"])
            if item is None:
                raise Refused(404, f"{line['sku']}: no such item")
            total += item["price_cents"] * line["quantity"]
        order = {
            "id": uuid.uuid4().hex,
            "customer": customer,
            "lines": [{"sku": line["sku"], "quantity": line["quantity"]} for line in lines],
            "total_cents": total,
        }
        self._write(order, "pending")
        try:
            self.inventory.reserve(order["id"], order["lines"])
        except Refused as refused:
            if refused.status < 500:
                self._write(order, "refused")
            raise
        self._write(order, "accepted")
        return {**order, "state": "accepted"}

    def settle(self, older_than=10.0):
        """Gives up orders whose outcome was never learnt: their goods go back. Returns how many."""
        before = time.time() - older_than
        with self.lock:
            rows = self.database.execute(
                "SELECT body FROM orders WHERE state = 'pending' AND placed < ?", (before,)
            ).fetchall()
        settled = 0
        for (body,) in rows:
            order = json.loads(body)
            try:
                self.inventory.release(order["id"])
            except Refused:
                continue
            self._write(order, "refused")
            settled += 1
        return settled

    def find(self, order):
        with self.lock:
            row = self.database.execute("SELECT body, state FROM orders WHERE id = ?", (order,)).fetchone()
        return None if row is None else {**json.loads(row[0]), "state": row[1]}

    def latest(self):
        with self.lock:
            rows = self.database.execute(
                "SELECT body, state FROM orders ORDER BY placed DESC LIMIT ?", (LISTED,)
            ).fetchall()
        return [{**json.loads(body), "state": state} for body, state in rows]

    def count(self, state):
        with self.lock:
            return self.database.execute("SELECT count(*) FROM orders WHERE state = ?", (state,)).fetchone()[0]

    def _write(self, order, state):
        with self.lock:
            self.database.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
                (order["id"], time.time(), state, json.dumps(order)),
            )


def check(customer, lines):
    """Raises Refused for what is no order."""
    if not isinstance(customer, str) or not 0 < len(customer.strip()) <= 100:
        raise Refused(400, "a customer has a name of up to 100 characters")
    if not isinstance(lines, list) or not 0 < len(lines) <= 100:
        raise Refused(400, "an order has 1 to 100 lines")
    for line in lines:
        good = (
            isinstance(line, dict)
            and isinstance(line.get("sku"), str)
            and isinstance(line.get("quantity"), int)
            and not isinstance(line["quantity"], bool)
            and 1 <= line["quantity"] <= 1000
        )
        if not good:
            raise Refused(400, "a line has a sku and a quantity from 1 to 1000")


class Metrics:
    """What Prometheus is shown."""

    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "http_requests", "Requests answered.", ["handler", "method", "code"], registry=self.registry
        )
        self.durations = Histogram(
            "http_request_duration_seconds", "Time to answer a request.", ["handler"], registry=self.registry
        )
        self.orders = Counter("shop_orders", "Orders, by outcome.", ["outcome"], registry=self.registry)
        self.revenue = Counter("shop_orders_revenue_cents", "Value of accepted orders.", registry=self.registry)
        for outcome in ("accepted", "refused", "failed"):
            self.orders.labels(outcome)


def handler(orders, metrics):
    """The class that answers requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "orders"
        timeout = 30

        def do_GET(self):
            path = urllib.parse.urlsplit(self.path).path
            if path == "/healthz":
                return self.answer(200, {"status": "ok"})
            if path == "/metrics":
                return self.answer(200, generate_latest(metrics.registry), CONTENT_TYPE_LATEST)
            if path == "/readyz":
                return self.counted("/readyz", self.ready)
            if path == "/orders":
                return self.counted("/orders", lambda: (200, orders.latest()))
            if path.startswith("/orders/"):
                return self.counted("/orders/", lambda: self.found(path.removeprefix("/orders/")))
            return self.counted("other", lambda: (404, {"error": "no such page"}))

        def do_POST(self):
            if urllib.parse.urlsplit(self.path).path == "/orders":
                return self.counted("/orders", self.place)
            self.close_connection = True
            return self.counted("other", lambda: (404, {"error": "no such page"}))

        def ready(self):
            orders.inventory.prices()
            return 200, {"status": "ok"}

        def found(self, order):
            body = orders.find(order)
            return (200, body) if body else (404, {"error": "no such order"})

        def place(self):
            try:
                body = self.body()
                if not isinstance(body, dict):
                    raise Refused(400, "the body is no object")
                order = orders.place(body.get("customer"), body.get("lines"))
            except Refused as refused:
                metrics.orders.labels("refused" if refused.status < 500 else "failed").inc()
                raise
            metrics.orders.labels("accepted").inc()
            metrics.revenue.inc(order["total_cents"])
            return 201, order

        def body(self):
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > LARGEST_BODY:
                # What was sent is not read, so nothing can follow it.
                self.close_connection = True
                raise Refused(413, f"a body has a length of up to {LARGEST_BODY} bytes")
            try:
                return json.loads(self.rfile.read(int(length)))
            except ValueError as error:
                raise Refused(400, f"body: {error}") from None

        def counted(self, name, work):
            began = time.monotonic()
            try:
                status, body = work()
            except Refused as refused:
                status, body = refused.status, {"error": str(refused)}
            except Exception as error:  # pylint: disable=broad-except
                self.log_error("%s", error)
                status, body = 500, {"error": "internal error"}
            self.answer(status, body)
            metrics.requests.labels(name, self.command, str(status)).inc()
            metrics.durations.labels(name).observe(time.monotonic() - began)

        def answer(self, status, body, kind="application/json"):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, code="-", size="-"):
            """Nothing: the metrics count requests."""

    return Handler


def main():
    inventory = Inventory(os.environ.get("INVENTORY_URL", "http://inventory:8080"), os.environ["INVENTORY_TOKEN"])
    orders = Orders(os.path.join(os.environ.get("DATA_DIR", "/data"), "orders.db"), inventory)
    port = int(os.environ.get("PORT", "8080"))
    server = ThreadingHTTPServer(("", port), handler(orders, Metrics()))
    server.daemon_threads = False
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"orders: {orders.count('accepted')} accepted so far, listening on {port}", flush=True)
    while not stop.wait(5):
        settled = orders.settle()
        if settled:
            print(f"orders: {settled} given up", flush=True)
    print("orders: stopping", flush=True)
    server.shutdown()


if __name__ == "__main__":
    main()
