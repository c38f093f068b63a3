"""A tiny shop page under the strict Content-Security-Policy that a real host page should have."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Checkout</title><link rel="stylesheet" href="/shop.css">
<script src="{stripe_js}" defer></script><script src="/shop.js" defer></script></head>
<body data-key="{key}"><main><h1>Checkout</h1><p>Two tickets, 42.00 EUR</p>
<form id="checkout"><div id="payment"></div><p id="message" role="alert"></p>
<button id="pay" disabled>Pay 42.00 EUR</button></form></main></body></html>"""

STYLE = """:root { color-scheme: light dark; --page: #fff; --text: #1f2330; }
@media (prefers-color-scheme: dark) { :root { --page: #16181f; --text: #eceef4; } }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 480px; margin: 0 auto; padding: 24px 16px; }
button { width: 100%; min-height: 46px; border: 0; border-radius: 8px; background: #5147e5; color: #fff; font: inherit; }
"""

SCRIPT = """const query = new URLSearchParams(location.search);
const stripe = Stripe(document.body.dataset.key);
const elements = stripe.elements({ clientSecret: query.get("client_secret") });
const payment = elements.create("payment");
const pay = document.getElementById("pay");
const message = document.getElementById("message");
payment.on("ready", () => { document.body.dataset.ready = "yes"; });
payment.on("change", (event) => { pay.disabled = !event.complete; });
payment.on("loaderror", (event) => { message.textContent = event.error.message; });
payment.mount("#payment");
document.getElementById("checkout").addEventListener("submit", async (event) => {
  event.preventDefault();
  pay.disabled = true;
  const { error, paymentIntent } = await stripe.confirmPayment({
    elements, confirmParams: { return_url: location.origin + "/return?order=A1" }, redirect: query.get("redirect") || "always",
  });
  message.textContent = error ? error.message : "In place: " + paymentIntent.status;
  pay.disabled = false;
});
"""

RETURN = "<!doctype html><html lang=en><title>Back</title><h1>Thank you</h1>"


class HostPage:
    def __init__(self, sandbox_origin: str, publishable_key: str) -> None:
        page = HTML.format(stripe_js=f"{sandbox_origin}/v3/stripe.js", key=publishable_key)
        policy = (
            f"default-src 'none'; script-src 'self' {sandbox_origin}; style-src 'self'; frame-src {sandbox_origin}; "
            f"connect-src {sandbox_origin}; form-action 'self'; base-uri 'none'"
        )
        files = {
            "/": ("text/html", page),
            "/shop.css": ("text/css", STYLE),
            "/shop.js": ("text/javascript", SCRIPT),
            "/return": ("text/html", RETURN),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, text = files.get(urlsplit(self.path).path, ("text/plain", ""))
                self.send_response(200)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Security-Policy", policy)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
