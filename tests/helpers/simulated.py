"""Predictions of a classifier that never was, in a workspace: 5 folds, slices of a patient alike, 20 % positive."""

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits


def make(work: Workspace, patients: int = 20, slices: int = 10, labels: tuple[str, ...] = ("hemorrhage",),
         seed: int = 0, draw: bool = False) -> pd.DataFrame:  # fmt: skip
    """Write labels.csv, dataset.json, boxes.csv, splits.csv; each patient bleeds in neighbouring slices, a fifth of all."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(1, patients + 1):
        start = random.integers(0, slices - slices // 5 + 1)
        for number in range(slices):
            bleeds = start <= number < start + slices // 5
            name = f"{patient:04d}_{number:02d}"
            classes = dict.fromkeys(labels, 0)
            if len(labels) == 1:
                classes[labels[0]] = int(bleeds)
            else:
                classes[labels[random.integers(1, len(labels)) if bleeds else 0]] = 1
            rows.append({"image_id": name, "patient": f"{patient:04d}", "slice": number, "image": f"{name}.png", "mask": "",
                         "annotation": "", **classes})  # fmt: skip
    frame = pd.DataFrame(rows)
    dataset = tables.Dataset(work.dataset, "csv", list(labels), exclusive=len(labels) > 1)
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    boxes = frame.loc[frame[labels[-1]] == 1, ["image_id"]].assign(**{"class": "a"}, xmin=8, ymin=10, xmax=24, ymax=30)
    tables.write_boxes(work, boxes)
    tables.write_splits(work, splits.make(frame, list(labels), seed=42))
    if draw:
        work.raw.mkdir(parents=True)
        for name in frame["image"]:
            Image.fromarray(random.integers(30, 200, (48, 48), dtype=np.uint8)).save(work.raw / name)
    return frame


def predict(work: Workspace, frame: pd.DataFrame, labels: tuple[str, ...] = ("hemorrhage",), experiment: str = "e",
            protocol: str = "patient", folds: tuple[int, ...] = (0, 1, 2, 3, 4), skill: float = 2.0, split: str = "folds",
            seed: int = 1) -> None:  # fmt: skip
    """Write foldK/predictions.csv and model.json: a score per patient, slice and fold on top of the truth."""
    random = np.random.default_rng(seed)
    table = tables.read_splits(work)
    for fold in folds:
        if split == "given":
            parts = splits.given_parts(tables.read_labels(work, tables.read_dataset(work)), table)
        else:
            parts = splits.parts(table, fold, protocol)
        part = parts.reindex(frame["image_id"]).to_numpy()
        rows = frame[part != "train"]
        of_patient = dict(zip(frame["patient"].unique(), random.normal(0, 0.7, frame["patient"].nunique()), strict=True))
        truth = rows[list(labels)].to_numpy(dtype=float)
        logit = (
            random.normal(0, 1, truth.shape)
            + skill * np.nan_to_num(truth) * 1.3
            + random.normal(0, 0.3)
            - (1.9 if len(labels) == 1 else 0)
        )
        logit[:, -1] += rows["patient"].map(of_patient).to_numpy()
        p = np.exp(1.5 * logit) / (np.exp(1.5 * logit).sum(axis=1, keepdims=True) if len(labels) > 1 else 1 + np.exp(1.5 * logit))
        found = pd.DataFrame(
            {"image_id": rows["image_id"], "patient": rows["patient"], "fold": fold, "part": part[part != "train"]}
        )
        for number, label in enumerate(labels):
            found[f"y_{label}"], found[f"p_{label}"] = rows[label], p[:, number]
        folder = work.task(1) / experiment / f"fold{fold}"
        tables.write_predictions(folder, found)
        epochs = np.arange(1, 9)
        val_loss = 0.35 + 0.01 * (epochs - 5 - fold % 3) ** 2
        history = {"epoch": epochs, "lr": 1e-3, "train_loss": 0.6 * 0.7**epochs, "val_loss": val_loss, "seconds": 1.0}
        tables.write_csv(folder / "history.csv", pd.DataFrame(history))
        files.write_json(folder / "model.json", {
            "task": 1, "backbone": "simulated", "classes": list(labels), "exclusive": len(labels) > 1, "image_size": 64,
            "mean": 0.2, "std": 0.2, "protocol": protocol, "split": split, "fold": fold,
            "splits_sha256": files.sha256(work.work / "splits.csv"), "label": None,
        })  # fmt: skip
