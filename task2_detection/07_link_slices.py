"""Let the boxes of neighbouring slices support each other: lonely boxes fall, boxes along a lesion rise and lie steadier.

A box is linked with the boxes of its class in the slice before and behind that overlap it. How much these count, for its
confidence and for its corners, is chosen for each fold on its validation slices (mAP50:95); where nothing is better there, the
boxes stay as they are. The result is an experiment like any other, which can also serve as the detector of tasks 2 and 3.

Reads   outputs/NAME/task2/EXPERIMENT/foldK/{model.json,predictions.csv,train_predictions.csv}     task2_detection/02_train.py
        data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task2/EXPERIMENT-linked/foldK/                 model.json, predictions.csv, train_predictions.csv
Next    python task2_detection/04_evaluate.py --experiment EXPERIMENT-linked

    python task2_detection/07_link_slices.py --experiment yolov8n
"""

from dataclasses import replace

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, runs
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", required=True, help="the detector; see outputs/NAME/task2")
    parser.add_argument("--name", help="folder of the result in outputs/NAME/task2; default: EXPERIMENT-linked")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    args = cli.parse(parser, argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import tables
    from hemoct.detection import data as detection_data, lesions, predictions

    work = Workspace.of(args)
    target = work.task(2) / experiments.new_name("--name", args.name or f"{args.experiment}-linked")
    if experiments.folds(target, "best.pt"):
        raise UserError(f"{work.show(target)} holds a trained detector; give another --name")
    folders, _ = predictions.folders(work, args.experiment, "all")
    tables_of_data = [work.work / name for name in ("labels.csv", "boxes.csv", "dataset.json", "splits.csv")]
    inputs = {target / of.name: [*tables_of_data, *(of / name for name in predictions.NEEDED)] for of in folders}
    due = runs.due(__file__, args, inputs, "give another --name, or --overwrite to replace it")
    if not due:
        return
    data, true = detection_data.load(work), tables.read_boxes(work)
    behind = lesions.following(data)
    for run in due:
        with run:
            frame, spec = predictions.read(work, folders[0].parent / run.folder.name, data)
            found = lesions.partners(frame, behind)
            validates = frame["part"] == "val"
            of_val = found[validates[found["box"]].to_numpy()]
            shares = lesions.choose(frame[validates], of_val, true, spec.classes)
            linked = {"experiment": args.experiment, "chosen": "mAP50:95 on val", "iou": lesions.FOLLOW_IOU, **shares}
            run.wrote(replace(spec, linked=linked, made_of=[], made_by=None).save(run.folder))
            run.wrote(*tables.write_parts(run.folder, lesions.supported(frame, found, **shares)))
        print(
            f"{work.show(run.folder)}: share of the neighbours in confidence {shares['confidence']}, corners {shares['corners']}"
        )
    cli.say_next(work, experiments.evaluate_step(2), "--experiment", target.name)


if __name__ == "__main__":
    cli.exit_cleanly(main)
