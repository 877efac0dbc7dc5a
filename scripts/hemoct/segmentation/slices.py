"""What predicted masks say of slices: positive or not, beside the ceiling that the true masks themselves give.

In PHE-SICH-CT-IDS masks outline the edema, so that 'hemorrhage from masks' is a proxy: slices with a box but an empty mask are
never found by it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.evaluation import bootstrap, decisions, predictions, scores
from hemoct.evaluation.decisions import Evaluation, Question
from hemoct.evaluation.thresholds import MAX_F1, Rule

ANY_PIXEL = "any pixel"
CEILING = "true masks, any pixel (ceiling)"
COLUMNS = [*tables.PREDICTION_COLUMNS, "true_px", "predicted_px"]
COMPARED = ("accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy", "mcc")


def read(work: Workspace, folder: Path) -> tuple[pd.DataFrame, int]:
    """Pixels of the slices with y_LABEL (truth) and p_LABEL (predicted pixels); and how many of test lack a mask file.

    Those are left out: they have no ceiling. Stops for several exclusive classes: pixels do not say which.
    """
    path = work.need(folder / "slice_pixels.csv", "task3_segmentation/03_evaluate.py")
    frame = tables.read_csv(path, COLUMNS)
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    classes, targets = slices.choose_targets(labels, dataset, None)
    if len(classes) > 1:
        raise UserError(f"{dataset.name} has the classes {', '.join(classes)}: a mask does not say which; nothing to do here")
    truth = pd.Series(targets[:, 0], index=labels["image_id"])
    drawn = frame["true_px"].notna()
    frame = frame.assign(**{f"y_{classes[0]}": frame["image_id"].map(truth), f"p_{classes[0]}": frame["predicted_px"]})
    return frame[drawn], int((~drawn & (frame["part"] == "test")).sum())


def evaluate(frame: pd.DataFrame) -> Evaluation:
    """A slice is positive from N predicted pixels on, N by the best F1 on validation; as a second rule, from one pixel on."""
    label = predictions.label_columns(frame)[0]
    return decisions.evaluate(frame, Question([label], label, probability=False), {ANY_PIXEL: 1.0})


def ceiling(evaluation: Evaluation, frame: pd.DataFrame) -> Evaluation:
    """The same test slices, called positive where the true mask has a pixel."""
    true = frame.set_index(["image_id", "fold"])["true_px"]
    of_test = true.reindex(pd.MultiIndex.from_frame(evaluation.test.table[["image_id", "fold"]])).to_numpy(dtype=float)
    rules = [Rule(rule.fold, {MAX_F1: 1.0}, ANY_PIXEL, None, "none") for rule in evaluation.rules]
    return replace(evaluation, test=replace(evaluation.test, p=of_test), rules=rules)


def comparison(evaluation: Evaluation, ceiling: Evaluation, resamples: int, seed: int) -> pd.DataFrame:
    """slice_comparison.csv: one row a rule, with counts, and each metric with its interval."""
    table = evaluation.test.table
    weights = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), resamples, seed)
    points = {"predicted masks, at least N pixels": MAX_F1, "predicted masks, any pixel": ANY_PIXEL}
    called = {name: evaluation.test.p >= evaluation.thresholds(point) for name, point in points.items()}
    rows = []
    for name, value in (called | {CEILING: ceiling.decision}).items():
        counts, rates = scores.rates(evaluation.test.y, value, weights, dict(zip(COMPARED, COMPARED, strict=True)))
        rows.append({"rule": name, "n": len(table), **counts, **rates})
    return pd.DataFrame(rows)


def notes(evaluation: Evaluation, missing: int) -> list[str]:
    """What a reader of the numbers has to know beyond them."""
    least = ", ".join(f"{rule.points[MAX_F1]:g} (fold {rule.fold})" for rule in evaluation.rules)
    lines = [f"a slice is positive from N predicted pixels on; N by the best F1 on validation: {least}"]
    empty = int((np.asarray(evaluation.test.p) == 0).sum())
    lines.append(f"{empty} of {len(evaluation.test.p)} slices have an empty predicted mask")
    return [*lines, f"{missing} test slice(s) without a mask file are left out"] if missing else lines
