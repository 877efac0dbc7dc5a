"""How the folds of a detector were trained, from their history.csv: read, checked, summed up. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

RECORD = f"{Path(experiments.STEPS[2][0]).stem}.run.json"
CHOOSES = "map50_95"
"""the column whose highest value is the best epoch, that of best.pt"""
MEASURED = ("epoch", "map50", CHOOSES, "seconds")
LAST, EARLY, UNFINISHED, UNKNOWN = "last epoch", "early stop", "unfinished", "unknown"


@dataclass(frozen=True)
class Training:
    """The training of one fold."""

    fold: str
    history: pd.DataFrame
    """float columns, one row an epoch; what is not finite is NaN"""
    asked: int | None
    """epochs that were asked for; None without a run record"""
    ended: str
    """LAST of the epochs asked for, EARLY (no better epoch for as long as --patience says), UNFINISHED (stopped from outside, or
    still running), UNKNOWN (no run record)"""

    @property
    def best(self) -> pd.Series | None:
        """The row of the best epoch, the first of equal ones; None where validation gave no number at all."""
        chooses = self.history[CHOOSES]
        return None if chooses.isna().all() else self.history.loc[chooses.idxmax()]


def read(work: Workspace, experiment: str) -> list[Training]:
    """The trainings of all folds of an experiment of task 2 that have a history; stops when there is none or one is broken."""
    folders = experiments.folds(work.task(2) / experiment, "history.csv")
    if not folders:
        there = ", ".join(experiments.with_history(work, 2))
        raise UserError(f"{work.show(work.task(2) / experiment)} holds no foldK/history.csv; there are: {there}")
    histories = read_histories(folders, MEASURED)
    return [_training(folder, _numbers(folder / "history.csv", histories[folder.name])) for folder in folders]


def sources(work: Workspace, experiment: str) -> list[Path]:
    """The files that `read` reads."""
    folders = experiments.folds(work.task(2) / experiment, "history.csv")
    return [path for folder in folders for path in (folder / "history.csv", folder / RECORD) if path.exists()]


def _numbers(path: Path, history: pd.DataFrame) -> pd.DataFrame:
    numbers = history.apply(pd.to_numeric, errors="coerce")
    words = numbers.isna() & history.notna()
    epochs = numbers["epoch"]
    problem = None
    if words.any(axis=None):
        problem = f"{words.any().idxmax()} holds something that is no number"
    elif epochs.isna().any() or not (epochs > 0).all() or not epochs.is_monotonic_increasing or epochs.duplicated().any():
        problem = "epoch does not count upwards"
    if problem:
        raise UserError(f"{path}: {problem}; train this fold again with task2_detection/{experiments.STEPS[2][0]}")
    return numbers.astype(float).replace([np.inf, -np.inf], np.nan)


def _training(folder: Path, history: pd.DataFrame) -> Training:
    path = folder / RECORD
    if not path.exists():
        return Training(folder.name, history, None, UNKNOWN)
    record = files.read_json(path)
    asked = int(record["arguments"]["epochs"])
    if history["epoch"].iloc[-1] >= asked:
        ended = LAST
    else:
        ended = EARLY if record["status"] == "ok" else UNFINISHED
    return Training(folder.name, history, asked, ended)


def summary(trainings: list[Training]) -> pd.DataFrame:
    """One row a fold: fold, epochs, epochs_asked, ended, best_epoch, map50, map50_95 (both of the best epoch, on validation),
    seconds_per_epoch (median). Empty where it is not known."""
    rows = []
    for training in trainings:
        best = pd.Series(np.nan, index=training.history.columns) if training.best is None else training.best
        rows.append(
            {"fold": int(training.fold.removeprefix("fold")), "epochs": int(training.history["epoch"].iloc[-1]),
             "epochs_asked": training.asked, "ended": training.ended, "best_epoch": best["epoch"], "map50": best["map50"],
             "map50_95": best["map50_95"], "seconds_per_epoch": training.history["seconds"].median()}
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"epochs_asked": "Int64", "best_epoch": "Int64"})


def read_histories(folders: list[Path], columns: Iterable[str] = ("epoch", "train_loss", "val_loss")) -> dict[str, pd.DataFrame]:
    """history.csv, with at least these columns, of each fold that has one, by the name of the fold."""
    paths = {folder.name: folder / "history.csv" for folder in folders if (folder / "history.csv").exists()}
    return {name: tables.read_csv(path, columns) for name, path in paths.items()}
