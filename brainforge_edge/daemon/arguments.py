"""What a request on the control socket carries, checked. Runs in: supervisor."""

from typing import Any

import msgspec

from brainforge_edge.core.errors import ConfigError


def text(request: dict[str, Any], key: str, *, is_needed: bool = False) -> str:
    """A text argument, "" if absent; ConfigError, also for a blank one that is needed."""
    value = request.get(key, "")
    if is_needed and isinstance(value, str) and not value.strip():
        raise ConfigError(
            "bad_argument",
            "the request was refused",
            why=f"{key} is empty",
            remedy="Give it some words",
        )
    if not isinstance(value, str) or len(value) > 1000:
        raise ConfigError(
            "bad_argument",
            "the request was refused",
            why=f"{key} must be text of at most 1000 characters",
            remedy="Correct that argument",
        )
    return value


def number(request: dict[str, Any], key: str, default: float, *, most: float) -> float:
    """A number from 0 to `most`; ConfigError."""
    value = request.get(key)
    if value is None:
        return default
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise ConfigError(
            "bad_argument",
            "the request was refused",
            why=f"{key} must be a number from 0 to {most:g}",
            remedy="Correct that argument",
        )
    return float(value)


def mapping(request: dict[str, Any], key: str) -> dict[str, Any]:
    """An object that can travel to a worker, {} if absent; ConfigError."""
    value = request.get(key, {})
    try:
        if isinstance(value, dict):
            msgspec.msgpack.encode(value)
            return value
        why = f"{key} must be an object"
    except (OverflowError, RecursionError):
        why = f"{key} must hold numbers of at most 64 bits, and not be nested too deeply"
    raise ConfigError(
        "bad_argument",
        "the request was refused",
        why=why,
        remedy="Correct that argument",
    )
