"""Experiments as a bundle (hemoct.scan.bundle): networks as ONNX graphs, what their evaluation says, and a model card."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hemoct.base import experiments, files
from hemoct.base.errors import UserError
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.evaluation import text, thresholds
from hemoct.scan import bundle
from hemoct.scan.answer import NO_DIAGNOSIS
from hemoct.scan.runners import Models, Task

OF_EVALUATION = (
    *("protocol", "protocol_text", "folds_done", "n", "patients", "positives", "labels_mean"),
    *("threshold_unit", "folds", "metrics", "caveats", "notes"),
)
"""of metrics.json"""
SHOWN = {
    1: ("auroc", "ap", "recall", "specificity", "precision", "f1", "brier", "ece"),
    2: ("map50", "map50_95", "froc_mean", "box_recall", "box_precision", "lesion_recall", "recall", "specificity"),
    3: ("dice_patient", "dice", "dice_slice", "nsd_slice", "hd95_slice", "volume_error", "slice_recall", "slice_specificity"),
    4: ("f1_macro", "f1_micro", "exact_match", "rsna_logloss"),
}
"""metrics of a model card, where they are there; of task 4 also those of OF_LABEL for each label"""
OF_LABEL = ("auroc", "recall", "specificity")
SAYS = {
    1: "probability that a slice is positive", 2: "boxes around lesions of a slice, with a confidence",
    3: "probability of each pixel of a slice", 4: "probability of each label of a slice",
}  # fmt: skip
LICENCES = {
    "candidates": "AGPL-3.0: network and training of Ultralytics (an Enterprise Licence of Ultralytics is another way)",
    "boxes": "BSD-3-Clause: network of torchvision",
}
Made = dict[str, tuple[str, str]]
"""kind and file of a graph, by the weights that it was made of"""


def export(models: Models, folder: Path) -> list[str]:
    """Write the graphs of all networks into `folder`, then what describes them; returns the names of the files.

    UserError, one line, where an experiment is not evaluated or a network cannot be exported.
    """
    works = _works(models)
    _stop_if_unfit(models, works)
    made: Made = {}
    tasks = [_task(task, works[task.model.dataset], folder, made) for task in models.tasks]
    data = {name: _data(work) for name, work in works.items()}
    content = {"made": time.strftime("%Y-%m-%d"), "program": "hemoct, scripts/80_predict_scan.py", "notice": NO_DIAGNOSIS}
    content |= {"data": data, "tasks": tasks}
    return bundle.write(folder, content, card(content))


def _works(models: Models) -> dict[str, Workspace]:
    """Where each data set lies, by the name under which a bundle knows it."""
    works: dict[str, Workspace] = {}
    for work, _ in models.learned:
        if (other := works.setdefault(work.dataset, work)) != work:
            raise UserError(
                f"{other.outputs} and {work.outputs} are data sets of one name, which a bundle cannot tell apart; rename one"
            )
    return works


def _stop_if_unfit(models: Models, works: dict[str, Workspace]) -> None:
    for task in _all(models.tasks):
        place = works[task.model.dataset].task(task.model.task) / task.model.experiment
        step = works[task.model.dataset].command(
            experiments.evaluate_step(task.model.task), "--experiment", task.model.experiment
        )
        if why := thresholds.unknown(task.model.task, place, _folders(task, works[task.model.dataset])):
            raise UserError(f"{place} has no thresholds ({why}); run: {step}")
    segmenter = models.of(3)
    if segmenter and segmenter.around and segmenter.around.detector is None and models.of(2) is None:
        raise UserError(
            f"task 3: {segmenter.model.experiment} looks around boxes, but the weights of its detector are not there, and no "
            "experiment of task 2 goes into the bundle; name one"
        )


def _all(tasks: list[Task]) -> Iterator[Task]:
    for task in tasks:
        yield task
        if task.around and task.around.detector:
            yield task.around.detector


def _folders(task: Task, work: Workspace) -> list[Path]:
    return [work.task(task.model.task) / task.model.experiment / f"fold{fold}" for fold in task.model.folds]


def _task(task: Task, work: Workspace, folder: Path, made: Made, owner: int | None = None) -> dict[str, Any]:
    """Write the graphs of a task and describe it. `made`: the graphs that there are; `owner`: see below."""
    from hemoct.scan import graphs  # torch; what is wrong with experiments is said before

    names, kinds = [], []
    number = task.model.task
    whose = f"task{owner}-boxes" if owner else f"task{number}"  # the detector of task 3 need not be the one of task 2
    folders = _folders(task, work)
    described = [experiments.description(one) for one in folders]
    for fold, weights, of_fold in zip(task.model.folds, task.model.weights, tqdm(folders, whose, disable=None), strict=True):
        if weights not in made:
            name = f"{whose}-fold{fold}.onnx"
            made[weights] = graphs.write(number, of_fold, folder / name), name
        kind, name = made[weights]
        names.append(name)
        kinds.append(kind)
    content = bundle.describe(task, (kinds[0], described[0]["image_size"], names), described, _evaluation(number, folders[0]))
    if task.around is not None:
        own = task.around.detector
        content["around"] = bundle.around(task.around, own and _task(own, work, folder, made, owner=number))
    return content


def _evaluation(task: int, fold: Path) -> dict[str, Any]:
    content = files.read_json(fold.parent / "metrics.json")
    return {name: content[name] for name in OF_EVALUATION if name in content}


def _data(work: Workspace) -> dict[str, Any]:
    """What dataset.json says of the images that the networks learned from."""
    path = work.work / "dataset.json"
    content = files.read_json(path) if path.is_file() else {}
    return {name: content.get(name) for name in ("source", "licence", "labels", "classes", "counts")}


# ---- the model card


def card(content: dict[str, Any]) -> str:
    """MODEL_CARD.md: what the networks are for and not for, data, protocol, results, limits, licences."""
    tasks = content["tasks"]
    parts = [
        f"# Model card: {', '.join(content['data'])}, tasks {', '.join(str(one['task']) for one in tasks)}",
        f"**{NO_DIAGNOSIS}** Written by `scripts/82_export.py` of hemoct on {content['made']}.",
        _use(tasks), *_learned_from(content["data"]), _protocol(tasks), *map(_results, tasks), _limits(tasks), _licences(content),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _use(tasks: list[dict[str, Any]]) -> str:
    said = [f"* task {one['task']}, {one['experiment']}: {SAYS[one['task']]}"
            f"{' (' + ', '.join(one['classes']) + ')' if one['classes'] else ''}; mean of {len(one['folds'])} network(s)"
            for one in tasks]  # fmt: skip
    return "\n".join([
        "## What it is for", "", "Research on non-contrast CT of the head: counting, sorting and outlining slices of a study, "
        "and comparing methods. It says of a scan:", "", *said, "",
        "`python scripts/80_predict_scan.py SCAN --models THIS_FOLDER` runs it, without PyTorch and without the internet; "
        "`sha256sum -c SHA256SUMS` checks the files.", "",
        "## What it is not for", "",
        "Diagnosis, triage, treatment or any other decision about a person; other modalities, contrast agent, or parts of the "
        "body other than the head; scans of children, after surgery, or of other bleedings than those of the data below. No "
        "authority has approved it.",
    ])  # fmt: skip


def _learned_from(data: dict[str, Any]) -> Iterator[str]:
    lines = []
    for name, one in data.items():
        counts = one.get("counts") or {}
        words = [f"{counts[key]} {key}" for key in ("images", "patients", "masks", "boxes") if counts.get(key) is not None]
        lines.append(f"* {name}: {', '.join(words) or 'counts not recorded'}; licence: {one.get('licence') or 'not recorded'}")
    credit = "PHE-SICH-CT-IDS: Ma et al. 2023, arXiv:2308.10521, data doi:10.6084/m9.figshare.23957937."
    credits = ["", credit] if "phe-sich" in {one.get("source") for one in data.values()} else []
    yield "\n".join(["## Data", "", *lines, *credits])


def _protocol(tasks: list[dict[str, Any]]) -> str:
    lines = []
    for one in tasks:
        evaluation = one["evaluation"]
        means = f" Labels: {evaluation['labels_mean']}." if evaluation.get("labels_mean") else ""
        hashes = ", ".join(sorted({described["splits_sha256"][:12] for described in one["training"]}))
        tested = f"{evaluation.get('protocol_text', evaluation.get('protocol'))}; {evaluation.get('folds_done')}"
        lines.append(f"* task {one['task']}: {tested}; splits.csv {hashes}; thresholds: {one['rule']}.{means}")
    told = (
        "Results are out of fold: of each network on the test part of its fold. Thresholds, the epoch and the choice of the "
        "experiment come from validation alone. A scan is answered by the mean of all networks, which was not tested itself: it "
        "has seen every patient of the data."
    )
    return "\n".join(["## Protocol", "", told, "", *lines])


def _results(one: dict[str, Any]) -> str:
    evaluation = one["evaluation"]
    metrics = evaluation.get("metrics", {})
    names = [name for name in SHOWN[one["task"]] if name in metrics]
    names += [key for name in one["classes"] for of in OF_LABEL if (key := f"{of}_{name}") in metrics and one["task"] == 4]
    rows = [[text.metric_name(name), text.metric(metrics[name])] for name in names]
    table = text.Table(["metric", "value (95 % interval, bootstrap over patients)"], rows).markdown()
    count = ", ".join(f"{evaluation[key]} {what}" for key, what in {"n": "slices", "patients": "patients"}.items())
    return f"## Results of task {one['task']}: {one['experiment']}\n\nOf {count}.\n\n{table.rstrip()}"


def _limits(tasks: list[dict[str, Any]]) -> str:
    lines = [
        "* Probabilities are those of the networks; temperatures that calibrate them on validation stand in bundle.json.",
        "* Orientation, grey level window and slice thickness of the data are what the networks know; slices are turned to it "
        "where the scan says how it lies.",
        "* The bundle does not know which slices its networks learned from: it cannot mark them.",
    ]
    for one in tasks:
        evaluation = one["evaluation"]
        lines += [f"* task {one['task']}: {note}" for note in [*evaluation.get("caveats", []), *evaluation.get("notes", [])]]
        if one["around"] and one["around"]["detector"] is None:
            lines.append("* task 3: its detector was not there; it looks around the boxes of task 2, and was not tested so.")
    return "\n".join(["## Limits", "", *lines])


def _licences(content: dict[str, Any]) -> str:
    lines = ["* code: AGPL-3.0-or-later"]
    described = [one for task in content["tasks"] for one in (task, (task["around"] or {}).get("detector")) if one]
    lines += [f"* {one['networks'][0]} and those of its other folds: {LICENCES[one['kind']]}" for one in described
              if one["kind"] in LICENCES]  # fmt: skip
    origins = [network.get("initial_weights") for one in described for network in one["training"]]
    started = {(one["name"], one["source"], one["licence"] or "licence not known") for one in origins if one}
    lines += [f"* weights that training started from: {', '.join(of)}" for of in sorted(started)]
    lines += [f"* data, {name}: {one.get('licence') or 'not recorded'}" for name, one in content["data"].items()]
    return "\n".join(["## Licences", "", *lines])


def default_out(models: Models) -> Path:
    """Where a bundle goes when nobody says it: outputs/NAME/bundle of the first task's data set."""
    return models.learned[0][0].outputs / "bundle" if models.learned else REPOSITORY / "outputs" / "bundle"
