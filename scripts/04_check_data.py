"""Check a data set and show what it looks like: lists every problem, names the fatal ones and draws the first figures.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding; the boxes enclose bleeding and edema.
If a problem is fatal, the step ends with exit code 2; the files are written nevertheless.

Reads   data/raw/NAME                                           scripts/01_get_data.py
        data/work/NAME/{labels,boxes,patients}.csv, dataset.json   scripts/03_make_labels.py
        data/work/NAME/repairs.csv, if it is there              scripts/02_merge_annotations.py
Writes  data/work/NAME/audit.json    counts, severity and examples of each check; statistics; the ceiling of masks
        data/work/NAME/audit.csv     image_id, patient, check, fatal, detail: one row per problem
        data/work/NAME/figures/      class_balance slices_per_patient patients lesion_size lesion_position image_size,
                                     contact_sheet_CLASS, mean_variance
Next    python scripts/05_make_splits.py
"""

from pathlib import Path
from typing import Any

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, figure as base_figure, files, tables
from hemoct.base.errors import UserError, few
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import audit, audit_checks, audit_data, audit_figures
from hemoct.data.audit_data import AuditTables, Measurements

INPUTS = ("labels.csv", "boxes.csv", "dataset.json", "patients.csv", "repairs.csv")
FIGURES = {
    "class_balance": audit_figures.class_balance,
    "slices_per_patient": audit_figures.slices_per_patient,
    "patients": audit_figures.patients,
    "lesion_size": audit_figures.lesion_size,
    "lesion_position": audit_figures.lesion_position,
    "image_size": audit_figures.image_size,
}


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(cli.parser(__doc__), argv, __file__)
    work = Workspace.of(args)
    raw = work.need(work.raw, "scripts/01_get_data.py")
    data = audit_data.read_tables(work)

    run = Run(__file__, args, work.work, [raw, *(work.work / name for name in INPUTS)])
    if run.up_to_date():
        return
    with run:
        measured = audit_data.measure(data)
        problems = audit_checks.check(data, measured)
        summary = audit.summarise(data, measured, problems)
        run.wrote(files.write_json(work.work / "audit.json", summary))
        run.wrote(tables.write_csv(work.work / "audit.csv", problems))
        run.wrote(*draw(data, measured, args.seed))
        report(summary)
        if summary["fatal"]:  # inside the run, so that its record never says ok
            raise UserError(
                f"{work.show(work.work / 'audit.csv')} lists {summary['fatal']} fatal problem(s); "
                "correct the source data and run scripts/03_make_labels.py and this step again"
            )
    print(f"Next: {work.command('scripts/05_make_splits.py')}")


def draw(data: AuditTables, measured: Measurements, seed: int) -> list[Path]:
    """Draw the figures that have content; return their files."""
    drawings = {name: lambda figure=figure: figure(data, measured) for name, figure in FIGURES.items()}
    drawings |= audit_figures.label_figures(data, measured, seed)
    folder = data.work.work / "figures"
    paths = []
    for name, drawing in drawings.items():
        figure = drawing()
        if figure is not None:
            paths.append(base_figure.save(figure, folder / f"{name}.png"))
    return paths


def report(summary: dict[str, Any]) -> None:
    """Print the size of the data set, one line per check that found something, and the ceiling of masks."""
    patients = "no patient identifiers" if summary["patients"] is None else f"{summary['patients']} patients"
    positives = [f"{n} {label}" for label, n in summary["positives"].items()]
    print(f"{summary['dataset']}: {summary['images']} images, {patients}; {few(positives)}")
    for name, check in summary["checks"].items():
        if check["count"]:
            severity = "FATAL" if check["fatal"] else "     "
            print(f"{check['count']:6d} {severity} {name}: {check['explanation']}; first: {check['examples'][0]}")
    print(f"   no problem in: {', '.join(name for name, check in summary['checks'].items() if not check['count'])}")
    ceiling = summary["ceiling"]
    if ceiling["value"] is not None:
        print(
            f"ceiling: {ceiling['value']:.1%} = {ceiling['explanation']} ({ceiling['without_mask_file']} without mask left out)"
        )
    if summary["labels_mean"]:
        print(f"labels: {summary['labels_mean']}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
