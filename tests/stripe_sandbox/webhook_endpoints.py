"""Webhook endpoints over the API, and what the Dashboard does with them: roll a secret, switch one off.

They are the same rows that deliveries read (webhooks.py), however they were made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import API_VERSION, lists
from .call import Call
from .errors import invalid_request, resource_missing
from .identifiers import new_id
from .metadata import merge
from .webhooks import ENDPOINTS

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
MOST = 16
LONGEST_OVERLAP_SECONDS = 24 * 3600


def create(sandbox: Sandbox, call: Call) -> Record:
    """The only answer that carries the secret."""
    params = call.params
    if len(sandbox.state.all(ENDPOINTS)) >= MOST:
        raise invalid_request(f"You have reached the maximum of {MOST} test webhook endpoints.")
    secret = new_id("whsec", 32)
    endpoint = sandbox.webhooks.set_endpoint(
        _checked(params["url"]),
        [secret],
        endpoint_id=new_id("we"),
        enabled_events=params["enabled_events"],
        api_version=params.get("api_version") or API_VERSION,
        description=params.get("description"),
        metadata=merge({}, params.get("metadata")),
        is_from_api=True,
    )
    assert endpoint
    return _public(endpoint) | {"secret": secret}


def retrieve(sandbox: Sandbox, endpoint_id: str) -> Record:
    return _public(find(sandbox, endpoint_id))


def update(sandbox: Sandbox, call: Call, endpoint_id: str) -> Record:
    endpoint, params = find(sandbox, endpoint_id), call.params
    if "url" in params:
        endpoint["url"] = _checked(params["url"])
    if "disabled" in params:
        endpoint["is_enabled"] = not params["disabled"]
    if "metadata" in params:
        endpoint["metadata"] = merge(endpoint["metadata"], params["metadata"])
    endpoint.update({name: params[name] for name in ("description", "enabled_events") if name in params})
    return _public(sandbox.state.save(ENDPOINTS, endpoint))


def delete(sandbox: Sandbox, call: Call, endpoint_id: str) -> Record:
    endpoint = find(sandbox, endpoint_id)
    sandbox.state.delete(ENDPOINTS, endpoint["id"])
    return {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}


def list_page(sandbox: Sandbox, call: Call) -> Record:
    page = lists.page(sandbox.state, ENDPOINTS, call.params, url="/v1/webhook_endpoints")
    return page | {"data": [_public(endpoint) for endpoint in page["data"]]}


def roll(sandbox: Sandbox, endpoint_id: str, *, overlap_seconds: float) -> Record:
    """A new secret; the old one goes on signing too, for at most a day, so that nobody misses an event."""
    if not 0 <= overlap_seconds <= LONGEST_OVERLAP_SECONDS:
        raise ValueError(f"an old secret stays for 0 to {LONGEST_OVERLAP_SECONDS} seconds")
    endpoint = find(sandbox, endpoint_id)
    valid_until = sandbox.clock.time() + overlap_seconds
    endpoint["old_secrets"] = [{"secret": secret, "valid_until": valid_until} for secret in endpoint["secrets"]]
    endpoint["secrets"] = [new_id("whsec", 32)]
    return sandbox.state.save(ENDPOINTS, endpoint)


def find(sandbox: Sandbox, endpoint_id: str) -> Record:
    endpoint = sandbox.state.get(ENDPOINTS, endpoint_id)
    if not endpoint:
        raise resource_missing("webhook endpoint", endpoint_id, param="id")
    return endpoint


def _public(endpoint: Record) -> Record:
    copied = ("id", "api_version", "created", "description", "enabled_events", "metadata", "url")
    return {name: endpoint[name] for name in copied} | {
        "object": "webhook_endpoint",
        "application": None,
        "livemode": False,
        "status": "enabled" if endpoint["is_enabled"] else "disabled",
    }


def _checked(url: str) -> str:
    """Real Stripe wants a public address with https; this one speaks to machines of its own network."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid_request(
            "Invalid URL: An explicit scheme (such as https) must be provided.", code="url_invalid", param="url"
        )
    return url
