"""Write the tables that all later steps read, from any layout of data.

phe-sich   PHE-SICH-CT-IDS: a slice is positive when its annotation has a box (bleeding and edema); masks are edema alone;
           --labels side adds side_left and side_right from MedInfo.xlsx, unknown where it does not tell one side
voc        a folder of VOC XML (LabelImg): one label per object name
folders    one folder per class, train/val/test above them kept as given_split
csv        a table with one row per image and any label columns; empty or -1 = unknown; separated by comma, semicolon or tab
rsna       RSNA 2019: stage_2_train.csv (ID_xxx_TYPE,Label) and its images: five types and any
yolo       images/ and labels/*.txt with data.yaml: one label per class

The patient is found by a rule (--patient-regex), in a column (--patient-column), or each image is its own patient.

Reads   data/raw/NAME                           scripts/01_get_data.py
        data/work/NAME/merged_annotation/       scripts/02_merge_annotations.py (phe-sich, voc)
Writes  data/work/NAME/{labels,boxes}.csv       image_id, patient, slice, image, mask, annotation, labels ...; boxes in pixels
        data/work/NAME/dataset.json             layout, labels, classes, counts
        data/work/NAME/patients.csv             what is known per patient, if anything is
        data/work/NAME/label_problems.csv       rows without a file, files without a row, repeated rows ..., if there are any
Next    python scripts/04_check_data.py
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pandas as pd

from hemoct.base import cli, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.ingest import layouts, readers
from hemoct.ingest.reader_tables import NO_PATIENTS, Options, Tables


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    work = Workspace.of(args)
    raw = work.need(work.raw, "scripts/01_get_data.py")
    listing = layouts.list_files(raw)

    named = [raw / args.csv] if args.csv else []  # it may lie outside data/raw/NAME
    run = Run(__file__, args, work.work, [raw, work.work / "merged_annotation", *named])
    if run.up_to_date():
        return
    if args.skip_if_done:  # called by run_all.sh: a rule for patients that a person gave before must not get lost
        run.stop_if_other("repeat them: bash scripts/run_all.sh ... -- FLAGS; to change them run this step by itself")
    with run:
        layout = layouts.choose(raw, listing, args.layout)
        made = readers.READERS[layout].read(work, listing, options_for(layout, args))
        run.wrote(tables.write_labels(work, made.labels, made.dataset))
        run.wrote(tables.write_boxes(work, made.boxes))
        patients = tables.write_patients(work, made.patients)
        if patients:
            run.wrote(patients)
        problems = write_problems(work, made.problems)
        if problems:
            run.wrote(problems)
        run.wrote(tables.write_dataset(work, made.dataset))
    report(made)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--layout", choices=("auto", *layouts.NAMES), default="auto", help="auto recognises it")
    parser.add_argument("--image-set", choices=("png", "jpg"), help="phe-sich: which set; default: png where it is there")
    parser.add_argument("--patient-regex", metavar="RULE", help="searched in the file's stem, first group = patient: '^(\\d+)_'")
    table = parser.add_argument_group("layouts csv and rsna")
    table.add_argument("--csv", metavar="FILE", help="the table, in data/raw/NAME or elsewhere; default: the only one there")
    table.add_argument("--image-column", metavar="COLUMN", help="default: " + ", ".join(layouts.CSV_IMAGE_COLUMNS))
    table.add_argument("--patient-column", metavar="COLUMN", help="default: patient, where there is such a column")
    table.add_argument(
        "--labels", type=cli.names, metavar="A,B", help="label columns (csv, rsna), class names by id (yolo), side (phe-sich)"
    )
    table.add_argument("--exclusive", action="store_true", help="the labels are one-hot classes: softmax")
    table.add_argument("--skip-missing", action="store_true", help="leave out rows whose image is not there")
    return cli.parse(parser, argv, __file__)


def options_for(layout: str, args: argparse.Namespace) -> Options:
    """The flags as Options; a flag that this layout has no use for is a mistake, not to be passed over."""
    options = Options(**{each.name: getattr(args, each.name) for each in fields(Options)})
    takes = readers.READERS[layout].takes
    for each in fields(Options):
        if getattr(options, each.name) != each.default and each.name not in takes:
            flag = each.name.replace("_", "-")
            raise UserError(f"--{flag} means nothing for layout {layout}; leave it out, or choose another --layout")
    return options


def write_problems(work: Workspace, problems: pd.DataFrame | None) -> Path | None:
    """Write label_problems.csv and count its rows by kind; without any, take away the table of an earlier run."""
    path = work.work / "label_problems.csv"
    if problems is None or problems.empty:
        path.unlink(missing_ok=True)
        return None
    counts = problems["problem"].value_counts(sort=False)
    print(f"{work.show(path)}: {', '.join(f'{count} {problem}' for problem, count in counts.items())}")
    return tables.write_csv(path, problems)


def report(made: Tables) -> None:
    """Print what the tables hold, and what a person must know before trusting them."""
    print(", ".join(f"{count} {name}" for name, count in made.dataset.counts.items()))
    print(f"patients from {made.dataset.patient_source}")
    if made.dataset.patient_source == NO_PATIENTS:
        print("  two images of one person may fall into two folds; --patient-regex or --patient-column prevents that")
    if made.dataset.counts["unknown"]:
        print(
            f"  {made.dataset.counts['unknown']} images have an unknown label; an image counts as negative only when it says so"
        )


if __name__ == "__main__":
    cli.exit_cleanly(main)
