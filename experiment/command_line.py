"""Reading a config: `CONFIG.yaml [--section.key value …]` becomes a checked Config, or an error that names the key."""

import difflib
import re
import typing
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from errors import InputError
from experiment.config import LONGEST_AXIS, SECTIONS, Config, SweepConfig, check, keys, shown
from files import open_regular

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


LARGEST_FILE = 2**20
"""Bytes of a config; far above any."""


def parse(
    argv: Sequence[str], prog: str, description: str, epilog: str, extra: Sequence[tuple[str, dict]] = ()
) -> tuple[Config, Namespace]:
    """Read `CONFIG.yaml [--section.key value …]` and the program's own options.

    Args:
        extra: the program's own options, as (flag, keyword arguments of add_argument).

    Returns:
        (Config, namespace): the checked configuration, and the values of the program's own options.

    Raises:
        InputError: names the key, says what is wrong and what would do.
        SystemExit: 0, after --help.
    """
    parser = _parser(prog, description, epilog, extra)
    arguments = [_bracket_list(argv, i) for i in range(len(argv))]
    try:
        given = parser.parse_args(arguments)
    except _argument_errors() as error:
        raise InputError(_explain(str(error), "command line")) from None
    values = _read_yaml(given.config)
    try:
        merged = parser.parse_args(arguments, namespace=parser.parse_object({"config": given.config, **values}))
    except _argument_errors() as error:
        raise InputError(_explain(str(error), given.config)) from None
    if merged.model.init is not None:
        return _started_from(merged, given, values, arguments, parser)
    config = _config(merged)
    check(config)
    return config, merged


def _config(merged: Namespace) -> Config:
    return Config(name=merged.name, **{s: cls(**vars(merged[s])) for s, cls in SECTIONS.items()})


def _started_from(
    merged: Namespace, given: Namespace, values: dict, arguments: list[str], parser: "ArgumentParser"
) -> tuple[Config, Namespace]:
    """The Config of runs that start from a GPT-2: its shape stands where the config leaves a key out."""
    from experiment.pretrained import apply_init, check_init, open_pretrained

    source = open_pretrained(merged.model.init)
    shape = apply_init(values.get("model") or {}, source, heads_given=bool(merged.sweep.n_head))
    values = {"config": given.config, **values, "model": shape}
    merged = parser.parse_args(arguments, namespace=parser.parse_object(values))
    config = _config(merged)
    check_init(config.model, source)
    check(config)
    return config, merged


def _argument_errors() -> tuple[type[Exception], ...]:
    from argparse import ArgumentError

    from jsonargparse import ArgumentError as TypedArgumentError

    return ArgumentError, TypedArgumentError, ValueError, OverflowError  # the last two: an integer beyond everything


def _parser(prog: str, description: str, epilog: str, extra: Sequence[tuple[str, dict]]) -> "ArgumentParser":
    from docstring_parser import parse_from_object
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter):
        def add_usage(
            self, usage: Any, actions: Any, groups: Any, prefix: str | None = None
        ) -> None:  # a screenful of every key helps nobody
            super().add_usage(f"{prog} CONFIG.yaml [--section.key value ...]", actions, groups, prefix)

    parser = ArgumentParser(
        prog=prog, description=description, epilog=epilog, exit_on_error=False, formatter_class=Formatter
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the experiment, a YAML file; see configs/")
    for flag, options in extra:
        parser.add_argument(flag, **options)
    parser.add_argument("--name", type=str, default=Config.name, help="name of the experiment: its folder is runs/NAME")
    for section, cls in SECTIONS.items():
        group = parser.add_argument_group(f"{section}: {cls.__doc__.splitlines()[0]}")
        documentation = {p.arg_name: p.description.replace("\n", " ") for p in parse_from_object(cls).params}
        default = cls()
        for name, hint in typing.get_type_hints(cls).items():
            short = ["--init"] if (section, name) == ("model", "init") else []
            group.add_argument(
                f"--{section}.{name}", *short, type=hint, default=getattr(default, name), help=documentation[name]
            )
    return parser


def _bracket_list(argv: Sequence[str], i: int) -> str:
    """`--sweep.n_head 1,4` means the list [1,4]."""
    listed = {f"--{key}" for key, hint in keys().items() if typing.get_origin(hint) is list}
    flag, equals, value = argv[i].partition("=")
    if not (flag in listed and equals):
        if not i or argv[i - 1] not in listed:
            return argv[i]
        flag, value = argv[i - 1], argv[i]
    if (count := value.count(",") + 1) > LONGEST_AXIS:
        raise InputError(f"command line: {flag} has {count:,} values; at most {LONGEST_AXIS:,}")
    listed_values = f"[{value.strip('[]')}]"
    return f"{flag}={listed_values}" if equals else listed_values


def _read_yaml(path: str) -> dict:
    try:
        with open_regular(Path(path)) as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError("larger than a config can be")
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise InputError(
            f"{path or repr(path)}: {reason}; give a YAML config, for instance configs/quickstart.yaml"
        ) from None
    try:
        values = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise InputError(
            f"{path}:{line} not valid YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
        ) from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{path}: a config is a mapping of sections ({', '.join(SECTIONS)}), not {shown(values)}")
    for key, section in values.items():
        if key in SECTIONS:
            if not isinstance(section, dict):
                raise InputError(f"{path}: {key} must be a mapping of keys to values, not {shown(section)}")
            for name, value in section.items():
                _known(f"{key}.{name}", path)
                if isinstance(value, list) and len(value) > LONGEST_AXIS:
                    raise InputError(f"{path}: {key}.{name} has {len(value):,} values; at most {LONGEST_AXIS:,}")
                if value is None and type(None) not in typing.get_args(keys()[f"{key}.{name}"]):
                    raise InputError(f"{path}: {key}.{name} has no value; it must be {_type_text(f'{key}.{name}')}")
        else:
            _known(str(key), path)
    return values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that is there twice: the first one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _known(key: str, where: str) -> None:
    if key in keys():
        return
    if key in SECTIONS:
        names = list(SECTIONS[key].__dataclass_fields__)
        raise InputError(f"{where}: {key} is a section; name a key of it, such as --{key}.{names[0]}")
    if "sweep." in key and f"model.{key.removeprefix('sweep.')}" in keys():
        raise InputError(
            f"{where}: {key} cannot be swept: it changes the shapes or the data; "
            f"sweep {', '.join(SweepConfig.__dataclass_fields__)}, or write one config for each value"
        )
    near = difflib.get_close_matches(key, [*keys(), *SECTIONS], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? (train.py --help lists every key)" if near else "train.py --help lists every key"
    raise InputError(f"{where}: unknown key {key}; {hint}")


def _explain(message: str, where: str) -> str:
    """One line for what the parser complains of."""
    if found := re.search(r'key "([\w.]+)"', message):
        value = re.search(r"(?:Got value|Given value): (.*)", message)
        got = shown(value.group(1).strip()) if value else "something else"
        return f"{where}: {found.group(1)} must be {_type_text(found.group(1))}, got {got}"
    if found := re.search(r"(?:unrecognized arguments|ambiguous option): *--([^\s=]+)", message):
        try:
            _known(found.group(1), where)
        except InputError as error:
            return str(error)
    if "required" in message and "config" in message:
        return "give a config, for instance: python train.py configs/quickstart.yaml"
    return f"{where}: {' '.join(message.split())[:300]}"


def _type_text(key: str) -> str:
    hint = keys().get(key, str)
    parts = [hint] if typing.get_origin(hint) in (None, list, Literal) else typing.get_args(hint)
    return " or ".join(_type_name(part) for part in parts)


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is list:
        return "a list of " + {int: "integers", float: "numbers"}[typing.get_args(hint)[0]]
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names[hint]
