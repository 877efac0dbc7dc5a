"""Where the files of a data set lie: the only place that spells out folder names."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hemoct.base.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]
REFERENCE = "reference"  # in outputs, beside those of data sets


@dataclass(frozen=True)
class Workspace:
    """Where the files of one data set lie."""

    root: Path
    dataset: str

    @classmethod
    def of(cls, args: argparse.Namespace) -> Workspace:
        """That of a step's flags --root and --dataset."""
        return cls(args.root, args.dataset)

    @cached_property
    def raw(self) -> Path:
        return self.root / "data" / "raw" / self.dataset

    @cached_property
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
        return self.root / "outputs" / REFERENCE / self.dataset

    @property
    def pretrained(self) -> Path:
        """Where pre-trainings lie, whose weights tasks start from."""
        return self.outputs / "pretrain"

    def task(self, number: int) -> Path:
        return self.outputs / f"task{number}"

    def need(self, path: Path, made_by: str) -> Path:
        """Return `path`, or stop with the command that makes it. `made_by`: `scripts/03_make_labels.py`."""
        if path.exists():
            return path
        self.stop_if_moved()
        places = (self.root / "data" / name for name in ("raw", "work"))
        others = sorted({folder.name for place in places for folder in place.glob("[!.]*")})
        if others and not (self.raw.exists() or self.work.exists() or self.outputs.exists()):
            raise UserError(f"no data set is called {self.dataset}; there are: {', '.join(others)} (--dataset NAME)")
        raise UserError(f"{self.show(path)} is missing; make it with: python {made_by} --dataset {self.dataset}")

    def stop_if_moved(self) -> None:
        """Stop where data/raw/NAME is a link to data that are no longer there: perhaps a disk that is not mounted."""
        if self.raw.is_symlink() and not self.raw.exists():
            raise UserError(
                f"{self.show(self.raw)} is a link to {self.raw.readlink()}, which is no longer there; bring it back, or delete "
                f"the link and run: {self.command('scripts/01_get_data.py', '--from', 'DIR')}"
            )

    def command(self, step: str, *words: str) -> str:
        """The command line of a step on this data set: with --dataset, and with --root where that is not the repository."""
        root = [] if self.root == REPOSITORY else ["--root", str(self.root)]
        return shlex.join(["python", step, *words, "--dataset", self.dataset, *root])

    def show(self, path: Path) -> str:
        """A path as short as it can be read: relative to the root where it lies below it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)
