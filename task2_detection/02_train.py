"""Train a detector that draws a box around each lesion, one model a fold, and predict the slices of its fold.

In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema. Best epoch: mAP50:95 on validation.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
        data/work/NAME/yolo_dataset/ (Ultralytics' models)          task2_detection/01_make_yolo_dataset.py
Writes  outputs/NAME/task2/EXPERIMENT/foldK/                        best.pt, model.json, history.csv, last.pt or ultralytics/,
                                                                    predictions.csv (val, test), train_predictions.csv
Next    python task2_detection/03_training_curves.py

On a laptop without a GPU or network: --weights none --image-size 256 --epochs 30 --batch-size 16 --negatives 1 --fold 0
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, options as base_options, runs
from hemoct.base.workspace import Workspace
from hemoct.detection import data as detection_data, networks, options
from hemoct.training import device, weights


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    chosen = base_options.read(args, options.Options)
    work = Workspace.of(args)
    experiment = work.task(2) / cli.experiment_name(parser, args, args.model)
    inputs = [work.work / name for name in ("labels.csv", "boxes.csv", "dataset.json", "splits.csv")]
    inputs += weights.inputs(chosen.initial)
    due = runs.due(__file__, args, dict.fromkeys(chosen.selection.folders(experiment), inputs))
    if not due:
        return
    networks.stop_if_unfit(chosen)
    where = device.pick(args.device, args.threads)
    data = detection_data.load(work, args.limit_patients)
    for run in due:
        print(f"{work.show(run.folder)}: {args.model}, {', '.join(data.classes)}, {args.protocol} protocol")
        with run:
            run.note(device=str(where))
            run.wrote(*networks.train_fold(run, chosen, work, data, where))
    cli.say_next(work, "task2_detection/03_training_curves.py")


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    cli.add_experiment_flags(parser)
    base_options.add_all(parser, options.Options)
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
