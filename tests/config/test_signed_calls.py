"""Signatures over maintenance calls."""

import pytest

from config import signed_calls

SECRET = "a secret of the tests"


def test_a_signed_call_is_accepted():
    header = signed_calls.sign(b"body", secret=SECRET, at=1_000)
    assert signed_calls.verify(header, b"body", secret=SECRET, now=1_299) == header[-64:]


@pytest.mark.parametrize(
    ("header", "body", "secret", "now"),
    [
        (signed_calls.sign(b"body", secret=SECRET, at=1_000), b"other", SECRET, 1_000),
        (signed_calls.sign(b"body", secret=SECRET, at=1_000), b"body", "another", 1_000),
        (signed_calls.sign(b"body", secret=SECRET, at=1_000), b"body", SECRET, 1_301),
        (signed_calls.sign(b"body", secret=SECRET, at=1_000), b"body", SECRET, 600),
        (signed_calls.sign(b"body", secret="", at=1_000), b"body", "", 1_000),
        (signed_calls.sign(b"body", secret=SECRET, at=1_000).replace("t=1000", "t=1001"), b"body", SECRET, 1_000),
        ("", b"body", SECRET, 1_000),
        ("t=1000,v1=", b"body", SECRET, 1_000),
    ],
    ids=[
        "changed body",
        "other secret",
        "stale",
        "from the future",
        "no secret set",
        "changed time",
        "empty",
        "cut off",
    ],
)
def test_anything_else_is_refused(header: str, body: bytes, secret: str, now: float):
    with pytest.raises(signed_calls.SignatureRefused):
        signed_calls.verify(header, body, secret=secret, now=now)
