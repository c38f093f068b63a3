"""What the QR code says, and how a door checks it without a network.

The text is `CF1.<event id>.<serial>.<secret>.<signature>`: no personal data, and not to be guessed, since it carries
128 random bits. The signature (Ed25519, base64url without padding) covers everything before its dot.
"""

import base64

import segno
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ticketing.models import Event, EventKey, Ticket


def qr_text(ticket: Ticket, key: EventKey | None = None) -> str:
    """The exact text in the ticket's QR code; the same every time, since Ed25519 signatures are deterministic.

    `key` is the event's (`key_of`), for callers with many tickets of one event.
    """
    facts = f"CF1.{ticket.event_id}.{ticket.serial}.{ticket.secret}"
    private = Ed25519PrivateKey.from_private_bytes(bytes((key or key_of(ticket.event)).private_key))
    return f"{facts}.{_base64url(private.sign(facts.encode()))}"


def qr_svg(text: str) -> str:
    """The code as inline SVG: black on white with its quiet zone, sized by the page's style sheet."""
    return segno.make(text, error="m", micro=False).svg_inline(scale=4, border=4, light="#fff", omitsize=True)


def secret_in(code: str) -> str:
    """The ticket secret inside a scanned code; a bare secret, typed or pasted, is returned as it is."""
    parts = code.strip().split(".")
    return parts[3] if len(parts) == 5 and parts[0] == "CF1" else code.strip()


def make_key(event: Event) -> EventKey:
    """A fresh signing key for `event`."""
    private = Ed25519PrivateKey.generate()
    return EventKey.objects.create(
        event=event,
        private_key=private.private_bytes_raw(),
        public_key=private.public_key().public_bytes_raw(),
    )


def key_of(event: Event) -> EventKey:
    """The key that signs this event's codes."""
    # The first key is made under the event's serial counter lock when its first ticket is issued (ticketing.issuing).
    return event.keys.latest("id")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
