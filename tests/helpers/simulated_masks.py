"""True masks for the toy data set, and probability maps of a network that never was: a soft disk near each lesion."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from helpers import toy
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import images, splits

FAINT = 30  # probability of the noise that no threshold of a good map lets through


def make(work: Workspace, missing: int = 1, empty: int = 1, **options: object) -> pd.DataFrame:
    """The toy data set with masks of its disks. The first positive slices have no mask file, the next an empty mask."""
    frame = toy.make(work, **{"patients": 10, "size": 40, "boxes": True} | options)
    places = frame.index[frame["hemorrhage"] == 1]
    for row in frame.index:
        grey = images.read_grey(work.raw / frame["image"][row])
        mask = (grey > 150) & (row not in places[missing : missing + empty])
        if row not in places[:missing]:
            frame.loc[row, "mask"] = f"mask_{frame['image_id'][row]}.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(work.raw / frame["mask"][row])
    tables.write_labels(work, frame, tables.read_dataset(work))
    return frame


@dataclass(frozen=True)
class Network:
    """How a network that never was draws the disks."""

    found: float = 0.9
    """share of the disks that it draws"""
    shift: int = 2
    """px to the right of the disk"""
    alarms: float = 0.2
    """share of the slices with something that is no disk"""
    seed: int = 1


def predict(work: Workspace, experiment: str = "e", folds: tuple[int, ...] = (0, 1, 2, 3, 4), network: Network = Network(),
            **spec: object) -> None:  # fmt: skip
    """Write foldK/{probability/,predictions.csv,model.json,history.csv}. `spec`: what model.json says beside the usual."""
    spec = {"protocol": "patient", "split": "folds", "validation": 1} | spec
    random = np.random.default_rng(network.seed)
    labels, table = tables.read_labels(work, tables.read_dataset(work)), tables.read_splits(work)
    for fold in folds:
        folder = work.task(3) / experiment / f"fold{fold}"
        (folder / "probability").mkdir(parents=True)
        part = (
            splits.given_parts(labels, table)
            if spec["split"] == "given"
            else splits.parts(table, fold, spec["protocol"], spec["validation"])
        )
        rows = labels.assign(fold=fold, part=part.reindex(labels["image_id"]).to_numpy())
        rows = rows[rows["part"] != "train"]
        for row in rows.itertuples():
            grey = images.read_grey(work.raw / row.image)
            sure = (grey > 150) * 200 if random.random() < network.found else np.zeros(grey.shape)
            if random.random() < network.alarms:
                sure[:3, :3] = 120
            soft = np.roll(sure, network.shift, axis=1) + random.integers(0, FAINT, grey.shape)
            Image.fromarray(soft.astype(np.uint8)).save(folder / "probability" / f"{row.image_id}.png")
        tables.write_predictions(folder, rows[tables.PREDICTION_COLUMNS])
        files.write_json(folder / "model.json", {
            "task": 3, "fold": fold, "region": "slice", "boxes": None, "mask_value": None,
            "splits_sha256": files.sha256(work.work / "splits.csv"), **spec,
        })  # fmt: skip
        epochs = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [1, 0.6, 0.5], "val_loss": [1, 0.7, 0.8]})
        tables.write_csv(folder / "history.csv", epochs.assign(val_dice=[0.1, 0.6, 0.5]))


def masked(work: Workspace, without: tuple[str, ...] = (), **options) -> pd.DataFrame:
    """A toy data set whose masks are its bright disks, empty where there is none; no file for the images of `without`."""
    labels = toy.make(work, **options)
    for row, (name, image) in enumerate(zip(labels["image_id"], labels["image"], strict=True)):
        if name not in without:
            grey = np.asarray(Image.open(work.raw / image))
            Image.fromarray((grey > 200).astype(np.uint8) * 255).save(work.raw / f"mask_{image}")
            labels.loc[row, "mask"] = f"mask_{image}"
    tables.write_labels(work, labels, tables.read_dataset(work))
    return labels
