"""Forwarded headers are believed from TRUSTED_PROXIES alone; from anybody else they are taken away.

Otherwise anyone who reaches the web process directly could claim HTTPS, another host or another address.
"""

import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED")


class TrustedProxiesMiddleware:
    """Before everything that looks at the request's scheme or address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_trusted(request.META.get("REMOTE_ADDR", ""), tuple(settings.TRUSTED_PROXIES)):
            for name in _FORWARDED:
                request.META.pop(name, None)
        return self.get_response(request)


@lru_cache(maxsize=1_024)
def is_trusted(address: str, proxies: tuple[str, ...]) -> bool:
    """Whether `address` is one of `proxies` (addresses or networks)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found  # a server that listens on IPv6 sees ::ffff:10.0.0.1
    return any(found in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)


def client_address(meta: Mapping[str, Any]) -> str:
    """Whom a request comes from: the sender, or where that is a trusted proxy, the last stranger it names.

    What stands further left in X-Forwarded-For is hearsay. `meta`: a WSGI environment, with the header still in it.
    """
    address: str = meta.get("REMOTE_ADDR", "")
    proxies = tuple(settings.TRUSTED_PROXIES)
    if not proxies or not is_trusted(address, proxies):
        return address
    for entry in reversed(meta.get("HTTP_X_FORWARDED_FOR", "").split(",")):
        named = _without_port(entry.strip())
        if not _is_address(named):
            return address  # the proxy does not know, or says it in words
        if not is_trusted(named, proxies):
            return named
        address = named
    return address


def _without_port(text: str) -> str:
    """Some proxies write 192.0.2.1:4711 or [2001:db8::1]:4711."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=8_192)
def one_of_many(address: str) -> str:
    """What counts as one address: an IPv6 network of 64 bits, because whoever has one has 2^64 addresses of it."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
