"""What the report of a data set holds, in its order: which files make which section, and their captions.

What is missing is left out; a new task adds its `Section`s to SECTIONS and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hemoct.base import experiments
from hemoct.evaluation.text import Table
from hemoct.report import results, tables as report_tables

Tables = tuple[tuple[str, Callable[[Path], Table], str], ...]
Figures = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """One kind of content: every folder that matches `folder` and has any of the files becomes a part of the report."""

    title: str
    """`{folder}` is the matching folder, from the first `*` of the pattern on"""
    folder: str
    """pattern below the root; `{name}` is the data set"""
    records: tuple[str, ...]
    """patterns of the run records whose commands made the files"""
    tables: Tables = ()
    """(file, reader, caption); the empty file name hands the folder itself to the reader"""
    figures: Figures = ()
    """(file or pattern, caption); a figure is shown once, by the first line that names it"""
    folded: bool = True
    """whether it is closed until somebody asks for it"""


ON_TEST = "Metrics on test {cases}; 95 % bootstrap interval over patients. AUROC and AP are means of the folds."
CONFUSION = "each fold at its own validation threshold"
LOSSES = "Training and validation loss of each fold, with the epoch that was kept."
OTHERS = ("*.png", "")

EVALUATION_FIGURES = (
    ("confusion_matrix.png", f"Confusion matrix of the test slices, {CONFUSION}."),
    ("roc.png", "ROC, one line a fold; the thresholds were chosen on validation."),
    ("pr.png", "Precision and recall, one line a fold."),
    ("calibration.png", "Calibration in 15 bins of equal size, before and after temperature scaling on validation."),
    ("loss_curves.png", LOSSES),
    ("worst_mistakes.png", "The most confident mistakes on test slices."),
    OTHERS,
)
EVALUATION_TABLES = (
    ("metrics.json", report_tables.metrics_table, ON_TEST.format(cases="slices")),
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
    ("confusion_matrix.png", f"Test slices, positive with a box; {CONFUSION}."),
    ("roc.png", "ROC of slices, by the confidence of their best box, one line a fold."),
    ("pr.png", "Precision and recall of slices, by the confidence of their best box, one line a fold."),
    OTHERS,
)
DETECTION_TABLES = (
    ("metrics.json", report_tables.metrics_table,
     "Metrics on test slices; 95 % bootstrap interval over patients. Accuracy to AP: slices, positive when they have a box. "
     "AUROC, AP, mAP and FROC are means of the folds."),
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
    ("confusion_matrix.png", f"Pixels of the test slices, {CONFUSION}."),
    ("training_curves.png", "Losses and validation Dice by epoch."),
    OTHERS,
)
FROM_MASKS_TABLES = (
    ("slice_comparison.csv", report_tables.rates,
     "Slices from predicted masks, and the ceiling that the true masks give; 95 % bootstrap interval over patients."),
)  # fmt: skip
FROM_MASKS_FIGURES = (
    ("confusion_matrix.png", "Test slices, positive from N predicted pixels on, N chosen on validation."),
    ("roc.png", "ROC of slices, by their predicted pixels, one line a fold."),
    ("pr.png", "Precision and recall of slices, by their predicted pixels, one line a fold."),
)
HEMATOMA_FIGURES = (
    ("core_and_abc2.png", "Unvalidated estimates of the bleeding: bright core and ABC/2 of the boxes, by lesion."),
    ("core_and_edema.png", "Bright core (unvalidated) and predicted edema."),
)
MULTILABEL_TABLES = (
    ("metrics.json", report_tables.over_labels, "All labels on test images; 95 % bootstrap interval over patients."),
    ("per_label.csv", report_tables.rates,
     "Each label on test images, each fold at its own validation threshold; AUROC and AP are means of the folds."),
    ("stage_one.csv", report_tables.rates, "The first of two stages: is there anything? Thresholds chosen on validation."),
    ("comparison.csv", report_tables.differences, "Two stages less one stage, paired by image or study."),
)  # fmt: skip
MULTILABEL_FIGURES = (
    ("confusion_matrices.png", f"Each label: called or not against truth, {CONFUSION}."),
    ("by_epoch.png", "Precision, recall and F1 of each label by epoch: what does not learn, and what overfits."),
    ("cooccurrence.png", "Labels that go together, in truth and as called."),
    ("roc.png", "ROC of each label, one line a fold."),
    ("pr.png", "Precision and recall of each label, one line a fold."),
    ("loss_curves.png", LOSSES),
    ("comparison.png", "Two stages against one: value and 95 % interval of each metric."),
    OTHERS,
)
EXPLAINED_TABLES = (
    ("scores.csv", report_tables.looked_at,
     "Where the heat lies, against boxes and masks; 95 % bootstrap interval over patients; beside it what sees nothing, or all."),
)  # fmt: skip
EXPLAINED_FIGURES = (
    ("scores.png", "Shares of the heat, and boxes that the regions of maps hit."),
    ("true_positives.png", "Correct calls: heat, box and mask."),
    ("false_positives.png", "False alarms: what the model looked at."),
    ("false_negatives.png", "Missed ones."),
    OTHERS,
)
DATA = (
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
)  # fmt: skip


def _of_task(task: int, tables: Tables, figures: Figures, cases: str = "slice") -> tuple[Section, ...]:
    """The sections that every task has: its experiments side by side, their differences, each one, each one on other data."""
    folder, train = f"outputs/{{name}}/task{task}", f"fold*/{experiments.STEPS[task][0].replace('.py', '.run.json')}"
    difference = f"Difference to the first experiment, paired by {cases}."
    return (
        Section(f"Task {task}: all experiments", folder, (), results.readers(task), folded=False),
        Section(
            f"Task {task}: differences between experiments", f"{folder}/comparison", ("*.run.json",),
            (("comparison.csv", report_tables.differences, difference),),
            (("comparison.png", "Value and 95 % interval of each metric."), OTHERS), folded=False,
        ),
        Section(f"Task {task}: {{folder}}", f"{folder}/*", (train, "*.run.json"), tables, figures),
        Section(f"Task {task}: {{folder}}", f"{folder}/*/on-*", ("*.run.json",), tables, figures),
    )  # fmt: skip


def _explained(task: int) -> Section:
    """Where the models of a task look."""
    pattern = f"outputs/{{name}}/task{task}/*/explain/*"
    return Section(f"Task {task}: where {{folder}} looks", pattern, ("*.run.json",), EXPLAINED_TABLES, EXPLAINED_FIGURES)


SECTIONS = (
    *_of_task(1, EVALUATION_TABLES, EVALUATION_FIGURES),
    Section(
        "Task 1: a grid of trainings", "outputs/{name}/task1/grid", ("*.run.json",),
        (("grid.csv", report_tables.rates, "Conditions, the highest F1 first; the best of many is flattered by the choice."),),
    ),
    _explained(1),
    *_of_task(2, DETECTION_TABLES, DETECTION_FIGURES),
    Section(  # a gate may have any name
        "Task 2: {folder}", "outputs/{name}/task2/*/*", ("fold*/06_gate_classifier.run.json", "06_*.run.json"),
        GATE_TABLES, GATE_FIGURES,
    ),
    *_of_task(3, SEGMENTATION_TABLES, SEGMENTATION_FIGURES),
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
    *_of_task(4, MULTILABEL_TABLES, MULTILABEL_FIGURES, "image"),
    _explained(4),
    *DATA,
)  # fmt: skip
