"""Unit tests: python3 -m unittest"""

import json
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orders


class Shelf:
    """An inventory that fails as it is told."""

    def __init__(self):
        self.held = {}
        self.failure = None

    def prices(self):
        return {"bowl": {"sku": "bowl", "price_cents": 1200}, "cup": {"sku": "cup", "price_cents": 800}}

    def reserve(self, order, lines):
        self.held[order] = lines
        if self.failure:
            raise self.failure

    def release(self, order):
        if self.failure:
            raise self.failure
        self.held.pop(order, None)


class PlacingOrders(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.shelf = Shelf()
        self.path = self.directory.name + "/orders.db"
        self.orders = orders.Orders(self.path, self.shelf)

    def test_an_order_is_priced_and_kept(self):
        order = self.orders.place("Ann", [{"sku": "bowl", "quantity": 2}, {"sku": "cup", "quantity": 1}])
        self.assertEqual((order["total_cents"], order["state"]), (3200, "accepted"))
        again = orders.Orders(self.path, self.shelf)
        self.assertEqual(again.find(order["id"]), order)
        self.assertEqual([each["id"] for each in again.latest()], [order["id"]])

    def test_what_the_inventory_refuses_is_refused(self):
        self.shelf.failure = orders.Refused(409, "not enough in stock")
        with self.assertRaises(orders.Refused) as caught:
            self.orders.place("Ann", [{"sku": "bowl", "quantity": 2}])
        self.assertEqual(caught.exception.status, 409)
        self.assertEqual((self.orders.count("refused"), self.orders.count("accepted")), (1, 0))

    def test_an_order_without_an_outcome_is_given_up_and_its_goods_go_back(self):
        self.shelf.failure = orders.Refused(503, "gone")
        with self.assertRaises(orders.Refused):
            self.orders.place("Ann", [{"sku": "bowl", "quantity": 2}])
        self.assertEqual((self.orders.count("pending"), len(self.shelf.held)), (1, 1))
        self.assertEqual(self.orders.settle(older_than=-1), 0, "not while the inventory is away")
        self.shelf.failure = None
        self.assertEqual(self.orders.settle(older_than=60), 0, "not while it may still be on its way")
        self.assertEqual(self.orders.settle(older_than=-1), 1)
        self.assertEqual((self.orders.count("pending"), len(self.shelf.held)), (0, 0))

    def test_what_is_no_order_is_refused(self):
        good = [{"sku": "bowl", "quantity": 1}]
        for customer, lines in [
            (None, good),
            ("", good),
            ("  ", good),
            ("x" * 101, good),
            ("Ann", None),
            ("Ann", []),
            ("Ann", ["bowl"]),
            ("Ann", [{"sku": 1, "quantity": 1}]),
            ("Ann", [{"sku": "bowl", "quantity": 0}]),
            ("Ann", [{"sku": "bowl", "quantity": True}]),
            ("Ann", [{"sku": "bowl", "quantity": 1.5}]),
            ("Ann", [{"sku": "bowl"}]),
        ]:
            with self.assertRaises(orders.Refused, msg=(customer, lines)) as caught:
                self.orders.place(customer, lines)
            self.assertEqual(caught.exception.status, 400)
        with self.assertRaises(orders.Refused) as caught:
            self.orders.place("Ann", [{"sku": "gone", "quantity": 1}])
        self.assertEqual(caught.exception.status, 404)
        self.assertEqual(self.shelf.held, {})


def serve(test, handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    test.addCleanup(server.server_close)
    test.addCleanup(server.shutdown)
    return f"http://127.0.0.1:{server.server_port}"


class AnsweringRequests(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        kept = orders.Orders(directory.name + "/orders.db", Shelf())
        self.url = serve(self, orders.handler(kept, orders.Metrics()))

    def ask(self, path, body=None, method=None):
        request = urllib.request.Request(self.url + path, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def test_requests_and_their_metrics(self):
        status, body = self.ask("/orders", b'{"customer": "Ann", "lines": [{"sku": "cup", "quantity": 2}]}')
        self.assertEqual(status, 201)
        order = json.loads(body)
        self.assertEqual(self.ask("/orders/" + order["id"])[0], 200)
        self.assertEqual(self.ask("/orders/none")[0], 404)
        self.assertEqual(len(json.loads(self.ask("/orders")[1])), 1)
        for body, expected in [(b"{", 400), (b"[]", 400), (b"{}", 400), (b" " * 70_000, 413)]:
            self.assertEqual(self.ask("/orders", body)[0], expected, body[:10])
        self.assertEqual(self.ask("/elsewhere")[0], 404)
        self.assertEqual(self.ask("/elsewhere", b"{}")[0], 404)
        self.assertEqual(self.ask("/healthz")[0], 200)
        self.assertEqual(self.ask("/readyz")[0], 200)
        status, text = self.ask("/metrics")
        for line in [
            'shop_orders_total{outcome="accepted"} 1.0',
            'shop_orders_total{outcome="refused"} 4.0',
            "shop_orders_revenue_cents_total 1600.0",
            'http_requests_total{code="201",handler="/orders",method="POST"} 1.0',
        ]:
            self.assertIn(line, text)


class SpeakingToTheInventory(unittest.TestCase):
    def test_refusals_and_failures_are_told_apart(self):
        class Far(BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply(200, [{"sku": "bowl", "price_cents": 1}])

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                order = json.loads(self.rfile.read(length))["order"]
                if self.headers["Authorization"] != "Bearer secret":
                    return self.reply(401, {"error": "token"})
                return self.reply({"sold-out": 409, "broken": 500}.get(order, 201), {"error": order})

            def do_DELETE(self):
                self.reply(204, None)

            def reply(self, status, body):
                self.send_response(status)
                self.end_headers()
                if body is not None:
                    self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_):
                pass

        url = serve(self, Far)
        inventory = orders.Inventory(url, "secret")
        self.assertEqual(list(inventory.prices()), ["bowl"])
        inventory.reserve("fine", [])
        inventory.release("fine")
        for order, token, status in [("sold-out", "secret", 409), ("broken", "secret", 502), ("fine", "wrong", 502)]:
            with self.assertRaises(orders.Refused) as caught:
                orders.Inventory(url, token).reserve(order, [])
            self.assertEqual(caught.exception.status, status)
        with self.assertRaises(orders.Refused) as caught:
            orders.Inventory("http://127.0.0.1:1", "secret").prices()
        self.assertEqual(caught.exception.status, 503)


if __name__ == "__main__":
    unittest.main()
