"""Estimate the bleeding itself, for which no label exists: its bright core in each predicted box, and ABC/2 of the boxes.

An unvalidated estimate (segmentation.hematoma says how): there is nothing to compare it with but itself. Boxes are those that the
detector of a fold predicted on its test slices, from its validation threshold up. Beside it stands the edema that a
segmentation experiment predicted on the same slices.

Reads   outputs/NAME/task2/BOXES/{metrics.json,foldK/}          task2_detection/04_evaluate.py (or outputs/reference)
        outputs/NAME/task3/EXPERIMENT/{slice_pixels.csv,per_patient.csv,foldK/probability/}   task3_segmentation/03_evaluate.py
        data/work/NAME/{labels,splits}.csv, dataset.json        scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task3/EXPERIMENT/hematoma/                 hematoma_lesions.csv, hematoma_patients.csv, core_and_abc2.png,
                                                                core_and_edema.png
Next    python scripts/90_make_report.py
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

TABLES = ("labels.csv", "images.csv", "splits.csv", "dataset.json")
SHOWN = 8  # patients in the figure


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", required=True, help="of task 3: whose edema stands beside the core")
    parser.add_argument("--boxes", required=True, metavar="EXPERIMENT", help="of task 2: in whose boxes the core is looked for")
    args = cli.parse(parser, argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure as base_figure, tables
    from hemoct.detection import predictions
    from hemoct.segmentation import data as segmentation_data, figures, hematoma

    work = Workspace.of(args)
    experiment = work.task(3) / args.experiment
    if not tables.read_dataset(work).knows_patients:
        print(f"no patient of {work.dataset} is known, so nothing is added up (scripts/03_make_labels.py --patient-regex)")
        return
    edema = [
        work.need(experiment / name, "task3_segmentation/03_evaluate.py") for name in ("per_patient.csv", "slice_pixels.csv")
    ]
    patients = tables.read_csv(edema[0], ["patient", "fold", "true_volume", "predicted_volume", "unit"])
    folders, protocol = predictions.folders(work, args.boxes, "all")
    of_edema = files.read_json(experiment / "metrics.json")["protocol"]
    if protocol != of_edema:
        raise UserError(
            f"--boxes {args.boxes} has the protocol {protocol}, {args.experiment} {of_edema}: they test other slices; "
            "name boxes of the same protocol"
        )
    inputs = [*edema, folders[0].parent / "metrics.json", *(folder / "predictions.csv" for folder in folders)]
    folder = experiment / "hematoma"
    run = Run(__file__, args, folder, [*inputs, *(work.work / name for name in TABLES)])
    if run.up_to_date():
        return
    data = segmentation_data.load(work)
    boxes = hematoma.predicted_boxes(work, args.boxes, data, sorted(patients["fold"].unique()))
    with run:
        rows = data.table["patient"].isin(patients["patient"])
        slices = data.table[rows].reset_index(drop=True)
        lesions = hematoma.table(slices, [work.raw / name for name in slices["image"]], boxes)
        of_patients = hematoma.by_patient(lesions, patients)
        heading = f"{args.experiment} on {work.dataset}, boxes of {args.boxes}, {len(of_patients)} patients"
        cases = list(hematoma.cases(work, experiment, data, boxes, SHOWN))
        drawn = {
            "core_and_abc2": figures.core_and_abc2(lesions, heading),
            "core_and_edema": figures.core_and_edema(cases, heading),
        }
        run.wrote(
            tables.write_csv(folder / "hematoma_lesions.csv", lesions),
            tables.write_csv(folder / "hematoma_patients.csv", of_patients),
            *base_figure.save_all(drawn, folder),
        )
    ratio = (lesions["abc2_volume"] / lesions["core_volume"]).median()
    print(f"{work.show(folder)}: {len(lesions)} lesions of {lesions['patient'].nunique()} patients, {hematoma.NOTE}s")
    print(
        f"  {lesions['core_volume'].isna().sum()} without a core; ABC/2 of the boxes is {ratio:.2f} times the core in the median"
    )
    cli.say_next(work, "scripts/90_make_report.py")


if __name__ == "__main__":
    cli.exit_cleanly(main)
