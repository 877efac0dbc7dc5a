"""Write the slices of each fold with their boxes as a YOLO data set (or COCO), for Ultralytics and other programs.

Images are linked, not copied. A slice without a box has an empty label file; a slice whose label is unknown is left out.
In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  data/work/NAME/yolo_dataset/PROTOCOL/foldK/                 images/{train,val,test}, labels/{train,val,test}, data.yaml
        (--format coco: data/work/NAME/coco_dataset/..., annotations/instances_{train,val,test}.json instead of labels)
Next    python task2_detection/02_train.py
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.training.options import Selection

FORMATS = ("yolo", "coco")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    options.add(parser, Selection, "data", without=("prepare",), fold={"help": "the fold to write"})
    parser.add_argument("--format", default="yolo", choices=FORMATS, help="form of the label files")
    args = cli.parse(parser, argv, __file__)
    from hemoct.base.tables import PARTS  # what computes is not imported at the top: --help shall be quick
    from hemoct.detection import data as detection_data

    writers = {"yolo": detection_data.write_yolo, "coco": detection_data.write_coco}
    selection, work = options.read(args, Selection), Workspace.of(args)
    inputs = [work.work / name for name in ("labels.csv", "images.csv", "boxes.csv", "dataset.json", "splits.csv")]
    folders = [detection_data.export_folder(work, args.format, selection, number) for number in selection.folds]
    due = [run for run in (Run(__file__, args, folder, inputs) for folder in folders) if not run.up_to_date()]
    if not due:
        return

    data = detection_data.load(work, args.limit_patients)
    found = detection_data.look(work, data)
    for run in due:
        part = data.fold(run.folder, selection).part
        with run:
            run.wrote(*writers[args.format](run.folder, work, data, part, found))
        counts = ", ".join(f"{name} {(part == name).sum()} ({data.positive[part == name].sum()} with boxes)" for name in PARTS)
        print(f"{work.show(run.folder)}: {counts}")
    cli.say_next(work, experiments.train_step(2))


if __name__ == "__main__":
    cli.exit_cleanly(main)
