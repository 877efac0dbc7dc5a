"""What --prepare does to a data set: a row an image of what is cut and changed, and a sheet of before and after."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hemoct.base import figure as base_figure
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.prepare.preparation import BY_HEAD, Preparation

PAIRS, COLUMNS = 12, 3
MEASURED = ["width", "height", "left_width", "left_height", "cut", "changed", "kept_whole", "boxes", "boxes_cut"]
MARGIN = 0.5  # px: a box that leaves its image by less is not cut
BOX_COLOUR = "#e69f00"


def measure(work: Workspace, rows: pd.DataFrame, boxes: pd.DataFrame, preparation: Preparation) -> pd.DataFrame:
    """prepared.csv: image_id, width, height (px), left_width, left_height, cut (share of the area), changed (share of the pixels
    that are left whose grey value is another), kept_whole (what found nothing to go by), boxes, boxes_cut.

    `rows`: of labels.csv, whose images can be read; `boxes`: boxes.csv.
    """
    paths = [work.raw / name for name in rows["image"]]
    of_image = dict(list(boxes.groupby("image_id")[["xmin", "ymin", "xmax", "ymax"]]))
    corners = [of_image[name].to_numpy(float) if name in of_image else np.zeros((0, 4)) for name in rows["image_id"]]
    read = partial(_measure, preparation=preparation)
    found = images.decode(zip(paths, corners, strict=True), f"prepare {','.join(preparation.names)}", read)
    return pd.DataFrame(found).assign(image_id=rows["image_id"].to_numpy())[["image_id", *MEASURED]]


def _measure(source: tuple, preparation: Preparation) -> dict:
    path, corners = source
    grey = images.read_grey(path)
    done = preparation.apply(grey[None])
    geometry = done.geometry
    width, height = geometry.size
    moved = geometry.boxes(corners)
    is_cut = (moved < -MARGIN).any(axis=1) | (moved[:, 2:] > np.array([width, height]) + MARGIN).any(axis=1)
    changed = float((done.planes[0] != geometry.image(grey)).mean())
    values = (geometry.width, geometry.height, width, height, 1 - width * height / grey.size, changed, " ".join(done.kept_whole),
              len(corners), int(is_cut.sum()))  # fmt: skip
    return dict(zip(MEASURED, values, strict=True))


def summary(table: pd.DataFrame, preparation: Preparation) -> str:
    """prepared.csv in a line."""
    share = table[["cut", "changed"]].mean()
    whole = [f"{table['kept_whole'].str.contains(name).sum()} ({name})" for name in preparation.names if name in BY_HEAD]
    return (
        f"--prepare {','.join(preparation.names)}: {share['cut']:.1%} of the area of {len(table)} images is cut (most of one: "
        f"{table['cut'].max():.1%}), {share['changed']:.1%} of the pixels that are left are changed; "
        f"kept whole, as nothing of it is seen: {' and '.join(whole) or 0}; "
        f"{table['boxes_cut'].sum()} of {table['boxes'].sum()} boxes are cut"
    )


def figure(work: Workspace, rows: pd.DataFrame, boxes: pd.DataFrame, preparation: Preparation, seed: int) -> Figure:
    """Images of different patients before and after, half of them with a box where there are any; boxes move along."""
    shuffled = rows.sample(frac=1, random_state=seed)
    boxed = shuffled["image_id"].isin(boxes["image_id"])
    patients = ~shuffled.assign(boxed=boxed).duplicated(["patient", "boxed"])
    chosen = pd.concat([shuffled[patients & boxed][: PAIRS // 2], shuffled[patients & ~boxed], shuffled[patients & boxed]])
    chosen = chosen.drop_duplicates("image_id")[:PAIRS]
    high = -(-len(chosen) // COLUMNS)
    heading = f"before, and after --prepare {','.join(preparation.names)}" + "; orange: box" * bool(boxed.any())
    shown, axes = base_figure.figure(high, 2 * COLUMNS, 1.7, 1.9, heading, squeeze=False)
    for number, row in enumerate(chosen.itertuples()):
        grey = images.read_grey(work.raw / row.image)
        done = preparation.apply(grey[None])
        corners = boxes.loc[boxes["image_id"] == row.image_id, ["xmin", "ymin", "xmax", "ymax"]].to_numpy(float)
        before, after = axes.flat[2 * number : 2 * number + 2]
        _draw(before, grey, corners, row.image_id)
        _draw(after, done.planes[0], done.geometry.boxes(corners), "{} x {} px".format(*done.geometry.size))
    for axis in axes.flat[2 * len(chosen) :]:
        axis.remove()
    return shown


def _draw(axis: Axes, grey: np.ndarray, corners: np.ndarray, title: str) -> None:
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
    for xmin, ymin, xmax, ymax in corners:
        axis.add_patch(Rectangle((xmin - 0.5, ymin - 0.5), xmax - xmin, ymax - ymin, fill=False, edgecolor=BOX_COLOUR))
    axis.set_title(title if len(title) <= 24 else f"...{title[-22:]}", fontsize=7, pad=2)
    axis.set_axis_off()
