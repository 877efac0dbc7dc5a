"""What the numbers say about each label of a multi-label network: what it lacks, and which remedy they suggest for the weakest.

The numbers can suggest, not prove, and intervals go along. Test images have been looked at here, so whether a remedy helps is to
be seen on validation.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base.label_meaning import ANY
from hemoct.evaluation import metrics, text
from hemoct.multilabel import tables
from hemoct.multilabel.evaluate import FEW, MultiLabel
from hemoct.multilabel.tables import LAST, LEARNS, NO_LEARNING, OVERFITS, UNKNOWN, Learning

RANKS_WELL, RANKS_BADLY = 0.80, 0.75  # AUROC; between them nothing is concluded
NEAR_CHANCE = 0.65  # AUROC
AT_BOUND = 0.01  # share of a bound of the search within which a temperature lies at it
LOW_RECALL = 0.5  # recall at a probability of 0.5: half of the positives are thought unlikely
LOW_THRESHOLD = 0.25  # chosen thresholds far below 0.5: the same, seen from validation
RARE = 0.1  # share of positive images below which a batch of 32 has about three or fewer
WIDE = 0.3  # width of the interval of F1 in which bad and good methods have room side by side
SOME = 5  # missed images below which their shares say nothing
MOST = 0.5
METRICS = ("f1", "recall", "precision", "auroc", "ap", "ece", "ece_calibrated")


# ---- which number speaks for which remedy


def _remedies(it: dict[str, Any], flags: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Remedies for a label (see `_label`), what speaks for each, its commands in Markdown, and whether a training with `flags`
    had it."""
    name, images, positives, missed = it["label"], it["images"], it["positives"], it["missed"]
    learning, f1, recall = it["learning"], it["metrics"]["f1"], it["recall_at_half"]
    state, train_f1 = learning["state"], learning["train_f1"]
    auroc, ranking = it["metrics"]["auroc"]["value"], f"AUROC {text.metric(it['metrics']['auroc'])}"
    threshold = float(np.median(list(it["thresholds"].values())))
    width = f1["ci95"][1] - f1["ci95"][0] if f1["ci95"] else 1.0
    if min(positives, it["patients"]) < FEW or width > WIDE:
        why = f"{positives} positive test images of {it['patients']} patients, F1 {text.metric(f1)}: so few, or so wide an " \
              "interval, tell no good method from a bad one, and what is named below may be chance"  # fmt: skip
        command = "`scripts/03_make_labels.py` and `scripts/05_make_splits.py` with more data, then " \
                  "`task4_multilabel/01_prepare_labels.py`"  # fmt: skip
        yield "more patients who show it", why, command, False
    if learning["folds"] and learning["best_is_last"] >= MOST * learning["folds"]:
        why = f"validation loss was lowest in the last epoch in {learning['best_is_last']} of {learning['folds']} folds"
        yield "longer training", why, f"`--epochs {2 * learning['epochs']}`", False
    if auroc is not None and auroc >= RANKS_WELL and (recall < LOW_RECALL or threshold < LOW_THRESHOLD):
        why = f"it is ranked well ({ranking}), yet {recall:.0%} of its positive images reach a probability of 0.5, " \
              f"and the median threshold is {threshold:.2f}; thresholds by label make up for part of that already"  # fmt: skip
        command = "`--loss weighted-bce`, `--loss focal` or `--loss asymmetric`"
        yield "a loss that weighs its positives", why, command, flags.get("loss", "bce") != "bce"
    if positives < RARE * images and state == NO_LEARNING:
        why = f"{positives / images:.1%} of the images show it, and training F1 ends at {train_f1:.2f}"
        had = flags.get("sampler", "none") != "none" or name in flags.get("oversample", {})
        yield "showing it more often", why, f"`--sampler balanced` or `--oversample {name}=3`", had
    if state == OVERFITS:
        why = f"training F1 ends at {train_f1:.2f}, validation F1 at {learning['val_f1']:.2f} ({learning['val_fall']:.2f} " \
              "below its highest)"  # fmt: skip
        had = name in flags.get("augment_label", {}) or flags.get("augment") == "strong"
        yield "stronger augmentation of its slices", why, f"`--augment-label {name}=strong`", had
    if auroc is not None and auroc <= RANKS_BADLY and state in (NO_LEARNING, LEARNS):
        why = f"it is ranked badly ({ranking}) and does not overfit; whether it is too small a finding for mean pooling, these " \
              "numbers cannot tell"  # fmt: skip
        yield "attention pooling", why, "`--attention`", bool(flags.get("attention"))
    if it["others"] and missed >= SOME and it["missed_without_call"] >= MOST * missed:
        why = f"on {it['missed_without_call']} of {missed} missed images no label at all was called, which speaks for bleeding " \
              "that is not seen rather than taken for another type"  # fmt: skip
        yield "a head for any bleeding", why, "`--heads any,types`", ANY in flags.get("heads", "types")
    if missed >= SOME and it["missed_beside_found"] >= MOST * missed:
        why = f"{it['missed_beside_found']} of {missed} missed images are of patients in whom another image of it was found"
        yield "neighbouring slices", why, "`--context 1`", flags.get("context", 0) > 0


# ---- the facts


def diagnose(
    evaluation: MultiLabel,
    content: dict[str, Any],
    histories: dict[str, pd.DataFrame],
    training: pd.DataFrame | None = None,
    flags: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What diagnosis.json holds: `labels` (see `_label`), `unmeasured` (label to reason), `weakest` (None where all are
    unmeasured) with its remedies; `had`: whether the training had one already, None where its flags are unknown.

    `content`: metrics.json. `training`: predictions of the training images, for their count. `flags`: those of the training, as
    its record names them. The weakest label is that of the lowest F1; of equal ones, of the lowest average precision.
    """
    labels = [_label(evaluation, name, content, tables.learning(histories, name), training) for name in evaluation.labels]
    # without a positive, F1 is null, or 0 once there is a false alarm: neither says that the label is weak
    unmeasured = {it["label"]: "no positive test image" if it["images"] else "it is known on no test image"
                  for it in labels if not it["positives"]}  # fmt: skip
    measured = [it for it in labels if it["positives"]]
    ranked = sorted(measured, key=lambda it: [it["metrics"][metric]["value"] or 0.0 for metric in ("f1", "ap")])
    weakest, *others = ranked or [None]
    return {
        "experiment": content.get("experiment"),
        "labels": labels,
        "unmeasured": unmeasured,
        "weakest": weakest
        and {
            "label": weakest["label"],
            "f1": weakest["metrics"]["f1"],
            "not_surely_weaker_than": [it["label"] for it in others if _overlap(weakest, it)],
            "remedies": [
                {"remedy": remedy, "because": why, "command": command, "had": None if flags is None else had}
                for remedy, why, command, had in _remedies(weakest, flags or {})
            ],
        },
        "notes": content["notes"],
    }


def _overlap(lower: dict[str, Any], higher: dict[str, Any]) -> bool:
    """Whether the intervals of F1 of two labels have a number in common; without an interval they may."""
    low, high = (it["metrics"]["f1"]["ci95"] for it in (lower, higher))
    return not low or not high or high[0] <= low[1]


def _label(
    evaluation: MultiLabel, name: str, content: dict[str, Any], learned: Learning, training: pd.DataFrame | None
) -> dict[str, Any]:
    """The facts about one label of the test images. Dictionaries of labels hold those that count at all, most first."""
    place, p_known, patients = evaluation.labels.index(name), evaluation.by_label[name].test.p, evaluation.table["patient"]
    truth, called, p = (values[:, place] for values in (evaluation.truth, evaluation.called, evaluation.p))
    positive, missed, false = truth == 1, (truth == 1) & ~called, (truth == 0) & called
    met = patients.isin(patients[positive & called]).to_numpy()
    mistakes = tables.mistaken(evaluation).query("label == @name and mistake == 'missed'").set_index("other")["images"]
    shown = pd.DataFrame(evaluation.truth[false] == 1, columns=evaluation.labels).drop(columns=[name, ANY], errors="ignore")
    low, high = metrics.TEMPERATURES[0] * (1 + AT_BOUND), metrics.TEMPERATURES[1] * (1 - AT_BOUND)
    return {
        "label": name,
        "others": len(evaluation.labels) - 1,
        "images": len(p_known),  # on which it is known
        "positives": int(positive.sum()),
        "patients": int(patients[positive].nunique()),
        # positive training images, mean of the folds
        "train_positives": None if training is None else float(training.groupby("fold")[f"y_{name}"].sum().mean()),
        "metrics": {key: content["metrics"][f"{key}_{name}"] for key in METRICS},
        "mean_p": float(p_known.mean()) if len(p_known) else None,
        "thresholds": {str(fold["fold"]): fold["thresholds"][name] for fold in content["folds"]},
        "temperatures_at_bound": sum(not low < fold["temperatures"][name] < high for fold in content["folds"]),  # folds
        "recall_at_half": float((p[positive] >= 0.5).mean()) if positive.any() else None,  # not at the thresholds
        "learning": asdict(learned),
        "missed": int(missed.sum()),
        "called_instead": _most_first(mistakes),  # wrongly, on missed images; `none`: no other was wrong there
        "missed_without_call": int((missed & ~evaluation.called.any(axis=1)).sum()),  # of no label at all
        "missed_beside_found": int((missed & met).sum()),  # of patients in whom another image of the label was found
        "false_alarms": int(false.sum()),
        # labels but `any` that images with a false alarm show, called or not; `none`: none that is known
        "truly": _most_first(pd.concat([shown.sum(), pd.Series({tables.NONE: (~shown.any(axis=1)).sum()})])),
    }


def _most_first(counts: pd.Series) -> dict[str, int]:
    """Without those that are 0."""
    return counts[counts > 0].astype(int).sort_values(ascending=False, kind="stable").to_dict()


# ---- for people


NOT_MEASURED = "No label could be measured."
HOW = (
    "Test images out of fold; in brackets 95 % intervals (bootstrap over patients). Learning: F1 at a probability of 0.5, mean "
    f"of the last {LAST} epochs and of the folds; that of training is counted while weights still move, on slices as augmented. "
    "A temperature at a bound of its search is no calibration."
)
CAUTION = (
    "These are suggestions, and test images have been looked at to make them: train with one, and let validation (val_f1_LABEL "
    "in history.csv) say whether it helps."
)
COLUMNS = {
    "How well it is found": {
        "positive images": lambda it: f"{it['positives']} of {it['patients']} patients",
        **{name: lambda it, key=key: text.metric(it["metrics"][key])
           for name, key in (("F1", "f1"), ("precision", "precision"), ("recall", "recall"), ("AUROC", "auroc"), ("AP", "ap"))},
        "thresholds by fold": lambda it: " ".join(f"{value:.2f}" for value in it["thresholds"].values()),
        "recall at 0.5": lambda it: _number(it["recall_at_half"]),
    },
    "How it is learned": {
        "state": lambda it: it["learning"]["state"],
        "positive training images, mean of the folds": lambda it: _number(it["train_positives"]),
        "training F1": lambda it: _number(it["learning"]["train_f1"]),
        "validation F1": lambda it: _number(it["learning"]["val_f1"]),
        "of the folds": lambda it: " to ".join(map(_number, it["learning"]["val_f1_folds"] or [])),
        "below its highest": lambda it: _number(it["learning"]["val_fall"]),
    },
    "What it is taken for": {
        "missed": lambda it: str(it["missed"]),
        "wrongly called there": lambda it: _counts(it["called_instead"], "no other"),
        "no label called there": lambda it: str(it["missed_without_call"]),
        "false alarms": lambda it: str(it["false_alarms"]),
        "these images show": lambda it: _counts(it["truly"], "none of the labels"),
    },
    "Calibration": {
        "mean probability": lambda it: _number(it["mean_p"]),
        "share of positives": lambda it: _number(it["positives"] / it["images"] if it["images"] else None),
        "ECE": lambda it: text.metric(it["metrics"]["ece"]),
        "ECE after temperature scaling": lambda it: text.metric(it["metrics"]["ece_calibrated"]),
        "folds with a temperature at its bound": lambda it: f"{it['temperatures_at_bound']} of {len(it['thresholds'])}",
    },
}  # fmt: skip
"""the tables of diagnosis.md: heading to columns to cells"""


def headline(diagnosed: dict[str, Any]) -> str:
    """One line: that no label was learned, else which is the weakest. `diagnosed`: what diagnosis.json holds."""
    return _not_learned(diagnosed) or _weakest_line(diagnosed)


def _not_learned(diagnosed: dict[str, Any]) -> str:
    """That no label was learned; "" where one was, or where no history tells.

    F1 at 0.5 is 0 too where probabilities of a rare label are low but well ranked: that is learned.
    """
    learned = [it["learning"] for it in diagnosed["labels"] if it["learning"]["state"] != UNKNOWN]
    auroc = max((it["metrics"]["auroc"]["value"] or 0.0 for it in diagnosed["labels"]), default=0.0)
    if not learned or any(one["state"] != NO_LEARNING for one in learned) or auroc >= RANKS_WELL:
        return ""
    best = max(one["train_f1"] for one in learned)
    worth = "all numbers below are near chance" if auroc < NEAR_CHANCE else "the numbers below are those of half a training"
    return f"No label was learned (training F1 {best:.2f} at most): train longer first; {worth}."


def _weakest_line(diagnosed: dict[str, Any]) -> str:
    weakest = diagnosed["weakest"]
    return f"Weakest label: {weakest['label']}, F1 {text.metric(weakest['f1'])}" if weakest else NOT_MEASURED


def as_markdown(diagnosed: dict[str, Any]) -> str:
    """diagnosis.md: whether nothing was learned or measured, the weakest label and what to try, then tables of all labels."""
    first = _not_learned(diagnosed)
    lines = [*[first, ""] * bool(first), f"# Diagnosis of {diagnosed['experiment'] or 'a multi-label network'}", ""]
    for name, why in diagnosed["unmeasured"].items():
        lines += [f"{name} is not measured: {why}.", ""]
    lines += [f"## {_weakest_line(diagnosed)}", "", *_weakest(diagnosed["weakest"])] if diagnosed["weakest"] else [NOT_MEASURED]
    lines += ["", "## All labels", "", HOW]
    for heading, columns in COLUMNS.items():
        rows = [[it["label"], *(cell(it) for cell in columns.values())] for it in diagnosed["labels"]]
        lines += ["", f"### {heading}", "", text.Table(["label", *columns], rows).markdown()]
    lines += ["", "## To know", "", *(f"* {note}" for note in diagnosed["notes"])] if diagnosed["notes"] else []
    return text.plain("\n".join(lines)) + "\n"


def _weakest(weakest: dict[str, Any]) -> list[str]:
    lines, others = [], ", ".join(weakest["not_surely_weaker_than"])
    if others:
        lines += [f"Its F1 is the lowest, but its interval overlaps that of {others}: another sample could name another one.", ""]
    if not weakest["remedies"]:
        return [*lines, "No number speaks for a remedy."]
    for one in weakest["remedies"]:
        then = "Tried: this training had it, and it was not enough" if one["had"] else f"Try {one['command']}"
        lines.append(f"* {one['remedy']}: {one['because']}. {then}")
    lines += ["", CAUTION]
    if weakest["remedies"][0]["had"] is None:
        lines += ["", "The flags of this training are not known here; a remedy that it already had is none."]
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _counts(counts: dict[str, int], none: str) -> str:
    return ", ".join(f"{none if name == tables.NONE else name} {count}" for name, count in counts.items())
