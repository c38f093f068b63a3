from collections.abc import Iterator

import pytest

from payments import stripe_gateway
from tests.stripe_sandbox.process import SandboxProcess


@pytest.fixture(scope="module")
def _debit_process() -> Iterator[SandboxProcess]:
    with SandboxProcess(extra_arguments=("--payment-method-types", "card,sepa_debit")) as process:
        yield process


@pytest.fixture
def debit_sandbox(_debit_process: SandboxProcess, sandbox: SandboxProcess, settings) -> Iterator[SandboxProcess]:
    """An account with bank debits switched on, in the place of `sandbox`."""
    _debit_process.control.reset()
    settings.STRIPE_API_BASE = _debit_process.api_base
    stripe_gateway.calls.client.cache_clear()
    yield _debit_process
    stripe_gateway.calls.client.cache_clear()
