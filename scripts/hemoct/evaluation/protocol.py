"""What belongs to every number: on what it was measured, by which protocol, from which folds, and what its labels mean."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from hemoct.base import experiments, files, label_meaning, tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits

PROTOCOLS = {
    "patient": "patient protocol: no patient is both in training and in test",
    "image": "image protocol: no patient is known, so that one person may be on both sides, in training and in test",
    "slice": "slice protocol: slices of one patient are both in training and in test, which flatters",
    "given": "given split: the one that came with the data",
    "external": "external data: no image of theirs was used for training, thresholds frozen",
    "unknown": "unknown protocol: predictions without model.json that follow no fold of splits.csv",
}
NOT_KNOWN = {"value": None, "ci95": None, "reason": "no patient is known"}
"""in the place of a metric of patients"""
TABLES = ("labels.csv", "images.csv", "boxes.csv", "splits.csv")
"""of a data set, from which everything is trained and evaluated"""
TRAINED = "*_train*.run.json"
"""the run record of a training"""
SHORT = {"given": "given split", "external": "external data"}

ABOUT = (
    *("dataset", "experiment", "evaluated_on", "protocol", "protocol_text", "fold_numbers", "folds_expected", "complete"),
    *("patients_known", "limit_patients", "folds_done", "training_unfinished", "labels_mean"),
)
"""what `describe` says; `folds_done` is for people, the fields before it for code"""


def describe(
    work: Workspace, task: int, experiment: str, evaluated_on: Workspace, protocol: str, folders: list[Path]
) -> dict[str, Any]:
    """What metrics.json says first: what was evaluated, on which data, from which folds, and what its labels mean."""
    about = {"dataset": work.dataset, "experiment": experiment, "evaluated_on": evaluated_on.dataset}
    about |= _protocol(protocol, [tables.read_dataset(one) for one in dict.fromkeys((work, evaluated_on))])
    given = any(experiments.description(folder).get("split") == "given" for folder in folders)  # on other data, too
    about |= _folds([experiments.fold_of(folder) for folder in folders], given or protocol == "given")
    about |= _limited(folders)
    if labelled := [spec for folder in folders if (spec := experiments.description(folder).get("labelled"))]:
        about["labelled"] = labelled
    few = f", trained with {about['limit_patients']} patients alone" if about["limit_patients"] else ""
    about["folds_done"] = folds_text(about) + few + labelled_text(folders)
    record = f"{Path(experiments.STEPS[task][0]).stem}.run.json"
    stopped = [place for place in folders if (place / record).exists() and files.read_json(place / record).get("status") != "ok"]
    about["training_unfinished"] = [folder.name for folder in stopped]
    return about | {"labels_mean": label_meaning.TARGET.get(tables.read_dataset(evaluated_on).layout)}


def _protocol(protocol: str, datasets: list[tables.Dataset]) -> dict[str, Any]:
    """The protocol as it may be called: where no patient is known, nothing keeps one person's images on one side."""
    unknown = [dataset.name for dataset in datasets if not dataset.knows_patients]
    protocol = "image" if unknown and protocol == "patient" else protocol
    words = PROTOCOLS[protocol]
    if unknown and protocol in ("given", "external"):
        words += f"; no patient of {' and '.join(unknown)} is known: one person may be on both sides"
    return {"protocol": protocol, "protocol_text": words, "patients_known": not unknown}


def split_of(protocol: str) -> str:
    """The split that a protocol of `describe` stands for: where no patient is known it is that of patients, one an image."""
    return "patient" if protocol == "image" else protocol


def as_known(content: dict[str, Any]) -> dict[str, Any]:
    """A metrics.json without numbers of patients where `patients_known` is False: each image would count as one."""
    if content.get("patients_known", True):
        return content
    metrics = {name: NOT_KNOWN if "_patient" in name else entry for name, entry in content["metrics"].items()}
    counts: dict[str, Any] = {name: None for name in ("patients", "patient_level") if name in content}
    if "positive_patients_by_label" in content:
        counts["positive_patients_by_label"] = dict.fromkeys(content["positive_patients_by_label"])
    return content | counts | {"metrics": metrics}


def read(path: Path) -> dict[str, Any]:
    """A metrics.json. Fields of `describe` that an older version did not write are added, from the folds and the run records.

    Of other data (--on) an older version named no folds: `fold_numbers` is empty, `complete` None.
    """
    content = files.read_json(path)
    if "fold_numbers" not in content:
        numbers = [rule["fold"] for rule in content["folds"] if isinstance(rule["fold"], int)]
        content |= _folds(numbers, content["protocol"] == "given")
        content |= _limited(trained_folds(path.parent))
    for name, value in {"upper_bound": False, "notes": [], "positives": None, "threshold_rule": "not recorded"}.items():
        content.setdefault(name, value)
    return content


def _folds(numbers: list[int], given: bool) -> dict[str, Any]:
    expected = 1 if given else splits.FOLDS
    return {"fold_numbers": numbers, "folds_expected": expected, "complete": len(numbers) == expected if numbers else None}


def _limited(folders: list[Path]) -> dict[str, Any]:
    limits = [record.get("arguments", {}).get("limit_patients") for folder in folders for record in trainings(folder)]
    return {"limit_patients": min((limit for limit in limits if limit), default=None)}


def labelled_text(folders: list[Path]) -> str:
    """Of how many training patients the models of folds learned the labels, for people; empty where of all."""
    specs = [experiments.description(place).get("labelled") for folder in folders for place in trained_in(folder)]
    counts = [f"{spec['patients']} of {spec['of']}" for spec in specs if spec]
    return f", trained with the labels of {' and '.join(dict.fromkeys(counts))} training patients" if counts else ""


def folds_text(content: dict[str, Any]) -> str:
    """`all 5 folds`, `fold 0 of 5`, `one model`: of which folds a metrics.json speaks."""
    numbers, expected = content["fold_numbers"], content["folds_expected"]
    if not numbers:
        return content["folds_done"]
    if expected == 1:
        return "one model"
    some = f"fold{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} of {expected}"
    return f"all {expected} folds" if content["complete"] else some


def trained_folds(folder: Path) -> list[Path]:
    """The fold folders of a folder with a metrics.json: an experiment, or one below it (truth-boxes, on-OTHER, a gate)."""
    names = ("model.json", "history.csv", "best.pt", "predictions.csv")
    return experiments.folds(folder, *names) or experiments.folds(folder.parent, *names)


def trainings(folder: Path) -> list[dict[str, Any]]:
    """Run records of the trainings that a fold comes from."""
    return [files.read_json(path) for place in trained_in(folder) for path in sorted(place.glob(TRAINED))]


def changed_since(work: Workspace, folder: Path) -> list[str]:
    """The tables of a data set that are no longer those from which an experiment was trained or evaluated, by their names."""
    records = [record for fold in trained_folds(folder) for record in trainings(fold)]
    records += [files.read_json(path) for path in sorted(folder.glob("*.run.json"))]
    paths = [path for name in TABLES if (path := work.work / name).is_file()]
    now = {path.relative_to(work.root).as_posix(): files.fingerprint(path) for path in paths}
    return [name for name in now if any(record.get("inputs", {}).get(name, now[name]) != now[name] for record in records)]


def trained_in(folder: Path) -> list[Path]:
    """The folders in which a fold was trained: its own; of an ensemble, a head or a cascade those of its members' folds."""
    for place in (folder, folder.parents[1] / folder.name):  # an upper bound lies below the experiment that was trained
        if any(place.glob(TRAINED)):
            return [place]
    parts = [(of["task"], of["experiment"]) for of in made_of(folder)]
    if linked := experiments.description(folder).get("linked"):  # boxes of one detector, linked through slices
        parts.append((2, linked["experiment"]))
    members = [folder.parents[2] / f"task{task}" / experiment / folder.name for task, experiment in parts]
    return [place for member in members for place in trained_in(member)]


def made_of(folder: Path) -> list[dict[str, Any]]:
    """The experiments that a fold is made of: task, experiment, sha256 of its predictions.csv; empty where it was trained.

    In model.json a cascade calls them `stages`, and an ensemble of masks names its `members`.
    """
    spec = experiments.description(folder)
    masks = zip_longest(spec.get("members") or [], spec.get("members_sha256", []))
    members = [{"task": 3, "experiment": name, "sha256": digest} for name, digest in masks]
    return [*members, *spec.get("stages", []), *spec.get("made_of", [])]


def initial_weights(folder: Path) -> list[str]:
    """What the networks of a folder with a metrics.json started from, as model.json of its folds says: network, source, licence,
    hash. Empty from scratch, and where an older version did not tell."""
    specs = [experiments.description(place) for fold in trained_folds(folder) for place in trained_in(fold)]
    told = [origin for spec in specs for origin in (spec.get("initial_weights"), *spec.get("joined_weights", [])) if origin]
    words = []
    for origin in told:
        digest = f"sha256 {origin['sha256'][:8]}" if origin["sha256"] else ""
        words.append(f"{origin['name']} ({', '.join(filter(None, [origin['source'], origin['licence'], digest]))})")
    return list(dict.fromkeys(words))


def short_protocol(content: dict[str, Any]) -> str:
    """`patient protocol`, `given split` ...: protocol_text without its explanation."""
    return SHORT.get(content["protocol"], f"{content['protocol']} protocol")


def patients(content: dict[str, Any]) -> str:
    """Of how many patients a metrics.json speaks."""
    return "no patient identifiers" if pd.isna(content["patients"]) else f"{content['patients']} patients"


def cases(content: dict[str, Any]) -> str:
    """What a metrics.json counts: `images` or `studies`."""
    return "studies" if content.get("of_studies") else "images"


def size(content: dict[str, Any]) -> str:
    """How much a metrics.json was measured on: `n images of m patients`."""
    return f"{content['n']} {cases(content)}{',' if pd.isna(content['patients']) else ' of'} {patients(content)}"


def headline(content: dict[str, Any]) -> list[str]:
    """Lines that belong to any number of a metrics.json: what, on what, how many; protocol; threshold; labels; notes."""
    positives = "" if content["positives"] is None else f", {content['positives']} positive ({content['positive']})"
    what = f"n = {size(content)}{positives}, {content['folds_done']}"
    lines = [f"{content['experiment']} on {content['evaluated_on']}, {short_protocol(content)}, {what}"]
    lines += [content["protocol_text"], f"threshold: {content['threshold_rule']}", content["labels_mean"], *content["notes"]]
    if content["training_unfinished"]:
        lines.append(f"training is not finished: {', '.join(content['training_unfinished'])}")
    return [line for line in lines if line]


def validation_of(folder: Path) -> int:
    """Which fold, counted on from the test fold, a fold's model was validated on: `validation` of model.json, or 1."""
    return experiments.description(folder).get("validation", 1)
