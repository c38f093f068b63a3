"""The sandbox keeps its own small parameter tables; Stripe's own file proves each line of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.stripe_sandbox import params
from tests.stripe_sandbox.routes import ROUTES, Route

from .contract import Contract

NAMES = [f"{route.method} {route.path}" for route in ROUTES]


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_supported_parameters_exist_at_stripe(route: Route, contract: Contract) -> None:
    schema = contract.request_schema(route.method, route.path)
    assert set(route.params.fields) <= set(schema["properties"])
    for name, field in route.params.fields.items():
        assert list(_disagreements(name, field, schema["properties"][name])) == []


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_what_stripe_requires_is_required(route: Route, contract: Contract) -> None:
    required = set(contract.request_schema(route.method, route.path).get("required", []))
    assert required <= set(route.params.required)


def _disagreements(name: str, field: params.Field, schema: dict[str, Any]) -> Iterator[str]:
    options = schema.get("anyOf", [schema])
    kinds = {option.get("type") for option in options}
    if getattr(field, "clearable", False) and kinds - {"string"} and not _allows_empty(options):
        yield f"{name} cannot be cleared"
    match field:
        case params.Integer() | params.Boolean():
            if {params.Integer: "integer", params.Boolean: "boolean"}[type(field)] not in kinds:
                yield f"{name} is {kinds}"
        case params.OneOf():
            known = {value for option in options for value in option.get("enum", [])}
            if not set(field.choices) <= known:
                yield f"{name} knows only {known}"
        case params.Text():
            longest = max(option.get("maxLength", 5000) for option in options if option.get("type") == "string")
            # The currency is a three-letter code by its format, not by its length.
            if field.maximum > longest and schema.get("format") != "currency":
                yield f"{name} has at most {longest} characters"
        case params.ListOf():
            item = next(option["items"] for option in options if option.get("type") == "array")
            yield from _disagreements(f"{name}[]", field.item, item)
        case params.Hash():
            inner = next(option for option in options if "properties" in option)
            if not set(inner.get("required", [])) <= set(field.required):
                yield f"{name} requires {inner['required']}"
            for key, item in field.fields.items():
                if key not in inner["properties"]:
                    yield f"{name}[{key}] does not exist"
                else:
                    yield from _disagreements(f"{name}[{key}]", item, inner["properties"][key])


def _allows_empty(options: list[dict[str, Any]]) -> bool:
    return any("" in option.get("enum", []) for option in options)
