"""Predict images: the probability of hemorrhage for files or whole folders, with the mean of the fold models.

Reads   outputs/NAME/task1/EXPERIMENT/foldK/{best.pt,model.json}    task1_classification/01_train.py
        any PNG, JPEG, BMP or TIFF images
Writes  outputs/NAME/task1/EXPERIMENT/predicted.csv                 image, p_LABEL ... (or --out FILE)
Next    read the table; it is no diagnosis

    python task1_classification/04_predict.py slices/ one_more.png --experiment resnet18
"""

from __future__ import annotations

from pathlib import Path

from hemoct.base import cli, experiments, tables
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import predict
from hemoct.data import images
from hemoct.training import device, fit


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders that are searched with all below them")
    parser.add_argument("--experiment", required=True, help="which models; see outputs/NAME/task1")
    parser.add_argument("--refit", action="store_true", help="the one model of 01_train.py --refit instead of the fold models")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the table goes")
    parser.add_argument("--batch-size", type=cli.positive_int, default=64)
    fit.add_device_flags(parser)
    args = cli.parse(parser, argv, __file__)

    work = Workspace.of(args)
    experiment = work.task(1) / args.experiment
    folders = [work.need(experiment / "refit", "task1_classification/01_train.py --refit")] if args.refit else None
    folders = folders or experiments.with_model(work, 1, args.experiment)
    out = args.out or experiment / "predicted.csv"
    if out.is_dir():
        parser.error(f"--out {out} is a folder; name the file")

    made_from = [folder / name for folder in folders for name in ("best.pt", "model.json")]
    run = Run(__file__, args, out.parent, [*made_from, *args.images])
    if run.up_to_date():
        return
    with run:
        run.note(device=str(device.pick(args.device, args.threads)))
        frame = predict.predict_files(images.find(args.images), folders, args)
        run.wrote(tables.write_csv(out, frame))
    print(f"{work.show(out)}: {len(frame)} images, mean of {len(folders)} model(s)")


if __name__ == "__main__":
    cli.exit_cleanly(main)
