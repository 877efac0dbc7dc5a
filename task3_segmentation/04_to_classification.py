"""Decide from the predicted masks which slices are positive, beside the ceiling that the true masks give.

In PHE-SICH-CT-IDS masks outline the edema: 'hemorrhage from masks' is a proxy, and the true masks themselves miss the slices
with a box but an empty mask. A published result of this step scored those true masks; here the predicted ones are scored.

Reads   outputs/NAME/task3/EXPERIMENT/slice_pixels.csv          task3_segmentation/03_evaluate.py
        data/work/NAME/labels.csv, dataset.json                 scripts/03_make_labels.py
Writes  outputs/NAME/task3/EXPERIMENT/classification/           metrics.json, slice_comparison.csv, classification_summary.csv,
                                                                classification_report.txt, operating_points.csv,
                                                                per_patient.csv, confusion_matrix.png, roc.png, pr.png
Next    python task3_segmentation/08_compare.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from hemoct.evaluation.decisions import Evaluation


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all that are evaluated")
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    for experiment in args.experiment or experiments.evaluated(work, 3):
        classify(work, experiment, args)
    cli.say_next(work, "task3_segmentation/08_compare.py")


def classify(work: Workspace, experiment: str, args: argparse.Namespace) -> None:
    """Classify the slices of one experiment and write all its files."""
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import tables
    from hemoct.classification import tables as classification_tables
    from hemoct.evaluation import bootstrap, protocol
    from hemoct.segmentation import slices as segmentation_slices

    source = work.task(3) / experiment
    folder = source / "classification"
    inputs = [
        source / "slice_pixels.csv",
        source / "metrics.json",
        *(work.work / name for name in ("labels.csv", "images.csv", "dataset.json")),
    ]
    run = Run(__file__, args, folder, inputs)
    if run.up_to_date():
        return
    frame, missing = segmentation_slices.read(work, source)
    with run:
        evaluation = segmentation_slices.evaluate(frame)
        ceiling = segmentation_slices.ceiling(evaluation, frame)
        compared = segmentation_slices.comparison(evaluation, ceiling, bootstrap.RESAMPLES, args.seed)
        slices = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")["slice"]
        per_patient = classification_tables.patients_table(evaluation, slices)
        content = report(evaluation, files.read_json(source / "metrics.json"), per_patient, missing, args.seed)
        run.wrote(
            *write_tables(folder, evaluation, content, per_patient, args.seed),
            *draw(folder, evaluation, content),
            tables.write_csv(folder / "slice_comparison.csv", compared),
        )
    shown = compared[["rule", "n", "tp", "fp", "fn", "tn", "accuracy", "precision", "recall", "specificity", "f1"]]
    print(f"{work.show(folder)}: " + "\n  ".join(protocol.headline(content)))
    print(shown.to_string(index=False, float_format="{:.4f}".format, na_rep="null"))


def report(evaluation: Evaluation, of_masks: dict, per_patient: pd.DataFrame, missing: int, seed: int) -> dict:
    """metrics.json of the slices. `of_masks`: that of the masks; `missing`: test slices without a mask file."""
    from hemoct.evaluation import bootstrap, protocol, scores
    from hemoct.segmentation import slices as segmentation_slices

    about = {name: of_masks[name] for name in protocol.ABOUT if name in of_masks}
    content = scores.report(evaluation, about, per_patient, bootstrap.RESAMPLES, seed)
    return content | {"notes": [*content["notes"], *segmentation_slices.notes(evaluation, missing), *of_masks["notes"]]}


def write_tables(folder: Path, evaluation: Evaluation, content: dict, per_patient: pd.DataFrame, seed: int) -> list[Path]:
    """Write metrics.json and the tables of slices."""
    from hemoct.base import tables
    from hemoct.classification import tables as classification_tables
    from hemoct.evaluation import bootstrap, protocol

    points = classification_tables.operating_points(evaluation, bootstrap.RESAMPLES, seed)
    text = classification_tables.text_report(evaluation, protocol.headline(content))
    return [
        files.write_json(folder / "metrics.json", content),
        files.write_text(folder / "classification_report.txt", text),
        tables.write_csv(folder / "classification_summary.csv", classification_tables.calls(evaluation)),
        tables.write_csv(folder / "operating_points.csv", points),
        *([tables.write_csv(folder / "per_patient.csv", per_patient)] if content.get("patients_known", True) else []),
    ]


def draw(folder: Path, evaluation: Evaluation, content: dict) -> list[Path]:
    """Draw and save the figures."""
    from hemoct.base import figure as base_figure
    from hemoct.classification import figures
    from hemoct.evaluation import protocol

    heading = f"from predicted masks: {protocol.headline(content)[0]}"
    drawn = {
        "confusion_matrix": figures.confusion(evaluation, heading),
        **figures.curves(evaluation, content, heading),
    }
    return base_figure.save_all(drawn, folder)


if __name__ == "__main__":
    cli.exit_cleanly(main)
