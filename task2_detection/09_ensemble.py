"""Fuse the boxes of several detectors, fold by fold (weighted box fusion): boxes that overlap by more than IoU 0.55 become one.

The corners of a fused box are the mean of those that it is made of, weighted by their confidence; its confidence is the mean of
theirs times the share of the detectors that have it. No member of a fold has learned from its test patients. The result is an
experiment like any other, which tasks 2 and 3 can build on, and whose boxes 07_link_slices.py can link through the slices. Its
members may differ in network, size, augmentation, seed ...; not in folds, protocol or classes.

Reads   outputs/NAME/task2/MEMBER/foldK/{model.json,predictions.csv,train_predictions.csv}     task2_detection/02_train.py
        data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task2/EXPERIMENT/foldK/    model.json (names the members), predictions.csv, train_predictions.csv
Next    python task2_detection/04_evaluate.py --experiment EXPERIMENT

    python task2_detection/09_ensemble.py yolov8s yolov8n --experiment both
"""

from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, runs
from hemoct.base.workspace import Workspace
from hemoct.classification import ensemble_step
from hemoct.classification.ensemble_step import Ensemble

TABLES = ("labels.csv", "boxes.csv", "dataset.json", "splits.csv")
ALIKE = ("protocol", "split", "splits_sha256", "classes")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("members", nargs="+", metavar="MEMBER", help="experiments of task 2, two or more")
    parser.add_argument("--experiment", required=True, help="name of the folder of the result in outputs/NAME/task2")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other members")
    args = cli.parse(parser, argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import tables
    from hemoct.classification import ensemble
    from hemoct.detection import data as detection_data, predictions

    work = Workspace.of(args)
    by_fold = ensemble.folds(work, 2, args.members, ALIKE)
    inputs = [folder / name for folders in by_fold.values() for folder in folders for name in predictions.NEEDED]
    inputs += [work.work / name for name in TABLES]

    def prepare() -> ensemble_step.Write:
        data = detection_data.load(work)
        step = runs.step_name(__file__)
        fused = {fold: predictions.fused(folders, data, step) for fold, folders in by_fold.items()}

        def write(folder: Path, _: list[Path]) -> list[Path]:
            boxes, spec = fused[folder.name]
            return [spec.save(folder), *tables.write_parts(folder, boxes)]

        return write

    ensemble_step.make(__file__, args, Ensemble(2, args.experiment, by_fold), inputs, prepare)


if __name__ == "__main__":
    cli.exit_cleanly(main)
