"""Tables of an evaluated classifier: per patient, per operating point, the text report, the worst mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.evaluation import baselines, bootstrap, protocol, scores
from hemoct.evaluation.decisions import Evaluation

RATES = {"sensitivity": "recall", "specificity": "specificity", "precision": "precision", "f1": "f1"}
"""columns of operating_points.csv and their metrics"""
CALLS = np.array([["TN", "FP"], ["FN", "TP"]])


def patients_table(evaluation: Evaluation, slices: pd.Series) -> pd.DataFrame:
    """per_patient.csv: one row per patient, sorted. `slices`: slice number by image_id (NA where unknown).

    With several classes: slices and how many were right. Else the positive slices found and missed, the false alarms, and the
    largest run of neighbouring positive slices (consecutive slice numbers) that were missed.
    """
    table, right, positive = evaluation.test.table, evaluation.test.y == evaluation.decision, evaluation.test.y == 1
    counted = {"right": right}
    if evaluation.question.positive is not None:
        counted = {"positive_slices": positive, "found": positive & right, "missed": positive & ~right,
                   "false_alarms": ~positive & ~right}  # fmt: skip
    by_patient = table.assign(slices=1, **counted).groupby("patient")
    frame = by_patient[["slices", *counted]].sum()
    frame.insert(0, "fold", by_patient["fold"].agg(lambda folds: "+".join(map(str, sorted(folds.unique())))))
    if evaluation.question.positive is not None:
        missed = table["image_id"][counted["missed"]]
        number = pd.Series(slices.reindex(missed).to_numpy(dtype=float, na_value=np.nan), index=missed.index)
        runs = number.groupby(table["patient"]).agg(largest_run).astype("Int64")
        frame.insert(len(frame.columns) - 1, "largest_run_missed", runs.reindex(frame.index, fill_value=0))
    return frame.reset_index()


def largest_run(numbers: np.ndarray | pd.Series) -> int | None:
    """Length of the longest chain n, n+1, n+2 ... among slice numbers (float); 0 for none, None when one is unknown (NaN)."""
    if np.isnan(numbers).any():
        return None
    if not len(numbers):
        return 0
    ordered = np.unique(numbers)
    ends = np.flatnonzero(np.append(np.diff(ordered) != 1, True))
    return int(np.diff(ends, prepend=-1).max())


def operating_points(evaluation: Evaluation, resamples: int, seed: int) -> pd.DataFrame:
    """operating_points.csv: for each rule the thresholds that validation gave, and what they achieve on test, pooled."""
    table = evaluation.test.table
    weights = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), resamples, seed)
    rows = []
    for point in evaluation.rules[0].points:
        called = evaluation.test.p >= evaluation.thresholds(point)
        counts, rates = scores.rates(evaluation.test.y, called, weights, RATES)
        thresholds = {f"threshold_fold{rule.fold}": rule.points[point] for rule in evaluation.rules}
        rows.append({"rule_on_validation": point, **rates, **counts, **thresholds})
    return pd.DataFrame(rows)


def summary(work: Workspace, folder: Path, content: dict[str, Any]) -> str:
    """The few numbers of metrics.json and operating_points.csv that a person wants at once."""
    lines = [f"{work.show(folder)}: " + "\n  ".join(protocol.headline(content))]
    for name, cell in content["metrics"].items():
        interval = f"{cell['ci95'][0]:.4f} to {cell['ci95'][1]:.4f}" if cell["ci95"] else ""
        value = f"{cell['value']:.4f}" if cell["value"] is not None else f"null ({cell['reason']})"
        lines.append(f"  {name:28}{value}   {interval}")
    lines += [
        f"  {line}" for key in ("auroc", "f1", "f1_macro") if (line := baselines.sentence(content.get("baselines", {}), key))
    ]
    if content["positive"] is not None:
        columns = ["rule_on_validation", "sensitivity", "specificity", "precision", "f1"]
        points = tables.read_csv(folder / "operating_points.csv", columns)[columns]
        points = points.to_string(index=False, float_format="{:.3f}".format, na_rep="null")
        lines += ["achieved on test, threshold chosen on validation:", points]
    return "\n".join(lines)


def predictions_table(evaluation: Evaluation) -> pd.DataFrame:
    """predictions.csv of an experiment: the test images of all folds joined (out-of-fold), y_LABEL and p_LABEL for each label."""
    frame, p = evaluation.test.table.copy(), evaluation.test.p
    p = np.column_stack([1 - p, p]) if p.ndim == 1 else p
    for label in evaluation.question.labels:
        number = evaluation.question.names.index(label)
        frame[f"y_{label}"], frame[f"p_{label}"] = (evaluation.test.y == number).astype(int), p[:, number]
    return frame.sort_values("image_id")


def calls(evaluation: Evaluation) -> pd.DataFrame:
    """classification_summary.csv: `image, ground_truth, predicted, classification`: 0 or 1, then TP, FP, FN or TN."""
    y, called = evaluation.test.y, evaluation.decision
    table = pd.DataFrame({"image": evaluation.test.table["image_id"], "ground_truth": y, "predicted": called})
    return table.assign(classification=CALLS[y, called]).sort_values("image")


def text_report(evaluation: Evaluation, lines: list[str]) -> str:
    """classification_report.txt: the lines that say what was measured, then scikit-learn's report."""
    from sklearn.metrics import classification_report  # a second, which the summary of another task need not wait

    classes = list(range(len(evaluation.question.names)))
    body = classification_report(
        evaluation.test.y,
        evaluation.decision,
        labels=classes,
        target_names=evaluation.question.names,
        digits=4,
        zero_division=np.nan,
    )
    return "\n".join([*lines, "", body])


def worst(evaluation: Evaluation, count: int) -> dict[str, pd.DataFrame]:
    """The most confident mistakes by kind: image_id and p (of the positive class, or of the wrong class that was chosen)."""
    y, p, decision, ids = evaluation.test.y, evaluation.test.p, evaluation.decision, evaluation.test.table["image_id"]
    if evaluation.question.positive is None:
        names, p = np.array(evaluation.question.names), p.max(axis=1)
        captions = "is " + pd.Series(names[y]) + ", called " + pd.Series(names[decision])
        kinds = {"most confident mistakes": (y != decision, -p)}
    else:
        kinds = {"missed": ((y == 1) & (decision == 0), p), "false alarms": ((y == 0) & (decision == 1), -p)}
        captions = ""
    table = pd.DataFrame({"image_id": ids, "p": p, "caption": captions})
    ordered = {kind: table.assign(order=order)[chosen] for kind, (chosen, order) in kinds.items()}
    return {kind: cases.sort_values(["order", "image_id"]).head(count) for kind, cases in ordered.items()}
