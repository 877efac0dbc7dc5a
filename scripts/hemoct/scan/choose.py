"""Which models look at a scan: of each task the experiment that is best on validation, or a bundle. Imports no torch.

Test results have no say: what was chosen by them would be reported better than it is.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import named_images, prepared
from hemoct.evaluation import metrics, text, thresholds
from hemoct.prepare.orientation import UNKNOWN
from hemoct.scan.result import Model
from hemoct.scan.runners import Around, Learned, Models, Task

BUNDLE = "bundle.json"
TASKS = (1, 2, 3, 4)
SINGLE = {1: "backbone", 2: "model", 3: "model", 4: "backbone"}
"""what model.json of a network of its own names, of each task; one that is made of others does not"""
TRUTH = "truth"
DEFAULTS = {1: 0.5, 2: 0.25, 3: 128.0, 4: 0.5}
"""thresholds of experiments that are not evaluated, see the predicting step of each task"""
REPORTED = {1: "auroc", 2: "map50", 3: "dice_patient", 4: "f1_macro"}
"""what is told of an experiment, out of fold"""
MOST = 0.5
"""share of the folds of the experiment with most that another needs in order to be chosen"""
LEAKY = "patients in training and in validation (protocol slice)"
TRUE_BOXES = "validated around true boxes, which a scan has not"


@dataclass(frozen=True, kw_only=True)
class Which:
    """What a user says of the models."""

    experiments: dict[int, str] = field(default_factory=dict)
    """by task, instead of that which is best on validation"""
    tasks: tuple[int, ...] = TASKS
    """others are left out"""
    fast: bool = False
    """one fold instead of all"""
    fold: int | None = None
    """this one instead of all"""
    device: str = "auto"
    threads: int | None = None


def models(places: list[Path], which: Which) -> Models:
    """The models in folders, outputs/NAME of a data set or a bundle each; of several that know a task the first."""
    found: list[Models] = []
    tasks: dict[int, Task] = {}
    for place in places:
        found.append(_of_place(place, replace(which, tasks=tuple(task for task in which.tasks if task not in tasks))))
        tasks |= {task.model.task: task for task in found[-1].tasks}
    missing = [f"{experiment} (task {task})" for task, experiment in which.experiments.items() if task not in tasks]
    if missing:
        raise UserError(f"--experiment: {', '.join(missing)} is not in {', '.join(map(str, places))}")
    if not tasks:
        raise UserError(f"{', '.join(map(str, places))}: no task has a trained model; train one, or give other --models")
    told = [line for one in found for line in one.said]
    paths = [path for one in found for path in one.files]
    return Models([tasks[task] for task in sorted(tasks)], told, [pair for one in found for pair in one.learned], paths)


def _of_place(place: Path, which: Which) -> Models:
    if (place / BUNDLE).is_file():
        bundle = importlib.import_module("hemoct.scan.bundle").load(place, which.fast, which.threads)
        return replace(bundle, tasks=[task for task in bundle.tasks if _is_wanted(task.model, which)])
    resolved = place.resolve()
    if not place.is_dir() or resolved.parent.name != "outputs":
        raise UserError(f"--models {place} is neither outputs/NAME of a data set nor a bundle ({BUNDLE})")
    return of_dataset(Workspace(resolved.parents[1], resolved.name), which)


def _is_wanted(model: Model, which: Which) -> bool:
    return model.task in which.tasks and which.experiments.get(model.task, model.experiment) == model.experiment


def default(work: Workspace) -> list[Path]:
    """Where models lie when nobody says it: outputs/NAME of the data set, else that of the only one with models."""
    if any((work.task(task)).is_dir() for task in TASKS):
        return [work.outputs]
    there = sorted({path.parent for path in (work.root / "outputs").glob("*/task[1-4]") if path.parent.name != "reference"})
    if len(there) == 1:
        return there
    named = ", ".join(work.show(place) for place in there) or "none"
    raise UserError(f"{work.show(work.outputs)} holds no models; there are: {named}; name one with --models")


def of_dataset(work: Workspace, which: Which) -> Models:
    """The best experiment of each task of a data set."""
    tasks, said, learned, paths = [], [], [], []
    for number in which.tasks:
        experiment, lines = _best(work, number, which.experiments.get(number))
        said += lines
        if experiment is None:
            continue
        folders = named_images.models(work, number, experiment, which.fold)[: 1 if which.fast else None]
        task, more = _task(work, number, folders, which)
        tasks.append(task)
        said += more
        learned += [(work, _learned(folder)) for folder in folders]
        paths += [*experiments.model_files(folders), folders[0].parent / "metrics.json"]
    return Models(tasks, said, learned, paths)


# ---- the best of a task, by validation


def _best(work: Workspace, number: int, wanted: str | None) -> tuple[str | None, list[str]]:
    """An experiment and the lines that say why; None where there is none."""
    there = sorted(path.name for path in work.task(number).glob("*") if path.is_dir() and not _is_ours(path.name))
    if wanted is not None:
        if wanted not in there:
            return None, []
        if why := _unfit(work, number, wanted):
            raise UserError(f"--experiment {number}={wanted}: {why}")
        return wanted, [f"task {number}: {wanted}, as given"]
    out = {name: why for name in there if (why := _unfit(work, number, name))}
    folds = {name: experiments.folds(work.task(number) / name, "best.pt") for name in there if name not in out}
    flattered = {name: why for name, of in folds.items() if (why := _flattered(number, experiments.description(of[0])))}
    if len(flattered) < len(folds):
        out |= flattered
    most = max((len(of) for name, of in folds.items() if name not in out), default=0)
    out |= {name: f"{len(of)} fold(s) of {most}" for name, of in folds.items() if name not in out and len(of) < MOST * most}
    scores = {name: score(work, number, name) for name in folds if name not in out}
    passed_over = [f"task {number}: passed over: {', '.join(name for name in out if out[name] == why)}: {why}"
                   for why in dict.fromkeys(out.values())]  # fmt: skip
    if not scores:
        return None, passed_over
    best = max(scores, key=lambda name: (-math.inf if math.isnan(scores[name]) else scores[name], name))
    why = f"the best of {len(scores)} on validation ({NAMES[number]} {scores[best]:.3f} there)"
    if len(scores) == 1:
        why = "the only one"
    elif math.isnan(scores[best]):
        why = f"one of {len(scores)}: what they reach on validation is not known"
    return best, [f"task {number}: {best}, {why}", *passed_over]


def _flattered(number: int, described: dict[str, Any]) -> str:
    """Why validation says more of an experiment than a scan will; "" where it does not."""
    if described.get("protocol") == "slice":
        return LEAKY
    around_true_boxes = number == 3 and described.get("region") == "box" and (described.get("boxes") or TRUTH) == TRUTH
    return TRUE_BOXES if around_true_boxes else ""


def _is_ours(name: str) -> bool:
    return name.startswith(".") or bool(experiments.OWN.fullmatch(name)) or name.startswith("comparison")


def _unfit(work: Workspace, number: int, name: str) -> str:
    """Why the models of an experiment cannot look at a scan by themselves; "" where they can."""
    folders = experiments.folds(work.task(number) / name, "best.pt")
    if not folders:
        made_of = experiments.folds(work.task(number) / name, "predictions.csv")
        return "no network of its own, as of an ensemble, or its weights are gone" if made_of else "no trained fold"
    described = experiments.description(folders[0])
    if described.get("task") != number or SINGLE[number] not in described:
        return "a network on features of whole scans, or made of others"
    if described.get("region"):
        return "" if number == 3 else "a network on regions that a detector cut out"
    if number == 1 and len(described["classes"]) > 1:
        return "a network of several classes"
    return ""


def score(work: Workspace, number: int, name: str) -> float:
    """What an experiment reaches on validation, the mean of its folds; NaN where that is not known."""
    folders = experiments.folds(work.task(number) / name, "best.pt")
    values = [SCORES[number](folder) for folder in folders]
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _auroc(folder: Path) -> float:
    """The mean over the labels that validation shows and lacks."""
    if not (folder / "predictions.csv").is_file():
        return math.nan
    frame = pd.read_csv(folder / "predictions.csv")
    frame = frame[frame["part"] == "val"]
    values = []
    for column in (name for name in frame.columns if name.startswith("y_")):
        rows = frame[[column, f"p_{column[2:]}"]].dropna().to_numpy(dtype=float)
        if len(np.unique(rows[:, 0])) == 2:
            values.append(float(metrics.auroc(rows[:, 0], rows[:, 1], metrics.ones(len(rows)))[0]))
    return float(np.mean(values)) if values else math.nan


def _highest(column: str, folder: Path) -> float:
    """Of the epochs of a training: their validation chose the weights."""
    path = folder / "history.csv"
    frame = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    return float(frame[column].max()) if column in frame else math.nan


SCORES: dict[int, Callable[[Path], float]] = {
    1: _auroc, 2: partial(_highest, "map50"), 3: partial(_highest, "val_dice"), 4: _auroc,
}  # fmt: skip
NAMES = {1: "AUROC", 2: "mAP50", 3: "Dice", 4: "AUROC"}


# ---- what is known of it


def _task(work: Workspace, number: int, folders: list[Path], which: Which) -> tuple[Task, list[str]]:
    """The networks of fold folders, and lines on what is not as it was trained."""
    described = [experiments.description(folder) for folder in folders]
    first, experiment, said = described[0], folders[0].parent, []
    classes = first["classes"] if number != 3 else []
    if number == 4:
        limits, rule = thresholds.thresholds(4, experiment, folders, None, DEFAULTS[4], classes)
        chosen = [limits[name] for name in classes]
    else:
        limit, rule = thresholds.threshold(number, experiment, folders, None, DEFAULTS[number])
        chosen = [limit]
    around = None
    if first.get("region") == "box":
        detector, said = _detector(work, folders, described, which)
        confidence = [one.get("least_confidence", 0.0) for one in described]
        around = Around(first["margin"], first["least_side"], confidence, detector)
    model = Model(
        number, experiment.name, work.dataset, [experiments.fold_of(folder) for folder in folders], _reached(number, experiment),
        [files.sha256(folder / "best.pt") for folder in folders],
    )  # fmt: skip
    task = Task(
        model=model, size=first.get("source_size", first["image_size"]), channels=first.get("channels", 1),
        context=first.get("context", 0), window=first.get("window"), prepare=first.get("prepare", []),
        orientation=_orientation(work, described), classes=classes, thresholds=chosen, rule=rule,
        load=partial(_load, number, folders, which.device, which.threads), around=around,
        means=label_meaning.lesion(tables.read_dataset(work).layout if (work.work / "dataset.json").exists() else None),
    )  # fmt: skip
    return task, said


def _load(number: int, folders: list[Path], device: str, threads: int | None) -> list:
    """The networks of fold folders; torch is imported here, when a scan has been read."""
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"{folders[0]} needs PyTorch, which is not here; install it, or take a bundle (scripts/82_export.py)")
    return importlib.import_module("hemoct.scan.torch_runners").load(number, folders, device, threads)


def _orientation(work: Workspace, described: list[dict[str, Any]]) -> str:
    """Where the nose points in what networks know; older ones do not say it, and their data set does."""
    said = next((one["orientation"] for one in described if one.get("orientation")), None)
    if said is None and (work.work / "dataset.json").exists():
        recorded = tables.read_dataset(work).orientation
        said = recorded or (prepared.orientation_of(work) if work.raw.exists() else None)
    return said or UNKNOWN


def _detector(work: Workspace, folders: list[Path], described: list[dict], which: Which) -> tuple[Task | None, list[str]]:
    """The detector of the same folds around whose boxes they learned to look."""
    name = described[0].get("boxes") or TRUTH
    instead = "; looks around the boxes of task 2 instead"
    if name == TRUTH:
        return None, [f"task 3: {folders[0].parent.name} learned around true boxes{instead}"]
    theirs = [work.task(2) / name / folder.name for folder in folders]
    if not all((folder / file).is_file() for folder in theirs for file in ("best.pt", "model.json")):
        return None, [f"task 3: the weights of its detector {name} are not there{instead}"]
    if any(_learned(one) != _learned(other) for one, other in zip(folders, theirs, strict=True)):
        return None, [f"task 3: its detector {name} learned from other patients since{instead}"]
    return _task(work, 2, theirs, which)[0], []


def _learned(folder: Path) -> Learned:
    described = experiments.description(folder)
    return Learned(*(described[name] for name in ("splits_sha256", "protocol", "split", "fold")))


def _reached(number: int, experiment: Path) -> str:
    """`AUROC 0.98 (0.97-0.99) out of fold`; "" where it was not evaluated."""
    path = experiment / "metrics.json"
    if not path.is_file():
        return ""
    content, key = files.read_json(path), REPORTED[number]
    entry = content.get("metrics", {}).get(key)
    if entry is None or entry["value"] is None:
        return ""
    part = "" if content.get("complete", True) else f", {content.get('folds_done')}"
    return f"{text.metric_name(key)} {text.metric(entry)} out of fold{part}"
