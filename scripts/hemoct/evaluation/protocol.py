"""What belongs to every number: on what it was measured, by which protocol, from which folds, and what its labels mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hemoct.base import experiments, files, label_meaning, tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits

PROTOCOLS = {
    "patient": "patient protocol: no patient is both in training and in test",
    "slice": "slice protocol: slices of one patient are both in training and in test, which flatters",
    "given": "given split: the one that came with the data",
    "external": "external data: no image of theirs was used for training, thresholds frozen",
    "unknown": "unknown protocol: predictions without model.json that follow no fold of splits.csv",
}


ABOUT = ("dataset", "experiment", "evaluated_on", "protocol", "protocol_text", "folds_done", "training_unfinished", "labels_mean")
"""what `describe` says"""


def describe(work: Workspace, task: int, experiment: str, data: Workspace, protocol: str, folders: list[Path]) -> dict[str, Any]:
    """What metrics.json says first: what was evaluated, on which data, and what its labels mean."""
    expected = 1 if protocol == "given" else splits.FOLDS
    done = ", ".join(folder.name.removeprefix("fold") for folder in folders)
    shown = f"all {expected} folds" if 1 < expected == len(folders) else f"fold{'s' * (len(folders) > 1)} {done} of {expected}"
    about = {"dataset": work.dataset, "experiment": experiment, "evaluated_on": data.dataset, "protocol": protocol}
    about |= {"protocol_text": PROTOCOLS[protocol], "folds_done": "one model" if protocol == "given" else shown}
    about["training_unfinished"] = [folder.name for folder in folders if _is_unfinished(task, folder)]
    return about | {"labels_mean": label_meaning.TARGET.get(tables.read_dataset(data).layout)}


def short_protocol(content: dict[str, Any]) -> str:
    """`patient protocol`, `given split` ...: the words before the explanation in protocol_text."""
    return content["protocol_text"].split(":")[0]


def headline(content: dict[str, Any]) -> list[str]:
    """Lines that belong to any number of a metrics.json: what, on what, how many; protocol; threshold; labels; notes."""
    positives = "" if content["positives"] is None else f", {content['positives']} positive ({content['positive']})"
    size = f"n = {content['n']} images of {content['patients']} patients{positives}, {content['folds_done']}"
    lines = [f"{content['experiment']} on {content['evaluated_on']}, {short_protocol(content)}, {size}"]
    lines += [content["protocol_text"], f"threshold: {content['threshold_rule']}", content["labels_mean"], *content["notes"]]
    if content["training_unfinished"]:
        lines.append(f"training is not finished: {', '.join(content['training_unfinished'])}")
    return [line for line in lines if line]


def validation_of(folder: Path) -> int:
    """Which fold, counted on from the test fold, a fold's model was validated on: `validation` of model.json, or 1."""
    path = folder / "model.json"
    return files.read_json(path).get("validation", 1) if path.exists() else 1


def _is_unfinished(task: int, folder: Path) -> bool:
    """Whether the training of a fold was stopped before its end, so that best.pt is what it had reached."""
    record = folder / f"{Path(experiments.STEPS[task][0]).stem}.run.json"
    return record.exists() and files.read_json(record).get("status") != "ok"
