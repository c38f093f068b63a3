"""Unfold's decorators, with types: what they decorate keeps its own."""

from collections.abc import Callable
from typing import Any, TypeVar

from unfold.decorators import action as untyped_action
from unfold.decorators import display as untyped_display

Method = TypeVar("Method", bound=Callable[..., Any])


def display(**options: Any) -> Callable[[Method], Method]:
    """A column or a read-only field."""
    return untyped_display(**options)


def action(**options: Any) -> Callable[[Method], Callable[..., Any]]:
    """A button on a row's own page; with `dialog=…` it asks first and is sent by POST."""
    return untyped_action(**options)
