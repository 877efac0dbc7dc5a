"""Tables of an evaluated multi-label network: by label, by epoch, what goes together, what is taken for what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from hemoct.evaluation import metrics
from hemoct.multilabel import working_set
from hemoct.multilabel.evaluate import MultiLabel

RATES = ("precision", "recall", "specificity", "f1", "auroc", "ap")
SCORES = ("precision", "recall", "f1")
NONE = "none"


def predictions_table(found: MultiLabel) -> pd.DataFrame:
    """predictions.csv of an experiment: test images of all folds, and y_LABEL, p_LABEL, called_LABEL for each label."""
    frame = found.table.copy()
    for place, name in enumerate(found.labels):
        frame[f"y_{name}"] = pd.array(found.truth[:, place], dtype="Float64").astype("Int64")
        frame[f"p_{name}"] = found.p[:, place]
        frame[f"called_{name}"] = found.called[:, place].astype(int)
    return frame.sort_values("image_id")


def per_label(found: MultiLabel, content: dict[str, Any]) -> pd.DataFrame:
    """per_label.csv: a row a label: what there is of it, its 2 x 2 counts, metrics with intervals, the threshold of each fold."""
    rows = []
    for name, one in found.of_label.items():
        matrix = metrics.confusion(one.test.y, one.decision, metrics.ones(len(one.test.y)))[0].astype(int)
        row = {"label": name, "images": len(one.test.y), "positive": content["positives_by_label"][name]}
        row |= {"positive_patients": content["positive_patients_by_label"][name], "unknown": one.unknown}
        row |= dict(zip(("tn", "fp", "fn", "tp"), matrix.ravel(), strict=True))
        for rate in RATES:
            cell = content["metrics"][f"{rate}_{name}"]
            low, high = cell["ci95"] or (None, None)
            row |= {rate: cell["value"], f"{rate}_low": low, f"{rate}_high": high}
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


def together(found: MultiLabel) -> pd.DataFrame:
    """cooccurrence.csv: label, beside, images that show both, on which both are called; of images with all labels known."""
    whole = found.known.all(axis=1)
    true, called = (working_set.cooccurrence(values[whole]) for values in (found.truth, found.called))
    rows = [[found.labels[here], found.labels[there], int(count), int(called[here, there])]
            for (here, there), count in np.ndenumerate(true)]  # fmt: skip
    return pd.DataFrame(rows, columns=["label", "beside", "true", "called"])


def mistaken(found: MultiLabel) -> pd.DataFrame:
    """confusions.csv: label, mistake (missed, false alarm), other, images: what missed images were called instead, and what
    images with a false alarm truly show; other labels that were right there too do not count as `instead`. An image may count
    for several others; `none`: for no one.
    """
    rows = []
    for place, name in enumerate(found.labels):
        known = found.known[:, place]
        truth, called = found.truth == 1, found.called
        missed, false = known & truth[:, place] & ~called[:, place], known & ~truth[:, place] & called[:, place]
        wrongly_called, wrongly_left = called & ~truth & found.known, truth & ~called
        for mistake, images, others in (("missed", missed, wrongly_called), ("false alarm", false, wrongly_left)):
            of_others = np.delete(others[images], place, axis=1)
            names = [other for other in found.labels if other != name]
            counts = dict(zip(names, of_others.sum(axis=0), strict=True)) | {NONE: (~of_others.any(axis=1)).sum()}
            rows += [[name, mistake, other, int(count)] for other, count in counts.items()]
    return pd.DataFrame(rows, columns=["label", "mistake", "other", "images"])


def text_report(found: MultiLabel, lines: list[str]) -> str:
    """classification_report.txt: what was measured, then scikit-learn's report of the images with all labels known."""
    whole = found.known.all(axis=1)
    if not whole.any():
        return "\n".join([*lines, "", "on no image all labels are known"])
    truth, called = ((values[whole] == 1).astype(int) for values in (found.truth, found.called))
    body = classification_report(truth, called, target_names=found.labels, digits=4, zero_division=np.nan)
    return "\n".join([*lines, "", body])


def summary(content: dict[str, Any], table: pd.DataFrame, headline: list[str], place: str) -> str:
    """What a person wants at once: the numbers over all labels, and a line a label."""
    lines = [f"{place}: " + "\n  ".join(headline)]
    for name in ("f1_macro", "f1_micro", "exact_match", "hamming", "rsna_logloss"):
        cell = content["metrics"][name]
        interval = f"{cell['ci95'][0]:.4f} to {cell['ci95'][1]:.4f}" if cell["ci95"] else ""
        value = f"{cell['value']:.4f}" if cell["value"] is not None else f"null ({cell['reason']})"
        lines.append(f"  {name:16}{value}   {interval}")
    shown = table[["label", "images", "positive", "positive_patients", *RATES]]
    lines += ["achieved on test:", shown.to_string(index=False, float_format="{:.3f}".format, na_rep="null")]
    return "\n".join(lines)
