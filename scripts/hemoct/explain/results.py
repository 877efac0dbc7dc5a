"""What is left of explained images: metrics.json and tables, sheets of cases, what people read first."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import figure as base_figure, files, tables
from hemoct.base.workspace import Workspace
from hemoct.evaluation import overlays, text
from hemoct.explain import drawing, evaluate, score
from hemoct.explain.evaluate import Explained, Setting

SHEETS = {"true positive": "true_positives", "false positive": "false_positives", "false negative": "false_negatives"}
EXAMPLES = "examples"
IN_WORDS = ("pointing", "heat_box", "heat_head", "dice_box", "localisation_0.5", "false_positives_0.5")
"""what is printed"""
PER_CASE = [
    *tables.PREDICTION_COLUMNS, "label", "y", "p", "threshold", "kind", "scored", "pointing", "heat_box", "heat_mask",
    "heat_head", "dice_box", "dice_mask", "peak_head", "black", "rank_correlation",
]  # fmt: skip


def write(out: Path, content: dict[str, Any], correct: pd.DataFrame, folds: list[Explained]) -> list[Path]:
    """Write metrics.json and the tables."""
    compared = pd.concat([one.compared for one in folds], ignore_index=True)
    cases = pd.concat([one.cases for one in folds], ignore_index=True)
    written = [
        files.write_json(out / "metrics.json", content),
        tables.write_csv(out / "per_case.csv", cases.reindex(columns=PER_CASE).astype({"scored": int})),
        tables.write_csv(out / "right_for_the_wrong_reason.csv", correct),
    ]
    for name, frame in (("layers.csv", compared), ("scores.csv", scores(content))):
        (out / name).unlink(missing_ok=True)
        if not frame.empty:
            written.append(tables.write_csv(out / name, frame))
    return written


def scores(content: dict[str, Any]) -> pd.DataFrame:
    """A row for each metric and source: value, interval, and how much higher the model is than the source."""
    of = {evaluate.MODEL: {"metrics": content["metrics"], "difference": {}}} | content["beside"]
    rows = []
    for source, block in of.items():
        for name, entry in block["metrics"].items():
            row = {"source": source, "metric": name, "means": score.MEANINGS[name]}
            for words, one in (("value", entry), ("difference", block["difference"].get(name, {}))):
                low, high = one.get("ci95") or (np.nan, np.nan)
                value = np.nan if one.get("value") is None else one["value"]
                row |= {words: value, f"{words}_low": low, f"{words}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def draw(out: Path, setting: Setting, content: dict[str, Any], folds: list[Explained], each: bool) -> list[Path]:
    """Draw a sheet for each kind of decision, the scores, and with `each` an overlay of every image."""
    heading = f"{content['experiment']} on {content['dataset']}, {content['method']}, {content['folds_done']}"
    figures: dict[str, Any] = dict.fromkeys([*SHEETS.values(), EXAMPLES])
    cases = pd.concat(
        [one.cases.assign(place=range(len(one.cases)), of=number) for number, one in enumerate(folds)], ignore_index=True
    )
    few = []
    for kind, name in SHEETS.items():
        of_kind = cases[cases["kind"] == kind].reset_index(drop=True)
        if of_kind.empty:
            continue
        shown = of_kind.iloc[drawing.picked(of_kind)].reset_index(drop=True)
        few.append(of_kind.iloc[drawing.picked(of_kind, drawing.FEW)])
        some = "" if len(shown) == len(of_kind) else f", {len(shown)} of them, evenly over the probabilities"
        some += f"; {black} without any heat" if (black := int(of_kind["black"].sum())) else ""
        figures[name] = _sheet(setting, folds, shown, f"{heading}: {len(of_kind)} {kind}s{some}")
    if few:
        figures[EXAMPLES] = _sheet(setting, folds, pd.concat(few, ignore_index=True), f"{heading}: some of each kind")
    figures["scores"] = drawing.scores(content, heading) if content["metrics"] else None
    written = base_figure.save_all(figures, out)
    if each:
        written.append(_draw_each(out / "images", setting, folds, cases))
    return written


def _sheet(setting: Setting, folds: list[Explained], cases: pd.DataFrame, heading: str) -> Image.Image:
    """Cases side by side, each with its caption; of several kinds that is said in it, and a row holds one of them."""
    truth, tiles, several = setting.known.truth(cases), [], cases["kind"].nunique() > 1
    for (_, case), one in zip(cases.iterrows(), truth, strict=True):
        name = f"{case['kind']}: {case['image_id']}" if several else case["image_id"]
        tiles.append((_picture(setting, folds, case, one, overlays.TILE), f"{name}\n{_caption(setting, case)}"))
    lines = [heading, drawing.legend(setting.seen.slices.layout, truth)]
    return overlays.sheet(tiles, lines, drawing.FEW if several else None)


def _caption(setting: Setting, case: pd.Series) -> str:
    several = setting.options.label is None and len(setting.spec.classes) > 1
    return drawing.caption(case, several, "head" if setting.known.field is None else "field")


def _picture(setting: Setting, folds: list[Explained], case: pd.Series, truth: Any, side: int) -> Image.Image:
    return drawing.tile(setting.seen.grey(case["row"]), folds[case["of"]].small[case["place"]], truth, side)


def _draw_each(place: Path, setting: Setting, folds: list[Explained], cases: pd.DataFrame) -> Path:
    """KIND/IMAGE[-LABEL].png for every case, with its caption."""
    several = cases["label"].nunique() > 1
    with files.replacing_folder(place) as folder:
        for (_, case), truth in zip(cases.iterrows(), setting.known.truth(cases), strict=True):
            name = f"{case['image_id']}-{case['label']}" if several else str(case["image_id"])
            drawn = _picture(setting, folds, case, truth, drawing.LARGE)
            lines = [f"{case['image_id']}: {case['kind'] or 'unknown'}, {_caption(setting, case)}",
                     drawing.legend(setting.seen.slices.layout, [truth])]  # fmt: skip
            path = folder / SHEETS.get(case["kind"], "unknown") / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            base_figure.save(overlays.overlay(drawn, lines), path)
    return place


def summary(work: Workspace, out: Path, content: dict[str, Any]) -> str:
    """What people read first."""
    layers = ", ".join(dict.fromkeys(fold["layer"] for fold in content["folds"]))
    lines = [f"{work.show(out)}: {content['maps']} maps, layer {layers}, {content['folds_done']}"]
    if content["black"]:
        lines.append(f"  {content['black']} of them without any heat: nothing in the layer speaks for the label")
    if content["metrics"]:
        meant = "with a box" if content["field"] is None else "positive images, 'head' is the field"
        lines.append(f"  {content['n']} {meant}, {content['patients']} patients (95 % intervals):")
        for name in (name for name in IN_WORDS if content["metrics"][name]["value"] is not None):
            beside = [f"{other} {text.metric(one['metrics'][name])}" for other, one in content["beside"].items()]
            lines.append(f"  {score.MEANINGS[name]}: {'; '.join([text.metric(content['metrics'][name]), *beside])}")
    else:
        lines.append("  no positive test image has a box: maps, but no score")
    wrong = content["right_for_the_wrong_reason"]
    place = "head" if content["field"] is None else "field"
    lines.append(
        f"  correct, and heat outside of the {place}: {wrong['outside_head_cases']} of {wrong['true_positives']} true positives"
    )
    return "\n".join(lines)
