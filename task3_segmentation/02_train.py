"""Train a network that draws the mask of each lesion, one model a fold, and predict the slices of its fold.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding. Best epoch: Dice by patient on validation.
--region slice: the network sees whole slices. --region box: it sees windows around boxes, at native resolution. In training these
lie around true boxes, and where there is no lesion, so that it learns to predict nothing there; when it predicts, around the
boxes of a detector of the same fold.
--boxes truth predicts around true boxes: an upper bound, never a result.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task2/BOXES/foldK/{model.json,predictions.csv,train_predictions.csv}       task2_detection/02_train.py
        (--region box; where outputs/ has none, those of outputs/reference)
Writes  outputs/NAME/task3/EXPERIMENT/foldK/    best.pt, model.json, last.pt, history.csv, predictions.csv (val, test),
                                                probability/IMAGE_ID.png (8 bit)
        (--upper-bound: EXPERIMENT/truth-boxes/foldK/, the same model around true boxes)
Next    python task3_segmentation/03_evaluate.py

On a laptop without a GPU or network: --weights none --encoder resnet18 --boxes yolov8n-scratch (boxes that come with this
repository), --precision bf16 where the CPU has it; some 20 minutes a fold.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hemoct.base import cli, experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run, folders_due
from hemoct.base.workspace import Workspace
from hemoct.data import images, splits
from hemoct.data import slices as data_slices
from hemoct.detection import predictions
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation import networks, train, windows
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.windows import Windows
from hemoct.training import augment, device, weights
from hemoct.training import fit as training_fit
from hemoct.training import networks as training_networks

TRUTH = "truth"
TABLES = ("labels.csv", "boxes.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    experiment = work.task(3) / cli.experiment_name(parser, args, f"{args.model}-{args.encoder}", NAMED)
    folders = [experiment / f"fold{fold}" for fold in data_slices.folds(args)]
    if args.split == "given" and args.validation != 1:
        raise UserError("--validation chooses among folds, and --split given has none; drop one of them")
    detector = detector_of(work, args)
    runs = {folder: Run(__file__, args, folder, inputs_of(work, args, detector.get(folder.name))) for folder in folders}
    due = folders_due(runs, args.overwrite)
    if not due:
        return
    chosen = device.pick(args.device, args.threads)
    data = segmentation_data.load(work, args.mask_value, args.limit_patients)
    args.mirror = augment.mirror_axis(args.mirror, data.layout)
    args.image_size = args.image_size or SIZES[args.region]
    for folder in due:
        print(f"{work.show(folder)}: {args.model}, {args.encoder}, {args.region}, {args.protocol} protocol")
        with runs[folder] as run:
            run.note(device=str(chosen))
            fold = Fold(folder, detector.get(folder.name), run.record["inputs"])
            run.wrote(*train_fold(fold, args, work, data, chosen))


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default="unet", choices=networks.ARCHITECTURES, help="architecture of segmentation_models_pytorch"
    )
    group.add_argument("--encoder", default="resnet34", help="resnet18, efficientnet-b0, mit_b0 ..., or tu-NAME for one of timm")
    group.add_argument("--weights", default="imagenet", help="of the encoder: imagenet, none; or a file with a state_dict")
    group.add_argument("--image-size", type=cli.positive_int, help="side of what the network sees; default: slice 256, box 128")
    group.add_argument(
        "--context", type=int, choices=range(6), default=0, help="neighbouring slices on each side as further channels"
    )
    group.add_argument("--normalise", default="dataset", choices=("dataset", "window"),
                       help="grey values normalised by the data set, or by each window's own brain")  # fmt: skip
    group.add_argument("--loss", default="bce-dice", choices=networks.LOSSES, help="loss function")
    group.add_argument("--augment", default="affine", choices=train.AUGMENTATIONS, help="random changes of the training windows")
    group.add_argument("--mirror", default="auto", choices=("auto", "horizontal", "vertical"),
                       help="axis along which the patient's left and right lie; auto: vertical in PHE-SICH-CT-IDS")  # fmt: skip
    group.add_argument("--no-mirrored-mean", action="store_true", help="predict without averaging over the mirrored image")
    group.add_argument("--negatives", type=cli.number_from_0, default=0.5, metavar="RATIO",
                       help="windows without a lesion for each window with one; other ones each epoch")  # fmt: skip
    group.add_argument("--validation", type=int, choices=range(1, splits.FOLDS), default=1, metavar="N",
                       help="the fold that validates, counted on from the test fold, 1 to 4; networks that differ in it learn "
                       "from other patients: members for 07_ensemble.py")  # fmt: skip
    group.add_argument("--mask-value", type=cli.whole_number, metavar="V",
                       help="the lesion in masks of several values (palette: its index)")  # fmt: skip
    group.add_argument("--experiment", help="name of the folder; default: made of the flags that are not at their defaults")
    group.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    group = parser.add_argument_group("region")
    group.add_argument("--region", default="box", choices=("slice", "box"), help="what the network sees")
    group.add_argument("--boxes", default="yolov8n", metavar="EXPERIMENT", help=f"of task 2; {TRUTH}: true boxes, an upper bound")
    group.add_argument("--margin", type=cli.number_from_0, default=0.1,
                       help="added at both ends of a box, as a share of its longer side")  # fmt: skip
    group.add_argument("--least-side", type=cli.positive_int, help="of a window, in pixels of the image; default: the image size")
    group.add_argument("--upper-bound", action="store_true", help="predict around true boxes too, into EXPERIMENT/truth-boxes")
    data_slices.add_flags(parser)
    training_fit.add_flags(parser, epochs=40, batch_size=16, lr=1e-3, batch=cli.above_one, ema=0.0)
    training_fit.add_device_flags(parser)
    return parser


SIZES = {"slice": 256, "box": 128}
UNCHOSEN = 0.02  # least confidence of boxes where validation cannot choose it: the median of what it chose in ten networks
# How a flag that differs from its default shows in the name of the experiment, in this order.
NAMED = {
    "region": {"slice": "whole"}, "weights": {"none": "scratch"}, "image_size": "{}px", "context": "context{}", "loss": "{}",
    "normalise": "normalise-{}", "augment": "augment-{}", "negatives": "negatives{:g}", "boxes": "{}", "margin": "margin{:g}",
    "least_side": "side{}", "epochs": "{}ep", "batch_size": "batch{}", "lr": "lr{:g}", "optimizer": "{}",
    "weight_decay": "decay{:g}", "schedule": "{}", "warmup": "warmup{:g}", "patience": "patience{}", "ema": "ema{:g}",
    "precision": "{}", "seed": "seed{}", "limit_patients": "{}patients", "mirror": "{}", "protocol": "{}", "split": "{}",
    "validation": "validation{}",
}  # fmt: skip


def detector_of(work: Workspace, args: argparse.Namespace) -> dict[str, Path]:
    """The folder of the detector of each fold, by its name; empty where none is needed."""
    if args.region == "slice" or args.boxes == TRUTH:
        if args.upper_bound:
            raise UserError("--upper-bound is for --region box with a detector's boxes: it measures what true boxes would give")
        return {}
    if tables.read_boxes(work).empty:
        raise UserError(f"{work.dataset} has no boxes to look around; add --region slice: the network sees whole slices")
    fold = "0" if args.split == "given" else args.fold
    folders, protocol = predictions.folders(work, args.boxes, fold)
    wanted = "given" if args.split == "given" else args.protocol
    if protocol != wanted:
        raise UserError(f"--boxes {args.boxes} has the protocol {protocol}, not {wanted}: test patients would leak; name another")
    missing = {f"fold{number}" for number in data_slices.folds(args)} - {folder.name for folder in folders}
    if missing:
        raise UserError(f"--boxes {args.boxes} lacks {', '.join(sorted(missing))}; train its other folds, or choose with --fold")
    return {folder.name: folder for folder in folders}


def inputs_of(work: Workspace, args: argparse.Namespace, detector: Path | None) -> list[Path]:
    inputs = [work.raw, *(work.work / name for name in TABLES)]  # a mask that was mended changes no table
    inputs += [detector / name for name in predictions.NEEDED] if detector else []
    return inputs + ([Path(args.weights)] if args.weights not in training_networks.WORDS else [])


@dataclass(frozen=True)
class Fold:
    """One fold: where it is written, and who looks for boxes in it."""

    folder: Path
    detector: Path | None
    """the folder of the detector's fold; None where true boxes or whole slices are seen"""
    inputs: dict[str, str]
    """the files that the training reads, with their hashes"""

    @property
    def number(self) -> int:
        return experiments.fold_of(self.folder)

    @property
    def upper_bound(self) -> Path:
        """Where the same model's predictions around true boxes go."""
        return self.folder.parent / "truth-boxes" / self.folder.name


def train_fold(fold: Fold, args: argparse.Namespace, work: Workspace, data: MaskData, chosen: torch.device) -> list[Path]:
    """Train one model and predict its fold; returns the files that were written."""
    source = args.image_size if args.region == "slice" else int(images.sizes(work, data.table).max())
    positive = segmentation_data.positive(segmentation_data.cached(work, data, source))
    part = data.part_of(fold.number, args.protocol, args.split, args.validation)
    rows = {name: np.flatnonzero((part == name) & data.known) for name in ("train", "val")}
    for name, of_part in rows.items():
        if not positive[of_part].any():
            raise UserError(f"{fold.folder.name}: no mask of {name} has a pixel; use more patients, or another --split")
    spec = spec_of(fold, args, work, data, source, rows["train"])
    training_networks.stop_if_trained_elsewhere(args.weights, spec)
    torch.manual_seed(args.seed)
    model = networks.build(spec, args.weights)
    slices = train.Slices(work, data, spec, chosen)
    plan = windows.plan(work, data, spec, windows.Parts(part, positive), fold.detector, args.negatives)
    validation = train.Validation.of(slices, rows["val"], data.table["patient"].to_numpy()[rows["val"]])
    validated, criterion = plan.prediction.of(rows["val"]), networks.criterion(args.loss)

    steps = -(-len(plan.training) // args.batch_size)
    fit = training_fit.Fit(model, fold.folder, args, fold.inputs, steps, chosen, criterion="val_dice")
    if fit.best_epoch == 0:
        spec.save(fold.folder)
        shutil.rmtree(fold.upper_bound, ignore_errors=True)  # that of an earlier model would be taken for this one's
    for epoch in fit.epochs():
        loss = train.one_epoch(fit, slices, plan.training, criterion, epoch)
        fit.log(epoch, train_loss=loss, **train.validate(fit, validation, validated, criterion))
    print(f"  best epoch {fit.best_epoch}")

    training_networks.load_trained(model, fold.folder, args.model)
    if fold.detector:
        honest = args.validation == 1  # else the detector has learned from these slices: it is surer there than on test
        least = train.choose_confidence(model, validation, validated, 4 * args.batch_size) if honest else UNCHOSEN
        spec = replace(spec, least_confidence=least)
        print(f"  boxes of confidence {spec.least_confidence:g} and more")
    spec.save(fold.folder)

    def predict(folder: Path, at: Windows) -> list[Path]:
        return train.write_probabilities(folder, model, slices, part, at, 4 * args.batch_size)

    written = predict(fold.folder, plan.prediction.least(spec.least_confidence))
    if args.upper_bound:
        of_truth = replace(spec, boxes=TRUTH, least_confidence=0.0).save(fold.upper_bound)
        written += [of_truth, *predict(fold.upper_bound, plan.true)]
    return [*(fold.folder / name for name in ("best.pt", "model.json", "last.pt", "history.csv")), *written]


def spec_of(
    fold: Fold, args: argparse.Namespace, work: Workspace, data: MaskData, source: int, rows: np.ndarray
) -> networks.SegmenterSpec:
    """model.json of a fold that learns from slices `rows` in squares of `source` pixels."""
    encoder = networks.timm_name(args.encoder)
    mean, std = images.grey_statistics(images.cached(work, data.table, source), rows)
    mean, std = training_networks.normalisation(encoder, args.weights, mean, std)
    of_boxes = {"boxes": args.boxes, "margin": args.margin, "least_side": args.least_side or args.image_size}
    return networks.SegmenterSpec(
        image_size=args.image_size, mean=mean, std=std, protocol=args.protocol, split=args.split, fold=fold.number,
        splits_sha256=data.splits_sha256, model=args.model, encoder=args.encoder, context=args.context, source_size=source,
        mirror=None if args.no_mirrored_mean else args.mirror, mask_value=args.mask_value, region=args.region,
        normalise=args.normalise, validation=args.validation, initial_weights=weights.origin(args.weights, encoder),
        **of_boxes if args.region == "box" else {},
    )  # fmt: skip


if __name__ == "__main__":
    cli.exit_cleanly(main)
