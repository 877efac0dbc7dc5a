"""The evaluated experiments of a task side by side, best first: what the report and outputs/reference/README.md show."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.schemas import Damaged
from hemoct.base.workspace import Workspace
from hemoct.evaluation import baselines, protocol, text

MEASURED = "95 % intervals from resampled patients; each fold at the threshold that validation chose."
LOOKED_AT = {
    "pointing": "maximum in a box", "heat_box": "heat in boxes", "heat_head": "heat in the head (or field)",
    "dice_box": "Dice with boxes", "localisation_0.5": "boxes hit, IoU 0.5",
    "false_positives_0.5": "false regions an image",
}  # fmt: skip
LOOKING = (
    "Where the models look: class activation maps against boxes; beside them the same network with random weights, the "
    "centre of the head, and a detector."
)
BASELINES = (
    "Baselines that see no pixel, on the same test images: where a slice lies in its scan (position), how many are positive "
    "(prevalence); the differences are paired by image. What does not beat the position has not shown that it sees anything."
)
BESIDE_BASELINES = ("auroc", "ap", "f1_macro", "f1")
"""the metrics in which an experiment stands beside a baseline, each where it has it; the first one decides"""
AVERAGED = "are computed for each fold and averaged; all else is of all test images together."


@dataclass(frozen=True)
class Group:
    """One table: the metrics that people read together, by their keys in metrics.json, with their headings."""

    caption: str
    metrics: dict[str, str]
    by_label: bool = False
    """one F1 for each label instead of `metrics`"""
    validation: tuple[str, str] | None = None
    """what chose on validation, by its name in metrics.json and history.csv, with its heading; the time of an epoch goes along"""
    of_studies: bool = False
    """of experiments that answer for whole studies; they have no rank among those of images"""


GROUPS = {
    1: (
        Group(f"Images, positive or not. {MEASURED} AUROC and AP {AVERAGED}", {
            "auroc": "AUROC", "ap": "AP", "f1": "F1", "recall": "Recall", "specificity": "Specificity", "precision": "Precision",
            "accuracy": "Accuracy"}),
        Group("Whole studies, by a label of their own. As above; no rank among the experiments above, which answer for images.", {
            "auroc": "AUROC", "ap": "AP", "f1": "F1", "recall": "Recall", "specificity": "Specificity", "accuracy": "Accuracy"},
            of_studies=True),
    ),
    2: (
        Group(f"Boxes; a lesion is found when one of its boxes is. {MEASURED} mAP and FROC {AVERAGED}", {
            "map50": "mAP50", "map50_95": "mAP50:95", "froc_mean": "FROC mean", "box_precision": "Box precision",
            "box_recall": "Box recall", "lesion_recall": "Lesions found"}),
        Group("What the boxes say about slices: positive with a box at or above the threshold. AUROC is the mean of the folds.", {
            "accuracy": "Slice accuracy", "precision": "Slice precision", "recall": "Slice recall",
            "specificity": "Slice specificity", "f1": "Slice F1", "auroc": "Slice AUROC"}),
    ),
    3: (
        Group(f"Masks. {MEASURED}", {
            "dice_patient": "Dice by patient", "dice_slice": "Dice by slice", "dice": "Dice, all pixels",
            "iou": "IoU, all pixels", "sensitivity": "Sensitivity, pixels", "nsd_slice": "NSD", "hd95_slice": "HD95"}),
        Group("What the masks say about slices: positive with a predicted pixel. Validation Dice is the mean of the folds.", {
            "slice_recall": "Slice recall", "slice_specificity": "Slice specificity", "slice_f1": "Slice F1"},
            validation=("val_dice", "Validation Dice")),
    ),
    4: (
        Group(f"All labels. {MEASURED}", {
            "f1_macro": "Macro F1", "f1_micro": "Micro F1", "exact_match": "Exact match", "hamming": "Hamming loss",
            "rsna_logloss": "RSNA log loss"}),
        Group("F1 of each label. In per_label.csv AUROC and AP of a label are means of the folds.", {}, by_label=True),
    ),
}  # fmt: skip
"""by task; the first metric of a task is the one that ranks its experiments"""

WEIGHTS = {"none": "from scratch", "imagenet": "from ImageNet weights", "coco": "from COCO weights"}


@dataclass(frozen=True)
class Experiment:
    """An evaluated experiment, or its upper bound."""

    task: int
    name: str
    folder: Path
    content: dict[str, Any]
    """metrics.json, see protocol.read"""

    @property
    def headline(self) -> dict[str, Any]:
        """The metric that ranks: value and interval."""
        return self.content["metrics"].get(next(iter(GROUPS[self.task][0].metrics)), {"value": None})

    @property
    def level(self) -> int:
        """0: tells what to expect of a new patient, by all folds; 1: of some folds, few patients or labels; 2: is flattered;
        3: answers another question, of whole studies."""
        content = self.content
        if content.get("of_studies"):
            return 3
        if content["upper_bound"] or content["protocol"] not in ("patient", "given", "external"):
            return 2
        return int(content["complete"] is False or bool(content["limit_patients"] or content.get("labelled")))

    @property
    def trained_on(self) -> str:
        content, start = self.content, []
        for folder in protocol.trained_folds(self.folder):
            named = [str(record.get("arguments", {}).get("weights", "")) for record in protocol.trainings(folder)]
            is_scratch = experiments.description(folder).get("initial_weights", "") is None  # 3D: there are none of ImageNet
            start += ["none"] * len(named) if is_scratch else named
        words = [WEIGHTS.get(name, f"from {Path(name).name}") for name in dict.fromkeys(start) if name]
        limit = f"{content['limit_patients']} patients of " if content["limit_patients"] else ""
        return ", ".join([f"{limit}{content.get('dataset', '')}".strip(), *words])

    @property
    def changed(self) -> list[str]:
        """Tables of its data set that are no longer those that it was made from; published experiments have none beside them."""
        outputs = next(above.parent for above in self.folder.parents if above.name == f"task{self.task}")
        return protocol.changed_since(Workspace(outputs.parents[1], outputs.name), self.folder)

    @property
    def tested_on(self) -> str:
        content = self.content
        words = [protocol.folds_text(content), protocol.short_protocol(content)]
        words += ["upper bound: true boxes"] * bool(content["upper_bound"])
        words += [f"OUT OF DATE: {Path(name).name} changed since" for name in self.changed]
        words += ["training not finished"] * bool(content.get("training_unfinished"))
        return f"{protocol.size(content)}; {', '.join(words)}"

    def validated(self, metric: str) -> list[str]:
        """The metric on validation, mean of the evaluated folds, and the median seconds of an epoch; empty where nothing tells.

        The metric is that of the evaluation where it has one, else the highest of each training.
        """
        paths = [self.folder / f"fold{rule['fold']}" / "history.csv" for rule in self.content["folds"]]
        histories = [tables.read_csv(path, [metric, "seconds"]) for path in paths if path.exists()]
        best = [rule[metric] for rule in self.content["folds"] if rule.get(metric) is not None]
        best = best or [history[metric].max() for history in histories]
        seconds = f"{pd.concat(histories)['seconds'].median():.0f}" if histories else ""
        return [f"{np.mean(best):.3f}" if best else "", seconds]


def evaluated(task: Path, damaged: dict[str, str] | None = None) -> list[Experiment]:
    """The evaluated experiments of a task folder (outputs/NAME/taskN), level by level, the best of each level first.

    Those of studies are told label by label. `damaged`: gets the experiments that have a damaged file, by name with what is
    wrong, instead of stopping at the first.
    """
    number, found = int(task.name.removeprefix("task")), []
    for path in sorted([*task.glob("*/metrics.json"), *task.glob("*/truth-boxes/metrics.json")]):
        name = path.parent.relative_to(task).as_posix()
        try:
            one = Experiment(number, name, path.parent, protocol.read(path))
            for group in GROUPS[number]:
                table([one], group)
            found.append(one)
        except Damaged as error:
            if damaged is None:
                raise
            damaged[name] = str(error)

    def rank(experiment: Experiment) -> tuple[Any, ...]:
        value, asked = experiment.headline["value"], experiment.content["labels"] if experiment.level == 3 else []
        return experiment.level, asked, math.inf if value is None else -value, experiment.name

    return sorted(found, key=rank)


def table(experiments: list[Experiment], group: Group) -> text.Table:
    """One table of a task, a row an experiment; the first group of a task says what it was trained and tested on.

    That of studies says what it is asked, too.
    """
    experiments = [one for one in experiments if bool(one.content.get("of_studies")) is group.of_studies]
    if not experiments:
        return text.Table([], [])
    metrics, first = group.metrics, group is GROUPS[experiments[0].task][0] or group.of_studies
    if group.by_label:
        labels = dict.fromkeys(label for experiment in experiments for label in experiment.content["labels"])
        metrics = {f"f1_{label}": f"F1 {label}" for label in labels}
    columns = ["experiment", *["label"] * group.of_studies, *["trained on", "tested on"] * first, *metrics.values()]
    columns += [group.validation[1], "Seconds an epoch"] if group.validation else []
    rows = []
    for experiment in experiments:
        entries = [experiment.content["metrics"].get(key, {"value": None}) for key in metrics]
        trained_on = "; ".join([experiment.trained_on, *protocol.initial_weights(experiment.folder)])
        asked = [", ".join(experiment.content["labels"])] if group.of_studies else []
        row = [experiment.name, *asked, *[trained_on, experiment.tested_on] * first, *map(text.metric, entries)]
        rows.append(row + (experiment.validated(group.validation[0]) if group.validation else []))
    return text.Table(columns, rows)


def beside_baselines(experiments: list[Experiment]) -> text.Table:
    """Baselines that see no pixel, on the test images of each experiment, and what the experiment has more; no row without."""
    held = [(one.name, one.content["baselines"]) for one in experiments if one.content.get("baselines")]
    blocks = [(name, baseline, block) for name, block in held for baseline in block]
    measured = {key for _, baseline, block in blocks for key in block[baseline]["metrics"] or {}}
    names = {key: text.metric_name(key) for key in BESIDE_BASELINES if key in measured}
    columns = ["experiment", "baseline", *(f"{name}{less}" for name in names.values() for less in ("", ", experiment less it"))]
    rows = []
    for name, baseline, block in blocks:
        row = [name, baseline]
        for key in names:
            difference = (block[baseline].get("difference") or {}).get(key) or {"value": np.nan, "ci95": None}
            row.append(text.metric((block[baseline]["metrics"] or {}).get(key, {"value": None})))
            row.append(text.interval(difference["value"], *(difference["ci95"] or (np.nan, np.nan)), "+", " to "))
        beaten = baselines.beaten(block, baseline, next(iter(names), ""))
        rows.append([*row, "" if beaten is None else "beaten" if beaten else "not beaten"])
    return text.Table([*columns, f"by {next(iter(names.values()), '')}"], rows)


def looked_at(experiments: list[Experiment]) -> text.Table:
    """Where the models look: each set of maps (explain/METHOD), and below it what stands beside; no row without maps."""
    rows = []
    for one in experiments:
        for path in sorted(one.folder.glob("explain/*/metrics.json")):
            content = protocol.read(path)
            sources = {f"{one.name}, {path.parent.name}": content, **content["beside"]}
            of = [protocol.folds_text(content), str(content["n"])]
            for number, (name, source) in enumerate(sources.items()):
                cells = [text.metric(source["metrics"].get(key, {"value": None})) for key in LOOKED_AT]
                rows.append([name, *(["", ""] if number else of), *cells])
    return text.Table(["maps", "folds", "cases with a box", *LOOKED_AT.values()], rows)


def readers(task: int) -> tuple[tuple[str, Callable[[Path], text.Table], str], ...]:
    """The tables of a task as the report's sections name them: of the folder itself, reader, caption."""

    def side_by_side(group: Group, path: Path) -> text.Table:
        damaged: dict[str, str] = {}
        made = table(evaluated(path, damaged), group)
        columns = made.columns or ["experiment", ""]
        rows = [[name, f"LEFT OUT: {why}", *[""] * (len(columns) - 2)] for name, why in damaged.items()]
        return text.Table(columns, [*made.rows, *rows * (not group.of_studies)])

    groups = [("", partial(side_by_side, group), group.caption) for group in GROUPS[task]]
    return *groups, ("", lambda path: beside_baselines(evaluated(path, {})), BASELINES)


def compared(task: int) -> dict[str, str]:
    """The metrics of a task that people compare, with their headings."""
    return {key: name for group in GROUPS[task] for key, name in group.metrics.items()}
