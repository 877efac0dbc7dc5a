"""Detection as a gate: cut the detector's best region out of every slice, classify it, compare with whole slices.

The region of a slice is its most confident box, in positive and in negative slices, made square and larger by --margin; a slice
without any box is taken whole. The gate of fold K uses the detector of fold K and the detector's protocol. The detector has seen
the training slices, so its regions are better there than on new slices; this does not make the test dishonest.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task2/EXPERIMENT/foldK/{model.json,predictions.csv,train_predictions.csv}    task2_detection/02_train.py
        outputs/NAME/task1/CLASSIFIER/{metrics.json,predictions.csv}, or those of outputs/reference    (with --classifier)
Writes  outputs/NAME/task2/EXPERIMENT/gate/foldK/    best.pt, model.json, last.pt, history.csv, predictions.csv (val, test)
        outputs/NAME/task2/EXPERIMENT/gate/          predictions.csv (out-of-fold), metrics.json, gate_regions.png,
                                                     gate_comparison.csv, gate_comparison.md, gate_comparison.png
Next    python scripts/90_make_report.py

    python task2_detection/06_gate_classifier.py --experiment yolov8n --classifier resnet18
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files, options, runs
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification.options import Options
from hemoct.detection.options import Region

if TYPE_CHECKING:
    from hemoct.data.slices import SliceData
    from hemoct.detection.gate import Gate
    from hemoct.evaluation.comparison import Evaluated

SHOWN = 6  # regions of each kind in the figure


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if args.name.startswith("fold"):
        parser.error(f"--name {args.name} is a folder of the detector; choose another")
    from hemoct.data import slices  # what computes is not imported at the top: --help shall be quick
    from hemoct.detection import compare, gate, predictions

    work = Workspace.of(args)
    folders, of = predictions.folders(work, args.experiment, args.fold)
    data = slices.load(work, None, args.label, args.limit_patients)
    whole = compare.whole_slices(work, args.classifier, of, data.classes) if args.classifier else None
    chosen = gate.Gate.of(args, work, folders[0], data.orientation)
    inputs = {chosen.place / folder.name: chosen.inputs(folder.name) for folder in folders}
    remedy = "give another --name, or --overwrite to replace it"
    for run in runs.due(__file__, chosen.recorded(args), inputs, remedy):
        from hemoct.training import device

        with run:
            where = device.pick(args.device, args.threads)
            run.note(device=str(where))
            run.wrote(*gate.train_fold(run, chosen, data, where))
    evaluate(chosen, args, of, data, whole)
    cli.say_next(work, "scripts/90_make_report.py")


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("experiment")
    group.add_argument("--experiment", required=True, help="the detector; see outputs/NAME/task2")
    group.add_argument("--name", default="gate", help="folder for the results, below that of the detector")
    group.add_argument("--classifier", metavar="EXPERIMENT", help="of task 1, on whole slices: compared on the same test slices")
    group.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    options.add(parser, Region, "region")
    options.add_all(parser, Options, without=("protocol", "split", "prepare"), image_size=96)  # these are those of the detector
    return parser


def evaluate(chosen: Gate, args: argparse.Namespace, of: str, data: SliceData, whole: Evaluated | None) -> None:
    """Join the folds that were trained with these flags, evaluate them, and compare them with the detector and whole slices."""
    import pandas as pd

    from hemoct.base import figure as base_figure, tables
    from hemoct.classification import tables as classification_tables
    from hemoct.detection import compare, gate
    from hemoct.evaluation import comparison_step, protocol

    work, place = chosen.work, chosen.place
    trained = experiments.folds(place, "predictions.csv")
    folds = [path for path in trained if Run(__file__, chosen.recorded(args), path, chosen.inputs(path.name)).is_done()]
    for path in sorted(set(trained) - set(folds)):
        print(f"{work.show(path)} was trained with other flags or tables, and is left out")
    detector = [chosen.detector / path.name for path in folds]
    inputs = [work.work / "boxes.csv", *(path / "predictions.csv" for path in (*folds, *detector))]
    classifier = compare.classifier_folder(work, args.classifier) if args.classifier else None
    inputs += [classifier / name for name in ("metrics.json", "predictions.csv")] if classifier else []
    run = Run(__file__, args, place, inputs)
    if run.up_to_date():
        return
    with run:
        frame = pd.concat([tables.read_predictions(path) for path in folds], ignore_index=True)
        squares = gate.squares_of(work, detector, data, chosen.region)
        about = protocol.describe(work, 2, f"{args.experiment}/{args.name}", work, of, detector) | chosen.describe()
        compared = compare.measure(frame, squares, whole, about, data.table.set_index("image_id")["slice"], args.seed)
        count, folds_done = compared.slices["common"], about["folds_done"]
        heading = f"{work.dataset}: detection as a gate, {count} test slices out of fold ({folds_done}), the same for all"
        run.wrote(
            tables.write_predictions(place, classification_tables.predictions_table(compared.evaluation)),
            files.write_json(place / "metrics.json", compared.content),
            tables.write_csv(place / "gate_comparison.csv", compared.table),
            files.write_text(place / "gate_comparison.md", compare.text(compared)),
        )
        run.wrote(base_figure.save(comparison_step.side_by_side(compared.table, heading), place / "gate_comparison.png"))
        sheet = compare.regions(work, data, compared, squares, SHOWN)
        run.wrote(*([base_figure.save(sheet, place / "gate_regions.png")] if sheet else []))
    print(f"{work.show(place)}\n\n{compare.text(compared)}", end="")


if __name__ == "__main__":
    cli.exit_cleanly(main)
