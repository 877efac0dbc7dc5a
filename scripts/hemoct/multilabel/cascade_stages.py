"""The stages of a cascade: the experiments that it is made of, whether they fit together, and what each says of an image."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.data.slices import ANY
from hemoct.evaluation import decisions, predictions
from hemoct.evaluation.decisions import Question

STEP = "task4_multilabel/04_cascade.py"


@dataclass(frozen=True)
class Stages:
    """The experiments that a cascade is made of."""

    types: str
    """of task 4, the multi-label model"""
    binary: str | None
    """of task 1; None: the output `any` of the multi-label model"""
    views: dict[str, str] = field(default_factory=dict)
    """experiments of task 4 by the group whose images they answer for instead"""

    @property
    def members(self) -> list[tuple[int, str]]:
        """Task and name of each experiment, once."""
        return list(dict.fromkeys([(4, self.types), *((4, name) for name in self.views.values()), *self._binary]))

    @property
    def _binary(self) -> list[tuple[int, str]]:
        return [] if self.binary is None else [(1, self.binary)]


class View(argparse.Action):
    """GROUP=EXPERIMENT, gathered as a dictionary from as many flags as are given."""

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, text: str, flag: str | None = None) -> None:
        group, _, experiment = text.partition("=")
        known = getattr(args, self.dest)
        if not group or not experiment or group in known:
            parser.error(f"{flag} {text}: give GROUP=EXPERIMENT, each group once")
        setattr(args, self.dest, known | {group: experiment})


# ---- the stages on disk


def fold_folders(work: Workspace, stages: Stages) -> dict[str, list[Path]]:
    """The folders of each fold of the multi-label model, one for each of `stages.members`, by the name of the fold.

    Stops at an experiment that is not there, is a cascade itself, or lacks a fold.
    """
    found: dict[str, list[Path]] = {}
    for task, name in stages.members:
        place, folders = work.task(task) / name, experiments.folds(work.task(task) / name, "best.pt", "predictions.csv")
        if not folders:
            there = ", ".join(experiments.trained(work, task))
            raise UserError(f"{work.show(place)} holds no trained fold; there are: {there}")
        stop_if_cascade(place)
        found = found or {folder.name: [] for folder in folders}
        missing = sorted(set(found) - {folder.name for folder in folders})
        if missing:
            raise UserError(f"{work.show(place)} has no {', '.join(missing)}, which {stages.types} has; train what is missing")
        for folder in folders:
            if folder.name in found:
                found[folder.name].append(folder)
    return found


def is_cascade(experiment: Path) -> bool:
    """Whether the folds of an experiment of task 4 are those of a cascade. `experiment`: its folder."""
    return any("stages" in files.read_json(folder / "model.json") for folder in experiments.folds(experiment, "model.json"))


def stop_if_cascade(experiment: Path) -> None:
    """Stop where networks are wanted, and name the experiment that has them. `experiment`: a folder of a task."""
    if is_cascade(experiment):
        made_of = files.read_json(experiments.folds(experiment, "model.json")[0] / "model.json")["types"]
        raise UserError(f"{experiment.name} is a cascade itself, without a network; name {made_of}, which it was made of")


def stop_if_taken(work: Workspace, experiment: Path) -> None:
    """Stop rather than write over the folds of another kind of experiment."""
    predicted = experiments.folds(experiment, "predictions.csv")
    if experiments.folds(experiment, "best.pt") or (predicted and not is_cascade(experiment)):
        raise UserError(f"{work.show(experiment)} holds a trained experiment; give the cascade another --experiment")


def stop_if_stages_changed(work: Workspace, folder: Path) -> None:
    """Stop when the fold of a cascade was made of other predictions than its stages hold now; no other fold ever stops."""
    told = files.read_json(folder / "model.json") if (folder / "model.json").exists() else {}
    for stage in told.get("stages", []):
        path = work.task(stage["task"]) / stage["experiment"] / folder.name / "predictions.csv"
        if files.fingerprint(path) != stage["sha256"]:
            raise UserError(f"{work.show(path)} is gone or another one than {folder.parent.name} was made of; run {STEP} again")


# ---- what the stages answer


def answers(work: Workspace, stages: Stages, frame: pd.DataFrame, protocol: str) -> tuple[str, pd.DataFrame]:
    """What stage 1 asks and its y (0, 1, NaN) and p for each row of `frame`, the predictions of the multi-label model.

    p is NaN where stage 1 was not asked, for it does not know the truth. Stops where it lacks other images, has several classes
    or another protocol, and where the multi-label model has no `any` to be stage 1.
    """
    if stages.binary is None:
        if f"p_{ANY}" not in frame:
            raise UserError(
                f"{stages.types} has no output `{ANY}` to be the first stage; name an experiment of task 1 with --binary, "
                f"or train it with --heads any,types"
            )
        return ANY, pd.DataFrame({"y": frame[f"y_{ANY}"].astype(float), "p": frame[f"p_{ANY}"]})
    found, other = predictions.joined(work, 1, stages.binary, lambda folder: _binary_fold(work, folder))
    _stop_if_other_protocol(stages.binary, other, stages.types, protocol)
    asked = decisions.question_of(predictions.label_columns(found))
    if asked.positive is None:
        raise UserError(f"{stages.binary} chooses among {len(asked.labels)} classes; name a binary experiment with --binary")
    _stop_if_another_question(work, stages, asked, frame)
    columns = [f"y_{asked.positive}", f"p_{asked.positive}"]
    answer = _aligned(found, frame)[columns].set_axis(["y", "p"], axis=1).astype(float)
    missing = frame["image_id"][answer["p"].isna() & frame["image_id"].isin(_known(work, asked))]
    if len(missing):
        raise UserError(
            f"{work.show(work.task(1) / stages.binary)}: its predictions lack {missing.nunique()} images of {stages.types} "
            f"(first: {missing.iloc[0]}); predict them with task1_classification/02_evaluate.py, or train on the same images"
        )
    return asked.positive, answer


def _binary_fold(work: Workspace, folder: Path) -> pd.DataFrame:
    path = folder / "predictions.csv"
    if not path.exists() or not predictions.is_current(work, folder):
        raise UserError(
            f"{work.show(path)} is missing, or older than best.pt or labels.csv; "
            f"run: python task1_classification/02_evaluate.py --dataset {work.dataset} --experiment {folder.parent.name}"
        )
    return predictions.check(tables.read_predictions(folder), path)


def _stop_if_another_question(work: Workspace, stages: Stages, asked: Question, frame: pd.DataFrame) -> None:
    """Stop where stage 1 looks for one of the types, or for what is no label of these data."""
    dataset = tables.read_dataset(work)
    types = [name for name in predictions.label_columns(frame) if name != ANY]
    if asked.positive in types:
        raise UserError(
            f"{stages.binary} answers for {asked.positive}, one of the types; name an experiment that answers for any"
        )
    if asked.positive not in (ANY, *dataset.labels):
        raise UserError(
            f"{stages.binary} answers for {asked.positive}, no label of {dataset.name}: {', '.join(dataset.labels)}, or any"
        )


def _known(work: Workspace, asked: Question) -> set[str]:
    """The images on which the truth of a question of task 1 is known."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    wanted = None if dataset.exclusive else asked.positive
    _, truth = slices.choose_targets(labels, dataset, wanted)
    return set(labels["image_id"][~np.isnan(truth).any(axis=1)])


def with_views(work: Workspace, stages: Stages, frame: pd.DataFrame, protocol: str) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """`frame` with the probabilities of each view's own experiment, 0 for types that it does not know; and those, by group.

    Truth stays. Stops where a view lacks images, knows a label that is none here, or no view knows a label.
    """
    group = groups(work, frame)
    absent = sorted(set(stages.views) - set(group))
    if absent:
        raise UserError(
            f"--view {absent[0]}: no image has this group in labels.csv; its groups are {', '.join(sorted(set(group)))}"
        )
    labels, unknown = [name for name in predictions.label_columns(frame) if name != ANY], {}
    for name, experiment in stages.views.items():
        found, other = predictions.joined(work, 4, experiment, lambda folder: _view_fold(work, folder))
        _stop_if_other_protocol(experiment, other, stages.types, protocol)
        own = [label for label in predictions.label_columns(found) if label != ANY]
        if not own:
            raise UserError(f"--view {name}={experiment}: it tells no types apart; name a multi-label experiment")
        strange = [label for label in own if label not in labels]
        if strange:
            raise UserError(
                f"{experiment} knows the label {strange[0]}, but {stages.types} only {', '.join(labels)}; name others"
            )
        rows = (group == name).to_numpy()
        answer = _aligned(found, frame[rows])
        _stop_unless_whole(work, experiment, own, answer, frame[rows])
        frame.loc[rows, [f"p_{label}" for label in labels]] = 0.0
        frame.loc[rows, [f"p_{label}" for label in own]] = answer[[f"p_{label}" for label in own]].to_numpy()
        unknown[name] = [label for label in labels if label not in own]
    for label in labels:
        if all(label in unknown.get(name, []) for name in set(group)):
            raise UserError(f"no view knows the label {label}; name a --view that does, or leave a group to {stages.types}")
    return frame, {name: missing for name, missing in unknown.items() if missing}


def _view_fold(work: Workspace, folder: Path) -> pd.DataFrame:
    """Predictions of a view. Its working set may have been an earlier one, with fewer labels: what counts is the truth."""
    path = folder / "predictions.csv"
    if not path.exists() or not predictions.is_current(work, folder, made_with=()):
        raise UserError(f"{work.show(path)} is missing, or older than best.pt; {predictions.AGAIN[4]}")
    return predictions.check(tables.read_predictions(folder), path, several=True)


def _stop_unless_whole(work: Workspace, experiment: str, labels: list[str], answer: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Stop where the predictions of a view lack images of `frame`, or have another truth for one."""
    missing = frame["image_id"][answer[f"p_{labels[0]}"].isna().to_numpy()]
    if len(missing):
        raise UserError(
            f"{work.show(work.task(4) / experiment)}: its predictions lack {missing.nunique()} images of its group "
            f"(first: {missing.iloc[0]}); train on the same images"
        )
    columns = [f"y_{label}" for label in labels]
    here, there = (one[columns].astype(float).to_numpy() for one in (frame, answer))
    other = ((here != there) & ~np.isnan(here) & ~np.isnan(there)).any(axis=1)
    if other.any():
        image = frame["image_id"].to_numpy()[other][0]
        raise UserError(f"{experiment} has another truth for {image}; {predictions.AGAIN[4]}")


def groups(work: Workspace, frame: pd.DataFrame) -> pd.Series:
    """The `group` of labels.csv for each row of `frame`, "" where it is empty. Stops without such a column."""
    labels = tables.read_labels(work, tables.read_dataset(work))
    if "group" not in labels:
        raise UserError(f"{work.show(work.work / 'labels.csv')} has no column group, which views need; add it to the source")
    return frame["image_id"].map(labels.set_index("image_id")["group"])


def _aligned(found: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `found` in the order of `frame`, by image and fold, with its index; empty where there is none."""
    keys = ["image_id", "fold"]
    return found.set_index(keys).reindex(pd.MultiIndex.from_frame(frame[keys])).set_index(frame.index)


def _stop_if_other_protocol(name: str, protocol: str, types: str, expected: str) -> None:
    if protocol != expected:
        raise UserError(f"{name} has the protocol {protocol}, {types} {expected}; name experiments with the same folds")
