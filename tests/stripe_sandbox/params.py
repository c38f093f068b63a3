"""Typed request parameters. Form strings come in; checked Python values, or Stripe's complaint, go out.

An endpoint lists what it supports as a `Params` table (see tables.py). Anything else is an unknown
parameter, also where real Stripe knows it: a stand-in that quietly ignored one would hide a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from .errors import StripeError, invalid_request

_INTEGER = re.compile(r"^-?\d+$")


class Field(Protocol):
    def read(self, name: str, value: Any) -> Any: ...


@dataclass(frozen=True)
class Integer:
    minimum: int | None = None
    maximum: int | None = None

    def read(self, name: str, value: Any) -> int:
        if not isinstance(value, str) or not _INTEGER.match(value):
            raise _invalid(f"Invalid integer: {value}", "parameter_invalid_integer", name)
        number = int(value)
        if self.minimum is not None and number < self.minimum:
            raise _invalid(
                f"This value must be greater than or equal to {self.minimum}.", "parameter_invalid_integer", name
            )
        if self.maximum is not None and number > self.maximum:
            raise _invalid(
                f"This value must be less than or equal to {self.maximum} (it currently is '{number}').",
                "parameter_invalid_integer",
                name,
            )
        return number


@dataclass(frozen=True)
class Boolean:
    def read(self, name: str, value: Any) -> bool:
        if value not in ("true", "false"):
            raise _invalid(f"Invalid boolean: {value}", None, name)
        return bool(value == "true")


@dataclass(frozen=True)
class Text:
    maximum: int = 5000
    clearable: bool = False

    def read(self, name: str, value: Any) -> str | None:
        if not isinstance(value, str):
            raise _invalid("Invalid string: expected a plain value.", None, name)
        if value == "":
            _must_be_clearable(name, self.clearable)
            return None
        if len(value) > self.maximum:
            raise _invalid(
                f"Invalid string: {value[:12]}...{value[-4:]}; must be at most {self.maximum} characters",
                "parameter_invalid_string",
                name,
            )
        return value


@dataclass(frozen=True)
class OneOf:
    choices: tuple[str, ...]
    clearable: bool = False

    def read(self, name: str, value: Any) -> str | None:
        if value == "":
            _must_be_clearable(name, self.clearable)
            return None
        if value not in self.choices:
            listed = ", ".join(self.choices[:-1]) + " or " + self.choices[-1] if self.choices[1:] else self.choices[0]
            raise _invalid(f"Invalid {name}: must be one of {listed}", None, name)
        return str(value)


@dataclass(frozen=True)
class ListOf:
    item: Field
    maximum: int = 100

    def read(self, name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _invalid("Invalid array", None, name)
        if len(value) > self.maximum:
            raise _invalid(f"Array too long; maximum {self.maximum}", None, name)
        return [self.item.read(f"{name}[{position}]", item) for position, item in enumerate(value)]


@dataclass(frozen=True)
class Hash:
    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    clearable: bool = False

    def read(self, name: str, value: Any) -> dict[str, Any] | None:
        if value == "":
            _must_be_clearable(name, self.clearable)
            return None
        if not isinstance(value, dict):
            raise _invalid("Invalid object", None, name)
        return _read_fields(self.fields, self.required, value, name)


@dataclass(frozen=True)
class Metadata:
    """At most 50 keys of 40 characters with values of 500 (docs.stripe.com/api/metadata)."""

    clearable: bool = True
    KEYS: ClassVar[int] = 50
    KEY_LENGTH: ClassVar[int] = 40
    VALUE_LENGTH: ClassVar[int] = 500

    def read(self, name: str, value: Any) -> dict[str, str] | None:
        if value == "":
            _must_be_clearable(name, self.clearable)
            return None
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise _invalid("Metadata must be a hash of key-value pairs.", None, name)
        if len(value) > self.KEYS:
            raise _invalid(
                f"Metadata cannot have more than {self.KEYS} keys (you passed {len(value)}).", "too_many_keys", name
            )
        for key, item in value.items():
            if len(key) > self.KEY_LENGTH:
                raise _invalid(
                    f"Metadata keys can be at most {self.KEY_LENGTH} characters long. "
                    f"Your key '{key}' is {len(key)} characters long.",
                    None,
                    name,
                )
            if len(item) > self.VALUE_LENGTH:
                raise _invalid(
                    f"Metadata values can have up to {self.VALUE_LENGTH} characters, but you passed in a value that "
                    f"is {len(item)} characters. Invalid value: {item[:12]}...",
                    None,
                    f"{name}[{key}]",
                )
        return dict(value)


@dataclass(frozen=True)
class Created:
    """`created=123` or `created[gte]=123&created[lt]=456`."""

    COMPARISONS: ClassVar[tuple[str, ...]] = ("gt", "gte", "lt", "lte")

    def read(self, name: str, value: Any) -> dict[str, int]:
        if isinstance(value, dict):
            return _read_fields({word: Integer() for word in self.COMPARISONS}, (), value, name)
        number = Integer().read(name, value)
        return {"gte": number, "lte": number}


@dataclass(frozen=True)
class Params:
    fields: Mapping[str, Field] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def read(self, given: dict[str, Any]) -> dict[str, Any]:
        return _read_fields(self.fields, self.required, given, "")


def _read_fields(
    fields: Mapping[str, Field], required: tuple[str, ...], given: dict[str, Any], within: str
) -> dict[str, Any]:
    def path(name: str) -> str:
        return f"{within}[{name}]" if within else name

    unknown = [path(name) for name in given if name not in fields]
    if unknown:
        plural = "s" if unknown[1:] else ""
        raise _invalid(f"Received unknown parameter{plural}: {', '.join(unknown)}", "parameter_unknown", unknown[0])
    for name in required:
        if name not in given:
            raise _invalid(f"Missing required param: {path(name)}.", "parameter_missing", path(name))
    return {name: fields[name].read(path(name), value) for name, value in given.items()}


def _must_be_clearable(name: str, clearable: bool) -> None:
    if not clearable:
        raise _invalid(
            f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty "
            "value.",
            "parameter_invalid_empty",
            name,
        )


def _invalid(message: str, code: str | None, name: str) -> StripeError:
    return invalid_request(message, code=code, param=name)
