"""What flags may say of images: where the nose points, and how they are prepared. Imports nothing that computes."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from hemoct.base.errors import UserError
from hemoct.base.options import flag

KNOWN = ("up", "left", "down", "right")
"""where the nose points, in the order in which quarter turns against the clock lead from one to the next"""
UNKNOWN = "unknown"
NAMES = {
    "head": "cut to the head; holder and pillow off",
    "text": "burnt-in text and borders filled",
    "invert": "dark for bright",
    "median": "median of 3 x 3 pixels",
    "clahe": "contrast-limited adaptive histogram equalisation",
    "brain": "the brain alone, by simple thresholds",
}
"""what --prepare may name"""
MOVING = ("head",)
"""which of them move pixels, so that boxes and masks have to move along"""
STILL = tuple(name for name in NAMES if name not in MOVING)


def mirror_axis(orientation: str | None) -> str:
    """The image axis along which the patient's left and right lie; that of a nose that points up where it is not known."""
    return "vertical" if orientation in ("left", "right") else "horizontal"


def names(text: str) -> list[str]:
    """The names that --prepare gives, for argparse; an unknown or repeated one is an error that lists those there are."""
    given = [name for name in text.split(",") if name != "none"]
    unknown = [name for name in given if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no preparation; there are: {', '.join(NAMES)}, or none")
    if len(set(given)) < len(given):
        raise argparse.ArgumentTypeError(f"{text!r} names a preparation twice")
    return given


def stop_if_moving(given: Sequence[str], what: str) -> None:
    """Stop at a preparation that moves the pixels of each image by itself, where `what` cannot follow."""
    for name in given:
        if name in MOVING:
            raise UserError(f"--prepare {name} moves each image by itself, which {what}; there {', '.join(STILL)} go")


@dataclass(frozen=True, kw_only=True)
class View:
    """What a user says of images that are predicted."""

    orientation: str = flag(
        "auto", "where the nose points in them; auto: found from their grey values; they are turned to what the models know",
        choices=("auto", *KNOWN, UNKNOWN),
    )  # fmt: skip
    prepare: list[str] | None = flag(
        None, "only to make sure: images are always prepared as those that the models learned from; anything else stops",
        type=names, metavar="NAMES",
    )  # fmt: skip
