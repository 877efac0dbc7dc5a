"""Make labels of studies: one row a study, or a part of one, for networks that learn what is known of the whole alone.

The side of the bleeding follows from the boxes: left or right of the head's midline; studies with boxes on both sides have none.
Any label of slices holds for a study when it does for one of its slices. Parts (--parts 2: halves) are studies of their own here.

Reads   data/work/NAME/{labels,boxes,patients}.csv, dataset.json    scripts/03_make_labels.py
        a table of yours (--table FILE --label COLUMN: patient, perhaps group, COLUMN)
Writes  data/work/NAME/studies/LABEL/study_labels.csv    study, patient, image_id (its middle slice), first, last, classes
Next    python task1_classification/11_train_volume.py --label LABEL

    python task1_classification/10_study_labels.py --label side
    python task1_classification/10_study_labels.py --label hemorrhage --parts 2
"""

from __future__ import annotations

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, options as base_options
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.volumes.study_options import TABLE, StudyLabels

TABLES = ("labels.csv", "boxes.csv", "images.csv", "dataset.json", "patients.csv")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    base_options.add(parser, StudyLabels, "label")
    args = cli.parse(parser, argv, __file__)
    chosen, work = base_options.read(args, StudyLabels), Workspace.of(args)
    work.need(work.work / "labels.csv", "scripts/03_make_labels.py")
    inputs = [*(work.work / name for name in TABLES), *([chosen.table] if chosen.table else [])]
    run = Run(__file__, args, work.work / "studies" / chosen.folder, inputs)
    if not run.up_to_date():
        from hemoct.base import tables  # what computes is not imported at the top: --help shall be quick
        from hemoct.volumes import studies

        with run:
            made = studies.make(work, chosen)
            run.wrote(tables.write_csv(run.folder / TABLE, made))
        classes = [name for name in made if name.startswith(studies.PREFIX)]
        counts = ", ".join(f"{name} {made[name].sum()}" for name in classes)
        print(f"{work.show(run.folder / TABLE)}: {len(made)} studies or parts of {made['patient'].nunique()} patients; {counts}")
    cli.say_next(work, "task1_classification/11_train_volume.py", "--label", chosen.folder)


if __name__ == "__main__":
    cli.exit_cleanly(main)
