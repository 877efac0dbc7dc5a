"""Predictions of multi-label experiments, of networks and of cascades: read, and checked against what the tables say now."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.base.workspace import Workspace
from hemoct.evaluation import external, predictions as evaluation_predictions
from hemoct.evaluation.subjects import Subject
from hemoct.multilabel import data
from hemoct.multilabel.options import HEADS, Network, Stages, View
from hemoct.training.options import LINEAR
from hemoct.training.specs import Spec

AGAIN = evaluation_predictions.AGAIN[4]
"""how wrong predictions are made again"""
MADE_WITH = ("task4/working_set.csv",)
"""the tables that predictions must not be older than"""


@dataclass(frozen=True, kw_only=True)
class MultiLabelSpec(Spec):
    """model.json of task 4: all that rebuilds a network and feeds it."""

    TASK = 4
    exclusive = False

    backbone: str
    classes: list[str]
    """the labels, a logit each; with a head of its own `any` is the first"""
    heads: list[str]
    channels: int = 1
    """planes of an image: 1 grey, or 3 of red, green and blue (three CT windows)"""
    context: int = 0
    """neighbouring slices on each side that are seen too"""
    attention: bool = False
    """whether each label weighs the places of the feature map by itself; else their mean is seen"""
    head: str = LINEAR
    """what makes logits of the features: see training.options.HEAD"""
    views: dict[str, list[str]] = field(default_factory=dict)
    """the labels that the head of each view has learned, by its group; empty where there is one head for all images"""
    labelled: dict[str, Any] | None = None
    """see data.slices.Fold; None: it learned from the labels of all training images"""

    @property
    def parts(self) -> int:
        """How many heads there are for each label: one for each view."""
        return len(self.views) or 1

    @property
    def planes(self) -> int:
        return self.channels * (2 * self.context + 1)


def types(frame: pd.DataFrame) -> list[str]:
    """The labels of predictions apart from `any`."""
    return [name for name in evaluation_predictions.label_columns(frame) if name != ANY]


def read(
    work: Workspace, experiment: str, limit_patients: int | None = None, made_with: tuple[str, ...] = MADE_WITH
) -> tuple[pd.DataFrame, str]:
    """Validation and test predictions of all folds of an experiment; and its protocol."""

    def of_fold(folder: Path) -> pd.DataFrame:
        return read_fold(work, folder, made_with)

    frame, protocol = evaluation_predictions.joined(work, 4, experiment, of_fold, limit_patients)
    again = "run task4_multilabel/01_prepare_labels.py and train again"
    evaluation_predictions.stop_if_relabelled(work, experiment, frame, again)
    return frame, protocol


def read_fold(work: Workspace, folder: Path, made_with: tuple[str, ...] = MADE_WITH) -> pd.DataFrame:
    """Predictions of a fold; stops when they are older than the model or the tables `made_with`, or than a cascade's stages."""
    path = evaluation_predictions.current(work, 4, folder, made_with)
    return evaluation_predictions.check(tables.read_predictions(folder), path, several=True)


def read_training(work: Workspace, folders: list[Path]) -> pd.DataFrame:
    """Predictions of the training images of all folds."""
    frames = []
    for folder in folders:
        path = folder / "train_predictions.csv"
        if not path.exists():
            raise UserError(f"{work.show(path)} is missing; a cascade has none: use --threshold-from val; else {AGAIN}")
        frame = tables.read_csv(path, tables.PREDICTION_COLUMNS)
        frames.append(evaluation_predictions.check(frame.assign(part="val"), path, several=True).assign(part="train"))
    return pd.concat(frames, ignore_index=True)


def read_external(subject: Subject, labels: list[str]) -> pd.DataFrame:
    """The mean predictions of the models, which know these `labels`, on another data set, as 05_predict.py --on left them.

    Labels that are unknown on all images are left out. Stops where images, labels or truths are no longer those of labels.csv.
    """
    path = subject.other_predictions()
    again = external.again(subject.work, 4, subject.experiment, subject.data.dataset)
    frame = evaluation_predictions.check(tables.read_predictions(path.parent), path, several=True, again=again)
    now = data.truth_of_other(subject.data, labels)[1].dropna(how="all").add_prefix("y_")
    before = frame.set_index("image_id").filter(regex="^y_").astype(float)
    if not before.sort_index().equals(now.sort_index()):
        place = f"labels.csv of {subject.data.dataset}"
        raise UserError(f"{subject.work.show(path)} has other images or truths than {place} has now; {again}")
    frame = frame[frame["patient"].isin(sorted(frame["patient"].unique())[: subject.limit_patients])]
    unknown = [name for name in evaluation_predictions.label_columns(frame) if frame[f"y_{name}"].isna().all()]
    return frame.drop(columns=[f"{kind}_{name}" for name in unknown for kind in "yp"])


def read_training_of(work: Workspace, stages: Stages) -> pd.DataFrame:
    """What stage 2 of a cascade says of the training images of all folds: the multi-label model, or the experiment of a view.

    Stage 1 has no say in it: it predicts no training image. A type that a view does not know has probability 0 there.
    """
    frame = read_training(work, evaluation_predictions.fold_folders(work, 4, stages.types))
    if not stages.view:
        return frame
    group, parts = groups(work), []
    parts.append(frame[~frame["image_id"].map(group).isin(stages.view)])
    for name, experiment in stages.view.items():
        own = read_training(work, evaluation_predictions.fold_folders(work, 4, experiment))
        own = own[own["image_id"].map(group) == name]
        parts.append(own.reindex(columns=frame.columns).fillna({f"p_{label}": 0.0 for label in types(frame)}))
    return pd.concat(parts, ignore_index=True)


# ---- studies


def groups(work: Workspace) -> pd.Series:
    """The column `group` of labels.csv by image_id; converted DICOM series have their StudyInstanceUID there."""
    labels, path = tables.read_labels(work, tables.read_dataset(work)), work.show(work.work / "labels.csv")
    if "group" not in labels:
        raise UserError(f"{path} has no column group, which --pool and --view need; add it to the source of the labels")
    return labels.set_index("image_id")["group"]


def groups_of(table: pd.DataFrame, who: str) -> np.ndarray:
    """The view of each row of labels.csv, str (n,). Stops where one has none. `who`: what needs it, as a message begins."""
    if "group" not in table:
        raise UserError(f"{who}: labels.csv has no column group, which names the view; add it to the source of the labels")
    groups = table["group"].fillna("").astype(str).to_numpy()
    if (groups == "").any():
        first = table["image_id"].to_numpy()[groups == ""][0]
        raise UserError(f"{who}: {(groups == '').sum()} image(s) have no group in labels.csv (first: {first}); name their view")
    return groups


def pool(frame: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Predictions of studies in place of images: the mean within a `group` (by image_id), then the maximum over the groups.

    A study is a patient, who is the image_id too. A label of a study is 1 where it is 1 on any image, 0 where it is 0 on all,
    else unknown. Probabilities are rounded as tables are written, so that what is read later is what was decided on.
    """
    labels, keys = evaluation_predictions.label_columns(frame), ["patient", "fold", "part"]
    placed = frame.assign(group=frame["image_id"].map(group))
    p = placed.groupby([*keys, "group"])[[f"p_{name}" for name in labels]].mean().groupby(level=keys).max()
    p = p.map(lambda value: float(f"{value:.8g}"))
    truth = placed.groupby(keys)[[f"y_{name}" for name in labels]]
    highest = truth.max()
    y = highest.where((highest == 1) | (truth.count().eq(truth.size(), axis=0)))
    pooled = pd.concat([y, p], axis=1).reset_index()
    pooled = pooled.assign(image_id=pooled["patient"]).sort_values(["fold", "part", "image_id"], ignore_index=True)
    return pooled[[*tables.PREDICTION_COLUMNS, *(f"{kind}_{name}" for name in labels for kind in "yp")]]


def seen_by(spec: MultiLabelSpec) -> tuple[Network, View]:
    """What a trained network sees of an image, and the labels that it learned, as the options of its training said it."""
    of_heads = next(words for words, names in HEADS.items() if names == spec.heads)
    of_own_head = [ANY] if ANY in spec.heads else []
    network = Network(backbone=spec.backbone, heads=of_heads, attention=spec.attention, head=spec.head,
                      image_size=spec.image_size, channels=spec.channels, context=spec.context)  # fmt: skip
    return network, View(labels=[name for name in spec.classes if name not in of_own_head])
