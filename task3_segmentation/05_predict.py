"""Predict masks on images: black and white masks, pictures, pixels of each image and volumes of each patient.

In PHE-SICH-CT-IDS that is the perihematomal edema, not the bleeding. A pixel counts when the mean probability of all fold models
reaches the mean of their thresholds; 0.5 where none was chosen. Models of --region box look around boxes: those of the detector
of their fold, or yours (--boxes-from). In boxes that reach the detector's own threshold (else 0.25) the bright core is shown and
counted too, an unvalidated estimate of the bleeding. Models with --context see neighbouring images, as far as you name them: of a
patient of the data set those whose slice numbers follow one another, in any other folder the files before and behind by name
(2 before 10).
Images on which a model was trained or validated give no honest result; they are counted and marked.

Reads   outputs/NAME/task3/EXPERIMENT/foldK/{best.pt,model.json}    task3_segmentation/02_train.py
        outputs/NAME/task3/EXPERIMENT/metrics.json                  task3_segmentation/03_evaluate.py (the threshold, if there)
        outputs/NAME/task2/BOXES/foldK/{best.pt,model.json}         task2_detection/02_train.py (--region box; or --boxes-from)
        any images, DICOM files or NIfTI volumes (HU in the window of the training data); of those that lie in data/raw/NAME
            also mask, patient and spacing
        (--on OTHER: data/work/OTHER/{labels.csv,dataset.json} and its images)
Writes  outputs/NAME/task3/EXPERIMENT/predicted/ (or --out DIR)     masks/PATIENT/IMAGE.png (0 and 255, the size of the image),
            overlays/PATIENT/IMAGE.png, patients/PATIENT.png, predicted.csv (pixels of each image), volumes.csv (sum of each
            patient, in ml where the spacing is known, else in px); for images from elsewhere PATIENT is their folder
        with --on OTHER: .../EXPERIMENT/on-OTHER/     predictions.csv, probability/IMAGE_ID.png (8 bit): the mean of all models
Next    look at the pictures; they are no diagnosis. After --on: python task3_segmentation/03_evaluate.py --on OTHER

    python task3_segmentation/05_predict.py slices/ --experiment unet-resnet34 --spacing 0.45 0.45 5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files, options
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.prepare.options import View
from hemoct.training.options import Hardware

if TYPE_CHECKING:
    import torch

    from hemoct.data.named_images import ImageFiles
    from hemoct.data.prepared import Shown
    from hemoct.segmentation.predict import Models, Places

TABLES = ("labels.csv", "images.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if bool(args.images) == bool(args.on):
        parser.error("name images or folders, or another data set with --on")
    if args.on and (args.out or args.no_overlays or args.threshold is not None or args.spacing or args.boxes_from):
        parser.error("--on writes probabilities: --threshold, --boxes-from, --spacing, --out, --no-overlays do not go with it")
    # what computes is not imported at the top: --help shall be quick, and refusals shall not wait for torch
    from hemoct.segmentation import predict

    work = Workspace.of(args)
    models = predict.find_models(work, args.experiment, args.fold, own_boxes=args.boxes_from is not None)
    if args.on:
        predict_other(work, models, args)
    else:
        predict_images(work, models, args)


def predict_images(work: Workspace, models: Models, args: argparse.Namespace) -> None:
    """Masks, tables and pictures of images from anywhere."""
    from hemoct.base import tables
    from hemoct.data import named_images, named_slices, prepared
    from hemoct.detection import predict as detection_predict
    from hemoct.evaluation import sheets, thresholds
    from hemoct.segmentation import metrics, predict

    experiment = work.task(3) / args.experiment
    of_detector = work.task(2) / (models.specs[0].boxes or predict.TRUTH)
    out = args.out or experiment / "predicted"
    named_images.stop_if_taken(out, args.images, Path(__file__).stem, predict.OUTPUTS)
    found = named_slices.find(args.images)

    sources = [*models.files, *(place / "metrics.json" for place in (experiment, of_detector))]
    sources += [*(work.work / name for name in TABLES), *args.images, *([args.boxes_from] if args.boxes_from else [])]
    run = Run(__file__, args, out, sources)
    if run.up_to_date():
        return
    run.say_if_replacing()
    from hemoct.segmentation import drawing
    from hemoct.training import device

    seen = prepared.for_models(work, models.specs[0], options.read(args, View))
    how = named_slices.Reading(1, models.specs[0].window or named_slices.BY_CHANNELS[1], None, seen)
    with run, named_slices.as_images(found, how) as of_files:
        shown = named_slices.look_up(work, of_files, models.specs)
        pixel = predict.per_pixel(work, shown, args.spacing, of_files.spacing)
        level, origin = thresholds.threshold(3, experiment, models.folders, level_of(args.threshold), metrics.LEVELS / 2)
        chosen = device.pick(args.device, args.threads)
        run.note(device=str(chosen), threshold=level, seen_in_training=int(shown.seen.sum()))
        certain, _ = thresholds.threshold(2, of_detector, models.detectors, None, detection_predict.THRESHOLD)
        seen.look_at(shown.paths)
        places = places_of(shown, models, certain, args, (chosen, seen))
        lesions = places.lesions if places else None
        with files.replacing_folder(out / "masks") as masks:
            probabilities = predict.probabilities(shown, models.folders, places, args.batch_size, chosen, seen)
            table = predict.write_masks(masks, shown, probabilities, level, lesions)
            predicted, truth = table["predicted_px"].to_numpy(int), drawing.annotated_masks(work, shown)
            drawn = drawing.MaskDrawing(shown, masks, predicted, lesions, truth, models.specs[0].mask_value)
            run.wrote(*sheets.replace(out, shown, None if args.no_overlays else drawn))
        volumes = predict.per_group(table, pixel)
        run.wrote(out / "masks", tables.write_csv(out / "predicted.csv", table), tables.write_csv(out / "volumes.csv", volumes))
    print(f"{work.show(out)}: {len(predicted)} images, {len(models.folders)} model(s), ", end="")
    print(f"probability from {metrics.as_probability(level):.3g} up ({origin})")
    units = " and ".join(sorted(volumes["unit"].unique()))
    print(f"  {(predicted > 0).sum()} with a mask; {len(volumes)} patient(s) or folder(s), volumes in {units}")
    if shown.seen.any():
        print(f"  mind: {shown.seen.sum()} of the {len(predicted)} images were {sheets.SEEN}")


def predict_other(work: Workspace, models: Models, args: argparse.Namespace) -> None:
    """Probability maps of all slices of another data set, in the form of a fold's, for 03_evaluate.py --on."""
    import numpy as np
    from PIL import Image

    from hemoct.base import tables
    from hemoct.data import named_images, prepared
    from hemoct.detection import predict as detection_predict
    from hemoct.evaluation import external
    from hemoct.segmentation import data as segmentation_data, predict

    other = external.other(work, args.on)
    out = external.folder(work, 3, args.experiment, other.dataset)
    run = Run(__file__, args, out, [*models.files, *(other.work / name for name in TABLES[:3])])
    if run.up_to_date():
        return
    from hemoct.training import device

    with run:
        data = segmentation_data.load(other, split=False)
        shown = named_images.look_up(other, [other.raw / name for name in data.table["image"]], specs=())
        chosen = device.pick(args.device, args.threads)
        run.note(device=str(chosen))
        seen = prepared.for_other(work, models.specs[0], other, options.read(args, View))
        places = places_of(shown, models, detection_predict.THRESHOLD, args, (chosen, seen))
        peaks = []
        with files.replacing_folder(out / "probability") as maps:
            probabilities = predict.probabilities(shown, models.folders, places, args.batch_size, chosen, seen)
            for image_id, (_, mean) in zip(shown.table["image_id"], probabilities, strict=True):
                Image.fromarray(np.rint(mean).astype(np.uint8)).save(maps / f"{image_id}.png")
                peaks.append(round(float(mean.max())))
        about = shown.labels[["patient"]].assign(image_id=shown.table["image_id"], fold=0, part="test", peak=peaks)
        run.wrote(out / "probability", tables.write_predictions(out, about))
    print(f"{work.show(out)}: {len(about)} images of {other.dataset}, {len(models.folders)} model(s)")
    cli.say_next(work, experiments.evaluate_step(3), "--experiment", args.experiment, "--on", other.dataset)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="image, DICOM or NIfTI files, or folders, searched with all below")
    parser.add_argument("--experiment", required=True, help="which models; see outputs/NAME/task3")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fold", type=cli.whole_number, metavar="K", help="the model of one fold; default: the mean of all")
    which.add_argument("--on", metavar="OTHER", help="instead of images: all slices of another data set, by all models")
    parser.add_argument("--threshold", type=cli.share, metavar="X", help="least probability; default: as 03_evaluate.py chose it")
    parser.add_argument(
        "--boxes-from",
        type=Path,
        metavar="CSV",
        help="boxes to look around: image, xmin, ymin, xmax, ymax (pixels), perhaps confidence",
    )
    parser.add_argument("--spacing", type=cli.positive_float, nargs=3, metavar=("ROW", "COL", "Z"),
                        help="mm between rows, columns and slices, of images for which labels.csv has none")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="where masks, tables and pictures go")
    parser.add_argument("--no-overlays", action="store_true", help="masks and tables alone")
    parser.add_argument("--batch-size", type=cli.positive_int, default=16)
    options.add(parser, View, "how the images lie")
    options.add(parser, Hardware, "device")
    return parser


def level_of(share: float | None) -> float | None:
    """A probability as a level of an 8-bit map; 0 stands for any probability."""
    from hemoct.segmentation.metrics import LEVELS

    return None if share is None else max(1.0, (LEVELS - 1) * share)


def places_of(
    shown: ImageFiles, models: Models, certain: float, args: argparse.Namespace, how: tuple[torch.device, Shown]
) -> Places | None:
    """The boxes on all images, from a table or by the detectors; None where there is neither. `certain`: see Places.lesions.

    `how`: on which device, and how the images are shown to models.
    """
    from hemoct.segmentation import predict

    if args.boxes_from:
        boxes, others = predict.boxes_from(args.boxes_from, shown)
        ignored = f", {others} row(s) are of other images" if others else ""
        print(f"{args.boxes_from}: boxes on {sum(len(of_image) > 0 for of_image in boxes)} of {len(boxes)} images{ignored}")
        return predict.given(boxes, models.specs, certain)
    if not models.detectors:
        return None
    return predict.detect(shown.paths, models, certain, args.batch_size, *how)


if __name__ == "__main__":
    cli.exit_cleanly(main)
