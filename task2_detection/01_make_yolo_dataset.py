"""Write the slices of each fold with their boxes as a YOLO data set (or COCO), for Ultralytics and other programs.

Images are linked, not copied. A slice without a box has an empty label file; a slice whose label is unknown is left out.
In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  data/work/NAME/yolo_dataset/PROTOCOL/foldK/                 images/{train,val,test}, labels/{train,val,test}, data.yaml
        (--format coco: data/work/NAME/coco_dataset/..., annotations/instances_{train,val,test}.json instead of labels)
Next    python task2_detection/02_train.py
"""

from __future__ import annotations

from hemoct.base import cli
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.detection import data as detection_data
from hemoct.detection import export


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    slices.add_flags(parser)
    parser.add_argument("--format", default="yolo", choices=("yolo", "coco"), help="form of the label files")
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    protocol = "given" if args.split == "given" else args.protocol
    inputs = [work.work / name for name in ("labels.csv", "boxes.csv", "dataset.json", "splits.csv")]
    folders = {fold: export.folder(work, args.format, protocol, fold) for fold in slices.folds(args)}
    runs = {fold: Run(__file__, args, folder, inputs) for fold, folder in folders.items()}
    due = [fold for fold in folders if not runs[fold].up_to_date()]
    if not due:
        return

    data = detection_data.load(work, args.limit_patients)
    sizes = export.sizes(work, data)
    for fold in due:
        part = data.part_of(fold, args.protocol, args.split)
        with runs[fold] as run:
            run.wrote(*export.WRITERS[args.format](folders[fold], work, data, part, sizes))
        counts = ", ".join(
            f"{name} {(part == name).sum()} ({data.positive[part == name].sum()} with boxes)" for name in export.PARTS
        )
        print(f"{work.show(folders[fold])}: {counts}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
