"""Tables of an evaluated multi-label network: by label, by epoch, which labels go together, which are taken for which."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hemoct.evaluation import baselines, metrics
from hemoct.multilabel import working_set
from hemoct.multilabel.evaluate import MultiLabel

RATES = ("precision", "recall", "specificity", "f1", "auroc", "ap")
SCORES = ("precision", "recall", "f1")
BESIDE = ("f1", "auroc", "ap")
"""rates that stand beside those of a baseline"""
NONE = "none"
LAST = 3  # epochs at the end whose mean is taken: single ones of few positives jump
LEARNED = 0.5  # training F1 below which a network has not even learned by heart what it is shown
GAP = 0.2  # training less validation F1, or a fall of validation F1: folds of few positives differ by less without any cause
NO_LEARNING, OVERFITS, LEARNS, UNKNOWN = "does not learn", "overfits", "learns", "unknown: no history of it"


def predictions_table(evaluation: MultiLabel) -> pd.DataFrame:
    """predictions.csv of an experiment: test images of all folds, and y_LABEL, p_LABEL, called_LABEL for each label."""
    frame = evaluation.table.copy()
    for place, name in enumerate(evaluation.labels):
        frame[f"y_{name}"] = pd.array(evaluation.truth[:, place], dtype="Float64").astype("Int64")
        frame[f"p_{name}"] = evaluation.p[:, place]
        frame[f"called_{name}"] = evaluation.called[:, place].astype(int)
    return frame.sort_values("image_id")


def per_label(evaluation: MultiLabel, content: dict[str, Any]) -> pd.DataFrame:
    """per_label.csv: a row a label: its images, 2 x 2 counts, metrics with intervals, the threshold of each fold.

    RATE_position is that of the baseline that knows the place of the slice alone, RATE_less_position the paired difference to it.
    """
    position, rows = content.get("baselines", {}).get(baselines.POSITION, {}), []
    for name, label in evaluation.by_label.items():
        matrix = metrics.confusion(label.test.y, label.decision, metrics.ones(len(label.test.y)))[0].astype(int)
        row = {"label": name, "images": len(label.test.y), "positive": content["positives_by_label"][name]}
        row |= {"positive_patients": content["positive_patients_by_label"][name], "unknown": label.unknown}
        row |= dict(zip(("tn", "fp", "fn", "tp"), matrix.ravel(), strict=True))
        for rate in RATES:
            cell = content["metrics"][f"{rate}_{name}"]
            low, high = cell["ci95"] or (None, None)
            row |= {rate: cell["value"], f"{rate}_low": low, f"{rate}_high": high}
        for rate in BESIDE if position.get("metrics") else ():
            less = position["difference"].get(f"{rate}_{name}", {"value": None, "ci95": None})
            row[f"{rate}_position"] = position["metrics"][f"{rate}_{name}"]["value"]
            columns = (f"{rate}_less_position{end}" for end in ("", "_low", "_high"))
            row |= dict(zip(columns, [less["value"], *(less["ci95"] or (None, None))], strict=True))
        rows.append(row | {f"threshold_fold{fold['fold']}": fold["thresholds"][name] for fold in content["folds"]})
    return pd.DataFrame(rows)


def by_epoch(histories: dict[str, pd.DataFrame], labels: list[str]) -> pd.DataFrame:
    """by_epoch.csv: fold, epoch, part (train, val), label, precision, recall, f1 at a probability of 0.5."""
    rows = []
    for fold, history in histories.items():
        for part in ("train", "val"):
            for name in labels:
                columns = {f"{part}_{score}_{name}": score for score in SCORES}
                if set(columns) <= set(history):
                    of_label = history[["epoch", *columns]].rename(columns=columns)
                    rows.append(of_label.assign(fold=fold, part=part, label=name))
    columns = ["fold", "epoch", "part", "label", *SCORES]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


@dataclass(frozen=True)
class Learning:
    """How a label fares in training, from history.csv of the folds: F1 at a probability of 0.5, mean of the last epochs."""

    state: str
    folds: int = 0
    train_f1: float | None = None
    val_f1: float | None = None
    val_f1_folds: list[float] | None = None  # lowest and highest of the folds
    val_fall: float | None = None  # by how much the mean validation F1 of the folds lies below its highest one
    best_is_last: int = 0  # folds whose lowest validation loss is that of the last epoch
    epochs: int = 0


def learning(histories: dict[str, pd.DataFrame], name: str) -> Learning:
    """The learning state of a label. Training F1 is counted while the weights still move, on slices as they are augmented."""
    table = by_epoch(histories, [name]).dropna(subset="f1")
    train, val = (table[table["part"] == part].groupby("fold")["f1"] for part in ("train", "val"))
    if not len(train) or not len(val):
        return Learning(UNKNOWN)
    of_folds, train_f1 = val.apply(_end), float(train.apply(_end).mean())
    val_f1, epochs = float(of_folds.mean()), table.groupby("fold")["epoch"].max()
    shared = table[table["epoch"] <= epochs.min()]  # beyond it the mean jumps when a fold ends
    fall, train_fall = (_fall(shared[shared["part"] == part]) for part in ("val", "train"))
    state = LEARNS
    if train_f1 < LEARNED:
        state = NO_LEARNING
    elif max(train_f1 - val_f1, fall - train_fall) >= GAP:
        state = OVERFITS
    losses = [histories[fold]["val_loss"] for fold in of_folds.index]
    best_is_last = sum(bool(loss.iloc[-1] < loss.iloc[:-1].min()) for loss in losses)
    ends = [float(of_folds.min()), float(of_folds.max())]
    return Learning(state, len(of_folds), train_f1, val_f1, ends, fall, best_is_last, int(epochs.max()))


def _end(values: pd.Series) -> float:
    return values.iloc[-LAST:].mean()


def _fall(table: pd.DataFrame) -> float:
    """By how much F1, mean of the folds and of the last epochs, lies below the highest such mean."""
    means = table.groupby("epoch")["f1"].mean().rolling(LAST).mean().dropna()
    return float(means.max() - means.iloc[-1]) if len(means) else 0.0


def together(evaluation: MultiLabel) -> pd.DataFrame:
    """cooccurrence.csv: label, beside, images that show both (true) or are called both (called); all their labels are known."""
    true, called = evaluation.together()
    return working_set.pairs(evaluation.labels, true=true, called=called)


def mistaken(evaluation: MultiLabel) -> pd.DataFrame:
    """confusions.csv: label, mistake (missed, false alarm), other, images.

    Which labels were wrongly called on missed images, and which labels that were not called images with a false alarm show. An
    image may count for several other labels; `none`: for no other.
    """
    missed = (evaluation.truth == 1) & ~evaluation.called
    false, rows = (evaluation.truth == 0) & evaluation.called, []
    for place, name in enumerate(evaluation.labels):
        for mistake, of_label, of_others in (("missed", missed, false), ("false alarm", false, missed)):
            others = pd.DataFrame(of_others[of_label[:, place]], columns=evaluation.labels).drop(columns=name)
            counts = others.sum().to_dict() | {NONE: (~others.any(axis=1)).sum()}
            rows += [[name, mistake, other, int(count)] for other, count in counts.items()]
    return pd.DataFrame(rows, columns=["label", "mistake", "other", "images"])


def text_report(evaluation: MultiLabel, lines: list[str]) -> str:
    """classification_report.txt: what was measured, then scikit-learn's report of the images with all labels known."""
    whole = evaluation.known.all(axis=1)
    if not whole.any():
        return "\n".join([*lines, "", "on no image all labels are known"])
    truth, called = ((values[whole] == 1).astype(int) for values in (evaluation.truth, evaluation.called))
    names, numbers = evaluation.labels, None
    if len(names) == 1:  # a single column is taken for two classes
        truth, called, names, numbers = truth[:, 0], called[:, 0], [f"no {names[0]}", *names], [0, 1]
    from sklearn.metrics import classification_report  # a second, for this alone

    body = classification_report(truth, called, labels=numbers, target_names=names, digits=4, zero_division=np.nan)
    return "\n".join([*lines, "", body])


def summary(content: dict[str, Any], table: pd.DataFrame, headline: list[str], place: str) -> str:
    """What a person wants to see at once: the metrics over all labels, and a line for each label."""
    lines = [f"{place}: " + "\n  ".join(headline)]
    for name in ("f1_macro", "f1_micro", "exact_match", "hamming", "rsna_logloss"):
        cell = content["metrics"][name]
        interval = f"{cell['ci95'][0]:.4f} to {cell['ci95'][1]:.4f}" if cell["ci95"] else ""
        value = f"{cell['value']:.4f}" if cell["value"] is not None else f"null ({cell['reason']})"
        lines.append(f"  {name:16}{value}   {interval}")
    shown = table[["label", "images", "positive", "positive_patients", *RATES]]
    lines += ["achieved on test:", shown.to_string(index=False, float_format="{:.3f}".format, na_rep="null")]
    keys = ("f1_macro", *(f"auroc_{name}" for name in content["labels"]))
    said = [baselines.sentence(content.get("baselines", {}), key) for key in keys]
    return "\n".join([*lines, *(f"  {line}" for line in said if line)])
