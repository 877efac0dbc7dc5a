"""What the numbers say about each label of a multi-label network: what it lacks, and which remedy they suggest for the weakest.

The numbers can suggest, not prove: RULES says which number speaks for which remedy, and intervals go along. Test images have
been looked at here, so whether a remedy helps is to be seen on validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from hemoct.data.slices import ANY
from hemoct.evaluation import metrics, text
from hemoct.multilabel import tables
from hemoct.multilabel.evaluate import FEW, MultiLabel

LAST = 3  # epochs at the end whose mean is told: single ones of few positives jump
LEARNED = 0.5  # training F1 below which a network does not even know by heart what it is shown
GAP = 0.2  # training less validation F1, or a fall of validation F1: folds of few positives differ by less without any cause
RANKS_WELL, RANKS_BADLY = 0.80, 0.75  # AUROC; between them nothing is concluded
NEAR_CHANCE = 0.65  # AUROC
AT_BOUND = 0.01  # share of a bound of the search within which a temperature lies at it
LOW_RECALL = 0.5  # recall at a probability of 0.5: half of the positives are thought unlikely
LOW_THRESHOLD = 0.25  # chosen thresholds far below 0.5: the same, seen from validation
RARE = 0.1  # share of positive images below which a batch of 32 has about three or fewer
WIDE = 0.3  # width of the interval of F1 in which bad and good methods have room side by side
SOME = 5  # missed images below which their shares say nothing
MOST = 0.5
NO_LEARNING, OVERFITS, LEARNS, UNKNOWN = "does not learn", "overfits", "learns", "unknown: no history of it"


@dataclass(frozen=True)
class Learning:
    """How a label fares in training, from history.csv of the folds: F1 at a probability of 0.5, mean of the last epochs."""

    state: str
    folds: int = 0
    train_f1: float | None = None
    val_f1: float | None = None
    val_f1_folds: list[float] | None = None
    """lowest and highest of the folds"""
    val_fall: float | None = None
    """by how much the mean validation F1 of the folds lies below its highest one"""
    best_is_last: int = 0
    """folds whose lowest validation loss is that of the last epoch"""
    epochs: int = 0

    @property
    def twice(self) -> int:
        return 2 * self.epochs


@dataclass(frozen=True)
class Label:
    """The facts about one label: cells with `value, ci95, reason` are those of metrics.json."""

    label: str
    others: int
    """other labels beside it"""
    images: int
    """test images on which it is known"""
    positives: int
    patients: int
    """with a positive test image"""
    train_positives: float | None
    """positive training images, mean of the folds"""
    f1: dict[str, Any]
    recall: dict[str, Any]
    precision: dict[str, Any]
    auroc: dict[str, Any]
    ap: dict[str, Any]
    ece: dict[str, Any]
    ece_calibrated: dict[str, Any]
    mean_p: float | None
    thresholds: dict[str, float]
    """by fold"""
    temperatures_at_bound: int
    """folds whose temperature lies at a bound of the search"""
    recall_at_half: float | None
    """at a probability of 0.5 instead of the thresholds"""
    learning: Learning
    missed: int
    called_instead: dict[str, int]
    """labels that were wrongly called on missed images; an image may count for several; `none`: no other was wrong there"""
    missed_without_call: int
    """missed images on which no label at all was called"""
    missed_beside_found: int
    """missed images of patients in whom another image of the label was found"""
    false_alarms: int
    truly: dict[str, int]
    """labels that images with a false alarm show, called or not, without `any`, which goes along with every type; an image may
    count for several; `none`: none that is known"""

    @property
    def share(self) -> float:
        return self.positives / max(self.images, 1)

    @property
    def threshold(self) -> float:
        """The median of the folds."""
        return float(np.median(list(self.thresholds.values())))

    @property
    def width(self) -> float:
        """Of the interval of F1; 1 where there is none."""
        return self.f1["ci95"][1] - self.f1["ci95"][0] if self.f1["ci95"] else 1.0

    @property
    def unmeasured(self) -> str | None:
        """Why nothing can be said about how well the label is found; None where it can be.

        Without a positive, F1 is null, or 0 once there is a false alarm: neither says that the label is weak.
        """
        if not self.images:
            return "it is known on no test image"
        return None if self.positives else "no positive test image"

    @property
    def ranking(self) -> str:
        """AUROC in words."""
        return text.metric(self.auroc)

    @property
    def found(self) -> str:
        """F1 in words."""
        return text.metric(self.f1)

    def ranks(self, least: float, most: float = 1.0) -> bool:
        return self.auroc["value"] is not None and least <= self.auroc["value"] <= most


# ---- which number speaks for which remedy


@dataclass(frozen=True)
class Rule:
    remedy: str
    holds: Callable[[Label], bool]
    because: str
    """a format string; `it` is the Label"""
    command: str
    """the same, in Markdown: commands between backticks"""
    had: Callable[[dict[str, Any], str], bool]
    """whether a training with these flags already had it"""


RULES = (
    Rule("more patients who show it", lambda it: min(it.positives, it.patients) < FEW or it.width > WIDE,
         "{it.positives} positive test images of {it.patients} patients, F1 {it.found}: so few, or so wide an interval, tell no "
         "good method from a bad one, and what is named below may be chance",
         "`scripts/03_make_labels.py` and `scripts/05_make_splits.py` with more data, then "
         "`task4_multilabel/01_prepare_labels.py`",
         lambda flags, label: False),
    Rule("longer training", lambda it: it.learning.folds > 0 and it.learning.best_is_last >= MOST * it.learning.folds,
         "validation loss was lowest in the last epoch in {it.learning.best_is_last} of {it.learning.folds} folds",
         "`--epochs {it.learning.twice}`", lambda flags, label: False),
    Rule("a loss that weighs its positives", lambda it: it.ranks(RANKS_WELL) and
         (it.recall_at_half < LOW_RECALL or it.threshold < LOW_THRESHOLD),
         "it is ranked well (AUROC {it.ranking}), yet {it.recall_at_half:.0%} of its positive images get a probability "
         "of 0.5 or more, and the median threshold is {it.threshold:.2f}; thresholds by label make up for part of that already",
         "`--loss weighted-bce`, `--loss focal` or `--loss asymmetric`", lambda flags, label: flags.get("loss", "bce") != "bce"),
    Rule("showing it more often", lambda it: it.share < RARE and it.learning.state == NO_LEARNING,
         "{it.share:.1%} of the images show it, and training F1 ends at {it.learning.train_f1:.2f}",
         "`--sampler balanced` or `--oversample {it.label}=3`",
         lambda flags, label: flags.get("sampler", "none") != "none" or label in flags.get("oversample", {})),
    Rule("stronger augmentation of its slices", lambda it: it.learning.state == OVERFITS,
         "training F1 ends at {it.learning.train_f1:.2f}, validation F1 at {it.learning.val_f1:.2f} "
         "({it.learning.val_fall:.2f} below its highest)", "`--augment-label {it.label}=strong`",
         lambda flags, label: label in flags.get("augment_label", {}) or flags.get("augment") == "strong"),
    Rule("attention pooling", lambda it: it.ranks(0, RANKS_BADLY) and it.learning.state in (NO_LEARNING, LEARNS),
         "it is ranked badly (AUROC {it.ranking}) and does not overfit; whether it is too small a finding for mean "
         "pooling, these numbers cannot tell", "`--attention`", lambda flags, label: bool(flags.get("attention"))),
    Rule("a head for any bleeding", lambda it: it.others and it.missed >= SOME and it.missed_without_call >= MOST * it.missed,
         "on {it.missed_without_call} of {it.missed} missed images no label at all was called, which speaks for bleeding that "
         "is not seen rather than taken for another type", "`--heads any,types`",
         lambda flags, label: ANY in flags.get("heads", "types")),
    Rule("neighbouring slices", lambda it: it.missed >= SOME and it.missed_beside_found >= MOST * it.missed,
         "{it.missed_beside_found} of {it.missed} missed images are of patients in whom another image of it was found",
         "`--context 1`", lambda flags, label: flags.get("context", 0) > 0),
)  # fmt: skip


def remedies(it: Label, flags: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The remedies whose rule holds; `had`: whether the training had it, None where its flags are unknown."""
    return [
        {
            "remedy": rule.remedy,
            "because": rule.because.format(it=it),
            "command": rule.command.format(it=it),
            "had": None if flags is None else rule.had(flags, it.label),
        }
        for rule in RULES
        if rule.holds(it)
    ]


# ---- the facts


def diagnose(
    found: MultiLabel,
    content: dict[str, Any],
    histories: dict[str, pd.DataFrame],
    training: pd.DataFrame | None = None,
    flags: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What diagnosis.json holds: `labels` (a Label each), `unmeasured` (label to reason), `weakest` (None where all are
    unmeasured) with its remedies.

    `content`: metrics.json. `training`: predictions of the training images, for their count. `flags`: those of the training, as
    its record names them. The weakest label is that of the lowest F1; of equal ones, of the lowest average precision.
    """
    mistakes = tables.mistaken(found).set_index(["label", "mistake"])
    labels = [_label(found, name, content, mistakes.loc[name], histories, training) for name in found.labels]
    measured = [it for it in labels if it.unmeasured is None]
    by_weakness = sorted(measured, key=lambda it: (it.f1["value"], it.ap["value"] or 0.0))
    return {
        "experiment": content.get("experiment"),
        "labels": [asdict(it) for it in labels],
        "unmeasured": {it.label: it.unmeasured for it in labels if it.unmeasured},
        "weakest": {
            "label": by_weakness[0].label,
            "f1": by_weakness[0].f1,
            "not_surely_weaker_than": [other.label for other in by_weakness[1:] if _overlap(by_weakness[0].f1, other.f1)],
            "remedies": remedies(by_weakness[0], flags),
        }
        if measured
        else None,
        "notes": content["notes"],
    }


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the intervals of two metrics have a number in common; without an interval they may."""
    return not one["ci95"] or not other["ci95"] or other["ci95"][0] <= one["ci95"][1]


def _label(
    found: MultiLabel,
    name: str,
    content: dict[str, Any],
    mistakes: pd.DataFrame,
    histories: dict[str, pd.DataFrame],
    training: pd.DataFrame | None,
) -> Label:
    place, one = found.labels.index(name), found.of_label[name]
    truth, called = found.truth[:, place], found.called[:, place]
    positive, missed, false = truth == 1, (truth == 1) & ~called, (truth == 0) & called
    met = found.table["patient"].isin(found.table["patient"][positive & called]).to_numpy()
    cells = {key: content["metrics"][f"{key}_{name}"]
             for key in ("f1", "recall", "precision", "auroc", "ap", "ece", "ece_calibrated")}  # fmt: skip
    others = [other for other in found.labels if other not in (name, ANY)]
    shown = found.truth[false][:, [found.labels.index(other) for other in others]] == 1
    truly = dict(zip(others, shown.sum(axis=0), strict=True)) | {tables.NONE: (~shown.any(axis=1)).sum()}
    return Label(
        label=name,
        others=len(found.labels) - 1,
        images=len(one.test.y),
        positives=int(positive.sum()),
        patients=int(found.table["patient"][positive].nunique()),
        train_positives=None if training is None else float((training[f"y_{name}"] == 1).groupby(training["fold"]).sum().mean()),
        **cells,
        mean_p=float(one.test.p.mean()) if len(one.test.p) else None,
        thresholds={str(fold["fold"]): fold["thresholds"][name] for fold in content["folds"]},
        temperatures_at_bound=sum(_at_bound(fold["temperatures"][name]) for fold in content["folds"]),
        recall_at_half=float((found.p[positive, place] >= 0.5).mean()) if positive.any() else None,
        learning=learning(histories, name),
        missed=int(missed.sum()),
        called_instead=_most_first(mistakes.loc[["missed"]].set_index("other")["images"].to_dict()),
        missed_without_call=int((missed & ~found.called.any(axis=1)).sum()),
        missed_beside_found=int((missed & met).sum()),
        false_alarms=int(false.sum()),
        truly=_most_first(truly),
    )


def _at_bound(temperature: float) -> bool:
    low, high = metrics.TEMPERATURES
    return not low * (1 + AT_BOUND) < temperature < high * (1 - AT_BOUND)


def _most_first(counts: dict[str, Any]) -> dict[str, int]:
    """Without those that are 0."""
    return {name: int(count) for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count}


def learning(histories: dict[str, pd.DataFrame], name: str) -> Learning:
    """The learning state of a label. Training F1 is counted while the weights still move, on slices as they are augmented."""
    table = tables.by_epoch(histories, [name]).dropna(subset="f1")
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


# ---- for people


def headline(diagnosed: dict[str, Any]) -> str:
    """One line: that no label was learned, else which is the weakest. `diagnosed`: what diagnosis.json holds."""
    return _not_learned(diagnosed) or _weakest_line(diagnosed)


def _not_learned(diagnosed: dict[str, Any]) -> str:
    """That no label was learned; "" where one was, or where no history tells.

    F1 at 0.5 is 0 too where probabilities of a rare label are low but well ranked: that is learned.
    """
    learned = [it["learning"] for it in diagnosed["labels"] if it["learning"]["state"] != UNKNOWN]
    auroc = max((it["auroc"]["value"] or 0.0 for it in diagnosed["labels"]), default=0.0)
    if not learned or any(one["state"] != NO_LEARNING for one in learned) or auroc >= RANKS_WELL:
        return ""
    best = max(one["train_f1"] for one in learned)
    worth = "all numbers below are near chance" if auroc < NEAR_CHANCE else "the numbers below are those of half a training"
    return f"No label was learned (training F1 {best:.2f} at most): train longer first; {worth}."


def _weakest_line(diagnosed: dict[str, Any]) -> str:
    weakest = diagnosed["weakest"]
    return f"Weakest label: {weakest['label']}, F1 {text.metric(weakest['f1'])}" if weakest else NOT_MEASURED


def as_markdown(diagnosed: dict[str, Any]) -> str:
    """diagnosis.md: that no label was learned, what could not be measured, the weakest label and what to try, then the facts
    about every label."""
    first = _not_learned(diagnosed)
    lines = [*[first, ""] * bool(first), f"# Diagnosis of {diagnosed['experiment'] or 'a multi-label network'}", ""]
    for name, why in diagnosed["unmeasured"].items():
        lines += [f"{name} is not measured: {why}.", ""]
    lines += [f"## {_weakest_line(diagnosed)}", "", *_weakest(diagnosed["weakest"])] if diagnosed["weakest"] else [NOT_MEASURED]
    rows = [_row(it) for it in diagnosed["labels"]]
    lines += [
        "",
        "## All labels",
        "",
        HOW,
        "",
        text.Table(list(rows[0]), [list(row.values()) for row in rows]).markdown(),
    ]
    for it in diagnosed["labels"]:
        lines += ["", f"### {it['label']}", "", *(f"* {line}" for line in _facts(it))]
    if diagnosed["notes"]:
        lines += ["", "## To know", "", *(f"* {note}" for note in diagnosed["notes"])]
    return "\n".join(lines) + "\n"


NOT_MEASURED = "No label could be measured."
HOW = (
    "Test images out of fold; in brackets 95 % intervals (bootstrap over patients). Learning: F1 at a probability of 0.5, mean "
    f"of the last {LAST} epochs and of the folds; that of training is counted while weights still move, on slices as augmented."
)
CAUTION = (
    "These are suggestions, and test images have been looked at to make them: train with one, and let validation (val_f1_LABEL "
    "in history.csv) say whether it helps."
)


def _weakest(weakest: dict[str, Any]) -> list[str]:
    lines = []
    if weakest["not_surely_weaker_than"]:
        others = ", ".join(weakest["not_surely_weaker_than"])
        lines += [f"Its F1 is the lowest, but its interval overlaps that of {others}: another sample could name another one.", ""]
    if not weakest["remedies"]:
        return [*lines, "No number speaks for a remedy."]
    for one in weakest["remedies"]:
        then = "Tried: this training had it, and it was not enough" if one["had"] else f"Try {one['command']}"
        lines.append(f"* {one['remedy']}: {one['because']}. {then}")
    unknown = ["", "The flags of this training are not known here; a remedy that it already had is none."]
    return [*lines, "", CAUTION, *unknown * any(one["had"] is None for one in weakest["remedies"])]


def _row(it: dict[str, Any]) -> dict[str, str]:
    cells = {name: text.metric(it[key]) for name, key in (("F1", "f1"), ("AUROC", "auroc"), ("AP", "ap"))}
    thresholds = " ".join(f"{value:.2f}" for value in it["thresholds"].values())
    return {"label": it["label"], "positive images": str(it["positives"]), "patients": str(it["patients"]), **cells,
            "thresholds by fold": thresholds, "learning": it["learning"]["state"]}  # fmt: skip


def _facts(it: dict[str, Any]) -> list[str]:
    learned, lines = it["learning"], []
    if it["train_positives"] is not None:
        lines.append(f"positive training images: {it['train_positives']:.1f}, mean of the folds")
    if learned["train_f1"] is not None:
        low, high = learned["val_f1_folds"]
        lines.append(
            f"{learned['state']}: training F1 ends at {learned['train_f1']:.2f}, validation F1 at {learned['val_f1']:.2f} "
            f"(folds {low:.2f} to {high:.2f})" + f", {learned['val_fall']:.2f} below its highest" * (learned["val_fall"] >= 0.005)
        )
    precision, recall = text.metric(it["precision"]), text.metric(it["recall"])
    lines.append(f"precision {precision}, recall {recall}" + _at_half(it))
    unseen = f"; {it['missed_without_call']} of them with no label called at all" * bool(it["missed"])
    lines.append(f"{it['missed']} missed" + _counts("wrongly called there", it["called_instead"], "no other") + unseen)
    lines.append(f"{it['false_alarms']} false alarms" + _counts("these images show", it["truly"], "none of the labels"))
    if it["mean_p"] is not None:
        share, after = it["positives"] / it["images"], text.metric(it["ece_calibrated"])
        lines.append(
            f"calibration: mean probability {it['mean_p']:.2f} where {share:.2f} are positive; "
            f"ECE {text.metric(it['ece'])}, after temperature scaling {after}{_bound(it)}"
        )
    return lines


def _bound(it: dict[str, Any]) -> str:
    low, high = metrics.TEMPERATURES
    many = f"; the temperature lies at a bound of its search ({low:g} to {high:g}) in {it['temperatures_at_bound']} of "
    return f"{many}{len(it['thresholds'])} fold(s), which is no calibration" * bool(it["temperatures_at_bound"])


def _at_half(it: dict[str, Any]) -> str:
    return "" if it["recall_at_half"] is None else f"; at a probability of 0.5 recall would be {it['recall_at_half']:.3f}"


def _counts(words: str, counts: dict[str, int], none: str) -> str:
    shown = (f"{none if name == tables.NONE else name} {count}" for name, count in counts.items())
    return f"; {words}: " + ", ".join(shown) if counts else ""
