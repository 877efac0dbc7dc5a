"""Predict labels on slices: probabilities, called labels, the most likely type, and a figure of the slice with its bars.

Takes images, DICOM files (with or without a suffix), NIfTI volumes, and folders of them. The probability of a label is the mean
of all fold models; it is called when it reaches the mean of their thresholds, 0.5 where none was chosen. The most likely type
is that with the highest probability apart from `any`, whether it is called or not. HU are shown in the window in which
01_get_data.py converted the training data; where that is not known, in the brain window, or for models of three channels in
brain, subdural and bone. Models with --context see neighbouring slices, as far as you name them: of a DICOM series or a volume by
position, of a patient of the data set those whose slice numbers follow one another, in any other folder the files before and
behind by name (2 before 10). Nothing is mirrored.
A file of a folder that cannot be read, or is no CT slice, is listed and passed over; one that is named itself stops.
Images on which a model was trained or validated give no honest result; they are counted and marked.

Reads   outputs/NAME/task4/EXPERIMENT/foldK/{best.pt,model.json}    task4_multilabel/02_train.py
        outputs/NAME/task4/EXPERIMENT/metrics.json                  task4_multilabel/03_evaluate.py (the thresholds, if there)
        any files; of those that lie in data/raw/NAME, or that 01_get_data.py converted, also labels and patient
        (--on OTHER: data/work/OTHER/{labels.csv,dataset.json} and its images)
Writes  outputs/NAME/task4/EXPERIMENT/predicted/ (or --out DIR)     figures/PATIENT/IMAGE.png, predicted.csv: image, image_id,
            group (patient, else series or folder), slice, p_LABEL ..., LABEL ... (0, 1), labels (in words), most_likely,
            y_LABEL ... (the truth, empty = unknown), seen; passed_over.csv: file, problem. A slice of a volume is VOLUME/NUMBER
        with --on OTHER: .../EXPERIMENT/on-OTHER/predictions.csv    the images of which OTHER knows a label of the models
Next    look at the figures; they are no diagnosis. After --on: python task4_multilabel/03_evaluate.py --on OTHER

    python task4_multilabel/05_predict.py series/ one_more.png --experiment resnet18
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files, options
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.ct import windows as ct_windows
from hemoct.prepare.options import View
from hemoct.training.options import Hardware

if TYPE_CHECKING:
    from hemoct.multilabel.predict import PredictedLabels
    from hemoct.multilabel.predictions import MultiLabelSpec

TABLES = ("labels.csv", "images.csv", "dataset.json", "splits.csv")
LISTED = 10  # files that were passed over and are named on the screen; all are in the table
FIGURES = 40


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if bool(args.images) == bool(args.on):
        parser.error("name images or folders, or another data set with --on")
    if args.on and (args.out or args.window or args.threshold is not None or args.intercept is not None):
        parser.error("--on writes probabilities: --threshold, --window, --intercept and --out do not go with it")
    # what computes is not imported at the top: --help shall be quick, and refusals shall not wait for torch
    from hemoct.data import named_images
    from hemoct.multilabel import cascade, predict
    from hemoct.multilabel.predictions import MultiLabelSpec

    work = Workspace.of(args)
    cascade.stop_if_cascade(work.task(4) / args.experiment)
    folders = named_images.models(work, 4, args.experiment, args.fold)
    specs = MultiLabelSpec.read_all(folders, predict.ALIKE)
    stop_if_unfit(args, specs[0])
    if args.on:
        predict_other(work, folders, specs[0], args)
    else:
        predict_images(work, folders, specs, args)


def stop_if_unfit(args: argparse.Namespace, spec: MultiLabelSpec) -> None:
    """Stop where --group is missing, names no view of the models, or does not go with them."""
    if args.group and (args.on or not spec.views):
        raise UserError("--group is for models with a head for each view, and for images that are named; leave it out")
    if spec.views and not args.on and args.group not in spec.views:
        said = f"--group {args.group} is none of them" if args.group else "name that of the images with --group"
        raise UserError(f"{args.experiment} has a head for each view ({', '.join(spec.views)}): {said}")


def predict_images(work: Workspace, folders: list[Path], specs: list[MultiLabelSpec], args: argparse.Namespace) -> None:
    """Tables and figures of slices from anywhere."""
    import numpy as np

    from hemoct.base import tables
    from hemoct.data import named_images, named_slices, prepared
    from hemoct.evaluation import thresholds
    from hemoct.ingest import layouts
    from hemoct.multilabel import data as multilabel_data, predict

    experiment = work.task(4) / args.experiment
    how, why = named_slices.reading(work, specs[0], args.window, args.intercept)
    how = replace(how, shown=prepared.for_models(work, specs[0], options.read(args, View)))
    out = args.out or experiment / "predicted"
    named_images.stop_if_taken(out, args.images, Path(__file__).stem, predict.OUTPUTS)
    paths = named_slices.find(args.images)

    sources = [experiment / "metrics.json", *(work.work / name for name in TABLES), work.raw / layouts.ORIGIN, *args.images]
    run = Run(__file__, args, out, experiments.model_files(folders) + sources)
    if run.up_to_date():
        return
    run.say_if_replacing()
    from hemoct.training import device

    with run:
        slices, problems, pixels = named_slices.read_all(paths, how, specs[0].image_size)
        shown, slices, copies = predict.known(work, slices, specs)
        classes = specs[0].classes
        limits, chosen = thresholds.thresholds(4, experiment, folders, args.threshold, predict.THRESHOLD, classes)
        where = device.pick(args.device, args.threads)
        run.note(device=str(where), thresholds=limits, window=how.window, seen_in_training=int(shown.seen.sum()))
        rows = np.concatenate([np.arange(each.at, each.at + len(each.planes)) for each in slices])
        planes = rows[multilabel_data.stacked(shown.neighbours(specs[0].context), specs[0].channels)]
        groups = np.full(len(planes), args.group) if specs[0].views else None
        probability = predict.mean_probabilities((pixels, planes), folders, args.batch_size, where, groups)
        predicted = predict.PredictedLabels(shown, classes, probability, limits, predict.truth(work, shown, classes))
        drawn = np.sort(np.argsort(-probability.max(axis=1), kind="stable")[: args.figures])
        with files.replacing_folder(out / "figures") as figures:
            footer = f"Mean of {len(folders)} model(s) of {args.experiment}."
            predict.draw(figures, predicted, drawn, named_slices.again(how), how.window, footer)
        run.wrote(out / "figures", tables.write_csv(out / "predicted.csv", predicted.table()))
        run.wrote(*list_problems(out / "passed_over.csv", problems | copies))
    print(f"{work.show(out)}: {len(slices)} slices, {len(folders)} model(s)")
    report(predicted, chosen, len(drawn))
    for line in named_slices.notes(slices, f"{how.window} ({why})") + predict.notes(slices, shown, specs[0].context):
        print(f"  {line}")


def predict_other(work: Workspace, folders: list[Path], spec: MultiLabelSpec, args: argparse.Namespace) -> None:
    """Probabilities of the labels that another data set knows, in the form of predictions.csv, for 03_evaluate.py --on."""
    from hemoct.base import tables
    from hemoct.data import prepared
    from hemoct.evaluation import external
    from hemoct.multilabel import data as multilabel_data, predict, predictions

    other = external.other(work, args.on)
    out = external.folder(work, 4, args.experiment, other.dataset)
    run = Run(__file__, args, out, [*experiments.model_files(folders), *(other.work / name for name in TABLES[:3])])
    if run.up_to_date():
        return
    from hemoct.training import device

    with run:
        preparation = prepared.for_other(work, spec, other, options.read(args, View)).of_all
        data = multilabel_data.load_other(other, spec.classes, spec, preparation)
        where = device.pick(args.device, args.threads)
        run.note(device=str(where))
        groups = predictions.groups_of(data.table, args.experiment) if spec.views else None
        probability = predict.mean_probabilities((data.pixels, data.planes), folders, args.batch_size, where, groups)
        about = data.table[["image_id", "patient"]].assign(fold=0, part="test")
        shared = [spec.classes.index(name) for name in data.classes]
        frame = tables.with_columns(about, data.classes, data.targets, probability[:, shared])
        run.wrote(tables.write_predictions(out, frame))
    print(f"{work.show(out)}: {len(about)} images of {other.dataset}, {len(folders)} model(s), labels {', '.join(data.classes)}")
    cli.say_next(work, experiments.evaluate_step(4), "--experiment", args.experiment, "--on", other.dataset)


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="image, DICOM or NIfTI files, or folders, searched with all below")
    parser.add_argument("--experiment", required=True, help="which models; see outputs/NAME/task4")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fold", type=cli.whole_number, metavar="K", help="the model of one fold; default: the mean of all")
    which.add_argument("--on", metavar="OTHER", help="instead of images: all labelled images of another data set, by all models")
    parser.add_argument("--group", metavar="VIEW", help="the view of the images, of models with a head for each; with --on the "
                        "groups of its labels.csv count")  # fmt: skip
    parser.add_argument("--threshold", type=cli.share, metavar="X",
                        help="least probability, the same for each label; default: as 03_evaluate.py chose them")  # fmt: skip
    parser.add_argument("--window", type=ct_windows.words, metavar="WINDOW[,WINDOW,WINDOW]",
                        help=f"of files in HU: {', '.join(ct_windows.WINDOWS)}, LEVEL/WIDTH or file (their own); default: that "
                        "of the training data")  # fmt: skip
    parser.add_argument("--intercept", type=float, metavar="HU", help="where a DICOM file's RescaleIntercept is missing or 0")
    parser.add_argument("--figures", type=cli.whole_number, default=FIGURES, metavar="N",
                        help="how many slices are drawn, those with the highest probabilities")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="where tables and figures go")
    parser.add_argument("--batch-size", type=cli.positive_int, default=64, help="slices in a batch")
    options.add(parser, View, "how the images lie")
    options.add(parser, Hardware, "device")
    return parser


def list_problems(path: Path, problems: dict[Path, str]) -> list[Path]:
    """Name the files that were passed over, on the screen and in a table; take away that of an earlier call without any."""
    import pandas as pd

    from hemoct.base import tables

    for file, problem in list(problems.items())[:LISTED]:
        print(f"passed over: {file} {problem}")
    if len(problems) > LISTED:
        print(f"passed over: {len(problems) - LISTED} more, listed in {path.name}")
    path.unlink(missing_ok=True)
    frame = pd.DataFrame({"file": map(str, problems), "problem": problems.values()})
    return [tables.write_csv(path, frame)] if problems else []


def report(predicted: PredictedLabels, chosen: str, drawn: int) -> None:
    """Print the thresholds, how often each label is called, what was not drawn and what was seen in training."""
    from hemoct.evaluation import sheets

    n, called = len(predicted.called), predicted.called.sum(axis=0)
    print(f"  called from these probabilities up ({chosen}):")
    for name, count in zip(predicted.classes, called, strict=True):
        print(f"    {name} {predicted.thresholds[name]:.3g}: {count} slice(s)")
    if drawn < n:
        print(f"  figures of the {drawn} highest probabilities; {n - drawn} left out (--figures)")
    if predicted.shown.seen.any():
        print(f"  mind: {predicted.shown.seen.sum()} of the {n} slices were {sheets.SEEN}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
