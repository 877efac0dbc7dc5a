"""Thresholds: the operating points that a fold chooses on validation, and those of an evaluated experiment for new images."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hemoct.base import experiments, files
from hemoct.evaluation import metrics

MAX_F1 = "max F1"
EXPECTED_F1 = "expected F1"
"""see metrics.expected_f1_threshold; of probabilities only"""
DECIDING = {"max-f1": MAX_F1, "expected-f1": EXPECTED_F1}
"""operating points that may decide, by their word on the command line"""
POINTS: dict[str, Callable[..., float]] = {
    MAX_F1: metrics.max_f1_threshold,
    **{f"sensitivity >= {target:.2f}": partial(metrics.sensitivity_threshold, target=target) for target in (0.90, 0.95, 0.99)},
    **{f"specificity >= {target:.2f}": partial(metrics.specificity_threshold, target=target) for target in (0.90, 0.95, 0.99)},
}
FIXED = {"0.5": 0.5}
"""operating points that nothing is chosen for"""


@dataclass(frozen=True)
class Rule:
    """What a fold chose on its validation images."""

    fold: int | str
    points: dict[str, float]
    """threshold of each operating point; empty for several classes"""
    threshold_rule: str
    """how it was chosen, in words"""
    temperature: float | None
    """None where scores are no probabilities"""
    temperature_rule: str
    decides: str = MAX_F1
    """the operating point by which an image is called positive"""
    lacks: str = ""
    """what validation lacked to choose thresholds, `no positive`; then a 0.5 stands in, which no mean of folds should hold"""
    fitted: bool = True
    """whether validation could fit the temperature; else a 1 stands in"""

    @property
    def chosen(self) -> bool:
        """Whether validation could choose the thresholds."""
        return not self.lacks


def threshold(task: int, experiment: Path, folders: list[Path], given: float | None, default: float) -> tuple[float, str]:
    """The threshold from which on something counts, and in words where it comes from: the mean of those of the evaluation."""
    if given is not None:
        return given, "given"
    folds, why = _of_folds(task, experiment, folders)
    values = [fold["threshold"] for fold in folds if fold["chosen"] and fold["threshold"] is not None]
    if not values:
        return default, why
    return float(np.mean(values)), f"{_joined(len(values))}, chosen on validation"


def thresholds(
    task: int, experiment: Path, folders: list[Path], given: float | None, default: float, labels: list[str]
) -> tuple[dict[str, float], str]:
    """As `threshold`, one for each label, of the folds that have chosen it; the `default` where none has. The words say which."""
    if given is not None:
        return dict.fromkeys(labels, given), "given"
    folds, why = _of_folds(task, experiment, folders)
    chosen = {name: [fold for fold in folds if fold["thresholds"].get(name) is not None and not fold["lacks"].get(name)]
              for name in labels}  # fmt: skip
    means = {name: float(np.mean([fold["thresholds"][name] for fold in of])) if of else default for name, of in chosen.items()}
    none = [name for name in labels if not chosen[name]]
    if len(none) == len(labels):
        return means, "; ".join(_left_out(folds, none)) or why
    words = ["; ".join(dict.fromkeys(fold["threshold_rules"][name] for name, of in chosen.items() for fold in of))]
    words += [f"{default:.3g} for {', '.join(none)}, which has none there"] * bool(none)
    words += [f"{line}, which {'is' if line.endswith('1 fold') else 'are'} left out"
              for line in _left_out(folds, [name for name in labels if chosen[name]])]  # fmt: skip
    return means, f"{_joined(len(folds))}: {'; '.join(words)}"


def unknown(task: int, experiment: Path, folders: list[Path]) -> str:
    """Why no threshold is known of these models, in words; "" where an evaluation says so much of them."""
    folds, why = _of_folds(task, experiment, folders)
    return "" if folds else why


def _left_out(folds: list[dict], labels: list[str]) -> list[str]:
    """`epidural: no positive in validation of 2 folds`, a line for each label and reason."""
    lines = []
    for name in labels:
        for why, many in Counter(fold["lacks"].get(name) for fold in folds).items():
            lines += [f"{name}: {why} in validation of {many} fold{'s' * (many > 1)}"] * bool(why)
    return lines


def _joined(folds: int) -> str:
    return "of the fold" if folds == 1 else f"mean of {folds} folds"


def _of_folds(task: int, experiment: Path, folders: list[Path]) -> tuple[list[dict], str]:
    """What metrics.json says of the folds of these models; and why no threshold is known, where none is."""
    step, path = experiments.STEPS[task][1], experiment / "metrics.json"
    if not path.exists():
        return [], f"not evaluated yet: {step} chooses one on validation"
    evaluated = experiment / f"{Path(step).stem}.run.json"
    then = files.read_json(evaluated)["inputs"] if evaluated.exists() else {}
    predictions = [folder / "predictions.csv" for folder in experiments.folds(experiment, "predictions.csv")]
    for paths, what in (([folder / "best.pt" for folder in folders], "trained"), (predictions, "predicted")):
        if any(_changed_since(path, experiment / "metrics.json", then) for path in paths):  # an ensemble of other members, say
            return [], f"{what} again since the evaluation: {step} chooses one on validation"
    names = {folder.name for folder in folders}  # the members of an ensemble have a folder each
    folds = [mended(fold) for fold in files.read_json(path)["folds"] if f"fold{fold['fold']}" in names]
    return folds, f"not chosen by {step}: these folds are not in metrics.json"


def _changed_since(path: Path, evaluation: Path, inputs: dict[str, str]) -> bool:
    """Whether a file in a fold's folder is another than that which was evaluated. `inputs`: those of the evaluation, by name."""
    then = next((digest for name, digest in inputs.items() if Path(name).parts[-2:] == path.parts[-2:]), None)
    return files.fingerprint(path) != then if then else path.stat().st_mtime > evaluation.stat().st_mtime


def mended(fold: dict[str, Any]) -> dict[str, Any]:
    """A fold of metrics.json. Older versions said in the words of the rule alone where validation could choose nothing."""
    if "chosen" in fold or "lacks" in fold:
        return fold
    if "threshold_rules" in fold:
        return fold | {"lacks": {name: _lack(rule) for name, rule in fold["threshold_rules"].items()}}
    return fold | {"chosen": not _lack(fold.get("threshold_rule")), "temperature_chosen": not _lack(fold.get("temperature_rule"))}


def _lack(rule: str | None) -> str:
    return (rule or "").partition(": validation has ")[2]
