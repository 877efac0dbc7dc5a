"""Networks of task 3 that learn from validation slices too, once an experiment has chosen with these: what is taken from it."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from hemoct import tables
from hemoct.cli import UserError, Workspace
from hemoct.segmenters import SegmenterSpec

NEEDED = ("model.json", "predictions.csv", "probability")
"""what is read of a fold of the experiment that chose"""
OF_RUN = {"mean", "std", "least_confidence", "refit"}  # what may differ from it


def spec_after(work: Workspace, first: Path, spec: SegmenterSpec) -> SegmenterSpec:
    """The spec of a refit: with the least confidence that fold `first` chose. Stops when that is a model of another kind."""
    chosen = SegmenterSpec.read(first)
    other = [name for name, value in asdict(spec).items() if name not in OF_RUN and value != getattr(chosen, name)]
    if chosen.refit:
        raise UserError(f"--refit {first.parent.name}: that is a refit itself, of {chosen.refit}; name {chosen.refit}")
    if other:
        raise UserError(
            f"--refit {first.parent.name}: {work.show(first / 'model.json')} differs in {', '.join(other)}; what it chose "
            "holds for its own flags alone: give the same"
        )
    return replace(spec, least_confidence=chosen.least_confidence, refit=first.parent.name)


def take_validation(folder: Path, first: Path) -> list[Path]:
    """Take over the validation maps of fold `first` and its rows of predictions.csv: its networks have not learned from them."""
    frame = tables.read_predictions(first, ["windows", "peak"])
    frame = frame[frame["part"] == "val"]
    for name in frame["image_id"]:
        shutil.copyfile(first / "probability" / f"{name}.png", folder / "probability" / f"{name}.png")
    own = tables.read_predictions(folder, ["windows", "peak"])
    return [tables.write_predictions(folder, pd.concat([frame, own], ignore_index=True))]
