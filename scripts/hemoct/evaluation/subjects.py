"""What a step evaluates: an experiment, the data that it meets, and where the results go."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemoct.base import cli, experiments, files
from hemoct.base.errors import UserError
from hemoct.base.runs import recorded
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

OF_FOLD = ("best.pt", "model.json", "history.csv", "predictions.csv")
"""the files of a fold that an evaluation rests on"""


@dataclass(frozen=True)
class Subject:
    """An experiment of a task, evaluated on its own data or, with --on, on others."""

    task: int
    experiment: str
    work: Workspace
    """of the models"""
    data: Workspace
    """of the images that are evaluated"""
    folders: list[Path]
    """the fold folders that hold a model or predictions"""
    limit_patients: int | None

    @property
    def on_other_data(self) -> bool:
        return self.data != self.work

    @property
    def folder(self) -> Path:
        """Where the results go: beside the folds, or below for other data or a first look."""
        words = [f"on-{self.data.dataset}"] * self.on_other_data
        words += [f"first-{self.limit_patients}-patients"] * bool(self.limit_patients)
        return self.work.task(self.task) / self.experiment / "-".join(words)

    @property
    def is_whole(self) -> bool:
        """Whether the results are those of the experiment itself, so that each fold gets its own too."""
        return self.folder == self.folders[0].parent

    @property
    def own_limit(self) -> int | None:
        """--limit-patients where it is about the experiment's own data; with --on it is about the others."""
        return None if self.on_other_data else self.limit_patients

    @property
    def models(self) -> list[Path]:
        """The fold folders that hold a model; predictions can be evaluated without any."""
        return [folder for folder in self.folders if (folder / "best.pt").exists()]

    def other_predictions(self) -> Path:
        """predictions.csv on the other data; stops when it is missing, changed, or made by other models than these."""
        from hemoct.evaluation import external  # what computes is not imported at the top: --help shall be quick

        named = (self.task, self.experiment, self.data.dataset)
        folder, again = external.folder(self.work, *named), external.again(self.work, *named)
        if not (folder / "predictions.csv").exists():
            experiments.with_model(self.work, self.task, self.experiment)  # stops where there is no model to make it with
        path = self.work.need(folder / "predictions.csv", external.made_by(*named))
        record = folder / f"{Path(experiments.PREDICT[self.task]).stem}.run.json"
        inputs = files.read_json(record)["inputs"] if record.exists() else {}
        place = self.work.show(self.work.task(self.task))
        used = {name: digest for name, digest in inputs.items() if name.startswith(place) and name.endswith("best.pt")}
        now = {self.work.show(of_fold / "best.pt"): files.fingerprint(of_fold / "best.pt") for of_fold in self.models}
        older = [of_fold for of_fold in self.models if (of_fold / "best.pt").stat().st_mtime > path.stat().st_mtime]
        if not used and older:  # no record tells of which models they are
            raise UserError(f"{self.work.show(path)} is older than the models; {again}")
        if used and used != now:
            raise UserError(f"{self.work.show(path)} is of other models than {self.experiment} has now; {again}")
        tables_then = {name: inputs.get(self.work.show(self.data.work / name)) for name in ("labels.csv", "images.csv")}
        if other := [name for name, then in tables_then.items() if then not in (None, files.fingerprint(self.data.work / name))]:
            raise UserError(f"{other[0]} of {self.data.dataset} has changed since {self.work.show(path)} was made; {again}")
        if recorded(folder).get(path.name, digest := files.fingerprint(path)) != digest:
            raise UserError(f"{self.work.show(path)} is not as the step left it that made it; restore it, or {again}")
        return path

    def inputs(self, tables: Iterable[str]) -> list[Path]:
        """The files that the evaluation is made from. `tables`: those of data/work that it reads."""
        paths = [folder / name for folder in self.folders for name in OF_FOLD if (folder / name).exists()]
        paths += [self.work.work / name for name in (*tables, "splits.csv")]
        if self.on_other_data:
            paths += [self.other_predictions(), *(self.data.work / name for name in tables)]
        return paths

    def about(self, of: str) -> dict[str, Any]:
        """What metrics.json says first; `of`: a key of protocol.PROTOCOLS."""
        from hemoct.evaluation import protocol

        return protocol.describe(self.work, self.task, self.experiment, self.data, of, self.folders)

    def histories(self, columns: Iterable[str] = ("epoch", "train_loss", "val_loss")) -> dict[str, pd.DataFrame]:
        """history.csv of each fold that has one; none for other data, which no model was trained on."""
        from hemoct.base import tables

        folders = [] if self.on_other_data else [folder for folder in self.folders if (folder / "history.csv").exists()]
        return {folder.name: tables.read_csv(folder / "history.csv", columns) for folder in folders}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every step that evaluates."""
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all of the data set")
    parser.add_argument("--on", metavar="OTHER", help="evaluate on the labelled images of another data set")
    parser.add_argument(
        "--limit-patients", type=cli.positive_int, metavar="N", help="a first look at N patients; nothing else is replaced"
    )


def chosen(args: argparse.Namespace, task: int) -> Iterator[Subject]:
    """The experiments that the flags name; by default all that are trained, or that have predictions on the other data."""
    from hemoct.evaluation import external, predictions

    work = Workspace.of(args)
    data = external.other(work, args.on) if args.on else work
    names = args.experiment or (external.predicted(work, task, args.on) if args.on else experiments.trained(work, task))
    for name in names:
        yield Subject(task, name, work, data, predictions.fold_folders(work, task, name), args.limit_patients)
