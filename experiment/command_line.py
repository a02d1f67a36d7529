"""Reading a config: `CONFIG.yaml [--section.key value …]`, or values from Python, become a checked Config."""

import re
import typing
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from errors import ArgumentParser, InputError
from experiment.config import SECTIONS, Config, checked, flatten, from_values, keys, known
from experiment.values import add_options, join_lists
from files import open_regular
from terminal import command

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
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog} CONFIG.yaml [--section.key value ...]",  # a screenful of every key helps nobody
        description=description,
        epilog=epilog,
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG.yaml", nargs="?", help="the experiment, a YAML file; see configs/")
    for flag, options in extra:
        parser.add_argument(flag, **options)
    add_options(parser, Config)
    for section, cls in SECTIONS.items():
        group = parser.add_argument_group(f"{section}: {cls.__doc__.splitlines()[0]}")
        add_options(group, cls, f"{section}.", **({"init": "--init"} if section == "model" else {}))
    lists = {f"--{key}" for key, hint in keys().items() if list in map(typing.get_origin, typing.get_args(hint))}
    options, unknown = parser.parse_known_args(join_lists(argv, lists))
    for argument in unknown:
        if argument.startswith("--") and "." not in argument:
            parser.meant(argument, [flag for flag, _ in extra])
        if argument.startswith("--"):
            known(argument[2:].partition("=")[0], "command line")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.config is None:
        raise InputError(f"give a config, for instance: {command(prog, 'configs/quickstart.yaml')}")
    given = {key: value for key, value in vars(options).items() if key in keys()}
    return build(options.config, checked(given, "command line", from_text=True)), options


def build(config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """The Config of a YAML file, or of a mapping of sections, under `overrides`, checked values by dotted key.

    Where model.init names a GPT-2 to start from, that one's shape stands for the keys that are left out.

    Raises:
        InputError: names the key, says what is wrong and what would do.
    """
    where, held = ("config", config) if isinstance(config, Mapping) else (str(config), read_yaml(config))
    values = _as_sweep(checked(flatten(held, where), where), overrides)
    if values.get("model.init") is None:
        return from_values(values)
    from experiment.pretrained import apply_init, check_init, open_pretrained

    source = open_pretrained(values["model.init"])
    result = from_values(apply_init(values, source))
    check_init(result.model, source)
    return result


def _as_sweep(held: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Values under overrides; one value for what `held` sweeps, such as train.learning_rate, is a sweep of that one."""
    given = dict(overrides)
    for key in ("model.n_head", "train.learning_rate", "train.weight_decay"):
        axis = f"sweep.{key.partition('.')[2]}"
        if given.get(key) is not None and held.get(axis) and axis not in given:
            given[axis] = [given.pop(key)]
    return dict(held) | given


def read_yaml(path: str | Path) -> Any:
    """What a config's file holds. Raises InputError where it is no YAML."""
    try:
        with open_regular(Path(path)) as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError("larger than a config can be")
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise InputError(
            f"{str(path) or repr(path)}: {reason}; give a YAML config, for instance configs/quickstart.yaml"
        ) from None
    try:
        values = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        reason = getattr(error, "problem", None) or "cannot be read"
        raise InputError(f"{path}:{line} not valid YAML: {reason}") from None
    return {} if values is None else values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, that knows 1e-3 for a number, and refuses a key that is there twice: one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)
