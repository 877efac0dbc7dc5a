"""The command line of every step: its parser, types of numbers, names of experiments, errors in one line."""

import argparse
import difflib
import errno
import math
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hemoct.base import experiments, limits
from hemoct.base.errors import UserError, one_line
from hemoct.base.runs import step_name
from hemoct.base.workspace import REFERENCE, REPOSITORY, Workspace

LONGEST_WORD = 4096  # letters of a path; a cell of a broken table may have millions
NOT_WRITABLE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG}
FILE_SUFFIX = re.compile(r"(?<=.)\.[A-Za-z]\w*$")
"""of a file's name; that of a folder may end in a number, `lr0.001`"""
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")
"""what torch says of a GPU, and of a CPU, in errors that have no class of their own"""
SPEAKS = 5  # s that the first process has for its message


class Parser(argparse.ArgumentParser):
    """A step's parser, which remembers what hemoct.base.options says of its flags."""

    flags: tuple[str, ...] = ()
    """of the step that runs"""

    several = False
    """whether it may run in several processes, by torchrun"""

    def __init__(self, **options: Any) -> None:
        self.named: dict[str, Any] = {}
        """how a flag shows in the name of an experiment, in this order"""
        self.predicting: set[str] = set()
        """flags that have no say in what is trained"""
        super().__init__(**options)

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of each flag."""
        return {action.dest: action.default for action in self._actions}

    def error(self, message: str) -> NoReturn:
        if follows():
            leave()
        self.exit(2, f"{self.prog}: {message}{self._near(message)}; --help lists the flags\n")

    def _near(self, message: str) -> str:
        """` (did you mean --epochs?)` where the message is about a flag that is nearly one of ours."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        near = difflib.get_close_matches(unknown, known, n=1) if unknown.startswith("--") and unknown not in known else []
        return f" (did you mean {near[0]}?)" if near else ""


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The docstring as it stands, and the default of each flag that has one to speak of."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, {}) else super()._get_help_string(action)


def parser(doc: str | None) -> Parser:
    """Start a step's parser: its docstring is the help text, the flags that every step has are in it."""
    made = Parser(description=doc, formatter_class=_Help, allow_abbrev=False)
    group = made.add_argument_group("every step")
    group.add_argument("--dataset", default="phe-sich", metavar="NAME", help="data/raw/NAME, data/work/NAME, outputs/NAME")
    group.add_argument("--root", type=Path, default=REPOSITORY, metavar="DIR", help="folder that holds data/ and outputs/")
    group.add_argument("--seed", type=whole_number, default=42, help="seed of everything random")
    group.add_argument("--max-megapixels", type=positive_float, default=limits.DEFAULT, metavar="N",
                       help=f"largest image that is read; a scan may hold {limits.VOLUME} bytes a pixel of it")  # fmt: skip
    made.predicting.add("max_megapixels")
    group.add_argument("--skip-if-done", action="store_true", help="do nothing when the run record says ok for this call")
    return made


def parse(made: Parser, argv: list[str] | None, step: str) -> argparse.Namespace:
    """Parse flags and remember the command as a person would type it. `step` is the caller's `__file__`."""
    words = sys.argv[1:] if argv is None else argv
    made.prog = Path(step).name
    home = Path(step).resolve().parents[1]
    if home != REPOSITORY and (home / "scripts" / "hemoct").is_dir():
        made.error(f"this step lies in {home}, but Python takes hemoct from {REPOSITORY}; run: pip install -e {home} --no-deps")
    args = made.parse_args(words)
    if processes() > 1 and not made.several:
        made.error("this step runs in one process; start it with python, not with torchrun")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", args.dataset):
        made.error(f"--dataset {args.dataset[:200]!r} is not a plain name (up to 100 letters, digits, '.', '_', '-')")
    if args.dataset.lower() == REFERENCE:
        made.error(f"--dataset {args.dataset}: outputs/{REFERENCE} holds published results; choose another name")
    Parser.flags = tuple(made._option_string_actions)
    _, portable = taken(words, "--root")
    args.command = f"python {step_name(step)} {shlex.join(portable)}".rstrip()
    args.root = args.root.expanduser().resolve()
    limits.megapixels = args.max_megapixels
    args.defaults, args.predicting = made.defaults, made.predicting
    return args


def processes() -> int:
    """How many processes torchrun started for this call; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def follows() -> bool:
    """Whether another process of the same call, the first, speaks for this one."""
    return processes() > 1 and os.environ.get("RANK") != "0"


def leave() -> NoReturn:
    """End a process that follows another: silently, and after it has spoken, since torchrun stops all as soon as one ends."""
    time.sleep(SPEAKS)
    raise SystemExit(2)


def taken(words: list[str], *flags: str) -> tuple[argparse.Namespace, list[str]]:
    """The values of some `flags` in the words of a command, and the other words less --skip-if-done."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in flags:
        made.add_argument(flag, action="append")
    values, others = made.parse_known_args(words)
    return values, [word for word in others if word != "--skip-if-done"]


def add_experiment_flags(made: Parser) -> argparse._ArgumentGroup:
    """The flags of a step that trains: where its results go."""
    group = made.add_argument_group("experiment")
    group.add_argument("--experiment", metavar="NAME", help="folder of the results; default: named by the flags that differ "
                       "from their defaults")  # fmt: skip
    group.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    return group


def experiment_name(made: Parser, args: argparse.Namespace, base: str) -> str:
    """Name an experiment by what differs from the defaults: `resnet18-scratch-128px-augment`. --experiment overrides it.

    How a flag shows is said where it is declared (hemoct.base.options). A path stops: outputs have one place.
    """
    if args.experiment:
        return experiments.new_name("--experiment", args.experiment)
    changed = {name: value for name in made.named if (value := getattr(args, name)) != args.defaults[name]}
    words = [base, *(_in_name(value, made.named[name]) for name, value in changed.items())]
    return experiments.new_name("--experiment", "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", word) for word in words))


def _in_name(value: Any, named: str | dict[Any, str]) -> str:
    """A flag's value as a name shows it: `1-2.5` or `A-B` of a list, `SAH3` or `SAH-strong` of a dictionary, else as it is."""
    if isinstance(named, dict):
        return named[value] if value in named else named.get("", "{}").format(FILE_SUFFIX.sub("", Path(str(value)).name))
    if isinstance(value, dict):
        value = "-".join(f"{key}-{item}" if isinstance(item, str) else f"{key}{item}" for key, item in value.items())
    elif isinstance(value, list):
        value = "-".join(item if isinstance(item, str) else f"{item:g}" for item in value)
    return named.format(value)


def say_next(work: Workspace, step: str, *words: str) -> None:
    """The last line of a step: the command that follows, for the same data in the same place."""
    print(f"Next: {work.command(step, *words)}")


def _number(kind: type, fits: Callable[[Any], bool], words: str) -> Callable[[str], Any]:
    """A type for argparse whose error says in plain words what is allowed."""

    def parsed(text: str) -> Any:
        try:
            value = None if "_" in text else kind(text)  # Python takes 1_0 for 10
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return parsed


whole_number = _number(int, lambda value: value >= 0, "a whole number from 0 up")
positive_int = _number(int, lambda value: value > 0, "a whole number above 0")
above_one = _number(int, lambda value: value > 1, "a whole number above 1: batch normalisation averages over a batch")
positive_float = _number(float, lambda value: math.isfinite(value) and value > 0, "a number above 0")
number_from_0 = _number(float, lambda value: math.isfinite(value) and value >= 0, "a number from 0 up")
share_above_0 = _number(float, lambda value: 0 < value <= 1, "a number above 0, up to 1")
share = _number(float, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def names(text: str) -> list[str]:
    """A type for argparse: `A,B` as a list; a name twice is a mistake, for of YOLO classes the place is the number."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or len(set(words)) < len(words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different names (A,B)")
    return words


def pairs(text: str) -> dict[str, str]:
    """A type for argparse: `A=B,C=D` as a dictionary."""
    words = [tuple(word.strip() for word in pair.split("=")) for pair in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in words) or len(dict(words)) < len(words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of old and new names (A=B,C=D)")
    return dict(words)


def by_task(text: str) -> dict[int, str]:
    """A type for argparse: experiments of tasks, `1=resnet18,3=unet`."""
    named = pairs(text)
    if other := named.keys() - set(map(str, experiments.FOLDERS)):
        raise argparse.ArgumentTypeError(f"{min(other)!r} is no task; there are {', '.join(map(str, experiments.FOLDERS))}")
    return {int(task): name for task, name in named.items()}


def widths(text: str) -> list[int]:
    """A type for argparse: `128,64` as a list of whole numbers above 0."""
    return [positive_int(word) for word in text.split(",")]


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run a step's `main`: what a user can mend ends in one line and exit code 2, a bug in a traceback and 1."""
    if getattr(signal.getsignal(signal.SIGINT), "__name__", "") == "stopped":  # that of environment.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        if follows():
            leave()
        stop(str(error))
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as the shell says it; 0 would pass for a finished step
    except OSError as error:
        while error.errno is None and isinstance(error.__context__, OSError):  # pydicom words errors of the disk anew
            error = error.__context__
        if error.errno == errno.ENAMETOOLONG:
            stop(f"{error.filename}: the name is too long, disks take 255 bytes (a letter has up to 4); give a shorter one")
        if error.errno not in NOT_WRITABLE:
            raise
        stop(
            f"{error.filename or 'the output'} cannot be read or written: {error.strerror}; mend its permissions, "
            "free the disk or choose another (--root DIR), and run the same command again"
        )
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        lower = [flag for flag in ("--batch-size", "--image-size") if flag in Parser.flags]
        remedy = f"lower {' or '.join(lower)}, or close" if lower else "close"
        stop(f"the memory is full ({one_line(error)}); {remedy} other programs")
    except KeyboardInterrupt:
        stop("stopped by the keyboard", code=130)


def stop(message: str, code: int = 2) -> NoReturn:
    """Say why in one line and end the process."""
    short = re.sub(rf"(\S{{{LONGEST_WORD // 2}}})\S{{{LONGEST_WORD},}}", r"\1...", " ".join(message.split()))
    print(f"{Path(sys.argv[0]).name}: {_in_same_root(short)}", file=sys.stderr)
    raise SystemExit(code)


def _in_same_root(message: str) -> str:
    """A remedy's commands with the --root of this call: without it they would work elsewhere."""
    roots = taken(sys.argv[1:], "--root")[0].root
    if roots is None:
        return message
    return re.sub(r"\bpython \S+\.py\b", lambda command: f"{command[0]} --root {shlex.quote(roots[-1])}", message)
