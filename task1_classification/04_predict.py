"""Predict images: the probability of hemorrhage for files, whole folders, or another data set, with the mean of the fold models.

Reads   outputs/NAME/task1/EXPERIMENT/foldK/{best.pt,model.json}    task1_classification/01_train.py
        any PNG, JPEG, BMP or TIFF images; or with --on the labelled images of data set OTHER
Writes  outputs/NAME/task1/EXPERIMENT/predicted.csv                 image, p_LABEL ... (or --out FILE)
        outputs/NAME/task1/EXPERIMENT/on-OTHER/predictions.csv      (--on OTHER)
Next    read the table, it is no diagnosis; after --on: python task1_classification/02_evaluate.py --on OTHER

    python task1_classification/04_predict.py slices/ one_more.png --experiment resnet18
"""

import argparse
from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import networks, predict
from hemoct.data import images, prepared
from hemoct.data.prepared import View
from hemoct.evaluation import external
from hemoct.training import device
from hemoct.training.options import Hardware


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
        predict_other(work, external.other(work, args.on), folders, args)
    else:
        predict_images(work, args.out or experiment / "predicted.csv", folders, args)


def predict_images(work: Workspace, out: Path, folders: list[Path], args: argparse.Namespace) -> None:
    """The table of images from anywhere."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name the file")
    shown = prepared.for_models(work, networks.read_shared(folders), options.read(args, View))
    run = Run(__file__, args, out.parent, [*experiments.model_files(folders), *args.images])
    if run.up_to_date():
        return
    with run:
        where = device.pick(args.device, args.threads)
        run.note(device=str(where))
        frame = predict.predict_files(list(images.find(args.images)), folders, args.batch_size, where, shown)
        run.wrote(tables.write_csv(out, frame))
    print(f"{work.show(out)}: {len(frame)} images, mean of {len(folders)} model(s)")


def predict_other(work: Workspace, other: Workspace, folders: list[Path], args: argparse.Namespace) -> None:
    """The labelled images of another data set, in the form of predictions.csv, for 02_evaluate.py --on."""
    out = external.folder(work, 1, args.experiment, other.dataset)
    run = Run(
        __file__,
        args,
        out,
        [*experiments.model_files(folders), *(other.work / name for name in ("labels.csv", "images.csv", "dataset.json"))],
    )
    if run.up_to_date():
        return
    with run:
        where = device.pick(args.device, args.threads)
        run.note(device=str(where))
        preparation = prepared.for_other(work, networks.read_shared(folders), other, options.read(args, View)).of_all
        frame = predict.predict_data(other, folders, args.batch_size, where, args.map, preparation)
        run.wrote(tables.write_predictions(out, frame))
    print(f"{work.show(out)}: {len(frame)} images of {other.dataset}, mean of {len(folders)} model(s)")
    cli.say_next(work, experiments.evaluate_step(1), "--experiment", args.experiment, "--on", other.dataset)


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="image files, or folders that are searched with all below them")
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
