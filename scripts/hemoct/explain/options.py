"""The options of class activation maps. Imports no torch."""

import argparse
from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.options import flag, part
from hemoct.training.options import Hardware

METHODS = ("gradcam", "hirescam", "ablation")
AUTO = "auto"
WRITE = ("boxes", "masks")


def of_shares(text: str) -> list[float]:
    """A type for argparse: left, top, right, bottom as shares of width and height."""
    try:
        left, top, right, bottom = (float(word) for word in text.split(","))
    except ValueError:
        left, top, right, bottom = (-1.0,) * 4
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no LEFT,TOP,RIGHT,BOTTOM in shares of width and height (0.1,0.1,0.9,0.85)")
    return [left, top, right, bottom]


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Which maps are made."""

    method: str = flag("hirescam", "Grad-CAM (Selvaraju et al. 2017), HiResCAM (Draelos and Carin 2020) or Ablation-CAM "
                       "(Desai and Ramaswamy 2020)", choices=METHODS)  # fmt: skip
    layer: list[str] = flag(
        [AUTO], "layer of the network, or several, of which validation chooses that with most heat in the boxes; auto: the ends "
        "of the last four stages", type=cli.names, metavar="auto|NAME[,NAME]",
    )  # fmt: skip
    label: str | None = flag(None, "one label of the models; default: all")
    map_threshold: float | None = flag(
        None, "share of a map's maximum from which on it counts as a region; default: chosen on validation, 0.5 without boxes",
        type=cli.share, metavar="X",
    )  # fmt: skip
    batch_size: int = flag(32, "slices in a batch", type=cli.positive_int)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Of which slices, beside what, and what is written of them."""

    fold: int | None = flag(None, "one fold; default: all that are trained", type=cli.whole_number, metavar="K")
    limit_patients: int | None = flag(None, "a first look at N patients", type=cli.positive_int, metavar="N")
    boxes: str | None = flag(None, "a detector of task 2 to stand beside the maps", metavar="EXPERIMENT")
    mask_value: int | None = flag(None, "the lesion in masks of several values", type=cli.whole_number, metavar="V")
    field: list[float] | None = flag(
        None, "where the organ lies in every image, as shares of width and height: in place of the head (chest X-rays: the "
        "lungs); then positive images without a box are scored too", type=of_shares, metavar="LEFT,TOP,RIGHT,BOTTOM",
    )  # fmt: skip
    images: bool = flag(False, "also write an overlay of each image")
    write: str | None = flag(
        None,
        "pseudo-labels: the maps of --fold K as boxes, or masks and boxes, of a new data set NAME-pseudo-foldK",
        choices=WRITE,
    )


@dataclass(frozen=True)
class Options:
    """All options of the step."""

    maps: Maps = part("maps")
    extent: Extent = part("data")
    hardware: Hardware = part("device")
