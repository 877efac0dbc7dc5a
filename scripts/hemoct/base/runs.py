"""Run records: what a step did, with what, and whether it has to run again."""

from __future__ import annotations

import argparse
import contextlib
import functools
import platform
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.base.workspace import REPOSITORY

# Flags that say how or where a step is run, not what it computes: they never make a finished step out of date.
NOT_RECORDED = {"root", "skip_if_done", "resume", "overwrite", "command", "defaults", "predicting"}
NOT_COMPARED = {"fold", "device", "threads", "experiment", "jobs"}
RECORDED_PACKAGES = (
    *("torch", "torchvision", "timm", "ultralytics", "pycocotools", "ensemble-boxes", "segmentation-models-pytorch", "monai"),
    *("numpy", "scipy", "pandas", "scikit-learn", "pillow", "onnx", "onnxruntime"),
)
ANOTHER_NAME = "give another --experiment NAME, or --overwrite to replace it"


def step_name(step: str | Path) -> str:
    """`scripts/05_make_splits.py`, however the step was called."""
    return "/".join(Path(step).resolve().parts[-2:])


class Run:
    """The run record of a step, `FOLDER/NN_verb_noun.run.json`, and the check whether it has to run at all.

    run = Run(__file__, args, folder=work.work, inputs=[labels_csv])
    if run.up_to_date():
        return
    with run:
        run.wrote(tables.write_splits(work, frame))
    """

    def __init__(self, step: str, args: argparse.Namespace, folder: Path, inputs: Iterable[Path]) -> None:
        self.folder, self.path = folder, folder / f"{Path(step).stem}.run.json"
        self.root = args.root
        self._skip = args.skip_if_done
        self._held = contextlib.ExitStack()
        self._resumes = getattr(args, "resume", False)
        self._defaults, self._predicting = getattr(args, "defaults", {}), getattr(args, "predicting", set())
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

    @property
    def arguments(self) -> dict[str, Any]:
        """The flags of this call, by name, as they are recorded."""
        return self.record["arguments"]

    def up_to_date(self) -> bool:
        """True (and one line) under --skip-if-done when an equal run ended well and its outputs are still there."""
        done = self._skip and self.is_done()
        if done:
            print(f"up to date: {self._relative(self.path)}")
        return done

    def is_done(self) -> bool:
        """Whether an equal run, with the same flags and inputs, ended well and its outputs are still there, as it left them."""
        if not self.path.is_file():
            return False
        old = files.read_json(self.path)
        if not (self._equals(old) and old["status"] == "ok" and all((self.root / path).exists() for path in old["outputs"])):
            return False
        return not altered(self.root, old)

    def _equals(self, old: dict[str, Any]) -> bool:
        """An input that older versions did not name is taken for one that was not there."""
        now = self.record["inputs"]
        return not self.changed(old["arguments"]) and dict.fromkeys(now) | old["inputs"] == now

    def stop_if_other(self, remedy: str) -> None:
        """Stop, with a remedy, rather than write over a finished run that had other flags, or what was changed since by hand."""
        if not self.path.is_file():
            return
        old = files.read_json(self.path)
        changed = self.changed(old["arguments"])
        if old["status"] == "ok" and changed:
            raise UserError(
                f"{self._relative(self.path.parent)} holds a finished run with other flags ({', '.join(changed)}); {remedy}"
            )
        if old["status"] == "ok" and (others := altered(self.root, old)):
            raise UserError(
                f"{others[0]} is not as {old['step']} left it: it was changed or is damaged; restore it, or delete it and run "
                "that step again"
            )

    def say_if_replacing(self) -> None:
        """Say that what a finished run left is replaced, and what is other now: its flags, or the files that it read."""
        if not self.path.is_file() or (old := files.read_json(self.path))["status"] != "ok":
            return
        changed = [flag.split()[0] for flag in self.changed(old["arguments"])]
        others = [name for name, digest in self.record["inputs"].items() if old["inputs"].get(name) != digest]
        why = f"other flags ({', '.join(changed)})" if changed else f"other files ({others[0]})" if others else "the same call"
        print(f"{self._relative(self.path.parent)}: replaces what an earlier call wrote; before: {why}")

    def changed(self, old: dict[str, Any], trained: bool = False) -> list[str]:
        """The flags, with their old values, in which older arguments differ from those of this call.

        A flag that the step has got since had its default then. `trained`: leave out what has no say in what is trained.
        """
        now = self.arguments
        before = {name: _plain(self._defaults.get(name)) for name in now} | old
        names = sorted((before.keys() | now.keys()) - NOT_COMPARED - (self._predicting if trained else set()))
        return [f"--{name.replace('_', '-')} {before.get(name)}" for name in names if before.get(name) != now.get(name)]

    def note(self, **facts: Any) -> None:
        """Add facts to the record, e.g. the device that was taken."""
        self.record.update(facts)

    def wrote(self, *paths: Path) -> None:
        """Name files that this run made."""
        self.record["outputs"] += [self._relative(path) for path in paths]

    def __enter__(self) -> Run:
        self._lock()
        try:
            self._begin()
        except BaseException:
            self._held.close()
            raise
        return self

    def _lock(self) -> None:
        """Hold the folder until the run ends, however it ends; stop where another process writes in it."""
        from filelock import FileLock, Timeout  # not at the top: --help shall be quick

        path = self.folder.with_name(f".{self.folder.name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._held.enter_context(FileLock(path, blocking=False, is_singleton=True))
        except Timeout:
            raise UserError(
                f"{self._relative(self.folder)}: another process is writing there; wait until it ends, or name other data or "
                "another experiment"
            ) from None
        except NotImplementedError:  # a disk that knows no locks
            return

    def _begin(self) -> None:
        files.sweep(self.folder)
        self._start = time.monotonic()
        self.record |= {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **_code_version(), "python": platform.python_version()}
        self.record["packages"] = {name: _version(name) for name in RECORDED_PACKAGES}
        if self._resumes and self.path.is_file():
            old = files.read_json(self.path)
            if self._equals(old):  # what it took until now belongs to what is gone on with
                until_now = {name: old.get(name) for name in ("started", "git_commit", "git_dirty", "wall_s")}
                self.record["earlier"] = [*old.get("earlier", []), until_now]
        files.write_json(self.path, self.record)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.record["wall_s"] = round(time.monotonic() - self._start, 1)
        if kind is None:
            made = {path: self.root / path for path in self.record["outputs"]}
            hashes = {path: files.sha256(where) for path, where in made.items() if where.is_file()}
            self.record |= {"status": "ok", "sha256": hashes}
        # The disk may be what it failed at.
        with self._held, contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            files.write_json(self.path, self.record)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def due(step: str, args: argparse.Namespace, inputs: dict[Path, Iterable[Path]], remedy: str = ANOTHER_NAME) -> list[Run]:
    """The runs of a step that writes several folders, less those that are up to date. `inputs`: what each folder is made from.

    Stops, unless --overwrite, rather than write over a finished run that had other flags.
    """
    runs = [run for run in (Run(step, args, folder, of) for folder, of in inputs.items()) if not run.up_to_date()]
    if not args.overwrite:
        for run in runs:
            run.stop_if_other(remedy)
    return runs


def recorded(folder: Path) -> dict[str, str]:
    """The SHA-256 of the files of a folder, by name, as finished runs left them; empty where older versions kept none."""
    made = {}
    for path in sorted(folder.glob("*.run.json")):
        outputs = {Path(name): digest for name, digest in files.read_json(path).get("sha256", {}).items()}
        made |= {name.name: digest for name, digest in outputs.items() if name.parent.name == folder.name}
    return made


def altered(root: Path, record: dict[str, Any]) -> list[str]:
    """The outputs of a finished run that are not as it left them, by their content; folders are not looked into."""
    hashes = record.get("sha256", {}).items()
    return [path for path, digest in hashes if (where := root / path).is_file() and files.sha256(where) != digest]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@functools.cache
def _version(package: str) -> str | None:
    import importlib.metadata  # not at the top: --help shall be quick

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _code_version() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": None if changes is None else bool(changes)}
