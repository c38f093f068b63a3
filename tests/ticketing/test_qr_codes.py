"""The code on a ticket: read by a reader that is not our writer, checked with nothing but the public key."""

import base64
import io
import re

import pytest
import segno
import zxingcpp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from PIL import Image, ImageDraw

from tests.factories import ProductFactory
from tests.ticketing.test_issuing import issue
from ticketing import qr_codes
from ticketing.models import Ticket

pytestmark = pytest.mark.django_db


def verify(text: str, public_key: bytes) -> None:
    """What a door without network does; raises InvalidSignature."""
    facts, _dot, signature = text.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    Ed25519PublicKey.from_public_bytes(public_key).verify(raw, facts.encode())


def public_key_of(ticket: Ticket) -> bytes:
    return bytes(ticket.event.keys.get().public_key)


def drawn(svg: str) -> Image.Image:
    """The inline SVG as a picture: segno draws each row as horizontal strokes of one path."""
    side = int(re.search(r'viewBox="0 0 (\d+) \d+"', svg).group(1))
    scale = float(match.group(1)) if (match := re.search(r"scale\(([\d.]+)\)", svg)) else 1.0
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    x = y = 0.0
    for command, numbers in re.findall(
        r"([Mmh])([-\d. ]+)", re.search(r'class="qrline"[^>]* d="([^"]+)"', svg).group(1)
    ):
        values = [float(number) for number in numbers.split()]
        if command == "h":
            pen.rectangle([x * scale, (y - 0.5) * scale, (x + values[0]) * scale - 1, (y + 0.5) * scale - 1], "black")
            x += values[0]
        elif command == "M":
            x, y = values
        else:
            x, y = x + values[0], y + values[1]
    return picture


def read(picture: Image.Image) -> str:
    found = zxingcpp.read_barcodes(picture)
    assert len(found) == 1
    return found[0].text


@pytest.mark.row("T4")
def test_the_text_is_verified_with_the_public_key_alone():
    ticket = issue(ProductFactory(), "a")[0]
    text = qr_codes.qr_text(ticket)
    assert text.split(".")[:4] == ["CF1", str(ticket.event_id), "1", ticket.secret]
    verify(text, public_key_of(ticket))
    assert qr_codes.qr_text(Ticket.objects.get(pk=ticket.pk)) == text, "the same every time"


@pytest.mark.row("T4")
def test_a_changed_text_or_another_events_key_is_refused():
    """T4: another serial, another event, another secret, another signature."""
    ours, theirs = issue(ProductFactory(), "a")[0], issue(ProductFactory(), "b")[0]
    text = qr_codes.qr_text(ours)
    parts = text.split(".")
    forged = [
        ".".join([*parts[:2], "2", *parts[3:]]),
        ".".join([parts[0], str(theirs.event_id), *parts[2:]]),
        ".".join([*parts[:3], theirs.secret, parts[4]]),
        ".".join([*parts[:4], qr_codes.qr_text(theirs).split(".")[4]]),
    ]
    for claim in forged:
        with pytest.raises(InvalidSignature):
            verify(claim, public_key_of(ours))
    with pytest.raises(InvalidSignature):
        verify(text, public_key_of(theirs))


@pytest.mark.row("T4")
def test_a_reader_reads_the_png_and_the_page(client):
    """T4: as PNG, and as the SVG that stands in the ticket's page."""
    ticket = issue(ProductFactory(), "a")[0]
    text = qr_codes.qr_text(ticket)
    png = io.BytesIO()
    segno.make(text, error="m", micro=False).save(png, kind="png", scale=4, border=4)
    assert read(Image.open(png).convert("RGB")) == text
    page = client.get(ticket.get_absolute_url()).content.decode()
    svg = re.search(r"<svg[^>]*>(?:(?!</svg>).)*qrline.*?</svg>", page, re.DOTALL).group(0)
    assert read(drawn(svg)) == text


@pytest.mark.row("T4")
def test_the_code_carries_nothing_personal():
    ticket = issue(ProductFactory(), "a")[0]
    text = qr_codes.qr_text(ticket)
    assert ticket.holder_name not in text
    assert "@" not in text


@pytest.mark.row("T4")
def test_the_secret_is_found_in_what_a_scanner_or_a_person_types():
    ticket = issue(ProductFactory(), "a")[0]
    for typed in (qr_codes.qr_text(ticket), f"  {qr_codes.qr_text(ticket)}\n", ticket.secret, f" {ticket.secret} "):
        assert qr_codes.secret_in(typed) == ticket.secret
    assert qr_codes.secret_in("CF2.1.2.3.4") == "CF2.1.2.3.4"
    assert qr_codes.secret_in("") == ""


@pytest.mark.row("T4")
def test_the_ticket_page_opens_by_its_secret_alone(client):
    """T4: and is 404 for everything else; it is nobody's to keep or to index."""
    ticket = issue(ProductFactory(name="Balcony", five_classes=True), "a")[0]
    page = client.get(f"/tickets/{ticket.secret}/")
    assert page.status_code == 200
    text = page.content.decode()
    for shown in (ticket.number, "Balcony", "Ada", ticket.event.name):
        assert shown in text
    assert "no-store" in page["Cache-Control"]
    assert page["Referrer-Policy"] == "same-origin"
    for wrong in (ticket.secret[:-1], ticket.secret + "A", str(ticket.pk), ticket.number, "%00", "a%00b", "é"):
        assert client.get(f"/tickets/{wrong}/").status_code == 404


@pytest.mark.row("T4")
@pytest.mark.parametrize("status", Ticket.Status.values)
def test_the_ticket_page_opens_in_every_status(client, status):
    ticket = issue(ProductFactory(), "a")[0]
    Ticket.objects.update(status=status)
    assert client.get(ticket.get_absolute_url()).status_code == 200
