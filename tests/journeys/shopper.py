"""A buyer without a browser: the JSON contract over HTTP, and the real Stripe SDK in place of the card form."""

import time
from dataclasses import dataclass
from typing import Any

import requests
import stripe

from tests.office import Office
from ticketing.models import Product

API_VERSION = "2026-05-27.dahlia"


@dataclass
class Shopper:
    office: Office
    email: str = "ada@example.org"
    name: str = "Ada Lovelace"

    @property
    def call(self) -> str:
        return f"{self.office.base_url}/api/v1"

    def hold(self, product: Product, quantity: int = 1, *, slot: int | None = None, key: str = "") -> requests.Response:
        lines = [{"product": product.pk, "slot": slot, "quantity": quantity}]
        headers = {"Idempotency-Key": key} if key else {}
        return requests.post(
            f"{self.call}/reservations/",
            json={"event": product.event.slug, "lines": lines},
            headers=headers,
            timeout=30,
        )

    def checkout(self, reservation_id: str) -> requests.Response:
        details = {"email": self.email, "name": self.name}
        return requests.post(f"{self.call}/reservations/{reservation_id}/checkout/", json=details, timeout=60)

    def order(self, product: Product, quantity: int = 1) -> dict[str, Any]:
        """Holds and checks out; the answer of the checkout."""
        return self.checkout(self.hold(product, quantity).json()["id"]).json()

    def pay(self, placed: dict[str, Any], payment_method: str = "pm_card_visa") -> str:
        """Confirms the intent as a client of Stripe would; the intent's status then. Raises stripe.CardError."""
        intent = self.stripe.v1.payment_intents.confirm(
            placed["payment"]["stripe_payment_intent_id"],
            {"payment_method": payment_method, "return_url": placed["order"]["url"]},
        )
        return intent.status

    @property
    def stripe(self) -> stripe.StripeClient:
        return stripe.StripeClient(
            self.office.stripe.secret_key,
            base_addresses={"api": self.office.stripe.api_base},
            stripe_version=API_VERSION,
        )

    def status(self, placed: dict[str, Any]) -> dict[str, Any]:
        return requests.get(placed["order"]["status_url"], timeout=30).json()

    def wait_until_done(self, placed: dict[str, Any], seconds: float = 40) -> dict[str, Any]:
        """Polls as the order page does, until nothing more will happen by itself."""
        deadline = time.monotonic() + seconds
        while not (status := self.status(placed))["done"] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert status["done"], status
        return status

    def tickets(self, placed: dict[str, Any]) -> list[dict[str, Any]]:
        address = placed["order"]["status_url"].replace("/status/", "/")
        return requests.get(address, timeout=30).json()["tickets"]

    def buy(self, product: Product, quantity: int = 1) -> dict[str, Any]:
        """The whole way to tickets; the checkout's answer."""
        placed = self.order(product, quantity)
        self.pay(placed)
        assert self.wait_until_done(placed)["order"] == "paid"
        return placed
