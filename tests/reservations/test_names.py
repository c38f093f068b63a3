"""What buyers may call themselves: it is printed, and mailed to whatever address was typed."""

import pytest
from django.core.exceptions import ValidationError

from reservations.names import validate_name

pytestmark = pytest.mark.row("T6")


@pytest.mark.parametrize("name", ["Ada Lovelace", "O’Neill-Søren, Dr.", "李小龙", "Łukasz www", "3 D. Secure: yes"])
def test_names_of_people_are_accepted(name: str):
    validate_name(name)


@pytest.mark.parametrize(
    "name", ["Ada\nBcc: all@example.org", "Win at http://evil.example", "see WWW.evil.example", "x\x00", "\u202egnirts"]
)
def test_line_breaks_links_and_hidden_characters_are_refused(name: str):
    with pytest.raises(ValidationError):
        validate_name(name)


@pytest.mark.django_db
def test_api_and_form_refuse_them_too(client):
    from tests.factories import ProductFactory
    from tests.purchases import hold

    held = hold(ProductFactory(free=True))
    details = {"name": "Win at http://evil.example", "email": "victim@example.org"}
    api = client.post(f"/api/v1/reservations/{held.id}/checkout/", details, content_type="application/json")
    assert (api.status_code, list(api.json()["fields"])) == (400, ["name"])
    assert client.post(f"/reservations/{held.id}/checkout/", details).status_code == 400
