from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe
from playwright.sync_api import Browser, Page

from tests.stripe_sandbox.process import Control, SandboxProcess

from . import live
from .clients import client
from .contract import Contract
from .host_page import HostPage
from .receiver import Receiver
from .wire import Wire

WEBHOOK_SECRET = "whsec_of_the_tests"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    live.on_both_sides(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    live.leave_out(config, items)


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract()


@pytest.fixture(scope="session")
def running() -> Iterator[SandboxProcess]:
    with SandboxProcess(extra_arguments=("--retry-seconds", "0.05,0.1,0.2", "--webhook-timeout", "1")) as process:
        yield process


@pytest.fixture
def sandbox(running: SandboxProcess) -> Iterator[SandboxProcess]:
    """A fresh account: no objects, no faults, no endpoints, real time."""
    running.control.reset()
    yield running
    running.control.set_webhook(None)


@pytest.fixture
def control(sandbox: SandboxProcess) -> Control:
    return sandbox.control


@pytest.fixture
def api(request: pytest.FixtureRequest, contract: Contract) -> stripe.StripeClient:
    """Every exchange is checked against the official OpenAPI file. For tests marked `live` also Stripe itself."""
    if getattr(request, "param", "offline") == "stripe":
        return live.client(contract)
    return client(request.getfixturevalue("sandbox"), contract)


@pytest.fixture
def lenient(sandbox: SandboxProcess, contract: Contract) -> stripe.StripeClient:
    return client(sandbox, contract, is_lenient=True)


@pytest.fixture
def wire(sandbox: SandboxProcess) -> Wire:
    return Wire(sandbox)


@pytest.fixture(scope="session")
def running_receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(running_receiver: Receiver, control: Control) -> Receiver:
    """A webhook endpoint that the account knows."""
    running_receiver.clear()
    control.set_webhook(running_receiver.url, WEBHOOK_SECRET)
    return running_receiver


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(8000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert [text for text in complaints if "status of 402" not in text and "status of 400" not in text] == []


@pytest.fixture(scope="session")
def host(running: SandboxProcess) -> Iterator[HostPage]:
    with HostPage(running.api_base, running.publishable_key) as host:
        yield host
