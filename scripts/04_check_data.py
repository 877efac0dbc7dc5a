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
        with --prepare: prepared.csv (what is cut and changed, a row an image) and figures/prepared.png (before and after)
Next    python scripts/05_make_splits.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files
from hemoct.base.errors import UserError, few
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.prepare import options as preparation

if TYPE_CHECKING:
    from hemoct.data.audit_data import Audited

NEEDED = ("labels.csv", "boxes.csv", "dataset.json")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--mask-value", type=cli.whole_number, metavar="V",
                        help="value of the lesion in masks of several values, as in task 3")  # fmt: skip
    parser.add_argument("--sample", type=cli.positive_int, metavar="N",
                        help="read the pixels of so many images alone, drawn by --seed; default: of all")  # fmt: skip
    parser.add_argument("--prepare", type=preparation.names, default=[], metavar="A,B",
                        help=f"also show what a training with --prepare does: {', '.join(preparation.NAMES)}")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure as base_figure, tables
    from hemoct.data import audit, audit_checks, audit_data, audit_figures

    work = Workspace.of(args)
    raw = work.need(work.raw, "scripts/01_get_data.py")
    inputs = [work.need(work.work / name, "scripts/03_make_labels.py") for name in NEEDED]

    run = Run(__file__, args, work.work, [raw, *inputs, work.work / "patients.csv", work.work / "repairs.csv"])
    if run.up_to_date():
        return
    with run:
        data = audit_data.read(work, args.mask_value, args.sample, args.seed)
        problems = audit_checks.check(data)
        summary = audit.summarise(data, problems)
        run.wrote(files.write_json(work.work / "audit.json", summary))
        run.wrote(tables.write_csv(work.work / "audit.csv", problems))
        for name, draw in audit_figures.figures(data, args.seed).items():
            if (figure := draw()) is not None:
                run.wrote(base_figure.save(figure, work.work / "figures" / f"{name}.png"))
        if args.prepare:
            run.wrote(*show_prepared(work, data, args))
        report(summary)
        if summary["fatal"]:  # inside the run, so that its record never says ok
            raise UserError(
                f"{work.show(work.work / 'audit.csv')} lists {summary['fatal']} fatal problem(s); "
                f"correct the source data and run {'scripts/02_merge_annotations.py, ' if data.merged else ''}"
                "scripts/03_make_labels.py and this step again"
            )
    print(f"Next: {work.command('scripts/05_make_splits.py')}")


def show_prepared(work: Workspace, data: Audited, args: argparse.Namespace) -> list[Path]:
    """Write what --prepare does to the images that were read, and print it."""
    from hemoct.base import figure as base_figure, tables
    from hemoct.data import audit_prepared, prepared

    made = prepared.for_training(work, args.prepare)
    rows = data.images[data.images["image_state"] == ""]
    if rows.empty:
        return []
    table = audit_prepared.measure(work, rows, data.boxes, made)
    print(audit_prepared.summary(table, made))
    drawn = audit_prepared.figure(work, rows, data.boxes, made, args.seed)
    return [tables.write_csv(work.work / "prepared.csv", table), base_figure.save(drawn, work.work / "figures" / "prepared.png")]


def report(summary: dict[str, Any]) -> None:
    """Print the size of the data set, one line per check that found something, and the ceiling of masks."""
    patients = "no patient identifiers" if summary["patients"] is None else f"{summary['patients']} patients"
    positives = [f"{n} {label}" for label, n in summary["positives"].items()]
    print(f"{summary['dataset']}: {summary['images']} images, {patients}; {few(positives)}")
    sample = summary.get("sample", {"checks": ()})
    if sample["checks"]:
        print(f"SAMPLE: the pixels of {sample['images']} of {sample['of']} images were read; checks with a * know these alone")
    names = {name: f"{name}*" if name in sample["checks"] else name for name in summary["checks"]}
    for name, check in summary["checks"].items():
        if check["count"]:
            severity = "FATAL" if check["fatal"] else "     "
            print(f"{check['count']:6d} {severity} {names[name]}: {check['explanation']}; first: {check['examples'][0]}")
    print(f"   no problem in: {', '.join(names[name] for name, check in summary['checks'].items() if not check['count'])}")
    ceiling = summary["ceiling"]
    if ceiling["value"] is not None:
        print(
            f"ceiling: {ceiling['value']:.1%} = {ceiling['explanation']} ({ceiling['without_mask_file']} without mask left out)"
        )
    if summary["labels_mean"]:
        print(f"labels: {summary['labels_mean']}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
