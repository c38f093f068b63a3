import time

import pytest
import requests
import stripe

from tests.factories import ProductFactory
from tests.office import Office


@pytest.mark.office
@pytest.mark.row("P1", "P3", "P7", "T3", "T4")
def test_an_api_client_buys_two_tickets(office: Office):
    """Hold, checkout, pay through the real SDK; webhook and worker do the rest."""
    product = ProductFactory()
    call = f"{office.base_url}/api/v1"
    lines = [{"product": product.pk, "slot": None, "quantity": 2}]
    hold = requests.post(f"{call}/reservations/", json={"event": product.event.slug, "lines": lines}).json()
    details = {"email": "ada@example.org", "name": "Ada"}
    done = requests.post(f"{call}/reservations/{hold['id']}/checkout/", json=details).json()
    client = stripe.StripeClient(office.stripe.secret_key, base_addresses={"api": office.stripe.api_base})
    client.v1.payment_intents.confirm(
        done["payment"]["stripe_payment_intent_id"], {"payment_method": "pm_card_visa", "return_url": office.base_url}
    )
    deadline = time.monotonic() + 30
    while not (status := requests.get(done["order"]["status_url"]).json())["done"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert status["order"] == "paid"
    assert status["tickets"] == 2
