"""Forwarded headers count from trusted proxies alone."""

import pytest

from config.proxies import is_trusted


@pytest.mark.parametrize(
    ("address", "proxies", "is_believed"),
    [
        ("10.0.0.7", ("10.0.0.0/8",), True),
        ("10.0.0.7", ("10.0.0.7",), True),
        ("::ffff:10.0.0.7", ("10.0.0.0/8",), True),
        ("fd00::1", ("10.0.0.0/8", "fd00::/8"), True),
        ("11.0.0.7", ("10.0.0.0/8",), False),
        ("10.0.0.7", (), False),
        ("no address", ("0.0.0.0/0",), False),
    ],
)
def test_who_is_trusted(address: str, proxies: tuple[str, ...], is_believed: bool):
    assert is_trusted(address, proxies) is is_believed


@pytest.mark.parametrize(("sender", "status"), [("10.0.0.7", 200), ("203.0.113.9", 301)])
def test_https_is_believed_from_the_proxy_only(client, settings, sender: str, status: int):
    """A stranger who claims HTTPS is sent there like everybody else."""
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    answer = client.get("/api/docs/", headers={"X-Forwarded-Proto": "https"}, REMOTE_ADDR=sender)
    assert answer.status_code == status
