"""Check a data set and show what it looks like: lists every problem, names the fatal ones and draws the first figures.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding; the boxes enclose bleeding and edema.
If a problem is fatal, the step ends with exit code 2; the files are written nevertheless.

Reads   data/raw/NAME                                           scripts/01_get_data.py
        data/work/NAME/{labels,boxes,patients}.csv, dataset.json   scripts/03_make_labels.py
        data/work/NAME/repairs.csv, if it is there              scripts/02_merge_annotations.py
Writes  data/work/NAME/audit.json    counts, severity and examples of each check; statistics; the ceiling of masks
        data/work/NAME/audit.csv     image_id, patient, check, fatal, detail: one row per problem
        data/work/NAME/figures/      class_balance slices_per_patient patients lesion_size lesion_position image_size mask_drift,
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
    from hemoct.audit.reading import Audited

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
    from hemoct.audit import checks, figures, reading, summary
    from hemoct.base import figure as base_figure, tables

    work = Workspace.of(args)
    raw = work.need(work.raw, "scripts/01_get_data.py")
    inputs = [work.need(work.work / name, "scripts/03_make_labels.py") for name in NEEDED]

    run = Run(__file__, args, work.work, [raw, *inputs, work.work / "patients.csv", work.work / "repairs.csv"])
    if run.up_to_date():
        return
    with run:
        data = reading.read(work, args.mask_value, args.sample, args.seed)
        problems = checks.check(data)
        content = summary.summarise(data, problems)
        run.wrote(files.write_json(work.work / "audit.json", content))
        run.wrote(tables.write_csv(work.work / "audit.csv", problems))
        for name, draw in figures.figures(data, args.seed).items():
            if (figure := draw()) is not None:
                run.wrote(base_figure.save(figure, work.work / "figures" / f"{name}.png"))
        if args.prepare:
            run.wrote(*show_prepared(work, data, args))
        report(content)
        if content["fatal"]:  # inside the run, so that its record never says ok
            raise UserError(
                f"{work.show(work.work / 'audit.csv')} lists {content['fatal']} fatal problem(s); "
                f"correct the source data and run {'scripts/02_merge_annotations.py, ' if data.merged else ''}"
                "scripts/03_make_labels.py and this step again"
            )
    print(f"Next: {work.command('scripts/05_make_splits.py')}")


def show_prepared(work: Workspace, data: Audited, args: argparse.Namespace) -> list[Path]:
    """Write what --prepare does to the images that were read, and print it."""
    from hemoct.audit import prepared_images
    from hemoct.base import figure as base_figure, tables
    from hemoct.data import prepared

    made = prepared.for_training(work, args.prepare)
    rows = data.images[data.images["image_state"] == ""]
    if rows.empty:
        return []
    table = prepared_images.measure(work, rows, data.boxes, made)
    print(prepared_images.summary(table, made))
    drawn = prepared_images.figure(work, rows, data.boxes, made, args.seed)
    return [tables.write_csv(work.work / "prepared.csv", table), base_figure.save(drawn, work.work / "figures" / "prepared.png")]


def report(content: dict[str, Any]) -> None:
    """Print the size of the data set, one line per check that found something, and the ceiling of masks."""
    patients = "no patient identifiers" if content["patients"] is None else f"{content['patients']} patients"
    positives = [f"{n} {label}" for label, n in content["positives"].items()]
    print(f"{content['dataset']}: {content['images']} images, {patients}; {few(positives)}")
    sample = content.get("sample", {"checks": ()})
    if sample["checks"]:
        print(f"SAMPLE: the pixels of {sample['images']} of {sample['of']} images were read; checks with a * know these alone")
    names = {name: f"{name}*" if name in sample["checks"] else name for name in content["checks"]}
    for name, check in content["checks"].items():
        if check["count"]:
            severity = "FATAL" if check["fatal"] else "     "
            print(f"{check['count']:6d} {severity} {names[name]}: {check['explanation']}; first: {check['examples'][0]}")
    print(f"   no problem in: {', '.join(names[name] for name, check in content['checks'].items() if not check['count'])}")
    ceiling = content["ceiling"]
    if ceiling["value"] is not None:
        print(
            f"ceiling: {ceiling['value']:.1%} = {ceiling['explanation']} ({ceiling['without_mask_file']} without mask left out)"
        )
    if content["labels_mean"]:
        print(f"labels: {content['labels_mean']}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
