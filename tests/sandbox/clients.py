"""The real SDK, with a conscience: every request and every answer is held against Stripe's own file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import stripe

from tests.stripe_sandbox import API_VERSION
from tests.stripe_sandbox.process import SandboxProcess

from .contract import Contract


class CheckedHTTPClient(stripe.RequestsClient):
    def __init__(self, contract: Contract, *, is_lenient: bool, timeout_seconds: int = 10) -> None:
        super().__init__(timeout=timeout_seconds)
        self._contract = contract
        self._is_lenient = is_lenient

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        verb = method.upper()
        if not self._is_lenient:
            self._contract.check_request(verb, url, post_data or "")
        body, status, answer_headers = super().request(method, url, headers, post_data)
        if not self._is_lenient:
            self._contract.check_response(verb, url, status, json.loads(body))
        return body, status, answer_headers


def client(
    sandbox: SandboxProcess, contract: Contract, *, retries: int = 0, is_lenient: bool = False, key: str | None = None
) -> stripe.StripeClient:
    """`is_lenient` for requests that Stripe is meant to refuse, and for answers that are broken on purpose."""
    return stripe.StripeClient(
        key or sandbox.secret_key,
        stripe_version=API_VERSION,
        base_addresses={"api": sandbox.api_base},
        max_network_retries=retries,
        http_client=CheckedHTTPClient(contract, is_lenient=is_lenient),
    )
