"""Tell from the predicted masks which slices are positive, and set that beside the ceiling that the true masks give.

In PHE-SICH-CT-IDS masks outline the edema: 'hemorrhage from masks' is a proxy, and the true masks themselves miss the slices
with a box but an empty mask. A published result of this step scored those true masks; here the predicted ones are scored.

Reads   outputs/NAME/task3/EXPERIMENT/slice_pixels.csv          task3_segmentation/03_evaluate.py
        data/work/NAME/labels.csv, dataset.json                 scripts/03_make_labels.py
Writes  outputs/NAME/task3/EXPERIMENT/classification/           metrics.json, slice_comparison.csv, classification_summary.csv,
                                                                classification_report.txt, operating_points.csv,
                                                                per_patient.csv, confusion_matrix.png, roc.png, pr.png
Next    python task3_segmentation/05_predict.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hemoct.base import cli, experiments, files, tables
from hemoct.base import figure as base_figure
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import figures as classification_figures
from hemoct.classification import tables as classification_tables
from hemoct.evaluation import bootstrap, decisions, protocol, scores
from hemoct.segmentation import slices as segmentation_slices


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all that are evaluated")
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    for experiment in args.experiment or experiments.evaluated(work, 3):
        classify(work, experiment, args)


def classify(work: Workspace, experiment: str, args: argparse.Namespace) -> None:
    """Classify the slices of one experiment and write all its files."""
    source = work.task(3) / experiment
    folder = source / "classification"
    inputs = [
        source / "slice_pixels.csv",
        source / "metrics.json",
        *(work.work / name for name in ("labels.csv", "dataset.json")),
    ]
    run = Run(__file__, args, folder, inputs)
    if run.up_to_date():
        return
    frame, missing = segmentation_slices.read(work, source)
    with run:
        found = segmentation_slices.evaluate(frame)
        best = segmentation_slices.ceiling(found, frame)
        compared = segmentation_slices.comparison(found, best, bootstrap.RESAMPLES, args.seed)
        content = write_tables(run, work, source, folder, found, missing, args.seed)
        draw(run, folder, found, content)
        run.wrote(tables.write_csv(folder / "slice_comparison.csv", compared))
    shown = compared[["rule", "n", "tp", "fp", "fn", "tn", "accuracy", "precision", "recall", "specificity", "f1"]]
    print(f"{work.show(folder)}: " + "\n  ".join(protocol.headline(content)))
    print(shown.to_string(index=False, float_format="{:.4f}".format, na_rep="null"))


def write_tables(run: Run, work: Workspace, source: Path, folder: Path, found: decisions.Evaluation, missing: int,
                 seed: int) -> dict:  # fmt: skip
    """Write metrics.json and the tables of slices; returns the content of metrics.json."""
    slices = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")["slice"]
    per_patient = classification_tables.patients_table(found, slices)
    told = files.read_json(source / "metrics.json")
    about = {name: told[name] for name in protocol.ABOUT if name in told}
    content = scores.report(found, about, per_patient, bootstrap.RESAMPLES, seed)
    content["notes"] = [*content["notes"], *segmentation_slices.notes(found, missing), *told["notes"]]
    points = classification_tables.operating_points(found, bootstrap.RESAMPLES, seed)
    run.wrote(
        files.write_json(folder / "metrics.json", content),
        files.write_text(folder / "classification_report.txt",
                         classification_tables.text_report(found, protocol.headline(content))),
        tables.write_csv(folder / "classification_summary.csv", classification_tables.calls(found)),
        tables.write_csv(folder / "operating_points.csv", points),
        tables.write_csv(folder / "per_patient.csv", per_patient),
    )  # fmt: skip
    return content


def draw(run: Run, folder: Path, found: decisions.Evaluation, content: dict) -> None:
    """Draw and save the figures."""
    heading = f"from predicted masks: {protocol.headline(content)[0]}"
    figures = {
        "confusion_matrix": classification_figures.confusion(found, heading),
        "roc": classification_figures.roc(found, content, heading),
        "pr": classification_figures.precision_recall(found, content, heading),
    }
    run.wrote(*(base_figure.save(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None))


if __name__ == "__main__":
    cli.exit_cleanly(main)
