"""Predictions of a multi-label network that never was, in a workspace: 5 folds, types that go together (IVH, IPH, SAH)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.label_meaning import ANY
from hemoct.base.workspace import Workspace
from hemoct.data import slices as data_slices, splits

TYPES = ("IVH", "IPH", "SAH")
SHARES = (0.6, 0.5, 0.3)
"""how often a bleeding slice shows each type; at least one it always does"""


def make(work: Workspace, patients: int = 20, slices: int = 10, labels: tuple[str, ...] = TYPES, groups: tuple[str, ...] = (),
         seed: int = 0) -> pd.DataFrame:  # fmt: skip
    """Write labels.csv, dataset.json, splits.csv, task4/working_set.csv; each patient bleeds in neighbouring slices, 4 of 10.

    `labels`: the types, and `any` if it is a label of its own. `groups`: the column `group`, slices of a patient in turn.
    """
    random = np.random.default_rng(seed)
    types = [name for name in labels if name != ANY]
    rows = []
    for patient in range(1, patients + 1):
        bleeding = 2 * slices // 5
        start = random.integers(0, slices - bleeding + 1)
        for number in range(slices):
            bleeds = start <= number < start + bleeding
            shown = random.random(len(types)) < np.resize(SHARES, len(types))
            shown[random.integers(len(types))] |= not shown.any()
            name = f"{patient:04d}_{number:02d}"
            rows.append({"image_id": name, "patient": f"{patient:04d}", "slice": number, "image": f"{name}.png", "mask": "",
                         "annotation": "", **dict(zip(types, (shown & bleeds).astype(int), strict=True))})  # fmt: skip
            if ANY in labels:
                rows[-1][ANY] = int(bleeds)
            if groups:
                rows[-1]["group"] = groups[number % len(groups)]
    frame = pd.DataFrame(rows)
    relabel(work, frame, labels)
    tables.write_splits(work, splits.make(frame, list(labels), seed=42))
    return frame


def relabel(work: Workspace, frame: pd.DataFrame, labels: tuple[str, ...] = TYPES) -> None:
    """Write labels.csv, dataset.json and task4/working_set.csv anew, of a `frame` with other truths; NA is unknown."""
    dataset = tables.Dataset(work.dataset, "csv", list(labels))
    frame = frame.astype(dict.fromkeys(labels, "Int64"))
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_csv(work.work / "task4" / "working_set.csv", frame[["image_id", "patient", *labels]])


@dataclass(frozen=True)
class Network:
    """A multi-label network that never was: a score per image and label on top of the truth."""

    labels: tuple[str, ...] = TYPES
    heads: bool = False
    """`any` comes first, made of the types, as `02_train.py --heads any,types` does"""
    skill: float | tuple[float, ...] = 2.0
    """how well each label, or all, are told apart; 0: not at all"""
    seed: int = 1
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    protocol: str = "patient"
    splits_sha256: str | None = None
    """None: of splits.csv as it is"""


def predict(work: Workspace, frame: pd.DataFrame, experiment: str = "e", **options: object) -> None:
    """Write foldK/{predictions,train_predictions,history}.csv and model.json. `options`: see Network. Labels may be NA."""
    network = Network(**options)
    random = np.random.default_rng(network.seed)
    truth = frame[list(network.labels)].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    classes = list(network.labels)
    if network.heads:
        classes, truth = [ANY, *classes], np.column_stack([data_slices.any_of(truth), truth])
    table = tables.read_splits(work)
    for fold in network.folds:
        part = splits.parts(table, fold, network.protocol).reindex(frame["image_id"]).to_numpy()
        noise = random.normal(0, 1, truth.shape)
        logit = noise + np.asarray(network.skill) * (np.nan_to_num(truth) - 0.5) * 1.5 + random.normal(0, 0.3)
        predicted = pd.DataFrame({"image_id": frame["image_id"], "patient": frame["patient"], "fold": fold, "part": part})
        for place, name in enumerate(classes):
            predicted[f"y_{name}"] = pd.array(truth[:, place], dtype="Int64")
            predicted[f"p_{name}"] = 1 / (1 + np.exp(-logit[:, place]))
        folder = work.task(4) / experiment / f"fold{fold}"
        tables.write_predictions(folder, predicted[part != "train"])
        tables.write_csv(folder / "train_predictions.csv", predicted[part == "train"])
        tables.write_csv(folder / "history.csv", history(classes, fold))
        files.write_json(folder / "model.json", {
            "task": 4, "image_size": 64, "mean": 0.2, "std": 0.2, "protocol": network.protocol, "split": "folds", "fold": fold,
            "splits_sha256": network.splits_sha256 or files.sha256(work.work / "splits.csv"), "backbone": "simulated",
            "classes": classes, "heads": [ANY, "types"] if network.heads else ["types"], "channels": 1, "context": 0,
            "attention": False,
        })  # fmt: skip


def history(classes: list[str], fold: int, epochs: int = 8) -> pd.DataFrame:
    """history.csv of a training: losses, and precision, recall and F1 of each label, which the last label learns late."""
    epoch = np.arange(1, epochs + 1)
    columns = {"epoch": epoch, "lr": 1e-3, "train_loss": 0.6 * 0.7**epoch, "val_loss": 0.35 + 0.01 * (epoch - 5 - fold % 3) ** 2}
    columns["val_f1_at_half"] = 1 - 0.8**epoch
    for part, best in (("train", 0.95), ("val", 0.8)):
        for kind in ("precision", "recall", "f1"):
            for place, name in enumerate(classes):
                columns[f"{part}_{kind}_{name}"] = best * (1 - np.exp(-epoch / (1 + place)))
    return pd.DataFrame(columns | {"seconds": 1.0})
