"""Values and the types that they must have: in configs, on command lines, in Python calls, in files of any origin.

A type is an annotation, with bounds as pydantic has them (`Annotated[int, Field(gt=0)]`); a field's docstring is its
documentation. pydantic checks; what it finds is said in one line.
"""

import argparse
import ast
import inspect
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from itertools import islice, pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from errors import InputError

Count = Annotated[int, Field(gt=0)]
NotNegativeCount = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

LONGEST_LIST = 1000
BOUNDS = {
    "greater_than": "above {gt:,}",
    "greater_than_equal": "at least {ge:,}",
    "less_than": "below {lt:,}",
    "less_than_equal": "at most {le:,}",
    "finite_number": "finite",
    "too_long": "at most {max_length:,} values",
}
"""What pydantic finds out of bounds, and what the value must be then."""
NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false", types.NoneType: "null"}
RANGE = re.compile(r"(\d{1,18}):(\d{1,18})")


def typed(name: str, hint: Any, value: Any, where: str, from_text: bool = False) -> Any:
    """The value, which must be of type `hint`; from_text: the value is text of a command line, that means one.

    Raises:
        InputError: `where: name must be …, got …`.
    """
    given = _listed(value, hint) if from_text else list(value) if isinstance(value, tuple | range) else value
    if from_text and given == "null" and types.NoneType in typing.get_args(hint):
        return None
    try:
        found = _adapter(hint).validate_python(given, strict=not from_text)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        bound = next((p for p in problems if p["type"] in BOUNDS), None)
        must = BOUNDS[bound["type"]].format(**bound.get("ctx", {})) if bound else type_text(hint)
        got = bound["input"] if bound and not isinstance(bound["input"], list) else value
        form = {"a list of integers": ", such as 1,2,4 or 0:4"}.get(must, "") if from_text else ""
        raise InputError(f"{where}: {name} must be {must}{form}, got {shown(got)}") from None
    for item in found if isinstance(found, list) else [found]:
        if isinstance(item, int) and abs(item) >= 2**63:
            raise InputError(f"{where}: {name} must be below 2**63, as every integer")
        if isinstance(item, str) and "\0" in item:
            raise InputError(f"{where}: {name} holds a NUL character; leave it out")
    return found


def fits(value: Any, hint: Any) -> bool:
    """Whether a value that was read from JSON is of the type `hint`."""
    try:
        _adapter(hint).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def require(value: Any, hints: Mapping[str, Any], but: Any = Any) -> None:
    """Raises ValueError unless `value` is a mapping whose keys fit `hints`, and those that have none fit `but`."""
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    for key, held in value.items():
        if not fits(held, hints.get(key, but)):
            raise ValueError(f"{str(key)[:40]} is not what it can be")


def add_options(parser: argparse._ArgumentGroup, cls: type, prefix: str = "", **short: str) -> None:
    """An option `--prefix.field` for every documented field of a dataclass; absent where not given, else its text.

    short: another name of a field's option.
    """
    hints, default = typing.get_type_hints(cls), cls()
    for name, text in documentation(cls).items():
        flags = [f"--{prefix}{name}", *([short[name]] if name in short else [])]
        value = getattr(default, name)
        described = f"{text} ({type_text(hints[name])}; default: {shown(value).strip(chr(39))})".replace("%", "%%")
        switch = {"nargs": "?", "const": "true"} if hints[name] is bool else {}
        parser.add_argument(*flags, metavar="X", default=argparse.SUPPRESS, help=described, **switch)


def documentation(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, on one line."""
    body = ast.parse(inspect.getsource(cls)).body[0].body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def type_text(hint: Any) -> str:
    """A type as a sentence names it: `an integer or null`."""
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return type_text(of[0])
    if origin is Literal:
        return " or ".join(map(str, of))
    if origin is list:
        return f"a list of {type_text(of[0]).split()[-1]}s"
    return " or ".join(map(type_text, of)) if of else NAMES[hint]


def shown(value: Any) -> str:
    """A value as an error quotes it: never longer than a line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return repr(text) if isinstance(value, str) else text


def join_lists(argv: typing.Sequence[str], flags: set[str]) -> list[str]:
    """`--n_head 1 2 4` of the options `flags` becomes `--n_head=1,2,4`."""
    joined: list[str] = []
    for argument in argv:
        flag, equals, value = joined[-1].partition("=") if joined else ("", "", "")
        if flag in flags and re.fullmatch(r"[-+\[]?[\d.].*|,.*", argument):
            joined[-1] = f"{flag}={value},{argument}" if equals else f"{flag}={argument}"
        else:
            joined.append(argument)
    return joined


def _listed(text: str, hint: Any) -> Any:
    """The parts of a list's text, `1,2,4` or `[1,2,4]` or `0:4`; other text as it is."""
    while typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is not list:
        return text
    parts: list[Any] = []
    for part in filter(None, (part.strip() for part in text.strip("[] ").split(","))):
        bounds = RANGE.fullmatch(part)
        values = range(int(bounds[1]), int(bounds[2])) if bounds else ()
        parts += islice(values, LONGEST_LIST + 1) if values else [part]
    return parts


@cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint, config=None if is_typeddict(hint) else ConfigDict(allow_inf_nan=False))
