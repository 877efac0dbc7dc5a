"""The data sets that are drawn: slices of heads with hemorrhages, and angiograms in eight views."""

import argparse
from pathlib import Path
from typing import Any

from hemoct.sources import phantom_dataset, phantom_views

VIEWS = "views"
LEAST = {"patients": phantom_dataset.FEWEST_PATIENTS, "slices": phantom_dataset.FEWEST_SLICES,
         "size": phantom_dataset.SMALLEST_SIZE}  # fmt: skip
"""of the flags that say how large a data set is drawn"""


def origin(args: argparse.Namespace) -> dict[str, Any]:
    """What is drawn, as it is kept beside it: by --demo, its sizes and --seed."""
    if args.demo == VIEWS:
        return {"drawn": phantom_views.VERSION, VIEWS: True} | {
            name: getattr(args, name) for name in ("patients", "size", "seed")
        }
    return {"drawn": phantom_dataset.VERSION} | {name: getattr(args, name) for name in (*LEAST, "seed")}


def draw(folder: Path, origin: dict[str, Any]) -> None:
    """Draw into a folder what `origin` says. Equal calls draw equal bytes."""
    sizes = {name: value for name, value in origin.items() if name in (*LEAST, "seed")}
    (phantom_views if VIEWS in origin else phantom_dataset).draw_dataset(folder, **sizes)
