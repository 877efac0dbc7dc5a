"""The report of one data set: which files make which section, and how a page is made of them.

SECTIONS is the table of contents. What is missing is left out; a new task adds its `Section`s and nothing else.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from PIL import Image

from hemoct.base import files, label_meaning
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation.text import Table
from hemoct.report import tables as report_tables

SINGLE = re.compile(r" --(fold|threads|device) \S+| --resume\b")  # flags that say where and in which pieces a command ran
WIDE = 1000  # px; figures with more than one panel are wider and get a row of their own


@dataclass(frozen=True)
class Section:
    """One kind of content: every folder that matches `folder` and has any of the files becomes a part of the report."""

    title: str
    """`{folder}` is the matching folder, from the first `*` of the pattern on"""
    folder: str
    """pattern below the root; `{name}` is the data set"""
    records: tuple[str, ...]
    """patterns of the run records whose commands made the files"""
    tables: tuple[tuple[str, Callable[[Path], Table], str], ...] = ()
    """(file, reader, caption); the empty file name hands the folder itself to the reader"""
    figures: tuple[tuple[str, str], ...] = ()
    """(file or pattern, caption); a figure is shown once, by the first line that names it"""


@dataclass
class Part:
    """A section filled with what was found."""

    title: str
    commands: list[tuple[str, str]] = field(default_factory=list)
    """(command, how it ran)"""
    tables: list[tuple[str, Table]] = field(default_factory=list)
    figures: list[tuple[str, Path]] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    """files that the part was made from"""


# ---- the table of contents

EVALUATION_FIGURES = (
    ("confusion_matrix.png", "Confusion matrix over the test slices of all folds, each fold at its own validation threshold."),
    ("roc.png", "ROC, one line a fold; the thresholds were chosen on validation."),
    ("pr.png", "Precision and recall, one line a fold."),
    ("calibration.png", "Calibration in 15 bins of equal size, before and after temperature scaling on validation."),
    ("loss_curves.png", "Training and validation loss of each fold, with the epoch that was kept."),
    ("worst_mistakes.png", "The most confident mistakes on test slices."),
    ("*.png", ""),
)
EVALUATION_TABLES = (
    ("metrics.json", report_tables.metrics_table, "Metrics on test slices; 95 % bootstrap interval over patients."),
    ("operating_points.csv", report_tables.rates, "Operating points: thresholds chosen on validation, rates achieved on test."),
)
DETECTION_FIGURES = (
    ("threshold_tradeoff.png", "Slices called positive at each confidence threshold, with and without a lesion."),
    ("froc.png", "FROC: share of lesions' boxes found (IoU at least 0.5) against false boxes an image."),
    ("box_precision_recall.png", "Precision and recall of boxes at IoU 0.5, one line a fold."),
    ("localisation.png", "Boxes at the threshold: localisation accuracy and false positives, by the IoU that is asked for."),
    ("size_and_brightness.png", "Boxes found, by lesion size and by contrast to the surroundings."),
    ("error_types.png", "What kind of boxes were missed or false; rules from size, contrast, place and neighbours."),
    ("hard_cases.png", "Largest missed boxes and most confident false ones."),
    ("training_performance_summary.png", "Losses and mAP by epoch, with the epoch that was kept."),
    ("confusion_matrix.png", "Slices of all folds, positive with a box at or above the fold's validation threshold."),
    ("roc.png", "ROC of slices, by the confidence of their best box, one line a fold."),
    ("pr.png", "Precision and recall of slices, by the confidence of their best box, one line a fold."),
    ("*.png", ""),
)
DETECTION_TABLES = (
    ("metrics.json", report_tables.metrics_table,
     "Metrics on test slices; 95 % bootstrap interval over patients. Accuracy to AP: slices, positive when they have a box."),
    ("operating_points.csv", report_tables.rates,
     "Slices at operating points: thresholds chosen on validation, rates achieved on test."),
    ("localisation.csv", report_tables.rates, "Boxes at the threshold: localisation accuracy, false positives an image."),
    ("error_types.csv", report_tables.whole, "Missed and false boxes by type; each has one, though several may hold for it."),
    ("training_summary.csv", report_tables.whole, "Training of each fold: best epoch, why it ended, mAP on validation."),
)  # fmt: skip
GATE_TABLES = (
    ("gate_comparison.csv", report_tables.side_by_side,
     "Detection as a gate: the gate, the detector's best confidence alone and whole slices, on the same test slices."),
    ("gate_comparison.csv", report_tables.differences, "Difference to the gate, paired by slice."),
)  # fmt: skip
GATE_FIGURES = (
    ("gate_comparison.png", "Value and 95 % interval of each metric."),
    ("gate_regions.png", "Regions that the gate saw, by what the detector alone made of the slice."),
)  # fmt: skip
SEGMENTATION_TABLES = (
    ("metrics.json", report_tables.metrics_table,
     "Metrics on test slices; 95 % bootstrap interval over patients. A slice is positive when its predicted mask has a pixel."),
    ("volume_agreement.csv", report_tables.whole,
     "Volumes of the masks by patient: predicted less true, and 95 % limits of agreement."),
)  # fmt: skip
SEGMENTATION_FIGURES = (
    ("examples.png", "Best, median and worst slices by Dice."),
    ("dice_and_size.png", "Dice against the size of the true mask."),
    ("volumes.png", "Volume by patient, predicted against true, and Bland-Altman."),
    ("threshold.png", "Mean Dice by patient on validation against the threshold, one line a fold."),
    ("confusion_matrix.png", "Pixels of all test slices, each fold at its own validation threshold."),
    ("training_curves.png", "Losses and validation Dice by epoch."),
    ("*.png", ""),
)
FROM_MASKS_TABLES = (
    ("slice_comparison.csv", report_tables.rates,
     "Slices from predicted masks, and the ceiling that the true masks give; 95 % bootstrap interval over patients."),
)  # fmt: skip
FROM_MASKS_FIGURES = (
    ("confusion_matrix.png", "Slices of all folds, positive from N predicted pixels on, N chosen on validation."),
    ("roc.png", "ROC of slices, by their predicted pixels, one line a fold."),
    ("pr.png", "Precision and recall of slices, by their predicted pixels, one line a fold."),
)
HEMATOMA_FIGURES = (
    ("core_and_abc2.png", "Unvalidated estimates of the bleeding: bright core and ABC/2 of the boxes, by lesion."),
    ("core_and_edema.png", "Bright core (unvalidated) and predicted edema."),
)
MULTILABEL_TABLES = (
    ("metrics.json", report_tables.over_labels, "All labels on test images; 95 % bootstrap interval over patients."),
    ("per_label.csv", report_tables.rates, "Each label on test images, each fold at its own validation threshold."),
    ("stage_one.csv", report_tables.rates, "The first of two stages: is there anything? Thresholds chosen on validation."),
    ("comparison.csv", report_tables.differences, "Two stages less one stage, paired by image or study."),
)
MULTILABEL_FIGURES = (
    ("confusion_matrices.png", "Each label: called or not against truth, each fold at its own validation threshold."),
    ("by_epoch.png", "Precision, recall and F1 of each label by epoch: what does not learn, and what overfits."),
    ("cooccurrence.png", "Labels that go together, in truth and as called."),
    ("roc.png", "ROC of each label, one line a fold."),
    ("pr.png", "Precision and recall of each label, one line a fold."),
    ("loss_curves.png", "Training and validation loss of each fold, with the epoch that was kept."),
    ("comparison.png", "Two stages against one: value and 95 % interval of each metric."),
    ("*.png", ""),
)
SECTIONS = (
    Section(
        "Data", "data/work/{name}", ("0[1-4]_*.run.json",),
        tables=(
            ("dataset.json", report_tables.dataset_facts, "The data set as scripts/03_make_labels.py read it."),
            ("audit.json", report_tables.mask_ceiling, "The ceiling of 'a slice is positive when its mask has any pixel'."),
            ("audit.json", report_tables.audit_checks, "What the check found, one example each; all cases: audit.csv."),
        ),
        figures=(
            ("figures/class_balance.png", "Positive and negative images."),
            ("figures/slices_per_patient.png", "Slices of each patient."),
            ("figures/patients.png", "What is known about the patients."),
            ("figures/lesion_size.png", "Lesion sizes."),
            ("figures/lesion_position.png", "Where lesions lie."),
            ("figures/image_size.png", "Image sizes."),
            ("figures/mean_variance*.png", "Mean and variance image of each class, and the difference of the means."),
            ("figures/*.png", ""),
        ),
    ),
    Section(
        "Folds", "data/work/{name}", ("05_*.run.json",),
        tables=(("splits.csv", report_tables.fold_sizes, "For fold K, test is K, validation is the next, the rest trains."),),
    ),
    Section(
        "Task 1: all experiments", "outputs/{name}/task1", (),
        tables=(("", report_tables.results_table, "Metrics on test slices; 95 % bootstrap interval over patients."),),
    ),
    Section(
        "Task 1: differences between experiments", "outputs/{name}/task1/comparison", ("*.run.json",),
        tables=(("comparison.csv", report_tables.differences, "Difference to the first experiment, paired by slice."),),
        figures=(("comparison.png", "Value and 95 % interval of each metric."), ("*.png", "")),
    ),
    Section(
        "Task 1: {folder}", "outputs/{name}/task1/*", ("fold*/01_train.run.json", "*.run.json"),
        EVALUATION_TABLES, EVALUATION_FIGURES,
    ),
    Section("Task 1: {folder}", "outputs/{name}/task1/*/on-*", ("*.run.json",), EVALUATION_TABLES, EVALUATION_FIGURES),
    Section(
        "Task 2: all experiments", "outputs/{name}/task2", (),
        tables=(("", report_tables.results_table, "Metrics on test slices; 95 % bootstrap interval over patients."),),
    ),
    Section(
        "Task 2: {folder}", "outputs/{name}/task2/*", ("fold*/02_train.run.json", "*.run.json"),
        DETECTION_TABLES, DETECTION_FIGURES,
    ),
    Section("Task 2: {folder}", "outputs/{name}/task2/*/on-*", ("*.run.json",), DETECTION_TABLES, DETECTION_FIGURES),
    Section(  # a gate may have any name
        "Task 2: {folder}", "outputs/{name}/task2/*/*", ("fold*/06_gate_classifier.run.json", "06_*.run.json"),
        GATE_TABLES, GATE_FIGURES,
    ),
    Section(
        "Task 3: all experiments", "outputs/{name}/task3", (),
        tables=(("", report_tables.results_table, "Metrics on test slices; 95 % bootstrap interval over patients."),),
    ),
    Section(
        "Task 3: differences between experiments", "outputs/{name}/task3/comparison", ("*.run.json",),
        tables=(("comparison.csv", report_tables.differences, "Difference to the first experiment, paired by slice."),),
        figures=(("comparison.png", "Value and 95 % interval of each metric."), ("*.png", "")),
    ),
    Section(
        "Task 3: {folder}", "outputs/{name}/task3/*", ("fold*/02_train.run.json", "*.run.json"),
        SEGMENTATION_TABLES, SEGMENTATION_FIGURES,
    ),
    Section("Task 3: {folder}", "outputs/{name}/task3/*/on-*", ("*.run.json",), SEGMENTATION_TABLES, SEGMENTATION_FIGURES),
    Section(
        "Task 3: {folder}, an upper bound", "outputs/{name}/task3/*/truth-boxes", ("*.run.json",),
        SEGMENTATION_TABLES, SEGMENTATION_FIGURES,
    ),
    Section(
        "Task 3: {folder}", "outputs/{name}/task3/*/classification", ("*.run.json",), FROM_MASKS_TABLES, FROM_MASKS_FIGURES,
    ),
    Section("Task 3: {folder}", "outputs/{name}/task3/*/hematoma", ("*.run.json",), (), HEMATOMA_FIGURES),
    Section(
        "Task 4: the working set", "data/work/{name}/task4", ("*.run.json",),
        tables=(("label_counts.csv", report_tables.label_counts, "Images and patients of each label."),),
        figures=(("cooccurrence.png", "Labels that go together, and how many each fold has."),),
    ),
    Section(
        "Task 4: all experiments", "outputs/{name}/task4", (),
        tables=(("", report_tables.results_table, "Metrics on test images; 95 % bootstrap interval over patients."),),
    ),
    Section(
        "Task 4: differences between experiments", "outputs/{name}/task4/comparison", ("*.run.json",),
        tables=(("comparison.csv", report_tables.differences, "Difference to the first experiment, paired by image."),),
        figures=(("comparison.png", "Value and 95 % interval of each metric."), ("*.png", "")),
    ),
    Section(
        "Task 4: {folder}", "outputs/{name}/task4/*", ("fold*/02_train.run.json", "*.run.json"),
        MULTILABEL_TABLES, MULTILABEL_FIGURES,
    ),
    Section("Task 4: {folder}", "outputs/{name}/task4/*/on-*", ("*.run.json",), MULTILABEL_TABLES, MULTILABEL_FIGURES),
)  # fmt: skip


# ---- from sections to pages


def collect(work: Workspace, sections: Iterable[Section] = SECTIONS) -> list[Part]:
    """The parts of `sections` for which files exist. Raises UserError when there are none."""
    parts, named = [], set()
    for section in sections:
        pattern = section.folder.format(name=work.dataset)
        above = work.root / pattern.split("*")[0]
        for folder in sorted(work.root.glob(pattern)):
            if pattern.endswith("*") and folder.name == "comparison":  # of experiments, but none itself
                continue
            part = Part(section.title.format(folder=folder.relative_to(above)))
            _fill(part, section, folder, named)
            if part.tables or part.figures:
                parts.append(part)
    if not parts:
        raise UserError(
            f"{work.show(work.work)} and {work.show(work.outputs)} hold nothing to report; "
            f"begin with: python scripts/03_make_labels.py --dataset {work.dataset}"
        )
    return parts


def _fill(part: Part, section: Section, folder: Path, named: set[Path]) -> None:
    for file, reader, caption in section.tables:
        path = folder / file
        table = reader(path) if path.exists() else None
        if table and table.rows:
            part.tables.append((caption, table))
            part.sources += [path] if file else sorted(path.glob("*/metrics.json"))
    for pattern, caption in section.figures:
        for path in sorted(set(folder.glob(pattern)) - named):
            named.add(path)
            part.figures.append((caption or path.stem.replace("_", " ").capitalize() + ".", path))
            part.sources.append(path)
    records = [path for pattern in section.records for path in sorted(folder.glob(pattern))]
    part.commands = commands([files.read_json(path) for path in records])
    part.sources += records


def commands(records: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """(command, how it ran) of run records, each command once: the folds of one training share it, their times add up.

    Folds that were trained one by one are shown as the one command that trains them all.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        runs.setdefault(SINGLE.sub("", record["command"]), []).append(record)
    shown = {common: {record["command"] for record in same} for common, same in runs.items()}
    return [(shown[common].pop() if len(shown[common]) == 1 else common, _how(same)) for common, same in runs.items()]


def _how(records: list[dict[str, Any]]) -> str:
    runs = [run for record in records for run in (*record.get("earlier", []), record)]
    facts = [commits_of(runs)]
    facts += sorted({record["device"] for record in records if record.get("device")})
    facts.append(_duration(sum(run.get("wall_s") or 0 for run in runs)))
    if any(record["status"] != "ok" for record in records):
        facts.append("did not end")
    return ", ".join(facts)


def commits_of(records: Iterable[dict[str, Any]]) -> str:
    """`commit 012345678`, or each of several once: folds of one training may come from different states of the code."""
    names = dict.fromkeys(
        (record.get("git_commit") or "unknown")[:9] + (" with uncommitted changes" if record.get("git_dirty") else "")
        for record in records
    )
    return ("commit " if len(names) == 1 else "commits ") + " and ".join(names)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def write(work: Workspace, parts: list[Part]) -> list[Path]:
    """Write report.html (figures inside) and report.md (figures linked) to outputs/NAME."""
    dataset = work.work / "dataset.json"
    layout = files.read_json(dataset)["layout"] if dataset.is_file() else None
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=lambda name: name == "report.html",
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["wide"] = lambda path: Image.open(path).width > WIDE
    environment.filters["unbroken"] = lambda cell: re.sub(r"(?<=\d)-(?=\d)", "\N{NON-BREAKING HYPHEN}", cell)
    environment.filters["inside"] = lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    environment.filters["link"] = lambda path: quote(Path(os.path.relpath(path, work.outputs)).as_posix())
    return [
        files.write_text(
            work.outputs / name,
            environment.get_template(name).render(
                name=work.dataset, labels_mean=label_meaning.REPORT.get(layout, ""), parts=parts
            ),
        )
        for name in ("report.html", "report.md")
    ]
