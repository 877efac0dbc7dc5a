"""Options of a step as small frozen dataclasses: a flag is written once, as a field with its default, help and short name.

@dataclass(frozen=True, kw_only=True)
class Training:
    epochs: int = flag(20, "passes over the training slices", type=positive_int, named="{}ep")

options.add(parser, Training, "training", epochs=5)     # the flags, here with another default
training = options.read(args, Training)                 # what was given, never changed afterwards

All options of a step are a dataclass of such parts: `training: Training = options.part("training", epochs=5)`, `options.add_all`.
"""

import argparse
from collections.abc import Iterable
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from hemoct.base.cli import Parser

Options = TypeVar("Options")


def flag(default: Any, help: str, named: Any = None, trains: bool = True, **of_argparse: Any) -> Any:
    """A field of an options dataclass that is a flag of a step; False as its default makes it a switch.

    `named`: how a value other than the default shows in the name of an experiment: a format (`{}ep`), or a dictionary of words,
    in which "" holds the format of all other values. `trains`: whether it has a say in what is trained, so that a training is
    not resumed with another value. The rest goes to argparse: type, choices, metavar, nargs.
    """
    kept = {"default_factory": default.copy} if isinstance(default, dict | list) else {"default": default}
    if default is False:
        of_argparse["action"] = "store_true"
    return field(**kept, metadata={"named": named, "trains": trains, "argparse": {"help": help, **of_argparse}})


def part(title: str, without: Iterable[str] = (), **changes: Any) -> Any:
    """A field that holds an options dataclass; `title`: of its group in --help; the rest as in `add`."""
    return field(metadata={"title": title, "without": without, "changes": changes})


def add_all(parser: Parser, kind: type, without: Iterable[str] = (), **changes: Any) -> None:
    """Add the flags of every part of a dataclass, see `part`; `without` and `changes`: what is other in this step alone."""
    kinds = get_type_hints(kind)
    for one in fields(kind):
        of_part = one.metadata
        add(parser, kinds[one.name], of_part["title"], (*of_part["without"], *without), **of_part["changes"] | changes)


def add(parser: Parser, kind: type, title: str, without: Iterable[str] = (), **changes: Any) -> argparse._ArgumentGroup:
    """Add the flags of an options dataclass to a parser, in a group of their own or one that is there; returns the group.

    `without`: fields that are no flags of this step. `changes`: another default of a field, or a dictionary of what argparse is
    to be told otherwise.
    """
    group = next((group for group in parser._action_groups if group.title == title), None) or parser.add_argument_group(title)
    for one in fields(kind):
        if "argparse" not in one.metadata or one.name in without:
            continue
        if one.name not in parser.defaults:  # --seed, say, is a flag of every step
            change = changes.get(one.name, {})
            change = change if isinstance(change, dict) else {"default": change}
            default = one.default if one.default_factory is MISSING else one.default_factory()
            group.add_argument(f"--{one.name.replace('_', '-')}", **{"default": default} | one.metadata["argparse"] | change)
        if one.metadata["named"] is not None:
            parser.named[one.name] = one.metadata["named"]
        if not one.metadata["trains"]:
            parser.predicting.add(one.name)
    return group


def read(args: argparse.Namespace, kind: type[Options]) -> Options:
    """The options of a call; a field that is no flag of the step keeps its default, one that holds options is read like these."""
    parts = {name: read(args, of) for name, of in get_type_hints(kind).items() if is_dataclass(of)}
    given = {one.name: getattr(args, one.name) for one in fields(kind) if hasattr(args, one.name)}
    return kind(**given | parts)
