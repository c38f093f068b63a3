"""Catalogue pages may be kept by any cache: whoever asks, with whatever cookies, the answer carries none."""

import pytest

from tests.factories import ProductFactory

pytestmark = [pytest.mark.django_db, pytest.mark.row("C5", "H11")]


@pytest.mark.parametrize("path", ["/", "/events/{slug}/", "/api/v1/events/{slug}/availability/"])
@pytest.mark.parametrize("cookie", ["", "csrftoken=abc", "sessionid=abc", "buyer=x; csrftoken=" + "a" * 32])
def test_no_cookie_and_no_vary(client, path: str, cookie: str):
    product = ProductFactory()
    answer = client.get(path.format(slug=product.event.slug), headers={"Cookie": cookie} if cookie else {})
    assert answer.status_code == 200
    assert "public" in answer["Cache-Control"]
    assert not answer.cookies
    assert "Cookie" not in answer.get("Vary", "")
