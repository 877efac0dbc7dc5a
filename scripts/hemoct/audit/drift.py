"""Whether masks change with the order of the patients: a sign of several annotators, or of a rule that changed on the way.

A network sees no patient number: it learns the mean of the rules, and is too generous for some patients and too strict for
others, however good it is.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hemoct.audit.reading import Audited
from hemoct.base import figure as base_figure
from hemoct.ct import series

LEAST = 20  # patients; of fewer, neighbours say little
RUN = 10  # patients of which a median is told
SHUFFLES = 2000
UNLIKELY = 0.01


def shares(data: Audited) -> pd.Series:
    """Mask area over box area of each patient that has both, in the order of their names, 2 before 10; float, by patient.

    Slices without a mask file or a box do not count. Where no slice has a box: mean mask area of slices with a mask, px.
    """
    known = data.images[data.images["mask_state"] == ""]
    boxes = data.boxes.assign(px=(data.boxes["xmax"] - data.boxes["xmin"]) * (data.boxes["ymax"] - data.boxes["ymin"]))
    known = known.assign(box=known["image_id"].map(boxes.groupby("image_id")["px"].sum()))
    if known["box"].isna().all():
        known = known.assign(box=1.0)
        known = known[known["mask_pixels"] > 0]
    sums = known.dropna(subset="box").groupby("patient")[["mask_pixels", "box"]].sum()
    sums = sums[(sums > 0).all(axis=1)]
    found = sums["mask_pixels"] / sums["box"]
    return found[sorted(found.index, key=series.natural)]


def measure(data: Audited) -> dict[str, Any] | None:
    """How alike neighbours in the order of the patients are, and the median share of each run of RUN patients; None of too few.

    `correlation`: of the log shares of neighbours (lag 1). `p`: how often that of shuffled patients is as high, of SHUFFLES + 1.
    """
    found = shares(data) if data.has_patients else pd.Series(dtype=float)
    if len(found) < LEAST or found.nunique() < 2:
        return None
    logs = np.log(found.to_numpy())
    logs = (logs - logs.mean()) / logs.std()
    random = np.random.default_rng(0)
    shuffled = random.permuted(np.tile(logs, (SHUFFLES, 1)), axis=1)
    correlation = float((logs[1:] * logs[:-1]).mean())
    as_high = int(((shuffled[:, 1:] * shuffled[:, :-1]).mean(axis=1) >= correlation).sum())
    boxed = data.images.loc[data.images["mask_state"] == "", "image_id"].isin(data.boxes["image_id"]).any()  # as in `shares`
    runs = [found.iloc[start : start + RUN] for start in range(0, len(found) - RUN // 2 + 1, RUN)]
    return {
        "of": "mask area over box area" if boxed else "mask area, px",
        "patients": len(found),
        "correlation": round(correlation, 3),
        "p": round((as_high + 1) / (SHUFFLES + 1), 5),
        "runs": [{"first": run.index[0], "last": run.index[-1], "median": float(f"{run.median():.3g}")} for run in runs],
    }


def words(found: dict[str, Any]) -> str:
    """`measure` in one line."""
    low, high = (pick(found["runs"], key=lambda run: run["median"]) for pick in (min, max))
    both = " but ".join(f"{run['median']:g} in {run['first']} to {run['last']}" for run in (low, high))
    return f"{found['of']}, median of {RUN} patients: {both}; {_neighbours(found)}"


def _neighbours(found: dict[str, Any]) -> str:
    return f"neighbours correlate by {found['correlation']:.2f}, p = {found['p']:.2g}"


def mask_drift(data: Audited) -> Figure | None:
    """The share of each patient in their order, on a log scale, with the median of each run."""
    found, told = shares(data) if data.has_patients else pd.Series(dtype=float), measure(data)
    if told is None:
        return None
    drawn, axis = base_figure.figure(width=9, height=3.6)
    axis.plot(range(len(found)), found.to_numpy(), "o", markersize=4, label="a patient")
    for number, run in enumerate(told["runs"]):
        ends = [number * RUN - 0.5, min((number + 1) * RUN, len(found)) - 0.5]
        axis.plot(ends, [run["median"]] * 2, color="black", label=f"median of {RUN} patients" if number == 0 else None)
    axis.set(yscale="log", ylabel=told["of"], xlabel="patients in the order of their names", xlim=(-0.5, len(found) - 0.5))
    axis.set_title(f"{len(found)} patients; {_neighbours(told)}")
    axis.set_xticks([number * RUN for number in range(len(told["runs"]))], [run["first"] for run in told["runs"]])
    axis.legend()
    return drawn
