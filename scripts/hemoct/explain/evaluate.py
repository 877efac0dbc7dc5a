"""One fold explained: the layer and the threshold of its maps, chosen on validation, and what its maps say of its test images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemoct.base import experiments
from hemoct.base.workspace import Workspace
from hemoct.evaluation import bootstrap
from hemoct.explain import data, layers, maps, regions, score
from hemoct.explain.data import Known, Seen
from hemoct.explain.options import Maps
from hemoct.explain.regions import Truth
from hemoct.explain.score import Source
from hemoct.training.specs import Spec

HALF = 0.5
"""the threshold of maps where validation has no box to choose one by"""
MODEL, RANDOM, CENTRE = "model", "random weights", "centre"
SOURCES = {
    MODEL: "the maps of the model of the fold",
    RANDOM: "the same for the same network with random weights (Adebayo et al. 2018): what the architecture alone shows",
    CENTRE: "a Gaussian in the middle of the head, which sees nothing",
    "detector": "a detector of the fold, trained with boxes: its boxes, their confidence as heat",
}
CHOSEN_BY = ["heat_box", "pointing"]
"""of layers, on validation: the energy-based pointing game (Wang et al. 2020), which coarse maps do not lose by half a place"""


@dataclass(frozen=True)
class Setting:
    """What is the same for all folds."""

    work: Workspace
    task: int
    options: Maps
    spec: Spec
    seen: Seen
    known: Known
    seed: int
    device: torch.device


@dataclass(frozen=True)
class Explained:
    """A fold with its maps."""

    folder: Path
    layer: str
    threshold: float
    chosen: bool
    """whether validation chose the threshold"""
    compared: pd.DataFrame
    """the layers on validation, see `compare`; empty without boxes there"""
    cases: pd.DataFrame
    """the test cases that are positive or called so, see data.cases, with their `row`; whether they are `scored`; their values"""
    small: np.ndarray
    """their maps at the size of the layer: float32 (n, k, k)"""
    sources: list[Source]
    """the model and what stands beside it, on the scored cases; empty without any"""

    def record(self) -> dict[str, Any]:
        """What metrics.json says of the fold."""
        rule = "highest mean Dice with the boxes of validation" if self.chosen else "given, or no box in validation"
        return {
            "fold": experiments.fold_of(self.folder), "layer": layers.shown(self.layer), "threshold": self.threshold,
            "threshold_rule": rule, "chosen": self.chosen, "n": len(self.cases),
        }  # fmt: skip


def mapped(setting: Setting, model: nn.Module, cases: pd.DataFrame, layer: str) -> np.ndarray:
    """The maps of cases, with their `row` and `column`: float32 (n, k, k)."""
    of_cases = cases["row"].to_numpy(dtype=int), cases["column"].to_numpy(dtype=int)
    how = (setting.options.method, layer, setting.options.batch_size)
    return maps.heat(model, setting.spec, setting.seen.source, of_cases, how)


def load(setting: Setting, folder: Path) -> nn.Module:
    return maps.prepare(data.load(setting.task, folder, setting.device))


def validated(setting: Setting, folder: Path, model: nn.Module, cases: pd.DataFrame) -> tuple[str, float, bool, pd.DataFrame]:
    """The layer and the threshold of a fold's maps, whether validation chose that, the table of layers. `cases`: of the fold."""
    names = layers.chosen(model, setting.spec, setting.seen.planes, setting.options.layer)
    given = setting.options.map_threshold
    valid = with_box(setting, cases[(cases["part"] == "val") & (cases["y"] == 1)])
    if valid.empty:
        return names[-1], HALF if given is None else given, False, pd.DataFrame()
    truth = setting.known.truth(valid)
    compared = pd.DataFrame([compare(setting, mapped(setting, model, valid, name), valid, truth) for name in names])
    compared.insert(0, "layer", list(map(layers.shown, names)))
    compared.insert(0, "fold", folder.name.removeprefix("fold"))
    order = compared.sort_values(CHOSEN_BY, ascending=False, kind="stable").index
    compared["chosen"] = (compared.index == order[0]).astype(int)
    limit = float(compared["map_threshold"][order[0]]) if given is None else given
    return names[order[0]], limit, given is None, compared


def with_box(setting: Setting, cases: pd.DataFrame) -> pd.DataFrame:
    """Those of positive cases that have a box of their label."""
    return cases[setting.known.has_box(cases)]


def scored(setting: Setting, cases: pd.DataFrame) -> pd.DataFrame:
    """Those of positive cases of which it is known where the heat should lie: in boxes, or in the field that a user named."""
    return with_box(setting, cases) if setting.known.field is None else cases


def compare(setting: Setting, small: np.ndarray, cases: pd.DataFrame, truth: list[Truth]) -> dict[str, Any]:
    """A row of the table of layers: what the maps of one are worth on validation, and the threshold that is best for it."""
    side = setting.spec.image_size
    heats = [regions.enlarge(each, side) for each in small]
    limit = regions.best_threshold(heats, truth)[0] if setting.options.map_threshold is None else setting.options.map_threshold
    values = pd.DataFrame([regions.measure(regions.of_heat(heat, limit), one) for heat, one in zip(heats, truth, strict=True)])
    weights = bootstrap.weights(cases["patient"].to_numpy(), cases["fold"].to_numpy(), bootstrap.RESAMPLES, setting.seed)
    named = ("pointing", "heat_box", "dice_box")
    values["heat_box"] = values["heat_box"].fillna(0)  # a black map is no good one
    found = score.block(
        lambda of: {name: score.mean(values[name].to_numpy(), of) for name in named}, cases, weights, setting.seed
    )
    row: dict[str, Any] = {"side": small.shape[-1], "cases": len(cases)}
    for name, entry in found.items():
        low, high = entry["ci95"] or (np.nan, np.nan)
        row |= {name: np.nan if entry["value"] is None else entry["value"], f"{name}_low": low, f"{name}_high": high}
    return row | {"map_threshold": limit}


def explain(setting: Setting, folder: Path, cases: pd.DataFrame, detector: str | None) -> Explained:
    """Make and measure the maps of a fold. `cases`: of data.cases, of this fold, with their `row`. `detector`: of task 2."""
    model = load(setting, folder)
    layer, limit, chosen, compared = validated(setting, folder, model, cases)
    kept = cases[(cases["part"] == "test") & ((cases["y"] == 1) | cases["called"].astype(bool))].reset_index(drop=True)
    small, truth, side = mapped(setting, model, kept, layer), setting.known.truth(kept), setting.spec.image_size
    shown = (regions.of_heat(regions.enlarge(each, side), limit) for each in small)
    said = [(regions.measure(each, one), each.boxes) for each, one in zip(shown, truth, strict=True)]
    kept["scored"] = kept.index.isin(scored(setting, kept[kept["y"] == 1]).index)
    kept = kept.join(pd.DataFrame([values for values, _ in said], index=kept.index, dtype=float))

    rows = np.flatnonzero(kept["scored"])
    if not len(rows):
        return Explained(folder, layer, limit, chosen, compared, kept, small, [])
    table, of_truth = kept.loc[rows].reset_index(drop=True), [truth[row] for row in rows]
    boxes = [one.boxes for one in of_truth]
    sources = [Source(MODEL, table, table, [said[row][1] for row in rows], boxes)]

    def beside(name: str, show: Callable[[int], regions.Shown]) -> None:
        """Add a source. `show`: what it says of a scored case, by its place."""
        each = [(regions.measure(one, of), one.boxes) for one, of in ((show(i), of_truth[i]) for i in range(len(rows)))]
        sources.append(Source(name, table, pd.DataFrame([values for values, _ in each]), [found for _, found in each], boxes))

    valid = with_box(setting, cases[(cases["part"] == "val") & (cases["y"] == 1)])
    of_valid = setting.known.truth(valid)

    def threshold(heats: list[np.ndarray]) -> float:
        """That of another source, chosen on validation like that of the model."""
        if setting.options.map_threshold is not None or not heats:
            return limit
        return regions.best_threshold(heats, of_valid)[0]

    speaks = _random(setting, layer, table)
    own, of_random = threshold([regions.enlarge(each, side) for each in speaks(valid)]), speaks(table)
    beside(RANDOM, lambda i: regions.of_heat(regions.enlarge(of_random[i], side), own))
    middle = threshold([regions.centre(one.head) for one in of_valid])
    beside(CENTRE, lambda i: regions.of_heat(regions.centre(of_truth[i].head), middle))
    kept.loc[rows, "rank_correlation"] = [_correlation(*pair) for pair in zip(small[rows], of_random, strict=True)]
    if detector:
        found, least = data.detector(setting.work, detector, folder, setting.known)
        beside("detector", lambda i: regions.of_boxes(found(table["row"][i]), side, least))
    return Explained(folder, layer, limit, chosen, compared, kept, small, sources)


def _random(setting: Setting, layer: str, cases: pd.DataFrame) -> Callable[[pd.DataFrame], np.ndarray]:
    """What maps cases for the network with random weights. Where most of its maps are black, those against the label are taken:
    the sign of a random logit means nothing."""
    random = maps.prepare(data.fresh(setting.task, setting.spec, setting.device, setting.seed))
    black = (mapped(setting, random, cases, layer).max(axis=(1, 2)) <= 0).mean()
    if black <= HALF:
        return lambda of: mapped(setting, random, of, layer)
    against = maps.Against(random)
    return lambda of: mapped(setting, against, of, f"model.{layer}")


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman correlation of two maps; NaN where one is the same everywhere."""
    if not np.ptp(one) > 0 or not np.ptp(other) > 0:
        return np.nan
    from scipy import stats  # a second, which the first map need not wait

    return float(stats.spearmanr(one.ravel(), other.ravel()).statistic)


def joined(parts: list[list[Source]]) -> list[Source]:
    """The sources of several folds, put together; of those that all folds with any have."""
    parts = [sources for sources in parts if sources]
    made = []
    for of_folds in zip(*parts, strict=True):
        tables, values = ([getattr(one, name) for one in of_folds] for name in ("table", "values"))
        boxes, truth = ([each for one in of_folds for each in getattr(one, name)] for name in ("boxes", "truth"))
        values = pd.concat(values, ignore_index=True)
        made.append(Source(of_folds[0].name, pd.concat(tables, ignore_index=True), values, boxes, truth))
    return made


def report(about: dict[str, Any], setting: Setting, folds: list[Explained]) -> tuple[dict[str, Any], pd.DataFrame]:
    """metrics.json, and the table of correct calls by where their heat lies."""
    cases, sources = pd.concat([one.cases for one in folds], ignore_index=True), joined([one.sources for one in folds])

    def drawn(table: pd.DataFrame) -> np.ndarray:
        patients, numbers = table["patient"].to_numpy(), table["fold"].to_numpy()
        return bootstrap.weights(patients, numbers, bootstrap.RESAMPLES, setting.seed)

    content = about | {
        "method": setting.options.method, "labels": sorted(cases["label"].unique()), "n": 0, "patients": 0, "maps": len(cases),
        "black": int(cases["black"].sum()), "folds": [one.record() for one in folds], "metrics": {}, "beside": {},
        "positives": None, "field": setting.known.field,
    }  # fmt: skip
    rules, mapped_layers = ({fold[name] for fold in content["folds"]} for name in ("threshold_rule", "layer"))
    content |= {"threshold_rule": f"of maps: {'; '.join(sorted(rules))}"}
    content |= {"notes": [f"maps by {content['method']} at layer {', '.join(sorted(mapped_layers))}; n: {_meant(setting)}"]}
    if sources:
        own, weights = sources[0], drawn(sources[0].table)
        content |= {"n": len(own.table), "patients": int(own.table["patient"].nunique())}
        content["metrics"] = score.block(own.measure, own.table, weights, setting.seed)
        content["metrics"] |= score.block(
            lambda of: {"rank_correlation": score.mean(cases.loc[cases["scored"], "rank_correlation"].to_numpy(), of)},
            own.table, weights, setting.seed,
        )  # fmt: skip
        for other in sources[1:]:
            content["beside"][other.name] = {
                "what": SOURCES[other.name],
                "metrics": score.block(other.measure, other.table, weights, setting.seed),
                "difference": score.block(score.difference(own, other), own.table, weights, setting.seed),
            }
        content["by_label"] = _by_label(own, setting.seed, drawn) if len(content["labels"]) > 1 else {}
    correct = score.wrong_reason(cases, cases)
    content["right_for_the_wrong_reason"] = score.outside(correct, drawn(correct), setting.seed)
    return content, correct


def _meant(setting: Setting) -> str:
    if setting.known.field is None:
        return "cases with a box"
    left, top, right, bottom = setting.known.field
    place = f"{left:g},{top:g},{right:g},{bottom:g}, {(right - left) * (bottom - top):.0%} of each image"
    return f"positive cases; 'head' is the field {place}"


def _by_label(own: Source, seed: int, drawn: Callable[[pd.DataFrame], np.ndarray]) -> dict[str, Any]:
    """The metrics of the model for each label by itself."""
    found = {}
    for name, rows in own.table.groupby("label").indices.items():
        table = own.table.iloc[rows].reset_index(drop=True)
        values = own.values.iloc[rows].reset_index(drop=True)
        part = Source(own.name, table, values, [own.boxes[row] for row in rows], [own.truth[row] for row in rows])
        found[name] = {"n": len(rows)} | score.block(part.measure, table, drawn(table), seed)
    return found
