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
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from hemoct.base import cli, experiments, files, tables
from hemoct.base import figure as base_figure
from hemoct.base.runs import Run, folders_due
from hemoct.base.workspace import Workspace
from hemoct.classification import predict, train
from hemoct.classification import tables as classification_tables
from hemoct.data import slices as data_slices
from hemoct.data.slices import SliceData
from hemoct.detection import drawing, gate, networks, predictions
from hemoct.evaluation import figures as evaluation_figures
from hemoct.evaluation import protocol as evaluation_protocol
from hemoct.evaluation.comparison import Evaluated
from hemoct.training import augment, device, fit
from hemoct.training import networks as training_networks
from hemoct.training.batches import Store

TABLES = ("labels.csv", "dataset.json", "splits.csv")
SHOWN = 6  # regions of each kind in the figure


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if args.name.startswith("fold"):
        parser.error(f"--name {args.name} is a folder of the detector; choose another")
    work = Workspace.of(args)
    detector, protocol = predictions.folders(work, args.experiment, args.fold)
    spec = networks.DetectorSpec.read(detector[0])
    args.protocol, args.split = spec.protocol, spec.split
    data = data_slices.load(work, None, args.label, args.limit_patients)
    args.mirror = augment.mirror_axis(args.mirror, data.layout)
    whole = gate.whole_slices(work, args.classifier, protocol, data.classes) if args.classifier else None

    runs = {folder: run_of(work, folder, args) for folder in detector}
    for folder in folders_due(runs, args.overwrite, "give another --name, or --overwrite to replace it"):
        with runs[folder] as run:
            chosen = device.pick(args.device, args.threads)
            run.note(device=str(chosen))
            run.wrote(*train_fold(work, folder, args, run.record["inputs"], data, chosen))
    compare(work, args, protocol, data, whole)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", required=True, help="the detector; see outputs/NAME/task2")
    parser.add_argument("--name", default="gate", help="folder for the results, below that of the detector")
    parser.add_argument("--classifier", metavar="EXPERIMENT", help="of task 1, on whole slices: compared on the same test slices")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    group = parser.add_argument_group("region")
    group.add_argument("--margin", type=cli.number_from_0, default=0.25,
                       help="added on each side of a box, as a share of its longer side")  # fmt: skip
    group.add_argument(
        "--least-side", type=cli.positive_int, default=64, help="smallest side of a region, in pixels of the image"
    )
    train.add_flags(parser, image_size=96)
    data_slices.add_flags(parser, protocol=False)
    fit.add_flags(parser, epochs=20, batch_size=32, lr=3e-4, batch=cli.above_one)
    fit.add_device_flags(parser)
    return parser


def run_of(work: Workspace, detector: Path, args: argparse.Namespace) -> Run:
    """The run record of one fold, without --classifier: it does not change the training."""
    training = argparse.Namespace(**{name: value for name, value in vars(args).items() if name != "classifier"})
    inputs = [*(work.work / name for name in TABLES), *(detector / name for name in predictions.NEEDED)]
    inputs += [Path(args.weights)] if args.weights not in ("none", "imagenet") else []
    return Run(__file__, training, detector.parent / args.name / detector.name, inputs)


def train_fold(work: Workspace, detector: Path, args: argparse.Namespace, inputs: dict, data: SliceData,
               chosen: torch.device) -> list[Path]:  # fmt: skip
    """Cut out the regions of one fold, train on them, predict its validation and test slices; returns the written files."""
    folder = detector.parent / args.name / detector.name
    data, regions = gate.read(work, detector, data)
    squares = regions.squares(args.margin, args.least_side)
    data = replace(data, pixels=gate.cached(work, data.table, squares, args.image_size))
    print(f"{work.show(folder)}: {args.backbone}, {', '.join(data.classes)}, {args.protocol} protocol")
    print(f"  {(regions.confidence == 0).sum()} of {len(squares)} slices have no box and are taken whole")
    store = Store(data.pixels, chosen)
    region = gate.describe(args.experiment, args.margin, args.least_side)
    written = train.train_fold(folder, args, inputs, data, store, region)
    model, spec = training_networks.load(folder, chosen, of_regions=True)
    frame = predict.predict_parts(model, spec, data, store, 4 * args.batch_size)
    return [*written, tables.write_predictions(folder, frame)]


def compare(work: Workspace, args: argparse.Namespace, protocol: str, data: SliceData, whole: Evaluated | None) -> None:
    """Join the folds that were trained with these flags, evaluate them, and compare them with the detector and whole slices."""
    place = work.task(2) / args.experiment / args.name
    trained = experiments.folds(place, "predictions.csv")
    folds = [path for path in trained if run_of(work, place.parent / path.name, args).is_done()]
    for path in sorted(set(trained) - set(folds)):
        print(f"{work.show(path)} was trained with other flags or tables, and is left out")
    detector = [place.parent / path.name for path in folds]
    inputs = [work.work / "boxes.csv", *(path / "predictions.csv" for path in (*folds, *detector))]
    kept = gate.classifier_folder(work, args.classifier) if args.classifier else None
    inputs += [kept / name for name in ("metrics.json", "predictions.csv")] if kept else []
    run = Run(__file__, args, place, inputs)
    if run.up_to_date():
        return
    with run:
        frame = pd.concat([tables.read_predictions(path) for path in folds], ignore_index=True)
        squares = gate.squares_of(work, detector, data, args.margin, args.least_side)
        about = evaluation_protocol.describe(work, 2, f"{args.experiment}/{args.name}", work, protocol, detector)
        about |= gate.describe(args.experiment, args.margin, args.least_side)
        compared = gate.measure(frame, squares, whole, about, data.table.set_index("image_id")["slice"], args.seed)
        count = compared.slices["common"]
        heading = (
            f"{work.dataset}: detection as a gate, {count} test slices out of fold ({about['folds_done']}), the same for all"
        )
        run.wrote(
            tables.write_predictions(place, classification_tables.predictions_table(compared.evaluation)),
            files.write_json(place / "metrics.json", compared.content),
            tables.write_csv(place / "gate_comparison.csv", compared.table),
            files.write_text(place / "gate_comparison.md", gate.text(compared)),
        )
        figures = {
            "gate_comparison": evaluation_figures.side_by_side(compared.table, heading),
            "gate_regions": drawing.regions(work, data, compared, squares, SHOWN),
        }
        run.wrote(*base_figure.save_all(figures, place))
    print(f"{work.show(place)}\n\n{gate.text(compared)}", end="")


if __name__ == "__main__":
    cli.exit_cleanly(main)
