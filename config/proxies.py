"""Forwarded headers are believed from TRUSTED_PROXIES alone; from anybody else they are taken away.

Otherwise anyone who reaches the web process directly could claim HTTPS, another host or another address.
"""

import ipaddress
from collections.abc import Callable
from functools import lru_cache

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
