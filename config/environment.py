"""Reads settings from the environment and remembers what was wrong with them.

A wrong value must not stop `manage.py check` from naming it, so a value that cannot be parsed falls back to its
default here and is reported by `config.checks` as an error: every command that runs checks then refuses to start.
"""

from collections.abc import Callable
from typing import Any

from environs import Env, EnvError

env = Env()
mistakes: list[tuple[str, str]] = []


def read(parse: Callable[..., Any], name: str, default: Any, **options: Any) -> Any:
    """`parse` (a method of `env`) applied to variable `name`; empty counts as unset, as in .env files."""
    if not env.str(name, "").strip():
        return default
    try:
        value = parse(name, **options)
        return [entry.strip() for entry in value] if parse == env.list else value
    except (EnvError, ValueError) as error:
        mistakes.append((name, str(error)))
        return default
