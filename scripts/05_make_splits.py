"""Assign every patient to one of five folds, once and for all.

The folds are a StratifiedGroupKFold by patient, stratified by the label. When the step runs again with more patients, every
old assignment stays and new patients go to the smallest folds.

Reads   data/work/NAME/{labels.csv,dataset.json}    scripts/03_make_labels.py
        data/work/NAME/splits.csv, if it is there
Writes  data/work/NAME/splits.csv                   image_id, patient, fold, slice_fold
Next    python task1_classification/01_train.py
        python task2_detection/01_make_yolo_dataset.py      where there are boxes
        python task3_segmentation/01_make_seg_dataset.py    where there are masks
        python task4_multilabel/01_prepare_labels.py        where one image may have several labels
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from hemoct.base.tables import Dataset

LABELS_SHOWN = 8


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(cli.parser(__doc__), argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import tables
    from hemoct.data import splits

    work = Workspace.of(args)
    run = Run(__file__, args, work.work, [work.work / "labels.csv", work.work / "dataset.json"])
    if run.up_to_date():
        return
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    with run:
        if (work.work / "splits.csv").exists():
            frame = splits.extend(tables.read_splits(work), labels)
        else:
            frame = splits.make(labels, dataset.labels, args.seed)
        run.wrote(tables.write_splits(work, frame))
    report(frame, labels, dataset.labels)
    for step in next_steps(dataset):
        print(f"Next: {work.command(step)}")


def report(frame: pd.DataFrame, labels: pd.DataFrame, names: list[str]) -> None:
    """Print images, patients and positives of each fold; of many labels the first few."""
    import pandas as pd

    shown = names[:LABELS_SHOWN]
    folds = frame.merge(labels[["image_id", *shown]], on="image_id").groupby("fold")
    sizes = folds.agg(images=("image_id", "size"), patients=("patient", "nunique"))
    print(pd.concat([sizes, folds[shown].sum()], axis=1).to_string())
    if len(names) > len(shown):
        print(f"and {len(names) - len(shown)} more labels")


def next_steps(dataset: Dataset) -> list[str]:
    """The first step of every task for which the data set has what is needed."""
    needs = {
        "task1_classification/01_train.py": True,
        "task2_detection/01_make_yolo_dataset.py": dataset.counts.get("boxes"),
        "task3_segmentation/01_make_seg_dataset.py": dataset.counts.get("masks"),
        "task4_multilabel/01_prepare_labels.py": len(dataset.labels) > 1 and not dataset.exclusive,
    }
    return [step for step, met in needs.items() if met]


if __name__ == "__main__":
    cli.exit_cleanly(main)
