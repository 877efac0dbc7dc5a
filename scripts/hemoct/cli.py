"""What every numbered step has in common: flags, workspace, errors in one line, run records, the up-to-date check."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.metadata
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hemoct import files

REPOSITORY = Path(__file__).resolve().parents[2]
# Flags that say how or where a step is run, not what it computes: they never make a finished step out of date.
NOT_RECORDED = {"root", "skip_if_done", "resume", "overwrite", "command", "defaults"}
NOT_COMPARED = {"fold", "device", "threads", "experiment"}
RECORDED_PACKAGES = (
    *("torch", "torchvision", "timm", "ultralytics", "pycocotools", "ensemble-boxes", "segmentation-models-pytorch", "monai"),
    *("numpy", "scipy", "pandas", "scikit-learn", "pillow"),
)
ANOTHER_NAME = "give another --experiment NAME, or --overwrite to replace it"
NOT_WRITABLE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}


class UserError(Exception):
    """A mistake that a user can mend. Shown as one line that names the file, the problem and the remedy; exit code 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The docstring as it stands, and the default of each flag that has one to speak of."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, {}) else super()._get_help_string(action)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Start a step's parser: its docstring is the help text, the flags that every step has are in it."""
    made = _Parser(description=doc, formatter_class=_Help, allow_abbrev=False)
    group = made.add_argument_group("every step")
    group.add_argument("--dataset", default="phe-sich", metavar="NAME", help="data/raw/NAME, data/work/NAME, outputs/NAME")
    group.add_argument("--root", type=Path, default=REPOSITORY, metavar="DIR", help="folder that holds data/ and outputs/")
    group.add_argument("--seed", type=whole_number, default=42, help="seed of everything random")
    group.add_argument("--skip-if-done", action="store_true", help="do nothing when the run record says ok for this call")
    return made


def parse(made: argparse.ArgumentParser, argv: list[str] | None, step: str) -> argparse.Namespace:
    """Parse flags and remember the command as a person would type it. `step` is the caller's `__file__`."""
    words = sys.argv[1:] if argv is None else argv
    made.prog = Path(step).name
    home = Path(step).resolve().parents[1]
    if home != REPOSITORY and (home / "scripts" / "hemoct").is_dir():
        made.error(f"this step lies in {home}, but Python takes hemoct from {REPOSITORY}; run: pip install -e {home} --no-deps")
    args = made.parse_args(words)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", args.dataset):
        made.error(f"--dataset {args.dataset!r} is not a plain name (letters, digits, '.', '_', '-')")
    args.command = f"python {step_name(step)} {shlex.join(_portable(words))}".rstrip()
    args.root = args.root.expanduser().resolve()
    args.defaults = {name: made.get_default(name) for name in vars(args)}
    return args


def _portable(words: list[str]) -> list[str]:
    """The words of a command less those that hold only for this call or this machine."""
    kept = []
    following = iter(words)
    for word in following:
        if word == "--root":
            next(following)
        elif word != "--skip-if-done" and not word.startswith("--root="):
            kept.append(word)
    return kept


def experiment_name(made: argparse.ArgumentParser, args: argparse.Namespace, base: str, named: dict[str, Any]) -> str:
    """Name an experiment by what differs from the defaults: `resnet18-scratch-128px-augment`. --experiment overrides it.

    `named` maps a flag to a format, or to a dictionary of words for some of its values. A path stops: outputs have one place.
    """
    if args.experiment:
        if args.experiment in (".", "..") or Path(args.experiment).name != args.experiment:
            raise UserError(f"--experiment {args.experiment}: give the name of a folder, no path")
        return args.experiment
    words = [base]
    for flag, shown in named.items():
        value = getattr(args, flag)
        if value != made.get_default(flag):
            word = shown.get(value, Path(str(value)).stem) if isinstance(shown, dict) else shown.format(_in_name(value))
            words.append(re.sub(r"[^A-Za-z0-9._-]+", "_", word))
    return "-".join(words)


def _in_name(value: Any) -> Any:
    """A flag's value as a name shows it: `1-2.5` or `A-B` of a list, `SAH3` or `SAH-strong` of a dictionary, else as it is."""
    if isinstance(value, dict):
        return "-".join(f"{key}-{item}" if isinstance(item, str) else f"{key}{item}" for key, item in value.items())
    if isinstance(value, list):
        return "-".join(item if isinstance(item, str) else f"{item:g}" for item in value)
    return value


def step_name(step: str | Path) -> str:
    """`scripts/05_make_splits.py`, however the step was called."""
    return "/".join(Path(step).resolve().parts[-2:])


def _number(kind: type, fits: Callable[[Any], bool], words: str) -> Callable[[str], Any]:
    """A type for argparse whose error says in plain words what is allowed."""

    def parsed(text: str) -> Any:
        try:
            value = kind(text)
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
share = _number(float, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def names(text: str) -> list[str]:
    """A type for argparse: `A,B` as a list; a name twice is a mistake, for of YOLO classes the place is the number."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or len(set(words)) < len(words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different names (A,B)")
    return words


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run a step's `main`: what a user can mend ends in one line and exit code 2, a bug in a traceback and 1."""
    try:
        main()
    except UserError as error:
        _stop(str(error))
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as the shell says it; 0 would pass for a finished step
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        _stop(
            f"{error.filename or 'the output'} cannot be read or written: {error.strerror}; mend its permissions, "
            "free the disk or choose another (--root DIR), and run the same command again"
        )
    except KeyboardInterrupt:
        _stop("stopped by the keyboard", code=130)


def _stop(message: str, code: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {_in_same_root(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(code)


def _in_same_root(message: str) -> str:
    """A remedy's commands with the --root of this call: without it they would work elsewhere."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    made.add_argument("--root")
    root = made.parse_known_args(sys.argv[1:])[0].root
    if root is None:
        return message
    return re.sub(r"\bpython \S+\.py\b", lambda command: f"{command[0]} --root {shlex.quote(root)}", message)


@dataclass(frozen=True)
class Workspace:
    """Where the files of one data set lie. The only place that spells out folder names."""

    root: Path
    dataset: str

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw" / self.dataset

    @property
    def work(self) -> Path:
        return self.root / "data" / "work" / self.dataset

    @property
    def cache(self) -> Path:
        return self.work / "cache"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs" / self.dataset

    @property
    def reference(self) -> Path:
        return self.root / "outputs" / "reference" / self.dataset

    def task(self, number: int) -> Path:
        return self.outputs / f"task{number}"

    def need(self, path: Path, made_by: str) -> Path:
        """Return `path`, or stop with the command that makes it. `made_by`: `scripts/03_make_labels.py`."""
        if not path.exists():
            raise UserError(f"{self.show(path)} is missing; make it with: python {made_by} --dataset {self.dataset}")
        return path

    def show(self, path: Path) -> str:
        """A path as short as it can be read: relative to the root where it lies below it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def workspace(args: argparse.Namespace) -> Workspace:
    return Workspace(args.root, args.dataset)


class Run:
    """The run record of a step, `FOLDER/NN_verb_noun.run.json`, and the check whether it has to run at all.

    run = cli.Run(__file__, args, folder=work.work, inputs=[labels_csv])
    if run.up_to_date():
        return
    with run:
        run.wrote(tables.write_splits(work, frame))
    """

    def __init__(self, step: str, args: argparse.Namespace, folder: Path, inputs: Iterable[Path]) -> None:
        self.path = folder / f"{Path(step).stem}.run.json"
        self.root = args.root
        self._skip = args.skip_if_done
        self._resumes = getattr(args, "resume", False)
        self._defaults = getattr(args, "defaults", {})
        arguments = {name: _plain(value) for name, value in sorted(vars(args).items()) if name not in NOT_RECORDED}
        self.record: dict[str, Any] = {
            "step": step_name(step),
            "command": args.command,
            "status": "unfinished",
            "arguments": arguments,
            "inputs": {self._relative(path): files.fingerprint(path) for path in inputs},
            "outputs": [],
            "seed": args.seed,
        }

    def up_to_date(self) -> bool:
        """True (and one line) under --skip-if-done when an equal run ended well and its outputs are still there."""
        done = self._skip and self.is_done()
        if done:
            print(f"up to date: {self._relative(self.path)}")
        return done

    def is_done(self) -> bool:
        """Whether an equal run, with the same flags and inputs, ended well and its outputs are still there."""
        if not self.path.is_file():
            return False
        old = files.read_json(self.path)
        return self._equals(old) and old["status"] == "ok" and all((self.root / path).exists() for path in old["outputs"])

    def _equals(self, old: dict[str, Any]) -> bool:
        return not self._changed(old) and old["inputs"] == self.record["inputs"]

    def stop_if_other(self, remedy: str) -> None:
        """Stop, with a remedy, rather than write over a finished run that had other flags."""
        if not self.path.is_file():
            return
        old = files.read_json(self.path)
        changed = self._changed(old)
        if old["status"] == "ok" and changed:
            raise UserError(
                f"{self._relative(self.path.parent)} holds a finished run with other flags ({', '.join(changed)}); {remedy}"
            )

    def _changed(self, old: dict[str, Any]) -> list[str]:
        """The flags, with their old values, in which an older record differs from this one.

        A flag that the step has got since had its default then.
        """
        now = self.record["arguments"]
        before = {name: _plain(self._defaults.get(name)) for name in now} | old["arguments"]
        names = sorted((before.keys() | now.keys()) - NOT_COMPARED)
        return [f"--{name.replace('_', '-')} {before.get(name)}" for name in names if before.get(name) != now.get(name)]

    def note(self, **facts: Any) -> None:
        """Add facts to the record, e.g. the device that was taken."""
        self.record.update(facts)

    def wrote(self, *paths: Path) -> None:
        """Name files that this run made."""
        self.record["outputs"] += [self._relative(path) for path in paths]

    def __enter__(self) -> Run:
        self._start = time.monotonic()
        self.record |= {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **_code_version(), "python": platform.python_version()}
        self.record["packages"] = {name: _version(name) for name in RECORDED_PACKAGES}
        if self._resumes and self.path.is_file():
            old = files.read_json(self.path)
            if self._equals(old):  # what it took until now belongs to what is gone on with
                until_now = {name: old.get(name) for name in ("started", "git_commit", "git_dirty", "wall_s")}
                self.record["earlier"] = [*old.get("earlier", []), until_now]
        files.write_json(self.path, self.record)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.record["wall_s"] = round(time.monotonic() - self._start, 1)
        if kind is None:
            self.record["status"] = "ok"
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():  # the disk may be what it failed at
            files.write_json(self.path, self.record)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def due(runs: dict[Path, Run], overwrite: bool, remedy: str = ANOTHER_NAME) -> list[Path]:
    """The folders whose run has to run; stops, unless --overwrite, rather than write over a finished run with other flags."""
    folders = [folder for folder, run in runs.items() if not run.up_to_date()]
    if not overwrite:
        for folder in folders:
            runs[folder].stop_if_other(remedy)
    return folders


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _code_version() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": None if changes is None else bool(changes)}
