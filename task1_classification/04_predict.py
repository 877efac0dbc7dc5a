"""Predict images: the probability of hemorrhage for files, whole folders, or another data set, with the mean of the fold models.

Takes images, DICOM files, NIfTI volumes, and folders of them. HU are shown in the window of the training data. An image is
called when its probability reaches the mean of the thresholds of the folds, 0.5 where none was chosen. Images on which a model
was trained or validated give no honest result; they are counted and marked. For all tasks of one patient's scan at once there is
scripts/80_predict_scan.py.

Reads   outputs/NAME/task1/EXPERIMENT/foldK/{best.pt,model.json}    task1_classification/01_train.py
        outputs/NAME/task1/EXPERIMENT/metrics.json                  task1_classification/02_evaluate.py (the threshold, if there)
        any images or scans; or with --on the labelled images of data set OTHER
Writes  outputs/NAME/task1/EXPERIMENT/predicted.csv                 (or --out FILE) image, p_LABEL ..., of a single label also
            threshold, LABEL (0, 1); seen; and beside it predicted.png, the images with the highest probabilities
        outputs/NAME/task1/EXPERIMENT/on-OTHER/predictions.csv      (--on OTHER)
Next    read the table, it is no diagnosis; after --on: python task1_classification/02_evaluate.py --on OTHER

    python task1_classification/04_predict.py slices/ one_more.png --experiment resnet18
"""

import argparse
from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.prepare.options import View
from hemoct.training.options import Hardware

THRESHOLD = 0.5
LISTED = 10  # files that were passed over
TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if bool(args.images) == bool(args.on):
        parser.error("name images or folders, or another data set with --on")
    if args.on and (args.out or args.refit):
        parser.error("--on takes the fold models and has a place of its own: --out and --refit do not go with it")
    work = Workspace.of(args)
    experiment = work.task(1) / args.experiment
    if args.refit:
        folders = [work.need(experiment / "refit", "task1_classification/01_train.py --refit")]
    else:
        folders = experiments.with_model(work, 1, args.experiment)
    if args.on:
        predict_other(work, folders, args)
    else:
        predict_images(work, args.out or experiment / "predicted.csv", folders, args)


def predict_images(work: Workspace, out: Path, folders: list[Path], args: argparse.Namespace) -> None:
    """The table of images from anywhere."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name the file")
    # what computes is not imported at the top: --help shall be quick, and refusals shall not wait for torch
    from hemoct.base import tables
    from hemoct.classification import predictions
    from hemoct.data import named_slices, prepared
    from hemoct.evaluation import sheets, thresholds

    found = named_slices.find(args.images)
    spec = predictions.read_shared(folders)
    shown = prepared.for_models(work, spec, options.read(args, View))
    how = named_slices.Reading(1, spec.window or named_slices.BY_CHANNELS[1], None, shown)
    experiment = folders[0].parent
    inputs = [*experiments.model_files(folders), experiment / "metrics.json", *(work.work / name for name in TABLES)]
    run = Run(__file__, args, out.parent, [*inputs, *args.images])
    if run.up_to_date():
        return
    run.say_if_replacing()
    from hemoct.classification import predict
    from hemoct.training import device

    with run, named_slices.as_images(found, how) as files:
        where = device.pick(args.device, args.threads)
        known = predict.known(work, files, folders)
        limit, why = thresholds.threshold(1, experiment, folders, None, THRESHOLD)
        run.note(device=str(where), threshold=limit, seen_in_training=int(known.seen.sum()))
        frame = predict.predict_files(known.paths, folders, args.batch_size, where, shown)
        frame["image"] = known.table["image"]
        called = predict.call(frame, spec.classes, limit)
        frame["seen"] = known.seen.astype(int)
        sheet = predict.montage(known, frame, spec.classes, out.with_suffix(".png"))
        run.wrote(tables.write_csv(out, frame), sheet)
    print(f"{work.show(out)}: {len(frame)} images, mean of {len(folders)} model(s)")
    if called is not None:
        print(f"  {spec.classes[0]}: {called.sum()} called from {limit:.3g} up ({why})")
    for file, problem in list(files.problems.items())[:LISTED]:
        print(f"  passed over: {file} {problem}")
    if known.seen.any():
        print(f"  mind: {known.seen.sum()} of the {len(frame)} images were {sheets.SEEN}")


def predict_other(work: Workspace, folders: list[Path], args: argparse.Namespace) -> None:
    """The labelled images of another data set, in the form of predictions.csv, for 02_evaluate.py --on."""
    from hemoct.base import tables
    from hemoct.classification import predictions
    from hemoct.data import prepared
    from hemoct.evaluation import external

    other = external.other(work, args.on)
    out = external.folder(work, 1, args.experiment, other.dataset)
    run = Run(
        __file__,
        args,
        out,
        [*experiments.model_files(folders), *(other.work / name for name in ("labels.csv", "images.csv", "dataset.json"))],
    )
    if run.up_to_date():
        return
    from hemoct.classification import predict
    from hemoct.training import device

    with run:
        where = device.pick(args.device, args.threads)
        run.note(device=str(where))
        preparation = prepared.for_other(work, predictions.read_shared(folders), other, options.read(args, View)).of_all
        frame = predict.predict_data(other, folders, args.batch_size, where, args.map, preparation)
        run.wrote(tables.write_predictions(out, frame))
    print(f"{work.show(out)}: {len(frame)} images of {other.dataset}, mean of {len(folders)} model(s)")
    cli.say_next(work, experiments.evaluate_step(1), "--experiment", args.experiment, "--on", other.dataset)


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="image, DICOM or NIfTI files, or folders, searched with all below")
    parser.add_argument("--experiment", required=True, help="which models; see outputs/NAME/task1")
    parser.add_argument("--refit", action="store_true", help="the one model of 01_train.py --refit instead of the fold models")
    parser.add_argument("--on", metavar="OTHER", help="instead of images: all labelled images of another data set")
    parser.add_argument(
        "--map", type=cli.pairs, metavar="THEIRS=OURS", help="with --on: what the models call a label of OTHER: any=hemorrhage"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the table goes")
    parser.add_argument("--batch-size", type=cli.positive_int, default=64, help="images in a batch")
    options.add(parser, View, "how the images lie")
    options.add(parser, Hardware, "device")
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
