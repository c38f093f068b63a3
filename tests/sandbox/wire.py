"""The API without the SDK: for what the SDK hides, such as headers and requests it would never send."""

from __future__ import annotations

from dataclasses import dataclass

import requests

from tests.stripe_sandbox.process import SandboxProcess


@dataclass(frozen=True)
class Wire:
    sandbox: SandboxProcess

    def send(
        self, method: str, path: str, body: str = "", *, key: str | None = None, idempotency_key: str | None = None
    ) -> requests.Response:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if key != "":
            headers["Authorization"] = f"Bearer {key or self.sandbox.secret_key}"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return requests.request(method, self.sandbox.api_base + path, data=body, headers=headers, timeout=10)

    def post(self, path: str, body: str = "", *, idempotency_key: str | None = None) -> requests.Response:
        return self.send("POST", path, body, idempotency_key=idempotency_key)
