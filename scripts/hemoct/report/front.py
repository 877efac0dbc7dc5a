"""The first half page of the report: what was asked, of which data, the best row of each task, what that means and what not."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hemoct.base import experiments, files, label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.base.schemas import Damaged
from hemoct.base.workspace import Workspace
from hemoct.evaluation import baselines, protocol, text
from hemoct.evaluation.text import Table
from hemoct.report import results
from hemoct.report.results import Experiment

TASKS = (1, 2, 3, 4)
LEVELS = {1: "some folds, or few patients, alone: a first look", 2: "flattered, or an upper bound"}
"""of an experiment, see results.Experiment.level"""
BY_PATIENT = (
    "Folds by patient: who is tested was seen by none of the models that test; thresholds come from validation patients; "
    "95 % intervals from resampled patients."
)
NO_DIAGNOSIS = "Research use: nothing here is made for, or may guide, the care of a patient."
VERSIONS = ("torch", "timm", "ultralytics", "scikit-learn")
MOST_SCANS = 2
DRAWN = "drawn by code"
"""in the licence of phantoms"""


@dataclass(frozen=True)
class Front:
    asked: str
    data: str
    how: str
    best: Table
    means: list[str]
    made: str
    scans: list[tuple[str, str]]
    """(name, link from outputs/NAME) of predicted scans"""
    sources: list[Path]


def front(work: Workspace) -> Front:
    """What is known of the data set and its experiments; a damaged file is left out here, the parts of the report name it."""
    damaged: dict[str, str] = {}
    best = {task: found for task in TASKS if (found := results.evaluated(work.task(task), damaged))}
    dataset = _dataset(work)
    contents = [found[0].content for found in best.values()]
    scans = _scans(work)
    asked = {task: _asked(found[0], dataset.layout if dataset else None) for task, found in best.items()}
    question = ", ".join(f"{words} (task {task})" for task, words in asked.items())
    lost = [f"{name} is left out: a file of it is damaged." for name in damaged]
    links = [(folder.name, quote(Path(os.path.relpath(folder / "scan.html", work.outputs)).as_posix())) for folder in scans]
    return Front(
        asked=f"Can networks tell {question}?" if asked else "No result stands here: this page shows what there is.",
        data=_data(dataset, contents),
        how=_how(contents),
        best=_table(best, asked),
        means=[*_means(dataset, best), *lost],
        made=_made(work, best),
        scans=links,
        sources=[*(found[0].folder / "metrics.json" for found in best.values()), *(folder / "scan.json" for folder in scans)],
    )


def _asked(one: Experiment, layout: str | None) -> str:
    """What a task asks of an image."""
    labels, positive = one.content.get("labels") or [], one.content.get("positive")
    positive = "any of the labels" if positive == label_meaning.ANY else positive
    return {
        1: f"which images show {positive}" if positive else f"which of {', '.join(labels)} an image is",
        2: f"where there is {label_meaning.BOX.get(layout or '', 'a lesion')}, as boxes",
        3: f"which pixels are {label_meaning.lesion(layout)}",
        4: f"which images show {', '.join(labels)}",
    }[one.task]


def _dataset(work: Workspace) -> tables.Dataset | None:
    try:
        return tables.read_dataset(work)
    except UserError:
        return None


def _data(dataset: tables.Dataset | None, contents: list[dict[str, Any]]) -> str:
    counts = dataset.counts if dataset else {}
    words = [f"{counts[name]:,} {name}" for name in ("images", "patients", "masks", "boxes") if counts.get(name)]
    positive = [f"{name.removesuffix(' = 1')} in {count:,}" for name, count in counts.items() if name.endswith(" = 1")]
    if not words:
        return protocol.size(contents[0]) if contents else ""
    licence = [f"licence: {dataset.licence}"] if dataset.licence else []
    return f"{dataset.name}: {'; '.join(filter(None, [', '.join(words), ', '.join(positive), *licence]))}."


def _how(contents: list[dict[str, Any]]) -> str:
    """The protocol: one sentence where all best rows share it."""
    if not contents:
        return ""
    if {content["protocol"] for content in contents} == {"patient"}:
        return BY_PATIENT
    return (
        f"{'; '.join(dict.fromkeys(content['protocol_text'] for content in contents))}; 95 % intervals from resampled patients."
    )


def _table(best: dict[int, list[Experiment]], asked: dict[int, str]) -> Table:
    """A row a task: its first experiment, as the table of the task ranks them."""
    rows = []
    for task, found in best.items():
        one, key = found[0], next(iter(results.GROUPS[task][0].metrics))
        name = results.GROUPS[task][0].metrics[key]
        of = f"best of {len(found)}" if len(found) > 1 else "the only one"
        on = f"{protocol.folds_text(one.content)}, {protocol.patients(one.content)}"
        rows.append([f"{task}: {asked[task]}", f"{one.name} ({of})", f"{name} {text.metric(one.headline)}", _beside(one), on])
    return Table(["task", "experiment", "on test", "baseline that sees no pixel", "measured on"], rows)


def _position(one: Experiment) -> tuple[dict[str, Any], str, bool | None]:
    """What a guess from the place of the slice reaches, by metric; the metric that decides, or ""; whether it is beaten."""
    block = one.content.get("baselines") or {}
    measured = (block.get(baselines.POSITION) or {}).get("metrics") or {}
    key = next((key for key in results.BESIDE_BASELINES if key in measured), "")
    return measured, key, baselines.beaten(block, baselines.POSITION, key)


def _beside(one: Experiment) -> str:
    """The baseline of an experiment, and whether it is beaten."""
    measured, key, beaten = _position(one)
    verdict = {None: "", True: ", beaten", False: ", NOT beaten"}[beaten]
    return f"place of the slice: {text.metric_name(key)} {text.metric(measured[key])}{verdict}" if key else "none is defined"


def _means(dataset: tables.Dataset | None, best: dict[int, list[Experiment]]) -> list[str]:
    """What the numbers mean and cannot mean, as far as the files tell."""
    said, firsts = [], [found[0] for found in best.values()]
    if dataset is not None and DRAWN in (dataset.licence or ""):
        said.append("The images are drawn phantoms: the numbers say that every step works, and nothing about patients.")
    elif firsts:
        external = sorted({path.name.removeprefix("on-") for one in firsts for path in one.folder.glob("on-*") if path.is_dir()})
        beyond = f"; on other data: {', '.join(external)}, below" if external else ""
        said.append(f"The numbers hold for new patients of the same source, scanners and selection, and no others{beyond}.")
    patients = (firsts[0].content.get("patient_level") or {}) if firsts else {}
    if patients.get("patients_negative") == 0:
        said.append("Every patient has a positive image: how often a healthy patient would be called is not known.")
    for level, words in LEVELS.items():
        if of_level := [str(one.task) for one in firsts if one.level == level]:
            said.append(f"Task {', '.join(of_level)}: {words}.")
    if lost := [str(one.task) for one in firsts if _position(one)[2] is False]:
        said.append(f"Task {', '.join(lost)} does not beat a guess from the slice's place: nothing shows that it sees more.")
    if any(len(found) > 1 for found in best.values()):
        said.append("The best of several is flattered by the choice; all stand in the tables below.")
    return [*said, NO_DIAGNOSIS]


def _made(work: Workspace, best: dict[int, list[Experiment]]) -> str:
    """When, and by which versions, as the run records of the best rows say."""
    folders = [
        folder for found in best.values() for folder in (found[0].folder, *experiments.folds(found[0].folder, "model.json"))
    ]
    records = list(_records(path for folder in folders for path in sorted(folder.glob("*.run.json"))))
    days = sorted({record["started"][:10] for record in records if record.get("started")})
    if not days:
        return ""
    commits = sorted({record["git_commit"][:9] for record in records if record.get("git_commit")})
    pythons = [record["python"] for record in records if record.get("python")]
    packages: dict[str, str] = {}
    for record in records:
        packages |= {name: version for name, version in (record.get("packages") or {}).items() if version and name in VERSIONS}
    words = [" to ".join(dict.fromkeys([days[0], days[-1]])), *(f"Python {version}" for version in pythons[-1:])]
    words += [f"{name} {version}" for name, version in packages.items()]
    shown = f"{', '.join(commits[:2])}{f' and {len(commits) - 2} more' if len(commits) > 2 else ''}"
    return ", ".join([*words, f"commit {shown}"] if commits else words)


def _records(paths: Iterable[Path]) -> Iterable[dict[str, Any]]:
    for path in paths:
        try:
            yield files.read_json(path)
        except Damaged:  # its part of the report says so
            continue


def _scans(work: Workspace) -> list[Path]:
    """Folders of predicted scans with a page, in which models of this data set looked: MOST_SCANS at most."""
    found = []
    for place in (work.outputs / "scans", work.root / "outputs" / "scans"):
        for path in sorted(place.glob("*/scan.json")):
            try:
                models = files.read_json(path).get("models") or []
            except Damaged:
                continue
            if (path.parent / "scan.html").is_file() and any(model.get("dataset") == work.dataset for model in models):
                found.append(path.parent)
    return found[:MOST_SCANS]
