"""What a network that learned labels of studies says of slices, as predictions of slices that can be evaluated."""

from pathlib import Path

import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.evaluation import predictions
from hemoct.volumes.study_options import OF_SLICES

COLUMNS = ["image_id", "patient", "fold", "part", "attention"]
SHARED = ("task", "image_size", "mean", "std", "protocol", "split", "fold", "splits_sha256", "window", "prepare", "orientation")
"""what model.json takes over"""


def write(work: Workspace, of: Path, run: Run, score: str, label: str | None) -> list[Path]:
    """Write predictions.csv and model.json of a fold. `of`: the folder of the network; `score`: `slice` or `attention`."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    classes, targets = slices.choose_targets(labels, dataset, label)
    frame = tables.read_csv(of / OF_SLICES, COLUMNS)
    said = [name for name in frame if name.startswith("p_")]
    if len(classes) > 1 or len(said) > 1:
        raise UserError(f"{work.show(of)}: one label of slices is compared with one of studies; choose it with --label")
    truth = pd.Series(targets[:, 0], index=labels["image_id"]).reindex(frame["image_id"]).to_numpy()
    about = frame[tables.PREDICTION_COLUMNS].reset_index(drop=True)
    score_of = frame["attention" if score == "attention" else said[0]].to_numpy()
    about = tables.with_columns(about, classes, truth[:, None], score_of[:, None])
    content = files.read_json(of / "model.json")
    shared = (
        "task",
        "image_size",
        "mean",
        "std",
        "protocol",
        "split",
        "fold",
        "splits_sha256",
        "window",
        "prepare",
        "orientation",
    )
    told = {name: content[name] for name in shared} | {"classes": classes, "exclusive": False, "made_by": run.record["step"]}
    made_of = [predictions.stage(1, of)]
    return [tables.write_predictions(run.folder, about), files.write_json(run.folder / "model.json", told | {"made_of": made_of})]
