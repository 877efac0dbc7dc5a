"""From probability maps to numbers: one threshold a fold, metrics of pixels, slices, patients and volumes.

Of a slice only its counts are kept, by the worker that reads it. A slice without a mask file is not scored; one with an empty
mask is. The metrics `slice_*` ask of a predicted mask what task 1 asks of an image: has the slice the label?
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices, volumes
from hemoct.evaluation import decisions, metrics as evaluation_metrics, thresholds
from hemoct.evaluation.decisions import Question
from hemoct.segmentation import data as segmentation_data, metrics, predictions
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.metrics import COUNTS, Histograms
from hemoct.segmentation.predictions import Subject

RULE = "max mean Dice by patient on val"
OF_SLICES = ("accuracy", "precision", "recall", "specificity", "f1")
OF_PIXELS = ("dice", "iou", "sensitivity", "specificity")
"""those that tables of slices and patients show"""


@dataclass(frozen=True)
class Rule:
    """What a fold chose on its validation slices."""

    fold: int | str
    """`mean`: of all folds, frozen for other data"""
    threshold: int
    """a pixel is predicted when its 8-bit probability is at least this, 1..255"""
    threshold_rule: str
    """how it was chosen, in words"""
    curve: np.ndarray
    """mean Dice by patient on validation at each threshold 0..255, float64 (256,); NaN where validation has no true pixel"""
    lacks: str = ""
    """what validation lacked to choose a threshold, `no true pixel`; then 0.5 stands in, and is left out of means of folds"""

    @property
    def chosen(self) -> bool:
        """Whether validation could choose the threshold."""
        return not self.lacks


@dataclass(frozen=True)
class Segmentation:
    """Scored test slices of one or more folds: row i of `table` and of `counts` is the same slice."""

    table: pd.DataFrame
    """image_id, patient, fold, part; y (the label: 0, 1, NaN where unknown); factor and unit of a pixel's volume; hd95 and nsd
    (NaN where undefined), distance_unit"""
    counts: np.ndarray
    """pixels at the threshold of the fold, int64 (n, 4): see metrics.COUNTS"""
    rules: list[Rule]
    pixels: pd.DataFrame
    """slice_pixels.csv: all slices of validation and test, also those without a mask file"""
    question: Question | None
    """what `y` says; None where there is no label that is positive or not"""

    def of_fold(self, fold: int) -> Self:
        rows = (self.table["fold"] == fold).to_numpy()
        return replace(
            self,
            table=self.table[rows].reset_index(drop=True),
            counts=self.counts[rows],
            rules=[rule for rule in self.rules if rule.fold == fold],
            pixels=self.pixels[self.pixels["fold"] == fold],
        )

    @property
    def patients(self) -> np.ndarray:
        return self.table["patient"].to_numpy()

    @property
    def true(self) -> np.ndarray:
        """Pixels of the true mask of each slice."""
        return self.counts[:, 0] + self.counts[:, 2]

    @property
    def predicted(self) -> np.ndarray:
        """Predicted pixels of each slice."""
        return self.counts[:, 0] + self.counts[:, 1]

    @property
    def missing(self) -> int:
        """Test slices that are not scored because they have no mask file."""
        return int((self.pixels["part"] == "test").sum()) - len(self.table)

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Which slices have a known label, bool (n,), and the labels of those, int (k,)."""
        y = self.table["y"].to_numpy(dtype=float)
        known = ~np.isnan(y)
        return known, y[known].astype(int)


# ---- thresholds from validation, counts of test


@dataclass(frozen=True)
class Scored:
    """The slices of a data set as they are scored."""

    work: Workspace
    data: MaskData
    about: pd.DataFrame
    """image_id, patient, y (the label), factor and unit of each slice of `data`"""
    question: Question | None
    """what `y` says; see Segmentation"""

    @classmethod
    def of(cls, work: Workspace, data: MaskData) -> Self:
        factor, unit = volumes.per_slice(data.table, work.show(work.work / "labels.csv"))
        dataset = tables.read_dataset(work)
        label = decisions.question_of(dataset.labels).positive if dataset.exclusive else None
        names, values = slices.choose_targets(data.table, dataset, label)
        if len(names) > 1:  # one of several classes: none of them is the positive one
            question, y = None, np.full(len(values), np.nan)
        else:
            question, y = Question(names, names[0]), values[:, 0]
        return cls(work, data, data.table[["image_id", "patient"]].assign(y=y, factor=factor, unit=unit), question)

    def rows(self, frame: pd.DataFrame) -> np.ndarray:
        """The row of each slice of a frame with a column image_id."""
        return pd.Series(np.arange(len(self.about)), index=self.about["image_id"])[frame["image_id"]].to_numpy()

    def at(self, rule: Rule, folder: Path, rows: np.ndarray) -> Segmentation:
        """Test slices `rows`, predicted by the maps in `folder`, at the threshold of a rule."""
        counts, distances = self._measured(folder, rows, rule.threshold)
        table = self.about.iloc[rows].reset_index(drop=True).assign(fold=rule.fold, part="test")
        known, table = self.data.known[rows], pd.concat([table, distances], axis=1)
        pixels = self.pixels("test", rows, rule, counts)
        return Segmentation(table[known].reset_index(drop=True), counts[known], [rule], pixels, self.question)

    def pixels(self, part: str, rows: np.ndarray, rule: Rule, counts: np.ndarray) -> pd.DataFrame:
        """slice_pixels.csv of one part: true_px is empty where there is no mask file."""
        true = pd.Series(counts[:, 0] + counts[:, 2], dtype="Int64").where(self.data.known[rows])
        table = self.data.table.loc[rows, ["image_id", "patient"]].assign(fold=rule.fold, part=part, threshold=rule.threshold)
        return table.assign(true_px=true.array, predicted_px=counts[:, 0] + counts[:, 1])

    def _measured(self, folder: Path, rows: np.ndarray, threshold: int) -> tuple[np.ndarray, pd.DataFrame]:
        """COUNTS of slices at a threshold, int64 (k, 4), and hd95, nsd, distance_unit, in mm where the spacing is known."""
        spacing = self.data.table.loc[rows].reindex(columns=volumes.SPACINGS[:2])
        spacing = spacing.apply(pd.to_numeric, errors="coerce").to_numpy(float)
        in_mm = ~np.isnan(spacing).any(axis=1)

        def measured(place: int, probability: np.ndarray, mask: np.ndarray) -> metrics.Measured:
            return metrics.measured(probability >= threshold, mask, tuple(spacing[place]) if in_mm[place] else (1.0, 1.0))

        seen = list(predictions.look(self.work, self.data, folder, rows, measured))
        counts = np.array([counted for counted, _ in seen], dtype=np.int64).reshape(-1, len(COUNTS))
        distances = np.array([apart for _, apart in seen]).reshape(-1, 2)
        table = pd.DataFrame(distances, columns=["hd95", "nsd"]).assign(distance_unit=np.where(in_mm, "mm", "px"))
        return counts, table


def decide(subject: Subject, mask_value: int | None) -> tuple[Scored, Segmentation, str]:
    """An experiment's slices, the test slices at the thresholds of their folds, and the protocol: a key of protocol.PROTOCOLS.

    On other data: at the frozen mean of the thresholds. `mask_value`: the lesion in masks of several values.
    """
    data = segmentation_data.load(subject.data, mask_value, subject.limit_patients, split=not subject.on_other_data)
    scored = Scored.of(subject.data, data)
    if not subject.on_other_data:
        frame, of = predictions.read(subject.work, subject.experiment, data)
        return scored, evaluate(scored, subject.maps, frame), of
    rows = np.flatnonzero(data.table["image_id"].isin(predictions.read_external(subject, data)["image_id"]))
    return scored, scored.at(frozen(subject), subject.maps["mean"], rows), "external"


def evaluate(scored: Scored, maps: dict[int | str, Path], frame: pd.DataFrame) -> Segmentation:
    """Choose the threshold of each fold on its validation slices and apply it to its test slices.

    `maps`: the folder of each fold; `frame`: rows of predictions.csv of the folds, checked (segmentation.predictions).
    """
    folds, pixels, data = [], [], scored.data
    for fold, of_fold in frame.groupby("fold"):
        folder = maps[fold]
        val, test = (scored.rows(of_fold[of_fold["part"] == part]) for part in ("val", "test"))
        counted = predictions.look(scored.work, data, folder, val, lambda _, *pair: metrics.count(*pair))
        histograms, known = Histograms.stacked(counted), data.known[val]
        rule = choose(int(fold), histograms[known], data.table["patient"].to_numpy()[val[known]])
        folds.append(scored.at(rule, folder, test))
        pixels += [scored.pixels("val", val, rule, histograms.at(rule.threshold)), folds[-1].pixels]
    return Segmentation(
        table=pd.concat([fold.table for fold in folds], ignore_index=True),
        counts=np.concatenate([fold.counts for fold in folds]),
        rules=[rule for fold in folds for rule in fold.rules],
        pixels=pd.concat(pixels, ignore_index=True),
        question=scored.question,
    )


def frozen(subject: Subject) -> Rule:
    """The mean of the folds' thresholds, for other data. Stops where none was chosen."""
    work, name = subject.work, subject.experiment
    level, origin = thresholds.threshold(3, work.task(3) / name, subject.models, None, np.nan)
    if np.isnan(level):
        command = f"python {experiments.evaluate_step(3)} --dataset {work.dataset} --experiment {name}"
        raise UserError(f"{name} has no threshold to freeze ({origin}); run: {command}")
    return Rule("mean", math.ceil(level), f"{origin}, frozen", np.full(metrics.LEVELS, np.nan))


def choose(fold: int, histograms: Histograms, patients: np.ndarray) -> Rule:
    """The threshold with the highest mean Dice by patient; one half where validation has no true pixel."""
    threshold, best = metrics.best_threshold(histograms, patients)
    lacks = "no true pixel" if np.isnan(best) else ""
    words = f"{metrics.as_probability(threshold):.1f}: validation has {lacks}" if lacks else RULE
    return Rule(fold, threshold, words, metrics.dice_curve(histograms, patients), lacks)


# ---- metrics


def per_patient(evaluation: Segmentation) -> pd.DataFrame:
    """per_patient.csv: pixel sums over all scored slices of a patient, what follows from them, volumes and their unit; sorted."""
    table = evaluation.table
    names, first, slices = np.unique(evaluation.patients, return_index=True, return_counts=True)
    folds = table.groupby("patient")["fold"].unique().map(lambda of: "+".join(map(str, sorted(of))))
    counts, factor = metrics.by_group(evaluation.counts, evaluation.patients), table["factor"].to_numpy()[first]
    values = metrics.of_counts(counts)
    return pd.DataFrame({"patient": names, "fold": folds[names].array, "slices": slices}).assign(
        **dict(zip(COUNTS, counts.T, strict=True)),
        **{name: values[name] for name in OF_PIXELS},
        true_volume=(counts[:, 0] + counts[:, 2]) * factor,
        predicted_volume=(counts[:, 0] + counts[:, 1]) * factor,
        unit=table["unit"].to_numpy()[first],
    )


def per_case(evaluation: Segmentation) -> dict[str, np.ndarray]:
    """The numbers of single slices or patients that metrics are means of; NaN where undefined.

    `volume_error` is |predicted - true| / true of a patient's volume, `volume_bias` (predicted - true) / true.
    """
    patients = per_patient(evaluation)
    dice, true = patients["dice"].to_numpy(), patients["true_volume"].to_numpy()
    bias = evaluation_metrics.ratio(patients["predicted_volume"].to_numpy() - true, true)
    one_unit = evaluation.table["distance_unit"].nunique() == 1
    return {
        "dice_patient": dice,
        "dice_patient_median": dice,
        "dice_slice": metrics.dice(evaluation.counts),
        "nsd_slice": evaluation.table["nsd"].to_numpy(),
        "hd95_slice": np.where(one_unit, evaluation.table["hd95"], np.nan),
        "volume_error": np.abs(bias),
        "volume_bias": bias,
    }


def measure(evaluation: Segmentation, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for weights (R, n) of the slices, alike for all slices of a patient: name to values (R,), NaN where undefined.

    Pooled pixels: see `metrics.of_counts`. Means over slices or patients: see `per_case`. `slice_*`: a slice is called positive
    when any pixel is predicted; the truth is its label.
    """
    of_patients = weights[:, np.unique(evaluation.patients, return_index=True)[1]]
    values = metrics.of_counts(evaluation_metrics.weighted_sum(weights, evaluation.counts))
    for name, cases in per_case(evaluation).items():
        mean = metrics.weighted_median if name.endswith("_median") else metrics.weighted_mean
        values[name] = mean(weights if name.endswith("_slice") else of_patients, cases)
    known, y = evaluation.labels
    called = evaluation_metrics.confusion(y, evaluation.predicted[known] > 0, weights[:, known])
    of_slices = evaluation_metrics.of_confusion(called)
    return values | {f"slice_{name}": of_slices[name] for name in OF_SLICES}


def support(evaluation: Segmentation) -> dict[str, tuple[int, str]]:
    """How many cases each metric is made of, and what they are."""
    known, _ = evaluation.labels
    of = {name: (int(evaluation.counts.sum()), "pixels") for name in metrics.of_counts(evaluation.counts)}
    for name, cases in per_case(evaluation).items():
        of[name] = (int((~np.isnan(cases)).sum()), "slices" if name.endswith("_slice") else "patients")
    return of | {f"slice_{name}": (int(known.sum()), "slices") for name in OF_SLICES}
