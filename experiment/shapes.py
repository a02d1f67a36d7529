"""Whether values that were read back have the types that they were written with: others may have made the file."""

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON or YAML is of the type `hint`: int, float, str, bool, None, Any, list, dict, a union."""
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in of)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in of)
    if origin is list:
        return isinstance(value, list) and all(fits(item, of[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, of[0]) and fits(v, of[1]) for k, v in value.items())
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return hint is Any or (value is None if hint in (None, type(None)) else isinstance(value, hint))


def require(value: Any, hints: Mapping[str, Any], but: Any = Any) -> None:
    """Raises ValueError unless `value` is a mapping whose keys fit `hints`, and those that have none fit `but`."""
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    for key, held in value.items():
        if not fits(held, hints.get(key, but)):
            raise ValueError(f"{str(key)[:40]} is not what it can be")
