"""Train and evaluate a classifier for every combination of flags, and set the results side by side.

What is up to date is skipped, what was stopped goes on. Every flag and value is checked before anything is trained; a condition
that fails is said at the end, and the others are in the table. All flags of 01_train.py hold for every condition.

Reads   what 01_train.py and 02_evaluate.py read; a table of conditions (--csv)
Writes  outputs/NAME/task1/EXPERIMENT/         one experiment a condition, see 01_train.py and 02_evaluate.py
        outputs/NAME/task1/grid/               grid.csv, grid.md: condition, accuracy, F1 with intervals, n, folds; best first
Next    python task1_classification/03_compare.py

    python task1_classification/07_grid.py --grid optimizer=adamw,sgd --grid augment=none,affine --epochs 5 --fold 0
    python task1_classification/07_grid.py --csv conditions.csv
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files, options as base_options
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import options

if TYPE_CHECKING:
    import pandas as pd

    from hemoct.classification.grid import Condition

METRICS = {"accuracy": ("accuracy",), "F1": ("f1", "f1_macro")}
"""what the table shows, by the keys of metrics.json: for several classes F1 is their mean"""


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if not args.grid and not args.csv:
        parser.error("say what differs: --grid FLAG=A,B or --csv FILE")
    from hemoct.classification import grid  # what computes is not imported at the top: --help shall be quick

    work, (_, common) = Workspace.of(args), cli.taken(sys.argv[1:] if argv is None else argv, "--grid", "--csv", "--jobs")
    listed = grid.conditions(args.grid, args.csv, common)
    folder = work.task(1) / "grid"
    run = Run(__file__, args, folder, [args.csv] if args.csv else [])
    with run:
        failed = grid.run(work, listed, common, args.seed, args.jobs)
        run.wrote(*write(folder, table(work, listed, {one.experiment for one in failed}), args.command))
        print((folder / "grid.md").read_text(encoding="utf-8"))
        grid.stop_if_failed(failed, listed)  # inside the run, so that its record never says ok
    cli.say_next(work, "task1_classification/03_compare.py", *(condition.experiment for condition in listed))


def table(work: Workspace, listed: list[Condition], failed: set[str]) -> pd.DataFrame:
    """grid.csv: condition, experiment, accuracy and F1 with their intervals, n, patients, folds; the highest F1 first, what has
    none last. `failed`: experiments whose training or evaluation did not end; of them no number is shown."""
    import numpy as np
    import pandas as pd

    from hemoct.evaluation import protocol

    unknown = {"value": None, "ci95": None}
    unfinished = {"metrics": {}, "n": pd.NA, "patients": pd.NA, "folds_done": "failed"}
    rows = []
    for condition in listed:
        row: dict[str, Any] = {"condition": condition.name, "experiment": condition.experiment}
        path = work.task(1) / condition.experiment / "metrics.json"
        content = protocol.read(path) if path.exists() and condition.experiment not in failed else unfinished
        for name, keys in METRICS.items():
            entry = next((content["metrics"][key] for key in keys if key in content["metrics"]), unknown)
            low, high = entry["ci95"] or (np.nan, np.nan)
            row |= {name: np.nan if entry["value"] is None else entry["value"], f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"n": content["n"], "patients": content["patients"], "folds": content["folds_done"]})
    frame = pd.DataFrame(rows).astype({"n": "Int64", "patients": "Int64"})
    return frame.sort_values(["F1", "accuracy"], ascending=False, kind="stable", na_position="last", ignore_index=True)


def write(folder: Path, frame: pd.DataFrame, command: str) -> list[Path]:
    """Write grid.csv and grid.md; returns them. `command`: the one that made the grid."""
    import pandas as pd

    from hemoct.base import tables
    from hemoct.evaluation import protocol, text

    columns = ["condition", *METRICS, "n", "folds"]
    cells = [
        [row["condition"], *(text.interval(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in METRICS),
         "" if pd.isna(row["n"]) else protocol.size(row), row["folds"]]
        for row in frame.to_dict("records")
    ]  # fmt: skip
    about = [
        "# Task 1: a grid of trainings", f"`{command}`", "Test images out of fold, 95 % intervals over patients, the highest F1 "
        "first. The best of many is flattered by having been chosen; whether two differ says 03_compare.py, which pairs them by "
        "image.", text.Table(columns, cells).markdown(),
    ]  # fmt: skip
    return [tables.write_csv(folder / "grid.csv", frame), files.write_text(folder / "grid.md", "\n\n".join(about) + "\n")]


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("grid")
    group.add_argument("--grid", action="append", default=[], metavar="FLAG=A,B", help="a flag of 01_train.py and its values; "
                       "several are combined; values that hold commas are parted by semicolons: 'units=6;128,64'")  # fmt: skip
    group.add_argument("--csv", type=Path, metavar="FILE", help="one row a condition, columns are flags of 01_train.py; an empty "
                       "cell is the default")  # fmt: skip
    group.add_argument("--jobs", type=cli.positive_int, default=1, metavar="N", help="trainings at a time")
    base_options.add_all(parser, options.Options)
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
